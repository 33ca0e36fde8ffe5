//! Which packages a profile stands for: the newest complete set of the archive, or the one in the cache.

use std::{fs, path::PathBuf};

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    kernel::LockedPackage,
    yaml::Placed,
};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::{
    apt::{Archive, Record},
    cache::Cache,
    profile, version,
};

/// Names that a message lists.
const LISTED: usize = 4;

/// The packages of one kernel, all of one build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageSet {
    /// `uname -r`.
    pub release: String,
    /// The release without the flavour.
    pub base: String,
    /// Image.
    pub image: Record,
    /// Headers, in the profile's order.
    pub headers: Vec<Record>,
    /// Source.
    pub source: Record,
    /// Debug files.
    pub debug: Record,
}

impl PackageSet {
    /// Every package.
    pub fn all(&self) -> Vec<&Record> {
        [&self.image, &self.source, &self.debug]
            .into_iter()
            .chain(&self.headers)
            .collect()
    }

    /// The package of the source.
    pub fn source_only(&self) -> Vec<&Record> {
        vec![&self.source]
    }
}

/// A lock's table, sorted by name.
pub fn locked(records: &[&Record]) -> Vec<LockedPackage> {
    let mut packages: Vec<LockedPackage> = records
        .iter()
        .map(|r| LockedPackage {
            name: r.name.clone(),
            version: r.version.clone(),
            sha256: r.sha256.clone(),
        })
        .collect();
    packages.sort();
    packages
}

/// A set as the cache remembers it, with the question it answers.
#[derive(Serialize, Deserialize)]
struct Remembered {
    archive: profile::Archive,
    set: PackageSet,
    /// What the archive knew then; asking it again would take longer than all the rest.
    #[serde(default)]
    state: Option<String>,
}

/// Packages of one profile: the archive and the cache together.
pub struct Packages<'a> {
    /// Where packages come from.
    pub archive: &'a dyn Archive,
    /// Where they are kept.
    pub cache: &'a Cache,
    /// Name of the profile that the packages are in.
    pub kernel: &'a str,
    /// Name of the profile that they are for.
    pub purpose: &'a str,
}

impl Packages<'_> {
    /// Decides on a set, of which the packages that `needed` gives are fetched. Needs the network only
    /// when the archive has a newer kernel than the cache; when that cannot be had, the cached one is
    /// used, with a warning in the log.
    pub fn settle(
        &self,
        wanted: &profile::Archive,
        needed: fn(&PackageSet) -> Vec<&Record>,
    ) -> Result<PackageSet, Diagnostic> {
        let memory = self.cache.path(&format!("packages/{}.json", self.purpose));
        let remembered = fs::read(&memory)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Remembered>(&bytes).ok())
            .filter(|r| same_question(&r.archive, wanted));
        let state = self.archive.state();
        let remembered = match remembered {
            Some(r) if state.is_some() && r.state == state => return Ok(r.set),
            other => other.map(|r| r.set),
        };
        let set = match self.newest(wanted) {
            Ok(set) => set,
            Err(error) => return fall_back(remembered, error),
        };
        let known = remembered.as_ref() == Some(&set);
        for record in needed(&set).into_iter().filter(|_| !known) {
            if let Err(error) = self.fetch(record) {
                return fall_back(remembered, error);
            }
        }
        let entry = Remembered {
            archive: wanted.clone(),
            set,
            state,
        };
        self.cache.write_json(&memory, &entry)?;
        Ok(entry.set)
    }

    /// The package file, from the cache or the archive. Its hash was checked when it was fetched.
    pub fn fetch(&self, record: &Record) -> Result<PathBuf, Diagnostic> {
        let file = format!("{}.deb", identity(record));
        let folder = format!("packages/{}", identity(record));
        self.cache.product(&folder, |work| {
            info!(
                size = record.size,
                "fetching {} {}", record.name, record.version
            );
            let package = self.archive.download(record, work)?;
            let target = work.join(&file);
            fs::rename(&package, &target).map_err(|e| crate::cache::io_error("name", &target, &e))
        })?;
        Ok(self.cache.path(&folder).join(file))
    }

    /// The newest image for which headers, source and debug files of the same version exist.
    fn newest(&self, wanted: &profile::Archive) -> Result<PackageSet, Diagnostic> {
        let (prefix, suffix) = wanted.image.value.split_once('*').unwrap_or_default();
        let names: Vec<String> = self
            .archive
            .names(prefix)?
            .into_iter()
            .filter(|name| matches(name, prefix, suffix))
            .collect();
        let mut images = if names.is_empty() {
            Vec::new()
        } else {
            self.archive.records(&names)?
        };
        images.sort_by(|a, b| {
            version::compare(&b.version, &a.version).then_with(|| b.name.cmp(&a.name))
        });
        let mut missing = None;
        for image in images {
            match self.complete(wanted, &image)? {
                Ok(set) => return Ok(set),
                Err(lacking) => missing = missing.or(Some(lacking)),
            }
        }
        Err(match missing {
            Some(lacking) => self.gone(&wanted.image, &lacking),
            None => self.gone(&wanted.image, &format!("a package {}", wanted.image)),
        })
    }

    /// The set of an image, or the part that it lacks.
    fn complete(
        &self,
        wanted: &profile::Archive,
        image: &Record,
    ) -> Result<Result<PackageSet, String>, Diagnostic> {
        let release = image
            .name
            .strip_prefix("linux-image-")
            .unwrap_or(&image.name)
            .to_owned();
        let base = release
            .strip_suffix(&format!("-{}", wanted.flavour))
            .unwrap_or(&release)
            .to_owned();
        let expand = |name: &String| name.replace("{release}", &release).replace("{base}", &base);
        let headers: Vec<String> = wanted.headers.iter().map(expand).collect();
        let (source, debug) = (expand(&wanted.source), expand(&wanted.debug));
        let mut names = headers.clone();
        names.extend([source.clone(), debug.clone()]);
        let records = self.archive.records(&names)?;
        let find = |name: &String| {
            records
                .iter()
                .find(|r| r.name == *name && r.version == image.version)
                .cloned()
                .ok_or_else(|| format!("{name} {}", image.version))
        };
        let set = || {
            Ok(PackageSet {
                headers: headers.iter().map(find).collect::<Result<_, _>>()?,
                source: find(&source)?,
                debug: find(&debug)?,
                release: release.clone(),
                base: base.clone(),
                image: image.clone(),
            })
        };
        Ok(set())
    }

    fn gone(&self, pattern: &Placed<String>, lacking: &str) -> Diagnostic {
        let suffix = pattern
            .value
            .rsplit_once('*')
            .map_or("", |(_, suffix)| suffix);
        let mut there: Vec<String> = self
            .archive
            .names("linux-image-")
            .unwrap_or_default()
            .into_iter()
            .filter(|name| matches(name, "linux-image-", suffix))
            .collect();
        there.sort_by(|a, b| version::compare(b, a));
        there.truncate(LISTED);
        let help = if there.is_empty() {
            "the package lists are empty: run `apt-get update`, and again".to_owned()
        } else {
            format!(
                "run `apt-get update`, or point `archive.image` at what exists: {}",
                there.join(", ")
            )
        };
        pattern
            .error(
                Code::PackageGone,
                &format!("kernels/{}/kernel.yaml", self.kernel),
                format!("the archive has not got {lacking}"),
            )
            .help(help)
    }
}

/// Names a package file uniquely.
pub fn identity(record: &Record) -> String {
    format!(
        "{}_{}_{}",
        record.name,
        record.version.replace(':', "%3a"),
        record.sha256.get(..12).unwrap_or(&record.sha256)
    )
}

fn fall_back(old: Option<PackageSet>, error: Diagnostic) -> Result<PackageSet, Diagnostic> {
    let Some(set) = old else { return Err(error) };
    warn!(
        "{}; using {} {} from the cache",
        error.message, set.image.name, set.image.version
    );
    Ok(set)
}

/// Equal but for places in the file.
fn same_question(a: &profile::Archive, b: &profile::Archive) -> bool {
    (
        a.kind,
        &a.image.value,
        &a.flavour.value,
        &a.headers,
        &a.source,
        &a.debug,
    ) == (
        b.kind,
        &b.image.value,
        &b.flavour.value,
        &b.headers,
        &b.source,
        &b.debug,
    )
}

/// The pattern's `*` stands for one or more characters without `-`.
fn matches(name: &str, prefix: &str, suffix: &str) -> bool {
    name.strip_prefix(prefix)
        .and_then(|rest| rest.strip_suffix(suffix))
        .is_some_and(|star| !star.is_empty() && !star.contains('-'))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, path::Path};

    use super::*;
    use crate::profile::ArchiveKind;

    /// An archive with these packages; downloads fail when `offline`.
    struct Shelf {
        records: Vec<Record>,
        offline: Cell<bool>,
        state: Option<String>,
        asked: Cell<usize>,
    }

    impl Archive for Shelf {
        fn state(&self) -> Option<String> {
            self.state.clone()
        }
        fn names(&self, prefix: &str) -> Result<Vec<String>, Diagnostic> {
            self.asked.set(self.asked.get() + 1);
            let names = self.records.iter().map(|r| r.name.clone());
            Ok(names.filter(|n| n.starts_with(prefix)).collect())
        }
        fn records(&self, names: &[String]) -> Result<Vec<Record>, Diagnostic> {
            let all = self.records.iter().filter(|r| names.contains(&r.name));
            Ok(all.cloned().collect())
        }
        fn download(&self, record: &Record, into: &Path) -> Result<PathBuf, Diagnostic> {
            if self.offline.get() {
                return Err(Diagnostic::error(Code::FetchFailed, "offline"));
            }
            let path = into.join("x.deb");
            fs::write(&path, &record.version).unwrap();
            Ok(path)
        }
    }

    fn shelf(packages: &[(&str, &str)]) -> Shelf {
        Shelf {
            records: packages
                .iter()
                .map(|(name, version)| Record {
                    name: (*name).into(),
                    version: (*version).into(),
                    sha256: crate::cache::key([name, version]).repeat(4),
                    size: 1,
                })
                .collect(),
            offline: Cell::new(false),
            state: None,
            asked: Cell::new(0),
        }
    }

    fn wanted() -> profile::Archive {
        profile::Archive {
            kind: ArchiveKind::Debian,
            image: Placed {
                value: "linux-image-6.12.*-amd64".to_owned(),
                line: 7,
                column: 10,
            },
            flavour: "amd64".to_owned().into(),
            headers: vec![
                "linux-headers-{release}".into(),
                "linux-kbuild-{base}".into(),
            ],
            source: "linux-source-6.12".into(),
            debug: "linux-image-{release}-dbg".into(),
        }
    }

    const OLD: &[(&str, &str)] = &[
        ("linux-image-6.12.9+deb12-amd64", "6.12.9-1"),
        ("linux-headers-6.12.9+deb12-amd64", "6.12.9-1"),
        ("linux-kbuild-6.12.9+deb12", "6.12.9-1"),
        ("linux-image-6.12.9+deb12-amd64-dbg", "6.12.9-1"),
        ("linux-source-6.12", "6.12.9-1"),
        ("linux-image-6.12.99+deb12-cloud-amd64", "6.12.99-1"),
        ("linux-image-6.12.99+deb12-rt-amd64", "6.12.99-1"),
        ("linux-image-6.12.99+deb12-amd64-unsigned", "6.12.99-1"),
    ];
    const NEW: &[(&str, &str)] = &[
        ("linux-image-6.12.10+deb12-amd64", "6.12.10-1"),
        ("linux-headers-6.12.10+deb12-amd64", "6.12.10-1"),
        ("linux-kbuild-6.12.10+deb12", "6.12.10-1"),
        ("linux-image-6.12.10+deb12-amd64-dbg", "6.12.10-1"),
        ("linux-source-6.12", "6.12.10-1"),
    ];

    fn settle(shelf: &Shelf, cache: &Path) -> Result<PackageSet, Diagnostic> {
        Packages {
            archive: shelf,
            cache: &Cache::open(cache).unwrap(),
            kernel: "k",
            purpose: "k",
        }
        .settle(&wanted(), PackageSet::all)
    }

    #[test]
    fn newest_complete_set_wins() {
        let dir = tempfile::tempdir().unwrap();
        let set = settle(&shelf(OLD), dir.path()).unwrap();
        assert_eq!(set.release, "6.12.9+deb12-amd64");
        assert_eq!(set.base, "6.12.9+deb12");
        let both = [OLD, NEW].concat();
        let set = settle(&shelf(&both), dir.path()).unwrap();
        assert_eq!(set.image.version, "6.12.10-1");
        assert_eq!(set.source.version, "6.12.10-1");
        // The newest image's source is not there yet.
        let set = settle(&shelf(&both[..both.len() - 1]), dir.path()).unwrap();
        assert_eq!(set.image.version, "6.12.9-1");
    }

    #[test]
    fn cached_set_serves_without_network() {
        let dir = tempfile::tempdir().unwrap();
        let old = settle(&shelf(OLD), dir.path()).unwrap();
        let newer = shelf(&[OLD, NEW].concat());
        newer.offline.set(true);
        assert_eq!(settle(&newer, dir.path()).unwrap(), old);
        assert_eq!(settle(&shelf(&[]), dir.path()).unwrap(), old);
        let elsewhere = tempfile::tempdir().unwrap();
        let error = settle(&newer, elsewhere.path()).unwrap_err();
        assert_eq!(error.code, Code::FetchFailed);
    }

    #[test]
    fn an_archive_that_is_as_it_was_is_not_asked_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut shelf = shelf(OLD);
        shelf.state = Some("monday".to_owned());
        let set = settle(&shelf, dir.path()).unwrap();
        let asked = shelf.asked.replace(0);
        assert!(asked > 0);
        assert_eq!(settle(&shelf, dir.path()).unwrap(), set);
        assert_eq!(shelf.asked.get(), 0);
        shelf.state = Some("tuesday".to_owned());
        assert_eq!(settle(&shelf, dir.path()).unwrap(), set);
        assert_eq!(shelf.asked.get(), asked);
    }

    #[test]
    fn gone_package_names_what_exists() {
        let dir = tempfile::tempdir().unwrap();
        let error = settle(
            &shelf(&[
                ("linux-image-6.1.0-amd64", "6.1"),
                ("linux-image-6.13+deb-amd64", "6.13"),
            ]),
            dir.path(),
        )
        .unwrap_err();
        assert_eq!(error.code, Code::PackageGone);
        assert_eq!((error.line, error.column), (7, 10));
        assert!(
            error.message.contains("linux-image-6.12.*-amd64"),
            "{error}"
        );
        let help = error.help.unwrap();
        assert!(help.contains("linux-image-6.13+deb-amd64"), "{help}");
        let error = settle(&shelf(&OLD[..4]), dir.path()).unwrap_err();
        assert!(
            error.message.contains("linux-source-6.12 6.12.9-1"),
            "{error}"
        );
    }
}
