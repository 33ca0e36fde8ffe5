//! Figures about sites and bundles.

use std::collections::BTreeMap;

use otf_artifact::{
    bundle::{CoverageSummary, Plan},
    covered::{Cover, Under},
    sites::{CallSite, Coverage, Precision, Site, SiteKind, Sites},
};
use otf_bundle::Bundle;
use serde_json::{Value, json};

use crate::{
    calls::{UNREADABLE, is_checked, is_weak, known_targets},
    generate::source_of,
    heap, names,
};

/// Counts the sites. `stores` are the instructions that write memory, `bulk_writes` the calls that
/// write a range and the `rep` string instructions (which are in both).
pub fn coverage(sites: &Sites) -> CoverageSummary {
    let count = |wanted: &dyn Fn(&Site) -> bool| {
        sites.sites.iter().filter(|site| wanted(site)).count() as u64
    };
    let probed = |site: &Site| site.coverage == Coverage::Probe;
    let mut by_precision: BTreeMap<String, u64> = PRECISIONS
        .iter()
        .map(|(_, name)| ((*name).to_owned(), 0))
        .collect();
    for site in &sites.sites {
        for (_, name) in PRECISIONS
            .iter()
            .filter(|(precision, _)| *precision == site.precision)
        {
            *by_precision.entry((*name).to_owned()).or_default() += 1;
        }
    }
    let frees = |wanted: &dyn Fn(&Site) -> bool| {
        sites.frees.iter().filter(|site| wanted(site)).count() as u64
    };
    let known = known_targets(sites);
    let calls = |wanted: &dyn Fn(&CallSite) -> bool| {
        sites.calls.iter().filter(|call| wanted(call)).count() as u64
    };
    let weak = |call: &CallSite| {
        let set = sites.target_sets.get(call.targets.index());
        set.is_none_or(|set| is_weak(set, &known))
    };
    CoverageSummary {
        sites: sites.sites.len() as u64,
        stores: count(&|s| s.kind != SiteKind::BulkCall),
        frees: sites.frees.len() as u64,
        frees_probed: frees(&probed),
        frees_wide: frees(&|s| probed(s) && is_wide(s, sites)),
        calls: sites.calls.len() as u64,
        calls_probed: calls(&is_checked),
        calls_weak: calls(&|call| is_checked(call) && weak(call)),
        returns_probed: 0,
        bulk_writes: count(&|s| matches!(s.kind, SiteKind::BulkCall | SiteKind::RepString)),
        probed: count(&probed),
        left_to_audit: 0,
        calls_left_to_audit: 0,
        calls_weak_left_to_audit: 0,
        covered: count(&|s| s.covered.is_some()),
        covered_always: count(&|s| {
            s.covered
                .as_ref()
                .is_some_and(|c| c.under() == Under::Always)
        }),
        proven: count(&|s| matches!(s.coverage, Coverage::Proven(_))),
        unprobable: count(&|s| matches!(s.coverage, Coverage::Unprobable(_))),
        by_precision,
        unwindable: count(&|s| probed(s) && !s.unwind_gates.is_empty()),
        wide: count(&|s| probed(s) && is_wide(s, sites)),
    }
}

const PRECISIONS: [(Precision, &str); 4] = [
    (Precision::Instruction, "instruction"),
    (Precision::Line, "line"),
    (Precision::Function, "function"),
    (Precision::Compartment, "compartment"),
];

fn is_wide(site: &Site, sites: &Sites) -> bool {
    let set = sites.legal_sets.get(site.legal.index());
    set.is_none_or(|set| set.any_heap.is_some() || set.any_global.is_some())
}

/// `otf inspect --format json`. `files` has the ELF file of each image by name; an image that is
/// not in it is shown by the file name that the sites carry. `images` are those with checked code.
/// `bundle` is the one that was made from these sites: only it knows what is left to audit.
pub fn inspect(
    sites: &Sites,
    files: &BTreeMap<String, String>,
    bundle: Option<&Bundle>,
    bundle_bytes: u64,
) -> Value {
    let summary = coverage(sites);
    let images: Vec<&String> = sites
        .images
        .iter()
        .filter(|image| !image.text.is_empty())
        .map(|image| files.get(&image.name).unwrap_or(&image.file))
        .collect();
    let unprobable: Vec<Value> = sites
        .sites
        .iter()
        .filter_map(|site| match &site.coverage {
            Coverage::Unprobable(reason) => Some(unprobable(site, reason, sites)),
            _ => None,
        })
        .collect();
    json!({
        "kernel": sites.analysis.kernel,
        "compartment": sites.analysis.compartment,
        "images": images,
        "sites": summary.sites,
        "stores": summary.stores,
        "bulk_writes": summary.bulk_writes,
        "probed": summary.probed,
        "covered": summary.covered,
        "covered_by": covered_by(sites),
        "covered_always": summary.covered_always,
        "left_to_audit": bundle.map(|bundle| left_to_audit(&bundle.plan)),
        "proven": summary.proven,
        "unwindable": summary.unwindable,
        "releasable": sites.sites.iter().filter(|s| releases(s)).count(),
        "wide": summary.wide,
        "same_object": sites.sites.iter().filter(|s| s.coverage == Coverage::Probe && s.same_object.is_some()).count(),
        "frees": summary.frees,
        "frees_probed": summary.frees_probed,
        "frees_wide": summary.frees_wide,
        "calls": summary.calls,
        "calls_probed": summary.calls_probed,
        "calls_weak": summary.calls_weak,
        "calls_unprobable": unprobable_calls(sites),
        "by_precision": summary.by_precision,
        "unprobable": unprobable,
        "allocation_sites": sites.analysis.allocation_sites.len(),
        "untracked_allocations": sites.untracked_allocations.len(),
        "unnoted_parameters": sites.unnoted_parameters.len(),
        "private_heap": heap::plan(sites),
        "gates": sites.analysis.gates.len(),
        "legal_types_median": legal_types_median(sites),
        "bundle_bytes": bundle_bytes,
    })
}

/// Whether deny unwinds from here to some gate by giving something back, and to none without.
fn releases(site: &Site) -> bool {
    site.coverage == Coverage::Probe && site.unwind_gates.is_empty() && site.release.is_some()
}

/// How many sites go without their probe, by what covers them.
fn covered_by(sites: &Sites) -> BTreeMap<&'static str, u64> {
    let kinds = ["check", "joined_check", "fresh_object", "any_address"];
    let mut counts = kinds
        .map(|kind| (kind, 0))
        .into_iter()
        .collect::<BTreeMap<_, _>>();
    for cover in sites.sites.iter().filter_map(|s| s.covered.as_ref()) {
        let kind = match cover {
            Cover::Check { joined: false, .. } => "check",
            Cover::Check { joined: true, .. } => "joined_check",
            Cover::Fresh { .. } => "fresh_object",
            Cover::AnyAddress => "any_address",
        };
        *counts.entry(kind).or_default() += 1;
    }
    counts
}

/// How many calls are not checked, by reason.
fn unprobable_calls(sites: &Sites) -> BTreeMap<&str, u64> {
    let mut reasons = BTreeMap::new();
    for call in sites.calls.iter().filter(|call| !is_checked(call)) {
        let why = match &call.coverage {
            Coverage::Unprobable(why) | Coverage::Proven(why) => why.as_str(),
            Coverage::Probe => UNREADABLE,
        };
        *reasons.entry(why).or_default() += 1;
    }
    reasons
}

fn unprobable(site: &Site, reason: &str, sites: &Sites) -> Value {
    let location = &site.location;
    json!({
        "address": format!("{:#x}", location.offset),
        "image": sites.images.get(location.image.index()).map(|image| &image.name),
        "section": location.section,
        "symbol": format!("{}+{:#x}", location.symbol, location.symbol_offset),
        "instruction": site.text,
        "reason": reason,
    })
}

/// Median over all sites of the number of object types in the legal set; the lower one of two.
fn legal_types_median(sites: &Sites) -> usize {
    let set_of = |site: &Site| sites.legal_sets.get(site.legal.index());
    let mut counts: Vec<usize> = sites
        .sites
        .iter()
        .filter_map(set_of)
        .map(|set| set.types.len())
        .collect();
    counts.sort_unstable();
    counts
        .get(counts.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(0)
}

/// What a load under deny or kill does not check, to keep the policy's budgets.
fn left_to_audit(plan: &Plan) -> Vec<Value> {
    let names = names::checked(plan);
    let left = plan.left_to_audit.iter();
    let line = left.filter_map(|left| {
        let row = plan.checked_at(left.row)?;
        Some(json!({
            "at": names.of(left.row as usize),
            "source": source_of(&row.chain),
            "instruction": row.text,
            "operation": left.operation,
            "why": left.why,
        }))
    });
    line.collect()
}

/// What a bundle says of itself, without the sites it was made from.
pub fn inspect_bundle(bundle: &Bundle, bundle_bytes: u64) -> Value {
    let coverage = &bundle.manifest.coverage;
    json!({
        "kernel": bundle.manifest.kernel,
        "compartment": bundle.manifest.compartment,
        "release": bundle.manifest.release,
        "build_ids": bundle.manifest.build_ids,
        "inputs": bundle.manifest.inputs,
        "sites": coverage.sites,
        "stores": coverage.stores,
        "bulk_writes": coverage.bulk_writes,
        "probed": coverage.probed,
        "covered": coverage.covered,
        "covered_always": coverage.covered_always,
        "left_to_audit": left_to_audit(&bundle.plan),
        "proven": coverage.proven,
        "unwindable": coverage.unwindable,
        "wide": coverage.wide,
        "frees": coverage.frees,
        "frees_probed": coverage.frees_probed,
        "frees_wide": coverage.frees_wide,
        "calls": coverage.calls,
        "calls_probed": coverage.calls_probed,
        "calls_weak": coverage.calls_weak,
        "returns_probed": coverage.returns_probed,
        "by_precision": coverage.by_precision,
        "unprobable_count": coverage.unprobable,
        "gates": bundle.plan.gates.len(),
        "allocation_sites": bundle.plan.allocations.len(),
        "private_heap": bundle.plan.private_heap,
        "probes": bundle.plan.probes.len(),
        "default_action": bundle.plan.default_action,
        "bundle_bytes": bundle_bytes,
    })
}
