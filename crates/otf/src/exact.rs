//! Exact maps of the confined files of a kernel that was built here: made from a shadow of the
//! object, kept in the cache under what the shadow was made of.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use otf_analyzer::{format::EXTRACTOR, shadow};
use otf_artifact::{
    Artifact, FORMAT_VERSION,
    diagnostic::{Code, Diagnostic},
    exact::ExactMap,
    kernel::{Bitcode, CodegenCommand, KernelLock},
};
use otf_kernel::codegen;
use rayon::prelude::*;
use tracing::{debug, info};

use crate::{files, pipeline, render::Failure};

/// Raised when maps of the same objects come out differently.
const RECIPE: &str = "exact 3";

/// Exact maps by image; none for a kernel that was not built here.
pub fn of_lock(lock: &KernelLock) -> Result<BTreeMap<String, Vec<ExactMap>>, Failure> {
    let mut maps: BTreeMap<String, Vec<ExactMap>> = BTreeMap::new();
    let Some(list) = &lock.commands else {
        return Ok(maps);
    };
    let commands: Vec<CodegenCommand> =
        serde_json::from_slice(&pipeline::cached(list)?).map_err(|e| {
            Diagnostic::error(Code::BadArtifact, format!("not a list of commands: {e}"))
                .at(&list.path, 0, 0)
        })?;
    let by_source: BTreeMap<&str, &CodegenCommand> =
        commands.iter().map(|c| (c.source.as_str(), c)).collect();
    let mut versions: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for command in &commands {
        if !versions.contains_key(command.compiler.as_str()) {
            let version = codegen::compiler_version(&command.compiler)?;
            versions.insert(&command.compiler, version);
        }
    }
    let kept = files::cache()?.join("exact");
    let units: Vec<&Bitcode> = lock.bitcode.iter().filter(|unit| unit.confined).collect();
    let found = units
        .into_par_iter()
        .filter_map(|unit| {
            let command = by_source.get(unit.source.as_str())?;
            let version = versions.get(command.compiler.as_str())?;
            Some(of_unit(&kept, unit, command, version).map(|map| (&unit.image, map)))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let made = found.iter().filter(|(_, (fresh, _))| *fresh).count();
    info!(files = found.len(), made, "exact maps");
    for (image, (_, map)) in found {
        maps.entry(image.clone()).or_default().push(map);
    }
    for maps in maps.values_mut() {
        maps.sort_by(|a, b| a.source.cmp(&b.source));
    }
    Ok(maps)
}

/// The map of one file, and whether it had to be made.
fn of_unit(
    kept: &Path,
    unit: &Bitcode,
    command: &CodegenCommand,
    version: &[u8],
) -> Result<(bool, ExactMap), Failure> {
    let path = place(kept, unit, command, version);
    if let Ok(bytes) = std::fs::read(&path) {
        match ExactMap::read(&bytes, &path.display().to_string()) {
            Ok(map) => return Ok((false, map)),
            Err(e) => debug!(message = e.message, "exact map"),
        }
    }
    let map = make(kept, unit, command)?;
    files::write_artifact(&path, &map)?;
    Ok((true, map))
}

/// Where the map is kept: named by everything that it depends on.
fn place(kept: &Path, unit: &Bitcode, command: &CodegenCommand, version: &[u8]) -> PathBuf {
    let mut parts: Vec<&[u8]> = vec![
        RECIPE.as_bytes(),
        EXTRACTOR.as_bytes(),
        version,
        unit.source.as_bytes(),
        unit.file.sha256.as_bytes(),
    ];
    parts.extend(command.arguments.iter().map(String::as_bytes));
    // With lengths, so that no two lists read the same.
    let named: Vec<u8> = parts
        .into_iter()
        .flat_map(|part| [&(part.len() as u64).to_le_bytes(), part].concat())
        .collect();
    kept.join(format!("{}.json", otf_bundle::sha256(&named)))
}

/// Compiles the shadow. A compiler that refuses it leaves the file without a map, which is said.
fn make(kept: &Path, unit: &Bitcode, command: &CodegenCommand) -> Result<ExactMap, Failure> {
    debug!(source = unit.source, "compiling a shadow");
    let shadow = shadow::mark(&pipeline::cached(&unit.file)?, &unit.source)?;
    let folder = files::scratch(kept)?;
    let missing = |reason: String| ExactMap {
        version: FORMAT_VERSION,
        source: unit.source.clone(),
        missing: Some(reason),
        writes: Vec::new(),
        functions: Vec::new(),
    };
    if let Some(reason) = shadow.unmarkable {
        return Ok(missing(reason));
    }
    let made = match codegen::again(command, &shadow.bitcode, folder.path()) {
        Ok(made) => made,
        Err(e) => return Ok(missing(e.message)),
    };
    let changed = shadow::changed(&made.optimised, &shadow.marks, &unit.source)?;
    let map = otf_binresolve::exact::read(&unit.source, &made.object, &shadow.marks, &changed);
    Ok(map.unwrap_or_else(missing))
}
