//! How many things of each kind may be held: intervals.

use crate::locks::{Effect, Held, KINDS};

/// Beyond this many the count is given up: it stays unknown.
const MOST: i8 = 4;

/// Least and greatest number of things held, per kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub [(i8, i8); KINDS]);

impl Counts {
    pub fn join(&mut self, other: &Self) -> bool {
        let before = *self;
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (mine.0.min(theirs.0), mine.1.max(theirs.1));
        }
        *self != before
    }

    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = *self;
        for (mine, theirs) in sum.0.iter_mut().zip(&other.0) {
            *mine = (add(mine.0, theirs.0, -MOST), add(mine.1, theirs.1, MOST));
        }
        sum
    }

    pub fn apply(&self, effect: Effect) -> Self {
        let mut change = Self::default();
        match effect {
            Effect::Acquire(kind) => change.0[kind as usize] = (1, 1),
            Effect::TryAcquire(kind, _) => change.0[kind as usize] = (0, 1),
            Effect::Release(kind) => change.0[kind as usize] = (-1, -1),
        }
        self.plus(&change)
    }

    /// After an attempt that may have succeeded, where it is known whether it did.
    pub fn settled(&self, kind: Held, acquired: bool) -> Self {
        let mut change = Self::default();
        change.0[kind as usize] = if acquired { (1, 0) } else { (0, -1) };
        self.plus(&change)
    }

    pub fn first_held(&self) -> Option<Held> {
        self.held().next()
    }

    /// How many RCU read sides and disablings of bottom halves are held, where these are exactly
    /// known and nothing else is held (but for interrupts disabled).
    pub fn releasable(&self) -> Option<(u8, u8)> {
        let only = |kind: Held| matches!(kind, Held::Rcu | Held::Bh | Held::Irq);
        let exact = |kind: Held| match self.0[kind as usize] {
            (least, most) if least == most && (0..MOST).contains(&least) => {
                u8::try_from(least).ok()
            }
            _ => None,
        };
        if !self.held().all(only) {
            return None;
        }
        Some((exact(Held::Rcu)?, exact(Held::Bh)?))
    }

    /// Kinds of which something may be held, or given away.
    pub fn held(&self) -> impl Iterator<Item = Held> + '_ {
        let changed = |kind: &Held| self.0[*kind as usize] != (0, 0);
        Held::ALL.into_iter().filter(changed)
    }
}

/// Adds one end of two intervals; `limit` stands for "unknown" on that side and is never left.
fn add(a: i8, b: i8, limit: i8) -> i8 {
    if a == limit || b == limit {
        limit
    } else {
        (a + b).clamp(-MOST, MOST)
    }
}

/// Joins into what may be unreached yet; says whether it changed.
pub fn merge(into: &mut Option<Counts>, from: &Counts) -> bool {
    if let Some(counts) = into {
        counts.join(from)
    } else {
        *into = Some(*from);
        true
    }
}
