//! Probes that the guard owns: sets of rows, each a `struct_ops` of `otf_guard.ko` with a pinned link.
//!
//! Compared with one perf event for each probe, thousands go in and out together, and no hit is
//! left out because another BPF program runs on that CPU.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use libbpf_rs::Object;
use otf_artifact::{
    bundle::{Line, Program, Quick},
    diagnostic::{Code, Diagnostic},
    sites::Register,
};

use crate::attach::{Guarded, judges, program_name};
use crate::bind::BoundProbe;
use crate::guard::StructOps;
use crate::host::{Host, parse_hex};
use crate::object::program;
use crate::pod;

/// `OTF_MAX_PROGRAMS` of the guard.
const MAX_PROGRAMS: usize = 8;
/// Bytes of a name of a set, the final zero included.
pub const NAME: usize = 64;
/// `OTF_PROBES_LENIENT` of the guard.
const LENIENT: u32 = 1;
/// `OTF_NO_REGISTER` of the guard.
const NO_REGISTER: u8 = 0xff;
/// `OTF_NOT_ABOVE` of the guard.
const NOT_ABOVE: u32 = u32::MAX;
/// `OTF_ROW_JUDGES` of the guard.
const JUDGES: u32 = 1;
/// What the kernel puts in front of the data of a `struct_ops`: a cache line.
const COMMON: usize = 64;
/// Its name in the guard's type information.
const VALUE: &CStr = c"bpf_struct_ops_otf_probes";
/// Probes of one set: bounds how long the kernel is busy for one system call.
pub const SET: usize = 1024;
/// Up to whole cache lines.
const VALUE_PAD: usize = 192 - 8 - 4 * 4 - MAX_PROGRAMS * 4 - 2 * NAME;
/// How the guard's line about a jump begins that it cannot take away.
const KEPT: &str = "kept ";
/// Below procfs: what the guard says about its probes.
const LIST: &str = "otf_guard";

/// `struct otf_probe_row` of the guard.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ProbeRow {
    address: u64,
    cookie: u64,
    program: u32,
    error: i32,
    back: u8,
    ahead: u8,
    pad: u16,
    flags: u32,
    quick: QuickRow,
}

/// `struct otf_quick` of the guard; without bytes there is nothing that it can decide.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct QuickRow {
    displacement: i32,
    size: u32,
    line: u32,
    wide: u32,
    frame: u32,
    above: u32,
    base: u8,
    index: u8,
    shift: u8,
    pad: [u8; 5],
}

impl From<Quick> for QuickRow {
    fn from(quick: Quick) -> Self {
        let number = |register: Option<Register>| {
            register.and_then(Register::encoding).unwrap_or(NO_REGISTER)
        };
        Self {
            displacement: quick.displacement,
            size: quick.size,
            line: match quick.line {
                Line::Set(set) => set + 1,
                Line::None | Line::Wide => 0,
            },
            wide: u32::from(quick.line == Line::Wide),
            frame: quick.frame,
            above: quick.above.unwrap_or(NOT_ABOVE),
            base: number(quick.base),
            index: number(quick.index.map(|(register, _)| register)),
            shift: quick.index.map_or(0, |(_, shift)| shift),
            pad: [0; 5],
        }
    }
}

/// `struct otf_probes` of the guard, with what the kernel puts in front of it.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct Value {
    common: [u8; COMMON],
    rows: u64,
    count: u32,
    flags: u32,
    programs: [i32; MAX_PROGRAMS],
    name: [u8; NAME],
    lines: u32,
    zero: u32,
    heap: [u8; NAME],
    pad: [u8; VALUE_PAD],
}

/// A set's link, and the errors of probes that the kernel refused, by index.
pub type Attached = (OwnedFd, Vec<(usize, io::Error)>);

/// Makes sets of one compartment.
pub struct Sets<'a> {
    programs: Vec<(Program, OwnedFd)>,
    how: Guarded<'a>,
    kind: StructOps,
}

impl<'a> Sets<'a> {
    /// The guard is in the kernel.
    pub fn new(
        object: &Object,
        probes: &[BoundProbe],
        how: Guarded<'a>,
    ) -> Result<Self, Diagnostic> {
        let mut kinds: BTreeSet<Program> = probes.iter().map(|p| p.program).collect();
        kinds.remove(&Program::PrivateHeap);
        let mut programs = Vec::new();
        for kind in kinds {
            let fd = program(object, program_name(kind))?
                .as_fd()
                .try_clone_to_owned();
            programs.push((kind, fd.map_err(|e| refused(&e))?));
        }
        Ok(Self {
            programs,
            how,
            kind: StructOps::new(object, c"otf_probes", VALUE, size_of::<Value>())?,
        })
    }

    /// Puts probes into the kernel; they stay as long as the link does. Returns the errors of
    /// those that the kernel refused, by index; without `lenient` the first one undoes all.
    pub fn attach(&self, probes: &[&BoundProbe]) -> io::Result<Attached> {
        self.register(probes, "", |program| {
            let row = self.programs.iter().position(|(p, _)| *p == program);
            Ok(row.ok_or(io::ErrorKind::NotFound)? as u32)
        })
    }

    /// Sends the calls at these places to the private heap, which is made if need be.
    pub fn attach_heap(&self, probes: &[&BoundProbe]) -> io::Result<Attached> {
        self.register(probes, self.how.heap, |_| Ok(0))
    }

    fn register(
        &self,
        probes: &[&BoundProbe],
        heap: &str,
        program: impl Fn(Program) -> io::Result<u32>,
    ) -> io::Result<Attached> {
        let mut order: Vec<usize> = (0..probes.len()).collect();
        order.sort_by_key(|i| probes[*i].address);
        let mut rows = Vec::with_capacity(probes.len());
        for index in &order {
            let probe = probes[*index];
            let room = probe.room.filter(|_| !self.how.breakpoints);
            rows.push(ProbeRow {
                address: probe.address,
                cookie: probe.cookie,
                program: program(probe.program)?,
                back: room.map_or(0, |room| room.back),
                ahead: room.map_or(0, |room| room.ahead),
                flags: if judges(probe.program) { JUDGES } else { 0 },
                quick: probe.quick.map_or_else(QuickRow::default, QuickRow::from),
                ..ProbeRow::default()
            });
        }
        let mut value = Value {
            common: [0; COMMON],
            rows: rows.as_mut_ptr() as u64,
            count: rows.len() as u32,
            flags: if self.how.lenient { LENIENT } else { 0 },
            programs: [0; MAX_PROGRAMS],
            name: name_bytes(self.how.name),
            lines: lines(&rows),
            zero: 0,
            heap: name_bytes(heap),
            pad: [0; VALUE_PAD],
        };
        if heap.is_empty() {
            for (slot, (_, fd)) in value.programs.iter_mut().zip(&self.programs) {
                *slot = fd.as_raw_fd();
            }
        }
        let link = self.kind.register(pod::bytes(&value));
        // The kernel has written errors into the rows through the address in `value`.
        let rows = std::hint::black_box(rows);
        let errors: Vec<(usize, io::Error)> = order
            .iter()
            .zip(&rows)
            .filter(|(_, row)| row.error != 0)
            .map(|(index, row)| (*index, io::Error::from_raw_os_error(row.error.abs())))
            .collect();
        match link {
            Ok(link) => Ok((link, errors)),
            Err(e) => match errors.into_iter().next() {
                // The caller names the probe.
                Some((index, error)) => {
                    Err(io::Error::new(error.kind(), RefusedRow { index, error }))
                }
                None => Err(e),
            },
        }
    }
}

/// How many lines for verdicts the load of these rows has, but for the wide ones; some, if there is
/// anything to be counted at all.
fn lines(rows: &[ProbeRow]) -> u32 {
    let any = rows.iter().any(|row| row.quick.size > 0);
    let most = rows.iter().map(|row| row.quick.line).max();
    most.unwrap_or(0).max(u32::from(any))
}

/// The probe that made a set fail.
#[derive(Debug)]
pub struct RefusedRow {
    /// Into the probes of the set.
    pub index: usize,
    /// What the kernel said.
    pub error: io::Error,
}

impl std::fmt::Display for RefusedRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for RefusedRow {}

/// A name for the sets of one load, which others do not have.
pub fn set_name(compartment: &str, now: u64) -> String {
    let short: String = compartment.chars().take(NAME / 2).collect();
    format!("{short}.{now:x}")
}

/// A name as the guard wants it: ended by zeroes.
pub fn name_bytes(name: &str) -> [u8; NAME] {
    let mut bytes = [0; NAME];
    for (slot, byte) in bytes.iter_mut().zip(name.bytes().take(NAME - 1)) {
        *slot = byte;
    }
    bytes
}

/// Whether the guard follows frees for the sets of this name.
pub fn follows_frees(host: &Host, name: &str) -> bool {
    let text = fs::read_to_string(host.proc.join(LIST)).unwrap_or_default();
    text.lines().any(|line| line == format!("{name} frees"))
}

/// What the guard says about a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Hits that nothing has checked.
    pub missed: u64,
    /// A jump, no kprobe.
    pub jump: bool,
    /// Hits that it has decided itself.
    pub quick: u64,
}

/// Jumps that nobody wants any more, but on which somebody else's kprobe is: the guard stays with
/// them. The guard tries again whenever it is asked.
pub fn kept_jumps(host: &Host) -> usize {
    let text = fs::read_to_string(host.proc.join(LIST)).unwrap_or_default();
    text.lines().filter(|line| line.starts_with(KEPT)).count()
}

/// Probes of a set as the guard has them, by address.
pub fn list(host: &Host, name: &str) -> BTreeMap<u64, Owned> {
    let text = fs::read_to_string(host.proc.join(LIST)).unwrap_or_default();
    parse(&text, name)
}

fn parse(text: &str, name: &str) -> BTreeMap<u64, Owned> {
    let mut probes = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some(name) {
            continue;
        }
        if let (Some(address), Some(missed)) = (
            words.next().and_then(parse_hex),
            words.next().and_then(|w| w.parse().ok()),
        ) {
            let kind = words.next();
            let jump = kind == Some("jump");
            let quick = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
            // Somebody has written over it: it is gone.
            if kind != Some("lost") {
                probes.insert(
                    address,
                    Owned {
                        missed,
                        jump,
                        quick,
                    },
                );
            }
        }
    }
    probes
}

fn refused(error: &dyn std::fmt::Display) -> Diagnostic {
    Diagnostic::error(
        Code::KernelRefused,
        format!("the guard cannot own probes: {error}"),
    )
    .help("nothing stays loaded; load with --action audit or kill, without --guard")
}
