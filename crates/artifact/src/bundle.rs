//! What a bundle holds besides the BPF object, the guard and the policy: `manifest.json`, `plan.json`.
//!
//! A bundle is one uncompressed tar file `NAME.otf` with members in the order of [`MEMBERS`], and a
//! minisign signature `NAME.otf.minisig` beside it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    Artifact, abi,
    covered::Under,
    ids::{CallSiteId, ImageId, SiteId},
    places::Frame,
    sites::{Location, Register, Room, SiteImage},
};

/// File name of a bundle ends so.
pub const EXTENSION: &str = "otf";
/// What stands before that in the name of a bundle that records.
pub const RECORDING: &str = "record";
/// The same of a bundle without any elimination, to compare with.
pub const NAIVE: &str = "naive";
/// Members of the archive, in order; `otf_guard.ko` last.
pub const MEMBERS: [&str; 5] = [
    "manifest.json",
    "plan.json",
    "policy.yaml",
    "policy.bpf.o",
    "otf_guard.ko",
];
/// The one untrusted comment that a signature may carry: it is not covered by the signature.
pub const UNTRUSTED_COMMENT: &str = "untrusted comment: signature of an OTF bundle";

/// What the bundle is for, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`crate::FORMAT_VERSION`].
    pub version: u32,
    /// Kernel profile.
    pub kernel: String,
    /// Compartment (with `@overlay`).
    pub compartment: String,
    /// `uname -r`.
    pub release: String,
    /// Build-ids that the running kernel must have, by image (`vmlinux`, modules).
    pub build_ids: BTreeMap<String, String>,
    /// SHA-256 (hex) of every other member, by name.
    pub members: BTreeMap<String, String>,
    /// SHA-256 (hex) of the inputs the bundle was made from (lock, analysis, sites), by name.
    pub inputs: BTreeMap<String, String>,
    /// What is covered.
    pub coverage: CoverageSummary,
}

impl Artifact for Manifest {
    const NAME: &'static str = "manifest";
    fn version(&self) -> u32 {
        self.version
    }
}

/// Figures of `otf inspect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoverageSummary {
    /// Instructions that are checked, proven or listed as unprobable.
    pub sites: u64,
    /// Sites that are no call: memory-writing instructions.
    pub stores: u64,
    /// Calls of range-writing functions and `rep` string instructions.
    pub bulk_writes: u64,
    /// Sites with a probe, or with a row for one.
    pub probed: u64,
    /// Of these: sites that need no probe under audit and kill, for something else covers them.
    #[serde(default)]
    pub covered: u64,
    /// Of these: sites that need none under deny either.
    #[serde(default)]
    pub covered_always: u64,
    /// What only a load under audit checks, to keep the policy's budgets: writes, frees and calls.
    #[serde(default)]
    pub left_to_audit: u64,
    /// Of these: calls.
    #[serde(default)]
    pub calls_left_to_audit: u64,
    /// Of these: calls that may lead to any function.
    #[serde(default)]
    pub calls_weak_left_to_audit: u64,
    /// Sites proven legal from the operand.
    pub proven: u64,
    /// Sites that cannot be probed.
    pub unprobable: u64,
    /// Sites per rung: `instruction`, `line`, `function`, `compartment`.
    pub by_precision: BTreeMap<String, u64>,
    /// Sites from which deny unwinds; the others skip and quarantine at the next gate.
    pub unwindable: u64,
    /// Sites whose legal set has a wide rule (`any_heap`, `any_global`).
    pub wide: u64,
    /// Calls that free an object; they are not among the sites here.
    #[serde(default)]
    pub frees: u64,
    /// Frees with a probe.
    #[serde(default)]
    pub frees_probed: u64,
    /// Of these: any heap object may be freed, as long as it is the start of one.
    #[serde(default)]
    pub frees_wide: u64,
    /// Indirect calls and jumps.
    #[serde(default)]
    pub calls: u64,
    /// Calls with a probe.
    #[serde(default)]
    pub calls_probed: u64,
    /// Calls with a probe that may lead to any function: not every target is known.
    #[serde(default)]
    pub calls_weak: u64,
    /// Returns with a probe; none unless the policy asks for them.
    #[serde(default)]
    pub returns_probed: u64,
}

/// Everything that otf-load needs to bind the object to a running kernel and to describe events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`crate::FORMAT_VERSION`].
    pub version: u32,
    /// Images, as in the sites.
    pub images: Vec<SiteImage>,
    /// Probes: attached in this order, detached in the reverse one.
    pub probes: Vec<Probe>,
    /// Ranges for the map `otf_globals`, by row.
    pub globals: Vec<GlobalBinding>,
    /// Names of dedicated caches for the map `otf_caches`, by row.
    pub caches: Vec<String>,
    /// Rows of the table of sites.
    pub sites: Vec<PlanSite>,
    /// Rows of sites that go without their probe, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub covered: Vec<PlanCover>,
    /// What only a load under audit checks, to keep the policy's budgets; sorted by row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_to_audit: Vec<PlanLeft>,
    /// Rows of the table of calls; in events and counts they follow those of the sites.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<PlanSite>,
    /// Rows of the table of returns; they follow those of the calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub returns: Vec<PlanSite>,
    /// Keys of the map `otf_targets`: where the calls of a set may lead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetBinding>,
    /// Rows of the table of gates.
    pub gates: Vec<PlanGate>,
    /// Functions whose arguments are noted at their entries: `FILE:FUNCTION`.
    #[serde(default)]
    pub entries: Vec<String>,
    /// Rows of the table of allocation sites: `function, file:line`.
    pub allocations: Vec<String>,
    /// Action for `load` without `--action`.
    pub default_action: abi::Action,
    /// What the compartment's allocations from general caches become, if the policy wants them in
    /// caches of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_heap: Option<HeapPlan>,
    /// The bundle records instead of checking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<RecordingPlan>,
}

/// What the rows of a bundle that records stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingPlan {
    /// Rows of the table of sites.
    pub sites: Vec<SiteId>,
    /// Rows of the table of calls.
    pub calls: Vec<CallSiteId>,
    /// What could be probed, but has no row, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
}

/// Calls of allocators in the compartment's code, and those that others make for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapPlan {
    /// Calls that go to the private heap: as many probes of [`Program::PrivateHeap`].
    pub private: u64,
    /// Calls that do not, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub general: BTreeMap<String, u64>,
}

impl Artifact for Plan {
    const NAME: &'static str = "plan";
    fn version(&self) -> u32 {
        self.version
    }
}

/// A site that goes without its probe.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlanCover {
    /// Row of the table of sites.
    pub site: u32,
    /// Row of the site whose check covers it, if a check does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<u32>,
    /// When.
    #[serde(default)]
    pub under: Under,
}

/// A check that is left out under deny and kill: nothing covers it there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlanLeft {
    /// Row as of [`Plan::checked`].
    pub row: u32,
    /// Operation whose budget it was left out for.
    pub operation: String,
    /// What it would cost, and what its check is worth, in words.
    pub why: String,
}

impl Plan {
    /// The plan without the probes that a load with this action does not need, or leaves to audit.
    #[must_use]
    pub fn for_action(&self, action: abi::Action) -> Self {
        let mut without = self.covered_under(action);
        without.extend(self.left_under(action).map(|left| left.row));
        let mut plan = self.clone();
        plan.probes.retain(|probe| {
            let row = self.checked_row(probe);
            row.is_none_or(|row| !without.contains(&row))
        });
        plan
    }

    /// Rows that another check or a proof covers in a load with this action.
    pub fn covered_under(&self, action: abi::Action) -> BTreeSet<u32> {
        let covered = self.covered.iter();
        covered
            .filter(|cover| cover.under == Under::Always || action != abi::Action::Deny)
            .map(|cover| cover.site)
            .collect()
    }

    /// What a load with this action leaves to audit, and nothing covers.
    pub fn left_under(&self, action: abi::Action) -> impl Iterator<Item = &PlanLeft> {
        let covered = self.covered_under(action);
        let left = self.left_to_audit.iter();
        left.filter(move |left| action != abi::Action::Audit && !covered.contains(&left.row))
    }

    /// The row of what a probe checks, as of [`Plan::checked`]; nothing for one that takes notes.
    pub fn checked_row(&self, probe: &Probe) -> Option<u32> {
        let first = match probe.program {
            Program::Site => 0,
            Program::Call => self.sites.len(),
            Program::Return => self.sites.len() + self.calls.len(),
            _ => return None,
        };
        u32::try_from(first as u64 + probe.cookie).ok()
    }

    /// What events and counts name by row: sites, then calls, then returns.
    pub fn checked(&self) -> impl Iterator<Item = &PlanSite> {
        self.sites.iter().chain(&self.calls).chain(&self.returns)
    }

    /// The same by row.
    pub fn checked_at(&self, row: u32) -> Option<&PlanSite> {
        self.checked().nth(row as usize)
    }
}

/// The function that frees many objects without passing a tracepoint.
pub const FREE_BULK: &str = "kmem_cache_free_bulk";

/// A program of the BPF object that is attached by address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// `otf_alloc_call`, at the call: notes the size. Cookie: row of allocations.
    AllocationCall,
    /// `otf_alloc_return`, after the call. Cookie: row of allocations.
    AllocationReturn,
    /// `otf_gate`, at the entry of a function. Cookie: row of gates.
    Gate,
    /// `otf_site`, at a site. Cookie: row of sites.
    Site,
    /// `otf_call`, at an indirect call or jump. Cookie: row of calls.
    Call,
    /// `otf_entry`, at the entry of a function: notes its arguments. Cookie: its number, from 0.
    Entry,
    /// `otf_return`, at a return of a gate. Cookie: row of returns.
    Return,
    /// `otf_free_bulk`, behind the ftrace site of [`FREE_BULK`]. Never in a plan: the loader adds it
    /// where the guard owns the probes.
    FreeBulk,
    /// None: the guard sends the call of an allocator to the private heap. Cookie: 0.
    PrivateHeap,
}

/// A probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Program.
    pub program: Program,
    /// Where.
    pub location: Location,
    /// `bpf_get_attach_cookie`.
    pub cookie: u64,
    /// Where the guard can put a jump instead of a breakpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<Room>,
}

/// A global to be bound at load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalBinding {
    /// Image.
    pub image: ImageId,
    /// Symbol (for `vmlinux` looked up in kallsyms; for modules `location` is used).
    pub symbol: String,
    /// Section and offset.
    pub location: Location,
    /// Bytes.
    pub size: u64,
}

/// A function that calls with a set of targets may reach.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TargetBinding {
    /// The set, as rows of calls name it.
    pub set: u32,
    /// First instruction of the function.
    pub location: Location,
}

/// A site as events show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSite {
    /// Where.
    pub location: Location,
    /// The instruction.
    pub text: String,
    /// Inlining chain, innermost first.
    pub chain: Vec<Frame>,
    /// What was legal, in words.
    pub legal: String,
    /// What the guard can decide without the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quick: Option<Quick>,
}

/// Where the guard keeps verdicts of a legal set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Nowhere: it has no verdicts about ranges.
    None,
    /// Together with all other sets that allow every heap object.
    Wide,
    /// For the set in this row alone.
    Set(u32),
}

/// What can be decided about a write of constant size in front of the program: it stays in its own
/// frame, or where the program has found this legal set to hold before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Quick {
    /// Base register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Register>,
    /// Index register, and what it is shifted by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<(Register, u8)>,
    /// Displacement of the first byte.
    pub displacement: i32,
    /// Bytes.
    pub size: u32,
    /// Where verdicts about ranges are kept.
    pub line: Line,
    /// Bytes from the stack pointer on that may be written whatever lies there; 0: none.
    pub frame: u32,
    /// How far above the stack pointer the part of the stack begins that may be written too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<u32>,
}

/// A gate as events and `status` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanGate {
    /// Function.
    pub function: String,
    /// How it is reached.
    pub reached_by: Vec<String>,
    /// Pointee type of the instance, if any.
    pub instance_type: Option<String>,
    /// Spelled refusal value.
    pub refusal: String,
}
