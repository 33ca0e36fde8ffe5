//! Bitcode of one translation unit to facts.

mod body;
mod calls;
mod module;
mod paths;
mod retype;
mod slots;
mod types;
mod written;

pub(crate) use {module::source_name, written::written};

use otf_artifact::diagnostic::{Code, Diagnostic};
use rustc_hash::FxHashMap as HashMap;

use crate::{
    extract::{
        module::{is_declare, variable_type},
        paths::{Unit, finish_types},
        slots::SlotReader,
        types::{Files, TypeReader, join},
    },
    facts::{Facts, Reference, TypeId, Use},
    ir::{Class, Kind, Module, Opcode, Value},
};

/// Operand of a compile unit that lists types which only casts use.
const RETAINED_TYPES: usize = 5;

pub(crate) fn unreadable(name: &str, message: &str) -> Diagnostic {
    Diagnostic::error(
        Code::BadBitcode,
        format!("the bitcode of {name} cannot be read: {message}"),
    )
    .help("make the bitcode again; the analyzer reads what clang of LLVM 19 writes")
}

/// Number of instructions: reads the bitcode as [`facts`] does and visits every instruction, and
/// nothing more. What reading costs alone, for measurements.
pub fn walk(bitcode: &[u8], name: &str) -> Result<u64, Diagnostic> {
    let module = Module::parse(bitcode).map_err(|message| unreadable(name, &message))?;
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
/// LLVM's reader may crash on bitcode that was damaged after the compiler wrote it: callers check
/// the hash of what they cached first. One LLVM context per call, so calls may run in parallel.
pub fn facts(bitcode: &[u8], name: &str) -> Result<Facts, Diagnostic> {
    let bad = |message: String| unreadable(name, &message);
    let module = Module::parse(bitcode).map_err(bad)?;
    let units = module.compile_units();
    let Some(unit) = units.first().copied() else {
        return Err(bad("it has no debug information (clang -g)".into()));
    };
    let path = module
        .node(unit, 0)
        .filter(|f| f.class() == Class::File)
        .map(|f| join(&f.file()))
        .unwrap_or_default();

    let mut reader = TypeReader::new(&module, Files::new(&path, name));
    if let Some(list) = module.node(unit, RETAINED_TYPES) {
        for ty in module.operands(list).into_iter().flatten() {
            reader.read(ty.as_meta());
        }
    }
    let signatures = module::signatures(&module, &mut reader);
    let mut bodies = Vec::new();
    for function in module.functions().filter(|f| !f.is_declaration()) {
        let instructions = function.instructions();
        let declared = declared(&module, &mut reader, &instructions);
        bodies.push((function, instructions, declared));
    }
    let globals = module::globals(&module, &mut reader);
    let (types, by_ir_name) = finish_types(reader);
    let assembly = module.assembly();
    let mut references = module::references(&module, &types, &globals);
    references.extend(
        module::initcalls(&assembly)
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
        exports: module::exports(&assembly, &globals),
        slots,
        globals: unit.globals,
        types: unit.types,
    })
}

/// Declared types of a function's variables, by the value that is their home.
fn declared<'m>(
    module: &'m Module,
    reader: &mut TypeReader<'m>,
    instructions: &[Value<'m>],
) -> HashMap<usize, TypeId> {
    let mut declared = HashMap::default();
    for call in instructions.iter().copied() {
        if call.kind() != Kind::Instruction(Opcode::LLVMCall) || !is_declare(call) {
            continue;
        }
        let home = call.operand(0).and_then(Value::wrapped);
        let variable = call
            .operand(1)
            .and_then(Value::as_meta)
            .filter(|v| v.class() == Class::Local);
        if let (Some(home), Some(variable)) = (home, variable)
            && let Some(ty) = variable_type(module, reader, variable)
        {
            declared.insert(home.key(), ty);
        }
    }
    declared
}
