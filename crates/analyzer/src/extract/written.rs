//! What an instruction of bitcode writes: the one answer for facts and for the exact map.

use otf_artifact::analysis::WriteKind;

use crate::{
    bitcode::{Kind, Opcode, Value},
    facts::UserAccess,
    tables::range_writer,
};

/// What has to be known of a value. Facts ask what was read, the exact map LLVM's own form, as it
/// changes it.
pub(crate) trait Ir: Copy {
    fn kind(self) -> Kind;
    fn operand(self, index: u32) -> Option<Self>;
    /// Bytes of the operand of an instruction.
    fn operand_size(self, index: u32) -> u64;
    fn integer(self) -> Option<i64>;
    /// What a call calls.
    fn callee(self) -> Option<Self>;
    /// Symbol.
    fn name(self) -> String;
    /// Whether the symbol begins so.
    fn begins(self, prefix: &str) -> bool;
    fn is_declaration(self) -> bool;
}

impl Ir for Value<'_> {
    fn kind(self) -> Kind {
        Value::kind(self)
    }

    fn operand(self, index: u32) -> Option<Self> {
        Value::operand(self, index)
    }

    fn operand_size(self, index: u32) -> u64 {
        Value::operand(self, index).map_or(0, |v| v.ty().size())
    }

    fn integer(self) -> Option<i64> {
        Value::integer(self)
    }

    fn callee(self) -> Option<Self> {
        Value::callee(self)
    }

    fn name(self) -> String {
        Value::name(self)
    }

    fn begins(self, prefix: &str) -> bool {
        Value::begins(self, prefix)
    }

    fn is_declaration(self) -> bool {
        Value::is_declaration(self)
    }
}

/// Kind and size (0 when not constant) of the write that an instruction is. Of assembly this says
/// only that it may be one.
pub(crate) fn written<C: Ir>(instruction: C) -> Option<(WriteKind, u64)> {
    let Kind::Instruction(opcode) = instruction.kind() else {
        return None;
    };
    match opcode {
        Opcode::Store => Some((WriteKind::Store, instruction.operand_size(0))),
        Opcode::AtomicRMW | Opcode::AtomicCmpXchg => {
            Some((WriteKind::Atomic, instruction.operand_size(1)))
        }
        Opcode::Call | Opcode::CallBr => {
            let callee = instruction.callee()?;
            match callee.kind() {
                Kind::Assembly => Some((WriteKind::Asm, 0)),
                Kind::Function => {
                    range(instruction, callee).map(|range| (WriteKind::Bulk, range.size))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// A call that writes a range.
pub(super) struct Range<C> {
    /// Its start.
    pub to: C,
    /// Bytes; 0 when not constant.
    pub size: u64,
    /// Whether it may be the user's.
    pub user: UserAccess,
}

/// The range that a call writes: a memory intrinsic, or a function known to write one.
pub(super) fn range<C: Ir>(call: C, callee: C) -> Option<Range<C>> {
    let (destination, length, user) = if ["llvm.memcpy.", "llvm.memmove.", "llvm.memset."]
        .iter()
        .any(|p| callee.begins(p))
    {
        (0, Some(2), UserAccess::No)
    } else if callee.is_declaration()
        && let Some(writer) = range_writer(&callee.name())
    {
        let user = if writer.user {
            UserAccess::Only
        } else {
            UserAccess::No
        };
        (
            u32::from(writer.destination),
            writer.length.map(u32::from),
            user,
        )
    } else {
        return None;
    };
    let size = length.and_then(|i| call.operand(i)?.integer()).unwrap_or(0);
    Some(Range {
        to: call.operand(destination)?,
        size: size.max(0) as u64,
        user,
    })
}
