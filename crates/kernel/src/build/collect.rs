//! What a finished build holds: images with their files, and the command behind every object.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    kernel::CodegenCommand,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::{
    build::{
        COMMANDS,
        tree::{self, OUT},
    },
    cache::io_error,
    elf, kbuild,
};

/// Table of contents, in the product.
const CONTENTS: &str = "contents.json";
/// Boot image, in the product.
pub const BOOT_IMAGE: &str = "out/arch/x86/boot/bzImage";
/// Folder of the modules without DWARF, in the product.
pub const LOADABLE: &str = "loadable";
/// Large files that only the link needed.
const INTERMEDIATE: [&str; 3] = ["vmlinux.o", "vmlinux.a", "vmlinux.unstripped"];

/// What the product holds, so that nobody has to read 200 images again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// `uname -r`.
    pub release: String,
    /// `vmlinux` and every module.
    pub images: BTreeMap<String, BuiltImage>,
    /// Modules that are part of `vmlinux`.
    pub builtin: BTreeSet<String>,
    /// Bitcode by source, relative to the output folder.
    pub bitcode: BTreeMap<String, String>,
}

/// An image of the build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltImage {
    /// File with code and DWARF, relative to the product.
    pub file: String,
    /// GNU build-id, hex.
    pub build_id: String,
    /// C files that it is made of.
    pub units: BTreeSet<String>,
}

impl Contents {
    /// Reads the table of a product.
    pub fn read(product: &Path) -> Result<Self, Diagnostic> {
        let path = product.join(CONTENTS);
        let bytes = fs::read(&path).map_err(|e| io_error("read", &path, &e))?;
        serde_json::from_slice(&bytes).map_err(|e| {
            Diagnostic::error(
                Code::CacheCorrupt,
                format!("{} cannot be read: {e}", path.display()),
            )
            .help(format!(
                "remove {}; the next run builds it again",
                product.display()
            ))
        })
    }
}

/// Completes a build in `work`: table of contents, commands, loadable modules; removes what only
/// the link needed.
pub fn collect(work: &Path, compiler: &str) -> Result<(), Diagnostic> {
    info!("reading what was built");
    let out = work.join(OUT);
    let commands = commands(&out, "../", compiler)?;
    let contents = contents(work, &commands)?;
    // Objects of tools, of the boot loader and of the vDSO are in no image.
    let (kept, others): (Vec<_>, Vec<_>) = commands
        .into_iter()
        .partition(|c| contents.bitcode.get(&c.source) == Some(&c.bitcode));
    for command in others {
        remove(&out.join(&command.bitcode))?;
    }
    write_json(&work.join(COMMANDS), &kept)?;
    write_json(&work.join(CONTENTS), &contents)?;

    let loadable = work.join(LOADABLE);
    fs::create_dir_all(&loadable).map_err(|e| io_error("make", &loadable, &e))?;
    contents
        .images
        .par_iter()
        .filter(|(name, _)| *name != "vmlinux")
        .try_for_each(|(name, image)| {
            kbuild::strip(
                &work.join(&image.file),
                &loadable.join(format!("{name}.ko")),
            )
        })?;
    for name in INTERMEDIATE {
        remove(&out.join(name))?;
    }
    Ok(())
}

/// Bitcode that a build of modules has left in their tree: files by source, relative to it. `top` is
/// what the compiler was told for the tree, with a slash.
pub fn recorded(tree: &Path, top: &str) -> Result<BTreeMap<String, String>, Diagnostic> {
    let commands = commands(tree, top, "")?;
    let files = commands.into_iter().map(|c| (c.source, c.bitcode));
    Ok(files.collect())
}

/// Reads what the compiler left beside every object. `top` comes before the names of sources.
fn commands(out: &Path, top: &str, compiler: &str) -> Result<Vec<CodegenCommand>, Diagnostic> {
    let mut commands = Vec::new();
    for file in tree::files(out)? {
        let Some(stem) = file.strip_suffix(".codegen") else {
            continue;
        };
        let path = out.join(&file);
        let text = fs::read_to_string(&path).map_err(|e| io_error("read", &path, &e))?;
        commands.push(command(stem, &text, top, compiler).ok_or_else(|| {
            let message = format!("the record of {stem}.o is empty or names a path:\n{text}");
            Diagnostic::error(Code::InvariantBroken, message)
        })?);
    }
    commands.sort();
    Ok(commands)
}

/// The command of one record: the source in the first line, the arguments after it.
fn command(stem: &str, record: &str, top: &str, compiler: &str) -> Option<CodegenCommand> {
    let mut lines = record.lines();
    let source = lines.next().filter(|s| !s.is_empty())?;
    let arguments: Vec<String> = lines.map(str::to_owned).collect();
    if arguments.iter().any(|a| a.contains('/')) {
        return None;
    }
    // Sources of the kernel itself lie above the folder that it was built in.
    let source = source
        .strip_prefix(top)
        .or(source.strip_prefix("../"))
        .unwrap_or(source);
    Some(CodegenCommand {
        source: source.strip_prefix("./").unwrap_or(source).to_owned(),
        bitcode: format!("{stem}.bc"),
        object: format!("{stem}.o"),
        compiler: compiler.to_owned(),
        arguments,
    })
}

fn contents(work: &Path, commands: &[CodegenCommand]) -> Result<Contents, Diagnostic> {
    let out = work.join(OUT);
    let read = |name: &str| {
        let path = out.join(name);
        fs::read_to_string(&path).map_err(|e| io_error("read", &path, &e))
    };
    let mut files = vec![("vmlinux".to_owned(), format!("{OUT}/vmlinux"))];
    for object in read("modules.order")?.lines() {
        let stem = object.strip_suffix(".o").unwrap_or(object);
        files.push((module_name(stem), format!("{OUT}/{stem}.ko")));
    }
    let images: BTreeMap<String, BuiltImage> = files
        .into_par_iter()
        .map(|(name, file)| {
            let facts = elf::image_facts(&work.join(&file))?;
            let image = BuiltImage {
                file,
                build_id: facts.build_id,
                units: facts.units,
            };
            Ok((name, image))
        })
        .collect::<Result<_, Diagnostic>>()?;
    let used: BTreeSet<&str> = images
        .values()
        .flat_map(|i| &i.units)
        .map(String::as_str)
        .collect();
    Ok(Contents {
        release: read("include/config/kernel.release")?.trim().to_owned(),
        builtin: read("modules.builtin")?
            .lines()
            .map(|line| module_name(line.strip_suffix(".ko").unwrap_or(line)))
            .collect(),
        bitcode: bitcode(commands, &used),
        images,
    })
}

/// Bitcode of every source that is in an image. A source that was compiled twice (a second time for
/// the boot loader, say) has its object beside it in the image.
fn bitcode(commands: &[CodegenCommand], used: &BTreeSet<&str>) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for command in commands.iter().filter(|c| used.contains(c.source.as_str())) {
        let beside = command.source.strip_suffix(".c") == command.bitcode.strip_suffix(".bc");
        if beside || !found.contains_key(&command.source) {
            found.insert(command.source.clone(), command.bitcode.clone());
        }
    }
    found
}

/// `net/sched/sch-qfq` is `sch_qfq`.
fn module_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).replace('-', "_")
}

fn remove(path: &Path) -> Result<(), Diagnostic> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io_error("remove", path, &e)),
        _ => Ok(()),
    }
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), Diagnostic> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| Diagnostic::error(Code::InvariantBroken, e.to_string()))?;
    fs::write(path, bytes).map_err(|e| io_error("write", path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_commands() {
        let found = command("net/x/a", "../net/x/a.c\n-O2\n-g0\n", "../", "clang-19").unwrap();
        assert_eq!(found.source, "net/x/a.c");
        assert_eq!(
            (found.bitcode.as_str(), found.object.as_str()),
            ("net/x/a.bc", "net/x/a.o")
        );
        assert_eq!(found.arguments, ["-O2", "-g0"]);
        assert_eq!(
            command("l/b", "./l/b.c\n", "../", "clang").unwrap().source,
            "l/b.c"
        );
        assert_eq!(command("a", "", "../", "clang"), None);
        assert_eq!(
            command("a", "a.c\n-fplugin=/tmp/p.so\n", "../", "clang"),
            None
        );
    }

    #[test]
    fn the_object_beside_the_source_is_that_of_the_image() {
        let at = |stem: &str| command(stem, "../lib/a.c\n", "../", "clang").unwrap();
        for order in [["arch/x86/boot/a", "lib/a"], ["lib/a", "zz/a"]] {
            let commands = order.map(at);
            let found = bitcode(&commands, &BTreeSet::from(["lib/a.c"]));
            assert_eq!(found["lib/a.c"], "lib/a.bc");
        }
        assert!(bitcode(&[at("lib/a")], &BTreeSet::new()).is_empty());
    }

    #[test]
    fn bitcode_of_a_tree_of_modules_goes_by_the_kernels_names() {
        let tree = tempfile::tempdir().unwrap();
        for (file, source) in [
            ("net/x/a", "../../tmp/t/net/x/a.c"),
            (".module-common", "../scripts/module-common.c"),
        ] {
            let path = tree.path().join(format!("{file}.codegen"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{source}\n-O2\n")).unwrap();
        }
        let found = recorded(tree.path(), "../../tmp/t/").unwrap();
        assert_eq!(found["net/x/a.c"], "net/x/a.bc");
        assert_eq!(found["scripts/module-common.c"], ".module-common.bc");
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn modules_are_named_as_in_lsmod() {
        assert_eq!(module_name("net/sched/sch-qfq"), "sch_qfq");
        assert_eq!(module_name("a"), "a");
    }

    #[test]
    fn a_broken_table_is_said() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(CONTENTS), "{").unwrap();
        assert_eq!(
            Contents::read(dir.path()).unwrap_err().code,
            Code::CacheCorrupt
        );
    }
}
