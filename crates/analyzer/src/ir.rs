//! The only module that talks to LLVM's C interface: borrowed handles with safe methods.
//!
//! A [`Module`] owns its context; every [`Value`], [`Type`] and [`Meta`] borrows from it, so a
//! handle cannot outlive the memory it points to. Bitcode is parsed completely (nothing is lazy)
//! and never modified after that.

use std::{
    ffi::{CStr, c_char, c_uint, c_void},
    marker::PhantomData,
    ptr,
};

pub(crate) use inkwell::llvm_sys::LLVMOpcode as Opcode;
#[cfg_attr(
    not(test),
    expect(
        clippy::wildcard_imports,
        reason = "some eighty functions, each named LLVM-something"
    )
)]
use inkwell::llvm_sys::{
    LLVMTypeKind, LLVMValueKind,
    bit_reader::LLVMParseBitcodeInContext2,
    core::*,
    debuginfo::*,
    prelude::*,
    target::{LLVMABISizeOfType, LLVMGetModuleDataLayout, LLVMOffsetOfElement, LLVMTargetDataRef},
};

macro_rules! llvm {
    ($call:expr) => {{
        // SAFETY: every handle that reaches a call was given out by LLVM for a module that is
        // still alive (the wrapper's lifetime), and each wrapper checks the kind that its call
        // asserts on. LLVM's own output pointers are read before the next call.
        unsafe { $call }
    }};
}

/// Bytes that LLVM owns, as text.
fn text(pointer: *const c_char, length: usize) -> String {
    if pointer.is_null() || length == 0 {
        return String::new();
    }
    // SAFETY: LLVM gave out `length` readable bytes at `pointer`; they are copied at once.
    let bytes = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), length) };
    String::from_utf8_lossy(bytes).into_owned()
}

/// Keeps a message instead of ending the process, which LLVM's default handler does on errors.
extern "C" fn note_diagnostic(info: LLVMDiagnosticInfoRef, sink: *mut c_void) {
    // SAFETY: `sink` is the boxed String that the module keeps alive as long as its context, and
    // `info` is valid during this call; its description is copied and freed here.
    unsafe {
        let description = LLVMGetDiagInfoDescription(info);
        if let Some(sink) = sink.cast::<String>().as_mut() {
            *sink = CStr::from_ptr(description).to_string_lossy().into_owned();
        }
        LLVMDisposeMessage(description);
    }
}

/// A module with the context that it lives in.
pub(crate) struct Module {
    context: LLVMContextRef,
    raw: LLVMModuleRef,
    layout: LLVMTargetDataRef,
    element_type: c_uint,
    by_value: [c_uint; 2],
    message: *mut String,
}

impl Module {
    /// Parses bitcode; the error is LLVM's own words.
    pub(crate) fn parse(bitcode: &[u8]) -> Result<Self, String> {
        if !bitcode.starts_with(b"BC\xC0\xDE") {
            return Err("it does not begin with the magic of LLVM bitcode".into());
        }
        let message = Box::into_raw(Box::new(String::new()));
        let context = llvm!(LLVMContextCreate());
        let mut module = ptr::null_mut();
        let failed = llvm!({
            LLVMContextSetDiagnosticHandler(context, Some(note_diagnostic), message.cast());
            let buffer = LLVMCreateMemoryBufferWithMemoryRangeCopy(
                bitcode.as_ptr().cast(),
                bitcode.len(),
                c"bitcode".as_ptr(),
            );
            let failed = LLVMParseBitcodeInContext2(context, buffer, &raw mut module);
            LLVMDisposeMemoryBuffer(buffer);
            failed
        });
        let kind = |name: &CStr| {
            llvm!(LLVMGetEnumAttributeKindForName(
                name.as_ptr(),
                name.to_bytes().len()
            ))
        };
        let mut parsed = Self {
            context,
            raw: module,
            layout: ptr::null_mut(),
            element_type: kind(c"elementtype"),
            by_value: [kind(c"byval"), kind(c"sret")],
            message,
        };
        if failed != 0 || module.is_null() {
            parsed.raw = ptr::null_mut();
            // SAFETY: `message` came from Box::into_raw above and is freed only in drop.
            return Err(unsafe { (*message).clone() });
        }
        llvm!(LLVMSetIsNewDbgInfoFormat(module, 0));
        parsed.layout = llvm!(LLVMGetModuleDataLayout(module));
        Ok(parsed)
    }

    fn list<'m>(
        first: LLVMValueRef,
        next: unsafe extern "C" fn(LLVMValueRef) -> LLVMValueRef,
    ) -> impl Iterator<Item = Value<'m>> {
        let step = move |v: &Value<'m>| Value::some(llvm!(next(v.raw)));
        std::iter::successors(Value::some(first), step)
    }

    /// Functions, declarations included.
    pub(crate) fn functions(&self) -> impl Iterator<Item = Value<'_>> {
        Self::list(llvm!(LLVMGetFirstFunction(self.raw)), LLVMGetNextFunction)
    }

    /// Global variables, declarations included.
    pub(crate) fn globals(&self) -> impl Iterator<Item = Value<'_>> {
        Self::list(llvm!(LLVMGetFirstGlobal(self.raw)), LLVMGetNextGlobal)
    }

    /// Aliases.
    pub(crate) fn aliases(&self) -> impl Iterator<Item = Value<'_>> {
        Self::list(
            llvm!(LLVMGetFirstGlobalAlias(self.raw)),
            LLVMGetNextGlobalAlias,
        )
    }

    /// Module-level assembly.
    pub(crate) fn assembly(&self) -> String {
        let mut length = 0;
        let pointer = llvm!(LLVMGetModuleInlineAsm(self.raw, &raw mut length));
        text(pointer, length)
    }

    /// Compile units named in `llvm.dbg.cu`.
    pub(crate) fn compile_units(&self) -> Vec<Meta<'_>> {
        let name = c"llvm.dbg.cu".as_ptr();
        let count = llvm!(LLVMGetNamedMetadataNumOperands(self.raw, name));
        let mut values = vec![ptr::null_mut(); count as usize];
        if count > 0 {
            llvm!(LLVMGetNamedMetadataOperands(
                self.raw,
                name,
                values.as_mut_ptr()
            ));
        }
        values
            .into_iter()
            .filter_map(|v| Meta::some(llvm!(LLVMValueAsMetadata(v))))
            .collect()
    }

    /// Operands of a metadata node; `None` for absent ones.
    pub(crate) fn operands<'m>(&'m self, node: Meta<'m>) -> Vec<Option<Value<'m>>> {
        let value = llvm!(LLVMMetadataAsValue(self.context, node.raw));
        let count = llvm!(LLVMGetMDNodeNumOperands(value));
        let mut operands = vec![ptr::null_mut(); count as usize];
        if count > 0 {
            llvm!(LLVMGetMDNodeOperands(value, operands.as_mut_ptr()));
        }
        operands.into_iter().map(Value::some).collect()
    }

    /// The operand of a node as a node.
    pub(crate) fn node<'m>(&'m self, node: Meta<'m>, index: usize) -> Option<Meta<'m>> {
        self.operands(node).get(index).copied().flatten()?.as_meta()
    }

    /// Byte offset of a field of a structure type.
    pub(crate) fn field_offset(&self, ty: Type<'_>, field: u32) -> u64 {
        llvm!(LLVMOffsetOfElement(self.layout, ty.raw, field))
    }

    /// Bytes between elements of an array of this type; 0 for one without a size.
    pub(crate) fn size_of(&self, ty: Type<'_>) -> u64 {
        if llvm!(LLVMTypeIsSized(ty.raw)) == 0 {
            return 0;
        }
        llvm!(LLVMABISizeOfType(self.layout, ty.raw))
    }

    /// Whether argument `index` (from 0) of a call to inline assembly is a memory operand.
    pub(crate) fn is_memory_operand(&self, call: Value<'_>, index: u32) -> bool {
        !llvm!(LLVMGetCallSiteEnumAttribute(
            call.raw,
            index + 1,
            self.element_type
        ))
        .is_null()
    }

    /// Whether parameter `index` of a function is the caller's copy (`byval`) or result (`sret`).
    pub(crate) fn parameter_passing(&self, function: Value<'_>, index: u32) -> Passing {
        let has =
            |kind| !llvm!(LLVMGetEnumAttributeAtIndex(function.raw, index + 1, kind)).is_null();
        if has(self.by_value[0]) {
            Passing::Copy
        } else if has(self.by_value[1]) {
            Passing::Result
        } else {
            Passing::Plain
        }
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: module, context and message are owned by this value and dropped once, the
        // module before its context; no handle can outlive `self`.
        unsafe {
            if !self.raw.is_null() {
                LLVMDisposeModule(self.raw);
            }
            LLVMContextDispose(self.context);
            drop(Box::from_raw(self.message));
        }
    }
}

/// How a parameter reaches a function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passing {
    /// By register.
    Plain,
    /// A copy in the caller's frame that belongs to the callee.
    Copy,
    /// Room for the result in the caller's frame.
    Result,
}

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
    raw: LLVMValueRef,
    module: PhantomData<&'m Module>,
}

impl<'m> Value<'m> {
    fn some(raw: LLVMValueRef) -> Option<Self> {
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
        Meta::some(llvm!(LLVMValueAsMetadata(self.raw)))
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

/// An IR type.
#[derive(Clone, Copy)]
pub(crate) struct Type<'m> {
    raw: LLVMTypeRef,
    module: PhantomData<&'m Module>,
}

impl Type<'_> {
    fn new(raw: LLVMTypeRef) -> Self {
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
    pub(crate) fn struct_name(self) -> Option<String> {
        if !self.is_struct() {
            return None;
        }
        let name = llvm!(LLVMGetStructName(self.raw));
        if name.is_null() {
            return None;
        }
        // SAFETY: LLVM keeps structure names as NUL-terminated strings of the context.
        Some(
            unsafe { CStr::from_ptr(name) }
                .to_string_lossy()
                .into_owned(),
        )
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
    raw: LLVMMetadataRef,
    module: PhantomData<&'m Module>,
}

impl Meta<'_> {
    fn some(raw: LLVMMetadataRef) -> Option<Self> {
        (!raw.is_null()).then_some(Self {
            raw,
            module: PhantomData,
        })
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
    pub(crate) fn type_facts(self) -> (String, u64, u64, u32) {
        let mut length = 0;
        llvm!({
            let name = text(LLVMDITypeGetName(self.raw, &raw mut length), length);
            (
                name,
                LLVMDITypeGetSizeInBits(self.raw),
                LLVMDITypeGetOffsetInBits(self.raw),
                LLVMDITypeGetLine(self.raw),
            )
        })
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
