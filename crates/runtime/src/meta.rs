//! What a loaded compartment remembers about itself: a pinned map with one JSON value, so that no
//! file is needed after the load.

use std::collections::BTreeMap;
use std::mem::size_of_val;
use std::os::fd::AsFd;

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, libbpf_sys};
use otf_artifact::{
    FORMAT_VERSION,
    abi::Action,
    bundle::{Manifest, Plan},
    diagnostic::{Code, Diagnostic},
};
use serde::{Deserialize, Serialize};

use crate::object::kernel_refused;
use crate::pins::Folder;
use crate::sys;
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

/// What the last *deny* compartment has to undo.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Value of `debug.kprobes-optimization` before the first of them.
    pub optimization_before: Option<String>,
    /// Whether one of them has inserted the guard.
    pub guard_inserted: bool,
}

impl Meta {
    /// Writes the map and pins it.
    pub fn pin(&self, folder: &Folder) -> Result<(), Diagnostic> {
        let json = serde_json::to_vec(self).map_err(|e| kernel_refused("otf_meta", &e))?;
        let mut value = (json.len() as u64).to_ne_bytes().to_vec();
        value.extend(json);
        value.resize(value.len().next_multiple_of(8), 0);
        let opts = libbpf_sys::bpf_map_create_opts {
            sz: size_of_val(&libbpf_sys::bpf_map_create_opts::default()) as u64,
            ..Default::default()
        };
        let map = MapHandle::create(
            MapType::Array,
            Some("otf_meta"),
            4,
            value.len() as u32,
            1,
            &opts,
        )
        .map_err(|e| kernel_refused("otf_meta", &e))?;
        map.update(&0u32.to_ne_bytes(), &value, MapFlags::ANY)
            .and_then(|()| map.freeze())
            .map_err(|e| kernel_refused("otf_meta", &e))?;
        sys::pin(map.as_fd(), &folder.meta()).map_err(|e| kernel_refused("otf_meta", &e))
    }

    /// Reads what was pinned.
    pub fn read(folder: &Folder) -> Result<Self, Diagnostic> {
        let path = folder.meta();
        let unreadable = |why: &dyn std::fmt::Display| {
            Diagnostic::error(
                Code::NotLoaded,
                format!("{} cannot be read: {why}", path.display()),
            )
            .help("run as root; if another release has loaded it, unload with that release")
        };
        let map = MapHandle::from_pinned_path(&path).map_err(|e| unreadable(&e))?;
        let value = map
            .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(|e| unreadable(&e))?
            .ok_or_else(|| unreadable(&"empty"))?;
        let meta = decode(&value).map_err(|e| unreadable(&e))?;
        if meta.version == FORMAT_VERSION {
            Ok(meta)
        } else {
            Err(unreadable(&format!("format version {}", meta.version)))
        }
    }
}

fn decode(value: &[u8]) -> Result<Meta, String> {
    let (len, json) = value.split_first_chunk::<8>().ok_or("too short")?;
    let json = usize::try_from(u64::from_ne_bytes(*len))
        .ok()
        .and_then(|len| json.get(..len))
        .ok_or("too short")?;
    serde_json::from_slice(json).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rubbish_is_refused(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(decode(&value).is_err());
        }
    }
}
