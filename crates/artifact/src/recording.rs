//! `recording.json`: what the sites of a compartment really wrote and called on a running kernel.
//! Written by `otf-load recording`, judged against the legal sets by `otf judge`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Artifact,
    ids::{CallSiteId, SiteId},
};

/// One recording. Addresses are bound back to images, so that it outlives the machine's run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// [`crate::FORMAT_VERSION`].
    pub version: u32,
    /// `uname -r` of the kernel.
    pub release: String,
    /// Compartment, with `@overlay` when one was applied.
    pub compartment: String,
    /// SHA-256 of the `sites.json` that was recorded with.
    pub sites: String,
    /// Sites that were attached: the others cannot appear.
    pub attached: Vec<SiteId>,
    /// Writes, sorted and unique but for `count`.
    pub pairs: Vec<Pair>,
    /// Indirect calls, sorted and unique but for `count`.
    pub calls: Vec<CallPair>,
    /// Objects given out while it ran, by the call that obtained them, sorted.
    pub allocations: Vec<SeenAllocation>,
    /// What was lost, by reason (`map full`, `nested program`); empty when nothing was.
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

/// What a write hit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenObject {
    /// The current stack; whether at or above the frame of the function that writes, and whether
    /// above the stack pointer noted at the innermost gate.
    Stack {
        /// Above the writing function's frame: an object of a caller.
        caller: bool,
        /// Above the innermost gate: an object of somebody outside.
        outside: bool,
    },
    /// Static storage of an image.
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
        /// Return address of the allocation; `None` when it is older than the recording.
        allocated_at: Option<CodePlace>,
    },
    /// Memory of the page allocator, compound or not.
    Pages {
        /// Bytes known to belong to the object, 4096 when nothing else is known.
        object_size: u64,
        /// The allocation's call chain, innermost first, as far as it was kept.
        allocated_at: Vec<CodePlace>,
    },
    /// A vmalloc area.
    Vmalloc {
        /// Bytes.
        object_size: u64,
        /// Return address that `vm_struct` keeps.
        allocated_at: Option<CodePlace>,
    },
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
    /// Bytes from the object's start (from the symbol for a global; 0 where there is no start).
    pub offset: u64,
    /// Bytes written; the greatest seen for a site of variable length.
    pub length: u64,
    /// How often.
    pub count: u64,
}

/// An indirect call and where it went.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallPair {
    /// Which call.
    pub call: CallSiteId,
    /// Where it led: `offset` of the symbol's start when it is one.
    pub target: CodePlace,
    /// How often.
    pub count: u64,
}

/// Objects of one allocating call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeenAllocation {
    /// Return address of the call.
    pub at: CodePlace,
    /// Cache.
    pub cache: String,
    /// Least and greatest bytes requested.
    pub requested: (u64, u64),
    /// How often.
    pub count: u64,
}
