//! `sites.json`: every machine instruction that is checked, its legal set and why. Written by the resolver.

use serde::{Deserialize, Serialize};

use crate::{
    Artifact,
    analysis::{Analysis, LegalSet, TargetSet},
    covered::Cover,
    diagnostic::Diagnostic,
    exact::Exact,
    ids::{AllocationSiteId, GateId, GlobalId, ImageId, LegalSetId, SiteId, TargetId, TargetSetId},
    places::Frame,
};

/// The sites of one compartment in its images. Carries the tables of the analysis it was joined
/// with; `legal_sets` here extends `analysis.legal_sets` by unions that the ladder made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sites {
    /// [`crate::FORMAT_VERSION`].
    pub version: u32,
    /// Images, the compartment's own first, `vmlinux` last.
    pub images: Vec<SiteImage>,
    /// Sites that write memory, sorted by (image, section, offset).
    pub sites: Vec<Site>,
    /// Sites that free an object, likewise; as rows they follow those that write.
    #[serde(default)]
    pub frees: Vec<Site>,
    /// Legal sets: rows of the analysis first, unions after them.
    pub legal_sets: Vec<LegalSet>,
    /// Indirect calls and jumps of the compartment, sorted by (image, section, offset).
    pub calls: Vec<CallSite>,
    /// Returns of the compartment, sorted by (image, section, offset).
    pub returns: Vec<ReturnSite>,
    /// Sets of call targets: rows of the analysis first, unions after them.
    pub target_sets: Vec<TargetSet>,
    /// Machine entries of call targets, sorted; a target of an image that was not given has none.
    pub target_symbols: Vec<TargetSymbol>,
    /// Where provenance is recorded, sorted by (image, section, offset).
    pub allocation_probes: Vec<AllocationProbe>,
    /// Allocation sites that have no probe and why: their objects stay without provenance.
    pub untracked_allocations: Vec<Untracked>,
    /// Calls of allocators in the compartment's code, sorted by (image, section, offset): what a
    /// private heap is made of.
    #[serde(default)]
    pub heap_calls: Vec<HeapCall>,
    /// Machine entries of the gates.
    pub gate_probes: Vec<GateProbe>,
    /// Machine entries of the functions whose parameters point to objects on stacks that legal
    /// sets name, sorted. What has no probe here is judged by [`PassedObject::otherwise`].
    #[serde(default)]
    pub passed_probes: Vec<PassedProbe>,
    /// Those that have none, with the reason, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unnoted_parameters: Vec<UnnotedParameter>,
    /// Machine ranges of globals, for the binder.
    pub global_symbols: Vec<GlobalSymbol>,
    /// Places where a probe can be a jump, sorted.
    #[serde(default)]
    pub jump_rooms: Vec<JumpRoom>,
    /// What was widened or could not be bound.
    pub diagnostics: Vec<Diagnostic>,
    /// The analysis (its `functions` are dropped: they are no longer needed).
    pub analysis: Analysis,
}

impl Artifact for Sites {
    const NAME: &'static str = "sites";
    fn version(&self) -> u32 {
        self.version
    }
}

/// An image that holds sites, allocation calls or globals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteImage {
    /// `vmlinux` or a module name.
    pub name: String,
    /// File name of the ELF, as in the lock.
    pub file: String,
    /// GNU build-id, hex.
    pub build_id: String,
    /// Code of the compartment in it, sorted; empty for an image that holds no site.
    pub text: Vec<TextSection>,
}

/// A range of compartment code.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TextSection {
    /// Section name; modules publish its address under /sys/module/NAME/sections.
    pub name: String,
    /// Bytes from the section's start (`vmlinux`: from `_text`) to the first one.
    #[serde(default)]
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// A place in an image that survives relocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Location {
    /// Image.
    pub image: ImageId,
    /// Section name; for `vmlinux` the offset is from the symbol `_text`.
    pub section: String,
    /// Bytes from the section's start (`vmlinux`: from `_text`).
    pub offset: u64,
    /// Symbol it lies in, for people.
    pub symbol: String,
    /// Bytes from the symbol's start.
    pub symbol_offset: u64,
}

/// What an instruction does to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteKind {
    /// One memory operand is written (plain, read-modify-write, atomic, SSE).
    Store,
    /// `bts`, `btr`, `btc` with a register index: writes at base + index / 8.
    BitString,
    /// `rep stos`, `rep movs`: a range at rdi.
    RepString,
    /// Call to a function that writes a range (`memcpy`, …).
    BulkCall,
    /// Call to a function that frees an object (`kfree`, …): its first byte counts as written.
    Free,
}

/// x86-64 general registers by their place in `struct pt_regs`' naming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Register {
    Ax,
    Bx,
    Cx,
    Dx,
    Si,
    Di,
    Bp,
    Sp,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    Ip,
}

impl Register {
    /// Those that hold arguments, in the order of arguments.
    pub const ARGUMENTS: [Self; 6] = [Self::Di, Self::Si, Self::Dx, Self::Cx, Self::R8, Self::R9];

    /// The number that DWARF gives it on x86-64.
    pub fn dwarf_number(self) -> Option<u16> {
        let number = match self {
            Self::Ax => 0,
            Self::Dx => 1,
            Self::Cx => 2,
            Self::Bx => 3,
            Self::Si => 4,
            Self::Di => 5,
            Self::Bp => 6,
            Self::Sp => 7,
            Self::R8 => 8,
            Self::R9 => 9,
            Self::R10 => 10,
            Self::R11 => 11,
            Self::R12 => 12,
            Self::R13 => 13,
            Self::R14 => 14,
            Self::R15 => 15,
            Self::Ip => return None,
        };
        Some(number)
    }

    /// The number by which instructions name it.
    pub fn encoding(self) -> Option<u8> {
        let number = match self {
            Self::Dx => 2,
            Self::Cx => 1,
            Self::Sp => 4,
            Self::Bp => 5,
            Self::Si => 6,
            Self::Di => 7,
            _ => return self.dwarf_number().and_then(|n| u8::try_from(n).ok()),
        };
        Some(number)
    }
}

/// A memory operand: `segment:[base + index * scale + displacement]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Operand {
    /// Base register; `Ip` with a displacement from the next instruction never appears: such an
    /// operand is proven to write a global.
    pub base: Option<Register>,
    /// Index register.
    pub index: Option<Register>,
    /// 1, 2, 4 or 8.
    pub scale: u8,
    /// Displacement.
    pub displacement: i64,
    /// The operand goes through gs: per-CPU.
    pub per_cpu: bool,
    /// Bit-string instruction: the register whose value / 8 (arithmetic, by operand size) is added.
    pub bit_index: Option<Register>,
}

/// How many bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// Always this many.
    Constant(u32),
    /// The value of a register, times a factor (`rep stosq`: `cx * 8`; memcpy: `dx * 1`).
    Register(Register, u32),
}

/// How a legal set was bound to the instruction: the precision ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// One write of the source.
    Instruction,
    /// Union over the line (with its inlining chain).
    Line,
    /// Union over the function.
    Function,
    /// Union over the compartment.
    Compartment,
}

/// How the site is covered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// A probe checks it.
    Probe,
    /// Proven legal from the operand alone; says how.
    Proven(String),
    /// Cannot be probed; says why.
    Unprobable(String),
}

/// Whether a call may be unwound from the site to its gate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unwind {
    /// Nothing that the compartment acquired since the gate can be held.
    Safe,
    /// Something may be held; says what.
    Held(String),
}

/// What deny gives back when it unwinds: counts, in whatever order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// RCU read sides to end.
    pub rcu: u8,
    /// Times to enable bottom halves.
    pub bottom_halves: u8,
    /// Gates (sorted) since which this is exactly what is held, on every path.
    pub gates: Vec<GateId>,
}

impl Release {
    /// In words: `2 RCU read sides, bottom halves`.
    pub fn describe(&self) -> String {
        let words = |count: u8, one: &str, many: &str| match count {
            0 => None,
            1 => Some(one.to_owned()),
            count => Some(format!("{count} {many}")),
        };
        let rcu = words(self.rcu, "an RCU read side", "RCU read sides");
        let halves = words(self.bottom_halves, "bottom halves", "times bottom halves");
        let all: Vec<String> = [rcu, halves].into_iter().flatten().collect();
        all.join(", ")
    }
}

/// What else deny does when it leaves the instruction out, so that a loop around it ends.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum OnSkip {
    /// Nothing.
    #[default]
    Nothing,
    /// Sets the zero flag: a compare-and-exchange looks successful.
    SetZero,
    /// Clears the carry flag: a bit test looks as if the bit had been clear.
    ClearCarry,
}

/// One machine instruction that is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Where.
    pub location: Location,
    /// What it does.
    pub kind: SiteKind,
    /// The instruction, for people.
    pub text: String,
    /// Bytes of the instruction.
    pub instruction_length: u8,
    /// Memory operand (for calls and `rep`: `[di]`).
    pub operand: Operand,
    /// Symbol (of the compartment's or another image) whose address, known at load, is added to
    /// the operand's displacement: `array(,%rax,8)`. Not set for a proven site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operand_symbol: Option<Location>,
    /// Register of the operand that points to the structure which the write must stay in (the
    /// same-object rule), where debug information says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_object: Option<Register>,
    /// Bytes written.
    pub length: Length,
    /// Callee of a bulk call.
    pub callee: Option<String>,
    /// Inlining chain, innermost first; never empty (a site without DWARF has one frame with line 0).
    pub chain: Vec<Frame>,
    /// Rung.
    pub precision: Precision,
    /// What the exact map said, where the file has one; of a site that the operand alone decides
    /// nothing was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exact: Option<Exact>,
    /// What it may write.
    pub legal: LegalSetId,
    /// How it is covered.
    pub coverage: Coverage,
    /// Why it needs no probe of its own, though it could have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered: Option<Cover>,
    /// Bytes from the stack pointer before the instruction to the frame's top (the return
    /// address), from call frame information; `None` when unknown.
    pub frame_size: Option<u32>,
    /// What of the own frame nobody writes but the function's first instructions.
    #[serde(default, skip_serializing_if = "Guarded::is_empty")]
    pub guarded: Guarded,
    /// Whether deny may unwind from here, whatever the gate.
    pub unwind: Unwind,
    /// Gates (sorted) to which it may, when they are the innermost ones: from them a direct path
    /// leads here, on none of which anything is acquired and kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unwind_gates: Vec<GateId>,
    /// What it gives back when it unwinds to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
    /// What deny does besides when it leaves the instruction out.
    #[serde(default)]
    pub on_skip: OnSkip,
    /// A call in tail position, by a jump: left out, the function has to return.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tail: bool,
}

/// Where the address of an indirect call or jump stands when the instruction is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallThrough {
    /// In this register: `call *%rax`, or the register of `__x86_indirect_thunk_rax`.
    Register(Register),
    /// In memory: `call *0x18(%rdx)`.
    Memory(Operand),
}

/// An indirect call or jump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallSite {
    /// Where.
    pub location: Location,
    /// The instruction, for people.
    pub text: String,
    /// Bytes of the instruction.
    pub instruction_length: u8,
    /// A jump: a call in tail position (or, with an unknown target, a jump table).
    pub jump: bool,
    /// Retpoline thunk that it goes through, `__x86_indirect_thunk_rax`.
    pub thunk: Option<String>,
    /// Where the target's address stands.
    pub through: CallThrough,
    /// Inlining chain, innermost first; never empty.
    pub chain: Vec<Frame>,
    /// Rung.
    pub precision: Precision,
    /// Where it may lead.
    pub targets: TargetSetId,
    /// How it is covered. A jump that is covered is a call in tail position: the stack pointer
    /// stands at the return address.
    pub coverage: Coverage,
    /// Gates (sorted) to which deny may unwind from here, as those of a [`Site`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unwind_gates: Vec<GateId>,
}

/// A return: legal is the address that the call pushed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnSite {
    /// Where.
    pub location: Location,
    /// Whether it is a jump to `__x86_return_thunk`.
    pub thunk: bool,
    /// How it is covered, where a policy wants returns checked.
    #[serde(default = "not_looked_at")]
    pub coverage: Coverage,
}

fn not_looked_at() -> Coverage {
    Coverage::Unprobable("an older release did not look".into())
}

/// The machine entry of a call target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TargetSymbol {
    /// Which target.
    pub target: TargetId,
    /// Its first instruction.
    pub location: Location,
}

/// Where provenance is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationProbe {
    /// Which allocation; more than one when copies of it were merged into one call.
    pub allocation: AllocationSiteId,
    /// The call instruction, where a size argument can be read.
    pub call: Location,
    /// The instruction after the call, where `ax` is the object.
    pub after: Location,
    /// Function called, as the object file names it.
    pub callee: String,
    /// Requested size in bytes when constant at this call.
    pub size: Option<u64>,
    /// Argument (from 0) of the call that holds the size, or the page order if `is_order`.
    pub size_argument: Option<u8>,
    /// Argument that the size is multiplied with.
    pub count_argument: Option<u8>,
    /// `size_argument` is a page order.
    pub is_order: bool,
    /// `ax` is a `struct page *`, not the address of the memory.
    pub returns_page: bool,
}

/// An allocation site without a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untracked {
    /// Which allocation.
    pub allocation: AllocationSiteId,
    /// Why.
    pub reason: String,
}

/// A direct call, or jump, to a function that obtains memory from general caches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapCall {
    /// The call instruction.
    pub location: Location,
    /// Function called, as the object file names it.
    pub callee: String,
    /// Why a private heap cannot serve it; without it, it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub general: Option<String>,
}

/// Words of a frame that only its function's first instructions write, below the slot of the return
/// address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarded {
    /// Registers of the caller that are saved directly below it.
    pub saved: u8,
    /// How many words below it the stack protector's value lies; 0: there is none, or it was not found.
    pub canary: u8,
}

impl Guarded {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The machine entry of a gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateProbe {
    /// Which gate.
    pub gate: GateId,
    /// First instruction of the function behind its ftrace site.
    pub location: Location,
}

/// Where a parameter is noted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PassedProbe {
    /// File that defines the function.
    pub file: String,
    /// The function.
    pub function: String,
    /// Its parameter, from 0.
    pub parameter: u16,
    /// Bytes of the object that it points to.
    pub size: u64,
    /// Register that holds it at the entry.
    pub register: Register,
    /// First instruction of the function behind its ftrace site.
    pub location: Location,
}

/// A parameter that legal sets name and that is noted nowhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnnotedParameter {
    /// File that defines the function.
    pub file: String,
    /// The function.
    pub function: String,
    /// Its parameter, from 0.
    pub parameter: u16,
    /// Why not.
    pub reason: String,
}

/// Straight code around a probed instruction: whole instructions that a jump can replace, for nothing
/// comes to one of them but to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Room {
    /// Bytes before the instruction: where the jump has to begin so that it fits.
    pub back: u8,
    /// Bytes from its first one on.
    pub ahead: u8,
}

/// A place where a probe can be a jump.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JumpRoom {
    /// As in a [`Location`].
    pub image: ImageId,
    /// As in a [`Location`].
    pub section: String,
    /// As in a [`Location`].
    pub offset: u64,
    /// What there is.
    pub room: Room,
}

/// The machine range of a global.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalSymbol {
    /// Which global.
    pub global: GlobalId,
    /// Section and offset (`vmlinux`: from `_text`; per-CPU: offset in the per-CPU area).
    pub location: Location,
    /// Bytes, from the symbol table.
    pub size: u64,
}

impl Sites {
    /// All sites by row: those that write, then those that free.
    pub fn all(&self) -> impl Iterator<Item = &Site> {
        self.sites.iter().chain(&self.frees)
    }

    /// Every place where a policy may want a probe; some more than once.
    pub fn probed_places(&self) -> impl Iterator<Item = &Location> {
        let wanted = |coverage: &Coverage| *coverage == Coverage::Probe;
        let sites = self.all().filter(move |site| wanted(&site.coverage));
        let calls = self.calls.iter().filter(move |call| wanted(&call.coverage));
        let returns = self
            .returns
            .iter()
            .filter(move |each| wanted(&each.coverage));
        let allocations = self.allocation_probes.iter();
        sites
            .map(|site| &site.location)
            .chain(calls.map(|call| &call.location))
            .chain(returns.map(|each| &each.location))
            .chain(allocations.flat_map(|probe| [&probe.call, &probe.after]))
            .chain(self.gate_probes.iter().map(|gate| &gate.location))
            .chain(self.passed_probes.iter().map(|passed| &passed.location))
    }

    /// The room of a jump at a place.
    pub fn room(&self, at: &Location) -> Option<Room> {
        let key = (at.image, at.section.as_str(), at.offset);
        let row = self
            .jump_rooms
            .binary_search_by(|room| (room.image, room.section.as_str(), room.offset).cmp(&key))
            .ok()?;
        Some(self.jump_rooms[row].room)
    }

    /// The site in a row.
    pub fn site(&self, id: SiteId) -> &Site {
        match id.index().checked_sub(self.sites.len()) {
            None => &self.sites[id.index()],
            Some(free) => &self.frees[free],
        }
    }
}
