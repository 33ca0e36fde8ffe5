//! Every kind of illegal write, call and free × what each action does about it, with the deliberately broken module.

use std::fmt::Write;

use otf_artifact::diagnostic::Diagnostic;
use otf_vmtest::report::Report;

use super::{
    boot,
    checks::Checks,
    observed,
    target::{Setting, Target},
};

const SCRIPT: &str = include_str!("../../guest/kinds.sh");
const NAME: &str = "otf_broken@broken";
const OVERLAY: &str = "broken";
const SOURCE: &str = "drivers/misc/otf_broken.c";
/// Kinds as the overlay's trigger knows them, and what they are.
const KINDS: [(&str, &str); 19] = [
    ("slot", "neighbour object, plain store"),
    (GIVES_BACK, "neighbour object, RCU and BH held"),
    ("lock_or", "neighbour object, lock or"),
    ("lock_bts", "neighbour object, lock bts"),
    ("rep_stos", "neighbour object, rep stos"),
    ("memcpy", "neighbour object, memcpy"),
    ("global", "kernel global"),
    ("stack", "another function's stack frame"),
    ("freed", "freed and reused object"),
    ("call", "call of another function"),
    ("double_free", "free of a freed and reused object"),
    ("freed_cache", "freed by kmem_cache_free, reused"),
    ("freed_cache_bulk", "by kmem_cache_free_bulk"),
    ("freed_bulk", "by kfree_bulk"),
    ("freed_rcu", "by kfree_rcu"),
    ("freed_realloc", "by krealloc"),
    ("freed_page", "by free_page"),
    ("freed_vmalloc", "by vfree"),
    // Last: the cache does not come back.
    ("freed_destroyed", "with its cache"),
];
/// The kind whose store stands where something is held.
const GIVES_BACK: &str = "held";
/// What a private heap changes: the compartment itself obtains again what it freed, so that a free is that of a live object.
const OTHERWISE_IN_A_PRIVATE_HEAP: &str = "double_free";
/// Columns of the table: its heading, the action, and whether the policy has a private heap.
const RUNS: [(&str, &str, bool); 5] = [
    ("without", "without", false),
    ("audit", "audit", false),
    ("kill", "kill", false),
    ("deny", "deny", false),
    ("private heap", "deny", true),
];

/// A boot for each column; returns the table.
pub fn run(setting: &Setting, checks: &mut Checks) -> Result<String, Diagnostic> {
    let mut cells = Vec::new();
    for (name, action, heap) in RUNS {
        let target = if heap {
            Target::open(&setting.with_private_heap(), NAME)?
        } else {
            Target::open(setting, NAME)?
        };
        checks.section(&format!("kinds.{}", name.replace(' ', "_")));
        let mut guest = target.guest(Some(OVERLAY))?;
        guest.script("/otf/kinds.sh", SCRIPT);
        let mut step = vec!["/bin/sh", "/otf/kinds.sh", action];
        let wanted = |kind: &str| !heap || kind != OTHERWISE_IN_A_PRIVATE_HEAP;
        step.extend(
            KINDS
                .iter()
                .map(|(kind, _)| kind)
                .filter(|kind| wanted(kind)),
        );
        guest.step("kinds", &step)?;
        let outcome = boot(&target, guest, checks)?;
        if action != "without" {
            observed::ordinary_is_legal(&outcome.report, checks);
            observed::nothing_failed_open(&outcome.report, checks);
        }
        cells.push(KINDS.map(|(kind, _)| {
            if wanted(kind) {
                cell(kind, action, &outcome.report, checks)
            } else {
                "-"
            }
        }));
    }
    Ok(table(&cells))
}

/// Judges the events of one kind under one action; what goes into the table.
fn cell(kind: &str, action: &str, report: &Report, checks: &mut Checks) -> &'static str {
    let changed = checks.passed(&format!("{kind}.changed"));
    let written = checks.passed(&format!("{kind}.write"));
    let service = checks.passed(&format!("{kind}.service"));
    if action == "without" {
        return if changed && written {
            "changed"
        } else {
            "FAIL"
        };
    }
    let events = observed::violations(report, kind, checks);
    let done = |wanted: &[&str]| {
        events
            .iter()
            .find(|e| e.names(SOURCE) && wanted.contains(&e.done.as_str()))
    };
    let (wanted, word): (&[&str], _) = match action {
        "audit" => (&["reported"], "reports"),
        "kill" => (&["killed"], "kills"),
        // What is held there can be given back: nothing is just left out.
        _ if kind == GIVES_BACK => (&["unwound"], "prevents"),
        _ => (&["unwound", "skipped", "skipped_only"], "prevents"),
    };
    let event = done(wanted);
    let seen = event.or(events.first()).map_or("no event", |e| &e.text);
    checks.add(format!("{kind}.{word}"), event.is_some(), seen);
    let landed = action == "kill" || changed;
    match (event.is_some() && written && landed, service) {
        (true, true) => word,
        (true, false) => "FAIL (service)",
        (false, _) => "FAIL",
    }
}

fn table(cells: &[[&'static str; KINDS.len()]]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(text, "{:<34}", "kind");
    for (name, ..) in RUNS {
        let _ = write!(text, "{name:<16}");
    }
    text.push('\n');
    for (row, (kind, what)) in KINDS.iter().enumerate() {
        let _ = write!(text, "{what:<34}");
        for column in cells {
            let _ = write!(text, "{:<16}", column[row]);
        }
        let _ = writeln!(text, "{kind}");
    }
    text
}
