//! Printing: progress to standard error, answers to standard output, errors with their codes.

use std::{io::IsTerminal, process::ExitCode};

use otf_artifact::diagnostic::{Code, Diagnostic};

use crate::cli::Format;

/// Why a command ended: at least one error.
#[derive(Debug)]
pub struct Failure(pub Vec<Diagnostic>);

impl From<Diagnostic> for Failure {
    fn from(d: Diagnostic) -> Self {
        Self(vec![d])
    }
}

impl From<Vec<Diagnostic>> for Failure {
    fn from(d: Vec<Diagnostic>) -> Self {
        Self(d)
    }
}

/// Progress of the stages as lines on standard error.
pub fn start_log(quiet: bool) {
    let level = if quiet {
        tracing::Level::WARN
    } else {
        tracing::Level::INFO
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
}

/// Prints the errors; 101 for a bug of ours, 2 for everything else.
#[expect(clippy::print_stderr, reason = "this is where errors are printed")]
pub fn failed(diagnostics: &[Diagnostic], format: Format) -> ExitCode {
    for d in diagnostics {
        match format {
            Format::Text => eprintln!("{d}"),
            Format::Json => eprintln!(
                "{}",
                serde_json::to_string(d).unwrap_or_else(|_| d.to_string())
            ),
        }
    }
    let bug = diagnostics.iter().any(|d| d.code == Code::InvariantBroken);
    ExitCode::from(if bug { 101 } else { 2 })
}

/// Warnings of a stage that went well.
pub fn warn(diagnostics: &[Diagnostic]) {
    for d in diagnostics {
        tracing::warn!("{d}");
    }
}

/// A line of the answer.
#[expect(clippy::print_stdout, reason = "this is where answers are printed")]
pub fn line(text: &str) {
    println!("{text}");
}
