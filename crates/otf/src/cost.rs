//! `otf cost`: what a compartment costs per operation, from a profile of how often its places are reached.

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    profile::{Prices, Profile},
};
use otf_policygen::{Cost, PlaceCost};

use crate::{
    cli::{self, Format},
    files, pipeline,
    render::{self, Failure},
};

/// Prints hits, instructions and the dearest places.
pub fn cost(args: &cli::Cost, format: Format) -> Result<(), Failure> {
    let profile: Profile = files::read_artifact(&args.profile)?;
    let path = args
        .bundle
        .clone()
        .unwrap_or_else(|| pipeline::bundle_path(&args.dir, &profile.compartment));
    let bundle = files::read_bundle(&path)?;
    if !args.prices.exists() {
        let message = format!("no prices at {}", args.prices.display());
        return Err(Diagnostic::error(Code::Environment, message)
            .help("`make bench-runtime` measures them; --prices names another file")
            .into());
    }
    let prices: Prices = files::read_artifact(&args.prices)?;
    let manifest = &bundle.manifest;
    let of = |compartment: &str, release: &str| format!("{compartment} on {release}");
    let profiled = of(&profile.compartment, &profile.release);
    let bundled = of(&manifest.compartment, &manifest.release);
    if profiled != bundled {
        let message = format!("the profile is of {profiled}, the bundle is of {bundled}");
        let file = args.profile.display().to_string();
        return Err(Diagnostic::error(Code::BadArtifact, message)
            .at(file, 0, 0)
            .into());
    }
    let counted = profile.operation.as_ref().map(|o| o.count);
    let operations = args.operations.or(counted).unwrap_or(1);
    let action = args.action.map_or(bundle.plan.default_action, Into::into);
    let cost = otf_policygen::cost(&bundle.plan, action, &profile, operations, &prices);
    match format {
        Format::Json => render::line(&serde_json::to_string_pretty(&cost).map_err(|e| {
            Diagnostic::error(Code::InvariantBroken, format!("the cost as JSON: {e}"))
        })?),
        Format::Text => text(args, &cost, &prices),
    }
}

fn text(args: &cli::Cost, cost: &Cost, prices: &Prices) -> Result<(), Failure> {
    render::line(&format!(
        "{}: {:.1} checks per operation, {:.0} instructions ({:.0} each, measured on {} operations)",
        cost.action.text(),
        cost.hits,
        cost.instructions,
        prices.check,
        prices.from.len()
    ))?;
    render::line(&cost.beside.map_or_else(
        || "notes at gates, entries and allocations, and looks at what is freed, are not in the profile: they come on top".to_owned(),
        |beside| format!("notes at gates, entries and allocations, and looks at what is freed: {beside:.0} instructions"),
    ))?;
    if let Some(percent) = cost.percent {
        render::line(&format!(
            "{percent:.1} % of what the operation takes without a policy"
        ))?;
    }
    render::line(&format!(
        "{} places have a probe, {} of them were reached; hits of places that need none: {:.1}",
        cost.probed,
        cost.places.len(),
        cost.saved
    ))?;
    for (count, what) in [
        (
            cost.not_profiled,
            "are not in the profile, and not in the sum",
        ),
        (
            cost.estimated,
            "were covered then: they count as often as what covered them",
        ),
    ] {
        if count > 0 {
            render::line(&format!("{count} places with a probe {what}"))?;
        }
    }
    places(&cost.places, args.top)?;
    if cost.left_to_audit.is_empty() {
        return Ok(());
    }
    let left = &cost.left_to_audit;
    let instructions: f64 = left.iter().map(|place| place.instructions).sum();
    render::line(&format!(
        "NOT CHECKED, left to audit by a budget: {} places, {:.1} hits, {instructions:.0} instructions",
        left.len(),
        left.iter().map(|place| place.hits).sum::<f64>(),
    ))?;
    places(left, usize::MAX)
}

fn places(places: &[PlaceCost], most: usize) -> Result<(), Failure> {
    for place in places.iter().take(most) {
        render::line(&format!(
            "{:>10.0}  {:>8.2}  {}  {}  {}",
            place.instructions, place.hits, place.at, place.source, place.text
        ))?;
    }
    Ok(())
}
