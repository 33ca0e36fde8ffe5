//! Whether the verdict on one write implies that on another one, by their legal sets.
//!
//! A set that the compiler of policies may widen (it has limits, and globals without an address) is
//! taken as wide where it allows the first write, and as it stands where it is to allow the second.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    abi::{MAX_GLOBALS, MAX_PLACES},
    analysis::{Analysis, Family, HeapPlace, LegalSet, StackRule},
    ids::{AllocationSiteId, GlobalId},
    sites::{AllocationProbe, GlobalSymbol, Length, Location, Site},
};

use super::reach::{self, Shift};

/// Longest range that one check covers on behalf of several sites.
const LONGEST: u64 = 4096;

/// What is known of the sets' tables.
pub struct Verdicts<'a> {
    analysis: &'a Analysis,
    sets: &'a [LegalSet],
    /// Probes by the place where they record, and the places of each allocation site.
    records: BTreeMap<&'a Location, Vec<&'a AllocationProbe>>,
    recorded_at: BTreeMap<AllocationSiteId, BTreeSet<&'a Location>>,
    /// Ranges of each global.
    ranges: BTreeMap<GlobalId, usize>,
}

/// A write whose address is another one's plus a distance.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The one that is checked.
    pub leader: &'a Site,
    /// Bytes that the leader's check covers, from its address.
    pub checked: (i64, i64),
    /// The other one.
    pub site: &'a Site,
    /// From the leader's address to that of the other.
    pub distance: i64,
    /// The stack pointer moved between them.
    pub stack_moved: bool,
}

/// Constant bytes of a site.
pub fn bytes(site: &Site) -> Option<i64> {
    match site.length {
        Length::Constant(bytes) => Some(i64::from(bytes)),
        Length::Register(..) => None,
    }
}

impl Pair<'_> {
    fn range(&self) -> Option<(i64, i64)> {
        let end = self.distance.checked_add(bytes(self.site)?)?;
        Some((self.distance, end))
    }

    fn is_inside(&self) -> bool {
        self.range()
            .is_some_and(|(start, end)| self.checked.0 <= start && end <= self.checked.1)
    }

    /// The range that holds both.
    pub fn joined(&self) -> Option<(i64, i64)> {
        let (start, end) = self.range()?;
        let joined = (self.checked.0.min(start), self.checked.1.max(end));
        (joined.1.abs_diff(joined.0) <= LONGEST).then_some(joined)
    }
}

impl<'a> Verdicts<'a> {
    /// Reads the tables.
    pub fn new(
        analysis: &'a Analysis,
        sets: &'a [LegalSet],
        probes: &'a [AllocationProbe],
        symbols: &[GlobalSymbol],
    ) -> Self {
        let mut records: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut recorded_at: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for probe in probes {
            records.entry(&probe.after).or_default().push(probe);
            recorded_at
                .entry(probe.allocation)
                .or_default()
                .insert(&probe.after);
        }
        let mut ranges = BTreeMap::new();
        for symbol in symbols {
            *ranges.entry(symbol.global).or_default() += 1;
        }
        Self {
            analysis,
            sets,
            records,
            recorded_at,
            ranges,
        }
    }

    /// The legal set of a site.
    pub fn set(&self, site: &Site) -> &'a LegalSet {
        &self.sets[site.legal.index()]
    }

    /// Whether the site's check passes whenever the leader's does.
    pub fn implied(&self, pair: &Pair<'_>) -> bool {
        let (from, to) = (self.set(pair.leader), self.set(pair.site));
        let inside = pair.is_inside();
        if from.is_empty() || pair.range().is_none() || !stack_implied(pair, from, to) {
            return false;
        }
        // What has no bounds of its own is implied for the very bytes that were checked, no others.
        if self.is_unbounded(from) && !inside {
            return false;
        }
        let any_heap = self.any_heap(from);
        (!self.any_global(from) || to.any_global.is_some())
            && (to.any_global.is_some() || from.globals.iter().all(|g| to.globals.contains(g)))
            && (!self.per_cpu(from) || to.per_cpu)
            && (!from.user || to.user)
            && (!any_heap || to.any_heap.is_some())
            // Of some objects (KFENCE) only that there are legal ones is looked at.
            && (from.heap.is_empty() || !to.heap.is_empty() || to.any_heap.is_some())
            && (any_heap
                || from
                    .heap
                    .iter()
                    .all(|p| self.place_implied(p, pair, to, inside)))
    }

    /// Whether one check may look at the bytes of both: what healthy code does stays legal.
    pub fn may_join(&self, pair: &Pair<'_>) -> bool {
        let from = self.set(pair.leader);
        let Some(checked) = pair.joined() else {
            return false;
        };
        // Variables, and frames with their saved registers, hold no range of several.
        let plain = !from.user
            && matches!(from.stack, StackRule::None | StackRule::Any)
            && (from.globals.is_empty() || from.any_global.is_some());
        let heap = from.any_heap.is_some()
            || (pair.leader.legal == pair.site.legal && is_one_structure(from));
        plain && heap && self.implied(&Pair { checked, ..*pair })
    }

    /// Whether the check of a per-CPU operand says yes to every address.
    pub fn allows_all(&self, site: &Site) -> bool {
        site.operand.per_cpu && self.set(site).per_cpu
    }

    /// Whether a write of so many bytes at a distance from the start of a fresh object is legal: an
    /// object of `room` bytes of these allocation sites.
    pub fn fresh(
        &self,
        site: &Site,
        distance: u64,
        room: u64,
        made_by: &[AllocationSiteId],
    ) -> bool {
        let Some(length) = bytes(site).map(i64::unsigned_abs) else {
            return false;
        };
        let set = self.set(site);
        let heap = made_by.iter().all(|id| {
            let family = self
                .analysis
                .allocation_sites
                .get(id.index())
                .map(|s| s.family);
            matches!(
                family,
                Some(Family::Slab | Family::Kmalloc | Family::Kvmalloc | Family::Vmalloc)
            )
        });
        let within = distance.checked_add(length).is_some_and(|end| end <= room);
        let places = || {
            set.heap.iter().any(|p| {
                made_by.iter().all(|id| p.allocation_sites.contains(id))
                    && p.object_min <= room
                    && p.object_size.is_none_or(|exact| exact == room)
                    && reach::holds(p, distance, length)
            })
        };
        heap && !made_by.is_empty() && within && (set.any_heap.is_some() || places())
    }

    /// Allows memory whose bounds no check knows.
    fn is_unbounded(&self, set: &LegalSet) -> bool {
        set.stack != StackRule::None
            || !set.passed.is_empty()
            || !set.globals.is_empty()
            || self.any_global(set)
            || self.per_cpu(set)
            || set.user
            || self.any_heap(set)
    }

    fn any_heap(&self, set: &LegalSet) -> bool {
        // A place becomes one row for each kind of cache.
        let kind = |id: &AllocationSiteId| {
            let site = self.analysis.allocation_sites.get(id.index());
            site.map(|s| (s.family, s.cache.as_ref()))
        };
        let kinds = |p: &HeapPlace| -> usize {
            let kinds: BTreeSet<_> = p.allocation_sites.iter().map(kind).collect();
            kinds.len()
        };
        set.any_heap.is_some() || set.heap.iter().map(kinds).sum::<usize>() > MAX_PLACES
    }

    fn any_global(&self, set: &LegalSet) -> bool {
        let rows = |global: &GlobalId| self.ranges.get(global).copied().unwrap_or(0);
        let all: usize = set.globals.iter().map(rows).sum();
        set.any_global.is_some() || all > MAX_GLOBALS || set.globals.iter().any(|g| rows(g) == 0)
    }

    fn per_cpu(&self, set: &LegalSet) -> bool {
        let global = |id: &GlobalId| {
            let global = self.analysis.globals.get(id.index());
            global.is_none_or(|g| g.per_cpu)
        };
        let allocated = |id: &AllocationSiteId| {
            let site = self.analysis.allocation_sites.get(id.index());
            site.is_none_or(|s| s.family == Family::PerCpu)
        };
        set.per_cpu
            || set.globals.iter().any(global)
            || set
                .heap
                .iter()
                .flat_map(|p| &p.allocation_sites)
                .any(allocated)
    }

    /// An object that makes the leader's write legal by this place has one for the site's write.
    fn place_implied(
        &self,
        place: &HeapPlace,
        pair: &Pair<'_>,
        to: &LegalSet,
        inside: bool,
    ) -> bool {
        let (Some(first), Some((start, end))) = (bytes(pair.leader), pair.range()) else {
            return false;
        };
        let checked = pair.checked;
        let shift = Shift {
            // Distances count from where the checked range starts.
            length: (checked.1 - checked.0).max(first).unsigned_abs(),
            start: start - checked.0,
            end: end - checked.0,
        };
        if place.size < shift.length {
            return true;
        }
        let bounded = inside
            || reach::last_byte(place, &shift)
                .is_some_and(|last| last <= place.object_min && self.records_at_least(place, last));
        let lands = to.any_heap.is_some() && reach::first_byte(place, &shift) >= 0
            || to
                .heap
                .iter()
                .any(|q| contains_all(q, place) && reach::lands(place, &shift, q));
        bounded && lands
    }

    /// Every record of such an object says that it has at least so many bytes.
    fn records_at_least(&self, place: &HeapPlace, bytes: u64) -> bool {
        place.allocation_sites.iter().all(|id| {
            let places = self.recorded_at.get(id).into_iter().flatten();
            places.filter_map(|at| self.records.get(at)).all(|probes| {
                let size = probes[0].size;
                probes.iter().all(|p| p.size == size)
                    && match size {
                        Some(size) => bytes <= size,
                        // The record takes the size of the slab object itself.
                        None => probes
                            .iter()
                            .all(|p| p.size_argument.is_none() && p.count_argument.is_none()),
                    }
            })
        })
    }
}

/// Whether two writes at a constant distance are in the same structure: there is only one type, once in
/// each kind of object.
fn is_one_structure(set: &LegalSet) -> bool {
    let containers: BTreeSet<_> = set.heap.iter().map(|p| p.container).collect();
    set.types.len() == 1
        && containers.len() == set.heap.len()
        && set.heap.iter().all(|p| p.dimensions.is_empty())
}

/// The place is legal for whatever objects the other one is.
fn contains_all(place: &HeapPlace, other: &HeapPlace) -> bool {
    place.object_min <= other.object_min
        && (place.object_size.is_none_or(|most| {
            most > 0
                && other
                    .object_size
                    .is_some_and(|size| 0 < size && size <= most)
        }))
        && other
            .allocation_sites
            .iter()
            .all(|id| place.allocation_sites.contains(id))
}

fn stack_implied(pair: &Pair<'_>, from: &LegalSet, to: &LegalSet) -> bool {
    if from.stack == StackRule::None && from.passed.is_empty() {
        return true;
    }
    let same_frame = !pair.stack_moved
        && pair.leader.frame_size == pair.site.frame_size
        && pair.leader.guarded == pair.site.guarded;
    let rule = pair.leader.legal == pair.site.legal
        || (from.passed.iter().all(|o| to.passed.contains(o)) && to.stack == StackRule::Any)
        || (from.passed.is_empty() && to.passed.is_empty() && from.stack == to.stack);
    same_frame && rule
}
