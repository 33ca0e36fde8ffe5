//! Taking a compartment away, and cleaning up after commands that were killed.

use otf_artifact::diagnostic::Diagnostic;

use crate::guard;
use crate::guard_heap;
use crate::guard_probes;
use crate::host::{
    Host,
    expedite::{self, Expedited},
    sysctl,
};
use crate::meta::Meta;
use crate::pins::{Folder, Pins};

/// Detaches in reverse order and removes the pins; after the last compartment that
/// needs it the host is put back as it was. The caller holds the lock.
pub fn unload(
    name: &str,
    pins: &Pins,
    host: &Host,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(), Diagnostic> {
    let incomplete = pins.incomplete(name);
    pins.folder(name).rename(&incomplete)?;
    discard(&incomplete, pins, host, progress)
}

/// Removes what killed commands have left, and says what it was. The caller holds the lock.
pub fn clean(pins: &Pins, host: &Host) -> Result<usize, Diagnostic> {
    let leftovers = pins.leftovers()?;
    if leftovers.is_empty() && pins.loaded()?.is_empty() {
        guard::remove_idle(host);
    }
    for folder in &leftovers {
        if folder.meta().exists()
            && let Some(before) = Meta::read(folder)?.expedited_before
        {
            expedite::restore(host, &before);
        }
        discard(folder, pins, host, &mut |_, _| ())?;
    }
    Ok(leftovers.len())
}

/// Removes an incomplete folder and undoes what it has changed on the host.
pub fn discard(
    folder: &Folder,
    pins: &Pins,
    host: &Host,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(), Diagnostic> {
    // Without metadata nothing was changed: it is pinned before the first change.
    let meta = if folder.meta().exists() {
        Some(Meta::read(folder)?)
    } else {
        None
    };
    {
        let _expedited = Expedited::new(host);
        folder.detach(progress)?;
    }
    if let Some(meta) = meta {
        restore(&meta, pins, host)?;
    }
    folder.remove()
}

/// Undoes what no loaded compartment needs any more.
fn restore(meta: &Meta, pins: &Pins, host: &Host) -> Result<(), Diagnostic> {
    let mut others = Vec::new();
    for name in pins.loaded()? {
        others.push(Meta::read(&pins.folder(&name))?);
    }
    if others.iter().any(|m| m.guarded.is_some()) {
        return Ok(());
    }
    // One that holds a heap stays; what comes after the heap's end takes it out.
    let stays = !guard_heap::heaps(host).is_empty() || guard_probes::kept_jumps(host) > 0;
    if meta.changes.guard_inserted && !stays {
        guard::remove(host)?;
    }
    if let Some(before) = &meta.changes.optimization_before
        && sysctl::get(host, sysctl::OPTIMIZATION).as_ref() != Some(before)
    {
        sysctl::set(host, sysctl::OPTIMIZATION, before)?;
    }
    Ok(())
}
