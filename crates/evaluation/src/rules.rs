//! What a legal set admits, object class by object class, as `otf_check` decides it.

use std::collections::BTreeSet;

use otf_artifact::{
    analysis::{Family, HeapPlace, LegalSet, StackRule},
    ids::AllocationSiteId,
    recording::{CodePlace, Pair, Recording, SeenObject, Side},
    sites::Sites,
};

use crate::{
    allocations::{Allocations, address, address_of, is_carved},
    judgement::Why,
    layout::Write,
};

/// How a legal write is legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Legal {
    /// By a rule that names it.
    Named,
    /// By a wide rule, or a rule that lacks a limit which is not known, alone.
    Wide,
    /// By layout: the object is older than the recording.
    Older,
}

/// What a judgement looks things up in.
pub(crate) struct Context<'a> {
    pub sites: &'a Sites,
    pub recording: &'a Recording,
    pub allocations: &'a Allocations<'a>,
}

type Verdict = Result<Legal, Why>;

/// Named by the set, or admitted by a wide rule, or not.
fn known(named: bool, wide: bool, why: Why) -> Verdict {
    if named {
        Ok(Legal::Named)
    } else if wide {
        Ok(Legal::Wide)
    } else {
        Err(why)
    }
}

impl Context<'_> {
    pub(crate) fn verdict(&self, set: &LegalSet, pair: &Pair) -> Verdict {
        match &pair.object {
            SeenObject::Stack { alive, frame, gate } => {
                stack(set.stack_without_notes(), *alive, *frame, *gate)
            }
            SeenObject::Global(place) => self.global(set, place, pair.length),
            SeenObject::PerCpu => {
                let named = self.per_cpu(set);
                known(named, set.any_heap.is_some(), Why::Class)
            }
            SeenObject::User => known(set.user, false, Why::Class),
            SeenObject::Kfence => {
                let heap = set.any_heap.is_some() || !set.heap.is_empty();
                known(false, heap, Why::Class)
            }
            SeenObject::PageStruct => known(false, set.any_heap.is_some(), Why::Address),
            SeenObject::Other => Err(Why::Address),
            SeenObject::Slab { .. } | SeenObject::Pages { .. } | SeenObject::Vmalloc { .. } => {
                self.heap(set, pair)
            }
        }
    }

    /// Also by a per-CPU variable or allocation that the set names.
    fn per_cpu(&self, set: &LegalSet) -> bool {
        let analysis = &self.sites.analysis;
        let variable = |id: &otf_artifact::ids::GlobalId| {
            analysis.globals.get(id.index()).is_some_and(|g| g.per_cpu)
        };
        let allocated = set.heap.iter().flat_map(|place| &place.allocation_sites);
        set.per_cpu
            || set.globals.iter().any(variable)
            || allocated
                .copied()
                .any(|id| self.family(id) == Some(Family::PerCpu))
    }

    fn family(&self, id: AllocationSiteId) -> Option<Family> {
        let site = self.sites.analysis.allocation_sites.get(id.index());
        site.map(|site| site.family)
    }

    fn global(&self, set: &LegalSet, place: &CodePlace, length: u64) -> Verdict {
        let (image, section, start) = address(place);
        let end = start.saturating_add(length);
        let wanted: BTreeSet<_> = set.globals.iter().collect();
        let mut placed = BTreeSet::new();
        for symbol in self
            .sites
            .global_symbols
            .iter()
            .filter(|s| wanted.contains(&s.global))
        {
            placed.insert(&symbol.global);
            if let Some((of, within, first)) = address_of(self.sites, &symbol.location)
                && (of, within) == (image, section)
                && start >= first
                && end <= first.saturating_add(symbol.size)
            {
                return Ok(Legal::Named);
            }
        }
        // A global without an address is checked as any global.
        let unplaced = set.globals.iter().any(|id| {
            let known = self.sites.analysis.globals.get(id.index());
            !placed.contains(id) && known.is_some_and(|g| !g.per_cpu)
        });
        if set.any_global.is_some() || unplaced {
            Ok(Legal::Wide)
        } else {
            Err(Why::Global)
        }
    }

    fn heap(&self, set: &LegalSet, pair: &Pair) -> Verdict {
        let heap = Heap::of(&pair.object);
        let Some(size) = heap.size else {
            // Bounds unknown: another task's stack, a per-CPU chunk, an old area.
            return if set.any_heap.is_some()
                || self.per_cpu(set)
                || set.stack_without_notes() == StackRule::Any
            {
                Ok(Legal::Wide)
            } else if set.heap.is_empty() {
                Err(Why::Class)
            } else {
                Ok(Legal::Older)
            };
        };
        let write = Write {
            offset: pair.offset,
            length: pair.length,
            size,
            padded: heap.general,
        };
        if !write.is_inside() {
            return Err(Why::Bounds);
        }
        if set.any_heap.is_some() {
            return Ok(Legal::Wide);
        }
        let seen = heap
            .allocated_at
            .and_then(|id| self.recording.allocations.get(id.index()));
        if heap.cache.is_none() && seen.is_none() && self.per_cpu(set) {
            return Ok(Legal::Wide);
        }
        if set.heap.is_empty() {
            return Err(Why::Class);
        }
        if heap.cache.is_none() && seen.is_some_and(is_carved) {
            let pages = set.heap.iter().flat_map(|place| &place.allocation_sites);
            let from_pages = pages
                .copied()
                .any(|id| self.family(id) == Some(Family::Pages));
            return if from_pages {
                Ok(Legal::Wide)
            } else {
                Err(Why::Provenance)
            };
        }
        let fitting: BTreeSet<AllocationSiteId> = set
            .heap
            .iter()
            .filter(|place| write.fits(place))
            .flat_map(|place| self.sites_of_kind(place, &heap))
            .collect();
        if fitting.is_empty() {
            return Err(Why::Layout);
        }
        let Some(seen) = seen else {
            return Ok(Legal::Older);
        };
        if fitting.iter().any(|id| self.allocations.is_untracked(*id)) {
            return Ok(Legal::Wide);
        }
        if !self.allocations.of(seen).any(|id| fitting.contains(&id)) {
            return Err(Why::Provenance);
        }
        match pair.rest {
            Some(rest) if rest < 0 => Err(Why::Bounds),
            _ => Ok(Legal::Named),
        }
    }

    /// Allocation sites of a place whose objects lie in this kind of memory.
    fn sites_of_kind<'p>(
        &'p self,
        place: &'p HeapPlace,
        heap: &'p Heap<'_>,
    ) -> impl Iterator<Item = AllocationSiteId> {
        place
            .allocation_sites
            .iter()
            .copied()
            .filter(move |id| self.is_of_kind(*id, heap))
    }

    fn is_of_kind(&self, id: AllocationSiteId, heap: &Heap<'_>) -> bool {
        let Some(site) = self.sites.analysis.allocation_sites.get(id.index()) else {
            return true;
        };
        match (site.family, &site.cache, heap.cache) {
            (Family::Slab, Some(name), Some(cache)) => {
                let names = self.recording.caches.get(cache);
                cache == name || names.is_some_and(|names| names.contains(name))
            }
            (Family::Kmalloc | Family::Kvmalloc, _, Some(_)) => heap.general,
            (Family::Slab, None, Some(_))
            | (Family::Kmalloc | Family::Kvmalloc | Family::Vmalloc | Family::Pages, _, None) => {
                true
            }
            _ => false,
        }
    }
}

/// What is common to heap objects.
struct Heap<'a> {
    /// `None` for pages and vmalloc.
    cache: Option<&'a str>,
    general: bool,
    size: Option<u64>,
    allocated_at: Option<otf_artifact::ids::SeenAllocationId>,
}

impl<'a> Heap<'a> {
    fn of(object: &'a SeenObject) -> Self {
        match object {
            SeenObject::Slab {
                cache,
                object_size,
                general,
                allocated_at,
            } => Self {
                cache: Some(cache),
                general: *general,
                size: Some(*object_size),
                allocated_at: *allocated_at,
            },
            SeenObject::Pages {
                object_size,
                allocated_at,
            }
            | SeenObject::Vmalloc {
                object_size,
                allocated_at,
            } => Self {
                cache: None,
                general: false,
                size: *object_size,
                allocated_at: *allocated_at,
            },
            _ => Self {
                cache: None,
                general: false,
                size: None,
                allocated_at: None,
            },
        }
    }
}

fn stack(rule: StackRule, alive: bool, frame: Side, gate: Side) -> Verdict {
    if !alive {
        return Err(Why::Stack);
    }
    match (rule, frame, gate) {
        (StackRule::Own, Side::Within, _) | (StackRule::Compartment, _, Side::Within) => {
            Ok(Legal::Named)
        }
        (StackRule::Own, Side::Unknown, _)
        | (StackRule::Compartment, _, Side::Unknown)
        | (StackRule::Any, ..) => Ok(Legal::Wide),
        _ => Err(Why::Stack),
    }
}
