//! Signs of trouble in the kernel's messages.

/// What went wrong in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// `WARN()` and friends; the kernel goes on.
    Warning,
    /// A task or an RCU grace period does not get on.
    Stall,
    /// A fault or a `BUG()`: the task is gone, the state is doubtful.
    Oops,
    /// The end.
    Panic,
}

/// Texts of the kernel, and what they mean. The most severe one of a line counts.
const SIGNS: &[(&str, Trouble)] = &[
    ("Kernel panic - not syncing", Trouble::Panic),
    ("Oops: ", Trouble::Oops),
    ("BUG: unable to handle", Trouble::Oops),
    ("BUG: kernel NULL pointer", Trouble::Oops),
    ("kernel BUG at ", Trouble::Oops),
    ("general protection fault", Trouble::Oops),
    ("stack-protector: Kernel stack is corrupted", Trouble::Panic),
    ("soft lockup", Trouble::Stall),
    ("hard LOCKUP", Trouble::Stall),
    ("rcu: INFO: rcu_", Trouble::Stall),
    ("detected stalls on CPUs", Trouble::Stall),
    ("blocked for more than", Trouble::Stall),
    ("WARNING: CPU: ", Trouble::Warning),
    // Lockdep and RCU: what was found, in their own words.
    ("WARNING: possible ", Trouble::Warning),
    ("WARNING: inconsistent lock", Trouble::Warning),
    ("WARNING: suspicious RCU", Trouble::Warning),
    ("WARNING: bad unlock balance", Trouble::Warning),
    ("WARNING: bad contention", Trouble::Warning),
    ("WARNING: held lock freed", Trouble::Warning),
    ("WARNING: lock held when", Trouble::Warning),
    ("lock order inversion", Trouble::Warning),
    ("INFO: trying to register non-static key", Trouble::Warning),
    ("Invalid wait context", Trouble::Warning),
    ("BUG: ", Trouble::Warning),
];

/// What a line of the kernel console tells, if it is a sign of trouble.
pub fn trouble(line: &str) -> Option<Trouble> {
    SIGNS
        .iter()
        .filter(|(text, _)| line.contains(text))
        .map(|&(_, trouble)| trouble)
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_words_are_known() {
        for (line, expected) in [
            (
                "[    4.1] Kernel panic - not syncing: Fatal exception in interrupt",
                Some(Trouble::Panic),
            ),
            (
                "[    2.0] BUG: kernel NULL pointer dereference, address: 0000000000000008",
                Some(Trouble::Oops),
            ),
            (
                "[    2.0] Oops: general protection fault, probably for non-canonical address",
                Some(Trouble::Oops),
            ),
            (
                "[   30.2] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [sh:71]",
                Some(Trouble::Stall),
            ),
            (
                "[   63.0] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
                Some(Trouble::Stall),
            ),
            (
                "[  242.1] INFO: task sh:71 blocked for more than 120 seconds.",
                Some(Trouble::Stall),
            ),
            (
                "[    1.0] WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2",
                Some(Trouble::Warning),
            ),
            (
                "[   12.0] WARNING: possible circular locking dependency detected",
                Some(Trouble::Warning),
            ),
            (
                "[   12.0] WARNING: suspicious RCU usage",
                Some(Trouble::Warning),
            ),
            (
                "[   12.0] BUG: sleeping function called from invalid context at mm/slab.c:1",
                Some(Trouble::Warning),
            ),
            ("[    1.0] x86/cpu: SGX disabled by BIOS.", None),
            (
                "[    1.0] otf_broken: loading out-of-tree module taints kernel.",
                None,
            ),
        ] {
            assert_eq!(trouble(line), expected, "{line}");
        }
    }
}
