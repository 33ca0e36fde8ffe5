//! Compiles kernel source to LLVM bitcode with types intact, one cached product per file.

use std::{
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
    command, kbuild,
    profile::BitcodeRecipe,
    trees::Headers,
    units::Unit,
};

/// File name inside a product.
const FILE: &str = "unit.bc";

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
    /// Tree of the overlay, and what names it; its files come before those of the source.
    pub overlay: Option<(PathBuf, String)>,
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
            Some((tree, key)) if tree.join(&unit.source).is_file() => (tree, key.as_str()),
            _ => (&self.source.0, ""),
        };
        let templates = self.templates(unit);
        let mut parts: Vec<&[u8]> = vec![
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
            let mut command = Command::new(&self.recipe.compiler);
            command
                .current_dir(tree)
                .args(templates.iter().map(|flag| self.expand(flag)))
                .args(kbuild::prefix_maps(&[
                    (&self.source.0, "/", ""),
                    (tree, "/", ""),
                    (&self.headers.common, "/", ""),
                    (&self.headers.flavour, "/", ""),
                ]))
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

    fn expand(&self, flag: &str) -> String {
        flag.replace("{source}", &self.source.0.to_string_lossy())
            .replace("{headers}", &self.headers.flavour.to_string_lossy())
            .replace("{common}", &self.headers.common.to_string_lossy())
    }
}
