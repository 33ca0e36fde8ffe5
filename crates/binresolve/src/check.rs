//! The invariants of [`Sites`].
//!
//! - Calls of allocators are sorted and unique.
//! - Images: the compartment's own first, names unique, `vmlinux` last.
//! - Every site lies with all its bytes in a text section of its image, has a frame, a legal set
//!   in the table that allows something, and a length of at least one byte.
//! - Sites are sorted by (image, section, offset); no two are for the same write.
//! - A probed site has an operand that can be computed: a register, or a symbol.
//! - A call has a callee, any other site has none; what a free may free is a heap object.
//! - Legal sets start with the analysis' rows, refer to existing rows, and are unique behind them.
//! - A covered site is a store that could be probed; a site that covers another one is checked itself.
//! - Allocation probes and untracked allocations name existing rows; every allocation site has a
//!   probe or a reason. Gate probes and globals name existing rows.

use std::collections::BTreeSet;

use otf_artifact::{
    covered::Cover,
    diagnostic::{Code, Diagnostic},
    ids::AllocationSiteId,
    sites::{Coverage, HeapCall, Length, Location, Site, SiteKind, Sites},
};

/// Every broken invariant.
pub fn check(sites: &Sites) -> Vec<Diagnostic> {
    let mut broken = Broken(Vec::new());
    images(sites, &mut broken);
    legal_sets(sites, &mut broken);
    for (row, site) in sites.all().enumerate() {
        check_site(sites, row, site, &mut broken);
        check_cover(sites, row, site, &mut broken);
    }
    order(sites, &mut broken);
    rest(sites, &mut broken);
    broken.0
}

struct Broken(Vec<Diagnostic>);

impl Broken {
    fn unless(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0
                .push(Diagnostic::error(Code::InvariantBroken, what()));
        }
    }
}

fn images(sites: &Sites, broken: &mut Broken) {
    let names: BTreeSet<&str> = sites.images.iter().map(|i| i.name.as_str()).collect();
    broken.unless(names.len() == sites.images.len(), || {
        "two images have one name".into()
    });
    let vmlinux = sites.images.iter().position(|i| i.name == "vmlinux");
    broken.unless(
        vmlinux.is_none_or(|row| row + 1 == sites.images.len()),
        || "vmlinux is not the last image".into(),
    );
}

fn legal_sets(sites: &Sites, broken: &mut Broken) {
    let analysis = &sites.analysis;
    let first = analysis.legal_sets.len();
    broken.unless(
        sites.legal_sets.get(..first) == Some(&analysis.legal_sets[..]),
        || "the legal sets do not start with those of the analysis".into(),
    );
    let added = sites.legal_sets.get(first..).unwrap_or_default();
    let unique: BTreeSet<_> = added.iter().collect();
    broken.unless(unique.len() == added.len(), || {
        "a legal set was added twice".into()
    });
    for (row, set) in sites.legal_sets.iter().enumerate() {
        let holds = set
            .types
            .iter()
            .chain(set.heap.iter().flat_map(|p| [&p.target, &p.container]))
            .all(|t| t.index() < analysis.types.len())
            && set
                .globals
                .iter()
                .all(|g| g.index() < analysis.globals.len())
            && set
                .heap
                .iter()
                .flat_map(|p| &p.allocation_sites)
                .all(|a| a.index() < analysis.allocation_sites.len());
        broken.unless(holds, || {
            format!("legal set {row} names a row that does not exist")
        });
    }
}

fn check_site(sites: &Sites, row: usize, site: &Site, broken: &mut Broken) {
    let place = || format!("site {row} ({})", site.text);
    broken.unless(
        in_text(sites, &site.location, site.instruction_length),
        || format!("{} lies outside the text of its image", place()),
    );
    broken.unless(!site.chain.is_empty(), || {
        format!("{} has no frame", place())
    });
    let legal = sites.legal_sets.get(site.legal.index());
    broken.unless(legal.is_some_and(|set| !set.is_empty()), || {
        format!("{} has no legal set, or an empty one", place())
    });
    broken.unless(
        (site.kind == SiteKind::Free) == (row >= sites.sites.len()),
        || format!("{} is among the wrong sites", place()),
    );
    broken.unless(
        site.kind != SiteKind::Free
            || legal.is_some_and(|set| set.any_heap.is_some() || !set.heap.is_empty()),
        || format!("{} may free nothing", place()),
    );
    let bytes = match site.length {
        Length::Constant(bytes) | Length::Register(_, bytes) => bytes,
    };
    broken.unless(bytes > 0, || format!("{} writes nothing", place()));
    broken.unless(matches!(site.operand.scale, 1 | 2 | 4 | 8), || {
        format!("{} has scale {}", place(), site.operand.scale)
    });
    let registers = [site.operand.base, site.operand.index];
    let pointer = site.same_object;
    broken.unless(pointer.is_none() || registers.contains(&pointer), || {
        format!("{}: the pointer is not in the operand", place())
    });
    broken.unless(
        site.callee.is_some() == matches!(site.kind, SiteKind::BulkCall | SiteKind::Free),
        || format!("{}: a call has a callee, nothing else has one", place()),
    );
    broken.unless(
        site.operand.bit_index.is_some() == (site.kind == SiteKind::BitString)
            || matches!(site.coverage, Coverage::Unprobable(_)),
        || {
            format!(
                "{}: a bit string has an index, nothing else has one",
                place()
            )
        },
    );
}

fn check_cover(sites: &Sites, row: usize, site: &Site, broken: &mut Broken) {
    let Some(cover) = &site.covered else {
        return;
    };
    let plain = site.kind == SiteKind::Store && site.coverage == Coverage::Probe;
    broken.unless(plain, || {
        format!("site {row} ({}) has nothing to be covered", site.text)
    });
    if let Cover::Check { by, .. } = cover {
        let leader = sites.sites.get(by.index());
        let checked = leader.is_some_and(|l| l.covered.is_none() && l.coverage == Coverage::Probe);
        broken.unless(checked, || {
            format!(
                "site {row} ({}) is covered by one without a check",
                site.text
            )
        });
    }
}

fn in_text(sites: &Sites, location: &Location, length: u8) -> bool {
    let Some(image) = sites.images.get(location.image.index()) else {
        return false;
    };
    let end = location.offset.checked_add(length.into());
    image.text.iter().any(|section| {
        section.name == location.section
            && section.offset <= location.offset
            && end.is_some_and(|end| end <= section.offset.saturating_add(section.size))
    })
}

fn order(sites: &Sites, broken: &mut Broken) {
    let key = |s: &Site| {
        (
            s.location.image,
            s.location.section.clone(),
            s.location.offset,
        )
    };
    for pair in sites.sites.windows(2).chain(sites.frees.windows(2)) {
        let sorted = key(&pair[0]) <= key(&pair[1]);
        let repeated = key(&pair[0]) == key(&pair[1]) && pair[0].operand == pair[1].operand;
        broken.unless(sorted && !repeated, || {
            format!("sites are not sorted and unique at {}", pair[1].text)
        });
    }
    let in_order = |a: &HeapCall, b: &HeapCall| crate::in_order(&a.location, &b.location).is_lt();
    broken.unless(sites.heap_calls.is_sorted_by(in_order), || {
        "calls of allocators are not sorted and unique".into()
    });
}

fn rest(sites: &Sites, broken: &mut Broken) {
    let allocations = sites.analysis.allocation_sites.len();
    let probed = sites.allocation_probes.iter().map(|p| p.allocation);
    let untracked = sites.untracked_allocations.iter().map(|u| u.allocation);
    let covered: BTreeSet<usize> = probed
        .chain(untracked)
        .map(AllocationSiteId::index)
        .collect();
    broken.unless(covered.iter().copied().eq(0..allocations), || {
        "an allocation site has neither a probe nor a reason, or does not exist".into()
    });
    let gates = sites.analysis.gates.len();
    for probe in &sites.gate_probes {
        broken.unless(
            probe.gate.index() < gates && in_text(sites, &probe.location, 1),
            || format!("a gate probe at {} is wrong", probe.location.symbol),
        );
    }
    for global in &sites.global_symbols {
        broken.unless(global.global.index() < sites.analysis.globals.len(), || {
            format!("{} is no global of the analysis", global.location.symbol)
        });
    }
}
