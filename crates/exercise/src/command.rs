//! A program that repeats something itself: `ab -n {}`. What it does besides is taken off by running it with fewer.

use std::{
    io,
    process::{Command, Stdio},
};

use crate::measure::Operation;

/// A command whose arguments say how often.
pub struct Repeated {
    before: String,
    less: u64,
    program: String,
    arguments: Vec<String>,
}

impl Repeated {
    /// `before` is a line for the shell that runs before each measured run.
    pub fn new(before: &str, less: u64, program: &str, arguments: &[&str]) -> Self {
        Self {
            before: before.to_owned(),
            less,
            program: program.to_owned(),
            arguments: arguments.iter().copied().map(str::to_owned).collect(),
        }
    }
}

impl Operation for Repeated {
    fn run(&mut self, count: u64) -> io::Result<()> {
        let count = count.to_string();
        let mut command = Command::new(&self.program);
        command.args(self.arguments.iter().map(|a| a.replace("{}", &count)));
        finish(command)
    }

    fn less(&self) -> u64 {
        self.less
    }

    fn before(&mut self) -> io::Result<()> {
        if self.before.is_empty() {
            return Ok(());
        }
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &self.before]);
        finish(shell)
    }
}

/// Runs a command; its failure is told with what it said last.
fn finish(mut command: Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    Err(io::Error::other(format!("{}: {last}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_stands_in_the_arguments() {
        let mut sees = Repeated::new("true", 2, "sh", &["-c", "test {} = 5"]);
        assert_eq!(sees.less(), 2);
        sees.before().unwrap();
        sees.run(5).unwrap();
        assert!(sees.run(6).is_err());
        let mut fails = Repeated::new("echo no >&2; false", 1, "true", &[]);
        assert!(fails.before().unwrap_err().to_string().ends_with("no"));
    }
}
