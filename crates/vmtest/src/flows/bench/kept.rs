//! What a machine measured, kept as long as nothing that it depends on changes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use otf_artifact::{bundle, diagnostic::Diagnostic};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{BenchRuntime, Scheme, failed, machine};
use crate::flows::target::{Target, read};

/// One machine: which bundles it loads.
pub struct Run {
    /// Compartments as the command line names them; empty without a bundle.
    pub set: String,
    /// Which bundles of theirs.
    pub scheme: Scheme,
    /// The compartments.
    pub targets: Vec<Target>,
    /// Their bundles.
    pub bundles: Vec<PathBuf>,
    /// Where its measurements are kept.
    pub file: PathBuf,
    /// Hash of all that they depend on.
    pub stamp: String,
}

impl Run {
    /// Finds bundles and hashes everything.
    pub fn new(options: &BenchRuntime, set: &str, scheme: Scheme) -> Result<Self, Diagnostic> {
        let names: Vec<&str> = match scheme {
            // Any compartment says which kernel it is.
            Scheme::Without => options.compartments[0].split('+').take(1).collect(),
            Scheme::Policy | Scheme::Naive => set.split('+').collect(),
        };
        let targets = names
            .iter()
            .map(|name| Target::open(&options.setting, name))
            .collect::<Result<Vec<_>, _>>()?;
        let bundles: Vec<PathBuf> = match scheme {
            Scheme::Without => Vec::new(),
            Scheme::Policy => targets.iter().map(|t| t.bundle.clone()).collect(),
            Scheme::Naive => names
                .iter()
                .map(|name| {
                    let file = format!("{name}.{}.{}", bundle::NAIVE, bundle::EXTENSION);
                    options.setting.out.join(name).join(file)
                })
                .collect(),
        };
        let mut hash = Sha256::new();
        for script in [machine::BENCH, machine::OPERATIONS, machine::CPU] {
            hash.update(script);
        }
        hash.update(read(&options.exercise)?);
        hash.update(&targets[0].lock.vmlinuz.sha256);
        if scheme != Scheme::Without {
            hash.update(scheme.action());
            hash.update(read(&options.setting.load)?);
        }
        for bundle in &bundles {
            hash.update(read(bundle)?);
        }
        let name = match scheme {
            Scheme::Without => scheme.name().to_owned(),
            Scheme::Policy | Scheme::Naive => format!("{set}.{}", scheme.name()),
        };
        Ok(Self {
            set: set.to_owned(),
            scheme,
            targets,
            bundles,
            file: options.to.join("runtime").join(format!("{name}.json")),
            stamp: format!("{:x}", hash.finalize()),
        })
    }

    /// For messages.
    pub fn label(&self) -> String {
        format!("{} {}", self.set, self.scheme.name())
            .trim()
            .to_owned()
    }
}

/// One operation in one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Its name.
    pub operation: String,
    /// How often it ran in a round.
    pub count: u64,
    /// Instructions of each round.
    pub busy: Vec<u64>,
    /// How often each BPF program ran, in a round of its own.
    pub hits: BTreeMap<String, u64>,
}

/// A bundle that was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Probes.
    pub probes: u64,
    /// Steps by name: `check` (all but the loading, `--dry-run`), `load` (the same and the loading), `unload`.
    pub steps: BTreeMap<String, Step>,
}

/// A step of loading or unloading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Nanoseconds, waiting included.
    pub elapsed: u64,
    /// Instructions.
    pub busy: u64,
    /// Longest time for which a task of the highest priority had to wait.
    pub stall: u64,
}

/// What a machine said.
#[derive(Debug, Default)]
pub struct Seen {
    /// Operations.
    pub measured: Vec<Measured>,
    /// Operations that failed, with the reason.
    pub failed: BTreeMap<String, String>,
    /// Bundles by compartment.
    pub loaded: BTreeMap<String, Loaded>,
    /// Bytes of maps and programs.
    pub memory: BTreeMap<String, u64>,
    /// Violations that the bundles reported: ordinary use should have none.
    pub violations: u64,
    /// What went wrong, in words; the first one is the reason for what was not measured.
    pub failures: Vec<String>,
}

/// The file of a run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    stamp: String,
    /// Operations by name.
    pub measured: BTreeMap<String, Measured>,
    /// Reasons of those that are missing.
    pub failed: BTreeMap<String, String>,
    /// Bundles by compartment.
    pub loaded: BTreeMap<String, Loaded>,
    /// Bytes of maps and programs.
    pub memory: BTreeMap<String, u64>,
    /// Violations, all machines of the run together.
    pub violations: u64,
}

impl Kept {
    /// What is there; empty when it was measured with something else.
    pub fn read(file: &Path, stamp: &str) -> Self {
        let kept = fs::read(file).ok();
        let kept: Option<Self> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        kept.filter(|kept| kept.stamp == stamp)
            .unwrap_or_else(|| Self {
                stamp: stamp.to_owned(),
                ..Self::default()
            })
    }

    /// Adds what a machine measured of the operations that it was asked for.
    pub fn add(&mut self, seen: Seen, asked: &[&str]) {
        for operation in asked {
            self.failed.remove(*operation);
        }
        for measured in seen.measured {
            self.measured.insert(measured.operation.clone(), measured);
        }
        self.failed.extend(seen.failed);
        let reason = seen.failures.first();
        for operation in asked {
            if !self.measured.contains_key(*operation) && !self.failed.contains_key(*operation) {
                let reason = reason.map_or("the machine did not come to it", String::as_str);
                self.failed
                    .insert((*operation).to_owned(), reason.to_owned());
            }
        }
        if !seen.loaded.is_empty() {
            self.loaded = seen.loaded;
            self.memory = seen.memory;
        }
        self.violations += seen.violations;
    }

    /// Writes the file.
    pub fn write(&self, file: &Path) -> Result<(), Diagnostic> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(|e| failed("create", folder, &e))?;
        }
        let text = serde_json::to_string_pretty(self).map_err(|e| failed("write", file, &e))?;
        fs::write(file, text + "\n").map_err(|e| failed("write", file, &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(operation: &str) -> Measured {
        Measured {
            operation: operation.to_owned(),
            count: 10,
            busy: vec![100, 101],
            hits: BTreeMap::new(),
        }
    }

    #[test]
    fn what_is_missing_has_a_reason() {
        let mut kept = Kept::read(Path::new("/does/not/exist"), "s");
        let seen = Seen {
            measured: vec![measured("pipe")],
            failed: BTreeMap::from([("qfq".to_owned(), "no tc".to_owned())]),
            failures: vec!["Panic: oops".to_owned()],
            ..Seen::default()
        };
        kept.add(seen, &["pipe", "qfq", "htb"]);
        assert!(kept.measured.contains_key("pipe"));
        assert_eq!(kept.failed["qfq"], "no tc");
        assert_eq!(kept.failed["htb"], "Panic: oops");
        let seen = Seen {
            measured: vec![measured("htb")],
            ..Seen::default()
        };
        kept.add(seen, &["htb"]);
        assert!(!kept.failed.contains_key("htb") && kept.failed.contains_key("qfq"));
    }

    #[test]
    fn another_stamp_keeps_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/b.json");
        let mut kept = Kept::read(&file, "one");
        kept.measured.insert("pipe".into(), measured("pipe"));
        kept.write(&file).unwrap();
        assert_eq!(Kept::read(&file, "one").measured.len(), 1);
        assert!(Kept::read(&file, "two").measured.is_empty());
    }
}
