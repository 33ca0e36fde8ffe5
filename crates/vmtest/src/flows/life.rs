//! Killed loads, two operators at once, replacements while attacks go on.

use otf_artifact::diagnostic::Diagnostic;

use super::{
    boot,
    checks::Checks,
    observed,
    target::{Setting, Target},
};

const SCRIPT: &str = include_str!("../../guest/life.sh");

/// One boot with *deny*.
pub fn run(setting: &Setting, checks: &mut Checks) -> Result<(), Diagnostic> {
    checks.section("life");
    let target = Target::open(setting, "sch_qfq@cve-2023-31436")?;
    let mut guest = target.guest(Some("cve-2023-31436"))?;
    guest.script("/otf/life.sh", SCRIPT);
    guest.step("life", &["/bin/sh", "/otf/life.sh"])?;
    let outcome = boot(&target, guest, checks)?;
    observed::ordinary_is_legal(&outcome.report, checks);
    Ok(())
}
