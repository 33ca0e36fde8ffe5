//! The private heap: which allocations of the compartment go to caches of its own.

use std::collections::BTreeSet;

use otf_artifact::{
    abi, allocators,
    analysis::Family,
    bundle::{HeapPlan, Probe, Program},
    diagnostic::{Code, Diagnostic},
    ids::AllocationSiteId,
    sites::{AllocationProbe, Location, Sites},
};

use crate::provenance::Provenance;

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
            room: None,
        })
        .collect()
}

/// Allocation sites of the calls that the heap serves: all are recorded, so that what was freed to
/// it and not obtained again is known.
pub(crate) fn allocations(sites: &Sites) -> impl Iterator<Item = AllocationSiteId> {
    let served = served(sites);
    let probes = sites.allocation_probes.iter();
    let probes = probes.filter(move |probe| served.contains(&probe.call));
    probes.map(|probe| probe.allocation)
}

fn served(sites: &Sites) -> BTreeSet<&Location> {
    let calls = sites.heap_calls.iter().filter(|c| c.general.is_none());
    calls.map(|call| &call.location).collect()
}

/// How the names of the heap's caches begin (the guard makes them: `otf.NAME-[cg-]SIZE`); empty when
/// some call to it is not recorded, or the name is too long.
pub(crate) fn own_caches(
    sites: &Sites,
    provenance: &Provenance,
    warnings: &mut Vec<Diagnostic>,
) -> Vec<abi::NameWord> {
    let recorded: BTreeSet<&Location> = provenance
        .probes
        .iter()
        .filter(|probe| probe.program == Program::AllocationCall)
        .map(|probe| &probe.location)
        .collect();
    let unknown = served(sites).difference(&recorded).count();
    let name = format!("otf.{}-", sites.analysis.compartment);
    let fits = name.len() <= 8 * abi::MAX_NAME_WORDS;
    if unknown == 0 && fits {
        return name.as_bytes().chunks(8).map(name_word).collect();
    }
    let (why, help) = if fits {
        (
            format!("{unknown} calls that the private heap serves are not recorded"),
            "a call by a jump is one: nothing follows it; `otf inspect` counts them",
        )
    } else {
        (
            "the name of the compartment is too long".to_owned(),
            "give it a shorter one",
        )
    };
    let message = format!("{why}: a write by a wide rule to what was freed is not seen");
    warnings.push(Diagnostic::warning(Code::PolicyTooLarge, message).help(help));
    Vec::new()
}

/// Up to eight bytes of a name.
fn name_word(bytes: &[u8]) -> abi::NameWord {
    let at = bytes.iter().zip([0, 8, 16, 24, 32, 40, 48, 56]);
    at.fold(abi::NameWord::default(), |word, (byte, shift)| {
        abi::NameWord {
            word: word.word | u64::from(*byte) << shift,
            mask: word.mask | 0xff << shift,
        }
    })
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
