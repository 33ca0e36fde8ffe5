//! Rows of allocation sites and the probes that record provenance.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    abi,
    analysis::{AllocationSite, Family},
    bundle::{Probe, Program},
    diagnostic::{Code, Diagnostic},
    ids::AllocationSiteId,
    sites::{Location, Sites},
};

/// Rows that the bitmap of a place can name.
pub const MAX_ROWS: usize = 64 * abi::ALLOC_WORDS;
/// No argument register.
const NO_ARGUMENT: u8 = 0xff;

/// What is recorded about allocations.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// Rows. One machine call can stand for several allocation sites of the source, which were
    /// merged: a row is one set of them.
    pub rows: Vec<AllocationRow>,
    /// Probes at the calls, then after them; cookies are rows.
    pub probes: Vec<Probe>,
    /// Allocation sites whose every object has a record.
    tracked: BTreeSet<AllocationSiteId>,
}

/// A row of `otf_allocs`.
#[derive(Clone, Debug)]
pub struct AllocationRow {
    /// Allocation sites that the call may be.
    pub members: BTreeSet<AllocationSiteId>,
    /// The row.
    pub row: abi::Alloc,
}

impl Provenance {
    /// Rows and probes for the allocation sites that places use. Beyond [`MAX_ROWS`] rows the last
    /// ones are dropped with a warning: objects of their sites are judged by layout alone.
    pub fn new(
        wanted: &BTreeSet<AllocationSiteId>,
        sites: &Sites,
        warnings: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut calls: BTreeMap<&Location, (&Location, BTreeSet<AllocationSiteId>)> =
            BTreeMap::new();
        for probe in &sites.allocation_probes {
            let call = calls
                .entry(&probe.after)
                .or_insert((&probe.call, BTreeSet::new()));
            call.1.insert(probe.allocation);
        }
        calls.retain(|_, (_, members)| !members.is_disjoint(wanted));
        let sets: BTreeSet<_> = calls.values().map(|(_, members)| members.clone()).collect();
        if sets.len() > MAX_ROWS {
            warnings.push(Diagnostic::warning(
                Code::PolicyTooLarge,
                format!("{} allocation calls, of which {MAX_ROWS} can be told apart: objects of the others are judged by layout alone", sets.len()),
            ).help("split the compartment"));
        }
        let rows: BTreeMap<_, usize> = sets
            .iter()
            .take(MAX_ROWS)
            .enumerate()
            .map(|(row, members)| (members, row))
            .collect();
        let mut this = Self {
            rows: sets
                .iter()
                .take(MAX_ROWS)
                .map(|members| allocation_row(members, sites))
                .collect(),
            probes: Vec::new(),
            tracked: sets.iter().flatten().copied().collect(),
        };
        for untracked in &sites.untracked_allocations {
            this.tracked.remove(&untracked.allocation);
        }
        for dropped in sets.iter().skip(MAX_ROWS).flatten() {
            this.tracked.remove(dropped);
        }
        this.add_probes(&calls, &rows);
        this
    }

    fn add_probes(
        &mut self,
        calls: &BTreeMap<&Location, (&Location, BTreeSet<AllocationSiteId>)>,
        rows: &BTreeMap<&BTreeSet<AllocationSiteId>, usize>,
    ) {
        let mut returns = Vec::new();
        for (after, (call, members)) in calls {
            let Some(row) = rows.get(members).copied() else {
                continue;
            };
            let cookie = row as u64;
            let probe = |program, location: &Location| Probe {
                program,
                location: location.clone(),
                cookie,
            };
            returns.push(probe(Program::AllocationReturn, after));
            let alloc = self.rows[row].row;
            if alloc.size == 0 && alloc.size_arg != NO_ARGUMENT {
                self.probes.push(probe(Program::AllocationCall, call));
            }
        }
        // Calls are attached before returns, so that no return waits for a size that was not noted.
        self.probes.append(&mut returns);
    }

    /// Bits of the rows that may produce an object of these allocation sites. All zero, which
    /// means no provenance, when an object could come from a call that is not recorded.
    pub fn bitmap<'a>(
        &self,
        allocation_sites: impl Iterator<Item = &'a AllocationSiteId> + Clone,
    ) -> [u64; abi::ALLOC_WORDS] {
        let mut words = [0; abi::ALLOC_WORDS];
        if !allocation_sites
            .clone()
            .all(|site| self.tracked.contains(site))
        {
            return words;
        }
        let allowed: BTreeSet<_> = allocation_sites.copied().collect();
        for (row, allocation) in self.rows.iter().enumerate() {
            if !allocation.members.is_disjoint(&allowed) {
                words[row / 64] |= 1 << (row % 64);
            }
        }
        words
    }
}

fn allocation_row(members: &BTreeSet<AllocationSiteId>, sites: &Sites) -> AllocationRow {
    let members_of: Vec<&AllocationSite> = members
        .iter()
        .filter_map(|id| sites.analysis.allocation_sites.get(id.index()))
        .collect();
    let size_arg = argument(common(members_of.iter().map(|a| a.size_argument)).flatten());
    let count_arg = common(members_of.iter().map(|a| a.count_argument));
    let row = abi::Alloc {
        size: common(members_of.iter().map(|a| a.size))
            .flatten()
            .unwrap_or(0),
        // A count that is not known cannot be left out: the size would be too small.
        size_arg: match count_arg {
            Some(None) => size_arg,
            Some(count) if argument(count) != NO_ARGUMENT => size_arg,
            _ => NO_ARGUMENT,
        },
        count_arg: argument(count_arg.flatten()),
        is_order: u8::from(members_of.iter().any(|a| a.family == Family::Pages)),
        pad: [0; 5],
    };
    AllocationRow {
        members: members.clone(),
        row,
    }
}

/// The value that all have, if they have the same.
fn common<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

fn argument(index: Option<u8>) -> u8 {
    index.filter(|index| *index < 6).unwrap_or(NO_ARGUMENT)
}
