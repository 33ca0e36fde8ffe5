//! What a bundle costs: its checks, how often a profile reached them, and what a hit costs.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    abi::Action,
    bundle::Plan,
    profile::{Prices, Profile},
};
use serde::Serialize;

use crate::{
    frequency::{Frequency, Hits},
    generate::source_of,
    names,
};

/// Cost of one operation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Of a load with this action.
    pub action: Action,
    /// Checks.
    pub hits: f64,
    /// Instructions that they take.
    pub instructions: f64,
    /// Instructions of notes at gates, entries and allocations, and of looks at what is freed; nothing where the
    /// profile has no counts of them.
    pub beside: Option<f64>,
    /// What all that adds to what the operation takes without a policy, in percent, if the profile says how much that is.
    pub percent: Option<f64>,
    /// Places with a probe.
    pub probed: u64,
    /// Of these: places that the profile does not know, because its bundle did not check them. What they cost is not in the
    /// sums.
    pub not_profiled: u64,
    /// Of these: places that were covered when the profile was made, taken to be reached as often as what covered them.
    pub estimated: u64,
    /// Hits of places that need no probe, since something covers them.
    pub saved: f64,
    /// Places with a probe that were reached, dearest first.
    pub places: Vec<PlaceCost>,
    /// What this load leaves to audit, as if it had a probe, dearest first.
    pub left_to_audit: Vec<PlaceCost>,
}

/// Cost of one place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlaceCost {
    /// `IMAGE SYMBOL+0xOFFSET`.
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

/// Prices what a load with an action has probes for; the profile covers so many operations.
pub fn cost(
    plan: &Plan,
    action: Action,
    profile: &Profile,
    operations: u64,
    prices: &Prices,
) -> Cost {
    let frequency = Frequency::new(plan, profile, operations);
    let names = names::checked(plan);
    let place = |row: u32| {
        let hits = frequency.of(row).number();
        plan.checked_at(row).map(|checked| PlaceCost {
            at: names.of(row as usize).to_owned(),
            source: source_of(&checked.chain),
            text: checked.text.clone(),
            hits,
            instructions: hits * prices.check,
        })
    };
    let probed: BTreeSet<u32> = probed(plan, action).into_keys().collect();
    let left: BTreeSet<u32> = plan.left_under(action).map(|left| left.row).collect();
    let count = |wanted: &dyn Fn(Hits) -> bool| {
        let hits = probed.iter().map(|row| frequency.of(*row));
        hits.filter(|hits| wanted(*hits)).count() as u64
    };
    let hits: f64 = probed.iter().map(|row| frequency.of(*row).number()).sum();
    let covered = (0..plan.checked().count() as u32)
        .filter(|row| !probed.contains(row) && !left.contains(row));
    let notes = frequency.notes.map(|notes| notes * prices.note);
    let frees = frequency.frees.map(|frees| frees * prices.free);
    let beside = notes.zip(frees).map(|(notes, frees)| notes + frees);
    let instructions = hits * prices.check;
    let without = profile.operation.as_ref().and_then(|o| o.instructions);
    Cost {
        action,
        hits,
        instructions,
        beside,
        percent: without
            .filter(|without| *without > 0)
            .map(|without| 100.0 * (instructions + beside.unwrap_or(0.0)) / without as f64),
        probed: probed.len() as u64,
        not_profiled: count(&|hits| hits == Hits::Unknown),
        estimated: count(&|hits| matches!(hits, Hits::Leader(_))),
        saved: covered.map(|row| frequency.of(row).number()).sum(),
        places: dearest(
            probed
                .iter()
                .filter_map(|row| place(*row))
                .filter(|p| p.hits > 0.0),
        ),
        left_to_audit: dearest(left.iter().filter_map(|row| place(*row))),
    }
}

/// Rows with a probe under an action, and how many probes of the plan stand at the same place.
pub(crate) fn probed(plan: &Plan, action: Action) -> BTreeMap<u32, usize> {
    let mut at = BTreeMap::new();
    for probe in &plan.probes {
        *at.entry(&probe.location).or_insert(0) += 1;
    }
    let probes = plan.for_action(action).probes;
    let rows = probes.iter().filter_map(|probe| {
        let row = plan.checked_row(probe)?;
        Some((row, at.get(&probe.location).copied().unwrap_or(1)))
    });
    rows.collect()
}

fn dearest(places: impl Iterator<Item = PlaceCost>) -> Vec<PlaceCost> {
    let mut places: Vec<_> = places.collect();
    places.sort_by(|a, b| {
        let dearest = b.instructions.total_cmp(&a.instructions);
        dearest.then_with(|| a.at.cmp(&b.at))
    });
    places
}
