//! In which folder a name is found: a kernel has what its own folder has, and what those have that it comes from.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use otf_artifact::yaml;

use crate::profile::Profile;

/// What a profile's file is called, relative to the root.
pub fn profile_file(kernel: &str) -> String {
    format!("kernels/{kernel}/kernel.yaml")
}

/// Names of the profiles, sorted.
pub(crate) fn profiles(root: &Path) -> Vec<String> {
    let folder = root.join("kernels");
    names(&folder, |path| path.join("kernel.yaml").is_file())
        .into_iter()
        .collect()
}

/// What a compartment's file is called, relative to the root.
pub(crate) fn compartment_file(root: &Path, kernel: &str, compartment: &str) -> String {
    find(root, kernel, &format!("compartments/{compartment}.yaml"))
}

/// What an overlay's file is called, relative to the root.
pub(crate) fn overlay_file(root: &Path, kernel: &str, overlay: &str) -> String {
    find(root, kernel, &format!("overlays/{overlay}/overlay.yaml"))
}

/// The folder with an overlay's files.
pub fn overlay_folder(root: &Path, kernel: &str, overlay: &str) -> PathBuf {
    let file = root.join(overlay_file(root, kernel, overlay));
    file.parent().map(Path::to_owned).unwrap_or_default()
}

/// Where an oracle's source is, relative to the root.
pub(crate) fn oracle_source(root: &Path, kernel: &str, oracle: &str) -> String {
    find(root, kernel, &format!("oracles/{oracle}.c"))
}

/// Names in a folder of the kernel that satisfy `wanted`, sorted; none when there is no such folder.
pub(crate) fn entries(
    root: &Path,
    kernel: &str,
    folder: &str,
    wanted: impl Fn(&Path) -> bool,
) -> Vec<String> {
    let all: BTreeSet<String> = folders(root, kernel)
        .iter()
        .flat_map(|of| names(&root.join("kernels").join(of).join(folder), &wanted))
        .collect();
    all.into_iter().collect()
}

/// The first folder that has the file; the kernel's own when none has.
fn find(root: &Path, kernel: &str, file: &str) -> String {
    let of = folders(root, kernel);
    of.iter()
        .map(|folder| format!("kernels/{folder}/{file}"))
        .find(|path| root.join(path).exists())
        .unwrap_or_else(|| format!("kernels/{kernel}/{file}"))
}

/// The kernel's own folder, that of the profile that it is like, and that whose source it is built
/// from. What is wrong in a profile is said where that is read.
fn folders(root: &Path, kernel: &str) -> Vec<String> {
    let read = |name: &str| -> Option<Profile> {
        let file = profile_file(name);
        let text = fs::read_to_string(root.join(&file)).ok()?;
        yaml::parse(&text, &file).ok()
    };
    let mut found = vec![kernel.to_owned()];
    let mut profile = read(kernel);
    if let Some(like) = profile.as_ref().and_then(|p| p.like.clone()) {
        profile = read(&like.value);
        found.push(like.value);
    }
    found.extend(profile.and_then(|p| p.build).map(|b| b.source_of.value));
    found
}

/// Names in one folder.
fn names(folder: &Path, wanted: impl Fn(&Path) -> bool) -> BTreeSet<String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| wanted(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    #[test]
    fn what_a_kernel_has_itself_comes_first() {
        let root = repository();
        let compartment = |kernel: &str, name: &str| compartment_file(&root, kernel, name);
        for kernel in ["lab-6.12", "lab-6.12-debug"] {
            assert_eq!(
                compartment(kernel, "sched"),
                "kernels/lab-6.12/compartments/sched.yaml"
            );
            assert_eq!(
                compartment(kernel, "sch_qfq"),
                "kernels/debian-6.12/compartments/sch_qfq.yaml"
            );
            assert_eq!(
                overlay_file(&root, kernel, "broken"),
                "kernels/debian-6.12/overlays/broken/overlay.yaml"
            );
        }
        assert_eq!(
            compartment("debian-6.12", "sched"),
            "kernels/debian-6.12/compartments/sched.yaml"
        );
    }

    #[test]
    fn what_nobody_has_would_be_the_kernels_own() {
        assert_eq!(
            oracle_source(&repository(), "lab-6.12", "gone"),
            "kernels/lab-6.12/oracles/gone.c"
        );
        assert!(entries(&repository(), "no-such", "overlays", |_| true).is_empty());
    }

    #[test]
    fn a_name_is_listed_once() {
        let listed = entries(&repository(), "lab-6.12", "compartments", Path::is_file);
        let count = |name: &str| listed.iter().filter(|n| *n == name).count();
        assert_eq!((count("sched.yaml"), count("sch_qfq.yaml")), (1, 1));
        assert!(listed.is_sorted());
    }
}
