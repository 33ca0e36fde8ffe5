//! Taking a compartment away, and cleaning up after commands that were killed.

use otf_artifact::{abi::Action, diagnostic::Diagnostic};

use crate::guard;
use crate::host::{
    Host,
    expedite::{self, Expedited},
    sysctl,
};
use crate::meta::{Changes, Meta};
use crate::pins::{Folder, Pins};

/// Detaches in reverse order and removes the pins; after the last *deny* compartment the host is
/// put back as it was. The caller holds the lock.
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
    let changes = if folder.meta().exists() {
        Some(Meta::read(folder)?).filter(|m| m.action == Action::Deny)
    } else {
        None
    };
    {
        let _expedited = Expedited::new(host);
        folder.detach(progress)?;
    }
    if let Some(meta) = changes
        && !another_denies(pins)?
    {
        restore(&meta.changes, host)?;
    }
    folder.remove()
}

/// Whether a loaded compartment still needs guard and sysctl.
fn another_denies(pins: &Pins) -> Result<bool, Diagnostic> {
    for name in pins.loaded()? {
        if Meta::read(&pins.folder(&name))?.action == Action::Deny {
            return Ok(true);
        }
    }
    Ok(false)
}

fn restore(changes: &Changes, host: &Host) -> Result<(), Diagnostic> {
    if changes.guard_inserted {
        guard::remove(host)?;
    }
    if let Some(before) = &changes.optimization_before
        && sysctl::get(host, sysctl::OPTIMIZATION).as_ref() != Some(before)
    {
        sysctl::set(host, sysctl::OPTIMIZATION, before)?;
    }
    Ok(())
}
