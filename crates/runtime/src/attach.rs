//! Programs → pinned links: by address with a cookie, or where the program's section says.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use libbpf_rs::{Object, ProgramMut};
use otf_artifact::{
    bundle::Program,
    diagnostic::{Code, Diagnostic},
};

use crate::bind::BoundProbe;
use crate::guard;
use crate::guard_frees;
use crate::guard_probes::{RefusedRow, SET, Sets};
use crate::object::{kernel_refused, program};
use crate::sys::{self, Target};

/// In place of a program's name: the guard does it.
const PRIVATE_HEAP: &str = "private_heap";
/// Names the pins of sets whose calls go there.
const HEAP_LINK: &str = "otf_heap";

/// Name of the program in the BPF object.
pub fn program_name(program: Program) -> &'static str {
    match program {
        Program::AllocationCall => "otf_alloc_call",
        Program::AllocationReturn => "otf_alloc_return",
        Program::Gate => "otf_gate",
        Program::Site => "otf_site",
        Program::Call => "otf_call",
        Program::Entry => "otf_entry",
        Program::Return => "otf_return",
        Program::FreeBulk => "otf_free_bulk",
        Program::PrivateHeap => PRIVATE_HEAP,
    }
}

/// Attaches everything: first what follows frees, then the probes in order. Each link is pinned
/// under `links` as `00000_PROGRAM`, so that the names sort in the order of attachment.
///
/// With `guarded`, the name of the sets, the guard owns the probes: they are attached in sets, those
/// that take notes before those that judge.
///
/// `progress` is told how many probes of how many are attached. `refused` decides about a probe
/// that the kernel refuses: `Ok` goes on without it.
pub fn attach(
    object: &Object,
    probes: &[BoundProbe],
    pmu: u32,
    guarded: Option<Guarded<'_>>,
    links: &Path,
    progress: &mut dyn FnMut(usize, usize),
    refused: &mut dyn FnMut(Refused<'_>, Diagnostic) -> Result<(), Diagnostic>,
) -> Result<(), Diagnostic> {
    let mut count = 0;
    for program in object.progs_mut().filter(|p| p.autoload()) {
        let section = program.section().to_string_lossy();
        let Some((_, target)) = section.split_once('/') else {
            continue;
        };
        let name = program.name().to_string_lossy().into_owned();
        let bulk = name == program_name(Program::FreeBulk);
        if guarded.is_some_and(|g| !g.lenient) && (bulk || guard_frees::follows(&name)) {
            continue;
        }
        let pin = links.join(link_name(count, &name));
        let attached = match section.split('/').next() {
            Some("kprobe") => attach_function(&program, target, false, pmu, &pin),
            Some("kretprobe") => attach_function(&program, target, true, pmu, &pin),
            Some("raw_tp" | "raw_tracepoint" | "tp_btf" | "fentry" | "fexit") => {
                attach_by_section(&program, &pin)
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        };
        if let Err(e) = attached {
            let error = kernel_refused(&format!("{name} at {section}"), &e);
            refused(Refused::Hook(&name), error)?;
        }
        count += 1;
    }
    if guarded.is_some_and(|g| !g.lenient) {
        let name = guarded.map_or("", |g| g.name);
        let link = guard_frees::attach(object, name)?;
        let pin = links.join(link_name(count, "otf_frees"));
        sys::pin(link.as_fd(), &pin).map_err(|e| kernel_refused("otf_frees", &e))?;
        count += 1;
    }
    let free_hooks = count;
    if let Some(guarded) = guarded {
        let sets = Sets::new(object, probes, guarded)?;
        return attach_sets(&sets, probes, count, links, progress, refused);
    }
    for probe in probes {
        not_interrupted()?;
        let name = program_name(probe.program);
        let pin = links.join(link_name(count, name));
        if let Err(e) = attach_address(program(object, name)?.as_fd(), probe, pmu, &pin) {
            refused(Refused::Probe(probe), refused_probe(probe, &e))?;
        }
        count += 1;
        progress(count - free_hooks, probes.len());
    }
    Ok(())
}

fn not_interrupted() -> Result<(), Diagnostic> {
    if sys::interrupted() {
        let message = "interrupted; everything was undone";
        return Err(Diagnostic::error(Code::KernelRefused, message));
    }
    Ok(())
}

/// How the guard is to own the probes.
#[derive(Clone, Copy, Debug)]
pub struct Guarded<'a> {
    /// Name of the sets, unique for this load.
    pub name: &'a str,
    /// Name of the private heap, if the bundle has one: the same for a bundle that replaces another.
    pub heap: &'a str,
    /// The bundle records: it goes on without probes that the kernel refuses, and forgets nothing.
    pub lenient: bool,
    /// No probe becomes a jump.
    pub breakpoints: bool,
}

/// Whether a program judges; the others note what judgements are based on.
pub fn judges(program: Program) -> bool {
    matches!(program, Program::Site | Program::Call | Program::Return)
}

fn attach_sets(
    sets: &Sets<'_>,
    probes: &[BoundProbe],
    first_link: usize,
    links: &Path,
    progress: &mut dyn FnMut(usize, usize),
    refused: &mut dyn FnMut(Refused<'_>, Diagnostic) -> Result<(), Diagnostic>,
) -> Result<(), Diagnostic> {
    let is_heap = |probe: &&BoundProbe| probe.program == Program::PrivateHeap;
    let (heap, others): (Vec<_>, Vec<_>) = probes.iter().partition(is_heap);
    // Jumps are put in together; in between, neighbours would not share one.
    let (jumps, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|p| p.room.is_some());
    let (judging, noting): (Vec<_>, Vec<_>) = others.into_iter().partition(|p| judges(p.program));
    let mut done = 0;
    // A call that is sent to the heap ends the hit: the oldest set at an address runs last.
    let all = heap
        .chunks(SET)
        .map(|set| (HEAP_LINK, set))
        .chain(noting.chunks(SET).map(|set| (guard::NAME, set)))
        .chain(
            jumps
                .chunks(jumps.len().max(1))
                .map(|set| (guard::NAME, set)),
        )
        .chain(judging.chunks(SET).map(|set| (guard::NAME, set)));
    for (number, (name, set)) in all.enumerate() {
        not_interrupted()?;
        let pin = links.join(link_name(first_link + number, name));
        let link = if name == HEAP_LINK {
            sets.attach_heap(set)
        } else {
            sets.attach(set)
        };
        let (link, errors) =
            link.map_err(
                |e| match e.get_ref().and_then(|e| e.downcast_ref::<RefusedRow>()) {
                    Some(row) => refused_probe(set[row.index], &row.error),
                    None => kernel_refused("a set of probes", &e),
                },
            )?;
        for (index, error) in errors {
            refused(
                Refused::Probe(set[index]),
                refused_probe(set[index], &error),
            )?;
        }
        sys::pin(link.as_fd(), &pin).map_err(|e| kernel_refused("a set of probes", &e))?;
        done += set.len();
        progress(done, probes.len());
    }
    Ok(())
}

/// What could not be attached.
#[derive(Clone, Copy, Debug)]
pub enum Refused<'a> {
    /// A program that is attached where its section says.
    Hook(&'a str),
    /// A probe of the plan.
    Probe(&'a BoundProbe),
}

fn link_name(row: usize, program: &str) -> String {
    format!("{row:05}_{program}")
}

fn attach_address(
    program: BorrowedFd<'_>,
    probe: &BoundProbe,
    pmu: u32,
    pin: &Path,
) -> io::Result<()> {
    let event = sys::kprobe_event(pmu, Target::Address(probe.address))?;
    let link = sys::link_perf_event(program, event.as_fd(), probe.cookie)?;
    sys::pin(link.as_fd(), pin)
}

fn attach_function(
    program: &ProgramMut<'_>,
    function: &str,
    at_return: bool,
    pmu: u32,
    pin: &Path,
) -> io::Result<()> {
    let function = CString::new(function)?;
    let target = if at_return {
        Target::Return(&function)
    } else {
        Target::Function(&function)
    };
    let event = sys::kprobe_event(pmu, target)?;
    let link = sys::link_perf_event(program.as_fd(), event.as_fd(), 0)?;
    sys::pin(link.as_fd(), pin)
}

/// Raw tracepoints and trampolines. Links of perf events must not come this way: libbpf disables
/// the event when it drops such a link, pinned or not.
fn attach_by_section(program: &ProgramMut<'_>, pin: &Path) -> io::Result<()> {
    let link = program.attach().map_err(io::Error::other)?;
    sys::pin(link.as_fd(), pin)
}

fn refused_probe(probe: &BoundProbe, error: &io::Error) -> Diagnostic {
    let meaning = match error.raw_os_error() {
        Some(libc::EILSEQ) => " (not the first byte of an instruction)",
        Some(libc::EINVAL) => " (code that cannot be probed)",
        Some(libc::EMFILE | libc::ENFILE) => " (too many open files)",
        Some(libc::ENXIO) => " (no call of an allocator any more: has the kernel patched it?)",
        Some(libc::EACCES | libc::EPERM) => " (not allowed: root, or kernel lockdown)",
        _ => "",
    };
    Diagnostic::error(
        Code::KernelRefused,
        format!(
            "the kernel refused the probe at {} ({:#x}): {error}{meaning}",
            probe.label, probe.address
        ),
    )
    .help("nothing stays loaded; `otf-load probe` shows what this host supports")
}
