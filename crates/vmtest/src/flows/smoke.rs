//! The machine itself: file systems, shell, network tools, modules, verdicts.

use otf_artifact::diagnostic::Diagnostic;

use super::{
    boot,
    checks::Checks,
    target::{Setting, Target},
};

const SCRIPT: &str = include_str!("../../guest/smoke.sh");

/// One short boot.
pub fn run(setting: &Setting, checks: &mut Checks) -> Result<(), Diagnostic> {
    checks.section("smoke");
    let target = Target::open(setting, "sch_qfq@cve-2023-31436")?;
    let mut guest = target.guest(Some("cve-2023-31436"))?;
    guest.script("/otf/smoke.sh", SCRIPT);
    guest.step("smoke", &["/bin/sh", "/otf/smoke.sh"])?;
    boot(&target, guest, checks)?;
    Ok(())
}
