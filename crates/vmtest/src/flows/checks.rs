//! A list of checks with their results, as a person reads it.

use std::fmt;

use otf_vmtest::vm::{Outcome, Verdict};

use super::ending;

/// One check.
#[derive(Clone, Debug)]
pub struct Check {
    /// Part of the flow.
    pub section: String,
    /// Name.
    pub name: String,
    /// Result.
    pub passed: bool,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = if self.passed { "PASS" } else { "FAIL" };
        let name = format!("{} {}", self.section, self.name);
        write!(f, "{result}  {name:<60} {}", self.seen)
    }
}

/// Checks in order, and the logs of those runs in which one failed.
#[derive(Debug, Default)]
pub struct Checks {
    /// Checks.
    pub list: Vec<Check>,
    /// What is worth reading of failed runs.
    pub logs: Vec<String>,
    section: String,
}

impl Checks {
    /// Begins a section.
    pub fn section(&mut self, name: &str) {
        tracing::info!("{name}");
        name.clone_into(&mut self.section);
    }

    /// Adds a check.
    pub fn add(&mut self, name: impl Into<String>, passed: bool, seen: impl Into<String>) {
        let check = Check {
            section: self.section.clone(),
            name: name.into(),
            passed,
            seen: seen.into(),
        };
        tracing::info!("{check}");
        self.list.push(check);
    }

    /// Adds the tests of a guest, that it came to its end, and that its kernel had no trouble.
    pub fn guest(&mut self, outcome: &Outcome) {
        for test in &outcome.report.tests {
            self.add(&test.name, test.passed, &test.reason);
        }
        let ended = matches!(outcome.verdict, Verdict::Passed | Verdict::Failed(_));
        self.add(
            "machine",
            ended && outcome.troubles.is_empty(),
            match outcome.troubles.first() {
                Some((trouble, line)) => format!("{trouble:?}: {line}"),
                None => format!(
                    "{} in {:.0} s",
                    ending(&outcome.verdict),
                    outcome.elapsed.as_secs_f32()
                ),
            },
        );
        if !outcome.is_clean() {
            self.logs
                .push(format!("{}:\n{}", self.section, outcome.log.relevant()));
        }
    }

    /// Whether a check of the current section passed; `false` when there is none with this name.
    pub fn passed(&self, name: &str) -> bool {
        self.list
            .iter()
            .rev()
            .take_while(|check| check.section == self.section)
            .any(|check| check.name == name && check.passed)
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.list.iter().filter(|check| !check.passed).count()
    }
}
