//! Compiles kernel source to LLVM bitcode with types intact, one cached product per file.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    kernel::Bitcode,
};
use rayon::prelude::*;
use tracing::info;

use crate::{
    cache::{Cache, key},
    command,
    profile::BitcodeRecipe,
    trees::{Headers, relative},
    units::Unit,
};

/// File name inside a product.
const FILE: &str = "unit.bc";
/// Raised when a change of this file changes the bitcode, so that cached products are not taken.
const RECIPE: &[u8] = b"bitcode 1";

/// Everything that decides what bitcode looks like, but for the file itself.
pub struct Compiler<'a> {
    /// Cache.
    pub cache: &'a Cache,
    /// Flags.
    pub recipe: &'a BitcodeRecipe,
    /// Further flags for confined files.
    pub confined_flags: &'a [String],
    /// Headers.
    pub headers: &'a Headers,
    /// Kernel source tree, and what names it.
    pub source: (PathBuf, String),
    /// The overlay, whose tree comes before the source for files of the modules that it builds.
    pub overlay: Option<ChangedTree>,
}

/// Source that an overlay changed.
#[derive(Clone, Debug)]
pub struct ChangedTree {
    /// Top of the tree.
    pub tree: PathBuf,
    /// What names it.
    pub key: String,
    /// Modules built from it; every other image is what it was.
    pub modules: BTreeSet<String>,
}

impl Compiler<'_> {
    /// Compiles every file, in parallel; all failures are reported.
    pub fn compile(&self, units: &[Unit]) -> Result<Vec<Bitcode>, Vec<Diagnostic>> {
        let version = command::run(
            Command::new(&self.recipe.compiler).arg("--version"),
            &self.recipe.compiler,
            Code::Environment,
            &self.recipe.compiler,
        )
        .map_err(|e| vec![e])?;
        let results: Vec<_> = units
            .par_iter()
            .map(|unit| self.unit(unit, &version))
            .collect();
        let mut bitcode = Vec::new();
        let mut errors = Vec::new();
        for result in results {
            match result {
                Ok(unit) => bitcode.push(unit),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            Ok(bitcode)
        } else {
            Err(errors)
        }
    }

    fn unit(&self, unit: &Unit, version: &[u8]) -> Result<Bitcode, Diagnostic> {
        let (tree, overlay_key) = match &self.overlay {
            Some(o) if o.modules.contains(&unit.image) && o.tree.join(&unit.source).is_file() => {
                (&o.tree, o.key.as_str())
            }
            _ => (&self.source.0, ""),
        };
        let templates = self.templates(unit);
        let mut parts: Vec<&[u8]> = vec![
            RECIPE,
            version,
            unit.source.as_bytes(),
            unit.image.as_bytes(),
            self.headers.key.as_bytes(),
            self.source.1.as_bytes(),
            overlay_key.as_bytes(),
        ];
        parts.extend(templates.iter().map(String::as_bytes));
        let product = format!("bitcode/{}", key(parts));
        self.cache.product(&product, |work| {
            info!("compiling {} to bitcode", unit.source);
            let trees = RelativeTrees::new(tree, &self.source.0, self.headers);
            let mut command = Command::new(&self.recipe.compiler);
            command
                .current_dir(tree)
                .args(templates.iter().map(|flag| trees.expand(flag)))
                .args(trees.prefix_maps())
                .args(["-fdebug-compilation-dir=.", "-emit-llvm", "-c"])
                .arg(&unit.source)
                .arg("-o")
                .arg(work.join(FILE));
            command::run(
                &mut command,
                &self.recipe.compiler,
                Code::BuildFailed,
                &format!("bitcode of {}", unit.source),
            )
            .map(|_| ())
        })?;
        Ok(Bitcode {
            source: unit.source.clone(),
            image: unit.image.clone(),
            confined: unit.confined,
            file: self.cache.locked(&product, FILE)?,
        })
    }

    /// The file's flags, with placeholders.
    fn templates(&self, unit: &Unit) -> Vec<String> {
        let mut flags = self.recipe.flags.clone();
        let stem = Path::new(&unit.source)
            .file_stem()
            .map_or_else(String::new, |s| {
                s.to_string_lossy().replace(['-', ','], "_")
            });
        let folder = unit
            .source
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        let module = if unit.image == "vmlinux" {
            stem.clone()
        } else {
            flags.extend(self.recipe.module_flags.iter().cloned());
            unit.image.clone()
        };
        flags.extend([
            format!("-DKBUILD_BASENAME=\"{stem}\""),
            format!("-DKBUILD_MODNAME=\"{module}\""),
            format!("-D__KBUILD_MODNAME=kmod_{module}"),
            format!("-DKBUILD_MODFILE=\"{folder}/{module}\""),
        ]);
        if unit.confined {
            flags.extend(self.confined_flags.iter().cloned());
        }
        flags
    }
}

/// The trees as seen from the one that is compiled in. Clang numbers places in inline assembly by
/// the lengths of all names it has read, so that only relative names give the same bitcode in
/// every cache.
struct RelativeTrees {
    source: String,
    headers: String,
    common: String,
}

impl RelativeTrees {
    fn new(from: &Path, source: &Path, headers: &Headers) -> Self {
        Self {
            source: relative(from, source),
            headers: relative(from, &headers.flavour),
            common: relative(from, &headers.common),
        }
    }

    fn expand(&self, flag: &str) -> String {
        flag.replace("{source}", &self.source)
            .replace("{headers}", &self.headers)
            .replace("{common}", &self.common)
    }

    /// Names in debug information are relative to the kernel tree, whichever tree a file is in.
    fn prefix_maps(&self) -> [String; 3] {
        [&self.source, &self.headers, &self.common]
            .map(|tree| format!("-ffile-prefix-map={tree}/="))
    }
}
