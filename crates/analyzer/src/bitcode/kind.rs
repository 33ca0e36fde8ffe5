//! What values are, and how they are stored.

/// What an instruction or a constant expression does, as far as the analysis tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Add,
    AddrSpaceCast,
    Alloca,
    And,
    AtomicCmpXchg,
    AtomicRMW,
    BitCast,
    Call,
    CallBr,
    ExtractValue,
    Freeze,
    GetElementPtr,
    ICmp,
    IntToPtr,
    Load,
    Or,
    Phi,
    PtrToInt,
    Ret,
    SExt,
    Select,
    Store,
    Sub,
    Xor,
    ZExt,
    Other,
}

/// What a value is, as far as the analysis tells values apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Instruction(Opcode),
    Expression(Opcode),
    Argument,
    Function,
    Global,
    Alias,
    Integer,
    Null,
    Aggregate,
    Data,
    Assembly,
    Other,
}

/// How a parameter is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passing {
    /// By value.
    Plain,
    /// As the address of the caller's copy.
    Copy,
    /// As the address of the room for the result.
    Result,
}

/// A value as it is stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) ty: u32,
    /// Rows of [`Module::operands`].
    pub(super) first: u32,
    pub(super) count: u32,
    /// What the kind has beside operands: the row of a global, function, alias or assembly, the two
    /// halves of an integer, begin and length of a string, a type, a call's type and attributes.
    pub(super) more: [u32; 2],
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Row {
    pub(super) fn new(kind: Kind, ty: u32, more: [u32; 2]) -> Self {
        Self {
            kind,
            ty,
            first: 0,
            count: 0,
            more,
            line: 0,
            column: 0,
        }
    }
}
