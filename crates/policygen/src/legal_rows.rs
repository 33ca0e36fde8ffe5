//! Legal sets as rows: places by cache kind, ranges of globals, flags.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    abi,
    analysis::{Family, HeapPlace, LegalSet},
    bundle::GlobalBinding,
    diagnostic::{Code, Diagnostic},
    ids::{AllocationSiteId, GlobalId},
    sites::Sites,
};

use crate::{bind_legal::BoundLegal, passed::Entries, provenance::Provenance};

/// Rows of legal sets, and what they refer to.
#[derive(Clone, Debug, Default)]
pub struct LegalRows {
    /// `otf_legals`.
    pub legals: Vec<abi::Legal>,
    /// `otf_places`.
    pub places: Vec<abi::Place>,
    /// `otf_passed_objects`.
    pub passed: Vec<abi::Passed>,
    /// `otf_global_rows`: rows of [`Self::globals`].
    pub global_rows: Vec<u32>,
    /// Ranges for the loader to bind.
    pub globals: Vec<GlobalBinding>,
    /// Names of dedicated caches.
    pub caches: Vec<String>,
}

/// Makes the rows. What exceeds a limit is widened with a warning, never left out.
pub fn legal_rows(
    sets: &[BoundLegal],
    sites: &Sites,
    provenance: &Provenance,
    entries: &Entries<'_>,
    warnings: &mut Vec<Diagnostic>,
) -> LegalRows {
    let used: BTreeSet<GlobalId> = sets.iter().flat_map(|s| &s.set.globals).copied().collect();
    let (globals, rows_of_global) = bind_globals(&used, sites);
    let caches = dedicated_caches(sets, sites);
    let mut builder = Builder {
        sites,
        provenance,
        entries,
        rows_of_global,
        rows: LegalRows {
            globals,
            caches,
            ..LegalRows::default()
        },
    };
    for set in sets {
        builder.add(set, warnings);
    }
    builder.rows
}

/// Ranges of globals in the image; per-CPU ones have none.
fn bind_globals(
    used: &BTreeSet<GlobalId>,
    sites: &Sites,
) -> (Vec<GlobalBinding>, BTreeMap<GlobalId, Vec<u32>>) {
    let mut bindings = Vec::new();
    let mut rows: BTreeMap<GlobalId, Vec<u32>> = BTreeMap::new();
    for symbol in sites
        .global_symbols
        .iter()
        .filter(|s| used.contains(&s.global))
    {
        let Some(global) = sites.analysis.globals.get(symbol.global.index()) else {
            continue;
        };
        if global.per_cpu {
            continue;
        }
        rows.entry(symbol.global)
            .or_default()
            .push(bindings.len() as u32);
        bindings.push(GlobalBinding {
            image: symbol.location.image,
            symbol: global.symbol.clone(),
            location: symbol.location.clone(),
            size: symbol.size,
        });
    }
    (bindings, rows)
}

/// Names of dedicated caches, sorted.
fn dedicated_caches(sets: &[BoundLegal], sites: &Sites) -> Vec<String> {
    let used: BTreeSet<&String> = sets
        .iter()
        .flat_map(|s| &s.set.heap)
        .flat_map(|place| &place.allocation_sites)
        .filter_map(|id| sites.analysis.allocation_sites.get(id.index()))
        .filter(|site| site.family == Family::Slab)
        .filter_map(|site| site.cache.as_ref())
        .collect();
    used.into_iter().cloned().collect()
}

struct Builder<'a> {
    sites: &'a Sites,
    provenance: &'a Provenance,
    entries: &'a Entries<'a>,
    rows_of_global: BTreeMap<GlobalId, Vec<u32>>,
    rows: LegalRows,
}

impl Builder<'_> {
    fn add(&mut self, BoundLegal { id, set }: &BoundLegal, warnings: &mut Vec<Diagnostic>) {
        let mut warn = |message: String| {
            let warning = Diagnostic::warning(Code::PolicyTooLarge, message);
            warnings.push(warning.help("narrow the set, or split the compartment"));
        };
        let mut flags = flags_of(set);
        let (mut places, per_cpu) = self.places(set);
        if places.len() > abi::MAX_PLACES {
            warn(format!(
                "legal set {id} has {} heap places, more than {}: widened to any heap object",
                places.len(),
                abi::MAX_PLACES
            ));
            flags |= abi::LEGAL_ANY_HEAP;
        }
        if flags & abi::LEGAL_ANY_HEAP != 0 {
            places.clear();
        }
        if places.iter().any(|p| p.allocations.iter().any(|w| *w != 0)) {
            flags |= abi::LEGAL_TRACKED;
        }
        let mut globals: Vec<u32> = Vec::new();
        for global in &set.globals {
            match self.rows_of_global.get(global) {
                Some(rows) => globals.extend(rows),
                None if self.is_per_cpu(*global) => flags |= abi::LEGAL_PERCPU,
                None => {
                    let name = self.sites.analysis.globals.get(global.index());
                    let name = name.map_or("?", |g| g.symbol.as_str());
                    warn(format!(
                        "global {name} of legal set {id} has no address: widened to any global"
                    ));
                    flags |= abi::LEGAL_ANY_GLOBAL;
                }
            }
        }
        globals.sort_unstable();
        globals.dedup();
        if globals.len() > abi::MAX_GLOBALS {
            warn(format!(
                "legal set {id} has {} globals, more than {}: widened to any global",
                globals.len(),
                abi::MAX_GLOBALS
            ));
            flags |= abi::LEGAL_ANY_GLOBAL;
            globals.clear();
        }
        if per_cpu {
            flags |= abi::LEGAL_PERCPU;
        }
        let mut on_stacks = self.entries.on_stacks(set);
        self.rows.legals.push(abi::Legal {
            first_place: self.rows.places.len() as u32,
            places: places.len() as u32,
            first_global: self.rows.global_rows.len() as u32,
            globals: globals.len() as u32,
            first_passed: self.rows.passed.len() as u32,
            passed: on_stacks.objects.len() as u8,
            otherwise: on_stacks.otherwise as u8,
            stack: on_stacks.stack as u8,
            flags,
        });
        self.rows.passed.append(&mut on_stacks.objects);
        self.rows.places.append(&mut places);
        self.rows.global_rows.append(&mut globals);
    }

    fn is_per_cpu(&self, global: GlobalId) -> bool {
        self.sites
            .analysis
            .globals
            .get(global.index())
            .is_some_and(|g| g.per_cpu)
    }

    /// Rows of the heap places without those that another one covers, and whether one of them is per-CPU memory.
    fn places(&self, set: &LegalSet) -> (Vec<abi::Place>, bool) {
        let mut rows = Vec::new();
        let mut per_cpu = false;
        for place in &set.heap {
            let mut kinds: BTreeMap<u32, Vec<AllocationSiteId>> = BTreeMap::new();
            for id in &place.allocation_sites {
                match self.cache_of(*id) {
                    Some(cache) => kinds.entry(cache).or_default().push(*id),
                    None => per_cpu = true,
                }
            }
            rows.extend(
                kinds
                    .iter()
                    .map(|(cache, sites)| self.place_row(place, *cache, sites)),
            );
        }
        (merge(rows), per_cpu)
    }

    /// Row of `otf_caches` or `OTF_CACHE_*` for the objects of an allocation site; `None` for per-CPU memory.
    fn cache_of(&self, id: AllocationSiteId) -> Option<u32> {
        let Some(site) = self.sites.analysis.allocation_sites.get(id.index()) else {
            return Some(abi::CACHE_ANY);
        };
        Some(match (site.family, &site.cache) {
            (Family::Slab, Some(name)) => self
                .rows
                .caches
                .binary_search(name)
                .map_or(abi::CACHE_ANY, |row| row as u32),
            (Family::Slab, None) => abi::CACHE_ANY,
            (Family::Kmalloc | Family::Kvmalloc, _) => abi::CACHE_GENERAL,
            (Family::Vmalloc | Family::Pages, _) => abi::CACHE_NONE,
            (Family::PerCpu, _) => return None,
        })
    }

    fn place_row(&self, place: &HeapPlace, cache: u32, sites: &[AllocationSiteId]) -> abi::Place {
        let mut row = abi::Place {
            offset: place.offset,
            size: place.size,
            object_min: place.object_min,
            object_max: place.object_size.unwrap_or(0),
            allocations: self.provenance.bitmap(sites.iter()),
            cache,
            ..abi::Place::default()
        };
        for (slot, dimension) in place.dimensions.iter().take(row.stride.len()).enumerate() {
            row.stride[slot] = dimension.stride;
            row.count[slot] = dimension.count;
        }
        row
    }
}

fn flags_of(set: &LegalSet) -> u8 {
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    flag(set.any_heap.is_some(), abi::LEGAL_ANY_HEAP)
        | flag(set.any_global.is_some(), abi::LEGAL_ANY_GLOBAL)
        | flag(set.per_cpu, abi::LEGAL_PERCPU)
        | flag(set.user, abi::LEGAL_USER)
}

/// Unites places that differ only in allocation sites, then drops each one that another covers.
fn merge(mut rows: Vec<abi::Place>) -> Vec<abi::Place> {
    let geometry = |p: &abi::Place| {
        (
            p.cache,
            p.offset,
            p.stride,
            p.count,
            p.object_min,
            p.object_max,
            p.size,
        )
    };
    rows.sort_by_key(geometry);
    rows.dedup_by(|later, kept| {
        let same = geometry(later) == geometry(kept);
        if same {
            kept.allocations = unite(kept.allocations, later.allocations);
        }
        same
    });
    let all = rows.clone();
    rows.retain(|row| !all.iter().any(|other| other != row && covers(other, row)));
    rows
}

fn unite(a: [u64; abi::ALLOC_WORDS], b: [u64; abi::ALLOC_WORDS]) -> [u64; abi::ALLOC_WORDS] {
    // Without provenance on one side any object is allowed.
    if a == [0; abi::ALLOC_WORDS] || b == [0; abi::ALLOC_WORDS] {
        return [0; abi::ALLOC_WORDS];
    }
    std::array::from_fn(|k| a[k] | b[k])
}

/// Whether everything that `narrow` allows is allowed by `wide`, a place without dimensions.
fn covers(wide: &abi::Place, narrow: &abi::Place) -> bool {
    let end = |p: &abi::Place| p.offset.saturating_add(p.size);
    wide.stride == [0; 2]
        && narrow.stride == [0; 2]
        && wide.cache == narrow.cache
        && wide.offset <= narrow.offset
        && end(narrow) <= end(wide)
        && wide.object_min <= narrow.object_min
        && (wide.object_max == 0
            || (narrow.object_max != 0 && narrow.object_max <= wide.object_max))
        && unite(wide.allocations, narrow.allocations) == wide.allocations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64, size: u64, bits: u64) -> abi::Place {
        let mut row = abi::Place {
            offset,
            size,
            cache: abi::CACHE_GENERAL,
            ..abi::Place::default()
        };
        row.allocations[0] = bits;
        row
    }

    #[test]
    fn the_same_geometry_unites_its_allocation_sites() {
        assert_eq!(
            merge(vec![place(8, 8, 1), place(8, 8, 2)]),
            [place(8, 8, 3)]
        );
        // One of them has no provenance: neither has the union.
        assert_eq!(
            merge(vec![place(8, 8, 0), place(8, 8, 2)]),
            [place(8, 8, 0)]
        );
    }

    #[test]
    fn a_covered_place_is_dropped_and_only_that() {
        assert_eq!(
            merge(vec![place(8, 8, 1), place(0, 64, 3)]),
            [place(0, 64, 3)]
        );
        assert_eq!(
            merge(vec![place(8, 8, 1), place(0, 64, 0)]),
            [place(0, 64, 0)]
        );
        // Other objects, or beyond its end: both stay.
        assert_eq!(merge(vec![place(8, 8, 4), place(0, 64, 3)]).len(), 2);
        assert_eq!(merge(vec![place(60, 8, 1), place(0, 64, 3)]).len(), 2);
        let exact = abi::Place {
            object_max: 64,
            ..place(0, 64, 3)
        };
        assert_eq!(merge(vec![place(8, 8, 1), exact]).len(), 2);
    }
}
