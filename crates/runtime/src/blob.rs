//! A JSON value in a pinned map: what a loaded compartment remembers about itself.

use std::mem::size_of_val;
use std::os::fd::AsFd;
use std::path::Path;

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, libbpf_sys};
use otf_artifact::diagnostic::{Code, Diagnostic};
use serde::{Serialize, de::DeserializeOwned};

use crate::object::kernel_refused;
use crate::sys;

/// Writes the map `name`, freezes it and pins it.
pub fn pin(name: &str, value: &impl Serialize, path: &Path) -> Result<(), Diagnostic> {
    let json = serde_json::to_vec(value).map_err(|e| kernel_refused(name, &e))?;
    let mut value = (json.len() as u64).to_ne_bytes().to_vec();
    value.extend(json);
    value.resize(value.len().next_multiple_of(8), 0);
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of_val(&libbpf_sys::bpf_map_create_opts::default()) as u64,
        ..Default::default()
    };
    let map = MapHandle::create(MapType::Array, Some(name), 4, value.len() as u32, 1, &opts)
        .map_err(|e| kernel_refused(name, &e))?;
    map.update(&0u32.to_ne_bytes(), &value, MapFlags::ANY)
        .and_then(|()| map.freeze())
        .map_err(|e| kernel_refused(name, &e))?;
    sys::pin(map.as_fd(), path).map_err(|e| kernel_refused(name, &e))
}

/// Reads what was pinned.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Diagnostic> {
    let map = MapHandle::from_pinned_path(path).map_err(|e| unreadable(path, &e))?;
    let value = map
        .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)
        .map_err(|e| unreadable(path, &e))?
        .ok_or_else(|| unreadable(path, &"empty"))?;
    decode(&value).map_err(|e| unreadable(path, &e))
}

/// [`Code::NotLoaded`]: the map cannot be used.
pub fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> Diagnostic {
    Diagnostic::error(
        Code::NotLoaded,
        format!("{} cannot be read: {why}", path.display()),
    )
    .help("run as root; if another release has loaded it, unload with that release")
}

fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
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
    use crate::meta::Meta;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rubbish_is_refused(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(decode::<Meta>(&value).is_err());
        }
    }
}
