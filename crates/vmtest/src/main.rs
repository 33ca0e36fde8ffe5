//! `otf-vmtest`: the test machine as a command.
#![expect(clippy::print_stdout, reason = "the command's output is its purpose")]

mod flows;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use flows::{checks::Checks, target::Setting};
use otf_artifact::diagnostic::Diagnostic;
use otf_vmtest::{
    guest::Guest,
    log::Source,
    modules::ModuleTree,
    vm::{Accel, Outcome, Verdict, Vm},
};

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
    Demo(Setting),
    /// Show what each action does about each kind of illegal write.
    Kinds(Setting),
    /// Everything that `make test` runs in a machine.
    Test(Setting),
    /// Run one shell script in a machine and print what it says.
    Shell(Shell),
}

#[derive(Args)]
struct Shell {
    /// The script; it finds `/otf/lib.sh`, and modules in `/otf/modules`.
    script: PathBuf,
    /// Its arguments.
    arguments: Vec<String>,
    /// Boot image.
    #[arg(long)]
    kernel: PathBuf,
    /// `lib/modules/RELEASE` of that kernel.
    #[arg(long)]
    modules_from: Option<PathBuf>,
    /// Modules that the script loads with `load_modules`, what they depend on included.
    #[arg(long = "module")]
    modules: Vec<String>,
    /// Further `.ko` files, which go before modules of the same name.
    #[arg(long = "ko")]
    files: Vec<PathBuf>,
    /// Files or folders of the host to have in `/otf`.
    #[arg(long = "with")]
    with: Vec<PathBuf>,
    /// CPUs.
    #[arg(long, default_value_t = 1)]
    smp: u32,
    /// MiB of memory.
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    /// Seconds after which the machine is stopped.
    #[arg(long, default_value_t = 120)]
    time_limit: u64,
    /// Guest time counts instructions, 2^SHIFT ns each.
    #[arg(long, value_name = "SHIFT")]
    icount: Option<u8>,
    /// Words for the kernel's command line.
    #[arg(long, default_value = "")]
    append: String,
    /// Print the kernel's messages too.
    #[arg(long)]
    all: bool,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    let result = match Cli::parse().command {
        Command::Shell(options) => shell(&options),
        Command::Demo(setting) => flow(|checks| {
            flows::demo::run(&setting, checks)?;
            Ok(None)
        }),
        Command::Kinds(setting) => flow(|checks| flows::kinds::run(&setting, checks).map(Some)),
        Command::Test(setting) => flow(|checks| {
            flows::smoke::run(&setting, checks)?;
            flows::refuse::run(&setting, checks)?;
            flows::stock::run(&setting, checks)?;
            let table = flows::kinds::run(&setting, checks)?;
            flows::demo::run(&setting, checks)?;
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

fn shell(options: &Shell) -> Result<bool, Diagnostic> {
    let mut tree = match &options.modules_from {
        Some(folder) => ModuleTree::open(folder)?,
        None => ModuleTree::default(),
    };
    let mut later = Vec::new();
    for file in &options.files {
        later.push(tree.replace(file)?);
    }
    let mut guest = Guest::new()?;
    guest.network_tools()?;
    let names: Vec<&str> = options.modules.iter().map(String::as_str).collect();
    let later: Vec<&str> = later.iter().map(String::as_str).collect();
    guest.modules(&tree.modules(&names)?, &tree.modules(&later)?);
    for path in &options.with {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            guest.copy_folder(path, &format!("/otf/{name}"))?;
        } else {
            guest.copy(path, &format!("/otf/{name}"))?;
        }
    }
    guest.copy(&options.script, "/otf/script")?;
    let mut command = vec!["/bin/sh", "/otf/script"];
    command.extend(options.arguments.iter().map(String::as_str));
    guest.step("script", &command)?;

    let mut vm = Vm::new(&options.kernel, guest.build());
    vm.smp = options.smp;
    vm.memory = options.memory;
    vm.time_limit = Duration::from_secs(options.time_limit);
    vm.append.clone_from(&options.append);
    if let Some(shift) = options.icount {
        vm.accel = Accel::Icount { shift };
    }
    let outcome = vm.run()?;
    print(&outcome, options.all);
    Ok(outcome.verdict == Verdict::Passed)
}

fn print(outcome: &Outcome, all: bool) {
    if all {
        print!("{}", outcome.log.render());
    } else {
        for line in outcome.log.of(Source::Test) {
            println!("{line}");
        }
    }
    for (trouble, line) in &outcome.troubles {
        println!("{trouble:?}: {line}");
    }
    println!(
        "{:?} after {:.1} s",
        outcome.verdict,
        outcome.elapsed.as_secs_f32()
    );
}
