//! What acquires and releases something that a call must not be unwound over.

/// A kind of thing that is held. Things of one kind are taken to nest: a release gives back what
/// was acquired last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Held {
    /// Spin and reader-writer locks, raw ones and bit locks included.
    Spin,
    /// Mutexes, the RTNL, socket ownership.
    Mutex,
    /// Semaphores, reader-writer semaphores.
    Semaphore,
    /// RCU read sides; a count that can be given back.
    Rcu,
    /// Bottom halves disabled; likewise.
    Bh,
    /// Preemption disabled.
    Preempt,
    /// Interrupts disabled.
    Irq,
    /// SRCU read sides, walks of hash tables, CPU hot-plug.
    Other,
}

/// Number of kinds.
pub const KINDS: usize = 8;

impl Held {
    /// Every kind, in order.
    pub const ALL: [Self; KINDS] = [
        Self::Spin,
        Self::Mutex,
        Self::Semaphore,
        Self::Rcu,
        Self::Bh,
        Self::Preempt,
        Self::Irq,
        Self::Other,
    ];
}

/// Which result of an attempt says that it succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// Anything but 0.
    NonZero,
    /// 0; others are errors.
    Zero,
    /// The result does not say.
    Unclear,
}

/// What a call changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// One more is held.
    Acquire(Held),
    /// One more may be held: it depends on the result.
    TryAcquire(Held, Success),
    /// One less is held.
    Release(Held),
}

impl Effect {
    /// The same on another kind.
    #[must_use]
    pub fn of(self, kind: Held) -> Self {
        match self {
            Self::Acquire(_) => Self::Acquire(kind),
            Self::TryAcquire(_, success) => Self::TryAcquire(kind, success),
            Self::Release(_) => Self::Release(kind),
        }
    }
}

/// (name, whether longer names that start so are meant, effect). The first row that fits counts:
/// releases and attempts stand before the acquisitions whose names begin alike.
const PRIMITIVES: &[(&str, bool, Effect)] = &[
    ("_raw_spin_unlock", true, Effect::Release(Held::Spin)),
    ("_raw_read_unlock", true, Effect::Release(Held::Spin)),
    ("_raw_write_unlock", true, Effect::Release(Held::Spin)),
    ("__raw_spin_unlock", true, Effect::Release(Held::Spin)),
    ("queued_spin_unlock", true, Effect::Release(Held::Spin)),
    ("__pv_queued_spin_unlock", true, Effect::Release(Held::Spin)),
    (
        "_raw_spin_trylock",
        true,
        Effect::TryAcquire(Held::Spin, Success::NonZero),
    ),
    (
        "_raw_read_trylock",
        true,
        Effect::TryAcquire(Held::Spin, Success::NonZero),
    ),
    (
        "_raw_write_trylock",
        true,
        Effect::TryAcquire(Held::Spin, Success::NonZero),
    ),
    ("_raw_spin_lock", true, Effect::Acquire(Held::Spin)),
    ("_raw_read_lock", true, Effect::Acquire(Held::Spin)),
    ("_raw_write_lock", true, Effect::Acquire(Held::Spin)),
    ("__raw_spin_lock", true, Effect::Acquire(Held::Spin)),
    (
        "queued_spin_lock_slowpath",
        false,
        Effect::Acquire(Held::Spin),
    ),
    (
        "queued_read_lock_slowpath",
        false,
        Effect::Acquire(Held::Spin),
    ),
    (
        "queued_write_lock_slowpath",
        false,
        Effect::Acquire(Held::Spin),
    ),
    (
        "_atomic_dec_and_lock",
        true,
        Effect::TryAcquire(Held::Spin, Success::NonZero),
    ),
    (
        "_atomic_dec_and_raw_lock",
        true,
        Effect::TryAcquire(Held::Spin, Success::NonZero),
    ),
    (
        "refcount_dec_and_lock",
        true,
        Effect::TryAcquire(Held::Spin, Success::NonZero),
    ),
    ("task_rq_unlock", true, Effect::Release(Held::Spin)),
    (
        "__lock_task_sighand",
        false,
        Effect::TryAcquire(Held::Spin, Success::NonZero),
    ),
    ("mutex_unlock", true, Effect::Release(Held::Mutex)),
    ("ww_mutex_unlock", true, Effect::Release(Held::Mutex)),
    ("rt_mutex_unlock", true, Effect::Release(Held::Mutex)),
    (
        "mutex_trylock",
        true,
        Effect::TryAcquire(Held::Mutex, Success::NonZero),
    ),
    (
        "mutex_lock_interruptible",
        true,
        Effect::TryAcquire(Held::Mutex, Success::Zero),
    ),
    (
        "mutex_lock_killable",
        true,
        Effect::TryAcquire(Held::Mutex, Success::Zero),
    ),
    ("mutex_lock", true, Effect::Acquire(Held::Mutex)),
    (
        "ww_mutex_lock",
        true,
        Effect::TryAcquire(Held::Mutex, Success::Zero),
    ),
    ("rt_mutex_lock", true, Effect::Acquire(Held::Mutex)),
    (
        "refcount_dec_and_mutex_lock",
        true,
        Effect::TryAcquire(Held::Mutex, Success::NonZero),
    ),
    (
        "refcount_dec_and_rtnl_lock",
        true,
        Effect::TryAcquire(Held::Mutex, Success::NonZero),
    ),
    (
        "atomic_dec_and_mutex_lock",
        true,
        Effect::TryAcquire(Held::Mutex, Success::NonZero),
    ),
    ("rtnl_unlock", true, Effect::Release(Held::Mutex)),
    ("__rtnl_unlock", false, Effect::Release(Held::Mutex)),
    (
        "rtnl_trylock",
        true,
        Effect::TryAcquire(Held::Mutex, Success::NonZero),
    ),
    (
        "rtnl_lock_killable",
        false,
        Effect::TryAcquire(Held::Mutex, Success::Zero),
    ),
    ("rtnl_lock", false, Effect::Acquire(Held::Mutex)),
    ("genl_unlock", true, Effect::Release(Held::Mutex)),
    ("genl_lock", true, Effect::Acquire(Held::Mutex)),
    ("nfnl_unlock", true, Effect::Release(Held::Mutex)),
    ("nfnl_lock", true, Effect::Acquire(Held::Mutex)),
    ("release_sock", true, Effect::Release(Held::Mutex)),
    (
        "__lock_sock_fast",
        false,
        Effect::TryAcquire(Held::Mutex, Success::Unclear),
    ),
    ("lock_sock", true, Effect::Acquire(Held::Mutex)),
    ("sockopt_release_sock", false, Effect::Release(Held::Mutex)),
    ("sockopt_lock_sock", false, Effect::Acquire(Held::Mutex)),
    ("up_read", true, Effect::Release(Held::Semaphore)),
    ("up_write", true, Effect::Release(Held::Semaphore)),
    ("up", false, Effect::Release(Held::Semaphore)),
    (
        "down_read_trylock",
        true,
        Effect::TryAcquire(Held::Semaphore, Success::NonZero),
    ),
    (
        "down_write_trylock",
        true,
        Effect::TryAcquire(Held::Semaphore, Success::NonZero),
    ),
    (
        "down_trylock",
        false,
        Effect::TryAcquire(Held::Semaphore, Success::Zero),
    ),
    (
        "down_interruptible",
        false,
        Effect::TryAcquire(Held::Semaphore, Success::Zero),
    ),
    (
        "down_killable",
        false,
        Effect::TryAcquire(Held::Semaphore, Success::Zero),
    ),
    (
        "down_timeout",
        false,
        Effect::TryAcquire(Held::Semaphore, Success::Zero),
    ),
    (
        "down_read_interruptible",
        false,
        Effect::TryAcquire(Held::Semaphore, Success::Zero),
    ),
    (
        "down_read_killable",
        true,
        Effect::TryAcquire(Held::Semaphore, Success::Zero),
    ),
    (
        "down_write_killable",
        true,
        Effect::TryAcquire(Held::Semaphore, Success::Zero),
    ),
    ("down_read", true, Effect::Acquire(Held::Semaphore)),
    ("down_write", true, Effect::Acquire(Held::Semaphore)),
    ("down", false, Effect::Acquire(Held::Semaphore)),
    ("__rcu_read_unlock", false, Effect::Release(Held::Rcu)),
    ("rcu_read_unlock", true, Effect::Release(Held::Other)),
    ("__srcu_read_unlock", true, Effect::Release(Held::Other)),
    ("__rcu_read_lock", false, Effect::Acquire(Held::Rcu)),
    ("rcu_read_lock", true, Effect::Acquire(Held::Other)),
    ("__srcu_read_lock", true, Effect::Acquire(Held::Other)),
    ("rhashtable_walk_stop", false, Effect::Release(Held::Other)),
    ("rhashtable_walk_start", true, Effect::Acquire(Held::Other)),
    ("__local_bh_enable", true, Effect::Release(Held::Bh)),
    ("local_bh_enable", true, Effect::Release(Held::Bh)),
    ("__local_bh_disable", true, Effect::Acquire(Held::Bh)),
    ("local_bh_disable", true, Effect::Acquire(Held::Bh)),
    ("preempt_count_sub", false, Effect::Release(Held::Preempt)),
    ("preempt_count_add", false, Effect::Acquire(Held::Preempt)),
    ("migrate_enable", false, Effect::Release(Held::Preempt)),
    ("migrate_disable", false, Effect::Acquire(Held::Preempt)),
    ("cpus_read_unlock", false, Effect::Release(Held::Other)),
    (
        "cpus_read_trylock",
        false,
        Effect::TryAcquire(Held::Other, Success::NonZero),
    ),
    ("cpus_read_lock", false, Effect::Acquire(Held::Other)),
    ("percpu_up_write", false, Effect::Release(Held::Other)),
    ("percpu_down_write", false, Effect::Acquire(Held::Other)),
];

/// What calling this function changes, if it is a primitive.
pub fn effect(callee: &str) -> Option<Effect> {
    // `rcu_read_lock_held` and its like ask.
    if callee.ends_with("_held") {
        return None;
    }
    PRIMITIVES
        .iter()
        .find(|(name, prefix, _)| callee == *name || (*prefix && callee.starts_with(name)))
        .map(|(_, _, effect)| *effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primitives() {
        for (callee, expected) in [
            ("_raw_spin_lock_bh", Some(Effect::Acquire(Held::Spin))),
            ("_raw_spin_unlock_bh", Some(Effect::Release(Held::Spin))),
            (
                "mutex_lock_interruptible",
                Some(Effect::TryAcquire(Held::Mutex, Success::Zero)),
            ),
            ("rtnl_is_locked", None),
            ("upload", None),
            ("__rcu_read_unlock", Some(Effect::Release(Held::Rcu))),
            ("lock_sock_nested", Some(Effect::Acquire(Held::Mutex))),
            ("mutex_is_locked", None),
            ("rcu_read_lock_held", None),
        ] {
            assert_eq!(effect(callee), expected, "{callee}");
        }
    }

    #[test]
    fn no_row_is_hidden_by_an_earlier_one() {
        for (row, (name, ..)) in PRIMITIVES.iter().enumerate() {
            let first = PRIMITIVES
                .iter()
                .position(|(n, prefix, _)| n == name || (*prefix && name.starts_with(n)));
            assert_eq!(first, Some(row), "{name}");
        }
    }
}
