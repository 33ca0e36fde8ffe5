//! What a check is worth beside others: the narrower its rule, the more it can find that nothing else does.

use std::collections::BTreeSet;

use otf_artifact::{
    abi::{self, Action},
    analysis::{LegalSet, StackRule},
};

use crate::{bind::Bound, compile::is_wide, tables::Built};

/// From the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// The policy wants a report and no more.
    Reports,
    /// Another check finds the same violation first.
    Seconded,
    /// Any object of a kind of memory is legal, or any function.
    Wide,
    /// Objects of several types are legal, or the object alone that a pointer leads to, whatever it is.
    Several,
    /// Objects of one type, the own frame, or named functions.
    Narrow,
}

impl Worth {
    /// A check that costs so many times more goes before one of weight 1.
    pub(super) fn weight(self) -> f64 {
        match self {
            Self::Reports | Self::Seconded => 1.0,
            Self::Wide => 2.0,
            Self::Several => 4.0,
            Self::Narrow => 8.0,
        }
    }

    /// Why, for people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Reports => "it prevents nothing",
            Self::Seconded => "another check finds the same before",
            Self::Wide => "a wide rule",
            Self::Several => "objects of several types, or the one that its pointer leads to",
            Self::Narrow => "a narrow rule",
        }
    }
}

/// Of a row of [`otf_artifact::bundle::Plan::checked`] with a probe under deny; nothing for one that must stay.
pub(super) fn worth(row: u32, bound: &Bound, built: &Built) -> Option<Worth> {
    let row = row as usize;
    if let Some(entry) = bound.sites.get(row) {
        if entry.action == Action::Audit {
            return Some(Worth::Reports);
        }
        // One with a probe under deny is covered under audit and kill at most: its leader reports.
        if entry.covered.is_some() {
            return Some(Worth::Seconded);
        }
        let set = &bound.legal_sets[entry.legal].set;
        let wide = is_wide(&built.tables.legals[entry.legal], set);
        let same_object = built
            .tables
            .sites
            .get(row)
            .is_some_and(|row| row.pointer != 0);
        return Some(match of_set(set, wide) {
            Worth::Wide if same_object => Worth::Several,
            worth => worth,
        });
    }
    let row = row - bound.sites.len();
    let (entry, call) = bound.calls.get(row).zip(built.tables.calls.get(row))?;
    Some(if entry.action == Action::Audit {
        Worth::Reports
    } else if call.flags & abi::CALL_WEAK != 0 {
        Worth::Wide
    } else {
        Worth::Narrow
    })
}

fn of_set(set: &LegalSet, wide: bool) -> Worth {
    if wide || set.stack == StackRule::Any || set.per_cpu {
        return Worth::Wide;
    }
    let objects: BTreeSet<_> = set.heap.iter().map(|place| place.container).collect();
    if objects.len() + set.globals.len() > 1 {
        Worth::Several
    } else {
        Worth::Narrow
    }
}
