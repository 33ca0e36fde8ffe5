//! A bundle that is loaded, replaced and unloaded again and again while the compartment works.

use std::time::Duration;

use clap::Args;
use otf_artifact::diagnostic::Diagnostic;
use otf_vmtest::vm::{Accel, Vm};

use super::{checks::Checks, stock, target::Setting};

const SCRIPT: &str = include_str!("../../guest/endurance.sh");
/// What a machine needs besides: to boot, to finish a round, to clean up.
const REST: Duration = Duration::from_mins(4);

/// `otf-vmtest endurance`
#[derive(Args)]
pub struct Endurance {
    #[command(flatten)]
    setting: Setting,
    /// How long.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// CPUs.
    #[arg(long, default_value_t = 2)]
    smp: u32,
}

/// One boot with the stock module.
pub fn run(options: &Endurance, checks: &mut Checks) -> Result<(), Diagnostic> {
    checks.section("endurance");
    let time = Duration::from_mins(options.minutes);
    let (target, mut guest) = stock::guest(&options.setting)?;
    guest.script("/otf/endurance.sh", SCRIPT);
    let seconds = time.as_secs().to_string();
    guest.step("endurance", &["/bin/sh", "/otf/endurance.sh", &seconds])?;
    let mut vm = Vm::new(target.kernel(), guest.build());
    vm.time_limit = time + REST;
    vm.smp = options.smp;
    vm.accel = Accel::RoundRobin;
    checks.guest(&vm.run()?);
    Ok(())
}
