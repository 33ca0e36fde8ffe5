//! Bitcode of one translation unit to facts.

mod body;
mod calls;
mod module;
mod paths;
mod retype;
mod slots;
mod types;
mod written;

pub(crate) use written::{Ir, written};

use otf_artifact::diagnostic::{Code, Diagnostic};
use rustc_hash::FxHashMap as HashMap;

use crate::{
    bitcode::{Class, Module, Value},
    extract::{
        paths::{Unit, finish_types},
        slots::SlotReader,
        types::{Files, TypeReader, join},
    },
    facts::{Facts, Reference, TypeId, Use},
    ir,
};

pub(crate) fn unreadable(name: &str, message: &str) -> Diagnostic {
    Diagnostic::error(
        Code::BadBitcode,
        format!("the bitcode of {name} cannot be read: {message}"),
    )
    .help("make the bitcode again; the analyzer reads what clang of LLVM 19 writes")
}

/// Number of instructions: lets LLVM read the bitcode and visits every instruction, and nothing
/// more. What LLVM costs alone, for measurements.
pub fn walk(bitcode: &[u8], name: &str) -> Result<u64, Diagnostic> {
    let module = ir::Module::parse(bitcode).map_err(|message| unreadable(name, &message))?;
    Ok(module
        .functions()
        .map(|function| function.instructions().len() as u64)
        .sum())
}

/// Reads the facts of one translation unit from its bitcode.
///
/// `name` is the source file relative to the kernel tree; the tree's own place is found by taking
/// it off the path that the compiler was given, and does not appear in the facts.
///
/// Damaged bitcode is an error, or facts of something else: callers check the hash of what they
/// cached first.
pub fn facts(bitcode: &[u8], name: &str) -> Result<Facts, Diagnostic> {
    let bad = |message: String| unreadable(name, &message);
    let module = Module::parse(bitcode).map_err(|e| bad(e.to_string()))?;
    let Some(unit) = module.compile_units().next() else {
        return Err(bad("it has no debug information (clang -g)".into()));
    };
    let path = unit
        .file()
        .filter(|f| f.class() == Class::File)
        .map(|f| join(&f.path()))
        .unwrap_or_default();

    let mut reader = TypeReader::new(Files::new(&path, name));
    // Types that only casts use.
    for ty in unit.elements() {
        reader.read(Some(ty));
    }
    let signatures = module::signatures(&module, &mut reader);
    let mut bodies = Vec::new();
    for function in module.functions().filter(|f| !f.is_declaration()) {
        let instructions = function.instructions();
        let declared = declared(&mut reader, function);
        bodies.push((function, instructions, declared));
    }
    let globals = module::globals(&module, &mut reader);
    let (types, by_ir_name) = finish_types(reader);
    let assembly = module.assembly();
    let mut references = module::references(&module, &types, &globals);
    references.extend(
        module::initcalls(assembly)
            .into_iter()
            .map(|function| Reference {
                function,
                by: Use::Initcall,
            }),
    );
    let unit = Unit {
        module: &module,
        types,
        by_ir_name,
        signatures,
        global_rows: globals
            .iter()
            .enumerate()
            .map(|(row, (value, _))| (value.key(), row as u32))
            .collect(),
        globals: globals.iter().map(|(_, facts)| facts.clone()).collect(),
    };
    let mut slots = SlotReader::new(&unit);
    slots.globals();
    let functions = bodies
        .into_iter()
        .map(|(function, instructions, declared)| {
            body::function(
                &unit,
                function,
                &instructions,
                declared,
                &mut references,
                &mut slots,
            )
        })
        .collect();
    let slots = slots.finish(&references);
    Ok(Facts {
        source: name.to_owned(),
        functions,
        references: references.into_iter().collect(),
        exports: module::exports(assembly, &globals),
        slots,
        globals: unit.globals,
        types: unit.types,
    })
}

/// Declared types of a function's variables, by the value that is their home.
fn declared<'m>(reader: &mut TypeReader<'m>, function: Value<'m>) -> HashMap<usize, TypeId> {
    let mut declared = HashMap::default();
    for (_, home, variable) in function.declares() {
        if variable.class() == Class::Local
            && let Some(ty) = reader.read(variable.base())
        {
            declared.insert(home.key(), ty);
        }
    }
    declared
}
