//! What a loaded compartment remembers about itself: a pinned map with one JSON value, so that no
//! file is needed after the load.

use std::collections::BTreeMap;

use otf_artifact::{
    FORMAT_VERSION,
    abi::Action,
    bundle::{Manifest, Plan},
    diagnostic::Diagnostic,
};
use serde::{Deserialize, Serialize};

use crate::blob;
use crate::pins::Folder;
use crate::verify::Signer;

/// Written once, before anything of the host is changed; then frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// SHA-256 of the bundle, hex.
    pub bundle: String,
    /// Who signed.
    pub signer: Signer,
    /// What is done about violations.
    pub action: Action,
    /// Seconds since 1970.
    pub loaded: u64,
    /// Name of the sets of probes that the guard owns for it; `None`: perf owns them.
    pub guarded: Option<String>,
    /// What the load has changed outside its own folder.
    pub changes: Changes,
    /// `/sys/kernel/rcu_expedited` before the load, for whoever cleans up after it was killed.
    pub expedited_before: Option<String>,
    /// Section bases at load, by `IMAGE SECTION`.
    pub bases: BTreeMap<String, u64>,
    /// Of the bundle.
    pub manifest: Manifest,
    /// Of the bundle.
    pub plan: Plan,
}

/// What the last compartment that uses the guard has to undo.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Value of `debug.kprobes-optimization` before the first of them.
    pub optimization_before: Option<String>,
    /// Whether one of them has inserted the guard.
    pub guard_inserted: bool,
}

impl Meta {
    /// Whether both were written by one load.
    pub fn is_same_load(&self, other: &Self) -> bool {
        (&self.bundle, self.loaded, &self.guarded) == (&other.bundle, other.loaded, &other.guarded)
    }

    /// Writes the map and pins it.
    pub fn pin(&self, folder: &Folder) -> Result<(), Diagnostic> {
        blob::pin("otf_meta", self, &folder.meta())
    }

    /// Reads what was pinned.
    pub fn read(folder: &Folder) -> Result<Self, Diagnostic> {
        let path = folder.meta();
        let meta: Self = blob::read(&path)?;
        if meta.version == FORMAT_VERSION {
            Ok(meta)
        } else {
            let why = format!("format version {}", meta.version);
            Err(blob::unreadable(&path, &why))
        }
    }
}
