//! What the resolver reads of ELF files: build-id, module information, and which source files are in it.

use std::{collections::BTreeSet, fs, path::Path};

use gimli::{EndianSlice, LittleEndian};
use object::{
    Object, ObjectSection, ObjectSymbol, RelocationKind, RelocationTarget, read::elf::ElfFile64,
};
use otf_artifact::diagnostic::{Code, Diagnostic};

use crate::cache::{hex, io_error};

/// What the cache keeps of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageFacts {
    /// GNU build-id, hex.
    pub build_id: String,
    /// Names of the compilation units, relative to the kernel tree.
    pub units: BTreeSet<String>,
}

/// Reads an image with DWARF.
pub fn image_facts(path: &Path) -> Result<ImageFacts, Diagnostic> {
    let bytes = fs::read(path).map_err(|e| io_error("read", path, &e))?;
    let elf = parse(&bytes, path)?;
    Ok(ImageFacts {
        build_id: build_id_of(&elf, path)?,
        units: units(&elf).map_err(|e| bad(path, e))?,
    })
}

/// Reads the build-id of an ELF file in memory; `path` is for messages.
pub fn build_id(bytes: &[u8], path: &Path) -> Result<String, Diagnostic> {
    build_id_of(&parse(bytes, path)?, path)
}

/// A value of `.modinfo`, e.g. `depends`; empty when the module has none.
pub fn modinfo(bytes: &[u8], path: &Path, name: &str) -> Result<String, Diagnostic> {
    let elf = parse(bytes, path)?;
    let section = elf
        .section_by_name(".modinfo")
        .ok_or_else(|| bad(path, "not a kernel module"))?;
    let data = section.data().map_err(|e| bad(path, e))?;
    Ok(data
        .split(|b| *b == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='))
        .find(|(key, _)| *key == name)
        .map_or_else(String::new, |(_, value)| value.to_owned()))
}

/// Whether the file has a section of that name with content.
pub fn has_section(bytes: &[u8], path: &Path, name: &str) -> Result<bool, Diagnostic> {
    let elf = parse(bytes, path)?;
    Ok(elf.section_by_name(name).is_some_and(|s| s.size() > 0))
}

type Elf<'a> = ElfFile64<'a, object::LittleEndian>;

fn parse<'a>(bytes: &'a [u8], path: &Path) -> Result<Elf<'a>, Diagnostic> {
    Elf::parse(bytes).map_err(|e| bad(path, e))
}

fn bad(path: &Path, why: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error(
        Code::BadImage,
        format!("{} cannot be read: {why}", path.display()),
    )
}

fn build_id_of(elf: &Elf<'_>, path: &Path) -> Result<String, Diagnostic> {
    elf.build_id()
        .map_err(|e| bad(path, e))?
        .map(hex)
        .ok_or_else(|| bad(path, "it has no build-id"))
}

/// Names of the C compilation units, with their directory where that is not the tree itself.
fn units(elf: &Elf<'_>) -> Result<BTreeSet<String>, gimli::Error> {
    let mut sections = std::collections::BTreeMap::new();
    for name in [
        ".debug_info",
        ".debug_abbrev",
        ".debug_str",
        ".debug_line_str",
        ".debug_str_offsets",
    ] {
        sections.insert(name, relocated(elf, name));
    }
    let dwarf = gimli::Dwarf::load(|id| {
        let data = sections.get(id.name()).map_or(&[][..], Vec::as_slice);
        Ok::<_, gimli::Error>(EndianSlice::new(data, LittleEndian))
    })?;
    let mut names = BTreeSet::new();
    let mut headers = dwarf.units();
    while let Some(header) = headers.next()? {
        let abbreviations = dwarf.abbreviations(&header)?;
        let mut entries = header.entries(&abbreviations);
        let Some(root) = entries.next_dfs()? else {
            continue;
        };
        let name = match root.attr_value(gimli::DW_AT_name) {
            Some(gimli::AttributeValue::DebugLineStrRef(offset)) => dwarf.line_string(offset)?,
            Some(gimli::AttributeValue::DebugStrRef(offset)) => dwarf.string(offset)?,
            Some(gimli::AttributeValue::String(name)) => name,
            // Clang's: an index into the unit's part of a table.
            Some(gimli::AttributeValue::DebugStrOffsetsIndex(index)) => {
                let Some(gimli::AttributeValue::DebugStrOffsetsBase(base)) =
                    root.attr_value(gimli::DW_AT_str_offsets_base)
                else {
                    continue;
                };
                let format = header.encoding().format;
                let offset = dwarf
                    .debug_str_offsets
                    .get_str_offset(format, base, index)?;
                dwarf.string(offset)?
            }
            _ => continue,
        };
        names.insert(name.to_string_lossy().into_owned());
    }
    Ok(names
        .into_iter()
        .map(|name| name.strip_prefix("./").map(str::to_owned).unwrap_or(name))
        .collect())
}

/// A section's bytes with absolute relocations applied, as if every section were at address 0:
/// in a module, references between debug sections exist only as relocations.
fn relocated(elf: &Elf<'_>, name: &str) -> Vec<u8> {
    let Some(section) = elf.section_by_name(name) else {
        return Vec::new();
    };
    let Ok(data) = section.uncompressed_data() else {
        return Vec::new();
    };
    let mut data = data.into_owned();
    for (offset, relocation) in section.relocations() {
        let RelocationTarget::Symbol(symbol) = relocation.target() else {
            continue;
        };
        let width = usize::from(relocation.size() / 8);
        let start = offset as usize;
        let absolute = relocation.kind() == RelocationKind::Absolute && matches!(width, 4 | 8);
        let Some(place) = absolute
            .then(|| data.get_mut(start..start.saturating_add(width)))
            .flatten()
        else {
            continue;
        };
        if let Ok(symbol) = elf.symbol_by_index(symbol) {
            let value = (symbol.address() as i64).wrapping_add(relocation.addend());
            place.copy_from_slice(&value.to_le_bytes()[..width]);
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn compile(dir: &Path, flags: &[&str]) -> Vec<u8> {
        compile_with("gcc", dir, flags)
    }

    fn compile_with(compiler: &str, dir: &Path, flags: &[&str]) -> Vec<u8> {
        fs::create_dir_all(dir.join("net/sched")).unwrap();
        fs::write(
            dir.join("net/sched/x.c"),
            "int x = 1; int f(void) { return x; }\n",
        )
        .unwrap();
        let status = Command::new(compiler)
            .args(["-g", "-c", "net/sched/x.c", "-o", "x.o"])
            .args(flags)
            .current_dir(dir)
            .status();
        assert!(status.unwrap().success());
        fs::read(dir.join("x.o")).unwrap()
    }

    #[test]
    fn units_of_a_relocatable_file_in_both_dwarf_versions() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["-gdwarf-4", "-gdwarf-5"] {
            let bytes = compile(dir.path(), &[version]);
            let elf = parse(&bytes, Path::new("x.o")).unwrap();
            let names: Vec<String> = units(&elf).unwrap().into_iter().collect();
            assert_eq!(names, ["net/sched/x.c"], "{version}");
        }
    }

    #[test]
    fn units_of_clang_in_a_file_of_several() {
        let dir = tempfile::tempdir().unwrap();
        compile_with("clang-19", dir.path(), &["-gdwarf-5"]);
        fs::rename(dir.path().join("x.o"), dir.path().join("one.o")).unwrap();
        let text = "int y; __attribute__((section(\".other\"))) int g(void) { return y; }\n\
                    int h(void) { return g(); }\n";
        fs::write(dir.path().join("net/y.c"), text).unwrap();
        for arguments in [
            &["clang-19", "-gdwarf-5", "-c", "net/y.c", "-o", "two.o"][..],
            &["ld", "-r", "one.o", "two.o", "-o", "both.o"],
        ] {
            let mut command = Command::new(arguments[0]);
            let status = command
                .args(&arguments[1..])
                .current_dir(dir.path())
                .status();
            assert!(status.unwrap().success());
        }
        let bytes = fs::read(dir.path().join("both.o")).unwrap();
        let names = units(&parse(&bytes, Path::new("both.o")).unwrap()).unwrap();
        let names: Vec<String> = names.into_iter().collect();
        assert_eq!(names, ["net/sched/x.c", "net/y.c"]);
    }

    #[test]
    fn what_is_missing_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = compile(dir.path(), &[]);
        let path = Path::new("x.o");
        let error = build_id(&bytes, path).unwrap_err();
        assert!(error.message.contains("no build-id"), "{error}");
        let error = modinfo(&bytes, path, "depends").unwrap_err();
        assert!(error.message.contains("not a kernel module"), "{error}");
        assert_eq!(build_id(b"\x7fELF", path).unwrap_err().code, Code::BadImage);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn damaged_files_never_panic(at in 0usize..3000, value: u8, cut in 0usize..3000) {
            let dir = tempfile::tempdir().unwrap();
            let mut bytes = compile(dir.path(), &[]);
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(bytes.len() - cut % bytes.len());
            let path = dir.path().join("y.o");
            fs::write(&path, &bytes).unwrap();
            let _ = image_facts(&path);
            let _ = modinfo(&bytes, &path, "depends");
        }
    }
}
