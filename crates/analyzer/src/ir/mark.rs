//! Marks on instructions: a debug location and a memory scope of their own. With the text of
//! assembly the only thing that is changed in a module, for a shadow of its object.
//!
//! A pass that merges two instructions gives the result no line, where the lines differ, and only
//! those scopes that both had. A pass that makes a new one gives it the line of some neighbour, and
//! no scope at all. So where both marks agree, it is the one instruction.

use std::ffi::CStr;

#[cfg_attr(
    not(test),
    expect(
        clippy::wildcard_imports,
        reason = "each function is named LLVM-something"
    )
)]
use inkwell::llvm_sys::{bit_writer::*, core::*, debuginfo::*, prelude::*};

use crate::{
    bitcode::Kind,
    extract::Ir as _,
    ir::{Module, Value},
};

/// What the scopes are called; the number follows.
const SCOPE: &str = "otf ";
/// Metadata that says which scopes an access stays out of. As none of ours is ever an access' own,
/// it tells alias analysis nothing.
const NOALIAS: &CStr = c"noalias";

impl Module {
    fn noalias(&self) -> u32 {
        let name = NOALIAS.to_bytes();
        llvm!(LLVMGetMDKindIDInContext(
            self.context,
            NOALIAS.as_ptr(),
            name.len() as u32
        ))
    }

    fn string(&self, text: &str) -> LLVMMetadataRef {
        llvm!(LLVMMDStringInContext2(
            self.context,
            text.as_ptr().cast(),
            text.len()
        ))
    }

    fn tuple(&self, operands: &mut [LLVMMetadataRef]) -> LLVMMetadataRef {
        llvm!(LLVMMDNodeInContext2(
            self.context,
            operands.as_mut_ptr(),
            operands.len()
        ))
    }

    /// Gives an instruction the line `mark`, and with `scope` the memory scope of that number.
    /// Whether it has a debug location that could be changed.
    pub(crate) fn mark(&self, instruction: Value<'_>, mark: u32, scope: bool) -> bool {
        let old = llvm!(LLVMInstructionGetDebugLoc(instruction.raw));
        if old.is_null() {
            return false;
        }
        llvm!({
            let new = LLVMDIBuilderCreateDebugLocation(
                self.context,
                mark,
                1,
                LLVMDILocationGetScope(old),
                LLVMDILocationGetInlinedAt(old),
            );
            LLVMInstructionSetDebugLoc(instruction.raw, new);
        });
        if scope {
            let domain = self.tuple(&mut [self.string(SCOPE.trim_end())]);
            let scope = self.tuple(&mut [self.string(&format!("{SCOPE}{mark}")), domain]);
            let list = self.tuple(&mut [scope]);
            llvm!({
                let value = LLVMMetadataAsValue(self.context, list);
                LLVMSetMetadata(instruction.raw, self.noalias(), value);
            });
        }
        true
    }

    /// Whether an instruction still has the memory scope of this number.
    pub(crate) fn has_scope(&self, instruction: Value<'_>, mark: u32) -> bool {
        let list = llvm!(LLVMGetMetadata(instruction.raw, self.noalias()));
        let Some(list) = Value::some(list) else {
            return false;
        };
        let wanted = format!("{SCOPE}{mark}");
        let scopes = Self::operands(list).into_iter().flatten();
        scopes
            .filter_map(|scope| Self::operands(scope).into_iter().next().flatten())
            .any(|name| name.meta_string().as_deref() == Some(wanted.as_str()))
    }

    /// The module as bitcode.
    pub(crate) fn write(&self) -> Vec<u8> {
        llvm!({
            let buffer = LLVMWriteBitcodeToMemoryBuffer(self.raw);
            let start = LLVMGetBufferStart(buffer).cast::<u8>();
            let bytes = std::slice::from_raw_parts(start, LLVMGetBufferSize(buffer)).to_vec();
            LLVMDisposeMemoryBuffer(buffer);
            bytes
        })
    }
}

impl Value<'_> {
    /// Gives a call of inline assembly another text.
    pub(crate) fn set_assembly(self, text: &str) {
        let Some(old) = self.callee().filter(|c| c.kind() == Kind::Assembly) else {
            return;
        };
        let (constraints, _) = old.assembly();
        llvm!({
            let new = LLVMGetInlineAsm(
                LLVMGetInlineAsmFunctionType(old.raw),
                text.as_ptr().cast(),
                text.len(),
                constraints.as_ptr().cast(),
                constraints.len(),
                LLVMGetInlineAsmHasSideEffects(old.raw),
                LLVMGetInlineAsmNeedsAlignedStack(old.raw),
                LLVMGetInlineAsmDialect(old.raw),
                LLVMGetInlineAsmCanUnwind(old.raw),
            );
            // What is called is the last operand.
            LLVMSetOperand(self.raw, self.operand_count().saturating_sub(1), new);
        });
    }
}
