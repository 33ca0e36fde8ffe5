//! Frees that the guard follows: it asks the filter of the programs first, and leaves none out.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libbpf_rs::Object;
use otf_artifact::diagnostic::Diagnostic;

use crate::guard::StructOps;
use crate::guard_probes::{self, NAME};
use crate::object::{kernel_refused, program};
use crate::pod;

/// Programs that forget freed objects, in the order of the guard's `enum otf_way`.
const PROGRAMS: [&str; 3] = ["otf_free_kfree", "otf_free_cache", "otf_free_pages"];
/// What ends the names of programs that only perf needs.
const TWIN: &str = "_twin";
/// Its name in the guard's type information.
const VALUE: &CStr = c"bpf_struct_ops_otf_frees";

/// `struct otf_frees` of the guard, with what the kernel puts in front of it.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct Value {
    common: [u8; 64],
    programs: [i32; 3],
    pad: [u8; 4],
    name: [u8; NAME],
    rest: [u8; 48],
}

/// Whether the guard follows what this program is attached to otherwise.
pub fn follows(program: &str) -> bool {
    PROGRAMS.contains(&program.strip_suffix(TWIN).unwrap_or(program))
}

/// Makes the guard follow frees for these programs, as long as the link lives. `name` as that of the sets of probes.
pub fn attach(object: &Object, name: &str) -> Result<OwnedFd, Diagnostic> {
    let mut value = Value {
        common: [0; 64],
        programs: [0; 3],
        pad: [0; 4],
        name: guard_probes::name_bytes(name),
        rest: [0; 48],
    };
    let mut programs = Vec::new();
    for (slot, name) in value.programs.iter_mut().zip(PROGRAMS) {
        let program = program(object, name)?;
        let fd = program.as_fd().try_clone_to_owned();
        let fd = fd.map_err(|e| kernel_refused(name, &e))?;
        *slot = fd.as_raw_fd();
        programs.push(fd);
    }
    let kind = StructOps::new(object, c"otf_frees", VALUE, size_of::<Value>())?;
    kind.register(pod::bytes(&value))
        .map_err(|e| kernel_refused("the guard's look at frees", &e))
}
