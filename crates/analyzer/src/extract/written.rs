//! What an instruction of bitcode writes: the one answer for facts and for the exact map.

use otf_artifact::analysis::WriteKind;

use crate::{
    facts::UserAccess,
    ir::{Kind, Module, Opcode, Value},
    tables::range_writer,
};

/// Kind and size (0 when not constant) of the write that an instruction is. Of assembly this says
/// only that it may be one.
pub(crate) fn written(module: &Module, instruction: Value<'_>) -> Option<(WriteKind, u64)> {
    let Kind::Instruction(opcode) = instruction.kind() else {
        return None;
    };
    match opcode {
        Opcode::LLVMStore => Some((WriteKind::Store, stored(module, instruction, 0))),
        Opcode::LLVMAtomicRMW | Opcode::LLVMAtomicCmpXchg => {
            Some((WriteKind::Atomic, stored(module, instruction, 1)))
        }
        Opcode::LLVMCall | Opcode::LLVMCallBr => {
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

/// Bytes of the value that is operand `index`.
pub(super) fn stored(module: &Module, instruction: Value<'_>, index: u32) -> u64 {
    let value = instruction.operand(index);
    value.map_or(0, |v| module.size_of(v.ty()))
}

/// A call that writes a range.
pub(super) struct Range<'m> {
    /// Its start.
    pub to: Value<'m>,
    /// Bytes; 0 when not constant.
    pub size: u64,
    /// Whether it may be the user's.
    pub user: UserAccess,
}

/// The range that a call writes: a memory intrinsic, or a function known to write one.
pub(super) fn range<'m>(call: Value<'m>, callee: Value<'m>) -> Option<Range<'m>> {
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
