//! The shadow of a file's object: the same bitcode, with a mark on every instruction.
//!
//! The mark is the line of a debug location of its own ([`mark`]). Compiled like the original, it
//! gives the same machine code, whose line table names the instruction of the unoptimised bitcode
//! that each machine instruction was made of. What the optimiser made of the marked instructions is
//! looked at in between ([`changed`]): a write counts as kept only while it is the same write.

use std::collections::BTreeMap;

use otf_artifact::{
    analysis::WriteKind,
    diagnostic::Diagnostic,
    exact::{Change, SourceWrite},
};

use crate::{
    assembly::{loses_mark, note_last},
    bitcode::{Kind, Opcode},
    extract::{Ir as _, unreadable, written},
    ir::{Module, Value},
};

/// Marked bitcode, and what the marks stand for.
pub struct Shadow {
    /// The bitcode.
    pub bitcode: Vec<u8>,
    /// By mark, from 1: the write that the instruction is, if it is one.
    pub marks: Vec<Option<SourceWrite>>,
    /// Assembly whose instructions would carry the mark of something else: there is no map then.
    pub unmarkable: Option<String>,
}

/// Marks every instruction of a module that has a debug location. `name` is for messages.
///
/// # Errors
/// When the bitcode cannot be read.
pub fn mark(bitcode: &[u8], name: &str) -> Result<Shadow, Diagnostic> {
    let module = Module::parse(bitcode).map_err(|message| unreadable(name, &message))?;
    let mut marks = Vec::new();
    let mut unmarkable = None;
    for function in module.functions().filter(|f| !f.is_declaration()) {
        let named = module.source_name(function);
        for instruction in function.instructions() {
            if is_debug(instruction) {
                continue;
            }
            let (line, column) = instruction.place();
            if let Some(text) = text(instruction) {
                let marked = note_last(&text);
                if loses_mark(&marked) {
                    unmarkable = Some(format!("its assembly is of an unknown form: {text}"));
                }
                instruction.set_assembly(&marked);
            }
            let write = written(instruction);
            let mark = marks.len() as u32 + 1;
            if !module.mark(instruction, mark, write.is_some()) {
                continue;
            }
            marks.push(write.map(|(kind, size)| SourceWrite {
                function: named.clone().unwrap_or_default(),
                line,
                column,
                kind,
                size,
            }));
        }
    }
    Ok(Shadow {
        bitcode: module.write(),
        marks,
        unmarkable,
    })
}

/// Marks of the writes that are not what they were once the passes have run, with the worst that
/// became of any of their instructions.
///
/// # Errors
/// When the bitcode cannot be read.
pub fn changed(
    optimised: &[u8],
    marks: &[Option<SourceWrite>],
    name: &str,
) -> Result<BTreeMap<u32, Change>, Diagnostic> {
    let module = Module::parse(optimised).map_err(|message| unreadable(name, &message))?;
    let mut found = BTreeMap::new();
    for function in module.functions().filter(|f| !f.is_declaration()) {
        for instruction in function.instructions() {
            let Some((kind, size)) = written(instruction) else {
                continue;
            };
            let (mark, _) = instruction.place();
            let source = (mark as usize)
                .checked_sub(1)
                .and_then(|row| marks.get(row));
            let Some(Some(source)) = source else {
                continue;
            };
            let change = if !stays(source, kind, size) {
                Change::Merged(size)
            } else if module.has_scope(instruction, mark) {
                continue;
            } else if source.kind == WriteKind::Bulk {
                // Copies in pieces lose their scopes.
                Change::Remade
            } else {
                // It may be another's, with the place of this one.
                Change::Merged(0)
            };
            let worst = found.entry(mark).or_insert(change);
            *worst = worst.and(change);
        }
    }
    Ok(found)
}

/// Whether a write of this kind and size stays within the source's.
fn stays(source: &SourceWrite, kind: WriteKind, size: u64) -> bool {
    let smaller = source.size == 0 || size != 0 && size <= source.size;
    match source.kind {
        WriteKind::Store => kind == WriteKind::Store && smaller,
        WriteKind::Bulk => matches!(kind, WriteKind::Bulk | WriteKind::Store) && smaller,
        WriteKind::Atomic => matches!(kind, WriteKind::Atomic | WriteKind::Store) && smaller,
        WriteKind::Asm => kind == WriteKind::Asm,
    }
}

/// Text of the inline assembly that an instruction calls.
fn text(instruction: Value<'_>) -> Option<String> {
    let call = matches!(
        instruction.kind(),
        Kind::Instruction(Opcode::Call | Opcode::CallBr)
    );
    let callee = call.then(|| instruction.callee()).flatten()?;
    (callee.kind() == Kind::Assembly).then(|| callee.assembly().1)
}

/// Calls that only describe variables.
fn is_debug(instruction: Value<'_>) -> bool {
    instruction.kind() == Kind::Instruction(Opcode::Call)
        && instruction
            .callee()
            .is_some_and(|callee| callee.begins("llvm.dbg."))
}
