//! The offline command: from a kernel profile to a signed bundle, and the questions one asks on the way.

mod bench;
mod benign;
mod budgets;
mod cli;
mod cost;
mod diff;
mod evaluate;
mod exact;
mod explain;
mod facts;
mod files;
mod inspect;
mod judge;
mod keys;
mod pipeline;
mod render;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    cli::{Cli, Command},
    render::Failure,
};

/// The whole-program step takes a sixth less CPU time than with the C library's allocator
/// (docs/decisions/0001); it replaces `malloc` for LLVM too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Milliseconds that freed memory is kept for the next file: giving it back and getting it anew costs
/// more than LLVM's own use of it.
const PURGE_DELAY: i64 = 1000;

fn keep_memory() {
    /// `mi_option_purge_delay`, which the bindings do not name.
    const OPTION: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets a number in a table of the allocator, before any thread is started.
    unsafe { libmimalloc_sys::mi_option_set(OPTION, PURGE_DELAY) }
}

fn main() -> ExitCode {
    keep_memory();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no errors; clap knows where each of them is printed.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    render::start_log(cli.quiet);
    let result = match cli.command {
        Command::Analyze(a) => pipeline::analyze(&a),
        Command::Facts(a) => facts::command(&a),
        Command::Resolve(a) => pipeline::resolve(&a.dir),
        Command::Compile(a) => pipeline::compile(&a),
        Command::Judge(a) => match judge::judge(&a, cli.format) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::from(1),
            Err(failure) => Err(failure),
        },
        Command::EvalReport(a) => evaluate::report(&a),
        Command::BenignReport(a) => match benign::report(&a) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::from(1),
            Err(failure) => Err(failure),
        },
        Command::Inspect(a) => inspect::inspect(&a, cli.format),
        Command::Cost(a) => cost::cost(&a, cli.format),
        Command::Explain(a) => explain::explain(&a),
        Command::Diff(a) => match diff::diff(&a, cli.format) {
            Ok(false) => Ok(()),
            Ok(true) => return ExitCode::from(1),
            Err(failure) => Err(failure),
        },
        Command::Bench(a) => bench::bench(&a),
        Command::BenchPhase(a) => bench::phase(&a),
        Command::Key(a) => keys::new(&a),
        Command::Schema(a) => files::schemas(&a.dir),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(diagnostics)) => render::failed(&diagnostics, cli.format),
    }
}
