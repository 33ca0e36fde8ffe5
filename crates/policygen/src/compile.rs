//! Policy and sites to the contents of a bundle.

use std::collections::BTreeMap;

use otf_artifact::{
    FORMAT_VERSION, abi,
    bundle::{Manifest, PlanCover},
    covered::Under,
    diagnostic::{Code, Diagnostic, Severity},
    profile::{Prices, Profile},
    sites::Sites,
};
use otf_bundle::Bundle;
use tracing::info;

use crate::{
    bind::bind,
    budget,
    check::check,
    codegen::{CHECK_LIBRARY, emit},
    covers,
    inspect::coverage,
    policy::Policy,
    recheck::{self, ImageBytes},
    tables::build,
    yaml_text::to_yaml,
};

/// What goes into a bundle besides policy and sites.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// `uname -r` of the kernel.
    pub release: String,
    /// `otf_guard.ko` for that release.
    pub guard: Vec<u8>,
    /// SHA-256 (hex) of the files the bundle is made from, by name.
    pub hashes: BTreeMap<String, String>,
    /// The images with sites, to validate what is said of their code; needed when some site is
    /// covered by something else than its own check.
    pub images: &'a [ImageBytes<'a>],
    /// The profiles that budgets of the policy name, by that name.
    pub profiles: &'a BTreeMap<String, Profile>,
    /// What a hit costs; needed for budgets.
    pub prices: Option<&'a Prices>,
    /// The policy as the person wrote it; `None` for one that was just generated.
    pub policy_text: Option<String>,
}

/// Makes the bundle's contents; [`otf_bundle::pack`] makes the archive of them. The second value
/// says what was widened to keep a limit.
///
/// # Errors
/// All contradictions between policy and sites ([`Code::PolicyInvalid`]), or the first of
/// [`Code::PolicyTooLarge`], [`Code::CompileFailed`] and [`Code::InvariantBroken`]; or every claim of
/// coverage that does not hold ([`Code::CoverWrong`]); or a budget that cannot be reckoned
/// ([`Code::BudgetProfile`]) or kept ([`Code::BudgetTooSmall`]).
pub fn compile(
    policy: &Policy,
    sites: &Sites,
    inputs: Inputs<'_>,
) -> Result<(Bundle, Vec<Diagnostic>), Vec<Diagnostic>> {
    let bound = bind(policy, sites)?;
    let mut built = build(&bound, sites)?;
    let left = budget::leave(policy, &bound, &built, &inputs)?;
    built.plan.left_to_audit = left.places;
    built.warnings.extend(left.warnings);
    covers::lead_left(&bound, &mut built);
    let broken = check(&built.tables, &built.plan, sites);
    if !broken.is_empty() {
        return Err(broken);
    }
    info!("validating what needs no check");
    let wrong = recheck::check(&bound, &built.tables, &built.plan, sites, inputs.images);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    info!(
        sites = built.tables.sites.len(),
        legal_sets = built.tables.legals.len(),
        places = built.tables.places.len(),
        shapes = built.tables.shapes.len(),
        "compiling policy"
    );
    let object = emit(CHECK_LIBRARY, &built.tables).map_err(|e| vec![e])?;
    let legal_sets: Vec<_> = bound.legal_sets.iter().map(|legal| &legal.set).collect();
    let wide = |frees: bool| {
        let mine = bound
            .sites
            .iter()
            .filter(|entry| (entry.site.index() >= sites.sites.len()) == frees);
        mine.filter(|site| is_wide(&built.tables.legals[site.legal], legal_sets[site.legal]))
            .count() as u64
    };
    let mut coverage = coverage(sites);
    coverage.covered = built.plan.covered.len() as u64;
    let always = |cover: &&PlanCover| cover.under == Under::Always;
    coverage.covered_always = built.plan.covered.iter().filter(always).count() as u64;
    coverage.wide = wide(false);
    coverage.frees_wide = wide(true);
    coverage.returns_probed = built.tables.returns.len() as u64;
    let weak = |row: &&abi::Call| row.flags & abi::CALL_WEAK != 0;
    coverage.calls_weak = built.tables.calls.iter().filter(weak).count() as u64;
    let left = || built.plan.left_to_audit.iter();
    let calls_left = || {
        let rows = left().filter_map(|left| (left.row as usize).checked_sub(bound.sites.len()));
        rows.filter_map(|row| built.tables.calls.get(row))
    };
    coverage.left_to_audit = left().count() as u64;
    coverage.calls_left_to_audit = calls_left().count() as u64;
    coverage.calls_weak_left_to_audit = calls_left().filter(weak).count() as u64;
    let manifest = Manifest {
        version: FORMAT_VERSION,
        kernel: sites.analysis.kernel.clone(),
        compartment: sites.analysis.compartment.clone(),
        release: inputs.release,
        build_ids: build_ids(sites)?,
        members: BTreeMap::new(),
        inputs: inputs.hashes,
        coverage,
    };
    let policy = inputs.policy_text.unwrap_or_else(|| to_yaml(policy));
    let bundle = Bundle {
        manifest,
        plan: built.plan,
        policy,
        object,
        guard: inputs.guard,
    };
    debug_assert!(
        built
            .warnings
            .iter()
            .all(|w| w.severity == Severity::Warning)
    );
    Ok((bundle, built.warnings))
}

/// Whether a rule of the set lets more than named objects be written.
pub(crate) fn is_wide(
    row: &otf_artifact::abi::Legal,
    set: &otf_artifact::analysis::LegalSet,
) -> bool {
    row.flags & (abi::LEGAL_ANY_HEAP | abi::LEGAL_ANY_GLOBAL) != 0
        || set.any_heap.is_some()
        || set.any_global.is_some()
}

pub(crate) fn build_ids(sites: &Sites) -> Result<BTreeMap<String, String>, Vec<Diagnostic>> {
    let missing: Vec<_> = sites
        .images
        .iter()
        .filter(|image| image.build_id.is_empty())
        .map(|image| {
            Diagnostic::error(Code::BadImage, format!("{} has no build-id", image.name))
                .help("a bundle is bound to build-ids: analyze an image that has one")
        })
        .collect();
    if !missing.is_empty() {
        return Err(missing);
    }
    Ok(sites
        .images
        .iter()
        .map(|i| (i.name.clone(), i.build_id.clone()))
        .collect())
}
