//! A folder of a compartment to be damaged, and the command refusing it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use otf_artifact::{kernel::KernelLock, yaml};
use otf_testkit::{Products, products, repository};

use super::{copy, files, otf};

/// Copies of a compartment's folder and of the user's files.
pub struct Case {
    /// Where the originals are.
    pub products: Products,
    /// Holds the copies.
    pub temp: tempfile::TempDir,
}

impl Case {
    /// `None` where real kernels are left out.
    pub fn new() -> Option<Self> {
        let products = products()?;
        let temp = tempfile::tempdir().unwrap();
        copy(&products.folder("sch_qfq"), &temp.path().join("sch_qfq"));
        Some(Self { products, temp })
    }

    pub fn folder(&self) -> PathBuf {
        self.temp.path().join("sch_qfq")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub fn truncate(&self, name: &str, bytes: usize) {
        let whole = fs::read(self.file(name)).unwrap();
        assert!(bytes < whole.len());
        fs::write(self.file(name), &whole[..bytes]).unwrap();
    }

    /// Puts `to` in the place of the first `from` in policy.yaml; `FILE:LINE:COLUMN` of `needle` in `to`.
    pub fn edit_policy(&self, from: &str, to: &str, needle: &str) -> String {
        let path = self.file("policy.yaml");
        let text = fs::read_to_string(&path).unwrap();
        let start = text.find(from).unwrap_or_else(|| panic!("no {from}"));
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let before = format!("{}{}", &text[..start], &to[..to.find(needle).unwrap()]);
        let line = before.split('\n').count();
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        format!("{}:{line}:{column}", path.display())
    }

    pub fn edit_lock(&self, edit: impl FnOnce(&mut KernelLock)) {
        let mut lock = self.products.lock("sch_qfq");
        edit(&mut lock);
        let text = yaml::write(&lock).unwrap();
        fs::write(self.file("kernel.lock.yaml"), text).unwrap();
    }

    /// The user's files, with another kernel image in the profile.
    pub fn root_with_image(&self, image: &str) -> PathBuf {
        let root = self.temp.path().join("root");
        for part in ["kernels", "crates/runtime/guard", "crates/policygen/bpf"] {
            copy(&repository().join(part), &root.join(part));
        }
        let profile = root.join("kernels/debian-6.12/kernel.yaml");
        let text = fs::read_to_string(&profile).unwrap();
        let changed = text.replace("linux-image-6.12.*-amd64", image);
        assert_ne!(text, changed);
        fs::write(profile, changed).unwrap();
        root
    }

    fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = files(self.temp.path());
        // What the cache remembers of the profile's packages.
        let packages = self.products.cache.join("packages/debian-6.12.json");
        all.insert(packages.clone(), fs::read(packages).unwrap());
        all
    }

    /// Runs the command, which must refuse; what it says. Each word must be in that.
    pub fn refused(&self, arguments: &[&str], words: &[&str]) -> String {
        let before = self.snapshot();
        let output = otf(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{:?}", output.stdout);
        for word in words {
            assert!(said.contains(word), "{word} is not in\n{said}");
        }
        let after = self.snapshot();
        assert!(before == after, "changed: {:?}", after.keys());
        said
    }

    pub fn compile_refused(&self, words: &[&str]) -> String {
        let folder = self.folder();
        self.refused(&["compile", folder.to_str().unwrap()], words)
    }

    pub fn resolve_refused(&self, words: &[&str]) -> String {
        let folder = self.folder();
        self.refused(&["resolve", folder.to_str().unwrap()], words)
    }

    pub fn analyze_refused(&self, root: &Path, arguments: &[&str], words: &[&str]) -> String {
        let out = self.temp.path().join("out");
        let paths = [
            "--out",
            out.to_str().unwrap(),
            "--root",
            root.to_str().unwrap(),
        ];
        let said = self.refused(&[&["analyze"], &paths[..], arguments].concat(), words);
        assert!(!out.exists());
        said
    }
}
