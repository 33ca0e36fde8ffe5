//! What the source says behind a site; types and allocations of a compartment.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    analysis::{AllocationSite, Analysis, HeapPlace, ObjectType},
    ids::{AllocationSiteId, LegalSetId, ObjectTypeId},
    sites::{Site, Sites},
};

/// Lines of one kind that are spelled out.
const MOST: usize = 12;

/// How the source makes the address, for the innermost frames whose line holds a write.
pub fn pointers(source: &Analysis, site: &Site) -> Vec<String> {
    let writes = site.chain.iter().map(|frame| {
        let function = source
            .functions
            .iter()
            .find(|f| f.name == frame.function && f.file == frame.file);
        let writes = function.into_iter().flat_map(|f| &f.writes);
        let here = writes.filter(|w| w.line == frame.line);
        let exact: Vec<_> = here
            .clone()
            .filter(|w| frame.column > 0 && w.column == frame.column)
            .collect();
        let chosen = if exact.is_empty() {
            here.collect()
        } else {
            exact
        };
        (frame, chosen)
    });
    let Some((frame, writes)) = writes.into_iter().find(|(_, writes)| !writes.is_empty()) else {
        return Vec::new();
    };
    let ways: BTreeSet<&String> = writes.iter().flat_map(|w| &w.pointer).collect();
    let ways = ways
        .into_iter()
        .map(|way| format!("  writes through {way} ({}:{})", frame.file, frame.line));
    ways.collect()
}

/// What is known about the types of this name.
pub fn types(sites: &Sites, name: &str) -> Vec<String> {
    let types = &sites.analysis.types;
    let named = types.iter().enumerate().filter(|(_, ty)| ty.name == name);
    named
        .map(|(row, ty)| one_type(sites, ObjectTypeId::from(row), ty))
        .collect()
}

fn one_type(sites: &Sites, id: ObjectTypeId, ty: &ObjectType) -> String {
    let mut lines = vec![format!("{} ({}), {} bytes", ty.name, ty.file, ty.size)];
    let mut places: BTreeMap<String, BTreeSet<AllocationSiteId>> = BTreeMap::new();
    let mut reasons: BTreeSet<&String> = BTreeSet::new();
    let mut sets: BTreeSet<LegalSetId> = BTreeSet::new();
    for (row, set) in sites.legal_sets.iter().enumerate() {
        let mut holds = false;
        for place in set.heap.iter().filter(|p| p.target == id) {
            holds = true;
            let known = places.entry(lies(sites, place)).or_default();
            known.extend(&place.allocation_sites);
        }
        if set.types.contains(&id) {
            holds = true;
            reasons.extend(&set.any_heap);
        }
        if holds {
            sets.insert(LegalSetId::from(row));
        }
    }
    let allocated = places.into_iter().map(|(place, allocations)| {
        let calls: BTreeSet<String> = allocations
            .iter()
            .filter_map(|id| sites.analysis.allocation_sites.get(id.index()))
            .map(call)
            .collect();
        format!("  lies {place}, allocated by {}", few(calls, ", "))
    });
    lines.extend(first(allocated.collect()));
    lines.extend(first(
        reasons
            .iter()
            .map(|why| format!("  or anywhere: {why}"))
            .collect(),
    ));
    let written: BTreeSet<String> = sites
        .sites
        .iter()
        .filter(|site| sets.contains(&site.legal))
        .filter_map(|site| site.chain.first())
        .map(|frame| {
            format!(
                "  written by {} ({}:{})",
                frame.function, frame.file, frame.line
            )
        })
        .collect();
    lines.extend(first(written.into_iter().collect()));
    lines.join("\n")
}

fn lies(sites: &Sites, place: &HeapPlace) -> String {
    let container = &sites.analysis.types[place.container.index()].name;
    if place.container == place.target {
        return "in objects of its own".to_owned();
    }
    let begin = format!("in {container} at {}", place.offset);
    place.dimensions.iter().fold(begin, |text, dimension| {
        format!("{text}, every {} bytes", dimension.stride)
    })
}

/// What is known about the allocations at `FILE:LINE`.
pub fn allocations(sites: &Sites, place: &str) -> Vec<String> {
    let rows = &sites.analysis.allocation_sites;
    let here = rows
        .iter()
        .enumerate()
        .filter(|(_, site)| format!("{}:{}", site.file, site.line) == place);
    here.map(|(row, site)| one_allocation(sites, AllocationSiteId::from(row), site))
        .collect()
}

fn one_allocation(all: &Sites, id: AllocationSiteId, site: &AllocationSite) -> String {
    let mut lines = vec![format!(
        "{} in {} of {}",
        call(site),
        site.function,
        site.image
    )];
    lines.push(match (site.size, &site.cache) {
        (Some(bytes), Some(cache)) => format!("  {bytes} bytes of the cache {cache}"),
        (Some(bytes), None) => format!("  {bytes} bytes"),
        (None, Some(cache)) => format!("  an object of the cache {cache}"),
        (None, None) => "  a size that is known at run time".to_owned(),
    });
    let types: BTreeSet<String> = site
        .types
        .iter()
        .filter_map(|id| all.analysis.types.get(id.index()))
        .map(|ty| format!("{} ({})", ty.name, ty.file))
        .collect();
    lines.push(if types.is_empty() {
        "  no type: the source uses it as bytes".to_owned()
    } else {
        format!("  used as {}", few(types, ", "))
    });
    lines.extend(first(
        site.because.iter().map(|why| format!("  {why}")).collect(),
    ));
    let probes = all.allocation_probes.iter().filter(|p| p.allocation == id);
    lines.extend(
        probes.map(|p| format!("  noted at {}+{:#x}", p.after.symbol, p.after.symbol_offset)),
    );
    let untracked = all
        .untracked_allocations
        .iter()
        .filter(|u| u.allocation == id);
    lines.extend(untracked.map(|u| format!("  not noted: {}", u.reason)));
    lines.join("\n")
}

fn call(site: &AllocationSite) -> String {
    format!("{} at {}:{}", site.callee, site.file, site.line)
}

fn few(items: BTreeSet<String>, between: &str) -> String {
    let more = items.len().saturating_sub(MOST);
    let mut text = items
        .into_iter()
        .take(MOST)
        .collect::<Vec<_>>()
        .join(between);
    if more > 0 {
        text = format!("{text} and {more} more");
    }
    text
}

fn first(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(MOST);
    if more > 0 {
        lines.truncate(MOST);
        lines.push(format!("  … and {more} more"));
    }
    lines
}
