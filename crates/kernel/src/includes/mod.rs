//! Headers that only files of the scope can see, so that all objects of their types are the scope's.
//!
//! Whoever declares, embeds or allocates an object of a type sees its definition. A header is
//! *closed* when no file of C outside of the scope, which may be part of this kernel, can include it,
//! directly or through other files. The graph is wide on purpose: conditions and comments are not
//! looked at, a name that cannot be placed means every file with such an end, and what programs of
//! the tree print counts as included by somebody unknown. Every file of C counts that is not in the
//! scope, but for those of other architectures, of programs for the build machine or for users, of
//! examples, and of options that the kernel is built without, where a makefile says so in the plainest
//! way. Assembler has no types. Modules from elsewhere are not this kernel.

mod graph;
mod rules;
mod scan;

use std::{
    collections::{BTreeSet, VecDeque},
    fs,
};

use otf_artifact::diagnostic::{Code, Diagnostic};
use tracing::{debug, info};

pub(crate) use self::graph::Graph;
use crate::cache::{Cache, io_error, key};

/// File name inside a product.
const FILE: &str = "includes.json";
/// Raised when a change of this module changes the graph, so that cached ones are not taken.
const RECIPE: &str = "includes 3";
/// Bindings for Rust are made from headers there.
const RUST: &str = "rust/";

/// What the files of a scope see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Files that nobody else can include, sorted. A file of C that only files of C in scope
    /// include is one too.
    pub(crate) closed: Vec<String>,
    /// Headers that others may include, with one of these, sorted.
    pub(crate) open: Vec<(String, String)>,
}

/// The graph of a source tree in the cache. `source` is the tree's place, `source_key` names it.
pub(crate) fn of_tree(cache: &Cache, source: &str, source_key: &str) -> Result<Graph, Diagnostic> {
    let product = format!("includes/{}", key([RECIPE, source_key]));
    let folder = cache.product(&product, |work| {
        info!("reading what files of the kernel include");
        let graph = Graph::read(&cache.path(source))?;
        let path = work.join(FILE);
        let text = serde_json::to_vec(&graph).map_err(|e| corrupt(&e))?;
        fs::write(&path, text).map_err(|e| io_error("write", &path, &e))
    })?;
    let path = folder.join(FILE);
    let text = fs::read(&path).map_err(|e| io_error("read", &path, &e))?;
    serde_json::from_slice(&text).map_err(|e| corrupt(&e).at(path.display().to_string(), 0, 0))
}

fn is_c(file: &str) -> bool {
    file.rsplit_once('.')
        .is_some_and(|(_, ending)| ending == "c")
}

fn corrupt(error: &serde_json::Error) -> Diagnostic {
    Diagnostic::error(Code::CacheCorrupt, format!("include graph: {error}"))
        .help("remove the file and run again")
}

impl Graph {
    /// What the files of a scope see, and who else sees it in a kernel of this configuration.
    pub(crate) fn sight(&self, scope: &BTreeSet<&str>, config: &str) -> Sight {
        let options = rules::options(config);
        let all = || (0..).zip(&self.files);
        let own = all().filter(|(_, file)| scope.contains(file.as_str()));
        let own: Vec<u32> = own.map(|(row, _)| row).collect();
        let others = all().filter(|(_, file)| {
            let compiled =
                is_c(file) && graph::is_kernel(file) && self.rules.builds(file, &options);
            (compiled || file.starts_with(RUST)) && !scope.contains(file.as_str())
        });
        let mut roots: Vec<u32> = others.map(|(row, _)| row).collect();
        roots.extend(&self.written);
        let seen = self.witnesses(&own);
        let witnesses = self.witnesses(&roots);
        let mut sight = Sight::default();
        for (row, file) in self.files.iter().enumerate() {
            // Their own types are the scope's already.
            if seen[row].is_none() || scope.contains(file.as_str()) {
                continue;
            }
            match witnesses[row] {
                None => sight.closed.push(file.clone()),
                Some(other) => {
                    let other = &self.files[other as usize];
                    debug!(header = file, seen_by = other, "an open header");
                    sight.open.push((file.clone(), other.clone()));
                }
            }
        }
        info!(
            closed = sight.closed.len(),
            open = sight.open.len(),
            "headers that only the scope sees"
        );
        sight
    }

    /// For each file one of the roots that reaches it, by the shortest way.
    fn witnesses(&self, roots: &[u32]) -> Vec<Option<u32>> {
        let mut witness = vec![None; self.files.len()];
        let mut work = VecDeque::new();
        for root in roots {
            if witness[*root as usize].replace(*root).is_none() {
                work.push_back(*root);
            }
        }
        while let Some(row) = work.pop_front() {
            for next in &self.includes[row as usize] {
                if witness[*next as usize].is_none() {
                    witness[*next as usize] = witness[row as usize];
                    work.push_back(*next);
                }
            }
        }
        witness
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A tree with these files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn sight(files: &[(&str, &str)], scope: &[&str]) -> Sight {
        let graph = Graph::read(tree(files).path()).unwrap();
        graph.sight(&scope.iter().copied().collect(), "CONFIG_SET=y\n")
    }

    const NET: [(&str, &str); 5] = [
        ("net/a.c", "#include <net/own.h>\n#include \"local.h\"\n"),
        ("net/local.h", "#if 0\n#include <net/deep.h>\n#endif\n"),
        ("include/net/own.h", "#include <linux/list.h>\n"),
        ("include/net/deep.h", "struct deep {};\n"),
        ("include/linux/list.h", ""),
    ];

    fn with<'f>(more: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
        NET.iter().chain(more).copied().collect()
    }

    #[test]
    fn a_header_of_the_scope_alone_is_closed() {
        let driver = [("drivers/d.c", "#include <linux/list.h>\n")];
        let sight = sight(&with(&driver), &["net/a.c"]);
        let closed = ["include/net/deep.h", "include/net/own.h", "net/local.h"];
        assert_eq!(sight.closed, closed);
        let pair = ("include/linux/list.h".to_owned(), "drivers/d.c".to_owned());
        assert_eq!(sight.open, [pair]);
    }

    #[test]
    fn another_includer_opens_a_header_and_what_it_includes() {
        for text in [
            "#ifdef CONFIG_NO\n#include \"../net/local.h\"\n#endif\n",
            "#include \"helper.c\"\n",
            "#include \"local.h\"\n",
        ] {
            let more = [
                ("drivers/d.c", text),
                ("drivers/helper.c", "#include <../net/local.h>\n"),
            ];
            let sight = sight(&with(&more), &["net/a.c", "drivers/helper.c"]);
            assert!(
                !sight.closed.contains(&"include/net/deep.h".to_owned()),
                "{text}"
            );
            assert!(!sight.closed.contains(&"net/local.h".to_owned()), "{text}");
            assert!(
                sight.closed.contains(&"include/net/own.h".to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn files_that_are_no_part_of_this_kernel_open_nothing() {
        for name in ["arch/arm/d.c", "tools/t/d.c", "samples/d.c", "net/b.S"] {
            let more = [(name, "#include <net/own.h>\n")];
            let sight = sight(&with(&more), &["net/a.c"]);
            assert!(
                sight.closed.contains(&"include/net/own.h".to_owned()),
                "{name}"
            );
        }
    }

    #[test]
    fn a_driver_that_is_not_configured_opens_nothing() {
        for (option, opens) in [("CONFIG_SET", true), ("CONFIG_UNSET", false)] {
            let makefile = format!("obj-$({option}) += d.o\n");
            let more = [
                ("drivers/Makefile", makefile.as_str()),
                ("drivers/d.c", "#include <net/own.h>\n"),
            ];
            let sight = sight(&with(&more), &["net/a.c"]);
            let closed = sight.closed.contains(&"include/net/own.h".to_owned());
            assert_eq!(closed, !opens, "{option}");
        }
    }

    #[test]
    fn what_the_tree_does_not_show_opens_headers() {
        for (name, text) in [
            ("scripts/gen.c", "x(\"#include <net/own.h>\\n\");\n"),
            ("lib/gen.awk", "print \"#include <net/own.h>\"\n"),
            (
                "drivers/Makefile",
                "ccflags-y += -include $(srctree)/include/net/own.h\n",
            ),
            ("rust/bindings/bindings_helper.h", "#include <net/own.h>\n"),
            ("lib/by_macro.c", "#define H <net/own.h>\n#include H\n"),
        ] {
            let sight = sight(&with(&[(name, text)]), &["net/a.c"]);
            assert!(
                !sight.closed.contains(&"include/net/own.h".to_owned()),
                "{name}"
            );
        }
    }

    #[test]
    fn a_tree_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let source = dir.path().join("source");
        fs::create_dir_all(source.join("net")).unwrap();
        fs::write(source.join("net/a.c"), "#include \"a.h\"\n").unwrap();
        fs::write(source.join("net/a.h"), "").unwrap();
        let first = of_tree(&cache, "source", "one").unwrap();
        fs::remove_dir_all(&source).unwrap();
        assert_eq!(of_tree(&cache, "source", "one").unwrap(), first);
        let scope = ["net/a.c"].into();
        assert_eq!(first.sight(&scope, "").closed, ["net/a.h"]);
    }
}
