//! Which source files become bitcode: those of the compartment and of the scope that the images really contain.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    yaml::{self, Placed},
};

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

/// Expands both lists by the compilation units of the images, sorted by source. What is confined is
/// not in scope as well.
pub fn select(
    images: &BTreeMap<String, BTreeSet<String>>,
    confined: &Listed<'_>,
    scope: &Listed<'_>,
) -> Result<Vec<Unit>, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let mut chosen: BTreeMap<(String, String), bool> = BTreeMap::new();
    for (list, is_confined) in [(confined, true), (scope, false)] {
        for path in list.paths {
            let found = units_at(images, &path.value);
            if found.is_empty() {
                errors.push(not_found(images, path, list.file));
            }
            for unit in found {
                chosen.entry(unit).or_insert(is_confined);
            }
        }
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
fn units_at(images: &BTreeMap<String, BTreeSet<String>>, path: &str) -> Vec<(String, String)> {
    let below = format!("{path}/");
    let mut found = Vec::new();
    for (image, units) in images {
        for unit in units {
            let is_c =
                Path::new(unit).extension().is_some_and(|e| e == "c") && !unit.ends_with(".mod.c");
            if is_c && (unit == path || unit.starts_with(&below)) {
                found.push((unit.clone(), image.clone()));
            }
        }
    }
    found
}

fn not_found(
    images: &BTreeMap<String, BTreeSet<String>>,
    path: &Placed<String>,
    file: &str,
) -> Diagnostic {
    let names: Vec<&str> = images.keys().map(String::as_str).collect();
    let folder = path.value.rsplit_once('/').map_or("", |(folder, _)| folder);
    let near = images
        .values()
        .flatten()
        .map(String::as_str)
        .filter(|unit| unit.rsplit_once('/').is_some_and(|(f, _)| f == folder));
    let error = path.error(
        Code::BadYaml,
        file,
        format!("{} contain no code from `{path}`", names.join(" and ")),
    );
    match yaml::suggest(&path.value, "files there", near) {
        Some(help) => error.help(help),
        None => error.help("name C files or directories of the kernel tree, such as net/sched"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> BTreeMap<String, BTreeSet<String>> {
        let units = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        BTreeMap::from([
            (
                "vmlinux".to_owned(),
                units(&["net/sched/sch_api.c", "lib/a.c", "arch/x86/entry.S"]),
            ),
            (
                "sch_qfq".to_owned(),
                units(&["net/sched/sch_qfq.c", "net/sched/sch_qfq.mod.c"]),
            ),
        ])
    }

    fn run(confined: &[&str], scope: &[&str]) -> Result<Vec<Unit>, Vec<Diagnostic>> {
        let place = |list: &[&str]| -> Vec<Placed<String>> {
            list.iter().map(|s| (*s).to_owned().into()).collect()
        };
        let (confined, scope) = (place(confined), place(scope));
        select(
            &images(),
            &Listed {
                paths: &confined,
                file: "c.yaml",
            },
            &Listed {
                paths: &scope,
                file: "k.yaml",
            },
        )
    }

    #[test]
    fn directories_expand_to_what_is_compiled() {
        let units = run(&["net/sched/sch_qfq.c"], &["net/sched", "lib/a.c"]).unwrap();
        let list: Vec<_> = units
            .iter()
            .map(|u| (u.source.as_str(), u.image.as_str(), u.confined))
            .collect();
        assert_eq!(
            list,
            [
                ("lib/a.c", "vmlinux", false),
                ("net/sched/sch_api.c", "vmlinux", false),
                ("net/sched/sch_qfq.c", "sch_qfq", true),
            ]
        );
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
