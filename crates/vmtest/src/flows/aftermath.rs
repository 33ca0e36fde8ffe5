//! What a kernel that checks itself has to report after an attack was denied: locking, RCU, sleeping, leaks.

use std::fmt::Write;

use otf_artifact::diagnostic::Diagnostic;
use otf_kernel::overlay::Attack;
use otf_vmtest::{vm::Outcome, watch};
use serde::{Deserialize, Serialize};

use super::{
    attack_table::{OfBug, cell, kind},
    attacks::{Attacks, Denial, Denied, all_said, boot, without_time},
    checks::Checks,
};

/// One bug, and what the kernel reported after it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What became of the attack.
    #[serde(flatten)]
    pub denial: Denial,
    /// Reports of the kernel, in its words.
    pub reports: Vec<String>,
    /// Whether lockdep was at work until the end.
    pub lockdep: bool,
    /// Objects that kmemleak found nobody pointing to: size, task, who allocated it.
    pub leaks: Vec<String>,
}

impl OfBug for Row {
    fn bug(&self) -> &str {
        &self.denial.bug
    }
}

/// One boot under *deny*.
pub fn row(
    options: &Attacks,
    name: &str,
    attack: &Attack,
    checks: &mut Checks,
) -> Result<Row, Diagnostic> {
    checks.section(&format!("aftermath.{name}"));
    let outcome = boot(options, name, attack, "deny")?;
    let denied = Denied::judge(&outcome, checks);
    let reports = reports(&outcome);
    let leaks: Vec<String> = all_said(&outcome.log, "leak").collect();
    let lockdep = all_said(&outcome.log, "lockdep").any(|said| said == "watches");
    let denial = Denial::new(options, attack, &denied);
    checks.add("lockdep_watched", lockdep, "");
    // An attack that is not stopped leaves what it likes.
    if attack.unstopped.is_none() {
        checks.add("is_stopped", denial.prevented && denial.alive, &denial.note);
        checks.add("no_report", reports.is_empty(), reports.join("; "));
        checks.add("no_leak", leaks.is_empty(), leaks.join("; "));
    }
    if !(denial.prevented && reports.is_empty() && leaks.is_empty()) {
        checks
            .logs
            .push(format!("{name}:\n{}", outcome.log.relevant()));
    }
    Ok(Row {
        denial,
        reports,
        lockdep,
        leaks,
    })
}

/// What the kernel complained about, as the console and as the guest saw it, each once.
fn reports(outcome: &Outcome) -> Vec<String> {
    let console = outcome.troubles.iter().map(|(_, line)| line.clone());
    let guest = all_said(&outcome.log, "complaint").filter(|line| watch::trouble(line).is_some());
    let mut found: Vec<String> = Vec::new();
    for line in console.chain(guest) {
        let line = without_time(&line).trim().to_owned();
        if !found.contains(&line) {
            found.push(line);
        }
    }
    found
}

/// The section.
pub fn markdown(kernel: &str, rows: &[Row]) -> String {
    let quiet = |row: &&Row| row.reports.is_empty() && row.lockdep && row.leaks.is_empty();
    let stopped = |row: &&Row| row.denial.prevented && row.denial.alive;
    let mut text = format!(
        "## Afterwards\n\n\
         The same under *deny* on {kernel}, which checks itself: lockdep with RCU and atomic sleep, checked lists, two \
         scans of kmemleak after the attack, while the policy is loaded and the attacked objects are there. What \
         kmemleak had found before the attack does not count. Made by `make test-aftermath`.\n\n\
         {} of {} are stopped with the service alive afterwards; after {} of these the kernel has nothing to report.\n\n\
         | bug | kind | confined | CPUs | deny | service afterwards | reports of the kernel | lockdep at work | leaked objects | first violation |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
        rows.iter().filter(stopped).count(),
        rows.len(),
        rows.iter().filter(stopped).filter(quiet).count(),
    );
    for row in rows {
        let list = |found: &[String]| match found {
            [] => "none".to_owned(),
            found => format!("**{}**: {}", found.len(), cell(&found.join("; "))),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.denial.bug,
            kind(row.denial.kind),
            row.denial.compartment,
            row.denial.cpus,
            row.denial.prevented_word(),
            row.denial.alive_word(),
            list(&row.reports),
            if row.lockdep { "yes" } else { "**no**" },
            list(&row.leaks),
            cell(&row.denial.note),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use otf_kernel::overlay::AttackKind;

    use super::*;

    fn example() -> Row {
        Row {
            denial: Denial {
                bug: "CVE-1".into(),
                kind: AttackKind::Stack,
                compartment: "c".into(),
                cpus: 2,
                prevented: true,
                alive: true,
                note: "a | b".into(),
            },
            reports: vec![],
            lockdep: true,
            leaks: vec![],
        }
    }

    #[test]
    fn what_was_reported_is_in_the_row() {
        let text = markdown("k", &[example()]);
        assert!(text.contains("1 of 1 are stopped with the service alive afterwards; after 1 of"));
        assert!(text.contains("| prevented | alive | none | yes | none | a \\| b |"));
        let mut row = example();
        row.leaks.push("(size 8) in \"tc\" f".into());
        let text = markdown("k", &[row]);
        assert!(text.contains("after 0 of these"));
        assert!(text.contains("| **1**: (size 8) in \"tc\" f |"));
        let mut row = example();
        row.lockdep = false;
        assert!(markdown("k", &[row]).contains("after 0 of these"));
    }
}
