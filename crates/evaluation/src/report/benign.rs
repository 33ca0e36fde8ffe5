//! The report of `make test-benign`: workloads without a bundle beside the same under a policy that denies.

use std::fmt::Write;

use serde::Serialize;

use super::Task;

/// One kernel and compartment. What was not measured is `null`, and `missing` says why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Benign {
    /// Kernel profile.
    pub kernel: String,
    /// Compartment.
    pub compartment: String,
    /// Scripts that came to an end under both.
    pub scripts: usize,
    /// Minutes of the workload under the policy.
    pub minutes: Option<f64>,
    /// Violations that the policy counted.
    pub violations: Option<u64>,
    /// Scripts that ended otherwise than without the policy.
    pub result_changes: usize,
    /// Which, and how.
    pub changed: Vec<String>,
    /// Scripts that did not end in time, or were not begun, under one of both.
    pub not_compared: usize,
    /// Checks that were made.
    pub checks: Option<u64>,
    /// Those that a wide rule alone allowed.
    pub weak: Option<u64>,
    /// The first violations, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<String>,
    /// Why figures are `null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// What a policy said at the end of a workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// Its counters.
    pub violations: u64,
    /// Likewise.
    pub checks: u64,
    /// Likewise.
    pub weak: u64,
    /// The first violations in words.
    pub first: Vec<String>,
}

/// Compares the results of the tasks, which hold those without the policy as expected.
pub fn compare(
    kernel: &str,
    compartment: &str,
    tasks: &[Task],
    said: Result<Said, String>,
    minutes: Option<f64>,
) -> Benign {
    let ended = |result: &str| matches!(result, "pass" | "fail" | "skip");
    let both: Vec<(&Task, &str)> = tasks
        .iter()
        .filter_map(|task| Some((task, task.expected.as_deref()?)))
        .filter(|(task, expected)| ended(&task.result) && ended(expected))
        .collect();
    let changed: Vec<String> = both
        .iter()
        .filter(|(task, expected)| task.result != *expected)
        .map(|(task, expected)| format!("{}: {} instead of {expected}", task.name, task.result))
        .collect();
    let known = said.as_ref().ok();
    Benign {
        kernel: kernel.to_owned(),
        compartment: compartment.to_owned(),
        scripts: both.len(),
        minutes,
        violations: known.map(|s| s.violations),
        result_changes: changed.len(),
        changed,
        not_compared: tasks.len() - both.len(),
        checks: known.map(|s| s.checks),
        weak: known.map(|s| s.weak),
        first: known.map(|s| s.first.clone()).unwrap_or_default(),
        missing: said.err(),
    }
}

/// The report for people.
pub fn render(rows: &[Benign]) -> String {
    let mut text = String::from(
        "# No false alarm\n\n\
         The workloads of `eval/workloads/` (traffic of our own and the kernel's selftests) in QEMU, once without a bundle and once \
         under the compartment's policy with *deny* in the transition phase. Made by `make test-benign`. A script that does not end \
         within its time under emulation, or does not fit into the budget, is not compared.\n\n\
         | kernel | compartment | violations | results changed | scripts compared | not compared | minutes | checks | by a wide rule alone |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let number =
            |n: Option<u64>| n.map_or_else(|| "not measured".to_owned(), |n| n.to_string());
        let minutes = row.minutes.map_or_else(String::new, |m| format!("{m:.1}"));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {minutes} | {} | {} |",
            row.kernel,
            row.compartment,
            number(row.violations),
            row.result_changes,
            row.scripts,
            row.not_compared,
            number(row.checks),
            number(row.weak),
        );
    }
    for row in rows {
        let name = format!("{} {}", row.kernel, row.compartment);
        for line in row.changed.iter().chain(&row.first).chain(&row.missing) {
            let _ = write!(text, "\n- {name}: {line}");
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tasks;

    #[test]
    fn only_scripts_that_ended_are_compared() {
        let expected = "a\tpass\t1\nb\tpass\t1\nc\tfail\t1\nd\ttimeout\t1\n";
        let tasks = tasks(
            "a\tpass\t1\nb\tfail\t1\nc\tfail\t1\nd\tpass\t1\ne\tpass\t1\n",
            Some(expected),
        );
        let row = compare("k", "c", &tasks, Ok(Said::default()), Some(2.0));
        assert_eq!((row.scripts, row.not_compared), (3, 2));
        assert_eq!(row.changed, ["b: fail instead of pass"]);
        assert_eq!(row.violations, Some(0));
        let text = render(&[row]);
        assert!(
            text.contains("| k | c | 0 | 1 | 3 | 2 | 2.0 | 0 | 0 |"),
            "{text}"
        );
    }

    #[test]
    fn what_was_not_measured_is_no_zero() {
        let row = compare("k", "c", &[], Err("no machine".into()), None);
        assert_eq!(row.violations, None);
        assert!(render(&[row]).contains("not measured"));
    }
}
