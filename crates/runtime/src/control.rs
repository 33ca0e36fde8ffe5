//! Switches of a loaded compartment: the phase, and the end of a quarantine.

use libbpf_rs::{MapCore, MapFlags};
use otf_artifact::{
    abi::{Phase, Quarantine},
    diagnostic::{Code, Diagnostic},
};

use crate::meta::Meta;
use crate::object::{self, kernel_refused};
use crate::pins::Folder;
use crate::pod;

/// Which quarantines to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every one.
    All,
    /// The one of the instance at this address.
    Instance(u64),
}

/// Changes the phase; returns the one before.
pub fn set_phase(folder: &Folder, phase: Phase) -> Result<Phase, Diagnostic> {
    let map = folder.map("otf_state")?;
    let mut state = object::state(&map)?;
    let before = Phase::from_raw(state.phase.into()).unwrap_or(Phase::Transition);
    state.phase = phase as u32;
    object::put(&map, 0, pod::bytes(&state))?;
    Ok(before)
}

/// The quarantined instances, by address.
pub fn quarantined(folder: &Folder) -> Result<Vec<(u64, Quarantine)>, Diagnostic> {
    if Meta::read(folder)?.plan.recording.is_some() {
        return Ok(Vec::new());
    }
    let map = folder.map("otf_quarantined")?;
    let mut found = Vec::new();
    for key in map.keys() {
        let value = map
            .lookup(&key, MapFlags::ANY)
            .map_err(|e| kernel_refused("otf_quarantined", &e))?;
        // An entry may end between the two steps.
        if let (Ok(instance), Some(entry)) = (
            <[u8; 8]>::try_from(key.as_slice()),
            value.as_deref().and_then(pod::read::<Quarantine>),
        ) {
            found.push((u64::from_ne_bytes(instance), entry));
        }
    }
    found.sort_by_key(|(instance, _)| *instance);
    Ok(found)
}

/// Refuses where instances are quarantined: without the gates they would be entered again.
pub fn none_quarantined(name: &str, folder: &Folder) -> Result<(), Diagnostic> {
    let instances: Vec<String> = quarantined(folder)?
        .iter()
        .map(|(instance, _)| format!("{instance:#x}"))
        .collect();
    if instances.is_empty() {
        return Ok(());
    }
    Err(Diagnostic::error(
        Code::Quarantined,
        format!(
            "{name} keeps instances in quarantine: {}",
            instances.join(", ")
        ),
    )
    .help("delete them, or release them (`otf-load release`), or unload with --force"))
}

/// Ends quarantines; returns the instances that were released.
pub fn release(folder: &Folder, which: Which) -> Result<Vec<u64>, Diagnostic> {
    let map = folder.map("otf_quarantined")?;
    let objects = folder.map("otf_quarantine_objects")?;
    let mut released = Vec::new();
    for (instance, entry) in quarantined(folder)? {
        if matches!(which, Which::Instance(wanted) if wanted != instance) {
            continue;
        }
        if entry.object != 0 {
            delete(&objects, entry.object)?;
        }
        delete(&map, instance)?;
        released.push(instance);
    }
    match which {
        Which::Instance(wanted) if released.is_empty() => Err(Diagnostic::error(
            Code::Usage,
            format!("no instance {wanted:#x} is quarantined"),
        )
        .help("`otf-load status` lists the quarantined instances")),
        _ => Ok(released),
    }
}

fn delete(map: &impl MapCore, key: u64) -> Result<(), Diagnostic> {
    match map.delete(&key.to_ne_bytes()) {
        Err(e) if e.kind() != libbpf_rs::ErrorKind::NotFound => {
            Err(kernel_refused(&map.name().to_string_lossy(), &e))
        }
        _ => Ok(()),
    }
}
