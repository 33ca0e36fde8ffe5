//! Modules of our own for an unchanged kernel: overlays, the guard, oracles.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use otf_artifact::diagnostic::{Code, Diagnostic};
use tracing::info;

use crate::{
    build,
    cache::{Cache, io_error, key},
    command, elf, kbuild, lineage,
    overlay::Overlay,
    trees::{self, Headers},
};

/// Where the guard's source and Kbuild file are, relative to the root.
const GUARD: &str = "crates/runtime/guard";
/// Raised when a change of this file or of `kbuild` changes the products, so that cached ones are not taken.
const RECIPE: &[u8] = b"modules 1";
/// Folder of the bitcode in an overlay's product, for a kernel that was built here.
pub const BITCODE: &str = "bitcode";
/// Table of its files by source.
const BITCODE_TABLE: &str = "bitcode.json";
/// Module name of the guard.
pub const GUARD_MODULE: &str = "otf_guard";

/// What modules are built with.
pub struct Builder<'a> {
    /// Cache.
    pub cache: &'a Cache,
    /// Headers.
    pub headers: &'a Headers,
    /// Root of the repository.
    pub root: &'a Path,
    /// Kernel profile.
    pub kernel: &'a str,
}

/// A built overlay.
#[derive(Clone, Debug)]
pub struct BuiltOverlay {
    /// The product: `tree/` has the changed source, `modules/` the `.ko` with DWARF, `loadable/`
    /// the `.ko` without.
    pub product: String,
    /// Names what it was made from.
    pub key: String,
    /// For a kernel that was built here: bitcode by source, in [`BITCODE`].
    pub bitcode: BTreeMap<String, String>,
}

impl Builder<'_> {
    /// Changes the source and builds the overlay's modules. `source` is the kernel tree, `source_key` names it.
    pub fn overlay(
        &self,
        name: &str,
        overlay: &Overlay,
        source: &Path,
        source_key: &str,
    ) -> Result<BuiltOverlay, Diagnostic> {
        let folder = lineage::overlay_folder(self.root, self.kernel, name);
        let file = lineage::overlay_file(self.root, self.kernel, name);
        let patch = overlay
            .patch
            .as_ref()
            .map(|patch| {
                let path = folder.join(&patch.value);
                fs::read_to_string(&path).map_err(|e| io_error("read", &path, &e))
            })
            .transpose()?;
        let files = overlay.files.as_ref().map(|f| folder.join(&f.value));
        let mut parts = vec![
            RECIPE.to_owned(),
            self.headers.key.clone().into_bytes(),
            source_key.to_owned().into_bytes(),
            patch.clone().unwrap_or_default().into_bytes(),
        ];
        for module in &overlay.modules {
            for part in [&module.name.value, &module.directory.value, &module.kbuild] {
                parts.push(part.clone().into_bytes());
            }
        }
        if let Some(files) = &files {
            parts.extend(contents(files)?);
        }
        let key = key(parts);
        let product = format!("overlay/{name}-{key}");
        self.cache.product(&product, |work| {
            info!("building overlay {name}");
            let tree = work.join("tree");
            for module in &overlay.modules {
                let directory = &module.directory.value;
                if source.join(directory).is_dir() {
                    kbuild::copy_files(&source.join(directory), &tree.join(directory))?;
                }
            }
            if let (Some(text), Some(name)) = (&patch, &overlay.patch) {
                let place = |e: Diagnostic| e.at(&file, name.line, name.column);
                apply(text, &folder.join(&name.value), source, &tree, overlay).map_err(place)?;
            }
            if let Some(files) = &files {
                for relative in kbuild::files_below(files)? {
                    copy(&files.join(&relative), &tree.join(&relative))?;
                }
            }
            for (directory, lines) in kbuild_files(overlay) {
                // Where both exist, kbuild takes Kbuild and leaves the directory's Makefile alone.
                write(&tree.join(directory).join("Kbuild"), &lines)?;
            }
            self.build_overlay(overlay, &tree, work)
        })?;
        let table = self.cache.path(&product).join(BITCODE_TABLE);
        let bitcode = if self.headers.built_with.is_some() {
            serde_json::from_slice(&read(&table)?).map_err(|e| {
                let message = format!("{} cannot be read: {e}", table.display());
                Diagnostic::error(Code::CacheCorrupt, message)
            })?
        } else {
            BTreeMap::new()
        };
        Ok(BuiltOverlay {
            product,
            key,
            bitcode,
        })
    }

    /// Builds in a copy, so that the tree stays source.
    fn build_overlay(&self, overlay: &Overlay, tree: &Path, work: &Path) -> Result<(), Diagnostic> {
        let scratch = self.cache.scratch()?;
        for relative in kbuild::files_below(tree)? {
            copy(&tree.join(&relative), &scratch.path().join(&relative))?;
        }
        let directories = kbuild_files(overlay).into_keys().collect();
        kbuild::build(self.headers, scratch.path(), &directories)?;
        for module in &overlay.modules {
            let ko = format!("{}.ko", module.name);
            let built = scratch.path().join(&module.directory.value).join(&ko);
            if !built.is_file() {
                return Err(Diagnostic::error(
                    Code::BuildFailed,
                    format!("the Kbuild lines of `{}` do not build {ko}", module.name),
                ));
            }
            copy(&built, &work.join("modules").join(&ko))?;
            let loadable = work.join("loadable");
            fs::create_dir_all(&loadable).map_err(|e| io_error("make", &loadable, &e))?;
            kbuild::strip(&built, &loadable.join(&ko))?;
        }
        if self.headers.built_with.is_some() {
            self.keep_bitcode(scratch.path(), work)?;
        }
        Ok(())
    }

    /// Keeps what the modules were made of, with a table.
    fn keep_bitcode(&self, tree: &Path, work: &Path) -> Result<(), Diagnostic> {
        let top = format!("{}/", trees::relative(&self.headers.flavour, tree));
        let files = build::recorded(tree, &top)?;
        for file in files.values() {
            copy(&tree.join(file), &work.join(BITCODE).join(file))?;
        }
        self.cache.write_json(&work.join(BITCODE_TABLE), &files)
    }

    /// Builds the guard: a product with `otf_guard.ko`, which has BTF, for its kfuncs.
    pub fn guard(&self) -> Result<String, Diagnostic> {
        let source = self.root.join(GUARD);
        let mut parts = vec![RECIPE.to_owned(), self.headers.key.clone().into_bytes()];
        parts.extend(contents(&source)?);
        let product = format!("guard/{}", key(parts));
        self.cache.product(&product, |work| {
            info!("building the guard");
            let scratch = self.cache.scratch()?;
            let folder = scratch.path().join(GUARD_MODULE);
            for relative in kbuild::files_below(&source)? {
                copy(&source.join(&relative), &folder.join(&relative))?;
            }
            kbuild::build(
                self.headers,
                scratch.path(),
                &[GUARD_MODULE.to_owned()].into(),
            )?;
            let ko = format!("{GUARD_MODULE}.ko");
            let target = work.join(&ko);
            kbuild::strip(&folder.join(&ko), &target)?;
            if elf::has_section(&read(&target)?, &target, ".BTF")? {
                Ok(())
            } else {
                Err(Diagnostic::error(
                    Code::BuildFailed,
                    "the guard was built without BTF, so that no policy could call it",
                )
                .help("install the package dwarves"))
            }
        })?;
        Ok(product)
    }

    fn oracle(&self, name: &str) -> PathBuf {
        let source = lineage::oracle_source(self.root, self.kernel, name);
        self.root.join(source)
    }

    /// Builds the oracles of an overlay: a product with one `.ko` each.
    pub fn oracles(&self, names: &BTreeSet<String>) -> Result<String, Diagnostic> {
        let mut parts = vec![RECIPE.to_owned(), self.headers.key.clone().into_bytes()];
        for name in names {
            parts.push(name.clone().into_bytes());
            parts.push(read(&self.oracle(name))?);
        }
        let product = format!("oracles/{}", key(parts));
        self.cache.product(&product, |work| {
            info!("building oracles");
            let scratch = self.cache.scratch()?;
            let folder = scratch.path().join("oracles");
            let objects: Vec<String> = names.iter().map(|name| format!("{name}.o")).collect();
            for name in names {
                copy(&self.oracle(name), &folder.join(format!("{name}.c")))?;
            }
            let lines = format!("obj-m := {}\n", objects.join(" "));
            write(&folder.join("Kbuild"), &lines)?;
            kbuild::build(self.headers, scratch.path(), &["oracles".to_owned()].into())?;
            for name in names {
                let ko = format!("{name}.ko");
                kbuild::strip(&folder.join(&ko), &work.join(&ko))?;
            }
            Ok(())
        })?;
        Ok(product)
    }
}

/// Applies a patch to the copied directories, exactly: no fuzz.
fn apply(
    text: &str,
    patch: &Path,
    source: &Path,
    tree: &Path,
    overlay: &Overlay,
) -> Result<(), Diagnostic> {
    for file in patched_files(text) {
        let inside = overlay
            .modules
            .iter()
            .any(|m| Path::new(&file).starts_with(&m.directory.value));
        if !inside {
            return Err(Diagnostic::error(
                Code::PatchFailed,
                format!("the patch changes {file}, which no module of the overlay is built from"),
            )
            .help("the rest of the kernel stays as it is: only files below a module's `directory` can change"));
        }
        let (from, to) = (source.join(&file), tree.join(&file));
        if from.is_file() && !to.exists() {
            copy(&from, &to)?;
        }
    }
    let mut command = Command::new("patch");
    command
        .args([
            "-p1",
            "--batch",
            "--forward",
            "--fuzz=0",
            "--no-backup-if-mismatch",
        ])
        .arg("--directory")
        .arg(tree)
        .arg("--input")
        .arg(patch);
    let output = command::output(&mut command, "patch")?;
    if output.status.success() {
        return Ok(());
    }
    Err(Diagnostic::error(
        Code::PatchFailed,
        format!(
            "the patch does not apply:\n{}",
            command::last_words(&output)
        ),
    )
    .help("the kernel source has changed: bring the patch up to date"))
}

/// Files that a `-p1` patch names, new and old names alike.
fn patched_files(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("--- ").or(line.strip_prefix("+++ ")))
        .filter_map(|rest| rest.split(['\t', ' ']).next()?.split_once('/'))
        .filter(|(first, _)| !first.is_empty())
        .map(|(_, path)| path.to_owned())
        .collect()
}

/// The Kbuild file of every directory.
fn kbuild_files(overlay: &Overlay) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for module in &overlay.modules {
        let lines = files.entry(module.directory.value.clone()).or_default();
        // Several modules of a directory add to the same list.
        lines.push_str(&module.kbuild.replace("obj-m :=", "obj-m +="));
        lines.push('\n');
    }
    files
}

/// Names and contents of every file below a folder, for a key.
fn contents(folder: &Path) -> Result<Vec<Vec<u8>>, Diagnostic> {
    let mut parts = Vec::new();
    for relative in kbuild::files_below(folder)? {
        parts.push(read(&folder.join(&relative))?);
        parts.push(relative.into_bytes());
    }
    Ok(parts)
}

fn read(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    fs::read(path).map_err(|e| io_error("read", path, &e))
}

fn write(path: &Path, text: &str) -> Result<(), Diagnostic> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| io_error("make", parent, &e))?;
    }
    fs::write(path, text).map_err(|e| io_error("write", path, &e))
}

fn copy(from: &Path, to: &Path) -> Result<(), Diagnostic> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(|e| io_error("make", parent, &e))?;
    }
    fs::copy(from, to)
        .map(|_| ())
        .map_err(|e| io_error("copy", from, &e))
}

#[cfg(test)]
mod tests {
    use otf_artifact::yaml;

    use super::*;

    const PATCH: &str = "--- a/net/x/a.c\n+++ b/net/x/a.c\n@@ -1,3 +1,2 @@\n one\n-two\n three\n";

    fn overlay() -> Overlay {
        yaml::parse(
            "modules:\n  - {name: a, directory: net/x, kbuild: 'obj-m := a.o'}\n\
             \x20 - {name: b, directory: net/x, kbuild: 'obj-m := b.o'}\n",
            "overlay.yaml",
        )
        .unwrap()
    }

    fn applied(content: &str, patch: &str) -> Result<String, Diagnostic> {
        let dir = tempfile::tempdir().unwrap();
        let (source, tree) = (dir.path().join("source"), dir.path().join("tree"));
        write(&source.join("net/x/a.c"), content).unwrap();
        fs::create_dir(&tree).unwrap();
        let file = dir.path().join("p");
        write(&file, patch).unwrap();
        apply(patch, &file, &source, &tree, &overlay())?;
        assert_eq!(
            fs::read_to_string(source.join("net/x/a.c")).unwrap(),
            content
        );
        Ok(fs::read_to_string(tree.join("net/x/a.c")).unwrap())
    }

    #[test]
    fn a_patch_applies_to_the_copy_only() {
        assert_eq!(applied("one\ntwo\nthree\n", PATCH).unwrap(), "one\nthree\n");
    }

    #[test]
    fn a_patch_that_does_not_fit_fails() {
        for content in ["one\nzwei\nthree\n", "one\nthree\n", ""] {
            let error = applied(content, PATCH).unwrap_err();
            assert_eq!(error.code, Code::PatchFailed);
            assert!(error.message.contains("a.c"), "{error}");
        }
        let outside = PATCH.replace("net/x", "mm");
        let error = applied("one\ntwo\nthree\n", &outside).unwrap_err();
        assert!(error.message.contains("mm/a.c"), "{error}");
    }

    #[test]
    fn modules_of_a_directory_share_a_kbuild_file() {
        let files = kbuild_files(&overlay());
        assert_eq!(files["net/x"], "obj-m += a.o\nobj-m += b.o\n");
    }

    #[test]
    fn names_in_patches() {
        let names = patched_files("--- /dev/null\n+++ b/net/x/new.h\t2020\n+++x\n");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["net/x/new.h"]);
    }
}
