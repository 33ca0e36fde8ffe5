//! How the source makes a pointer, and what says which type an object has, in words for people: why
//! a type is in a legal set.

use std::collections::BTreeSet;

use crate::{
    facts::{Path, Pointer, Root, Source, View},
    program::{
        FunctionRef, Program,
        origins::{Allocation, Because},
    },
};

/// One line for each type of an object: the source place that says that it has it, sorted.
pub(super) fn types(program: &Program<'_>, allocation: &Allocation) -> Vec<String> {
    let lines: BTreeSet<String> = allocation
        .types
        .iter()
        .map(|(record, because)| because.line(program, &program.records[record.0].name))
        .collect();
    lines.into_iter().collect()
}

impl Because {
    fn line(self, program: &Program<'_>, ty: &str) -> String {
        let (Self::Used(at) | Self::Declared(at) | Self::Copied(at) | Self::Later(at)) = self;
        let function = program.function(at.function);
        let call = &function.calls[at.call as usize];
        let name = &function.name;
        let callee = call.callee.as_deref().unwrap_or("a call through a pointer");
        let said = match self {
            Self::Used(_) => format!("{name} uses what {callee} returns so"),
            Self::Declared(_) => format!("{callee}, called by {name}, is declared to return so"),
            Self::Copied(_) => format!("{name} has {callee} copy such an object"),
            Self::Later(_) => {
                format!("a reader of the pointer that {name} keeps from {callee} casts it so")
            }
        };
        format!("{ty}: {said} ({}:{})", function.file, call.line)
    }
}

/// One line for each way that the pointer may have been made, sorted.
pub(super) fn ways(program: &Program<'_>, at: FunctionRef, pointer: &Pointer) -> Vec<String> {
    let ways: BTreeSet<String> = pointer.iter().map(|path| way(program, at, *path)).collect();
    ways.into_iter().collect()
}

fn way(program: &Program<'_>, at: FunctionRef, path: Path) -> String {
    let facts = program.files[at.file].1;
    let function = program.function(at);
    let name = |ty| facts.types.get(ty).name.clone();
    let beginning = match path.root {
        Root::Local => "a variable of the function".to_owned(),
        Root::Parameter(index) => {
            let declared = function.parameters.get(usize::from(index)).copied();
            let to = declared.flatten().and_then(|ty| facts.types.pointee(ty));
            match to.map(name).filter(|name| !name.is_empty()) {
                Some(name) => format!("parameter {index}, declared {name} *"),
                None => format!("parameter {index}"),
            }
        }
        Root::Result => "the room for the function's result".to_owned(),
        Root::Global(row) => format!("the variable {}", facts.globals[row as usize].symbol),
        Root::Call(row) => {
            let call = &function.calls[row as usize];
            let callee = call.callee.as_deref().unwrap_or("a call through a pointer");
            format!("the result of {callee} at line {}", call.line)
        }
        Root::Memory(Source::Global(variable)) => {
            let variable = &facts.globals[variable.global as usize].symbol;
            format!("a pointer in the variable {variable}")
        }
        Root::Memory(Source::Member(holder)) => {
            format!(
                "a pointer at byte {} of {}",
                holder.offset,
                name(holder.record)
            )
        }
        Root::Memory(Source::Somewhere) => "a pointer from memory, or a cast".to_owned(),
        Root::Constant => "a constant address".to_owned(),
        Root::PerCpu => "per-CPU memory".to_owned(),
        Root::Unknown => "arithmetic or assembly".to_owned(),
    };
    match path.view.map(|View { ty, offset }| (name(ty), offset)) {
        Some((ty, offset)) if !ty.is_empty() => match offset {
            Some(0) => format!("{beginning}, used as {ty}"),
            Some(offset) => format!("{beginning}, used as {ty} at byte {offset}"),
            None => format!("{beginning}, used as {ty} at a computed byte"),
        },
        _ => beginning,
    }
}
