//! LLVM's own form of a module, for what changes it: borrowed handles with safe methods over its C
//! interface, which nothing else talks to.
//!
//! A [`Module`] owns its context; every [`Value`], [`Type`] and [`Meta`] borrows from it, so a
//! handle cannot outlive the memory it points to. Bitcode is parsed completely (nothing is lazy)
//! and, but for marks on instructions ([`mark`]), never modified after that.

use std::{
    ffi::{CStr, c_char, c_void},
    ptr,
    sync::Once,
};

use inkwell::llvm_sys::{
    bit_reader::LLVMParseBitcodeInContext2, support::LLVMParseCommandLineOptions,
};
#[cfg_attr(
    not(test),
    expect(
        clippy::wildcard_imports,
        reason = "some eighty functions, each named LLVM-something"
    )
)]
use inkwell::llvm_sys::{core::*, debuginfo::LLVMGetSubprogram, prelude::*};

macro_rules! llvm {
    ($call:expr) => {{
        // SAFETY: every handle that reaches a call was given out by LLVM for a module that is
        // still alive (the wrapper's lifetime), and each wrapper checks the kind that its call
        // asserts on. LLVM's own output pointers are read before the next call.
        unsafe { $call }
    }};
}

mod mark;
mod value;

pub(crate) use value::Value;

use crate::bitcode;

/// Bytes that LLVM owns, as text.
fn text(pointer: *const c_char, length: usize) -> String {
    String::from_utf8_lossy(bytes(pointer, length)).into_owned()
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
    message: *mut String,
}

impl Module {
    /// Parses bitcode; the error is LLVM's own words.
    pub(crate) fn parse(bitcode: &[u8]) -> Result<Self, String> {
        if !bitcode.starts_with(b"BC\xC0\xDE") {
            return Err("it does not begin with the magic of LLVM bitcode".into());
        }
        if let Some(producer) = bitcode::producer(bitcode)
            && !bitcode::is_known(&producer)
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
        let mut parsed = Self {
            context,
            raw: module,
            message,
        };
        if failed != 0 || module.is_null() {
            parsed.raw = ptr::null_mut();
            // SAFETY: `message` came from Box::into_raw above and is freed only in drop.
            return Err(unsafe { (*message).clone() });
        }
        llvm!(LLVMSetIsNewDbgInfoFormat(module, 0));
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

    /// Operands of a metadata node.
    pub(crate) fn operands(node: Value<'_>) -> Vec<Option<Value<'_>>> {
        let count = llvm!(LLVMGetMDNodeNumOperands(node.raw));
        let mut operands = vec![ptr::null_mut(); count as usize];
        if count > 0 {
            llvm!(LLVMGetMDNodeOperands(node.raw, operands.as_mut_ptr()));
        }
        operands.into_iter().map(Value::some).collect()
    }

    /// A function's name in the source.
    pub(crate) fn source_name(&self, function: Value<'_>) -> Option<String> {
        /// Operand row of a subprogram.
        const NAME: usize = 2;
        let node = llvm!({
            let node = LLVMGetSubprogram(function.raw);
            if node.is_null() {
                return None;
            }
            LLVMMetadataAsValue(self.context, node)
        });
        let operands = Self::operands(Value::some(node)?);
        operands.get(NAME).copied().flatten()?.meta_string()
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
