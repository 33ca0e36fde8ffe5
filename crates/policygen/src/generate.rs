//! The policy that says exactly what the analysis found.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    FORMAT_VERSION, abi,
    analysis::{AllocationSite, HeapPlace, LegalSet, StackRule},
    covered::Cover,
    ids::{AllocationSiteId, LegalSetId},
    places::Frame,
    sites::{Coverage, Location, Site, Sites},
    yaml::Placed,
};

use crate::{
    calls,
    extent::Extent,
    heap,
    names::{self, Names},
    passed,
    policy::{
        AllocationRule, CallRule, CoverRule, FunctionRule, GateRule, HeapRule, Instance, LegalRule,
        PassedRule, Policy, RefusalRule, SiteRule,
    },
};

/// The policy of the sites: every checked site with its own legal set, every gate, nothing changed.
pub fn generate(sites: &Sites) -> Policy {
    let mut used = Used::default();
    for site in sites.all().filter(|s| s.coverage == Coverage::Probe) {
        used.sets.insert(site.legal);
    }
    for set in used
        .sets
        .iter()
        .filter_map(|id| sites.legal_sets.get(id.index()))
    {
        used.allocations
            .extend(set.heap.iter().flat_map(|p| &p.allocation_sites));
    }
    let allocation_calls = names::allocation_calls(sites);
    let names = AllNames {
        allocating: names::places(sites, &allocation_calls),
        allocation_calls,
        types: names::types(&sites.analysis),
        globals: names::globals(&sites.analysis),
        allocations: names::allocations(&sites.analysis),
        sites: names::sites(sites),
        passed: names::passed(sites),
        calls: names::calls(sites),
    };
    Policy {
        file: "policy.yaml".into(),
        version: FORMAT_VERSION.into(),
        kernel: sites.analysis.kernel.clone().into(),
        compartment: sites.analysis.compartment.clone().into(),
        default_action: abi::Action::Audit,
        returns: false,
        private_heap: false,
        max_overhead: Vec::new(),
        gates: sites.analysis.gates.iter().map(gate).collect(),
        allocation_sites: used
            .allocations
            .iter()
            .filter_map(|id| allocation(sites, &names, *id))
            .collect(),
        legal_sets: used
            .sets
            .iter()
            .filter_map(|id| legal_set(sites, &names, *id))
            .collect(),
        target_sets: calls::target_rules(sites),
        sites: site_rules(sites, &names),
        heap_note: heap::note(sites),
        unchecked: unchecked(sites, &names),
    }
}

/// The instructions without a check: first those that have none because they cannot.
fn unchecked(sites: &Sites, names: &AllNames) -> Vec<String> {
    let line = |row: usize, site: &Site, why: &str| {
        format!(
            "{} ({}) `{}`: {why}",
            names.sites.of(row),
            source_of(&site.chain),
            site.text
        )
    };
    let all = || sites.all().enumerate();
    let calls = calls::unchecked(sites, &names.calls);
    let unprobable = all().filter_map(|(row, site)| match &site.coverage {
        Coverage::Unprobable(why) => Some(line(row, site, &format!("NOT CHECKED, {why}"))),
        _ => None,
    });
    let proven = all().filter_map(|(row, site)| match &site.coverage {
        Coverage::Proven(how) => Some(line(row, site, &format!("proven, {how}"))),
        _ => None,
    });
    unprobable.chain(calls).chain(proven).collect()
}

fn allocation_note(site: &AllocationSite, sites: &Sites, id: AllocationSiteId) -> String {
    let bytes = site
        .size
        .map_or("variable size".to_owned(), |size| format!("{size} bytes"));
    let types = site
        .types
        .iter()
        .filter_map(|t| sites.analysis.types.get(t.index()));
    let types: Vec<&str> = types.map(|t| t.name.as_str()).collect();
    let untracked = sites
        .untracked_allocations
        .iter()
        .find(|u| u.allocation == id);
    let untracked = untracked.map_or(String::new(), |u| format!("; no provenance: {}", u.reason));
    let types = if types.is_empty() {
        "unknown type".to_owned()
    } else {
        types.join(", ")
    };
    format!("{bytes}, {types}{untracked}")
}

#[derive(Default)]
struct Used {
    sets: BTreeSet<LegalSetId>,
    allocations: BTreeSet<AllocationSiteId>,
}

impl AllNames {
    /// The machine call of an allocation.
    fn place(&self, call: &Location) -> String {
        let known = self.allocation_calls.iter().position(|at| at == call);
        known.map_or_else(String::new, |row| self.allocating.of(row).to_owned())
    }
}

struct AllNames {
    allocation_calls: Vec<Location>,
    allocating: Names,
    types: Names,
    globals: Names,
    allocations: Names,
    sites: Names,
    passed: Names,
    calls: Names,
}

fn gate(gate: &otf_artifact::analysis::Gate) -> GateRule {
    GateRule {
        function: gate.function.clone().into(),
        file: gate.file.clone().into(),
        reached_by: gate.reached_by.clone(),
        instance: gate.instance_argument.map(|argument| Instance {
            argument: argument.into(),
            kind: gate.instance_type.clone(),
        }),
        refusal: RefusalRule {
            value: gate.refusal.value,
            name: gate.refusal.name.clone(),
        },
    }
}

fn allocation_id(id: AllocationSiteId) -> Placed<String> {
    format!("A{}", id.0).into()
}

fn legal_id(id: LegalSetId) -> Placed<String> {
    format!("L{}", id.0).into()
}

fn allocation(sites: &Sites, names: &AllNames, id: AllocationSiteId) -> Option<AllocationRule> {
    let site = sites.analysis.allocation_sites.get(id.index())?;
    Some(AllocationRule {
        id: allocation_id(id),
        at: names.allocations.of(id.index()).to_owned().into(),
        function: site.function.clone(),
        calls: site.callee.clone(),
        note: allocation_note(site, sites, id),
    })
}

fn legal_set(sites: &Sites, names: &AllNames, id: LegalSetId) -> Option<LegalRule> {
    let set: &LegalSet = sites.legal_sets.get(id.index())?;
    let (stack, passed) = stack_rules(set, names);
    Some(LegalRule {
        id: legal_id(id),
        types: set
            .types
            .iter()
            .map(|t| names.types.of(t.index()).to_owned().into())
            .collect(),
        stack,
        passed,
        globals: set
            .globals
            .iter()
            .map(|g| names.globals.of(g.index()).to_owned().into())
            .collect(),
        // An empty type has places, but no byte to write.
        heap: set
            .heap
            .iter()
            .filter(|p| p.size > 0)
            .map(|place| heap_rule(place, names))
            .collect(),
        any_heap: set.any_heap.clone(),
        any_global: set.any_global.clone(),
        per_cpu: set.per_cpu,
        user: set.user,
    })
}

/// Objects that can be noted; those that cannot widen the rule.
fn stack_rules(set: &LegalSet, names: &AllNames) -> (StackRule, Vec<PassedRule>) {
    let (noted, not_noted): (Vec<_>, Vec<_>) = set
        .passed
        .iter()
        .map(|o| (passed::name(&o.file, &o.function, o.parameter), o))
        .partition(|(name, _)| names.passed.row(name).is_some());
    let widened = not_noted.into_iter().map(|(_, object)| object.otherwise);
    let rules = noted.into_iter().map(|(name, object)| PassedRule {
        to: name.into(),
        size: object.size.into(),
        otherwise: object.otherwise,
    });
    (
        widened.max().unwrap_or_default().max(set.stack),
        rules.collect(),
    )
}

fn heap_rule(place: &HeapPlace, names: &AllNames) -> HeapRule {
    let name = |id: otf_artifact::ids::ObjectTypeId| names.types.of(id.index()).to_owned().into();
    HeapRule {
        target: name(place.target),
        container: (place.container != place.target).then(|| name(place.container)),
        offset: place.offset.into(),
        dimensions: place.dimensions.clone(),
        size: Extent::from(place.size).into(),
        object_min: place.object_min,
        object_size: place.object_size.map(Placed::from),
        allocated_at: place
            .allocation_sites
            .iter()
            .map(|id| allocation_id(*id))
            .collect(),
    }
}

/// Checked sites by (file, function) of their innermost frame; in a function by machine address.
fn site_rules(sites: &Sites, names: &AllNames) -> Vec<FunctionRule> {
    type Rules = (Vec<SiteRule>, Vec<CallRule>);
    let mut functions: BTreeMap<(&str, &str), Rules> = BTreeMap::new();
    for (row, site) in sites.all().enumerate() {
        if site.coverage != Coverage::Probe {
            continue;
        }
        let key = function_of(&site.chain, &site.location);
        functions.entry(key).or_default().0.push(SiteRule {
            at: names.sites.of(row).to_owned().into(),
            source: source_of(&site.chain).into(),
            legal: legal_id(site.legal),
            action: None,
            covered: site.covered.as_ref().map(|c| cover_rule(c, names)),
            note: site.text.clone(),
        });
    }
    for (row, call) in sites.calls.iter().enumerate() {
        if calls::is_checked(call) {
            let key = function_of(&call.chain, &call.location);
            let rule = calls::rule(call, names.calls.of(row));
            functions.entry(key).or_default().1.push(rule);
        }
    }
    functions
        .into_iter()
        .map(|((_, function), (writes, calls))| FunctionRule {
            function: function.to_owned(),
            writes,
            calls,
        })
        .collect()
}

fn cover_rule(cover: &Cover, names: &AllNames) -> CoverRule {
    match cover {
        Cover::Check {
            by,
            distance,
            under,
            joined,
        } => CoverRule {
            check_of: Some(names.sites.of(by.index()).to_owned().into()),
            distance: *distance,
            under: *under,
            joined: *joined,
            ..CoverRule::default()
        },
        Cover::Fresh { call, distance } => CoverRule {
            fresh_from: Some(names.place(call).into()),
            distance: *distance as i64,
            ..CoverRule::default()
        },
        Cover::AnyAddress => CoverRule {
            any_address: true,
            ..CoverRule::default()
        },
    }
}

/// File and name of the source function that code comes from.
fn function_of<'s>(chain: &'s [Frame], location: &'s Location) -> (&'s str, &'s str) {
    chain
        .first()
        .map_or(("", location.symbol.as_str()), |frame| {
            (frame.file.as_str(), frame.function.as_str())
        })
}

/// `FILE:LINE` of the innermost frame; `?` without debug information.
pub(crate) fn source_of(chain: &[Frame]) -> String {
    match chain.first() {
        Some(frame) if frame.line > 0 => format!("{}:{}", frame.file, frame.line),
        _ => "?".to_owned(),
    }
}
