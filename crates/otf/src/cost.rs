//! `otf cost`: what a compartment costs per operation, from a profile of how often its places are reached.

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    profile::{Prices, Profile},
    sites::Sites,
};
use otf_policygen::Cost;

use crate::{
    cli::{self, Format},
    files,
    render::{self, Failure},
};

/// Prints hits, instructions and the dearest places.
pub fn cost(args: &cli::Cost, format: Format) -> Result<(), Failure> {
    let sites: Sites = files::read_artifact(&args.dir.join("sites.json"))?;
    let profile: Profile = files::read_artifact(&args.profile)?;
    if !args.prices.exists() {
        let message = format!("no prices at {}", args.prices.display());
        return Err(Diagnostic::error(Code::Environment, message)
            .help("`make bench-runtime` measures them; --prices names another file")
            .into());
    }
    let prices: Prices = files::read_artifact(&args.prices)?;
    if profile.compartment != sites.analysis.compartment {
        let message = format!(
            "the profile is of {}, the sites are of {}",
            profile.compartment, sites.analysis.compartment
        );
        let file = args.profile.display().to_string();
        return Err(Diagnostic::error(Code::BadArtifact, message)
            .at(file, 0, 0)
            .into());
    }
    let cost = otf_policygen::cost(&sites, &profile, args.operations, &prices);
    match format {
        Format::Json => render::line(&serde_json::to_string_pretty(&cost).map_err(|e| {
            Diagnostic::error(Code::InvariantBroken, format!("the cost as JSON: {e}"))
        })?),
        Format::Text => text(args, &cost, &prices),
    }
}

fn text(args: &cli::Cost, cost: &Cost, prices: &Prices) -> Result<(), Failure> {
    render::line(&format!(
        "{:.1} checks per operation, {:.0} instructions ({:.0} each, measured on {} operations)",
        cost.hits,
        cost.instructions,
        prices.check,
        prices.from.len()
    ))?;
    render::line(&format!(
        "{} places have a probe, {} of them were reached; hits of places without one: {:.1}",
        cost.probed,
        cost.places.len(),
        cost.saved
    ))?;
    if cost.not_profiled > 0 {
        render::line(&format!(
            "{} places with a probe are not in the profile, and not in the sum",
            cost.not_profiled
        ))?;
    }
    render::line(
        "notes at gates, entries and allocations, and frees, are not counted by place: they come on top",
    )?;
    for place in cost.places.iter().take(args.top) {
        render::line(&format!(
            "{:>10.0}  {:>8.2}  {}  {}  {}",
            place.instructions, place.hits, place.at, place.source, place.text
        ))?;
    }
    Ok(())
}
