//! Finds and reads the YAML files of a request; says what exists when a name does not.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    yaml::{self, Placed},
};
use schemars::{Schema, schema_for};
use serde::de::DeserializeOwned;

use crate::{compartment::Compartment, overlay::Overlay, profile::Profile};

/// Reads `kernels/KERNEL/kernel.yaml` below `root`.
pub fn profile(root: &Path, kernel: &str) -> Result<Profile, Diagnostic> {
    let kernels = root.join("kernels");
    let exists = entries(&kernels, |path| path.join("kernel.yaml").is_file());
    known(
        kernel,
        &exists,
        Code::UnknownKernel,
        "kernel profile",
        "kernels",
    )?;
    let file = format!("kernels/{kernel}/kernel.yaml");
    let profile: Profile = read(root, &file)?;
    let pattern = &profile.archive.image;
    if pattern.value.matches('*').count() != 1 || !pattern.value.starts_with("linux-image-") {
        return Err(pattern
            .error(
                Code::BadYaml,
                &file,
                format!("`{pattern}` is no pattern of a kernel image's package"),
            )
            .help("write `linux-image-`, a version with one `*`, and the flavour"));
    }
    Ok(profile)
}

/// Reads `kernels/KERNEL/compartments/COMPARTMENT.yaml` below `root`.
pub fn compartment(
    root: &Path,
    kernel: &str,
    compartment: &str,
) -> Result<Compartment, Diagnostic> {
    let file = compartment_file(kernel, compartment);
    let folder = root.join("kernels").join(kernel).join("compartments");
    let exists: Vec<String> = entries(&folder, Path::is_file)
        .iter()
        .filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned))
        .collect();
    known(
        compartment,
        &exists,
        Code::UnknownCompartment,
        "compartment",
        "compartments",
    )?;
    let compartment: Compartment = read(root, &file)?;
    for path in &compartment.confined {
        inside(path, &file)?;
    }
    if compartment.confined.is_empty() {
        return Err(
            Diagnostic::error(Code::BadYaml, "the compartment confines nothing")
                .at(file, 0, 0)
                .help("list source files or directories under `confined`"),
        );
    }
    Ok(compartment)
}

/// Reads `kernels/KERNEL/overlays/OVERLAY/overlay.yaml` below `root`.
pub fn overlay(root: &Path, kernel: &str, overlay: &str) -> Result<Overlay, Diagnostic> {
    let folder = root.join("kernels").join(kernel).join("overlays");
    let exists = entries(&folder, |path| path.join("overlay.yaml").is_file());
    known(
        overlay,
        &exists,
        Code::UnknownOverlay,
        "overlay",
        "overlays",
    )?;
    let file = overlay_file(kernel, overlay);
    let parsed: Overlay = read(root, &file)?;
    let beside = folder.join(overlay);
    let named = [
        &parsed.patch,
        &parsed.files,
        &parsed.trigger,
        &parsed.ordinary,
    ];
    for path in named.into_iter().flatten() {
        inside(path, &file)?;
        if !beside.join(&path.value).exists() {
            return Err(path.error(
                Code::BadYaml,
                &file,
                format!("`{path}` does not exist beside {file}"),
            ));
        }
    }
    for module in &parsed.modules {
        inside(&module.directory, &file)?;
    }
    for oracle in &parsed.oracles {
        inside(oracle, &file)?;
        if !oracle_source(root, kernel, &oracle.value).is_file() {
            return Err(oracle.error(
                Code::BadYaml,
                &file,
                format!("no kernels/{kernel}/oracles/{oracle}.c"),
            ));
        }
    }
    Ok(parsed)
}

/// The JSON schemas of the three kinds of files, by name.
pub fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("compartment", schema_for!(Compartment)),
        ("kernel", schema_for!(Profile)),
        ("overlay", schema_for!(Overlay)),
    ]
}

/// What a compartment's file is called, relative to the root.
pub(crate) fn compartment_file(kernel: &str, compartment: &str) -> String {
    format!("kernels/{kernel}/compartments/{compartment}.yaml")
}

/// What an overlay's file is called, relative to the root.
pub(crate) fn overlay_file(kernel: &str, overlay: &str) -> String {
    format!("kernels/{kernel}/overlays/{overlay}/overlay.yaml")
}

/// Where an oracle's source is.
pub(crate) fn oracle_source(root: &Path, kernel: &str, oracle: &str) -> PathBuf {
    root.join(format!("kernels/{kernel}/oracles/{oracle}.c"))
}

fn read<T: DeserializeOwned>(root: &Path, file: &str) -> Result<T, Diagnostic> {
    let text = fs::read_to_string(root.join(file)).map_err(|e| {
        Diagnostic::error(Code::BadYaml, format!("cannot be read: {e}")).at(file, 0, 0)
    })?;
    yaml::parse(&text, file)
}

/// Names in a folder that satisfy `wanted`, sorted; none when there is no such folder.
fn entries(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| wanted(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn known(
    name: &str,
    exists: &[String],
    code: Code,
    what: &str,
    plural: &str,
) -> Result<(), Diagnostic> {
    if exists.iter().any(|candidate| candidate == name) {
        return Ok(());
    }
    let error = Diagnostic::error(code, format!("no {what} `{name}`"));
    Err(
        match yaml::suggest(name, plural, exists.iter().map(String::as_str)) {
            Some(help) => error.help(help),
            None => error.help(format!("there are no {plural} yet")),
        },
    )
}

/// Paths of users stay below the folder that they are relative to.
fn inside(path: &Placed<String>, file: &str) -> Result<(), Diagnostic> {
    let plain = !path.value.is_empty()
        && Path::new(&path.value)
            .components()
            .all(|c| matches!(c, Component::Normal(_)));
    if plain {
        Ok(())
    } else {
        Err(path
            .error(Code::BadYaml, file, format!("`{path}` is no plain path"))
            .help("write a relative path without `.` and `..`"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    #[test]
    fn shipped_files_are_valid() {
        let root = repository();
        let mut read = 0;
        for kernel in entries(&root.join("kernels"), Path::is_dir) {
            profile(&root, &kernel).unwrap();
            let folder = root.join("kernels").join(&kernel);
            for file in entries(&folder.join("compartments"), Path::is_file) {
                compartment(&root, &kernel, file.strip_suffix(".yaml").unwrap()).unwrap();
                read += 1;
            }
            for name in entries(&folder.join("overlays"), Path::is_dir) {
                overlay(&root, &kernel, &name).unwrap();
                read += 1;
            }
        }
        assert!(read >= 2, "{read}");
    }

    #[test]
    fn unknown_names_have_suggestions() {
        let root = repository();
        let error = profile(&root, "debian-6.21").unwrap_err();
        assert_eq!(error.code, Code::UnknownKernel);
        assert!(error.help.unwrap().contains("debian-6.12"));
        let error = compartment(&root, "debian-6.12", "sch_qfk").unwrap_err();
        assert_eq!(error.code, Code::UnknownCompartment);
        assert!(error.help.unwrap().contains("did you mean `sch_qfq`?"));
        let error = overlay(&root, "debian-6.12", "cve-2023-31435").unwrap_err();
        assert_eq!(error.code, Code::UnknownOverlay);
        assert!(error.help.unwrap().contains("cve-2023-31436"));
    }

    /// One profile's file `name` with this text, read as what it is.
    fn reading<T>(
        name: &str,
        text: &str,
        read: impl Fn(&Path) -> Result<T, Diagnostic>,
    ) -> Diagnostic {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kernels/k").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        read(dir.path()).err().unwrap()
    }

    #[test]
    fn wrong_values_have_places() {
        let text = "modules: [a]\nconfined:\n  - net/a.c\n  - ../secret.c\n";
        let error = reading("compartments/c.yaml", text, |r| compartment(r, "k", "c"));
        assert_eq!(
            (error.code, error.line, error.column),
            (Code::BadYaml, 4, 5)
        );

        let text = "modules: [a]\nconfined: []\n";
        let error = reading("compartments/c.yaml", text, |r| compartment(r, "k", "c"));
        assert!(error.message.contains("confines nothing"), "{error}");

        let text = "modules: []\npatch: gone.patch\n";
        let error = reading("overlays/o/overlay.yaml", text, |r| overlay(r, "k", "o"));
        assert_eq!(
            (error.code, error.line, error.column),
            (Code::BadYaml, 2, 8)
        );

        let text =
            fs::read_to_string(repository().join("kernels/debian-6.12/kernel.yaml")).unwrap();
        let wild = text.replace("linux-image-6.12.*-amd64", "linux-image-6.12-amd64");
        let error = reading("kernel.yaml", &wild, |r| profile(r, "k"));
        assert!(error.message.contains("no pattern"), "{error}");
        assert!(error.line > 0 && error.column > 0);
        let unknown = text.replace("flavour:", "flavor:");
        let error = reading("kernel.yaml", &unknown, |r| profile(r, "k"));
        assert!(error.help.unwrap().starts_with("did you mean `flavour`?"));
    }

    #[test]
    fn schemas_name_every_field() {
        for (name, schema) in schemas() {
            let text = schema.as_value().to_string();
            assert!(text.contains("additionalProperties"), "{name}");
            assert!(text.contains("description"), "{name}");
        }
    }

    proptest! {
        #[test]
        fn damaged_profiles_never_panic(at in 0usize..4000, with in "[-:{}\\[\\]&*!|>'\"#,? \n\ta-z]{0,4}") {
            let text = include_str!("../../../kernels/debian-6.12/kernel.yaml");
            let at = (0..=at % text.len()).rev().find(|i| text.is_char_boundary(*i)).unwrap();
            let damaged = format!("{}{with}{}", &text[..at], &text[at..]);
            let _ = yaml::parse::<Profile>(&damaged, "kernel.yaml");
            let _ = yaml::parse::<Profile>(&text[..at], "kernel.yaml");
            let _ = yaml::parse::<Compartment>(&damaged, "c.yaml");
            let _ = yaml::parse::<Overlay>(&damaged, "overlay.yaml");
        }
    }
}
