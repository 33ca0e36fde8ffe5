//! `events`: drains the pinned ring buffer, once or for as long as it is wanted.

use std::io;
use std::time::Duration;

use libbpf_rs::RingBufferBuilder;
use otf_artifact::diagnostic::Diagnostic;

use crate::event::{self, Event};
use crate::host::Host;
use crate::meta::Meta;
use crate::object::kernel_refused;
use crate::pins::Folder;
use crate::record::names::Names;
use crate::sys;

/// How often a follower looks whether it is to end, or whether the compartment was unloaded.
const TICK: Duration = Duration::from_millis(500);

/// Hands every event to `sink`, in order; with `follow` until the user interrupts, the sink
/// fails, or the compartment is unloaded. Returns how many events had another format.
pub fn drain(
    folder: &Folder,
    meta: &Meta,
    host: &Host,
    follow: bool,
    sink: &mut dyn FnMut(&Event) -> io::Result<()>,
) -> Result<Drained, Diagnostic> {
    let map = folder.map("otf_events")?;
    let (now, since_boot) = sys::clocks();
    let boot = now.saturating_sub(since_boot);
    let mut unreadable = 0;
    let mut failure = None;
    // Modules come and go: read anew for each, which only violations pay for.
    let name_of = |address| match Names::read(host) {
        Ok(names) => names.label(address),
        Err(_) => "?".into(),
    };
    {
        let mut builder = RingBufferBuilder::new();
        builder
            .add(&map, |raw| match event::decode(raw, meta, boot, &name_of) {
                // After a failure nothing is consumed any more: libbpf stops at a negative value.
                _ if failure.is_some() => -libc::EIO,
                None => {
                    unreadable += 1;
                    0
                }
                Some(event) => match sink(&event) {
                    Ok(()) => 0,
                    Err(e) => {
                        failure = Some(e);
                        -libc::EIO
                    }
                },
            })
            .map_err(|e| kernel_refused("otf_events", &e))?;
        let ring = builder
            .build()
            .map_err(|e| kernel_refused("otf_events", &e))?;
        let mut rc = ring.consume_raw();
        // Another bundle may take this one's place; its events are in another ring.
        let is_loaded = || Meta::read(folder).is_ok_and(|now| now.is_same_load(meta));
        while rc >= 0 && follow && !sys::interrupted() && is_loaded() {
            rc = match ring.poll_raw(TICK) {
                n if n == -libc::EINTR => 0,
                n => n,
            };
        }
        if rc >= 0 && follow {
            // What came while the loop was about to end.
            ring.consume_raw();
        }
    }
    Ok(Drained {
        unreadable,
        failure,
    })
}

impl Drained {
    /// Nothing went wrong.
    pub fn is_clean(&self) -> bool {
        self.unreadable == 0 && self.failure.is_none()
    }
}

/// How it ended.
#[derive(Debug)]
pub struct Drained {
    /// Events of another format.
    pub unreadable: u64,
    /// Why the sink took no more.
    pub failure: Option<io::Error>,
}
