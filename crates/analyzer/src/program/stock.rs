//! Which allocations give out objects of each type, in groups whose objects hold it alike.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use otf_artifact::analysis::{Dimension, Family};
use rustc_hash::FxHashMap as HashMap;

use crate::program::{
    Program, RecordId,
    layout::Layout,
    origins::{Allocation, CallRef, Origins},
};

/// Allocation calls, shared by all places that their objects have.
pub(crate) type Sites = Arc<BTreeSet<CallRef>>;

/// Allocations of a type whose objects hold it alike.
pub(super) struct Group {
    /// How elements of the type repeat in an object.
    pub(super) array: Option<Dimension>,
    /// The objects come from slab caches.
    pub(super) dedicated: bool,
    sites: BTreeSet<CallRef>,
    /// Known sizes of the objects, sorted.
    sizes: Vec<u64>,
    /// The size of some objects is not known.
    unsized_objects: bool,
    /// By the row of the least size, and one more for objects of unknown size alone.
    chosen: Vec<OnceLock<Option<Chosen>>>,
}

/// Allocations of a group whose objects are large enough.
#[derive(Clone)]
pub(super) struct Chosen {
    pub(super) sites: Sites,
    /// Bytes of the smallest object, if all sizes are known.
    pub(super) least: Option<u64>,
    /// Whether that is the size of all.
    pub(super) uniform: bool,
}

impl Group {
    /// Allocations whose objects have at least so many bytes, as far as that is known: an object
    /// that is too small for a place does not hold it.
    pub(super) fn at_least(&self, bytes: u64, origins: &Origins) -> Option<&Chosen> {
        let row = self.sizes.partition_point(|size| *size < bytes);
        let choose = || {
            let fits = |site: &&CallRef| {
                let size = origins.allocations[*site].size;
                size.is_none_or(|size| size >= bytes)
            };
            let sites: BTreeSet<CallRef> = self.sites.iter().filter(fits).copied().collect();
            let least = self.sizes.get(row).filter(|_| !self.unsized_objects);
            (!sites.is_empty()).then(|| Chosen {
                sites: Arc::new(sites),
                least: least.copied(),
                uniform: least.is_some() && row + 1 == self.sizes.len(),
            })
        };
        self.chosen[row].get_or_init(choose).as_ref()
    }
}

/// Allocations of a type.
#[derive(Default)]
pub(super) struct Kinds {
    /// Some objects are per-CPU.
    pub(super) per_cpu: bool,
    pub(super) groups: Vec<Group>,
}

/// Allocations of all types.
pub(super) struct Stock(HashMap<RecordId, Kinds>);

impl Stock {
    pub(super) fn new(program: &Program<'_>, origins: &Origins, layout: &Layout) -> Self {
        let kinds = by_type(program, origins)
            .into_iter()
            .map(|(record, sites)| {
                let kinds = group(program, origins, layout, record, sites);
                (record, kinds)
            });
        Self(kinds.collect())
    }

    /// Allocations of a type, if there are any.
    pub(super) fn of(&self, record: RecordId) -> Option<&Kinds> {
        self.0.get(&record)
    }
}

fn group(
    program: &Program<'_>,
    origins: &Origins,
    layout: &Layout,
    record: RecordId,
    sites: BTreeSet<CallRef>,
) -> Kinds {
    let bytes = program.records[record.0].size;
    let open_ended = layout.is_open_ended(program, record);
    let mut kinds = Kinds::default();
    let mut groups: BTreeMap<(Option<Dimension>, bool), BTreeSet<CallRef>> = BTreeMap::new();
    for site in sites {
        let allocation = &origins.allocations[&site];
        let family = allocation.allocator.family;
        if family == Family::PerCpu {
            kinds.per_cpu = true;
            continue;
        }
        let array = elements(allocation, bytes, open_ended);
        let key = (array, family == Family::Slab);
        groups.entry(key).or_default().insert(site);
    }
    let groups = groups.into_iter().map(|((array, dedicated), sites)| {
        let lengths = || sites.iter().map(|site| origins.allocations[site].size);
        let known: BTreeSet<u64> = lengths().flatten().collect();
        Group {
            array,
            dedicated,
            unsized_objects: lengths().any(|size| size.is_none()),
            chosen: (0..=known.len()).map(|_| OnceLock::new()).collect(),
            sizes: known.into_iter().collect(),
            sites,
        }
    });
    kinds.groups = groups.collect();
    kinds
}

/// Allocations by the types of their objects. An object that is allocated as what it begins with
/// (`struct sock`, `struct tc_action`) and with room for more may be anything that such pointers
/// are cast to.
fn by_type(program: &Program<'_>, origins: &Origins) -> BTreeMap<RecordId, BTreeSet<CallRef>> {
    let mut sites: BTreeMap<RecordId, BTreeSet<CallRef>> = BTreeMap::new();
    for (call, allocation) in &origins.allocations {
        for record in allocation.types.keys() {
            sites.entry(*record).or_default().insert(*call);
        }
    }
    let mut changed = true;
    while changed {
        changed = false;
        for (outer, base) in &origins.downcasts {
            let room = program.records[outer.0].size;
            let fits = |site: &&CallRef| {
                let size = origins.allocations[*site].size;
                size.is_none_or(|s| s >= room)
            };
            let of_base = sites.get(base).into_iter().flatten();
            let inherited: Vec<CallRef> = of_base.filter(fits).copied().collect();
            if !inherited.is_empty() {
                let known = sites.entry(*outer).or_default();
                let before = known.len();
                known.extend(inherited);
                changed |= known.len() != before;
            }
        }
    }
    sites
}

/// How elements of `bytes` bytes repeat in an object: an allocation whose size is not that of one
/// element is an array, unless the type itself has no end.
fn elements(allocation: &Allocation, bytes: u64, open_ended: bool) -> Option<Dimension> {
    if open_ended || bytes == 0 {
        return None;
    }
    let count = match allocation.size {
        Some(size) if size < bytes * 2 => return None,
        Some(size) => size / bytes,
        // Dedicated caches hold one object each.
        None if allocation.allocator.family == Family::Slab => return None,
        None => 0,
    };
    Some(Dimension {
        stride: bytes,
        count,
    })
}
