//! Which files makefiles build only under a configuration option.
//!
//! Only the plain form counts: a line `NAME-$(CONFIG_X) += foo.o …` in the makefile of the file's own
//! folder. A file that is named in any other way, or whose folder has a makefile that computes names,
//! is always built. `ifdef` is not looked at: it can only leave more out.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What computes names of files.
const COMPUTED: [&str; 9] = [
    "wildcard",
    "patsubst",
    "addsuffix",
    "addprefix",
    "foreach",
    "subst",
    "(join",
    ").o",
    "%",
];

/// Options by file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rules {
    /// Files, without their ending, that are built only when one of these options is set.
    optional: BTreeMap<String, BTreeSet<String>>,
    /// Options that makefiles set themselves.
    assigned: BTreeSet<String>,
}

impl Rules {
    /// Reads all makefiles of a tree but those of kbuild itself, by path.
    pub(super) fn read(makefiles: &[(String, String)]) -> Self {
        let mut optional: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut assigned = BTreeSet::new();
        // Stems and folders of which nothing is known.
        let (mut anywhere, mut always) = (BTreeSet::new(), BTreeSet::new());
        let mut computed = BTreeSet::new();
        for (file, text) in makefiles {
            let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
            let own = matches!(name, "Makefile" | "Kbuild");
            for line in text.replace("\\\n", " ").lines() {
                assigned.extend(assignments(line));
                if line.trim_start().starts_with('#') {
                    continue;
                }
                if let Some((option, objects)) = plain(line).filter(|_| own) {
                    for object in objects {
                        let path = format!("{folder}/{object}");
                        optional.entry(path).or_default().insert(option.to_owned());
                    }
                    continue;
                }
                // The idiom for "built in, whatever the option says" changes no name.
                let rest = line.replace("$(subst m,y,", "");
                if COMPUTED.iter().any(|word| rest.contains(word)) {
                    computed.insert(format!("{folder}/"));
                }
                for word in words(line) {
                    let stem = word.strip_suffix(".o").unwrap_or(word);
                    match stem.rsplit_once('/') {
                        Some((_, stem)) => anywhere.insert(stem.to_owned()),
                        None if own => always.insert(format!("{folder}/{stem}")),
                        None => anywhere.insert(stem.to_owned()),
                    };
                }
            }
        }
        optional.retain(|path, _| {
            let stem = path.rsplit('/').next().unwrap_or(path);
            !always.contains(path)
                && !anywhere.contains(stem)
                && !path
                    .match_indices('/')
                    .any(|(at, _)| computed.contains(&path[..=at]))
        });
        Self { optional, assigned }
    }

    /// Whether a kernel with these options, set to `y` or `m`, may contain a file.
    pub(super) fn builds(&self, file: &str, options: &BTreeSet<String>) -> bool {
        let path = file.strip_suffix(".c").unwrap_or(file);
        self.optional.get(path).is_none_or(|needed| {
            let set = |option: &String| options.contains(option) || self.assigned.contains(option);
            needed.iter().any(set)
        })
    }
}

/// The options that a configuration (`.config` or `auto.conf`) sets to `y` or `m`, or to a value.
pub(super) fn options(config: &str) -> BTreeSet<String> {
    config
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, value)| name.starts_with("CONFIG_") && *value != "n")
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// The option and the objects' stems of a line in the plain form.
fn plain(line: &str) -> Option<(&str, Vec<&str>)> {
    let (left, right) = line.split_once('=')?;
    let left = left.trim_end_matches(['+', ':', '?']).trim();
    let (name, option) = left.split_once("-$(")?;
    let option = option.strip_suffix(')')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let is_option = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let right = right.split('#').next().unwrap_or(right);
    let objects: Option<Vec<&str>> = right
        .split_whitespace()
        .map(|word| word.strip_suffix(".o").filter(|s| s.chars().all(is_name)))
        .collect();
    (option.starts_with("CONFIG_") && option.chars().all(is_option) && name.chars().all(is_name))
        .then_some((option, objects?))
}

/// Everything in a line that may be the name of a file.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    line.split(move |c| !is_part(c))
        .filter(|word| !word.is_empty())
}

/// Options that a line gives a value.
fn assignments(line: &str) -> impl Iterator<Item = String> {
    line.match_indices("CONFIG_").filter_map(|(at, _)| {
        let rest = &line[at..];
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let after = rest[end..].trim_start().trim_start_matches([':', '+', '?']);
        after.starts_with('=').then(|| rest[..end].to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builds(makefiles: &[(&str, &str)], file: &str) -> bool {
        let makefiles: Vec<(String, String)> = makefiles
            .iter()
            .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()))
            .collect();
        let options = options("CONFIG_SET=m\n# CONFIG_B is not set\nCONFIG_N=n\nCONFIG_S=\"x\"\n");
        Rules::read(&makefiles).builds(file, &options)
    }

    #[test]
    fn a_file_of_an_option_that_is_not_set_is_not_built() {
        let makefile = "obj-$(CONFIG_A) += a.o b.o \\\n\tc.o # d\nobj-$(CONFIG_SET) += b.o\n\
            big-$(CONFIG_N) := e.o\nobj-y += always.o\n";
        let makefiles = [("net/x/Makefile", makefile)];
        for (file, built) in [
            ("a", false),
            ("b", true),
            ("c", false),
            ("e", false),
            ("always", true),
            ("unnamed", true),
        ] {
            assert_eq!(
                builds(&makefiles, &format!("net/x/{file}.c")),
                built,
                "{file}"
            );
        }
        assert!(builds(&makefiles, "net/y/a.c"));
    }

    #[test]
    fn any_other_way_to_name_a_file_builds_it() {
        let rule = "obj-$(CONFIG_A) += a.o\n";
        assert!(!builds(&[("net/x/Kbuild", rule)], "net/x/a.c"));
        for (file, text) in [
            ("net/x/Makefile", "obj-$(CONFIG_A:m=y) += a.o\n"),
            ("net/x/Makefile", "obj-$(CONFIG_B) += $(LIST) a.o\n"),
            ("net/x/Makefile", "LIST := a\n"),
            ("net/x/Makefile", "obj-m += $(wildcard *.c)\n"),
            ("net/Makefile", "obj-m += $(patsubst b,c,d)\n"),
            ("net/x/Makefile", "obj-$(subst m,y,$(CONFIG_B)) += a.o\n"),
            ("net/Makefile", "obj-m += x/a.o\n"),
            ("net/y/Makefile", "obj-$(CONFIG_B) += ../x/a.o\n"),
            ("net/y/Makefile.common", "common-objs := a.o\n"),
            ("net/y/Makefile", "ifdef B\n CONFIG_A := m\nendif\n"),
        ] {
            let makefiles = [("net/x/Kbuild", rule), (file, text)];
            assert!(builds(&makefiles, "net/x/a.c"), "{file}: {text}");
        }
        let idiom = ("net/x/Makefile", "obj-$(subst m,y,$(CONFIG_B)) += b.o\n");
        assert!(!builds(&[("net/x/Kbuild", rule), idiom], "net/x/a.c"));
        let twin = [("net/x/Kbuild", rule), ("net/y/Makefile", "obj-y += a.o\n")];
        assert!(!builds(&twin, "net/x/a.c"));
    }
}
