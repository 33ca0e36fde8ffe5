//! Rows of allocation sites and the probes that record provenance.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use otf_artifact::{
    abi,
    bundle::{Probe, Program},
    diagnostic::{Code, Diagnostic},
    ids::AllocationSiteId,
    sites::{AllocationProbe, Location, Sites},
};

/// Rows that the bitmap of a place can name.
pub const MAX_ROWS: usize = 64 * abi::ALLOC_WORDS;
/// Registers that pass arguments.
const ARGUMENT_REGISTERS: u8 = 6;
/// No argument register.
const NO_ARGUMENT: u8 = 0xff;

/// What is recorded about allocations.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// Rows, sorted. One machine call can stand for several allocation sites of the source, which
    /// were merged: a row is one set of them with one size.
    pub rows: Vec<AllocationRow>,
    /// Probes at the calls, then after them; cookies are rows.
    pub probes: Vec<Probe>,
    /// Allocation sites whose every object has a record.
    tracked: BTreeSet<AllocationSiteId>,
}

/// A row of `otf_allocs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationRow {
    /// Allocation sites that the call may be.
    pub members: BTreeSet<AllocationSiteId>,
    /// The row.
    pub row: abi::Alloc,
}

impl AllocationRow {
    fn key(&self) -> (&BTreeSet<AllocationSiteId>, (u64, u8, u8, u8)) {
        let abi::Alloc {
            size,
            size_arg,
            count_arg,
            is_order,
            ..
        } = self.row;
        (&self.members, (size, size_arg, count_arg, is_order))
    }
}

impl Ord for AllocationRow {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for AllocationRow {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Provenance {
    /// Rows and probes for the allocation sites that places use. Beyond [`MAX_ROWS`] rows the last
    /// ones are dropped with a warning: objects of their sites are judged by layout alone.
    pub fn new(
        wanted: &BTreeSet<AllocationSiteId>,
        sites: &Sites,
        warnings: &mut Vec<Diagnostic>,
    ) -> Self {
        let calls: Vec<Call<'_>> = calls(sites)
            .into_iter()
            .filter(|call| !call.row.members.is_disjoint(wanted))
            .collect();
        let distinct: BTreeSet<&AllocationRow> = calls.iter().map(|call| &call.row).collect();
        if distinct.len() > MAX_ROWS {
            let message = format!(
                "{} kinds of allocation calls, of which {MAX_ROWS} can be told apart: objects of \
                 the others are judged by layout alone",
                distinct.len()
            );
            warnings.push(
                Diagnostic::warning(Code::PolicyTooLarge, message).help("split the compartment"),
            );
        }
        let mut tracked: BTreeSet<_> = distinct
            .iter()
            .flat_map(|row| &row.members)
            .copied()
            .collect();
        for untracked in &sites.untracked_allocations {
            tracked.remove(&untracked.allocation);
        }
        for dropped in distinct.iter().skip(MAX_ROWS).flat_map(|row| &row.members) {
            tracked.remove(dropped);
        }
        let rows: Vec<AllocationRow> = distinct.into_iter().take(MAX_ROWS).cloned().collect();
        Self {
            probes: probes(&calls, &rows),
            rows,
            tracked,
        }
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

/// A machine call and what it allocates.
struct Call<'a> {
    at: &'a Location,
    after: &'a Location,
    row: AllocationRow,
}

/// The calls by place, each with all allocation sites that were merged into it.
fn calls(sites: &Sites) -> Vec<Call<'_>> {
    let mut places: BTreeMap<&Location, Vec<&AllocationProbe>> = BTreeMap::new();
    for probe in &sites.allocation_probes {
        places.entry(&probe.after).or_default().push(probe);
    }
    places
        .into_iter()
        .filter_map(|(after, probes)| {
            let at = &probes.first()?.call;
            let members = probes.iter().map(|p| p.allocation).collect();
            let row = alloc_row(&probes);
            Some(Call {
                at,
                after,
                row: AllocationRow { members, row },
            })
        })
        .collect()
}

/// Calls are attached before returns, so that no return waits for a size that was not noted.
fn probes(calls: &[Call<'_>], rows: &[AllocationRow]) -> Vec<Probe> {
    let mut probes = Vec::new();
    let mut returns = Vec::new();
    for call in calls {
        let Ok(row) = rows.binary_search(&call.row) else {
            continue;
        };
        let probe = |program, location: &Location| Probe {
            program,
            location: location.clone(),
            cookie: row as u64,
            room: None,
        };
        returns.push(probe(Program::AllocationReturn, call.after));
        // Where the size is known too: another path may lead behind the call without it.
        probes.push(probe(Program::AllocationCall, call.at));
    }
    probes.append(&mut returns);
    probes
}

fn alloc_row(probes: &[&AllocationProbe]) -> abi::Alloc {
    let size_arg = argument(common(probes.iter().map(|p| p.size_argument)).flatten());
    let count = common(probes.iter().map(|p| p.count_argument));
    let is_order = common(probes.iter().map(|p| p.is_order));
    // What is not known of the factors cannot be left out: the size would be too small.
    let computable = is_order.is_some()
        && match count {
            Some(None) => true,
            Some(count) => argument(count) != NO_ARGUMENT,
            None => false,
        };
    abi::Alloc {
        size: common(probes.iter().map(|p| p.size)).flatten().unwrap_or(0),
        size_arg: if computable { size_arg } else { NO_ARGUMENT },
        count_arg: argument(count.flatten()),
        is_order: u8::from(is_order == Some(true)),
        pad: [0; 5],
    }
}

/// The value that all have, if they have the same.
fn common<T: PartialEq>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.all(|value| value == first).then_some(first)
}

fn argument(index: Option<u8>) -> u8 {
    index
        .filter(|index| *index < ARGUMENT_REGISTERS)
        .unwrap_or(NO_ARGUMENT)
}
