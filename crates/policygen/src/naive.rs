//! The scheme to compare with: one probe for every store that can have one, whatever is proven about it.

use std::collections::BTreeMap;

use otf_artifact::{
    analysis::StackRule,
    ids::LegalSetId,
    sites::{Coverage, Guarded, Site, Sites},
};

/// What was put back, and what could not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Naive {
    /// Sites that got a probe that they do not need.
    pub probed: usize,
    /// Sites that stay without one: their operand names no register, and the check reads only those. They make the naive
    /// scheme look cheaper than it is.
    pub left: usize,
}

/// The sites with nothing eliminated; what cannot be probed stays so.
pub fn naive(sites: &Sites) -> (Sites, Naive) {
    let mut all = sites.clone();
    let mut counts = Naive::default();
    let mut widened: BTreeMap<LegalSetId, LegalSetId> = BTreeMap::new();
    let Sites {
        sites: writes,
        frees,
        legal_sets,
        ..
    } = &mut all;
    for site in writes.iter_mut().chain(frees) {
        // Whatever other ways there are to do without a probe, they end here.
        if matches!(site.coverage, Coverage::Probe | Coverage::Unprobable(_)) {
            continue;
        }
        if !has_register(site) {
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

fn has_register(site: &Site) -> bool {
    let operand = &site.operand;
    !operand.per_cpu && (operand.base.is_some() || operand.index.is_some())
}
