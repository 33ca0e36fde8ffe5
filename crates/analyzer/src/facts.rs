//! Facts of one translation unit: what the whole-program step needs, free of LLVM.
//!
//! Types are rows of [`Facts::types`]; qualifiers and typedefs are stripped. A pointer is
//! described by the union of [`Path`]s that it may have.

use otf_artifact::analysis::WriteKind;
use serde::{Deserialize, Serialize};

pub use crate::pointer::Pointer;
pub use crate::slots::Slots;
pub use crate::types::{Member, Shape, Type, TypeId, Types};

/// Facts of one translation unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Source file, relative to the kernel tree.
    pub source: String,
    /// Types.
    pub types: Types,
    /// Functions with a body, in module order.
    pub functions: Vec<FunctionFacts>,
    /// Global variables, declared ones too, in module order.
    pub globals: Vec<GlobalFacts>,
    /// Places where a function's address is taken, sorted.
    pub references: Vec<Reference>,
    /// Exported symbols, sorted.
    pub exports: Vec<String>,
    /// Function pointers.
    pub slots: Slots,
}

/// Where a pointer points into: the outermost type known at the pointer and the way from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct View {
    /// Type that the pointed-to memory begins with.
    pub ty: TypeId,
    /// Bytes from its start, variable array indices taken as 0; `None` when unknown.
    pub offset: Option<i64>,
}

/// What a pointer was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Root {
    /// Object in the frame of this function.
    Local,
    /// Parameter of this function, from 0 as the source counts.
    Parameter(u16),
    /// Room for the result that the caller provides.
    Result,
    /// Row of [`Facts::globals`].
    Global(u32),
    /// Row of [`FunctionFacts::calls`]: the call's result.
    Call(u32),
    /// Loaded from memory, or cast from a pointer to another structure.
    Memory(Source),
    /// Constant address, such as a null pointer.
    Constant,
    /// Per-CPU memory through the segment register.
    PerCpu,
    /// Made by arithmetic or assembly that is not followed.
    Unknown,
}

/// A pointer variable with static storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Variable {
    /// Row of [`Facts::globals`].
    pub global: u32,
    /// Bytes from the global's start.
    pub offset: u32,
}

/// Where a pointer was loaded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Source {
    /// Somewhere.
    Somewhere,
    /// This variable.
    Global(Variable),
    /// This member of a structure; told for pointers to `void` and to slab caches only.
    Member(Holder),
}

/// A member of a structure, for all objects of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// Structure that a pointer leads to.
    pub record: TypeId,
    /// Bytes from its start, array indices taken as 0.
    pub offset: u32,
}

/// How far a pointer may have gone from what its root leads to. Told for parameters; of anything
/// else the way says nothing about bounds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Reach {
    /// At a fixed place in the object, or at any element where the object is an array of scalars.
    #[default]
    Object,
    /// Into an array that is a member: its elements are in the object.
    Array,
    /// Perhaps out of the object: an element beside it, `container_of`, arithmetic.
    Strayed,
}

/// One way a pointer may have been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Path {
    /// Beginning.
    pub root: Root,
    /// How far it has gone from there.
    pub reach: Reach,
    /// How the memory is seen; `None` for `void *`.
    pub view: Option<View>,
}

/// A pointer that is used as a pointer to a structure which its path does not contain there: an
/// untyped allocation, a private area, a `container_of`. For a `void *` from a call, a parameter or a
/// member also a use as a pointer to something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Flow {
    /// The pointer before the cast.
    pub from: Path,
    /// What it is used as a pointer to.
    pub to: TypeId,
}

/// An integer, as far as it is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Integer {
    /// Known.
    Constant(i64),
    /// This parameter of the function, unchanged.
    Parameter(u16),
    /// Computed.
    Unknown,
}

/// An argument of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argument {
    /// Where it points; empty when it is no pointer.
    pub pointer: Pointer,
    /// Its value, for integers.
    pub integer: Integer,
    /// Text of a constant string.
    pub text: Option<String>,
    /// Whether its type is a pointer.
    pub is_pointer: bool,
}

/// A write of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteFacts {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
    /// Kind.
    pub kind: WriteKind,
    /// Bytes, 0 when not constant.
    pub size: u64,
    /// Where.
    pub pointer: Pointer,
    /// Whether the address may be the user's.
    pub user: UserAccess,
}

/// Whether a write goes through the functions that access user memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UserAccess {
    /// A write of kernel memory.
    No,
    /// Assembly that serves both directions.
    Possible,
    /// A write of user memory and nothing else.
    Only,
}

/// A call of the source; inline assembly and intrinsics are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFacts {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
    /// Symbol called; `None` for an indirect call.
    pub callee: Option<String>,
    /// Arguments, as the source counts them.
    pub arguments: Vec<Argument>,
}

/// A function with a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionFacts {
    /// Symbol.
    pub symbol: String,
    /// Name in the source.
    pub name: String,
    /// File that defines it, relative to the kernel tree.
    pub file: String,
    /// Line of the definition.
    pub line: u32,
    /// Not visible outside the translation unit.
    pub internal: bool,
    /// Declared types of the parameters; `None` when there is no debug information.
    pub parameters: Vec<Option<TypeId>>,
    /// Declared return type; `None` for `void`.
    pub result: Option<TypeId>,
    /// Types of objects in its frame that are structures or hold some, sorted.
    pub locals: Vec<TypeId>,
    /// Writes.
    pub writes: Vec<WriteFacts>,
    /// Calls.
    pub calls: Vec<CallFacts>,
    /// What it may return.
    pub returns: Pointer,
    /// Casts, sorted.
    pub flows: Vec<Flow>,
    /// Pointers stored in variables with static storage, sorted.
    pub stored: Vec<(Variable, Path)>,
    /// Pointers stored in members that hold a pointer to `void` or to a slab cache, and pointers to
    /// `void` stored in others; sorted.
    pub kept: Vec<(Holder, Path)>,
}

impl FunctionFacts {
    /// Casts of what a call returned.
    pub fn casts_of(&self, call: u32) -> &[Flow] {
        // Sorted by the path, which begins with its root.
        let root = Root::Call(call);
        let start = self.flows.partition_point(|flow| flow.from.root < root);
        let rest = &self.flows[start..];
        &rest[..rest.partition_point(|flow| flow.from.root == root)]
    }
}

/// A global variable.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent properties of a symbol"
)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalFacts {
    /// Symbol.
    pub symbol: String,
    /// Declared type, where debug information or the IR names one.
    pub ty: Option<TypeId>,
    /// File that defines it; empty for a declaration.
    pub file: String,
    /// Bytes, 0 for a declaration.
    pub size: u64,
    /// Read-only.
    pub constant: bool,
    /// Per-CPU variable.
    pub per_cpu: bool,
    /// Has storage in this translation unit.
    pub defined: bool,
    /// Not visible outside the translation unit.
    pub internal: bool,
}

/// How a function's address becomes known to others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Use {
    /// In a member of a structure: the structure and the member's name.
    Member(TypeId, String),
    /// As an argument of a call to this function.
    Argument(String),
    /// Kept somewhere without a name.
    Stored,
    /// Module or boot-time initialisation.
    Initcall,
    /// Module removal.
    Exitcall,
}

/// A place where a function's address is taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reference {
    /// Symbol of the function.
    pub function: String,
    /// How.
    pub by: Use,
}
