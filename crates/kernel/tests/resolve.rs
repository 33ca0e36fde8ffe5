//! The whole stage on the distribution's real packages.
//!
//! Uses the cache that the commands use (`$OTF_CACHE`, by default `~/.cache/otf`): on a fresh machine
//! this fetches about 1.3 GB. `OTF_TEST_PACKAGES=0` leaves it out, for machines without an archive.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use object::{Object, ObjectSection};
use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    kernel::{CachedFile, KernelLock},
};
use otf_kernel::{Apt, Archive, Record, Request, resolve, resolve_from};
use otf_testkit::{cache, packages_wanted, repository};

const KERNEL: &str = "debian-6.12";
const OVERLAY: &str = "cve-2023-31436";

/// What apt knows, without its downloads.
struct Offline;

impl Archive for Offline {
    fn names(&self, prefix: &str) -> Result<Vec<String>, Diagnostic> {
        Apt.names(prefix)
    }
    fn records(&self, names: &[String]) -> Result<Vec<Record>, Diagnostic> {
        Apt.records(names)
    }
    fn download(&self, record: &Record, _: &Path) -> Result<PathBuf, Diagnostic> {
        let message = format!("{} should be in the cache", record.name);
        Err(Diagnostic::error(Code::FetchFailed, message))
    }
}

fn request(root: &Path, overlay: Option<&str>) -> Request {
    Request {
        root: root.to_owned(),
        cache: cache(),
        kernel: KERNEL.into(),
        compartment: "sch_qfq".into(),
        overlay: overlay.map(Into::into),
    }
}

fn read(file: &CachedFile) -> Vec<u8> {
    fs::read(cache().join(&file.path)).unwrap()
}

fn section(bytes: &[u8], name: &str) -> Vec<u8> {
    let elf = object::File::parse(bytes).unwrap();
    let section = elf.section_by_name(name);
    section.map_or_else(Vec::new, |s| s.data().unwrap().to_owned())
}

fn vermagic(module: &CachedFile) -> String {
    let modinfo = section(&read(module), ".modinfo");
    let text = String::from_utf8_lossy(&modinfo).into_owned();
    let found = text.split('\0').find(|s| s.starts_with("vermagic="));
    found.unwrap().to_owned()
}

/// No product that others read may depend on where the cache is.
fn assert_relocatable(lock: &KernelLock) {
    let folder = cache().canonicalize().unwrap();
    let folder = folder.to_str().unwrap().as_bytes();
    let mut files: Vec<&CachedFile> = lock.bitcode.iter().map(|b| &b.file).collect();
    files.extend(lock.oracles.iter().map(|o| &o.file));
    files.extend(lock.modules.iter().map(|m| &m.file));
    files.extend(&lock.guard);
    for file in files {
        let bytes = read(file);
        let found = bytes.windows(folder.len()).any(|w| w == folder);
        assert!(!found, "{} names the cache", file.path);
    }
}

#[test]
fn stock_and_overlay_then_from_the_cache() {
    if !packages_wanted() {
        return;
    }
    let root = repository();
    let stock = resolve(&request(&root, None)).unwrap();
    let changed = resolve(&request(&root, Some(OVERLAY))).unwrap();

    assert!(stock.release.starts_with("6.12.") && stock.release.ends_with("-amd64"));
    assert_eq!(stock.packages.len(), 6);
    assert_eq!(stock.vmlinux, changed.vmlinux);
    assert_ne!(stock.modules[0].build_id, changed.modules[0].build_id);
    assert_eq!(
        vermagic(&stock.loadable[0].file),
        vermagic(&changed.loadable[0].file)
    );
    let sources = |lock: &KernelLock| -> Vec<_> {
        let units = lock.bitcode.iter();
        units
            .map(|b| (b.source.clone(), b.image.clone(), b.confined))
            .collect()
    };
    assert_eq!(sources(&stock), sources(&changed));
    assert!(sources(&stock).contains(&("net/sched/sch_qfq.c".into(), "sch_qfq".into(), true)));
    assert!(sources(&stock).contains(&("net/core/skbuff.c".into(), "vmlinux".into(), false)));
    for (a, b) in stock.bitcode.iter().zip(&changed.bitcode) {
        // Only the changed file is another one.
        assert_eq!(a.file == b.file, !a.confined, "{}", a.source);
        assert_eq!(read(&a.file)[..4], *b"BC\xc0\xde");
    }
    assert!(!section(&read(stock.guard.as_ref().unwrap()), ".BTF").is_empty());
    assert!(section(&read(stock.guard.as_ref().unwrap()), ".debug_info").is_empty());
    assert!(!section(&read(&changed.modules[0].file), ".debug_info").is_empty());
    let names: Vec<_> = changed.support.iter().map(|m| m.name.as_str()).collect();
    assert!(names.contains(&"sch_tbf"), "{names:?}");
    assert_relocatable(&stock);
    assert_relocatable(&changed);

    for (overlay, lock) in [(None, &stock), (Some(OVERLAY), &changed)] {
        assert_eq!(
            &resolve_from(&request(&root, overlay), &Offline).unwrap(),
            lock
        );
    }
    wrong_requests(&root);
}

/// A copy of the user's files with one edit, resolved from the filled cache.
fn edited(root: &Path, file: &str, from: &str, to: &str) -> Vec<Diagnostic> {
    let dir = tempfile::tempdir().unwrap();
    let kernels = Path::new("kernels").join(KERNEL);
    for file in [
        "kernel.yaml",
        "compartments/sch_qfq.yaml",
        "oracles/neighbour.c",
    ] {
        copy(root, dir.path(), &kernels.join(file));
    }
    let overlay = kernels.join("overlays").join(OVERLAY);
    for entry in fs::read_dir(root.join(&overlay)).unwrap() {
        copy(root, dir.path(), &overlay.join(entry.unwrap().file_name()));
    }
    let path = dir.path().join(&kernels).join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&path, text.replace(from, to)).unwrap();
    resolve_from(&request(dir.path(), Some(OVERLAY)), &Offline).unwrap_err()
}

fn copy(from: &Path, to: &Path, file: &Path) {
    fs::create_dir_all(to.join(file).parent().unwrap()).unwrap();
    fs::copy(from.join(file), to.join(file)).unwrap();
}

fn wrong_requests(root: &Path) {
    let compartment = "compartments/sch_qfq.yaml";
    let errors = edited(root, compartment, "[sch_qfq]", "[sch_qfq, sch_hfcs]");
    assert_eq!(errors[0].code, Code::MissingModule);
    assert_eq!((errors[0].line, errors[0].column), (3, 20), "{}", errors[0]);
    assert!(errors[0].help.as_deref().unwrap().contains("`sch_hfsc`"));

    let errors = edited(root, compartment, "sch_qfq.c", "sch_qfk.c");
    assert_eq!(errors[0].code, Code::BadYaml);
    assert!(
        errors[0]
            .help
            .as_deref()
            .unwrap()
            .contains("net/sched/sch_qfq.c")
    );

    let patch = format!("overlays/{OVERLAY}/unchecked-mtu.patch");
    let errors = edited(root, &patch, "QFQ_MIN_LMAX", "QFQ_LEAST_LMAX");
    assert_eq!(errors[0].code, Code::PatchFailed);
    assert!(errors[0].file.as_deref().unwrap().ends_with("overlay.yaml"));

    let overlay = format!("overlays/{OVERLAY}/overlay.yaml");
    let errors = edited(
        root,
        &overlay,
        "obj-m := sch_qfq.o",
        "obj-m := sch_nothing.o",
    );
    assert_eq!(errors[0].code, Code::BuildFailed);
    assert!(errors[0].message.contains("sch_nothing"), "{}", errors[0]);

    let errors = edited(root, "kernel.yaml", "clang-19", "clang-of-nobody");
    assert_eq!(errors[0].code, Code::Environment);
    assert!(errors[0].message.contains("clang-of-nobody"));
}
