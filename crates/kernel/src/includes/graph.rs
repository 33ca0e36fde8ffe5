//! The include graph of a source tree.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
};

use otf_artifact::diagnostic::Diagnostic;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    cache::io_error,
    includes::{
        rules::Rules,
        scan::{self, Form, Found, Name},
    },
    kbuild,
};

/// Folders that every file of the kernel finds headers in, as in the kernel's top makefile.
const ROOTS: [&str; 4] = [
    "include",
    "include/uapi",
    "arch/x86/include",
    "arch/x86/include/uapi",
];
/// Where wrappers that kbuild makes for `asm/` lead.
const GENERIC: [&str; 2] = ["include/asm-generic", "include/uapi/asm-generic"];
/// The only architecture whose folder counts.
const ARCHITECTURE: &str = "x86";
/// Folders with programs for the build machine and for users, examples, and texts.
const ELSEWHERE: [&str; 6] = [
    "Documentation",
    "LICENSES",
    "samples",
    "scripts",
    "tools",
    "usr",
];
/// Folders whose programs write no C of the kernel's.
const SILENT: [&str; 4] = ["Documentation", "LICENSES", "samples", "tools"];

/// Files of a tree and what each may include.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Graph {
    /// Paths relative to the tree, sorted: C, headers and assembler.
    pub(super) files: Vec<String>,
    /// For each file the rows of those it may include, sorted.
    pub(super) includes: Vec<Vec<u32>>,
    /// Rows of headers that files outside of the tree may include, sorted: the compiler's arguments
    /// and texts that programs write name them.
    pub(super) written: Vec<u32>,
    /// What makefiles say about files of C.
    pub(super) rules: Rules,
}

/// What was read of a file.
struct Read {
    file: String,
    kind: Kind,
    found: Found,
    /// The text of a makefile.
    makefile: Option<String>,
}

/// What a file is to the graph.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A node.
    Source,
    /// Not compiled as it is, but it may name headers.
    Other,
    /// Says nothing.
    Silent,
}

impl Graph {
    /// Reads a tree.
    pub(crate) fn read(tree: &Path) -> Result<Self, Diagnostic> {
        let all = kbuild::files_below(tree)?;
        let read: Vec<Read> = all
            .into_par_iter()
            .map(|file| (kind(&file), file))
            .filter(|(kind, _)| *kind != Kind::Silent)
            .map(|(kind, file)| {
                let path = tree.join(&file);
                let text = fs::read(&path).map_err(|e| io_error("read", &path, &e))?;
                let mut found = match kind {
                    Kind::Source => scan::directives(&text),
                    _ => scan::mentions(&text),
                };
                let makefile =
                    is_makefile(&file).then(|| String::from_utf8_lossy(&text).into_owned());
                found
                    .printed
                    .extend(makefile.iter().flat_map(|text| scan::forced(text)));
                if is_silent(&file) {
                    found.printed.clear();
                }
                Ok(Read {
                    makefile: makefile.filter(|_| is_kernel(&file) && file.contains('/')),
                    file,
                    kind,
                    found,
                })
            })
            .collect::<Result<_, Diagnostic>>()?;
        Ok(Self::link(read))
    }

    fn link(read: Vec<Read>) -> Self {
        let sources = read.iter().filter(|r| r.kind == Kind::Source);
        let files: Vec<String> = sources.map(|r| r.file.clone()).collect();
        let index = Index::new(&files);
        let resolved: Vec<(Kind, BTreeSet<u32>, BTreeSet<u32>)> = read
            .par_iter()
            .map(|r| {
                let rows = |names: &[Name]| -> BTreeSet<u32> {
                    let resolve = |name| index.resolve(&r.file, name);
                    names.iter().flat_map(resolve).collect()
                };
                (r.kind, rows(&r.found.included), rows(&r.found.printed))
            })
            .collect();
        let mut written = BTreeSet::new();
        let mut includes = Vec::with_capacity(files.len());
        for (kind, included, printed) in resolved {
            written.extend(printed);
            if kind == Kind::Source {
                includes.push(included.into_iter().collect());
            }
        }
        let makefiles: Vec<(String, String)> = read
            .into_iter()
            .filter_map(|r| Some((r.file, r.makefile?)))
            .collect();
        Self {
            files,
            includes,
            written: written.into_iter().collect(),
            rules: Rules::read(&makefiles),
        }
    }
}

/// Whether a file of C can be part of a kernel for this architecture: everything can that is not in a
/// folder of another one, of programs, of examples or of texts.
pub(super) fn is_kernel(file: &str) -> bool {
    let mut parts = file.split('/');
    match parts.next() {
        Some("arch") => parts.next() == Some(ARCHITECTURE),
        Some(top) => !ELSEWHERE.contains(&top),
        None => false,
    }
}

fn kind(file: &str) -> Kind {
    match file.rsplit_once('.').map(|(_, ending)| ending) {
        Some("c" | "h" | "S") => Kind::Source,
        Some("rst" | "txt" | "dts" | "dtsi" | "yaml" | "json" | "svg") => Kind::Silent,
        _ if is_silent(file) => Kind::Silent,
        _ => Kind::Other,
    }
}

fn is_silent(file: &str) -> bool {
    let top = file.split('/').next().unwrap_or_default();
    SILENT.contains(&top) || top == "arch" && !is_kernel(file)
}

fn is_makefile(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.starts_with("Makefile")
        || name.starts_with("Kbuild")
        || name
            .rsplit_once('.')
            .is_some_and(|(_, ending)| ending == "mk")
}

/// Files by path and by last part.
struct Index<'a> {
    files: &'a [String],
    paths: HashMap<&'a str, u32>,
    names: HashMap<&'a str, Vec<u32>>,
}

impl<'a> Index<'a> {
    fn new(files: &'a [String]) -> Self {
        let mut index = Self {
            files,
            paths: HashMap::new(),
            names: HashMap::new(),
        };
        for (row, file) in (0..).zip(files) {
            index.paths.insert(file, row);
            let name = file.rsplit('/').next().unwrap_or(file);
            index.names.entry(name).or_default().push(row);
        }
        index
    }

    /// Every file that a name may mean in an including file; none when kbuild makes it.
    fn resolve(&self, from: &str, name: &Name) -> Vec<u32> {
        if name.form == Form::Quoted {
            let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
            if let Some(row) = plain(folder, &name.path).and_then(|p| self.path(&p)) {
                return vec![row];
            }
        }
        let mut found: Vec<u32> = ROOTS
            .iter()
            .filter_map(|root| self.path(&plain(root, &name.path)?))
            .collect();
        if let Some(rest) = name.path.strip_prefix("asm/") {
            let generic = GENERIC.iter().map(|root| format!("{root}/{rest}"));
            found.extend(generic.filter_map(|path| self.path(&path)));
        }
        if found.is_empty() {
            found = self.ending(&name.path);
        }
        found
    }

    fn path(&self, path: &str) -> Option<u32> {
        self.paths.get(path).copied()
    }

    /// Every file whose path ends so: folders that a makefile adds are not known.
    fn ending(&self, path: &str) -> Vec<u32> {
        let parts: Vec<&str> = path
            .split('/')
            .skip_while(|part| matches!(*part, "." | ".."))
            .collect();
        // The way up from an unknown folder is unknown: what follows it counts.
        let up = parts.iter().rposition(|part| *part == "..");
        let rest = parts[up.map_or(0, |at| at + 1)..].join("/");
        let last = rest.rsplit('/').next().unwrap_or_default();
        let same = self.names.get(last).into_iter().flatten().copied();
        same.filter(|row| {
            let before = self.files[*row as usize].strip_suffix(rest.as_str());
            before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
        })
        .collect()
    }
}

/// A path below a folder, without `.` and `..`; `None` when it leaves the tree.
fn plain(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_files() {
        let files = [
            "arch/x86/include/asm/page.h",
            "drivers/a/dc/inc/x.h",
            "drivers/a/main.c",
            "drivers/a/main.h",
            "drivers/b/dc/inc/x.h",
            "include/asm-generic/page.h",
            "include/asm-generic/only.h",
            "include/linux/main.h",
            "include/uapi/linux/main.h",
        ]
        .map(str::to_owned);
        let index = Index::new(&files);
        let resolve = |form, path: &str| -> Vec<&str> {
            let name = Name {
                form,
                path: path.to_owned(),
            };
            let rows = index.resolve("drivers/a/main.c", &name);
            rows.into_iter()
                .map(|r| files[r as usize].as_str())
                .collect()
        };
        assert_eq!(resolve(Form::Quoted, "main.h"), ["drivers/a/main.h"]);
        assert_eq!(
            resolve(Form::Quoted, "../b/./dc/inc/x.h"),
            ["drivers/b/dc/inc/x.h"]
        );
        let both = ["drivers/a/dc/inc/x.h", "drivers/b/dc/inc/x.h"];
        assert_eq!(resolve(Form::Quoted, "inc/x.h"), both);
        assert_eq!(resolve(Form::Quoted, "../../../../gone/../inc/x.h"), both);
        assert_eq!(resolve(Form::Bracketed, "c/inc/x.h"), [""; 0]);
        assert_eq!(
            resolve(Form::Bracketed, "linux/main.h"),
            ["include/linux/main.h", "include/uapi/linux/main.h"]
        );
        assert_eq!(
            resolve(Form::Bracketed, "asm/page.h"),
            ["arch/x86/include/asm/page.h", "include/asm-generic/page.h"]
        );
        assert_eq!(
            resolve(Form::Bracketed, "asm/only.h"),
            ["include/asm-generic/only.h"]
        );
        assert_eq!(resolve(Form::Bracketed, "generated/x.h"), [""; 0]);
    }

    #[test]
    fn files_of_this_kernel() {
        for file in ["net/a.c", "arch/x86/kvm/a.c", "lib/test_a.c", "rust/h.c"] {
            assert!(is_kernel(file), "{file}");
        }
        for file in ["arch/arm/a.c", "tools/a.c", "samples/x/a.c", "scripts/a.c"] {
            assert!(!is_kernel(file), "{file}");
        }
    }
}
