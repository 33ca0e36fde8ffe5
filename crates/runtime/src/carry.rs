//! What a bundle takes over from the one that it replaces: quarantines, and records of objects.
//!
//! Both are in force while this runs. An object that is freed meanwhile must not keep a record: what
//! was copied is compared with the old bundle's once more, when every hook that was running at the
//! copy has ended.

use std::collections::{BTreeMap, BTreeSet};

use libbpf_rs::{ErrorKind, MapCore, MapFlags};
use otf_artifact::{
    abi::{Object, Phase, Quarantine},
    bundle::Program,
    diagnostic::Diagnostic,
};

use crate::bind;
use crate::meta::Meta;
use crate::object::{self, kernel_refused};
use crate::pins::Folder;
use crate::{control, pod, sys};

/// Maps of records, by address of the object or of its pages.
const RECORDS: [&str; 2] = ["otf_objects", "otf_pages"];
/// A row that the other bundle does not have.
const NO_ROW: u32 = u32::MAX;

/// One of two bundles of the same compartment that are both in force.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// Its pins.
    pub folder: &'a Folder,
    /// What it remembers.
    pub meta: &'a Meta,
}

/// Copies records of objects that hold under the new bundle too. When the old one has recorded
/// everything that the new one wants to know, its phase holds too.
pub fn objects(object: &libbpf_rs::Object, old: Side<'_>, new: Side<'_>) -> Result<(), Diagnostic> {
    let before = recorded_at(old.meta);
    let now = recorded_at(new.meta);
    let rows = before
        .iter()
        .filter_map(|(address, row)| Some((*row, *now.get(address)?)))
        .collect();
    let mut copied = Vec::new();
    for name in RECORDS {
        copied.push(records(object, name, old, new, &rows)?);
    }
    sys::grace_period();
    for (name, keys) in RECORDS.iter().zip(copied) {
        forget_freed(name, old, new, keys)?;
    }
    if now.keys().all(|address| before.contains_key(address)) {
        let state = object::state(&old.folder.map("otf_state")?)?;
        if let Some(phase) = Phase::from_raw(state.phase.into()) {
            control::set_phase(new.folder, phase)?;
        }
    }
    Ok(())
}

/// Copies quarantines. The new bundle acts upon violations already, so that no more come in the old one.
pub fn quarantines(
    object: &libbpf_rs::Object,
    old: Side<'_>,
    new: Side<'_>,
) -> Result<(), Diagnostic> {
    let instances = new.folder.map("otf_quarantined")?;
    let objects = new.folder.map("otf_quarantine_objects")?;
    let sites = by_label(new.meta);
    let mut copied = Vec::new();
    let quarantined = control::quarantined(old.folder)?;
    if !quarantined.is_empty() {
        let any = new.folder.map("otf_any_quarantine")?;
        put(&any, &0u32.to_ne_bytes(), &1u32.to_ne_bytes())?;
    }
    for (instance, entry) in quarantined {
        let site = old.meta.plan.checked_at(entry.site);
        let gate = old.meta.plan.gates.get(entry.gate as usize);
        let row = |found: Option<usize>| found.map_or(NO_ROW, |row| row as u32);
        let entry = Quarantine {
            site: row(site.and_then(|s| {
                sites
                    .get(&bind::label(&old.meta.plan, &s.location))
                    .copied()
            })),
            gate: row(gate.and_then(|g| {
                let gates = &new.meta.plan.gates;
                gates.iter().position(|other| other.function == g.function)
            })),
            ..entry
        };
        if entry.object != 0 {
            object::track(object, entry.object)?;
            put(
                &objects,
                &entry.object.to_ne_bytes(),
                &instance.to_ne_bytes(),
            )?;
        }
        put(&instances, &instance.to_ne_bytes(), pod::bytes(&entry))?;
        copied.push((instance, entry.object));
    }
    sys::grace_period();
    let still: BTreeSet<u64> = control::quarantined(old.folder)?
        .into_iter()
        .map(|(instance, _)| instance)
        .collect();
    for (instance, object) in copied {
        if !still.contains(&instance) {
            // Freed or released meanwhile: nobody else may inherit its quarantine.
            let _ = instances.delete(&instance.to_ne_bytes());
            let _ = objects.delete(&object.to_ne_bytes());
        }
    }
    Ok(())
}

fn by_label(meta: &Meta) -> BTreeMap<String, usize> {
    let plan = &meta.plan;
    let labels = plan.checked().enumerate();
    labels
        .map(|(row, site)| (bind::label(plan, &site.location), row))
        .collect()
}

/// Rows of allocation sites by the instruction that notes the object.
fn recorded_at(meta: &Meta) -> BTreeMap<u64, u32> {
    let probes = meta.plan.probes.iter();
    probes
        .filter(|probe| probe.program == Program::AllocationReturn)
        .filter_map(|probe| {
            let address = bind::address_at(&meta.plan, &meta.bases, &probe.location)?;
            Some((address, u32::try_from(probe.cookie).ok()?))
        })
        .collect()
}

fn records(
    object: &libbpf_rs::Object,
    name: &str,
    old: Side<'_>,
    new: Side<'_>,
    rows: &BTreeMap<u32, u32>,
) -> Result<Vec<Copied>, Diagnostic> {
    let (from, to) = (old.folder.map(name)?, new.folder.map(name)?);
    let mut copied = Vec::new();
    for key in from.keys() {
        let Some(record) = look_up(&from, &key)? else {
            continue;
        };
        let Some(row) = rows.get(&record.alloc) else {
            continue;
        };
        let carried = Object {
            alloc: *row,
            ..record
        };
        object::track(object, record.start)?;
        // An object that was recorded anew since is known better.
        match to.update(&key, pod::bytes(&carried), MapFlags::NO_EXIST) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            other => {
                other.map_err(|e| kernel_refused(name, &e))?;
                copied.push((key, record));
            }
        }
    }
    Ok(copied)
}

/// Key and record as the old bundle had it.
type Copied = (Vec<u8>, Object);

/// Takes away what the old bundle has forgotten since: the object was freed. If it was obtained
/// again at once, that record is lost too, and the object is judged as one without.
fn forget_freed(
    name: &str,
    old: Side<'_>,
    new: Side<'_>,
    copied: Vec<Copied>,
) -> Result<(), Diagnostic> {
    let (from, to) = (old.folder.map(name)?, new.folder.map(name)?);
    for (key, record) in copied {
        if look_up(&from, &key)? != Some(record) {
            let _ = to.delete(&key);
        }
    }
    Ok(())
}

fn look_up(map: &impl MapCore, key: &[u8]) -> Result<Option<Object>, Diagnostic> {
    let raw = map
        .lookup(key, MapFlags::ANY)
        .map_err(|e| kernel_refused(&map.name().to_string_lossy(), &e))?;
    Ok(raw.as_deref().and_then(pod::read::<Object>))
}

fn put(map: &impl MapCore, key: &[u8], value: &[u8]) -> Result<(), Diagnostic> {
    map.update(key, value, MapFlags::ANY)
        .map_err(|e| kernel_refused(&map.name().to_string_lossy(), &e))
}
