//! Runs other programs: their output is kept for the message, never shown as it comes.

use std::{
    io,
    process::{Command, Output},
};

use otf_artifact::diagnostic::{Code, Diagnostic};

/// Lines of a failed program's output that a message carries.
const KEPT_LINES: usize = 20;

/// Runs to the end; a program that is not there is [`Code::Environment`]. `package` provides it.
pub fn output(command: &mut Command, package: &str) -> Result<Output, Diagnostic> {
    command
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| not_started(command, package, &error))
}

/// Runs to the end and requires success; a failure is `code` with the program's own last words.
pub fn run(
    command: &mut Command,
    package: &str,
    code: Code,
    what: &str,
) -> Result<Vec<u8>, Diagnostic> {
    let output = output(command, package)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Diagnostic::error(
        code,
        format!("{what}: {}\n{}", output.status, last_words(&output)),
    ))
}

/// The diagnostic for a program that could not be started.
pub fn not_started(command: &Command, package: &str, error: &io::Error) -> Diagnostic {
    let program = command.get_program().to_string_lossy().into_owned();
    Diagnostic::error(
        Code::Environment,
        format!("`{program}` cannot be started: {error}"),
    )
    .help(format!("install the package {package}"))
}

/// The end of what a program said, its errors last.
pub fn last_words(output: &Output) -> String {
    let mut said = output.stdout.clone();
    if said.last().is_some_and(|b| *b != b'\n') {
        said.push(b'\n');
    }
    said.extend_from_slice(&output.stderr);
    last_lines(&said)
}

/// The last lines of a text.
pub fn last_lines(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(KEPT_LINES)..].join("\n")
}
