//! Facts of one translation unit: what the whole-program step needs, free of LLVM.
//!
//! Types are rows of [`Facts::types`]; qualifiers and typedefs are stripped. A pointer is
//! described by the union of [`Path`]s that it may have.

use std::collections::BTreeSet;

use otf_artifact::analysis::WriteKind;
use serde::{Deserialize, Serialize};

/// Row of [`Facts::types`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TypeId(pub u32);

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
}

/// The type table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Types(pub Vec<Type>);

/// A type; typedefs and qualifiers are stripped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Type {
    /// `struct qfq_group`, `unsigned int`; empty for pointers, arrays and functions.
    pub name: String,
    /// Bytes; 0 for functions and incomplete types.
    pub size: u64,
    /// What it is made of.
    pub shape: Shape,
}

/// What a type is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// Number or enumeration.
    Scalar,
    /// Pointer; `None` for `void *`.
    Pointer(Option<TypeId>),
    /// Array; count 0 for a flexible one. Dimensions of the source are multiplied.
    Array {
        /// Element.
        element: TypeId,
        /// Bytes between elements.
        stride: u64,
        /// Elements.
        count: u64,
    },
    /// Function; `None` for `void`.
    Function {
        /// Return type.
        result: Option<TypeId>,
        /// Parameters, a variadic tail left out.
        parameters: Vec<Option<TypeId>>,
    },
    /// Structure or union.
    Record {
        /// File that defines it, relative to the kernel tree; empty when only declared.
        file: String,
        /// Members in order of declaration.
        members: Vec<Member>,
    },
}

/// A member of a structure or union.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// Name, empty for an anonymous structure or union.
    pub name: String,
    /// Bytes from the record's start (for a bit field, of the byte that holds its first bit).
    pub offset: u64,
    /// Type.
    pub ty: TypeId,
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
}

/// One way a pointer may have been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Path {
    /// Beginning.
    pub root: Root,
    /// How the memory is seen; `None` for `void *`.
    pub view: Option<View>,
}

/// Union of paths, sorted.
pub type Pointer = BTreeSet<Path>;

/// A pointer that is used as a pointer to a structure which its path does not contain there: an
/// untyped allocation, a private area, a `container_of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Flow {
    /// The pointer before the cast.
    pub from: Path,
    /// The structure.
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

impl Type {
    /// Mark in the name of a structure that the source does not name.
    pub(crate) const ANONYMOUS: &'static str = " at line ";

    /// Whether the source does not name the type.
    pub fn is_anonymous(&self) -> bool {
        self.name.contains(Self::ANONYMOUS)
    }
}

impl Types {
    /// Row of `void`, for places in memory without a type.
    pub const VOID: TypeId = TypeId(0);

    /// A table that holds `void` only.
    pub(crate) fn new() -> Self {
        Self(vec![Type {
            name: "void".into(),
            size: 1,
            shape: Shape::Scalar,
        }])
    }

    /// The type in a row.
    pub fn get(&self, id: TypeId) -> &Type {
        &self.0[id.0 as usize]
    }

    /// Whether the type is a structure or union.
    pub fn is_record(&self, id: TypeId) -> bool {
        matches!(self.get(id).shape, Shape::Record { .. })
    }

    /// What a pointer type points to.
    pub fn pointee(&self, id: TypeId) -> Option<TypeId> {
        match self.get(id).shape {
            Shape::Pointer(to) => to,
            _ => None,
        }
    }

    /// Types that lie at an offset of a type, outermost first, the type itself at offset 0
    /// included. In a union every member counts.
    pub fn at(&self, id: TypeId, offset: u64) -> Vec<TypeId> {
        let mut found = Vec::new();
        self.descend(id, offset, 0, &mut found);
        found
    }

    fn descend(&self, id: TypeId, offset: u64, depth: u32, found: &mut Vec<TypeId>) {
        if offset == 0 && !found.contains(&id) {
            found.push(id);
        }
        if depth > 24 {
            return;
        }
        let ty = self.get(id);
        match &ty.shape {
            Shape::Array {
                element, stride, ..
            } if *stride > 0 => self.descend(*element, offset % stride, depth + 1, found),
            Shape::Record { members, .. } => {
                for member in members {
                    let inner = self.get(member.ty);
                    let open_ended = matches!(inner.shape, Shape::Array { count: 0, .. });
                    if offset >= member.offset
                        && (offset < member.offset + inner.size.max(1) || open_ended)
                    {
                        self.descend(member.ty, offset - member.offset, depth + 1, found);
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether `inner` lies at an offset of `outer`; with an unknown offset, anywhere in it.
    pub fn contains(&self, outer: TypeId, offset: Option<i64>, inner: TypeId) -> bool {
        match offset {
            Some(offset) => u64::try_from(offset).is_ok_and(|o| self.at(outer, o).contains(&inner)),
            None => self.holds(outer, inner, 0),
        }
    }

    fn holds(&self, outer: TypeId, inner: TypeId, depth: u32) -> bool {
        outer == inner
            || depth < 24
                && match &self.get(outer).shape {
                    Shape::Array { element, .. } => self.holds(*element, inner, depth + 1),
                    Shape::Record { members, .. } => {
                        members.iter().any(|m| self.holds(m.ty, inner, depth + 1))
                    }
                    _ => false,
                }
    }
}
