//! What a kernel that checks itself has to report after an attack was denied: locking, RCU, sleeping, leaks.

use std::fmt::Write;

use otf_artifact::diagnostic::Diagnostic;
use otf_kernel::overlay::{Attack, AttackKind};
use otf_vmtest::{vm::Outcome, watch};
use serde::{Deserialize, Serialize};

use super::{
    attack_table::{OfBug, cell, kind},
    attacks::{Attacks, Denied, all_said, boot, without_time},
    checks::Checks,
};

/// What begins the section in the file with the tables.
const HEADING: &str = "## Afterwards\n";

/// One bug, and what the kernel reported after it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What the bug is known as.
    pub bug: String,
    /// What goes wrong in memory.
    pub kind: AttackKind,
    /// What is confined.
    pub compartment: String,
    /// CPUs of the machine.
    pub cpus: u32,
    /// Whether no harm was done, and no violation was let through.
    pub prevented: bool,
    /// Whether the service worked for others afterwards.
    pub alive: bool,
    /// Reports of the kernel, in its words.
    pub reports: Vec<String>,
    /// Whether lockdep was at work until the end.
    pub lockdep: bool,
    /// Objects that kmemleak found nobody pointing to: size, task, who allocated it.
    pub leaks: Vec<String>,
    /// The first violation, and what went wrong.
    pub note: String,
}

impl OfBug for Row {
    fn bug(&self) -> &str {
        &self.bug
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
    let first = denied.events.first();
    let mut note = first.map_or_else(|| "no violation".to_owned(), |e| e.text.clone());
    if let Some(flaw) = &denied.flaw {
        note = format!("{note}; {flaw}");
    }
    checks.add("lockdep_watched", lockdep, "");
    // An attack that is not stopped leaves what it likes.
    if attack.unstopped.is_none() {
        checks.add("is_stopped", denied.prevented && denied.alive, &note);
        checks.add("no_report", reports.is_empty(), reports.join("; "));
        checks.add("no_leak", leaks.is_empty(), leaks.join("; "));
    }
    if !(denied.prevented && reports.is_empty() && leaks.is_empty()) {
        checks
            .logs
            .push(format!("{name}:\n{}", outcome.log.relevant()));
    }
    Ok(Row {
        bug: attack.bug.clone(),
        kind: attack.kind,
        compartment: attack.compartment.value.clone(),
        cpus: options.smp,
        prevented: denied.prevented,
        alive: denied.alive,
        reports,
        lockdep,
        leaks,
        note,
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
    let stopped = |row: &&Row| row.prevented && row.alive;
    let mut text = format!(
        "{HEADING}\n\
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
            row.bug,
            kind(row.kind),
            row.compartment,
            row.cpus,
            if row.prevented {
                "prevented"
            } else {
                "**not prevented**"
            },
            if row.alive { "alive" } else { "**not alive**" },
            list(&row.reports),
            if row.lockdep { "yes" } else { "**no**" },
            list(&row.leaks),
            cell(&row.note),
        );
    }
    text
}

/// The file with another section in place of the one that it has.
pub fn replaced(file: &str, section: &str) -> String {
    match split(file).0.trim_end() {
        "" => section.to_owned(),
        before => format!("{before}\n\n{section}"),
    }
}

/// Another file with the section that the file has.
pub fn kept(file: &str, other: String) -> String {
    match split(file) {
        (_, "") => other,
        (_, section) => replaced(&other, section),
    }
}

/// What comes before the section, and the section.
fn split(file: &str) -> (&str, &str) {
    file.split_at(file.find(HEADING).unwrap_or(file.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Row {
        Row {
            bug: "CVE-1".into(),
            kind: AttackKind::Stack,
            compartment: "c".into(),
            cpus: 2,
            prevented: true,
            alive: true,
            reports: vec![],
            lockdep: true,
            leaks: vec![],
            note: "a | b".into(),
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

    #[test]
    fn tables_live_beside_each_other() {
        let first = replaced("# Attacks\n\nx\n", "## Afterwards\n\nold\n");
        assert_eq!(first, "# Attacks\n\nx\n\n## Afterwards\n\nold\n");
        assert_eq!(
            replaced(&first, "## Afterwards\n\nnew\n"),
            "# Attacks\n\nx\n\n## Afterwards\n\nnew\n"
        );
        assert_eq!(
            kept(&first, "# Attacks\n\ny\n".into()),
            "# Attacks\n\ny\n\n## Afterwards\n\nold\n"
        );
        assert_eq!(kept("# Attacks\n", "z\n".into()), "z\n");
        assert_eq!(replaced("", "## Afterwards\n"), "## Afterwards\n");
    }
}
