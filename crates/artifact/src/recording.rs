//! `recording.json`: what the sites of a compartment really wrote and called on a running kernel.
//! Written by `otf-load recording`, judged against the legal sets by `otf judge`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Artifact,
    ids::{CallSiteId, SeenAllocationId, SiteId},
};

/// One recording. Addresses are bound back to images, so that it outlives the machine's run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// [`crate::FORMAT_VERSION`].
    pub version: u32,
    /// `uname -r` of the kernel.
    pub release: String,
    /// Compartment, with `@overlay` when one was applied.
    pub compartment: String,
    /// SHA-256 of the `sites.json` that was recorded with.
    pub sites: String,
    /// SHA-256 of the places of its sites and calls: what the rows of this recording depend on. A
    /// changed analysis of the same images leaves it as it is.
    #[serde(default)]
    pub places: String,
    /// Sites that were attached, sorted: the others cannot appear.
    pub attached: Vec<SiteId>,
    /// Indirect calls that were attached, sorted.
    pub attached_calls: Vec<CallSiteId>,
    /// Probes that were not attached, by reason (`module sch_x is not loaded`).
    pub not_attached: BTreeMap<String, u64>,
    /// Names of the slab caches that appear: the kernel merges caches, and one stands for all.
    pub caches: BTreeMap<String, Vec<String>>,
    /// Writes, sorted and unique but for `count`.
    pub pairs: Vec<Pair>,
    /// Indirect calls, sorted and unique but for `count`.
    pub calls: Vec<CallPair>,
    /// Objects given out while it ran, by the call that obtained them, sorted.
    pub allocations: Vec<SeenAllocation>,
    /// What was lost, by reason (`objects: map full or busy`); empty when nothing was.
    pub lost: BTreeMap<String, u64>,
}

impl Artifact for Recording {
    const NAME: &'static str = "recording";
    fn version(&self) -> u32 {
        self.version
    }
}

/// Code of an image, as kallsyms names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CodePlace {
    /// `vmlinux` or a module name.
    pub image: String,
    /// Bytes from `_text` of `vmlinux`, or from the start of the module's section.
    pub offset: u64,
    /// Section of a module; empty for `vmlinux`.
    pub section: String,
    /// `__alloc_skb+0x51`, for people.
    pub symbol: String,
}

/// Where a write on a stack ends, relative to a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// At or below it.
    Within,
    /// Above it.
    Beyond,
    /// The limit is not known.
    Unknown,
}

/// What a write hit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenObject {
    /// The stack that the write runs on, or that of the interrupted task (beyond every limit).
    Stack {
        /// At or above the stack pointer; below it nothing is alive.
        alive: bool,
        /// Relative to the frame of the function that writes.
        frame: Side,
        /// Relative to the outermost gate: beyond it lie objects of somebody outside.
        gate: Side,
    },
    /// Static storage of an image; the place is that of the write.
    Global(CodePlace),
    /// The per-CPU area (of any CPU).
    PerCpu,
    /// User memory.
    User,
    /// A slab object.
    Slab {
        /// Its cache.
        cache: String,
        /// Usable bytes of an object of the cache.
        object_size: u64,
        /// A `kmalloc` cache.
        general: bool,
        /// Its allocation; `None` when it is older than the recording.
        allocated_at: Option<SeenAllocationId>,
    },
    /// An object in the KFENCE pool: its place says nothing.
    Kfence,
    /// Memory of the page allocator, compound or not.
    Pages {
        /// Bytes of the object; `None` when neither its allocation nor its folio is known.
        object_size: Option<u64>,
        /// Its allocation; `None` when it is older than the recording.
        allocated_at: Option<SeenAllocationId>,
    },
    /// A vmalloc area.
    Vmalloc {
        /// Bytes; `None` when it is older than the recording.
        object_size: Option<u64>,
        /// Its allocation; `None` when it is older than the recording.
        allocated_at: Option<SeenAllocationId>,
    },
    /// `struct page`, which nobody allocates.
    PageStruct,
    /// None of these.
    Other,
}

/// A site and what it wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pair {
    /// Which site.
    pub site: SiteId,
    /// Object.
    pub object: SeenObject,
    /// Bytes from the object's start; 0 where there is no start.
    pub offset: u64,
    /// Bytes written; the greatest seen for a site of variable length.
    pub length: u64,
    /// Least bytes from the write's end to the end of what was requested; `None` where that is
    /// not known.
    pub rest: Option<i64>,
    /// How often.
    pub count: u64,
}

/// An indirect call and where it went.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallPair {
    /// Which call.
    pub call: CallSiteId,
    /// Where it led.
    pub target: CodePlace,
    /// How often.
    pub count: u64,
}

/// Objects of one allocating call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeenAllocation {
    /// The call chain, innermost first, from within the allocator outwards as far as it was kept:
    /// return addresses.
    pub chain: Vec<CodePlace>,
    /// Dedicated cache; empty for a general one, pages and vmalloc.
    pub cache: String,
    /// Bytes given out.
    pub given: u64,
    /// Least and greatest bytes requested.
    pub requested: (u64, u64),
    /// How often.
    pub count: u64,
}
