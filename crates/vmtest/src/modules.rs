//! Kernel modules for the guest, with what they depend on, in loading order.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use liblzma::read::XzDecoder;
use object::{Object, ObjectSection};
use otf_artifact::diagnostic::{Code, Diagnostic};

use crate::error;

/// A module that can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Name as in lsmod.
    pub name: String,
    /// The ELF file, uncompressed.
    pub bytes: Vec<u8>,
}

/// The modules of one kernel release: `lib/modules/RELEASE`, and files that replace or add to it.
#[derive(Clone, Debug, Default)]
pub struct ModuleTree {
    files: BTreeMap<String, PathBuf>,
}

impl ModuleTree {
    /// Lists the `.ko` and `.ko.xz` files under `folder`. No `modules.dep` is needed: a package
    /// that was only unpacked has none.
    pub fn open(folder: &Path) -> Result<Self, Diagnostic> {
        let mut tree = Self::default();
        let mut open = vec![folder.to_owned()];
        while let Some(folder) = open.pop() {
            let entries = fs::read_dir(&folder).map_err(|e| error::file("list", &folder, &e))?;
            for entry in entries {
                let entry = entry.map_err(|e| error::file("list", &folder, &e))?;
                let kind = entry
                    .file_type()
                    .map_err(|e| error::file("list", &folder, &e))?;
                if kind.is_dir() {
                    open.push(entry.path());
                } else if let Some(name) = module_name(&entry.path()) {
                    tree.files.insert(name, entry.path());
                }
            }
        }
        Ok(tree)
    }

    /// Adds a file, which goes before a module of the tree with the same name; returns that name.
    pub fn replace(&mut self, file: &Path) -> Result<String, Diagnostic> {
        let name = module_name(file)
            .ok_or_else(|| error::file("use", file, &"its name does not end in .ko or .ko.xz"))?;
        self.files.insert(name.clone(), file.to_owned());
        Ok(name)
    }

    /// Whether there is such a module; what a kernel has built in is none.
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(&name.replace('-', "_"))
    }

    /// The named modules and all that they depend on, dependencies first. What is built into the
    /// kernel is no module and must not be named.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<Module>, Diagnostic> {
        let mut loader = Loader {
            tree: self,
            seen: BTreeSet::new(),
            modules: Vec::new(),
        };
        for name in names {
            loader.add(name)?;
        }
        Ok(loader.modules)
    }
}

struct Loader<'a> {
    tree: &'a ModuleTree,
    seen: BTreeSet<String>,
    modules: Vec<Module>,
}

impl Loader<'_> {
    /// Adds dependencies, then the module; `seen` ends it should modules ever depend on each other.
    fn add(&mut self, name: &str) -> Result<(), Diagnostic> {
        let name = name.replace('-', "_");
        if !self.seen.insert(name.clone()) {
            return Ok(());
        }
        let path = self.tree.files.get(&name).ok_or_else(|| {
            Diagnostic::error(
                Code::MissingModule,
                format!("the kernel's package has no module {name}"),
            )
        })?;
        let bytes = read_module(path)?;
        for dependency in dependencies(&bytes, path)? {
            self.add(&dependency)?;
        }
        self.modules.push(Module { name, bytes });
        Ok(())
    }
}

/// `…/sch-x.ko.xz` → `sch_x`.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let stem = file
        .strip_suffix(".ko")
        .or_else(|| file.strip_suffix(".ko.xz"))?;
    Some(stem.replace('-', "_"))
}

fn read_module(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let bytes = fs::read(path).map_err(|e| error::file("read", path, &e))?;
    if path.extension().is_none_or(|e| e != "xz") {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    XzDecoder::new(bytes.as_slice())
        .read_to_end(&mut plain)
        .map_err(|e| error::file("decompress", path, &e))?;
    Ok(plain)
}

/// `depends=a,b` of the module's `.modinfo`.
fn dependencies(bytes: &[u8], path: &Path) -> Result<Vec<String>, Diagnostic> {
    let bad = |e: object::Error| {
        Diagnostic::error(
            Code::BadImage,
            format!("{} is no kernel module: {e}", path.display()),
        )
    };
    let file = object::File::parse(bytes).map_err(bad)?;
    let Some(section) = file.section_by_name(".modinfo") else {
        return Ok(Vec::new());
    };
    let info = section.data().map_err(bad)?;
    Ok(depends(info))
}

fn depends(modinfo: &[u8]) -> Vec<String> {
    modinfo
        .split(|&b| b == 0)
        .filter_map(|entry| entry.strip_prefix(b"depends="))
        .flat_map(|list| list.split(|&b| b == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_lsmod() {
        let name = |p: &str| module_name(Path::new(p));
        assert_eq!(name("/x/nf-tables.ko.xz").as_deref(), Some("nf_tables"));
        assert_eq!(name("sch_qfq.ko").as_deref(), Some("sch_qfq"));
        assert_eq!(name("/x/modules.order"), None);
    }

    #[test]
    fn dependencies_come_from_modinfo() {
        assert_eq!(depends(b"license=GPL\0depends=a,b\0name=c\0"), ["a", "b"]);
        assert!(depends(b"depends=\0xdepends=y\0").is_empty());
    }

    #[test]
    fn a_module_that_is_not_there_is_named() {
        let refused = ModuleTree::default().modules(&["sch_none"]).unwrap_err();
        assert_eq!(refused.code, Code::MissingModule);
        assert!(refused.message.contains("sch_none"));
    }
}
