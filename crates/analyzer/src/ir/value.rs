//! Values: functions, instructions and what these use.

use std::marker::PhantomData;

use inkwell::llvm_sys::target::{LLVMABISizeOfType, LLVMGetModuleDataLayout};
#[cfg_attr(
    not(test),
    expect(
        clippy::wildcard_imports,
        reason = "each function is named LLVM-something"
    )
)]
use inkwell::llvm_sys::{LLVMOpcode, LLVMValueKind, core::*, debuginfo::*, prelude::*};

use crate::{
    bitcode::{Kind, Opcode},
    extract::Ir,
    ir::{Module, text},
};

/// A value of a module.
#[derive(Clone, Copy)]
pub(crate) struct Value<'m> {
    pub(super) raw: LLVMValueRef,
    module: PhantomData<&'m Module>,
}

impl<'m> Value<'m> {
    pub(super) fn some(raw: LLVMValueRef) -> Option<Self> {
        (!raw.is_null()).then_some(Self {
            raw,
            module: PhantomData,
        })
    }

    /// Text of a metadata string.
    pub(crate) fn meta_string(self) -> Option<String> {
        if llvm!(LLVMIsAMDString(self.raw)).is_null() {
            return None;
        }
        let mut length = 0;
        let pointer = llvm!(LLVMGetMDString(self.raw, &raw mut length));
        Some(text(pointer, length as usize))
    }

    /// Instructions of a function, in order.
    pub(crate) fn instructions(self) -> Vec<Value<'m>> {
        let mut all = Vec::new();
        let mut block = llvm!(LLVMGetFirstBasicBlock(self.raw));
        while !block.is_null() {
            let first = Self::some(llvm!(LLVMGetFirstInstruction(block)));
            all.extend(std::iter::successors(first, |v| {
                Self::some(llvm!(LLVMGetNextInstruction(v.raw)))
            }));
            block = llvm!(LLVMGetNextBasicBlock(block));
        }
        all
    }

    /// Line and column, 0 without a debug location.
    pub(crate) fn place(self) -> (u32, u32) {
        let location = llvm!(LLVMInstructionGetDebugLoc(self.raw));
        if location.is_null() {
            return (0, 0);
        }
        llvm!((
            LLVMDILocationGetLine(location),
            LLVMDILocationGetColumn(location)
        ))
    }

    pub(crate) fn operand_count(self) -> u32 {
        u32::try_from(llvm!(LLVMGetNumOperands(self.raw))).unwrap_or(0)
    }

    /// Constraints and text of inline assembly.
    pub(crate) fn assembly(self) -> (String, String) {
        let (mut a, mut b) = (0, 0);
        let constraints = llvm!(LLVMGetInlineAsmConstraintString(self.raw, &raw mut a));
        let constraints = text(constraints, a);
        let body = llvm!(LLVMGetInlineAsmAsmString(self.raw, &raw mut b));
        (constraints, text(body, b))
    }
}

/// What an instruction does, as far as writes tell them apart.
fn opcode(code: LLVMOpcode) -> Opcode {
    match code {
        LLVMOpcode::LLVMStore => Opcode::Store,
        LLVMOpcode::LLVMAtomicRMW => Opcode::AtomicRMW,
        LLVMOpcode::LLVMAtomicCmpXchg => Opcode::AtomicCmpXchg,
        LLVMOpcode::LLVMCall => Opcode::Call,
        LLVMOpcode::LLVMCallBr => Opcode::CallBr,
        _ => Opcode::Other,
    }
}

impl Ir for Value<'_> {
    fn kind(self) -> Kind {
        match llvm!(LLVMGetValueKind(self.raw)) {
            LLVMValueKind::LLVMInstructionValueKind => {
                Kind::Instruction(opcode(llvm!(LLVMGetInstructionOpcode(self.raw))))
            }
            LLVMValueKind::LLVMFunctionValueKind => Kind::Function,
            LLVMValueKind::LLVMConstantIntValueKind => Kind::Integer,
            LLVMValueKind::LLVMInlineAsmValueKind => Kind::Assembly,
            _ => Kind::Other,
        }
    }

    fn operand(self, index: u32) -> Option<Self> {
        (index < self.operand_count())
            .then(|| Self::some(llvm!(LLVMGetOperand(self.raw, index))))
            .flatten()
    }

    fn operand_size(self, index: u32) -> u64 {
        self.operand(index).map_or(0, |operand| {
            llvm!({
                let function = LLVMGetBasicBlockParent(LLVMGetInstructionParent(self.raw));
                let layout = LLVMGetModuleDataLayout(LLVMGetGlobalParent(function));
                LLVMABISizeOfType(layout, LLVMTypeOf(operand.raw))
            })
        })
    }

    fn integer(self) -> Option<i64> {
        let narrow = || llvm!(LLVMGetIntTypeWidth(LLVMTypeOf(self.raw))) <= 64;
        (self.kind() == Kind::Integer && narrow())
            .then(|| llvm!(LLVMConstIntGetSExtValue(self.raw)))
    }

    fn callee(self) -> Option<Self> {
        Self::some(llvm!(LLVMGetCalledValue(self.raw)))
    }

    fn name(self) -> String {
        let mut length = 0;
        let pointer = llvm!(LLVMGetValueName2(self.raw, &raw mut length));
        text(pointer, length)
    }

    fn begins(self, prefix: &str) -> bool {
        let mut length = 0;
        let pointer = llvm!(LLVMGetValueName2(self.raw, &raw mut length));
        super::bytes(pointer, length).starts_with(prefix.as_bytes())
    }

    fn is_declaration(self) -> bool {
        llvm!(LLVMIsDeclaration(self.raw)) != 0
    }
}
