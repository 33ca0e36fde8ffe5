//! Whether an indirect call led where its target set says.

use std::collections::BTreeSet;

use otf_artifact::{analysis::TargetSet, ids::TargetId, recording::CodePlace, sites::Sites};

use crate::{
    allocations::{address, address_of},
    rules::Legal,
};

/// Whether a target is in a set; `None` when it is not.
pub(crate) fn legal(sites: &Sites, set: &TargetSet, target: &CodePlace) -> Option<Legal> {
    if set.any.is_some() {
        return Some(Legal::Wide);
    }
    let wanted: BTreeSet<TargetId> = set.targets.iter().copied().collect();
    let mut placed = BTreeSet::new();
    for symbol in sites
        .target_symbols
        .iter()
        .filter(|s| wanted.contains(&s.target))
    {
        placed.insert(symbol.target);
        if address_of(sites, &symbol.location) == Some(address(target)) {
            return Some(Legal::Named);
        }
    }
    // A target in an image that was not given has no machine entry: its name has to do.
    let (name, start) = target.symbol.split_once('+')?;
    let named = wanted.difference(&placed).any(|id| {
        let known = sites.analysis.targets.get(id.index());
        known.is_some_and(|t| t.image == target.image && t.symbol == name)
    });
    (named && start == "0x0").then_some(Legal::Named)
}
