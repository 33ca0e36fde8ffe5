//! `otf-vmtest`: the test machine as a command.
#![expect(clippy::print_stdout, reason = "the command's output is its purpose")]

mod flows;
mod shell;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use flows::{
    attacks::Attacks, bench::BenchRuntime, checks::Checks, demo::Demo, endurance::Endurance,
    record::Record, target::Setting,
};
use otf_artifact::diagnostic::Diagnostic;
use shell::{Run, Shell};

/// Boots a kernel in QEMU and runs tests in it.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the attack of CVE-2023-31436 without and with the bundle.
    Demo(Demo),
    /// Show that ordinary use of a compartment under deny is left alone.
    Stock(Setting),
    /// Show what each action does about each kind of illegal write.
    Kinds(Setting),
    /// Show that a private heap serves, keeps attackers out, and goes only when it is empty.
    Heap(Setting),
    /// Audit and kill on a kernel that is too old for the guard.
    Unguarded(Setting),
    /// Everything that `make test` runs in a machine.
    Test(Setting),
    /// Attack every bug that an overlay brings back, without a policy, under audit and under deny.
    Attacks(Attacks),
    /// Load, replace and unload a bundle again and again while the compartment works.
    Endurance(Endurance),
    /// Run ordinary use of a compartment under its recording bundle.
    Record(Record),
    /// Measure what operations cost without a policy, with it, and with a probe for every store.
    BenchRuntime(BenchRuntime),
    /// Run a shell script in a machine and print what it says.
    Shell(Shell),
    /// The same for an analyzed compartment, with its modules, oracles, scripts and bundle.
    Run(Run),
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    let result = match Cli::parse().command {
        Command::Shell(options) => shell::shell(&options),
        Command::Record(options) => flows::record::run(&options),
        Command::BenchRuntime(options) => flows::bench::run(&options),
        Command::Run(options) => shell::run(&options),
        Command::Attacks(options) => flow(|checks| flows::attacks::run(&options, checks).map(Some)),
        Command::Demo(options) => flow(|checks| {
            flows::demo::run(&options, checks)?;
            Ok(None)
        }),
        Command::Stock(setting) => flow(|checks| {
            flows::stock::run(&setting, checks)?;
            Ok(None)
        }),
        Command::Unguarded(setting) => flow(|checks| {
            flows::unguarded::run(&setting, checks)?;
            Ok(None)
        }),
        Command::Kinds(setting) => flow(|checks| flows::kinds::run(&setting, checks).map(Some)),
        Command::Heap(setting) => flow(|checks| {
            flows::heap::run(&setting, &[1, 2], checks)?;
            Ok(None)
        }),
        Command::Endurance(options) => flow(|checks| {
            flows::endurance::run(&options, checks)?;
            Ok(None)
        }),
        Command::Test(setting) => flow(|checks| {
            flows::smoke::run(&setting, checks)?;
            flows::refuse::run(&setting, checks)?;
            flows::stock::run(&setting, checks)?;
            flows::recorded::run(&setting, checks)?;
            flows::life::run(&setting, checks)?;
            flows::heap::run(&setting, &[2], checks)?;
            let table = flows::kinds::run(&setting, checks)?;
            flows::demo::all(&setting, checks)?;
            Ok(Some(table))
        }),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(diagnostic) => {
            eprintln!("{diagnostic}");
            ExitCode::from(2)
        }
    }
}

/// Runs a flow, which may return a table; prints its checks, and logs where one failed.
fn flow(
    run: impl FnOnce(&mut Checks) -> Result<Option<String>, Diagnostic>,
) -> Result<bool, Diagnostic> {
    let mut checks = Checks::default();
    let table = run(&mut checks)?;
    for log in &checks.logs {
        println!("--- {log}");
    }
    for check in &checks.list {
        println!("{check}");
    }
    if let Some(table) = table {
        println!("\n{table}");
    }
    let (all, failed) = (checks.list.len(), checks.failed());
    println!("{} of {all} checks passed", all - failed);
    Ok(failed == 0)
}
