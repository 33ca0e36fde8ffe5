//! Which modules a kernel has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    yaml,
};

use crate::cache::io_error;

/// Modules of a kernel and what is part of `vmlinux` instead, by the name that lsmod shows.
pub struct ModuleList {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl ModuleList {
    /// The modules of a kernel that was built, with their files.
    pub fn of(files: BTreeMap<String, PathBuf>, builtin: BTreeSet<String>) -> Self {
        Self { files, builtin }
    }

    /// Names of the modules, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Lists what is below `lib/modules/RELEASE` of an unpacked image.
    pub fn list(image: &Path, release: &str) -> Result<Self, Diagnostic> {
        let root = image.join("lib/modules").join(release);
        let mut files = BTreeMap::new();
        let mut folders = vec![root.join("kernel")];
        while let Some(folder) = folders.pop() {
            let listing = fs::read_dir(&folder).map_err(|e| io_error("read", &folder, &e))?;
            for entry in listing {
                let entry = entry.map_err(|e| io_error("read", &folder, &e))?;
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Some(name) = module_name(&path) {
                    files.insert(name, path);
                }
            }
        }
        let list = root.join("modules.builtin");
        let builtin = fs::read_to_string(&list)
            .map_err(|e| io_error("read", &list, &e))?
            .lines()
            .filter_map(|line| module_name(Path::new(line)))
            .collect();
        Ok(Self { files, builtin })
    }

    /// Modules that a name or a pattern with one `*` stands for, sorted. A pattern does not stand for
    /// code of `vmlinux`; one without any module and an unknown name are [`Code::MissingModule`].
    pub fn expand(&self, pattern: &str) -> Result<Vec<String>, Diagnostic> {
        let Some((prefix, suffix)) = pattern.split_once('*') else {
            return match self.find(pattern)? {
                Some(_) => Ok(vec![pattern.to_owned()]),
                None => Err(Diagnostic::error(
                    Code::MissingModule,
                    format!("`{pattern}` is part of vmlinux, no module"),
                )
                .help("name its files instead of the module")),
            };
        };
        let found: Vec<String> = self
            .files
            .keys()
            .filter(|name| {
                name.strip_prefix(prefix)
                    .is_some_and(|rest| rest.ends_with(suffix))
            })
            .cloned()
            .collect();
        if found.is_empty() {
            return Err(Diagnostic::error(
                Code::MissingModule,
                format!("the kernel has no module like `{pattern}`"),
            )
            .help("patterns are over the names of lsmod and have one `*`"));
        }
        Ok(found)
    }

    /// The module's file; `None` when it is part of `vmlinux`.
    pub fn find(&self, name: &str) -> Result<Option<&Path>, Diagnostic> {
        if let Some(path) = self.files.get(name) {
            return Ok(Some(path));
        }
        if self.builtin.contains(name) {
            return Ok(None);
        }
        let error = Diagnostic::error(
            Code::MissingModule,
            format!("the kernel has no module `{name}`"),
        );
        let start: String = name.chars().take(3).collect();
        let near = self
            .files
            .keys()
            .map(String::as_str)
            .filter(|n| n.starts_with(&start));
        Err(
            match yaml::suggest(name, "modules with such a name", near) {
                Some(help) => error.help(help),
                None => error.help("names are those of lsmod, without .ko"),
            },
        )
    }
}

/// `net/sched/sch_qfq.ko.xz` is `sch_qfq`.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, rest) = file.split_once('.')?;
    matches!(rest, "ko" | "ko.xz").then(|| name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_named_as_in_lsmod() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("lib/modules/r");
        fs::create_dir_all(root.join("kernel/net/sched")).unwrap();
        fs::write(root.join("kernel/net/sched/sch-qfq.ko.xz"), "").unwrap();
        fs::write(root.join("kernel/net/sched/README"), "").unwrap();
        fs::write(root.join("modules.builtin"), "kernel/lib/crc-itu.ko\n").unwrap();
        let modules = ModuleList::list(dir.path(), "r").unwrap();
        assert!(modules.find("sch_qfq").unwrap().is_some());
        assert!(modules.find("crc_itu").unwrap().is_none());
        let error = modules.find("sch_qfk").unwrap_err();
        assert_eq!(error.code, Code::MissingModule);
        assert!(error.help.unwrap().contains("did you mean `sch_qfq`?"));
        assert_eq!(modules.expand("sch_*").unwrap(), ["sch_qfq"]);
        assert_eq!(modules.expand("sch_qfq").unwrap(), ["sch_qfq"]);
        for wrong in ["cls_*", "crc_itu", "sch_qfk"] {
            let error = modules.expand(wrong).unwrap_err();
            assert_eq!(error.code, Code::MissingModule, "{wrong}");
        }
    }
}
