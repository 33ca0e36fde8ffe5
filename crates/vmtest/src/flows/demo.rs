//! The attack of CVE-2023-31436 on the stock kernel, without and with the bundle.

use clap::Args;
use otf_artifact::diagnostic::Diagnostic;
use otf_vmtest::report::Report;

use super::{
    boot,
    checks::Checks,
    observed,
    target::{Setting, Target},
};

const SCRIPT: &str = include_str!("../../guest/demo.sh");
pub(super) const NAME: &str = "sch_qfq@cve-2023-31436";
pub(super) const OVERLAY: &str = "cve-2023-31436";
pub(super) const SOURCE: &str = "net/sched/sch_qfq.c";
/// Each puts the group at another place behind the qdisc.
const MTUS: [u32; 3] = [2_097_138, 4_194_290, 2_147_483_647];

/// `otf-vmtest demo`
#[derive(Args)]
pub struct Demo {
    #[command(flatten)]
    setting: Setting,
    /// Attack with this MTU; each puts the write at another place behind the object.
    #[arg(long = "mtu", value_name = "MTU", default_values_t = MTUS)]
    mtus: Vec<u32>,
}

/// With every MTU.
pub fn all(setting: &Setting, checks: &mut Checks) -> Result<(), Diagnostic> {
    let setting = setting.clone();
    let mtus = MTUS.to_vec();
    run(&Demo { setting, mtus }, checks)
}

/// Three boots: without a policy, *deny* in transition, *deny* in the working phase.
pub fn run(options: &Demo, checks: &mut Checks) -> Result<(), Diagnostic> {
    let target = Target::open(&options.setting, NAME)?;
    let mtus: Vec<String> = options.mtus.iter().map(ToString::to_string).collect();
    for part in ["without", "transition", "working"] {
        checks.section(&format!("demo.{part}"));
        let mut guest = target.guest(Some(OVERLAY))?;
        guest.script("/otf/demo.sh", SCRIPT);
        let mut step = vec!["/bin/sh", "/otf/demo.sh", part];
        step.extend(mtus.iter().map(String::as_str));
        guest.step("demo", &step)?;
        let outcome = boot(&target, guest, checks)?;
        if part != "without" {
            judge(&outcome.report, &mtus, checks);
        }
    }
    Ok(())
}

/// The events: attacks were prevented at the right source file, ordinary use was left alone.
fn judge(report: &Report, mtus: &[String], checks: &mut Checks) {
    for mtu in mtus {
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
