//! Which source files become bitcode: those of the compartment and of the scope that the images really contain.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    yaml::{self, Placed},
};

use crate::kernel::VMLINUX;

/// The path of a scope that stands for every file.
pub const EVERYTHING: &str = "**";

/// A source file as part of an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit {
    /// Relative to the kernel tree.
    pub source: String,
    /// `vmlinux` or a module.
    pub image: String,
    /// Of the compartment.
    pub confined: bool,
}

/// A list of paths and the user's file it is in.
pub struct Listed<'a> {
    /// Files or directories.
    pub paths: &'a [Placed<String>],
    /// For messages.
    pub file: &'a str,
}

/// What images are made of: files by image.
pub type Units = BTreeMap<String, BTreeSet<String>>;

/// Expands the lists by the files of the images, sorted by source. `own` are `vmlinux` and the
/// compartment's modules: only there can code be confined; an empty list of confined paths stands
/// for all files of these modules. `all` are the images that scope may name. What is confined is not
/// in scope as well.
pub fn select(
    own: &Units,
    all: &Units,
    confined: &Listed<'_>,
    scope: &[Listed<'_>],
) -> Result<Vec<Unit>, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let mut chosen: BTreeMap<(String, String), bool> = BTreeMap::new();
    let mut choose = |images: &Units, list: &Listed<'_>, is_confined: bool| {
        for path in list.paths {
            let found = units_at(images, &path.value);
            if found.is_empty() {
                errors.push(not_found(images, path, list.file));
            }
            for unit in found {
                chosen.entry(unit).or_insert(is_confined);
            }
        }
    };
    choose(own, confined, true);
    if confined.paths.is_empty() {
        let mut modules = own.clone();
        modules.remove(VMLINUX);
        let everything = [EVERYTHING.to_owned().into()];
        let paths = &everything;
        choose(&modules, &Listed { paths, ..*confined }, true);
    }
    for list in scope {
        choose(all, list, false);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(chosen
        .into_iter()
        .map(|((source, image), confined)| Unit {
            source,
            image,
            confined,
        })
        .collect())
}

/// C files that are `path` or below it, with their images.
fn units_at(images: &Units, path: &str) -> Vec<(String, String)> {
    let below = format!("{path}/");
    let mut found = Vec::new();
    for (image, units) in images {
        for unit in units {
            if is_source(unit) && (path == EVERYTHING || unit == path || unit.starts_with(&below)) {
                found.push((unit.clone(), image.clone()));
            }
        }
    }
    found
}

/// A C file that is not one of those that kbuild writes or adds while it links.
fn is_source(unit: &str) -> bool {
    let path = Path::new(unit);
    let hidden = path
        .file_name()
        .and_then(|name| name.to_str())
        .is_none_or(|name| name.starts_with('.'));
    let added = unit.ends_with(".mod.c") || unit == MODULE_COMMON;
    path.extension().is_some_and(|e| e == "c") && !added && !hidden
}

fn not_found(images: &Units, path: &Placed<String>, file: &str) -> Diagnostic {
    let modules = images.keys().filter(|name| *name != VMLINUX).count();
    let names = if modules > NAMED {
        format!("vmlinux and {modules} modules")
    } else {
        let names: Vec<&str> = images.keys().map(String::as_str).collect();
        names.join(" and ")
    };
    let folder = path.value.rsplit_once('/').map_or("", |(folder, _)| folder);
    let near = images
        .values()
        .flatten()
        .map(String::as_str)
        .filter(|unit| unit.rsplit_once('/').is_some_and(|(f, _)| f == folder));
    let error = path.error(
        Code::BadYaml,
        file,
        format!("{names} contain no code from `{path}`"),
    );
    match yaml::suggest(&path.value, "files there", near) {
        Some(help) => error.help(help),
        None => error.help("name C files or directories of the kernel tree, such as net/sched"),
    }
}

/// Notes that kbuild links into every module; it has no function and no variable.
const MODULE_COMMON: &str = "scripts/module-common.c";
/// Modules that a message names one by one.
const NAMED: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn images(with: &[&str]) -> Units {
        let units = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        [
            (
                "vmlinux",
                units(&[
                    "net/sched/sch_api.c",
                    "lib/a.c",
                    "arch/x86/entry.S",
                    ".vmlinux.export.c",
                ]),
            ),
            (
                "sch_qfq",
                units(&[
                    "net/sched/sch_qfq.c",
                    "net/sched/sch_qfq.mod.c",
                    "scripts/module-common.c",
                ]),
            ),
            ("sch_htb", units(&["net/sched/sch_htb.c"])),
        ]
        .into_iter()
        .filter(|(name, _)| with.contains(name))
        .map(|(name, units)| (name.to_owned(), units))
        .collect()
    }

    fn run(confined: &[&str], scope: &[&str]) -> Result<Vec<Unit>, Vec<Diagnostic>> {
        let place = |list: &[&str]| -> Vec<Placed<String>> {
            list.iter().map(|s| (*s).to_owned().into()).collect()
        };
        let (confined, scope) = (place(confined), place(scope));
        select(
            &images(&["vmlinux", "sch_qfq"]),
            &images(&["vmlinux", "sch_qfq", "sch_htb"]),
            &Listed {
                paths: &confined,
                file: "c.yaml",
            },
            &[
                Listed {
                    paths: &scope,
                    file: "k.yaml",
                },
                Listed {
                    paths: &[],
                    file: "c.yaml",
                },
            ],
        )
    }

    fn listed(units: &[Unit]) -> Vec<(&str, &str, bool)> {
        units
            .iter()
            .map(|u| (u.source.as_str(), u.image.as_str(), u.confined))
            .collect()
    }

    #[test]
    fn directories_expand_to_what_is_compiled() {
        let units = run(&["net/sched/sch_qfq.c"], &["net/sched", "lib/a.c"]).unwrap();
        assert_eq!(
            listed(&units),
            [
                ("lib/a.c", "vmlinux", false),
                ("net/sched/sch_api.c", "vmlinux", false),
                ("net/sched/sch_htb.c", "sch_htb", false),
                ("net/sched/sch_qfq.c", "sch_qfq", true),
            ]
        );
    }

    #[test]
    fn modules_without_paths_are_confined_as_a_whole() {
        let units = run(&[], &["**"]).unwrap();
        assert_eq!(
            listed(&units),
            [
                ("lib/a.c", "vmlinux", false),
                ("net/sched/sch_api.c", "vmlinux", false),
                ("net/sched/sch_htb.c", "sch_htb", false),
                ("net/sched/sch_qfq.c", "sch_qfq", true),
            ]
        );
    }

    #[test]
    fn code_of_other_modules_is_not_confined() {
        let errors = run(&["net/sched/sch_htb.c"], &[]).unwrap_err();
        assert_eq!(errors[0].code, Code::BadYaml);
        let units = run(&["net/sched"], &[]).unwrap();
        assert_eq!(units.len(), 2);
    }

    #[test]
    fn every_unknown_file_is_reported() {
        let errors = run(&["net/sched/sch_qfk.c", "arch/x86"], &["mm"]).unwrap_err();
        assert_eq!(errors.len(), 3);
        let help = errors[0].help.as_deref().unwrap();
        assert!(
            help.starts_with("did you mean `net/sched/sch_qfq.c`?"),
            "{help}"
        );
        assert_eq!(errors[2].file.as_deref(), Some("k.yaml"));
    }

    #[test]
    fn a_prefix_of_a_name_is_no_directory() {
        assert!(run(&["net/sch"], &[]).is_err());
    }
}
