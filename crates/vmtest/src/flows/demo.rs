//! The attack of CVE-2023-31436 on the stock kernel, without and with the bundle.

use otf_artifact::diagnostic::Diagnostic;
use otf_vmtest::report::Report;

use super::{
    boot,
    checks::Checks,
    observed,
    target::{Setting, Target},
};

const SCRIPT: &str = include_str!("../../guest/demo.sh");
const NAME: &str = "sch_qfq@cve-2023-31436";
const OVERLAY: &str = "cve-2023-31436";
const SOURCE: &str = "net/sched/sch_qfq.c";
/// As in the script: each puts the group at another place behind the qdisc.
const MTUS: [&str; 3] = ["2097138", "4194290", "2147483647"];

/// Three boots: without a policy, *deny* in transition, *deny* in the working phase.
pub fn run(setting: &Setting, checks: &mut Checks) -> Result<(), Diagnostic> {
    let target = Target::open(setting, NAME)?;
    for part in ["without", "transition", "working"] {
        checks.section(&format!("demo.{part}"));
        let mut guest = target.guest(Some(OVERLAY))?;
        guest.script("/otf/demo.sh", SCRIPT);
        guest.step("demo", &["/bin/sh", "/otf/demo.sh", part])?;
        let outcome = boot(&target, guest, checks)?;
        if part != "without" {
            judge(&outcome.report, checks);
        }
    }
    Ok(())
}

/// The events: attacks were prevented at the right source file, ordinary use was left alone.
fn judge(report: &Report, checks: &mut Checks) {
    for mtu in MTUS {
        let events = observed::violations(report, &format!("attack.{mtu}"), checks);
        let prevented = events.iter().find(|e| e.prevented && e.names(SOURCE));
        let seen = prevented.or(events.first()).map_or("no event", |e| &e.text);
        checks.add(
            format!("attack.{mtu}.prevented_and_named"),
            prevented.is_some(),
            seen,
        );
        let landed = events.iter().find(|e| !e.prevented);
        checks.add(
            format!("attack.{mtu}.every_violation_prevented"),
            landed.is_none() && !events.is_empty(),
            landed.map_or_else(|| format!("{} events", events.len()), |e| e.text.clone()),
        );
    }
    observed::ordinary_is_legal(report, checks);
    observed::nothing_failed_open(report, checks);
}
