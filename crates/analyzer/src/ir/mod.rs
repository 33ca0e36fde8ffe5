//! The only module that talks to LLVM's C interface: borrowed handles with safe methods.
//!
//! A [`Module`] owns its context; every [`Value`], [`Type`] and [`Meta`] borrows from it, so a
//! handle cannot outlive the memory it points to. Bitcode is parsed completely (nothing is lazy)
//! and, but for marks on instructions ([`mark`]), never modified after that.

use std::{
    ffi::{CStr, c_char, c_uint, c_void},
    ptr,
    sync::Once,
};

use compact_str::CompactString;
pub(crate) use inkwell::llvm_sys::LLVMOpcode as Opcode;
use inkwell::llvm_sys::{
    bit_reader::LLVMParseBitcodeInContext2,
    support::LLVMParseCommandLineOptions,
    target::{LLVMABISizeOfType, LLVMGetModuleDataLayout, LLVMOffsetOfElement, LLVMTargetDataRef},
};
#[cfg_attr(
    not(test),
    expect(
        clippy::wildcard_imports,
        reason = "some eighty functions, each named LLVM-something"
    )
)]
use inkwell::llvm_sys::{core::*, prelude::*};

macro_rules! llvm {
    ($call:expr) => {{
        // SAFETY: every handle that reaches a call was given out by LLVM for a module that is
        // still alive (the wrapper's lifetime), and each wrapper checks the kind that its call
        // asserts on. LLVM's own output pointers are read before the next call.
        unsafe { $call }
    }};
}

mod mark;
mod node;
mod producer;
mod value;

pub(crate) use node::{Class, Meta, Type};
pub(crate) use value::{Kind, Value};

/// Bytes that LLVM owns, as text.
fn text(pointer: *const c_char, length: usize) -> String {
    String::from_utf8_lossy(bytes(pointer, length)).into_owned()
}

/// The same without an allocation where it is short.
fn short_text(pointer: *const c_char, length: usize) -> CompactString {
    short(bytes(pointer, length))
}

fn short(bytes: &[u8]) -> CompactString {
    str::from_utf8(bytes).map_or_else(
        |_| CompactString::from_utf8_lossy(bytes),
        CompactString::new,
    )
}

/// Bytes that LLVM gave out, to be copied at once.
fn bytes<'a>(pointer: *const c_char, length: usize) -> &'a [u8] {
    if pointer.is_null() || length == 0 {
        return &[];
    }
    // SAFETY: LLVM gave out `length` readable bytes at `pointer`.
    unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), length) }
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

/// Release of LLVM that this module is linked with.
const RELEASE: u32 = 19;

/// Takes the verifier out of reading: a quarter of its time, and on a module that it dislikes it
/// ends the process. The only way to it is an option that holds for the whole process.
fn skip_verifier() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let arguments = [
            c"otf".as_ptr(),
            c"-disable-auto-upgrade-debug-info".as_ptr(),
        ];
        llvm!(LLVMParseCommandLineOptions(
            arguments.len() as i32,
            arguments.as_ptr(),
            ptr::null()
        ));
    });
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
        if let Some(producer) = producer::producer(bitcode)
            && producer::release(&producer) != Some(RELEASE)
        {
            return Err(format!("{producer} wrote it"));
        }
        skip_verifier();
        let message = Box::into_raw(Box::new(String::new()));
        let context = llvm!(LLVMContextCreate());
        let mut module = ptr::null_mut();
        let failed = llvm!({
            LLVMContextSetDiagnosticHandler(context, Some(note_diagnostic), message.cast());
            // Everything is parsed before `bitcode` ends: no copy.
            let buffer = LLVMCreateMemoryBufferWithMemoryRange(
                bitcode.as_ptr().cast(),
                bitcode.len(),
                c"bitcode".as_ptr(),
                0,
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
        let value = node.value(self.context);
        let count = llvm!(LLVMGetMDNodeNumOperands(value));
        let mut operands = vec![ptr::null_mut(); count as usize];
        if count > 0 {
            llvm!(LLVMGetMDNodeOperands(value, operands.as_mut_ptr()));
        }
        operands.into_iter().map(Value::some).collect()
    }

    /// The operand of a node as a node; without making values of the others.
    pub(crate) fn node<'m>(&'m self, node: Meta<'m>, index: usize) -> Option<Meta<'m>> {
        let operand = llvm!({
            let value = node.value(self.context);
            if index < LLVMGetMDNodeNumOperands(value) as usize {
                LLVMGetOperand(value, index as u32)
            } else {
                ptr::null_mut()
            }
        });
        Value::some(operand)?.as_meta()
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
