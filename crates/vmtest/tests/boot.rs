//! Boots the kernel that `OTF_OUT`'s lock names: verdicts, crashes and time limits are told apart.

use std::{path::PathBuf, sync::Mutex, time::Duration};

use otf_vmtest::{
    guest::Guest,
    log::Source,
    vm::{Accel, Outcome, Verdict, Vm},
    watch::Trouble,
};

static ALONE: Mutex<()> = Mutex::new(());

fn kernel() -> Option<PathBuf> {
    let products = otf_testkit::products()?;
    Some(products.file(&products.lock("sch_qfq").vmlinuz))
}

/// Runs a shell command as the only step; `None` where real kernels are left out.
fn run(script: &str, change: impl FnOnce(&mut Vm)) -> Option<Outcome> {
    let kernel = kernel()?;
    // One machine at a time: time limits hold for a machine that has the processor for itself.
    let _alone = ALONE.lock();
    let mut guest = Guest::new().expect("busybox and dash are installed");
    let command = ["/bin/sh", "-c", script];
    guest.step("step", &command).expect("no tabs in the script");
    let mut vm = Vm::new(kernel, guest.build());
    change(&mut vm);
    Some(vm.run().expect("QEMU is installed"))
}

#[test]
fn a_script_that_succeeds_passes() {
    let script = "echo OTF-TEST inner PASS; test $(id -u) = 0 && grep -q tracefs /proc/mounts";
    let Some(outcome) = run(script, |_| ()) else {
        return;
    };
    assert!(outcome.is_clean(), "{}", outcome.log.relevant());
    assert_eq!(outcome.report.verdict, Some((2, 0)));
    assert!(outcome.report.test("inner").is_some_and(|t| t.passed));
}

#[test]
fn a_script_that_fails_is_told_by_its_status() {
    let Some(outcome) = run("echo because >&2; exit 7", |_| ()) else {
        return;
    };
    assert_eq!(outcome.verdict, Verdict::Failed(1));
    assert!(outcome.log.of(Source::Test).any(|line| line == "because"));
    assert!(outcome.report.tests[0].reason.contains('7'));
}

#[test]
fn a_panic_ends_the_run_early() {
    let Some(outcome) = run("echo c > /proc/sysrq-trigger; sleep 60", |_| ()) else {
        return;
    };
    assert!(
        matches!(
            outcome.verdict,
            Verdict::Crashed(Trouble::Panic | Trouble::Oops, _)
        ),
        "{:?}",
        outcome.verdict
    );
    assert!(outcome.elapsed < Duration::from_mins(1));
    assert!(outcome.log.relevant().contains("sysrq"));
}

#[test]
fn a_script_that_does_not_end_is_stopped() {
    let limit = Duration::from_secs(30);
    let Some(outcome) = run("echo here; sleep 1000", |vm| vm.time_limit = limit) else {
        return;
    };
    assert_eq!(outcome.verdict, Verdict::TimedOut);
    assert!(outcome.log.of(Source::Test).any(|line| line == "here"));
}

#[test]
fn counted_instructions_are_the_guests_clock() {
    let icount = |vm: &mut Vm| vm.accel = Accel::Icount { shift: 1 };
    let Some(outcome) = run("cat /proc/uptime", icount) else {
        return;
    };
    assert!(outcome.is_clean(), "{}", outcome.log.relevant());
}
