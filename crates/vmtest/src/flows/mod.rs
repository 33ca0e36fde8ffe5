//! What `demo` and `test` show: each flow boots a machine, and judges what it reports.

pub mod aftermath;
pub mod attack_heap;
pub mod attack_table;
pub mod attacks;
pub mod bench;
pub mod checks;
pub mod demo;
pub mod endurance;
pub mod heap;
pub mod kinds;
pub mod life;
pub mod observed;
pub mod record;
pub mod recorded;
pub mod refuse;
pub mod sections;
pub mod smoke;
pub mod stock;
pub mod target;
pub mod unguarded;

use std::time::Duration;

use otf_artifact::diagnostic::Diagnostic;
use otf_vmtest::{
    guest::Guest,
    vm::{Outcome, Verdict, Vm},
};

use checks::Checks;
use target::Target;

/// Attaching probes under emulation takes its time.
const TIME_LIMIT: Duration = Duration::from_mins(10);

/// Boots the target's kernel and takes over the tests of the guest. The kernel must come to its end.
fn boot(target: &Target, guest: Guest, checks: &mut Checks) -> Result<Outcome, Diagnostic> {
    let mut vm = Vm::new(target.kernel(), guest.build());
    vm.time_limit = TIME_LIMIT;
    let outcome = vm.run()?;
    checks.guest(&outcome);
    Ok(outcome)
}

/// How a run ended, in words.
pub fn ending(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Passed => "all tests passed".to_owned(),
        Verdict::Failed(count) => format!("{count} tests failed"),
        Verdict::Crashed(trouble, line) => format!("{trouble:?}: {line}"),
        Verdict::TimedOut => "the time limit was reached".to_owned(),
        Verdict::Incomplete(why) => why.clone(),
    }
}
