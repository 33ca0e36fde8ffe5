//! Values: constants, globals, functions, instructions.

use std::{
    ffi::{CStr, c_uint},
    marker::PhantomData,
    ptr,
};

#[cfg_attr(
    not(test),
    expect(
        clippy::wildcard_imports,
        reason = "each function is named LLVM-something"
    )
)]
use inkwell::llvm_sys::{LLVMValueKind, core::*, debuginfo::*, prelude::*};

use crate::ir::{Meta, Module, Opcode, Type, text};

/// What a value is, as far as the analysis tells values apart.
#[derive(Clone, Copy, PartialEq)]
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

    /// Identity inside one module, for maps.
    pub(crate) fn key(self) -> usize {
        self.raw as usize
    }

    /// Symbol or value name.
    pub(crate) fn name(self) -> String {
        let mut length = 0;
        let pointer = llvm!(LLVMGetValueName2(self.raw, &raw mut length));
        text(pointer, length)
    }

    /// Whether the symbol is one of those that begin so; without making a text of it.
    pub(crate) fn begins(self, prefix: &str) -> bool {
        let mut length = 0;
        let pointer = llvm!(LLVMGetValueName2(self.raw, &raw mut length));
        if pointer.is_null() || length < prefix.len() {
            return false;
        }
        // SAFETY: LLVM gave out `length` readable bytes, which live as long as the value.
        let name = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), length) };
        name.starts_with(prefix.as_bytes())
    }

    pub(crate) fn kind(self) -> Kind {
        match llvm!(LLVMGetValueKind(self.raw)) {
            LLVMValueKind::LLVMInstructionValueKind => {
                Kind::Instruction(llvm!(LLVMGetInstructionOpcode(self.raw)))
            }
            LLVMValueKind::LLVMConstantExprValueKind => {
                Kind::Expression(llvm!(LLVMGetConstOpcode(self.raw)))
            }
            LLVMValueKind::LLVMArgumentValueKind => Kind::Argument,
            LLVMValueKind::LLVMFunctionValueKind => Kind::Function,
            LLVMValueKind::LLVMGlobalVariableValueKind => Kind::Global,
            LLVMValueKind::LLVMGlobalAliasValueKind => Kind::Alias,
            LLVMValueKind::LLVMConstantIntValueKind => Kind::Integer,
            LLVMValueKind::LLVMConstantPointerNullValueKind
            | LLVMValueKind::LLVMConstantAggregateZeroValueKind
            | LLVMValueKind::LLVMUndefValueValueKind
            | LLVMValueKind::LLVMPoisonValueKind => Kind::Null,
            LLVMValueKind::LLVMConstantArrayValueKind
            | LLVMValueKind::LLVMConstantStructValueKind => Kind::Aggregate,
            LLVMValueKind::LLVMConstantDataArrayValueKind => Kind::Data,
            LLVMValueKind::LLVMInlineAsmValueKind => Kind::Assembly,
            _ => Kind::Other,
        }
    }

    pub(crate) fn operand(self, index: u32) -> Option<Self> {
        (index < self.operand_count())
            .then(|| Self::some(llvm!(LLVMGetOperand(self.raw, index))))
            .flatten()
    }

    pub(crate) fn operand_count(self) -> u32 {
        u32::try_from(llvm!(LLVMGetNumOperands(self.raw))).unwrap_or(0)
    }

    pub(crate) fn ty(self) -> Type<'m> {
        Type::new(llvm!(LLVMTypeOf(self.raw)))
    }

    /// Value of an integer constant.
    pub(crate) fn integer(self) -> Option<i64> {
        (self.kind() == Kind::Integer && self.ty().width() <= 64)
            .then(|| llvm!(LLVMConstIntGetSExtValue(self.raw)))
    }

    /// Bytes of a constant array of bytes, or of the constant a global is initialised with.
    pub(crate) fn string(self) -> Option<String> {
        let data = if self.kind() == Kind::Global {
            self.initializer()?
        } else {
            self
        };
        if data.kind() != Kind::Data || llvm!(LLVMIsConstantString(data.raw)) == 0 {
            return None;
        }
        let mut length = 0;
        let pointer = llvm!(LLVMGetAsString(data.raw, &raw mut length));
        Some(text(pointer, length).trim_end_matches('\0').to_owned())
    }

    /// Metadata behind a metadata operand.
    pub(crate) fn as_meta(self) -> Option<Meta<'m>> {
        let kind = llvm!(LLVMGetValueKind(self.raw));
        // A constant is an operand itself, not a value that stands for it.
        let value = if kind == LLVMValueKind::LLVMMetadataAsValueValueKind {
            self.raw
        } else {
            ptr::null_mut()
        };
        Meta::of_value(llvm!(LLVMValueAsMetadata(self.raw)), value)
    }

    /// The value that a metadata operand wraps, as in the first operand of `llvm.dbg.declare`.
    pub(crate) fn wrapped(self) -> Option<Self> {
        let mut operand = ptr::null_mut();
        if llvm!(LLVMGetMDNodeNumOperands(self.raw)) == 1 {
            llvm!(LLVMGetMDNodeOperands(self.raw, &raw mut operand));
        }
        Self::some(operand)
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

    // Functions.

    pub(crate) fn is_declaration(self) -> bool {
        llvm!(LLVMIsDeclaration(self.raw)) != 0
    }

    pub(crate) fn is_internal(self) -> bool {
        use inkwell::llvm_sys::LLVMLinkage::{LLVMInternalLinkage, LLVMPrivateLinkage};
        matches!(
            llvm!(LLVMGetLinkage(self.raw)),
            LLVMInternalLinkage | LLVMPrivateLinkage
        )
    }

    pub(crate) fn subprogram(self) -> Option<Meta<'m>> {
        Meta::some(llvm!(LLVMGetSubprogram(self.raw)))
    }

    pub(crate) fn parameters(self) -> Vec<Value<'m>> {
        (0..llvm!(LLVMCountParams(self.raw)))
            .filter_map(|i| Self::some(llvm!(LLVMGetParam(self.raw, i))))
            .collect()
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

    // Global variables.

    pub(crate) fn initializer(self) -> Option<Self> {
        Self::some(llvm!(LLVMGetInitializer(self.raw)))
    }

    pub(crate) fn is_constant(self) -> bool {
        llvm!(LLVMIsGlobalConstant(self.raw)) != 0
    }

    pub(crate) fn section(self) -> String {
        let section = llvm!(LLVMGetSection(self.raw));
        if section.is_null() {
            return String::new();
        }
        // SAFETY: LLVM keeps section names as NUL-terminated strings of the module.
        unsafe { CStr::from_ptr(section) }
            .to_string_lossy()
            .into_owned()
    }

    pub(crate) fn value_type(self) -> Type<'m> {
        Type::new(llvm!(LLVMGlobalGetValueType(self.raw)))
    }

    pub(crate) fn aliasee(self) -> Option<Self> {
        Self::some(llvm!(LLVMAliasGetAliasee(self.raw)))
    }

    /// Nodes attached to a global (`!dbg` and the like).
    pub(crate) fn attachments(self) -> Vec<Meta<'m>> {
        let mut count = 0;
        let entries = llvm!(LLVMGlobalCopyAllMetadata(self.raw, &raw mut count));
        let nodes = (0..count)
            .filter_map(|i| {
                Meta::some(llvm!(LLVMValueMetadataEntriesGetMetadata(
                    entries,
                    i as c_uint
                )))
            })
            .collect();
        llvm!(LLVMDisposeValueMetadataEntries(entries));
        nodes
    }

    // Instructions.

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

    /// What a call calls.
    pub(crate) fn callee(self) -> Option<Self> {
        Self::some(llvm!(LLVMGetCalledValue(self.raw)))
    }

    pub(crate) fn argument_count(self) -> u32 {
        llvm!(LLVMGetNumArgOperands(self.raw))
    }

    /// Whether a call passes a variable number of arguments.
    pub(crate) fn is_variadic_call(self) -> bool {
        llvm!(LLVMIsFunctionVarArg(LLVMGetCalledFunctionType(self.raw))) != 0
    }

    /// Incoming values of a phi.
    pub(crate) fn incoming(self) -> Vec<Self> {
        (0..llvm!(LLVMCountIncoming(self.raw)))
            .filter_map(|i| Self::some(llvm!(LLVMGetIncomingValue(self.raw, i))))
            .collect()
    }

    pub(crate) fn allocated_type(self) -> Type<'m> {
        Type::new(llvm!(LLVMGetAllocatedType(self.raw)))
    }

    /// Element type that a GEP (instruction or constant) counts in.
    pub(crate) fn gep_source(self) -> Type<'m> {
        Type::new(llvm!(LLVMGetGEPSourceElementType(self.raw)))
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
