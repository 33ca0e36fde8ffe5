//! otf-load: verify, load, watch and unload bundles. One-shot: the pins in bpffs are the state.

mod ability;
mod alarm;
mod attach;
mod bind;
mod blob;
mod carry;
mod cli;
mod commands;
mod control;
mod event;
mod events;
mod guard;
mod guard_frees;
mod guard_heap;
mod guard_probes;
mod host;
mod load;
mod meta;
mod object;
mod pins;
mod pod;
mod profile;
mod record;
mod render;
mod status;
mod sys;
#[cfg(test)]
mod testing;
mod time;
mod unload;
mod verify;

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::Parser;
use otf_artifact::diagnostic::{Code, Diagnostic};

use commands::{End, Failure};

/// Refused, or impossible here.
const REFUSED: u8 = 2;
/// The convention for SIGINT.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        // clap writes help to the standard output and complaints to the standard error
        Err(e) => e.exit(),
    };
    sys::catch_interrupts();
    match commands::run(&cli) {
        Ok(End::Fine) => ExitCode::SUCCESS,
        Ok(End::Findings) => ExitCode::from(1),
        // A reader that has seen enough is no error.
        Err(Failure::Output(e)) if e.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Output(e)) => {
            let message = format!("the result cannot be written: {e}");
            render::report(&[Diagnostic::error(Code::Environment, message)], cli.format);
            ExitCode::from(REFUSED)
        }
        Err(Failure::Refused(diagnostics)) => {
            render::report(&diagnostics, cli.format);
            ExitCode::from(if sys::interrupted() {
                INTERRUPTED
            } else {
                REFUSED
            })
        }
    }
}
