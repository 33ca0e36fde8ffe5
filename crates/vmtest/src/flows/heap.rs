//! A private heap: every way to obtain and free memory, an attacker outside, replacement, unloading with objects alive.

use otf_artifact::diagnostic::Diagnostic;
use otf_vmtest::vm::Vm;

use super::{
    TIME_LIMIT,
    checks::Checks,
    observed,
    target::{Setting, Target},
};

const SCRIPT: &str = include_str!("../../guest/heap.sh");

/// One boot for each number of CPUs.
pub fn run(setting: &Setting, cpus: &[u32], checks: &mut Checks) -> Result<(), Diagnostic> {
    let target = Target::open(setting, "otf_heap@heap")?;
    for cpus in cpus {
        checks.section(&format!("heap.smp{cpus}"));
        let mut guest = target.guest(Some("heap"))?;
        guest.script("/otf/heap.sh", SCRIPT);
        guest.step("heap", &["/bin/sh", "/otf/heap.sh"])?;
        let mut vm = Vm::new(target.kernel(), guest.build());
        vm.time_limit = TIME_LIMIT;
        vm.smp = *cpus;
        let outcome = vm.run()?;
        checks.guest(&outcome);
        observed::ordinary_is_legal(&outcome.report, checks);
        observed::nothing_failed_open(&outcome.report, checks);
    }
    Ok(())
}
