//! Audit and kill on a kernel that cannot take the guard; deny is refused there.

use otf_artifact::diagnostic::Diagnostic;

use super::{
    boot,
    checks::Checks,
    demo::{NAME, OVERLAY, SOURCE},
    observed,
    target::{Setting, Target},
};

const SCRIPT: &str = include_str!("../../guest/unguarded.sh");
/// Actions, and what each does about a write.
const ACTIONS: [(&str, &str); 2] = [("audit", "reported"), ("kill", "killed")];

/// A boot for each action.
pub fn run(setting: &Setting, checks: &mut Checks) -> Result<(), Diagnostic> {
    let target = Target::open(setting, NAME)?;
    for (action, wanted) in ACTIONS {
        checks.section(&format!("unguarded.{action}"));
        let mut guest = target.guest(Some(OVERLAY))?;
        guest.script("/otf/unguarded.sh", SCRIPT);
        guest.step("unguarded", &["/bin/sh", "/otf/unguarded.sh", action])?;
        let outcome = boot(&target, guest, checks)?;
        observed::ordinary_is_legal(&outcome.report, checks);
        let events = observed::violations(&outcome.report, "attack", checks);
        let event = events.iter().find(|e| e.names(SOURCE) && e.done == wanted);
        let seen = event.or(events.first()).map_or("no event", |e| &e.text);
        checks.add(format!("attack.{wanted}"), event.is_some(), seen);
    }
    Ok(())
}
