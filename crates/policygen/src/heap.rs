//! The private heap: which allocations of the compartment go to caches of its own.

use std::collections::BTreeSet;

use otf_artifact::{
    allocators,
    analysis::Family,
    bundle::{HeapPlan, Probe, Program},
    sites::{AllocationProbe, Location, Sites},
};

/// Why calls of others stay as they are.
const OUTSIDE: &str = "in functions outside the compartment, which serve others too";

/// How many calls a private heap serves, and why it does not serve the others. Calls by functions
/// outside the compartment serve others too: those are known as far as the analysis has followed objects.
pub fn plan(sites: &Sites) -> HeapPlan {
    let mut plan = HeapPlan::default();
    for call in &sites.heap_calls {
        match &call.general {
            None => plan.private += 1,
            Some(why) => *plan.general.entry(why.clone()).or_default() += 1,
        }
    }
    let own: BTreeSet<&Location> = sites.heap_calls.iter().map(|c| &c.location).collect();
    let outside: BTreeSet<&Location> = sites
        .allocation_probes
        .iter()
        .filter(|probe| is_general(probe) && !own.contains(&probe.call))
        .map(|probe| &probe.call)
        .collect();
    if !outside.is_empty() {
        plan.general.insert(OUTSIDE.into(), outside.len() as u64);
    }
    plan
}

fn is_general(probe: &AllocationProbe) -> bool {
    allocators::find(&probe.callee)
        .is_some_and(|a| matches!(a.family, Family::Kmalloc | Family::Kvmalloc))
}

/// A probe at each call that the heap serves.
pub(crate) fn probes(sites: &Sites) -> Vec<Probe> {
    let served = sites.heap_calls.iter().filter(|c| c.general.is_none());
    served
        .map(|call| Probe {
            program: Program::PrivateHeap,
            location: call.location.clone(),
            cookie: 0,
        })
        .collect()
}

/// The same for a reader of the policy.
pub(crate) fn note(sites: &Sites) -> Vec<String> {
    let plan = plan(sites);
    let private = format!("{} calls can go there", plan.private);
    let general = plan.general.iter();
    std::iter::once(private)
        .chain(general.map(|(why, count)| format!("{count} cannot: {why}")))
        .collect()
}
