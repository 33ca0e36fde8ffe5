//! Machine entries of call targets, and which of several symbols of one name is meant.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    analysis::Analysis,
    diagnostic::{Code, Diagnostic},
    ids::TargetId,
    sites::TargetSymbol,
};

use crate::{
    dwarf::{Sections, paths::Paths},
    image::{Image, Problem, Symbol},
};

/// Code ranges of the files that define one of several symbols of one name, by (image, file).
type FileRanges = BTreeMap<(String, String), Vec<(u64, u64)>>;

/// Finds the first instructions of all call targets. Where debug information cannot tell apart
/// functions of one name, all of them count.
///
/// # Errors
/// When debug information cannot be read.
pub fn bind(
    analysis: &Analysis,
    images: &[&Image<'_>],
    paths: &Paths,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Vec<TargetSymbol>, Problem> {
    let ranges = ambiguous_files(analysis, images, paths)?;
    let mut symbols = Vec::new();
    let mut unbound: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (row, target) in analysis.targets.iter().enumerate() {
        let found = images
            .iter()
            .find(|image| image.name == target.image)
            .map(|image| (image, candidates(image, &target.symbol)));
        let Some((image, mut found)) = found.filter(|(_, found)| !found.is_empty()) else {
            unbound
                .entry(&target.image)
                .or_default()
                .push(&target.symbol);
            continue;
        };
        let key = (target.image.clone(), target.file.clone());
        if let Some(ranges) = ranges.get(&key).filter(|_| found.len() > 1) {
            let inside = |s: &&Symbol<'_>| {
                ranges
                    .iter()
                    .any(|(start, end)| (*start..*end).contains(&s.address))
            };
            if found.iter().any(inside) {
                found.retain(inside);
            }
        }
        symbols.extend(found.into_iter().map(|symbol| TargetSymbol {
            target: TargetId::from(row),
            location: image.location(symbol.address),
        }));
    }
    for (image, names) in unbound {
        let message = format!(
            "{} call targets are in no symbol table of {image}, {} is the first: calls to them are \
             not recognised as legal",
            names.len(),
            names[0]
        );
        let help = format!("give the image {image}");
        diagnostics.push(Diagnostic::warning(Code::Unbound, message).help(help));
    }
    symbols.sort();
    symbols.dedup();
    Ok(symbols)
}

/// Functions of this name.
fn candidates<'i, 'd>(image: &'i Image<'d>, name: &str) -> Vec<&'i Symbol<'d>> {
    let named = image.symbols_named(name).filter(|s| s.function);
    let mut all: Vec<&Symbol<'_>> = named.collect();
    all.dedup_by_key(|s| s.address);
    all
}

fn ambiguous_files(
    analysis: &Analysis,
    images: &[&Image<'_>],
    paths: &Paths,
) -> Result<FileRanges, Problem> {
    let mut result = FileRanges::new();
    for image in images {
        let wanted: BTreeSet<&str> = analysis
            .targets
            .iter()
            .filter(|t| t.image == image.name && candidates(image, &t.symbol).len() > 1)
            .map(|t| t.file.as_str())
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let sections = Sections::load(image)?;
        let ranges = sections
            .index(paths)
            .and_then(|index| index.ranges(|file| wanted.contains(file)))
            .map_err(|e| format!("debug information of {}: {e}", image.name))?;
        for unit in ranges {
            let key = (image.name.clone(), unit.name);
            result.entry(key).or_default().extend(unit.ranges);
        }
    }
    Ok(result)
}
