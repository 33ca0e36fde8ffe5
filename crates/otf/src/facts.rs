//! Facts of files: made from bitcode, kept in the cache under the bitcode's hash.

use std::path::{Path, PathBuf};

use otf_analyzer::{
    FileMeta,
    facts::Facts,
    format::{self, Depth, EXTRACTOR},
};
use otf_artifact::kernel::{Bitcode, CachedFile, ENTRY_POINT, KernelLock};
use rayon::prelude::*;
use tracing::{debug, info};

use crate::{cli, files, pipeline, render::Failure};

/// `otf facts FILE.bc -o FILE.facts`: a function of the one file.
pub fn command(args: &cli::Facts) -> Result<(), Failure> {
    let name = args
        .source
        .clone()
        .unwrap_or_else(|| args.bitcode.display().to_string());
    let bitcode = files::read(&args.bitcode)?;
    let facts = otf_analyzer::facts(&bitcode, &name)?;
    let sha256 = otf_bundle::sha256(&bitcode);
    let (bytes, _) = format::encode(facts, &sha256, Depth::Full)?;
    files::write(&args.output, &bytes)
}

/// Whether the files that were locked are those of the whole kernel.
pub fn whole(lock: &KernelLock) -> bool {
    lock.bitcode.iter().any(|unit| unit.source == ENTRY_POINT)
}

/// Facts of every file of the lock in its order, in parallel; only what is not in the cache is
/// read from bitcode, and no more than one module per thread is in memory. `kept` is where facts
/// are kept.
pub fn of_lock(lock: &KernelLock, kept: &Path) -> Result<Vec<(FileMeta, Facts)>, Failure> {
    let depth = if whole(lock) {
        Depth::Mentioned
    } else {
        Depth::Full
    };
    let read: Vec<(bool, (FileMeta, Facts))> = lock
        .bitcode
        .par_iter()
        .map(|unit| {
            let (fresh, facts) = of_unit(kept, unit, depth)?;
            let meta = FileMeta {
                source: unit.source.clone(),
                image: unit.image.clone(),
                confined: unit.confined,
            };
            Ok((fresh, (meta, facts)))
        })
        .collect::<Result<_, Failure>>()?;
    let fresh = read.iter().filter(|(fresh, _)| *fresh).count();
    info!(files = read.len(), made = fresh, "facts");
    Ok(read.into_iter().map(|(_, file)| file).collect())
}

/// Facts of one file, and whether they had to be made.
fn of_unit(kept: &Path, unit: &Bitcode, depth: Depth) -> Result<(bool, Facts), Failure> {
    let path = place(kept, &unit.file);
    if let Some(facts) = known(&path, unit, depth) {
        return Ok((false, facts));
    }
    let facts = otf_analyzer::facts(&pipeline::cached(&unit.file)?, &unit.source)?;
    let (bytes, facts) = format::encode(facts, &unit.file.sha256, depth)?;
    files::write(&path, &bytes)?;
    Ok((true, facts))
}

/// Facts that were kept, if they are those of this bitcode: otherwise they are made again.
fn known(path: &Path, unit: &Bitcode, depth: Depth) -> Option<Facts> {
    let bytes = std::fs::read(path).ok()?;
    let name = path.display().to_string();
    let read = format::header(&bytes, &name)
        .and_then(|header| Ok((header, format::decode(&bytes, depth, &name)?)));
    match read {
        Ok((header, _)) if header.bitcode != unit.file.sha256 => {
            debug!(path = name, "facts of other bitcode");
            None
        }
        Ok((_, facts)) if facts.source != unit.source => {
            debug!(source = unit.source, "the same bitcode under another name");
            None
        }
        Ok((_, facts)) => Some(facts),
        Err(e) => {
            debug!(message = e.message, "facts");
            None
        }
    }
}

/// Where the facts of a bitcode file are kept: a folder for each version of the extractor.
pub fn place(kept: &Path, bitcode: &CachedFile) -> PathBuf {
    kept.join(EXTRACTOR)
        .join(format!("{}.facts", bitcode.sha256))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use otf_analyzer::facts::{Shape, Type, Types};

    use super::*;

    #[test]
    fn only_facts_of_the_same_bitcode_are_taken() {
        let unit = |sha256: &str, source: &str| Bitcode {
            source: source.into(),
            image: "vmlinux".into(),
            confined: true,
            file: CachedFile {
                path: "a.bc".into(),
                sha256: sha256.repeat(64),
            },
        };
        let void = Type {
            name: "void".into(),
            size: 1,
            shape: Shape::Scalar,
            identity: 0,
        };
        let facts = Facts {
            source: "a.c".into(),
            types: Types(vec![void]),
            ..Facts::default()
        };
        let own = unit("a", "a.c");
        let (bytes, facts) = format::encode(facts, &own.file.sha256, Depth::Full).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.facts");
        assert_eq!(known(&path, &own, Depth::Full), None, "no file");
        fs::write(&path, &bytes).unwrap();
        assert_eq!(known(&path, &own, Depth::Full), Some(facts.clone()));
        assert_eq!(
            known(&path, &unit("b", "a.c"), Depth::Full),
            None,
            "other bitcode"
        );
        assert_eq!(
            known(&path, &unit("a", "b.c"), Depth::Full),
            None,
            "other source"
        );
        let (bytes, _) = format::encode(facts, &own.file.sha256, Depth::Mentioned).unwrap();
        fs::write(&path, &bytes).unwrap();
        assert_eq!(known(&path, &own, Depth::Full), None, "not deep enough");
        assert!(known(&path, &own, Depth::Mentioned).is_some());
        fs::write(&path, &bytes[1..]).unwrap();
        assert_eq!(known(&path, &own, Depth::Full), None, "damaged");
    }
}
