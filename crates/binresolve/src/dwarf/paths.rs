//! File names as the kernel tree spells them.

use std::collections::BTreeSet;

/// Brings file names of debug information into the form `net/sched/sch_qfq.c`.
#[derive(Debug, Default)]
pub struct Paths {
    known: BTreeSet<String>,
}

impl Paths {
    /// `known` are names in the wanted form: a longer name that ends in one of them is that file.
    pub fn new(known: impl IntoIterator<Item = String>) -> Self {
        Self {
            known: known.into_iter().filter(|name| !name.is_empty()).collect(),
        }
    }

    /// The name relative to the kernel tree. `directory` is where the compiler ran.
    pub fn normalise(&self, directory: &str, name: &str) -> String {
        let parts = components(name);
        let suffix = (0..parts.len()).map(|from| parts[from..].join("/"));
        if let Some(known) = suffix.clone().find(|s| self.known.contains(s)) {
            return known;
        }
        let full = parts.join("/");
        let directory = components(directory).join("/");
        full.strip_prefix(&directory)
            .and_then(|rest| rest.strip_prefix('/'))
            .map_or_else(|| full.clone(), str::to_owned)
    }
}

/// Splits a path and resolves `.` and `..`.
fn components(path: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_name() {
        let paths = Paths::new(["include/linux/list.h".to_owned(), "list.h".to_owned()]);
        for (directory, name, expected) in [
            ("", "./include/linux/list.h", "include/linux/list.h"),
            ("/b", "/b/include/linux/list.h", "include/linux/list.h"),
            (
                "/b/o",
                "/usr/src/headers/include/linux/list.h",
                "include/linux/list.h",
            ),
            (
                "debian/build/amd64",
                "debian/build/amd64/net/x.c",
                "net/x.c",
            ),
            ("/b", "net/sched/../core/dev.c", "net/core/dev.c"),
            ("/b", "/elsewhere/x.c", "elsewhere/x.c"),
            ("/b", "../x.c", "../x.c"),
        ] {
            assert_eq!(
                paths.normalise(directory, name),
                expected,
                "{directory} {name}"
            );
        }
    }
}
