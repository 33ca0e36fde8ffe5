//! The table of the attack corpus, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write;

use otf_artifact::diagnostic::{Code, Diagnostic};
use otf_kernel::overlay::AttackKind;

use serde::{Serialize, de::DeserializeOwned};

use super::attacks::Row;

/// A row that is about one bug.
pub trait OfBug: Serialize + DeserializeOwned {
    /// What the bug is known as.
    fn bug(&self) -> &str;
}

impl OfBug for Row {
    fn bug(&self) -> &str {
        &self.bug
    }
}

/// A table for programs: a list, one entry per bug.
pub fn json<R: OfBug>(rows: &[R]) -> Result<String, Diagnostic> {
    let mut text = serde_json::to_string_pretty(rows)
        .map_err(|e| Diagnostic::error(Code::Environment, format!("no table: {e}")))?;
    text.push('\n');
    Ok(text)
}

/// Rows of an earlier table with this one in place of that of the same bug, by bug. What is no table
/// has no rows.
pub fn with<R: OfBug>(earlier: &str, row: R) -> Vec<R> {
    let mut rows: Vec<R> = serde_json::from_str(earlier).unwrap_or_default();
    rows.retain(|other| other.bug() != row.bug());
    rows.push(row);
    rows.sort_by(|a, b| a.bug().cmp(b.bug()));
    rows
}

/// `docs/evaluation/attacks.md`.
pub fn markdown(kernel: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "# Attacks\n\n\
         Fixed bugs that overlays bring back into {kernel} (`kernels/{kernel}/overlays/`), attacked in QEMU \
         without a policy, under *audit* and under *deny*. Made by `make test-attacks`.\n\n\
         {} of {} are stopped with the service alive afterwards.\n\n\
         | bug | kind | confined | CPUs | without | detected | deny | service afterwards | rules | first violation |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
        rows.iter().filter(|r| r.prevented && r.alive).count(),
        rows.len(),
    );
    for row in rows {
        let word = |yes: bool, no: &'static str, word: &'static str| if yes { word } else { no };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.bug,
            kind(row.kind),
            row.compartment,
            row.cpus,
            cell(&row.harm_without),
            word(row.detected, "**no**", "yes"),
            word(row.prevented, "**not prevented**", "prevented"),
            word(row.alive, "**not alive**", "alive"),
            row.rules.join(", "),
            cell(&row.note),
        );
    }
    alone(&mut text, rows);
    text
}

/// How many attacks each rule sees when it is taken alone.
fn alone(text: &mut String, rows: &[Row]) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for rule in rows.iter().flat_map(|row| &row.rules) {
        *counts.entry(rule).or_default() += 1;
    }
    text.push_str(
        "\n| rule, taken alone | attacks of which it refuses a write, call or free |\n|---|---|\n",
    );
    for (rule, count) in counts {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {rule} | {count} |");
    }
}

/// The kind's words.
pub fn kind(kind: AttackKind) -> String {
    serde_json::to_value(kind).map_or_else(
        |_| String::new(),
        |value| value.as_str().unwrap_or_default().to_owned(),
    )
}

/// Text that cannot end a cell.
pub fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_was_not_stopped() {
        let row = Row {
            bug: "CVE-1".into(),
            kind: AttackKind::Stack,
            harm_without: "a | b".into(),
            detected: true,
            prevented: false,
            alive: true,
            note: "x".into(),
            rules: vec!["stack".into()],
            compartment: "c".into(),
            cpus: 2,
        };
        let text = markdown("k", std::slice::from_ref(&row));
        assert!(text.contains("0 of 1 are stopped"));
        assert!(text.contains(
            "| CVE-1 | stack overflow | c | 2 | a \\| b | yes | **not prevented** | alive | stack | x |"
        ));
        let text = json(std::slice::from_ref(&row)).unwrap();
        let earlier = Row {
            bug: "CVE-0".into(),
            ..row.clone()
        };
        let bugs = |rows: Vec<Row>| rows.into_iter().map(|r| r.bug).collect::<Vec<_>>();
        assert_eq!(bugs(with(&text, earlier)), ["CVE-0", "CVE-1"]);
        assert_eq!(bugs(with(&text, row)), ["CVE-1"]);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json[0]["kind"], "stack overflow");
        assert_eq!(json[0]["prevented"], false);
    }
}
