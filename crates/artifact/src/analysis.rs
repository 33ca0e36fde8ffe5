//! `analysis.json`: what the source allows, by source place. Written by the analyzer.

use serde::{Deserialize, Serialize};

use crate::{
    Artifact,
    diagnostic::Diagnostic,
    ids::{AllocationSiteId, GlobalId, LegalSetId, ObjectTypeId, TargetId, TargetSetId},
};

/// The whole-program result for one compartment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analysis {
    /// [`crate::FORMAT_VERSION`].
    pub version: u32,
    /// Kernel profile.
    pub kernel: String,
    /// Compartment, with `@overlay` when one was applied.
    pub compartment: String,
    /// Object types, sorted by (name, file).
    pub types: Vec<ObjectType>,
    /// Globals that appear in a legal set, sorted by (image, symbol).
    pub globals: Vec<Global>,
    /// Calls that obtain heap objects that appear in a legal set, inside and outside the
    /// compartment, sorted by (file, line, column, function).
    pub allocation_sites: Vec<AllocationSite>,
    /// Distinct legal sets, sorted.
    pub legal_sets: Vec<LegalSet>,
    /// Functions that an indirect call of the compartment may reach, sorted.
    pub targets: Vec<CallTarget>,
    /// Distinct sets of targets of indirect calls, sorted.
    pub target_sets: Vec<TargetSet>,
    /// Functions that may be inlined into or be part of the compartment's code, sorted by (file, name).
    pub functions: Vec<Function>,
    /// Entries of the compartment, sorted by (file, function).
    pub gates: Vec<Gate>,
    /// Union of every legal set of the compartment's writes: the last rung of the ladder.
    pub compartment_set: LegalSetId,
    /// What could not be decided, and what it was widened to.
    pub diagnostics: Vec<Diagnostic>,
}

impl Artifact for Analysis {
    const NAME: &'static str = "analysis";
    fn version(&self) -> u32 {
        self.version
    }
}

/// A type that objects in memory have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectType {
    /// `struct qfq_group`; a synthetic type is named `alloc:FILE:LINE`.
    pub name: String,
    /// File that defines it (relative to the kernel tree), empty for synthetic ones.
    pub file: String,
    /// Size in bytes.
    pub size: u64,
}

/// A variable with static storage that may be written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Global {
    /// `vmlinux` or a module name.
    pub image: String,
    /// Symbol in that image.
    pub symbol: String,
    /// Source file that defines it, empty when only declared in what was read.
    pub file: String,
    /// Size in bytes, 0 when only declared (then the symbol table decides).
    pub size: u64,
    /// A per-CPU variable: the symbol is an offset, not an address.
    pub per_cpu: bool,
}

/// How an allocator gives out memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// `kmem_cache_alloc*`: a dedicated cache.
    Slab,
    /// `kmalloc*` and its wrappers: general caches, large ones from the page allocator.
    Kmalloc,
    /// `kvmalloc*`: kmalloc or vmalloc.
    Kvmalloc,
    /// `vmalloc*`.
    Vmalloc,
    /// `alloc_pages*`, `__get_free_pages*`, page fragments.
    Pages,
    /// `alloc_percpu*`: not the object itself but one copy per CPU.
    PerCpu,
}

/// A call instruction that obtains a heap object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AllocationSite {
    /// File of the call.
    pub file: String,
    /// Line of the call.
    pub line: u32,
    /// Column of the call.
    pub column: u32,
    /// Source function that contains the call.
    pub function: String,
    /// Function called, as the object file names it (`__kmalloc_noprof`).
    pub callee: String,
    /// Image whose code contains the call.
    pub image: String,
    /// Kind of allocator.
    pub family: Family,
    /// Name of the dedicated cache, where known.
    pub cache: Option<String>,
    /// Requested size in bytes when constant.
    pub size: Option<u64>,
    /// Which argument of the callee holds the size (or, for `Pages`, the order), from 0.
    pub size_argument: Option<u8>,
    /// A second argument that the size is multiplied with (`kcalloc`, `kmalloc_array`).
    pub count_argument: Option<u8>,
    /// Types of the object; empty when unknown.
    pub types: Vec<ObjectTypeId>,
    /// For people: what in the source says that the object has each of its structure types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<String>,
    /// Whether the call is in a confined file.
    pub confined: bool,
}

/// Where on stacks a write may go.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum StackRule {
    /// Nowhere.
    #[default]
    None,
    /// Only into the frame of the function that executes the store.
    Own,
    /// Into the frames of the compartment: below the stack pointer noted at the gate.
    Compartment,
    /// Anywhere on a kernel stack, callers' objects included.
    Any,
}

/// `count` elements at a distance of `stride` bytes; `count` is 0 for a flexible array (the object's end bounds it).
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Dimension {
    /// Bytes between elements.
    pub stride: u64,
    /// Elements; 0 for as many as fit.
    pub count: u64,
}

/// A legal place in a heap object: the layout rule.
///
/// A write `[a, a + n)` into an object at `o` is in this place iff with `r = a - o - offset`
/// reduced by a whole number of strides per dimension, `r + n <= size`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HeapPlace {
    /// Type that is written.
    pub target: ObjectTypeId,
    /// Type of the whole object (equal to `target` where the object is one).
    pub container: ObjectTypeId,
    /// Bytes from the object's start to the first element.
    pub offset: u64,
    /// At most two, outermost first; deeper nests are flattened by widening.
    pub dimensions: Vec<Dimension>,
    /// Bytes that may be written from the element's start; [`HeapPlace::TO_END`] for all that follow.
    pub size: u64,
    /// Calls that can produce the object, sorted. Never empty.
    pub allocation_sites: Vec<AllocationSiteId>,
    /// Least number of bytes that the object was requested with.
    pub object_min: u64,
    /// Exact requested size when every allocation site has the same constant one.
    pub object_size: Option<u64>,
}

impl HeapPlace {
    /// As `size`: to the object's end, wherever that is.
    pub const TO_END: u64 = u32::MAX as u64;
}

/// An object that somebody handed to a function of the compartment by pointer: on a stack nothing
/// else is legal where a write's pointer came in that way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PassedObject {
    /// File that defines the function.
    pub file: String,
    /// The function.
    pub function: String,
    /// Its parameter, from 0.
    pub parameter: u16,
    /// Bytes from where the parameter points.
    pub size: u64,
    /// What holds instead where the function's entry cannot be noted.
    pub otherwise: StackRule,
}

/// What a write may change. A superset of what the source allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LegalSet {
    /// Types written, sorted.
    pub types: Vec<ObjectTypeId>,
    /// Stack rule.
    pub stack: StackRule,
    /// Objects on stacks that are legal beside the rule, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed: Vec<PassedObject>,
    /// Globals (whole variables), sorted.
    pub globals: Vec<GlobalId>,
    /// Places in heap objects, sorted.
    pub heap: Vec<HeapPlace>,
    /// Any heap object, within its bounds: not every container of the type is known. Says why.
    pub any_heap: Option<String>,
    /// Any global that is not read-only. Says why.
    pub any_global: Option<String>,
    /// Per-CPU memory.
    pub per_cpu: bool,
    /// User memory, through the user-access functions only.
    pub user: bool,
}

impl LegalSet {
    /// The stack rule where no entry of a function was noted: [`LegalSet::passed`] as rules.
    pub fn stack_without_notes(&self) -> StackRule {
        let rules = self.passed.iter().map(|object| object.otherwise);
        rules.max().unwrap_or_default().max(self.stack)
    }

    /// Whether the set allows no write at all.
    pub fn is_empty(&self) -> bool {
        let Self {
            // Types alone allow nothing: they say what the places hold.
            types: _,
            stack,
            passed,
            globals,
            heap,
            any_heap,
            any_global,
            per_cpu,
            user,
        } = self;
        *stack == StackRule::None
            && passed.is_empty()
            && globals.is_empty()
            && heap.is_empty()
            && any_heap.is_none()
            && any_global.is_none()
            && !per_cpu
            && !user
    }
}

/// What kind of write the source has at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteKind {
    /// A plain store.
    Store,
    /// An atomic or other read-modify-write.
    Atomic,
    /// `memcpy`, `memset`, a structure assignment, a user copy: a range.
    Bulk,
    /// An output of inline assembly.
    Asm,
}

/// Where a pointer leads, as far as one function can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Derived from this parameter (from 0) of the enclosing function: the caller knows more.
    /// `otherwise` is the legal set when the caller is not known (not inlined).
    Parameter {
        /// Parameter, from 0.
        index: u16,
        /// Set by declared type and all known callers.
        otherwise: LegalSetId,
        /// The pointer may leave the object that the parameter points into.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        strays: bool,
    },
    /// Independent of the caller.
    Set(LegalSetId),
}

/// A write of the source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Write {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
    /// Kind.
    pub kind: WriteKind,
    /// Bytes; 0 when not constant.
    pub size: u64,
    /// What may be written.
    pub target: Target,
    /// The same narrowed to the field that is written, for a store that is known to be this write
    /// and nothing else: of exactly `size` bytes, bound at the first rung.
    pub field: Option<LegalSetId>,
    /// How the source makes the address, for people; one line for each way, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pointer: Vec<String>,
}

/// A direct call of the source, for the walk through inlining chains.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Call {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
    /// Callee's source name.
    pub callee: String,
    /// Where each argument leads; `None` for one that is no pointer.
    pub arguments: Vec<Option<Target>>,
}

/// A function whose address is taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallTarget {
    /// `vmlinux` or a module name.
    pub image: String,
    /// Symbol in that image, as the object file names it.
    pub symbol: String,
    /// File that defines it (tells apart static functions of one name); empty when only declared
    /// in what was read.
    pub file: String,
}

/// Where an indirect call may lead. A superset of what the source allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetSet {
    /// Targets, sorted.
    pub targets: Vec<TargetId>,
    /// Any function whose address is taken: the flow of the pointer is not known. Says why.
    pub any: Option<String>,
}

/// An indirect call of the source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IndirectCall {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
    /// Where the function pointer comes from, for people: `struct Qdisc_ops.enqueue`.
    pub through: String,
    /// Where it may lead.
    pub targets: TargetSetId,
}

/// A function of the source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Function {
    /// File that defines it (headers too).
    pub file: String,
    /// Name in the source.
    pub name: String,
    /// Line of the definition.
    pub line: u32,
    /// Writes, sorted.
    pub writes: Vec<Write>,
    /// Direct calls, sorted.
    pub calls: Vec<Call>,
    /// Indirect calls, sorted.
    pub indirect_calls: Vec<IndirectCall>,
}

/// What a gate gives back when it refuses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refusal {
    /// Value for `rax`.
    pub value: i64,
    /// How the source would spell it: `NET_XMIT_DROP`, `-EIO`, `NULL`, `void`.
    pub name: String,
}

/// An entry of the compartment: a function that others can call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gate {
    /// File that defines the function.
    pub file: String,
    /// Function name.
    pub function: String,
    /// How others reach it: `Qdisc_ops.enqueue`, `export`, `callback of timer_setup`, `initcall`.
    pub reached_by: Vec<String>,
    /// Parameter (from 0) that is the instance; `None`: the whole compartment is the instance.
    pub instance_argument: Option<u8>,
    /// Its pointee, `struct Qdisc`.
    pub instance_type: Option<String>,
    /// What is returned on refusal.
    pub refusal: Refusal,
}
