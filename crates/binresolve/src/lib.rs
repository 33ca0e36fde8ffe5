//! ELF, DWARF and x86 to sites with operands, joined with legal sets.
//!
//! The machine code decides what is checked: every instruction of the compartment's images that
//! writes memory becomes a site, none can be missed ([`decode`], [`operand`]). The source decides
//! what is legal: each site takes the legal set of the source at its place ([`ladder`]).
//!
//! Of each image the code of the confined source files is looked at ([`extent`]); what lies outside
//! is read for allocation calls, variables and call targets.

pub mod allocation;
pub mod call_ladder;
pub mod calls;
mod canary;
pub mod check;
pub mod confined;
pub mod coverage;
pub mod covered;
pub mod decode;
pub mod dwarf;
pub mod exact;
pub mod extent;
pub mod freed;
pub mod gates;
pub mod globals;
pub mod heap;
pub mod held;
pub mod image;
pub mod join;
pub mod ladder;
pub mod legal;
pub mod locks;
pub mod operand;
pub mod passed;
pub mod rewrite;
pub mod room;
mod same_object;
pub mod tables;
pub mod targets;
mod unwinding;
mod validate;

use std::cmp::Ordering;

use otf_artifact::{
    FORMAT_VERSION,
    analysis::Analysis,
    diagnostic::{Code, Diagnostic},
    exact::ExactMap,
    ids::ImageId,
    sites::{Location, Site, SiteImage, SiteKind, Sites},
};
use tracing::info;

use crate::{
    allocation::Allocations,
    calls::TargetSets,
    confined::Confined,
    dwarf::paths::Paths,
    exact::ask::Asked,
    extent::Confinement,
    globals::Globals,
    image::Image,
    join::{Join, tidy},
    ladder::Ladder,
    legal::LegalSets,
};

/// An ELF file with code and DWARF.
#[derive(Clone, Copy, Debug)]
pub struct ImageInput<'a> {
    /// `vmlinux`, or the module's name as in lsmod.
    pub name: &'a str,
    /// File name for messages and for the artifact.
    pub file: &'a str,
    /// Its bytes; a large file is best mapped into memory.
    pub bytes: &'a [u8],
    /// What of it belongs to the compartment.
    pub confined: Confinement<'a>,
    /// Exact maps of the confined files, where there are any.
    pub exact: &'a [ExactMap],
}

/// Finds every site of the confined images and what it may write.
///
/// # Errors
/// Diagnostics when an image cannot be read, none is confined, or the analysis refers to rows that
/// it does not have.
pub fn resolve(analysis: &Analysis, images: &[ImageInput<'_>]) -> Result<Sites, Vec<Diagnostic>> {
    validate::analysis(analysis)?;
    let images = ordered(images)?;
    let paths = Paths::new(source_files(analysis));
    let mut problems = Vec::new();
    let (mut confined, mut others) = (Vec::new(), Vec::new());
    for (row, input) in images.iter().enumerate() {
        info!(image = input.name, "reading");
        let parsed = Image::parse(input.name, ImageId::from(row), input.bytes);
        let loaded = parsed.and_then(|image| {
            if is_confined(input) {
                confined.push(Confined::load(image, &paths, input.confined)?);
            } else {
                others.push(image);
            }
            Ok(())
        });
        if let Err(problem) = loaded {
            problems.push(bad_image(input.file, &problem));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    info!("binding variables, allocations and gates");
    let globals = Globals::bind(analysis, &confined, &others);
    let allocations = Allocations::bind(analysis, &confined, &others, &paths)
        .map_err(|problem| vec![bad_image("vmlinux", &problem)])?;
    let ladder = Ladder::new(analysis);
    let mut diagnostics = globals.diagnostics.clone();
    let gate_probes = gates::bind(analysis, &confined, &mut diagnostics);
    let mut join = Join {
        analysis,
        ladder: &ladder,
        globals: &globals,
        images: confined.iter().map(|c| &c.image).chain(&others).collect(),
        gates: &gate_probes,
        legal: LegalSets::new(&analysis.legal_sets),
        diagnostics,
    };
    let (mut sites, mut frees) = (Vec::new(), Vec::new());
    let (mut call_sites, mut returns) = (Vec::new(), Vec::new());
    let mut target_sets = TargetSets::new(&analysis.target_sets);
    for image in &confined {
        info!(image = image.image.name, "joining sites with legal sets");
        let gates = join.gates_of(image);
        let maps = images[image.image.id.index()].exact;
        let asked = Asked::new(image, maps);
        by_kind(join.sites(image, &asked, &gates), &mut sites, &mut frees);
        join.diagnostics.extend(unmapped(maps, &asked));
        call_sites.extend(calls::calls(image, &ladder, &gates, &mut target_sets));
        returns.extend(calls::returns(image));
        join.diagnostics.extend(weaknesses(image));
    }
    for list in [&mut sites, &mut frees] {
        list.sort_by(|a, b| in_order(&a.location, &b.location));
    }
    call_sites.sort_by(|a, b| in_order(&a.location, &b.location));
    returns.sort_by(|a, b| in_order(&a.location, &b.location));
    let mut diagnostics = join.diagnostics;
    let legal_sets = join.legal.into_rows();
    info!("looking for sites that need no probe of their own");
    let tables = covered::Tables::new(analysis, &legal_sets, &allocations, &globals);
    covered::cover(&confined, &mut sites, &tables);
    let passed = passed::bind(&legal_sets, &confined, &mut diagnostics);
    let target_symbols = targets::bind(analysis, &join.images, &paths, &mut diagnostics)
        .map_err(|problem| vec![bad_image("", &problem)])?;
    tidy(&mut diagnostics);
    let mut result = Sites {
        calls: call_sites,
        returns,
        target_sets: target_sets.into_rows(),
        target_symbols,
        version: FORMAT_VERSION,
        images: site_images(&confined, &others, &images),
        sites,
        frees,
        legal_sets,
        allocation_probes: allocations.probes,
        untracked_allocations: allocations.untracked,
        heap_calls: confined.iter().flat_map(heap::calls).collect(),
        gate_probes,
        passed_probes: passed.probes,
        unnoted_parameters: passed.unnoted,
        global_symbols: globals.symbols,
        jump_rooms: Vec::new(),
        diagnostics,
        analysis: Analysis {
            functions: Vec::new(),
            ..analysis.clone()
        },
    };
    info!("looking where probes can be jumps");
    result.jump_rooms = room::find(&confined, &others, result.probed_places())
        .map_err(|problem| vec![bad_image("", &problem)])?;
    let broken = check::check(&result);
    if broken.is_empty() {
        Ok(result)
    } else {
        Err(broken)
    }
}

/// The images as the artifact lists them, in the order of the inputs.
fn site_images(
    confined: &[Confined<'_>],
    others: &[Image<'_>],
    images: &[ImageInput<'_>],
) -> Vec<SiteImage> {
    let mut parsed: Vec<SiteImage> = confined
        .iter()
        .map(|c| (&c.image, c.text()))
        .chain(others.iter().map(|image| (image, Vec::new())))
        .map(|(image, text)| SiteImage {
            name: image.name.clone(),
            file: images[image.id.index()].file.to_owned(),
            build_id: image.build_id.clone(),
            text,
        })
        .collect();
    parsed.sort_by_key(|image| images.iter().position(|input| input.name == image.name));
    parsed
}

/// Tells sites that free from those that write.
fn by_kind(found: Vec<Site>, sites: &mut Vec<Site>, frees: &mut Vec<Site>) {
    for site in found {
        if site.kind == SiteKind::Free {
            frees.push(site);
        } else {
            sites.push(site);
        }
    }
}

/// Confined images first, by name; `vmlinux` last.
fn ordered<'a>(images: &[ImageInput<'a>]) -> Result<Vec<ImageInput<'a>>, Vec<Diagnostic>> {
    if !images.iter().any(is_confined) {
        let message = "no image of the compartment was given";
        return Err(vec![Diagnostic::error(Code::BadImage, message)]);
    }
    let mut images = images.to_vec();
    images.sort_by_key(|image| (image.name == "vmlinux", !is_confined(image), image.name));
    Ok(images)
}

fn is_confined(input: &ImageInput<'_>) -> bool {
    match input.confined {
        Confinement::Outside => false,
        Confinement::Whole => true,
        Confinement::Files(files) => !files.is_empty(),
    }
}

fn in_order(a: &Location, b: &Location) -> Ordering {
    (a.image, &a.section, a.offset).cmp(&(b.image, &b.section, b.offset))
}

fn source_files(analysis: &Analysis) -> Vec<String> {
    let functions = analysis.functions.iter().map(|f| f.file.clone());
    let allocations = analysis.allocation_sites.iter().map(|a| a.file.clone());
    let gates = analysis.gates.iter().map(|g| g.file.clone());
    functions.chain(allocations).chain(gates).collect()
}

fn bad_image(file: &str, problem: &str) -> Diagnostic {
    Diagnostic::error(Code::BadImage, problem)
        .at(file, 0, 0)
        .help("give the image with its code and debug information, not stripped and not compressed")
}

/// What of exact maps is not used.
fn unmapped(maps: &[ExactMap], asked: &Asked<'_>) -> Vec<Diagnostic> {
    let missing = maps.iter().filter_map(|map| {
        let reason = map.missing.as_ref()?;
        let message = format!("there is no exact map: {reason}");
        Some(Diagnostic::warning(Code::NoExactMap, message).at(&map.source, 0, 0))
    });
    let other = asked.other_code().iter().map(|(file, symbol)| {
        let message = format!("the code of {symbol} is not that of its exact map");
        Diagnostic::warning(Code::NoExactMap, message).at(*file, 0, 0)
    });
    missing.chain(other).collect()
}

/// What a user should know about an image.
fn weaknesses(confined: &Confined<'_>) -> Vec<Diagnostic> {
    let image = &confined.image;
    let warn = |code, message: String| Diagnostic::warning(code, message).at(&image.name, 0, 0);
    let mut found = Vec::new();
    if let Some(address) = confined.code.undecodable.first() {
        let place = image.location(*address);
        let count = confined.code.undecodable.len();
        found.push(warn(
            Code::Undecodable,
            format!(
                "{count} bytes are no instruction, the first at {}+{:#x}",
                place.section, place.offset
            ),
        ));
    }
    if confined.frames.unreadable > 0 {
        let count = confined.frames.unreadable;
        found.push(warn(
            Code::BadImage,
            format!("{count} frame descriptions cannot be read"),
        ));
    }
    if confined.debug.units().is_empty() {
        found.push(warn(
            Code::BadImage,
            "no debug information: every site takes the set of the whole compartment".into(),
        ));
    }
    if image.section(".parainstructions").is_some() {
        found.push(warn(
            Code::Undecodable,
            "paravirtual calls are patched at load by code that is not in the image".into(),
        ));
    }
    found
}
