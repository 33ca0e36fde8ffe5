//! IR types and metadata nodes.

use std::{ffi::CStr, marker::PhantomData, ptr};

use compact_str::CompactString;
#[cfg_attr(
    not(test),
    expect(
        clippy::wildcard_imports,
        reason = "each function is named LLVM-something"
    )
)]
use inkwell::llvm_sys::{LLVMTypeKind, core::*, debuginfo::*, prelude::*};

use crate::ir::{Module, short, short_text, text};

/// An IR type.
#[derive(Clone, Copy)]
pub(crate) struct Type<'m> {
    pub(super) raw: LLVMTypeRef,
    module: PhantomData<&'m Module>,
}

impl Type<'_> {
    pub(super) fn new(raw: LLVMTypeRef) -> Self {
        Self {
            raw,
            module: PhantomData,
        }
    }

    fn kind(self) -> LLVMTypeKind {
        llvm!(LLVMGetTypeKind(self.raw))
    }

    pub(crate) fn is_pointer(self) -> bool {
        self.kind() == LLVMTypeKind::LLVMPointerTypeKind
    }

    /// Pointer into a segment (`__seg_gs`): per-CPU memory.
    pub(crate) fn is_segment(self) -> bool {
        self.is_pointer() && llvm!(LLVMGetPointerAddressSpace(self.raw)) != 0
    }

    pub(crate) fn is_struct(self) -> bool {
        self.kind() == LLVMTypeKind::LLVMStructTypeKind
    }

    /// Bits of an integer type, 0 for another.
    pub(crate) fn width(self) -> u32 {
        if self.kind() == LLVMTypeKind::LLVMIntegerTypeKind {
            llvm!(LLVMGetIntTypeWidth(self.raw))
        } else {
            0
        }
    }

    /// Name of a structure type, `struct.qfq_group`; `None` for a literal one.
    pub(crate) fn struct_name(self) -> Option<CompactString> {
        if !self.is_struct() {
            return None;
        }
        let name = llvm!(LLVMGetStructName(self.raw));
        if name.is_null() {
            return None;
        }
        // SAFETY: LLVM keeps structure names as NUL-terminated strings of the context.
        let name = unsafe { CStr::from_ptr(name) };
        Some(short(name.to_bytes()))
    }

    pub(crate) fn field(self, index: u32) -> Option<Self> {
        (self.is_struct() && index < llvm!(LLVMCountStructElementTypes(self.raw)))
            .then(|| Self::new(llvm!(LLVMStructGetTypeAtIndex(self.raw, index))))
    }

    /// Element of an array type.
    pub(crate) fn element(self) -> Option<Self> {
        (self.kind() == LLVMTypeKind::LLVMArrayTypeKind)
            .then(|| Self::new(llvm!(LLVMGetElementType(self.raw))))
    }

    pub(crate) fn is_array(self) -> bool {
        self.kind() == LLVMTypeKind::LLVMArrayTypeKind
    }
}

/// A metadata node.
#[derive(Clone, Copy)]
pub(crate) struct Meta<'m> {
    pub(super) raw: LLVMMetadataRef,
    /// The value that stands for the node, where it is known: LLVM has to look for it otherwise.
    value: LLVMValueRef,
    module: PhantomData<&'m Module>,
}

impl Meta<'_> {
    pub(super) fn some(raw: LLVMMetadataRef) -> Option<Self> {
        Self::of_value(raw, ptr::null_mut())
    }

    /// The node that a value stands for.
    pub(super) fn of_value(raw: LLVMMetadataRef, value: LLVMValueRef) -> Option<Self> {
        (!raw.is_null()).then_some(Self {
            raw,
            value,
            module: PhantomData,
        })
    }

    /// The value that stands for the node.
    pub(super) fn value(self, context: LLVMContextRef) -> LLVMValueRef {
        if self.value.is_null() {
            llvm!(LLVMMetadataAsValue(context, self.raw))
        } else {
            self.value
        }
    }

    /// Identity inside one module, for maps.
    pub(crate) fn key(self) -> usize {
        self.raw as usize
    }

    /// Class of the node.
    pub(crate) fn class(self) -> Class {
        use inkwell::llvm_sys::debuginfo::LLVMMetadataKind as K;
        match llvm!(LLVMGetMetadataKind(self.raw)) {
            K::LLVMDIBasicTypeMetadataKind => Class::Basic,
            K::LLVMDIDerivedTypeMetadataKind => Class::Derived,
            K::LLVMDICompositeTypeMetadataKind => Class::Composite,
            K::LLVMDISubroutineTypeMetadataKind => Class::Subroutine,
            K::LLVMDISubprogramMetadataKind => Class::Subprogram,
            K::LLVMDISubrangeMetadataKind => Class::Subrange,
            K::LLVMDIFileMetadataKind => Class::File,
            K::LLVMDILocalVariableMetadataKind => Class::Local,
            K::LLVMDIGlobalVariableMetadataKind => Class::GlobalVariable,
            K::LLVMDIGlobalVariableExpressionMetadataKind => Class::GlobalExpression,
            _ => Class::Other,
        }
    }

    /// DWARF tag.
    pub(crate) fn tag(self) -> u16 {
        llvm!(LLVMGetDINodeTag(self.raw))
    }

    /// Name, size in bits, offset in bits and line of a type node.
    pub(crate) fn type_facts(self) -> (CompactString, u64, u64, u32) {
        let mut length = 0;
        llvm!({
            let name = short_text(LLVMDITypeGetName(self.raw, &raw mut length), length);
            (
                name,
                LLVMDITypeGetSizeInBits(self.raw),
                LLVMDITypeGetOffsetInBits(self.raw),
                LLVMDITypeGetLine(self.raw),
            )
        })
    }

    /// Size of a type node in bits.
    pub(crate) fn bits(self) -> u64 {
        llvm!(LLVMDITypeGetSizeInBits(self.raw))
    }

    /// Line of a subprogram.
    pub(crate) fn subprogram_line(self) -> u32 {
        llvm!(LLVMDISubprogramGetLine(self.raw))
    }

    /// Directory and name of a file node.
    pub(crate) fn file(self) -> (String, String) {
        let (mut a, mut b) = (0, 0);
        llvm!({
            let directory = LLVMDIFileGetDirectory(self.raw, &raw mut a);
            let directory = text(directory, a as usize);
            let name = LLVMDIFileGetFilename(self.raw, &raw mut b);
            (directory, text(name, b as usize))
        })
    }
}

/// Classes of metadata nodes that are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Basic,
    Derived,
    Composite,
    Subroutine,
    Subprogram,
    Subrange,
    File,
    Local,
    GlobalVariable,
    GlobalExpression,
    Other,
}
