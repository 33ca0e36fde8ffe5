//! The attacks once more under *deny*, with policies that have a private heap.

use std::fmt::Write;

use otf_artifact::diagnostic::Diagnostic;
use otf_kernel::overlay::Attack;

use super::{
    attack_table::{OfBug, cell, kind},
    attacks::{Attacks, Denial, Denied, boot},
    checks::Checks,
};

/// One boot.
pub fn row(
    options: &Attacks,
    name: &str,
    attack: &Attack,
    checks: &mut Checks,
) -> Result<Denial, Diagnostic> {
    checks.section(&format!("heap.{name}"));
    let outcome = boot(options, name, attack, "deny")?;
    let denied = Denied::judge(&outcome, checks);
    let row = Denial::new(options, attack, &denied);
    let stops = attack.unstopped.is_none() || attack.stopped_by_private_heap;
    let name = if stops {
        "is_stopped"
    } else {
        "is_not_stopped_as_told"
    };
    checks.add(name, (row.prevented && row.alive) == stops, &row.note);
    if !row.prevented {
        checks
            .logs
            .push(format!("{name}:\n{}", outcome.log.relevant()));
    }
    Ok(row)
}

/// The section.
pub fn markdown(kernel: &str, rows: &[Denial]) -> String {
    let mut text = format!(
        "## With a private heap\n\n\
         Under *deny* in {kernel} with policies whose `private_heap` is true: nobody else gets what the compartment frees, and what it \
         freed and has not obtained again is known for certain, so that a write or free by a wide rule is refused \
         there too. Made by `make test-attacks HEAP=1`.\n\n\
         {} of {} are stopped with the service alive afterwards.\n\n\
         | bug | kind | confined | CPUs | deny | service afterwards | first violation |\n\
         |---|---|---|---|---|---|---|\n",
        rows.iter().filter(|row| row.prevented && row.alive).count(),
        rows.len(),
    );
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            row.bug,
            kind(row.kind),
            row.compartment,
            row.cpus,
            row.prevented_word(),
            row.alive_word(),
            cell(&row.note),
        );
    }
    text
}

impl OfBug for Denial {
    fn bug(&self) -> &str {
        &self.bug
    }
}

#[cfg(test)]
mod tests {
    use otf_kernel::overlay::AttackKind;

    use super::*;

    #[test]
    fn what_is_stopped_is_counted() {
        let row = |bug: &str, prevented| Denial {
            bug: bug.into(),
            kind: AttackKind::UseAfterFree,
            compartment: "c".into(),
            cpus: 1,
            prevented,
            alive: true,
            note: "a | b".into(),
        };
        let text = markdown("k", &[row("CVE-1", true), row("CVE-2", false)]);
        assert!(text.contains("1 of 2 are stopped"));
        assert!(text.contains("| CVE-1 | use after free | c | 1 | prevented | alive | a \\| b |"));
        assert!(text.contains("| CVE-2 | use after free | c | 1 | **not prevented** | alive |"));
    }
}
