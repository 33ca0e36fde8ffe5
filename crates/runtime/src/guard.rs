//! `otf_guard.ko`: inserted for the first *deny* compartment, removed after the last.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use libbpf_rs::Object;
use libbpf_rs::query::{BtfInfo, BtfInfoIter};
use object::Object as _;
use otf_artifact::diagnostic::{Code, Diagnostic};

use crate::host::{Host, notes};
use crate::sys;

/// Name of the module.
pub const NAME: &str = "otf_guard";
/// The same, as system calls want it.
pub const MODULE: &CStr = c"otf_guard";
/// How long freed programs may keep the module in use.
const PATIENCE: Duration = Duration::from_secs(10);

/// A kind of `struct_ops` that the guard offers: in force as long as its link.
pub struct StructOps {
    name: &'static CStr,
    own_btf: i32,
    btf: u32,
    value_type: u32,
}

impl StructOps {
    /// `value` is the type in the guard's type information, which must have `size` bytes. The guard
    /// is in the kernel.
    pub fn new(
        object: &Object,
        name: &'static CStr,
        value: &CStr,
        size: usize,
    ) -> Result<Self, Diagnostic> {
        let of_guard = |info: &BtfInfo| info.name == NAME;
        let btf = BtfInfoIter::default()
            .find(of_guard)
            .ok_or_else(|| no_types(&"it has none"))?;
        Ok(Self {
            name,
            own_btf: sys::object_btf(object),
            btf: btf.id,
            value_type: sys::module_struct(MODULE, value, size).map_err(|e| no_types(&e))?,
        })
    }

    /// Puts it into force.
    pub fn register(&self, value: &[u8]) -> io::Result<OwnedFd> {
        let map = sys::struct_ops_map(self.name, self.own_btf, self.btf, self.value_type, value)?;
        sys::link_struct_ops(map.as_fd())
    }
}

fn no_types(why: &dyn std::fmt::Display) -> Diagnostic {
    refused(format!("type information of otf_guard: {why}"))
}

/// Whether the guard is in the kernel.
pub fn loaded(host: &Host) -> bool {
    host.module_loaded(NAME)
}

/// Refuses a guard in the kernel that is not the bundle's, and a bundle without one.
pub fn check(host: &Host, image: &[u8]) -> Result<(), Diagnostic> {
    let wanted = build_id(image)?;
    // An idle one is taken out before a bundle is loaded.
    if loaded(host) && !is_idle(host) {
        is_running(host, &wanted)
    } else {
        Ok(())
    }
}

fn build_id(image: &[u8]) -> Result<String, Diagnostic> {
    let file = object::File::parse(image)
        .map_err(|e| refused(format!("the guard in the bundle cannot be read: {e}")))?;
    let Ok(Some(wanted)) = file.build_id() else {
        return Err(refused("the guard in the bundle has no build-id".into()));
    };
    Ok(notes::hex(wanted))
}

fn is_running(host: &Host, wanted: &str) -> Result<(), Diagnostic> {
    let running = host.module_build_id(NAME)?;
    if running == wanted {
        Ok(())
    } else {
        Err(refused(format!(
            "the guard in the kernel is {running}, the bundle's is {wanted}"
        )))
    }
}

/// Takes out a guard that stayed for a private heap which is gone by now. One that is in use after
/// all stays: the kernel does not let go of it.
pub fn remove_idle(host: &Host) {
    if loaded(host) && is_idle(host) {
        let _ = sys::remove_module(MODULE);
    }
}

/// Whether it owns no probes and holds no heap.
fn is_idle(host: &Host) -> bool {
    fs::read_to_string(host.proc.join(NAME)).is_ok_and(|uses| uses.is_empty())
}

/// Puts the guard into the kernel if it is not there.
pub fn insert(host: &Host, image: &[u8]) -> Result<(), Diagnostic> {
    if loaded(host) {
        is_running(host, &build_id(image)?)?;
    } else {
        sys::insert_module(image)
            .map_err(|e| refused(format!("the kernel does not take otf_guard: {e} (dmesg)")))?;
    }
    if host.sys.join("kernel/btf").join(NAME).exists() {
        Ok(())
    } else {
        Err(refused(
            "otf_guard has no type information: its functions cannot be called".into(),
        ))
    }
}

/// Takes the guard out; programs that were just freed keep it in use for a moment.
pub fn remove(host: &Host) -> Result<(), Diagnostic> {
    let until = Instant::now() + PATIENCE;
    while loaded(host) {
        match sys::remove_module(MODULE) {
            Ok(()) => break,
            Err(e) if Instant::now() > until => {
                return Err(Diagnostic::warning(
                    Code::Environment,
                    format!("otf_guard stays in the kernel: {e}"),
                )
                .help("rmmod otf_guard once nothing uses it"));
            }
            Err(_) => sleep(Duration::from_millis(50)),
        }
    }
    Ok(())
}

fn refused(message: String) -> Diagnostic {
    Diagnostic::error(Code::ActionRefused, message)
        .help("deny needs the guard of the same bundle; choose --action audit or kill otherwise")
}
