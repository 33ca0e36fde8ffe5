//! What a policy costs: its checked places, how often a profile reached them, and what a hit costs.

use otf_artifact::{
    profile::{Prices, Profile},
    sites::{Coverage, Location, Sites},
};
use serde::Serialize;

use crate::{calls, generate::source_of, names};

/// Cost of one operation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Checks.
    pub hits: f64,
    /// Instructions that they take.
    pub instructions: f64,
    /// Places with a probe.
    pub probed: u64,
    /// Of these: places that the profile does not know, because its bundle did not check them. What they cost is not in the
    /// sums.
    pub not_profiled: u64,
    /// Hits of places that have no probe any more.
    pub saved: f64,
    /// Places with a probe that were reached, dearest first.
    pub places: Vec<PlaceCost>,
}

/// Cost of one place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlaceCost {
    /// As the policy names it.
    pub at: String,
    /// `FILE:LINE`.
    pub source: String,
    /// The instruction.
    pub text: String,
    /// Checks in one operation.
    pub hits: f64,
    /// Instructions that they take.
    pub instructions: f64,
}

/// Prices what the sites have probes for; the profile covers so many operations.
///
/// Gates, entries and allocations are not counted by place, so they are not in it.
pub fn cost(sites: &Sites, profile: &Profile, operations: u64, prices: &Prices) -> Cost {
    let counts = profile.by_place();
    let operations = operations.max(1) as f64;
    let (site_names, call_names) = (names::sites(sites), names::calls(sites));
    let writes = sites.all().enumerate().map(|(row, site)| {
        let probed = site.coverage == Coverage::Probe;
        (
            &site.location,
            &site.chain,
            &site.text,
            probed,
            site_names.of(row),
        )
    });
    let calls = sites.calls.iter().enumerate().map(|(row, call)| {
        let probed = calls::is_checked(call);
        (
            &call.location,
            &call.chain,
            &call.text,
            probed,
            call_names.of(row),
        )
    });
    let mut cost = Cost {
        hits: 0.0,
        instructions: 0.0,
        probed: 0,
        not_profiled: 0,
        saved: 0.0,
        places: Vec::new(),
    };
    for (location, chain, text, probed, at) in writes.chain(calls) {
        let hits = counts.get(&key(sites, location)).copied();
        let per_operation = hits.unwrap_or(0) as f64 / operations;
        if !probed {
            cost.saved += per_operation;
            continue;
        }
        cost.probed += 1;
        if hits.is_none() {
            cost.not_profiled += 1;
        }
        if per_operation > 0.0 {
            cost.hits += per_operation;
            cost.places.push(PlaceCost {
                at: at.to_owned(),
                source: source_of(chain),
                text: text.clone(),
                hits: per_operation,
                instructions: per_operation * prices.check,
            });
        }
    }
    cost.instructions = cost.hits * prices.check;
    cost.places.sort_by(|a, b| {
        let dearest = b.instructions.total_cmp(&a.instructions);
        dearest.then_with(|| a.at.cmp(&b.at))
    });
    cost
}

fn key<'s>(sites: &'s Sites, location: &'s Location) -> (&'s str, &'s str, u64) {
    let image = sites.images.get(location.image.index());
    let image = image.map_or("", |image| image.name.as_str());
    (image, location.section.as_str(), location.offset)
}
