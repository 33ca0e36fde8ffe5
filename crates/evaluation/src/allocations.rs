//! Return addresses of allocating calls → allocation sites.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    ids::AllocationSiteId,
    recording::{CodePlace, SeenAllocation},
    sites::{Location, Sites},
};

pub(crate) const VMLINUX: &str = "vmlinux";

/// Image, section (none for `vmlinux`) and offset.
pub(crate) type Address<'a> = (&'a str, &'a str, u64);

/// The address of a place of the sites.
pub(crate) fn address_of<'a>(sites: &'a Sites, location: &'a Location) -> Option<Address<'a>> {
    let image = sites.images.get(location.image.index())?.name.as_str();
    let section = if image == VMLINUX {
        ""
    } else {
        location.section.as_str()
    };
    Some((image, section, location.offset))
}

/// The address of a place of a recording.
pub(crate) fn address(place: &CodePlace) -> Address<'_> {
    (&place.image, &place.section, place.offset)
}

/// What the machine's calls allocate.
#[derive(Debug, Default)]
pub(crate) struct Allocations<'a> {
    by_return: BTreeMap<Address<'a>, BTreeSet<AllocationSiteId>>,
    untracked: BTreeSet<AllocationSiteId>,
}

impl<'a> Allocations<'a> {
    pub(crate) fn new(sites: &'a Sites) -> Self {
        let mut found = Self::default();
        for probe in &sites.allocation_probes {
            if let Some(address) = address_of(sites, &probe.after) {
                found
                    .by_return
                    .entry(address)
                    .or_default()
                    .insert(probe.allocation);
            }
        }
        found.untracked = sites
            .untracked_allocations
            .iter()
            .map(|u| u.allocation)
            .collect();
        found
    }

    /// Whether the place of a call of this site in machine code is not known.
    pub(crate) fn is_untracked(&self, site: AllocationSiteId) -> bool {
        self.untracked.contains(&site)
    }

    /// Allocation sites in the chain, innermost first.
    pub(crate) fn of(&self, seen: &'a SeenAllocation) -> impl Iterator<Item = AllocationSiteId> {
        let frames = seen.chain.iter();
        frames
            .filter_map(|frame| self.by_return.get(&address(frame)))
            .flatten()
            .copied()
    }

    /// The frame that an allocation is named after: the innermost one that is an allocation site,
    /// else the one that the kernel's tracepoint names or the last.
    pub(crate) fn name_of(&self, seen: &'a SeenAllocation) -> Option<&'a CodePlace> {
        let known = |frame: &&CodePlace| self.by_return.contains_key(&address(frame));
        let frames = &seen.chain;
        frames
            .iter()
            .find(known)
            .or_else(|| frames.get(CALLER))
            .or(frames.last())
    }
}

/// Frames that a recording keeps below the caller (`OTF_INNER` of the recorder).
const CALLER: usize = 3;

/// Allocators that hand out pieces of a page: where a piece starts is not known.
const CARVERS: [&str; 5] = [
    "__page_frag_cache_refill",
    "__page_frag_alloc_align",
    "skb_page_frag_refill",
    "page_pool_alloc",
    "sk_page_frag_refill",
];

/// Whether the memory is given on in pieces by another allocator.
pub(crate) fn is_carved(seen: &SeenAllocation) -> bool {
    let carves = |frame: &CodePlace| CARVERS.iter().any(|name| frame.symbol.starts_with(name));
    seen.chain.iter().any(carves)
}
