//! Function pointers of one translation unit: where they are kept, how they get there, and the
//! calls that go through them.
//!
//! A *place* holds function pointers: a member of a structure (one place for all objects of the
//! type), a variable, a parameter, a result. Flows between places are kept only where the places
//! are declared as pointers to functions; a pointer that comes from anything else is
//! [`Place::Unknown`] and stands for every function of the right signature.

use serde::{Deserialize, Serialize};

/// Row of [`Slots::names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NameId(pub u32);

/// Function pointers of one translation unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// Symbols, types, members, files, signatures: each text once.
    pub names: Vec<String>,
    /// Members that [`Place::Member`] names.
    pub members: Vec<MemberSlot>,
    /// From the first place to the second, sorted.
    pub flows: Vec<(Place, Place)>,
    /// Calls through pointers, in module order.
    pub calls: Vec<PointerCall>,
    /// Signatures of external functions with a body and of those whose address is taken:
    /// symbol and signature, sorted.
    pub signatures: Vec<(NameId, NameId)>,
}

/// A structure, by its name and the file that defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordName {
    /// `struct Qdisc_ops`.
    pub name: NameId,
    /// File, relative to the kernel tree.
    pub file: NameId,
}

/// A function pointer in a structure. The two layers of multi-layer type analysis (Lu and Hu,
/// CCS 2019): the innermost structure with a name, and the member of another structure that holds
/// it, where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberSlot {
    /// Innermost structure with a name.
    pub record: RecordName,
    /// Way to the pointer from there, `nested.member`.
    pub member: NameId,
    /// The structure around it and the member that it is.
    pub outer: Option<(RecordName, NameId)>,
    /// Declared signature.
    pub signature: NameId,
}

/// Why nothing is known about where a function pointer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Unknown {
    /// It was kept as `void *` or as an integer.
    Untyped,
    /// It was a pointer to data: code that is made at run time.
    Data,
    /// Arithmetic or assembly made it.
    Computed,
}

/// Something that holds a function pointer, or is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Place {
    /// The function with this symbol.
    Function(NameId),
    /// Row of [`Slots::members`].
    Member(u32),
    /// Row of the unit's globals.
    Variable(u32),
    /// Parameter, from 0, of the function with this symbol.
    Parameter(NameId, u16),
    /// What the function with this symbol returns.
    Result(NameId),
    /// Argument, from 0, of some call through a pointer; with the signature of what is passed.
    Passed(u16, NameId),
    /// Any function of this signature, if one is known.
    Unknown(Unknown, Option<NameId>),
}

/// A call through a pointer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PointerCall {
    /// Symbol of the function that calls.
    pub function: NameId,
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
    /// Where the pointer comes from, sorted.
    pub from: Vec<Place>,
}

impl Slots {
    /// A text.
    pub fn name(&self, id: NameId) -> &str {
        &self.names[id.0 as usize]
    }
}
