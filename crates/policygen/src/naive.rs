//! The scheme to compare with: one probe for every store that can have one, whatever is proven about it.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    analysis::StackRule,
    ids::{ImageId, LegalSetId},
    sites::{Coverage, Guarded, Location, Site, Sites},
};

/// What was put back, and what could not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Naive {
    /// Sites that got a probe that they do not need.
    pub probed: usize,
    /// Sites that stay without one: their operand names no register, and the check reads only those; or nothing else in their
    /// function can be probed, or its code is gone when a policy is loaded. They make the naive scheme look cheaper than it is.
    pub left: usize,
}

/// The sites with nothing eliminated; what cannot be probed stays so.
pub fn naive(sites: &Sites) -> (Sites, Naive) {
    let mut all = sites.clone();
    let mut counts = Naive::default();
    let alive = probed_code(sites);
    let mut widened: BTreeMap<LegalSetId, LegalSetId> = BTreeMap::new();
    let Sites {
        sites: writes,
        frees,
        legal_sets,
        ..
    } = &mut all;
    for site in writes.iter_mut().chain(frees) {
        site.covered = None;
        // Whatever other ways there are to do without a probe, they end here.
        if matches!(site.coverage, Coverage::Probe | Coverage::Unprobable(_)) {
            continue;
        }
        if !has_register(site) || !alive.contains(&code(&site.location)) {
            counts.left += 1;
            continue;
        }
        counts.probed += 1;
        site.coverage = Coverage::Probe;
        // What was proven is that it stays in its own frame: the check has to find the same.
        site.guarded = Guarded::default();
        let Some(set) = legal_sets.get(site.legal.index()) else {
            continue;
        };
        if set.stack < StackRule::Own {
            let mut set = set.clone();
            site.legal = *widened.entry(site.legal).or_insert_with(|| {
                set.stack = StackRule::Own;
                legal_sets.push(set);
                LegalSetId::from(legal_sets.len() - 1)
            });
        }
    }
    (all, counts)
}

type Code = (ImageId, String, String);

fn code(location: &Location) -> Code {
    let (section, symbol) = (location.section.clone(), location.symbol.clone());
    (location.image, section, symbol)
}

/// Functions in which something is probed. Whether a proven site could be is not written down: it never mattered.
fn probed_code(sites: &Sites) -> BTreeSet<Code> {
    let writes = sites.all().map(|s| (&s.coverage, &s.location));
    let calls = sites.calls.iter().map(|c| (&c.coverage, &c.location));
    let returns = sites.returns.iter().map(|r| (&r.coverage, &r.location));
    writes
        .chain(calls)
        .chain(returns)
        .filter(|(coverage, location)| {
            **coverage == Coverage::Probe && !location.section.starts_with(".init")
        })
        .map(|(_, location)| code(location))
        .collect()
}

fn has_register(site: &Site) -> bool {
    let operand = &site.operand;
    !operand.per_cpu && (operand.base.is_some() || operand.index.is_some())
}
