//! Ordinary use of the stock module under its own bundle: no violation, in either phase.

use otf_artifact::diagnostic::Diagnostic;
use otf_vmtest::guest::Guest;

use super::{
    boot,
    checks::Checks,
    observed,
    target::{Setting, Target},
};

const SCRIPT: &str = include_str!("../../guest/stock.sh");
/// The overlay whose script of ordinary use, and whose stock modules, are used.
const OVERLAY: &str = "cve-2023-31436";

/// The compartment whose stock module is used.
pub const COMPARTMENT: &str = "sch_qfq";

/// A guest that has the stock module loaded, and the script of ordinary use.
pub fn guest(setting: &Setting) -> Result<(Target, Guest), Diagnostic> {
    let target = Target::open(setting, COMPARTMENT)?;
    let helper = Target::open(setting, &format!("{COMPARTMENT}@{OVERLAY}"))?;
    let mut modules = helper.support()?;
    for module in target.support()?.into_iter().chain(target.own_modules()?) {
        if modules.iter().all(|m| m.name != module.name) {
            modules.push(module);
        }
    }
    let guest = target.guest_with(Some(OVERLAY), &modules)?;
    Ok((target, guest))
}

/// One boot with *deny*, the strictest action: a false alarm would also break the service.
pub fn run(setting: &Setting, checks: &mut Checks) -> Result<(), Diagnostic> {
    checks.section("stock");
    let (target, mut guest) = guest(setting)?;
    guest.script("/otf/stock.sh", SCRIPT);
    guest.step("stock", &["/bin/sh", "/otf/stock.sh", "deny"])?;
    let outcome = boot(&target, guest, checks)?;
    observed::ordinary_is_legal(&outcome.report, checks);
    observed::nothing_failed_open(&outcome.report, checks);
    Ok(())
}
