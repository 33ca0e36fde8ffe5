//! The products of the offline command that tests read, through `$OTF_OUT` and `$OTF_CACHE`.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use otf_artifact::{
    kernel::{CachedFile, KernelLock},
    yaml,
};

/// The compartments that `make bundles` makes, as their folders are called.
const COMPARTMENTS: [&str; 3] = ["sch_qfq", "sch_qfq@cve-2023-31436", "otf_broken@broken"];

/// Folder of one kernel's products, and the cache that its locks refer to.
#[derive(Clone, Debug)]
pub struct Products {
    /// `$OTF_OUT`: `out/KERNEL`, absolute.
    pub out: PathBuf,
    /// `$OTF_CACHE`.
    pub cache: PathBuf,
}

/// Whether tests that need the distribution's packages run: not with `OTF_TEST_PACKAGES=0`.
pub fn packages_wanted() -> bool {
    let wanted = env::var("OTF_TEST_PACKAGES").as_deref() != Ok("0");
    if !wanted {
        eprintln!("OTF_TEST_PACKAGES=0: left out");
    }
    wanted
}

/// The products; `None` only where [`packages_wanted`] says so. Panics where they are missing.
pub fn products() -> Option<Products> {
    if !packages_wanted() {
        return None;
    }
    let how = "run `make unit`, or set OTF_TEST_PACKAGES=0 to leave out tests on real kernels";
    let Some(out) = variable("OTF_OUT").map(PathBuf::from) else {
        panic!("OTF_OUT is not set: {how}");
    };
    for compartment in COMPARTMENTS {
        let missing = !out.join(compartment).join("kernel.lock.yaml").is_file();
        assert!(!missing, "{} has no {compartment}: {how}", out.display());
    }
    let cache = cache();
    Some(Products { out, cache })
}

/// The cache of the commands: `$OTF_CACHE`, or `~/.cache/otf`.
pub fn cache() -> PathBuf {
    variable("OTF_CACHE").map_or_else(
        || PathBuf::from(variable("HOME").expect("HOME is set")).join(".cache/otf"),
        PathBuf::from,
    )
}

/// The folder that holds `kernels/` and `crates/`.
pub fn repository() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the repository exists")
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

impl Products {
    /// Folders of all compartments.
    pub fn folders(&self) -> impl Iterator<Item = PathBuf> {
        COMPARTMENTS.iter().map(|name| self.folder(name))
    }

    /// Folder of one compartment, `sch_qfq` or `COMPARTMENT@OVERLAY`.
    pub fn folder(&self, compartment: &str) -> PathBuf {
        self.out.join(compartment)
    }

    /// The lock in a compartment's folder.
    pub fn lock(&self, compartment: &str) -> KernelLock {
        let path = self.folder(compartment).join("kernel.lock.yaml");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        yaml::parse(&text, "kernel.lock.yaml").unwrap_or_else(|e| panic!("{e}"))
    }

    /// The locks of all compartments.
    pub fn locks(&self) -> impl Iterator<Item = KernelLock> {
        COMPARTMENTS.iter().map(|name| self.lock(name))
    }

    /// Public key of the products' signatures: beside `$OTF_SIGNING_KEY`, or the development key.
    pub fn public_key(&self) -> PathBuf {
        let secret = variable("OTF_SIGNING_KEY").map(PathBuf::from);
        let secret = secret.unwrap_or_else(|| self.cache.join("keys/otf.key"));
        secret.with_extension("pub")
    }

    /// Where a file that a lock names lies.
    pub fn file(&self, file: &CachedFile) -> PathBuf {
        self.cache.join(&file.path)
    }
}
