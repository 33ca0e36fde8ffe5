//! Printing: progress to standard error, answers to standard output, errors with their codes.

use std::{
    io::{self, ErrorKind, IsTerminal, Write},
    process::ExitCode,
};

use otf_artifact::diagnostic::{Code, Diagnostic};
use serde_json::{Value, json};

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
            Format::Json => eprintln!("{}", json(d)),
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

/// One line of JSON; `code` as people and other programs know it, `OTF0123`.
fn json(d: &Diagnostic) -> Value {
    json!({
        "code": d.code.to_string(),
        "title": d.code.title(),
        "severity": d.severity,
        "message": d.message,
        "file": d.file,
        "line": d.line,
        "column": d.column,
        "help": d.help,
    })
}

/// A line of the answer. A reader that has seen enough is no error.
pub fn line(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Diagnostic::error(
            Code::Environment,
            format!("the answer cannot be written: {e}"),
        )
        .into()),
        _ => Ok(()),
    }
}
