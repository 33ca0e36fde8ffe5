//! Finds and reads the YAML files of a request; says what exists when a name does not.

use std::{
    fs,
    path::{Component, Path},
};

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    yaml::{self, Placed},
};
use schemars::{Schema, schema_for};
use serde::de::DeserializeOwned;

use crate::{
    compartment::Compartment,
    lineage,
    overlay::Overlay,
    profile::{Archive, Build, Profile},
    units::EVERYTHING,
};

/// Reads `kernels/KERNEL/kernel.yaml` below `root`.
pub fn profile(root: &Path, kernel: &str) -> Result<Profile, Diagnostic> {
    let exists = lineage::profiles(root);
    known(
        kernel,
        &exists,
        Code::UnknownKernel,
        "kernel profile",
        "kernels",
    )?;
    let file = lineage::profile_file(kernel);
    let profile: Profile = read(root, &file)?;
    if let Some(like) = &profile.like {
        return derived(&profile, like, root, kernel, &file);
    }
    valid(&profile, root, kernel, &file)?;
    Ok(profile)
}

/// A profile that is another one but for its name and its packages, or for some options.
fn derived(
    profile: &Profile,
    like: &Placed<String>,
    root: &Path,
    kernel: &str,
    file: &str,
) -> Result<Profile, Diagnostic> {
    if !profile.says_no_more_than_like() {
        let message = "a profile with `like` has `description` and `archive` or `fragment` beside it, and nothing else";
        return Err(like.error(Code::BadYaml, file, message.to_owned()));
    }
    let parent: Profile = match read(root, &lineage::profile_file(&like.value)) {
        Ok(Profile { like: None, .. }) => self::profile(root, &like.value)?,
        Ok(_) => {
            let message = format!("`{like}` is itself like another one");
            return Err(like.error(Code::BadYaml, file, message));
        }
        // Says which profiles there are.
        Err(_) => self::profile(root, &like.value).map_err(|e| match e.code {
            Code::UnknownKernel => e.at(file, like.line, like.column),
            _ => e,
        })?,
    };
    let wrong = |message: String| Err(like.error(Code::BadYaml, file, message));
    match (&parent.build, &profile.archive, &profile.fragment) {
        (Some(_), None, Some(fragment)) => self::fragment(root, kernel, fragment, file)?,
        (Some(_), Some(_), _) => return wrong(format!("`{like}` is built: it has no packages")),
        (None, Some(archive), None) => stock(archive, file)?,
        (None, _, Some(_)) => return wrong(format!("`{like}` is not built: it has no options")),
        (None, None, None) => return wrong("the packages are missing: `archive`".to_owned()),
        (Some(_), None, None) => {}
    }
    Ok(Profile {
        description: profile.description.clone(),
        like: profile.like.clone(),
        fragment: profile.fragment.clone(),
        archive: profile.archive.clone().or(parent.archive),
        ..parent
    })
}

/// What the fields of a profile must be together.
fn valid(profile: &Profile, root: &Path, kernel: &str, file: &str) -> Result<(), Diagnostic> {
    for path in &profile.scope {
        scope_path(path, file)?;
    }
    let wrong = |message: &str, help: &str| {
        Err(Diagnostic::error(Code::BadYaml, message)
            .at(file, 0, 0)
            .help(help))
    };
    if profile.fragment.is_some() {
        return wrong(
            "`fragment` needs `like`",
            "name the profile that the options come over, or put the fragment under `build`",
        );
    }
    match (&profile.archive, &profile.bitcode, &profile.build) {
        (Some(archive), Some(_), None) => stock(archive, file),
        (None, None, Some(recipe)) => built(recipe, root, kernel, file),
        (Some(_), None, None) => wrong(
            "missing field `bitcode`",
            "say under `bitcode` how source becomes bitcode",
        ),
        (None, _, None) => wrong(
            "the profile has neither `archive` nor `build`",
            "name packages under `archive`, or say under `build` how the kernel is built",
        ),
        (_, _, Some(_)) => wrong(
            "`build` excludes `archive` and `bitcode`",
            "the source comes from the profile under `build.source_of`, bitcode from the build",
        ),
    }
}

/// Where a profile's packages come from: for a kernel that is built, the profile whose source it is.
pub(crate) fn archive(root: &Path, kernel: &str, profile: &Profile) -> Result<Archive, Diagnostic> {
    let lacking = |named: &Placed<String>| {
        let message = format!("`{named}` is no profile of packages");
        named.error(Code::BadYaml, &lineage::profile_file(kernel), message)
    };
    match (&profile.archive, &profile.build) {
        (Some(archive), _) => Ok(archive.clone()),
        (None, Some(recipe)) => {
            let of = &recipe.source_of;
            let kernel = profile.like.as_ref().map_or(kernel, |like| &like.value);
            let file = lineage::profile_file(kernel);
            let source = self::profile(root, &of.value).map_err(|e| match e.code {
                Code::UnknownKernel => e.at(file, of.line, of.column),
                _ => e,
            })?;
            source.archive.ok_or_else(|| lacking(of))
        }
        // Such a profile was refused when it was read.
        (None, None) => Err(Diagnostic::error(Code::InvariantBroken, "no packages")),
    }
}

fn stock(archive: &Archive, file: &str) -> Result<(), Diagnostic> {
    let pattern = &archive.image;
    if pattern.value.matches('*').count() == 1 && pattern.value.starts_with("linux-image-") {
        return Ok(());
    }
    Err(pattern
        .error(
            Code::BadYaml,
            file,
            format!("`{pattern}` is no pattern of a kernel image's package"),
        )
        .help("write `linux-image-`, a version with one `*`, and the flavour"))
}

fn built(recipe: &Build, root: &Path, kernel: &str, file: &str) -> Result<(), Diagnostic> {
    let compiler = &recipe.compiler;
    let version = compiler.value.strip_prefix("clang").map(|rest| {
        rest.is_empty()
            || rest.strip_prefix('-').is_some_and(|number| {
                !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
            })
    });
    if version != Some(true) {
        return Err(compiler
            .error(
                Code::BadYaml,
                file,
                format!("`{compiler}` is no clang, and only clang leaves bitcode"),
            )
            .help("write `clang-19`"));
    }
    fragment(root, kernel, &recipe.fragment, file)
}

/// A fragment must exist beside the profile.
fn fragment(
    root: &Path,
    kernel: &str,
    name: &Placed<String>,
    file: &str,
) -> Result<(), Diagnostic> {
    inside(name, file)?;
    if root
        .join("kernels")
        .join(kernel)
        .join(&name.value)
        .is_file()
    {
        return Ok(());
    }
    let missing = format!("`{name}` does not exist beside {file}");
    Err(name.error(Code::BadYaml, file, missing))
}

/// The fragments of a kernel that is built, relative to the root, each over those before it.
pub(crate) fn fragments(kernel: &str, profile: &Profile) -> Vec<String> {
    let base = profile.like.as_ref().map_or(kernel, |like| &like.value);
    let recipe = profile.build.iter();
    recipe
        .map(|recipe| format!("kernels/{base}/{}", recipe.fragment))
        .chain(
            profile
                .fragment
                .iter()
                .map(|f| format!("kernels/{kernel}/{f}")),
        )
        .collect()
}

/// Reads `kernels/KERNEL/compartments/COMPARTMENT.yaml` below `root`.
pub fn compartment(
    root: &Path,
    kernel: &str,
    compartment: &str,
) -> Result<Compartment, Diagnostic> {
    known(
        compartment,
        &compartments(root, kernel),
        Code::UnknownCompartment,
        "compartment",
        "compartments",
    )?;
    let file = lineage::compartment_file(root, kernel, compartment);
    let compartment: Compartment = read(root, &file)?;
    for path in &compartment.confined {
        inside(path, &file)?;
    }
    for path in &compartment.scope {
        scope_path(path, &file)?;
    }
    if compartment.confined.is_empty() && compartment.modules.is_empty() {
        return Err(
            Diagnostic::error(Code::BadYaml, "the compartment confines nothing")
                .at(file, 0, 0)
                .help(
                    "list source files or directories under `confined`, or modules under `modules`",
                ),
        );
    }
    Ok(compartment)
}

/// Names of the compartments of a profile, sorted.
pub fn compartments(root: &Path, kernel: &str) -> Vec<String> {
    lineage::entries(root, kernel, "compartments", Path::is_file)
        .iter()
        .filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned))
        .collect()
}

/// Names of the overlays of a profile, sorted.
pub fn overlays(root: &Path, kernel: &str) -> Vec<String> {
    lineage::entries(root, kernel, "overlays", |path| {
        path.join("overlay.yaml").is_file()
    })
}

/// Reads `kernels/KERNEL/overlays/OVERLAY/overlay.yaml` below `root`.
pub fn overlay(root: &Path, kernel: &str, overlay: &str) -> Result<Overlay, Diagnostic> {
    known(
        overlay,
        &overlays(root, kernel),
        Code::UnknownOverlay,
        "overlay",
        "overlays",
    )?;
    let file = lineage::overlay_file(root, kernel, overlay);
    let parsed: Overlay = read(root, &file)?;
    let beside = lineage::overlay_folder(root, kernel, overlay);
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
        let source = lineage::oracle_source(root, kernel, &oracle.value);
        if !root.join(&source).is_file() {
            return Err(oracle.error(Code::BadYaml, &file, format!("no {source}")));
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

fn read<T: DeserializeOwned>(root: &Path, file: &str) -> Result<T, Diagnostic> {
    let text = fs::read_to_string(root.join(file)).map_err(|e| {
        Diagnostic::error(Code::BadYaml, format!("cannot be read: {e}")).at(file, 0, 0)
    })?;
    yaml::parse(&text, file)
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

/// A path of a scope: plain, or everything.
fn scope_path(path: &Placed<String>, file: &str) -> Result<(), Diagnostic> {
    if path.value == EVERYTHING {
        return Ok(());
    }
    inside(path, file)
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
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    #[test]
    fn shipped_files_are_valid() {
        let root = repository();
        let mut read = 0;
        for kernel in lineage::profiles(&root) {
            profile(&root, &kernel).unwrap();
            for name in compartments(&root, &kernel) {
                compartment(&root, &kernel, &name).unwrap();
                read += 1;
            }
            for name in overlays(&root, &kernel) {
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

        let text = "modules: []\nconfined: []\n";
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

    /// A profile like that of the lab kernel with one edit.
    fn built_kernel(from: &str, to: &str) -> Diagnostic {
        let text = fs::read_to_string(repository().join("kernels/lab-6.12/kernel.yaml")).unwrap();
        assert!(text.contains(from), "{text}");
        reading("kernel.yaml", &text.replace(from, to), |r| {
            for (file, text) in [
                ("k/fragment.config", ""),
                ("debian-6.12/kernel.yaml", "x: 1"),
            ] {
                let path = r.join("kernels").join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            profile(r, "k").and_then(|p| archive(r, "k", &p))
        })
    }

    #[test]
    fn wrong_recipes_have_places() {
        let error = built_kernel("  compiler: clang-19\n", "");
        assert_eq!(error.message, "missing field `compiler`");
        assert!(error.line > 0, "{error}");
        for compiler in ["gcc-12", "clang19", "clang-", "clang-x"] {
            let error = built_kernel("clang-19", compiler);
            assert_eq!(error.code, Code::BadYaml);
            assert!(error.message.contains("is no clang"), "{error}");
            assert!(error.line > 0 && error.column > 0);
        }
        let error = built_kernel("fragment.config", "fragments.config");
        assert!(error.message.contains("does not exist beside"), "{error}");
        assert!(error.line > 0 && error.column > 0);
        let error = built_kernel("fragment.config", "../fragment.config");
        assert!(error.message.contains("no plain path"), "{error}");
        let error = built_kernel("base: allnoconfig", "base: allnoconf");
        assert!(error.help.unwrap().contains("`allnoconfig`"));
        let error = built_kernel("source_of: debian-6.12", "source_of: debian-6.13");
        assert_eq!((error.code, error.line), (Code::UnknownKernel, 7));
        let error = built_kernel("source_of: debian-6.12", "source_of: k");
        assert!(error.message.contains("no profile of packages"), "{error}");
        assert_eq!((error.code, error.line), (Code::BadYaml, 7));
        let error = built_kernel("scope: [\"**\"]", "scope: [\"../x\"]");
        assert_eq!((error.code, error.column), (Code::BadYaml, 9));
    }

    /// A profile that is like the lab kernel.
    fn derived_kernel(text: &str) -> Result<Profile, Diagnostic> {
        let dir = tempfile::tempdir().unwrap();
        let lab = "kernels/lab-6.12";
        for (file, text) in [
            ("kernels/k/kernel.yaml", text.to_owned()),
            ("kernels/k/extra.config", String::new()),
            ("kernels/stock/kernel.yaml", "archive: 1\n".to_owned()),
            ("kernels/twice/kernel.yaml", "like: k\n".to_owned()),
            (
                "kernels/lab-6.12/kernel.yaml",
                fs::read_to_string(repository().join(lab).join("kernel.yaml")).unwrap(),
            ),
            ("kernels/lab-6.12/fragment.config", String::new()),
            (
                "kernels/debian-6.12/kernel.yaml",
                fs::read_to_string(repository().join("kernels/debian-6.12/kernel.yaml")).unwrap(),
            ),
        ] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        profile(dir.path(), "k")
    }

    #[test]
    fn a_profile_like_another_has_its_recipe_and_options_over_it() {
        let profile =
            derived_kernel("description: d\nlike: lab-6.12\nfragment: extra.config\n").unwrap();
        assert_eq!(profile.description, "d");
        assert_eq!(
            fragments("k", &profile),
            ["kernels/lab-6.12/fragment.config", "kernels/k/extra.config"]
        );
        assert!(!profile.refusals.is_empty() && !profile.scope.is_empty());
        let plain = derived_kernel("like: lab-6.12\n").unwrap();
        assert_eq!(fragments("k", &plain), ["kernels/lab-6.12/fragment.config"]);
    }

    #[test]
    fn wrong_derivations_have_places() {
        for (text, code, said) in [
            ("like: lab-6.13\n", Code::UnknownKernel, "lab-6.13"),
            ("like: stock\n", Code::BadYaml, "expected mapping"),
            ("like: twice\n", Code::BadYaml, "itself"),
            ("like: k\n", Code::BadYaml, "itself"),
            ("like: debian-6.12\n", Code::BadYaml, "are missing"),
            (
                "like: debian-6.12\nfragment: extra.config\n",
                Code::BadYaml,
                "not built",
            ),
            (
                "like: lab-6.12\nscope: [net]\n",
                Code::BadYaml,
                "nothing else",
            ),
            (
                "like: lab-6.12\nfragment: gone\n",
                Code::BadYaml,
                "does not exist",
            ),
            (
                "like: lab-6.12\nfragment: ../x\n",
                Code::BadYaml,
                "no plain path",
            ),
            ("fragment: extra.config\n", Code::BadYaml, "needs `like`"),
        ] {
            let error = derived_kernel(text).unwrap_err();
            assert_eq!(error.code, code, "{text}");
            assert!(error.message.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_profile_is_of_one_kind() {
        for (text, said) in [
            ("scope: []\n", "neither `archive` nor `build`"),
            (
                "bitcode: {compiler: c, flags: []}\n",
                "neither `archive` nor `build`",
            ),
        ] {
            let error = reading("kernel.yaml", text, |r| profile(r, "k"));
            assert!(error.message.contains(said), "{error}");
        }
        let both = fs::read_to_string(repository().join("kernels/debian-6.12/kernel.yaml"))
            .unwrap()
            + "build: {source_of: a, compiler: clang, base: defconfig, fragment: f}\n";
        let error = reading("kernel.yaml", &both, |r| profile(r, "k"));
        assert!(error.message.contains("excludes"), "{error}");
        let error = reading("kernel.yaml", &both.replace("bitcode:", "bytecode:"), |r| {
            profile(r, "k")
        });
        assert_eq!(error.code, Code::BadYaml);
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
