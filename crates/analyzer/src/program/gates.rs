//! Entries of the compartment: which functions others can call, and what a refusal returns.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::analysis::{Gate, Refusal};

use crate::{
    facts::{Facts, Shape, TypeId, Types, Use},
    program::{FunctionRef, Program, Request},
};

/// Gates of all confined files, sorted by file and function.
pub(crate) fn gates(program: &Program<'_>, request: &Request) -> Vec<Gate> {
    let mut gates = Vec::new();
    for (file, (meta, facts)) in program.files.iter().enumerate() {
        if !meta.confined {
            continue;
        }
        let mut entries: BTreeMap<&str, BTreeSet<Reach>> = BTreeMap::new();
        for reference in &facts.references {
            entries
                .entry(&reference.function)
                .or_default()
                .insert(reach(&facts.types, &reference.by));
        }
        for export in &facts.exports {
            entries.entry(export).or_default().insert(Reach {
                name: "export".into(),
                table: None,
            });
        }
        for (symbol, reached) in entries {
            let Some(at) = program.callee(file, symbol).filter(|at| at.file == file) else {
                continue;
            };
            gates.push(gate(program, at, &reached, request));
        }
    }
    merge(gates)
}

/// One gate per function of the source: what several files hold of a function in a header is one.
fn merge(gates: Vec<Gate>) -> Vec<Gate> {
    let mut merged: BTreeMap<(String, String), Gate> = BTreeMap::new();
    for gate in gates {
        let key = (gate.file.clone(), gate.function.clone());
        let Some(known) = merged.get_mut(&key) else {
            merged.insert(key, gate);
            continue;
        };
        known.reached_by.extend(gate.reached_by);
        known.reached_by.sort();
        known.reached_by.dedup();
        // Copies that are entered on behalf of different objects have no instance in common.
        if known.instance_argument != gate.instance_argument {
            known.instance_argument = None;
            known.instance_type = None;
        }
    }
    merged.into_values().collect()
}

/// Arguments that x86-64 passes in registers: the others cannot be read at a gate.
const ARGUMENT_REGISTERS: usize = 6;

/// A way to an entry, and the table that it goes through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reach {
    name: String,
    table: Option<TypeId>,
}

fn reach(types: &Types, by: &Use) -> Reach {
    let plain = |name: String| Reach { name, table: None };
    match by {
        Use::Member(table, member) => {
            let name = &types.get(*table).name;
            let short = name
                .strip_prefix("struct ")
                .or_else(|| name.strip_prefix("union "))
                .unwrap_or(name);
            Reach {
                name: format!("{short}.{member}"),
                table: Some(*table),
            }
        }
        Use::Argument(callee) => plain(format!("callback of {callee}")),
        Use::Stored => plain("address stored".into()),
        Use::Initcall => plain("initcall".into()),
        Use::Exitcall => plain("exitcall".into()),
    }
}

fn gate(
    program: &Program<'_>,
    at: FunctionRef,
    reached: &BTreeSet<Reach>,
    request: &Request,
) -> Gate {
    let facts = &program.files[at.file].1;
    let function = program.function(at);
    let instance = reached
        .iter()
        .filter_map(|r| principal(facts, r.table?))
        .find_map(|record| {
            let index = function
                .parameters
                .iter()
                .take(ARGUMENT_REGISTERS)
                .position(|p| p.and_then(|p| facts.types.pointee(p)) == Some(record))?;
            Some((u8::try_from(index).ok()?, record))
        });
    let reached_by: Vec<String> = reached
        .iter()
        .map(|r| r.name.clone())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let refusal = reached_by
        .iter()
        .find_map(|name| request.refusals.get(name))
        .cloned()
        .unwrap_or_else(|| refusal(&facts.types, function.result));
    Gate {
        file: function.file.clone(),
        function: function.name.clone(),
        reached_by,
        instance_argument: instance.map(|(index, _)| index),
        instance_type: instance.map(|(_, record)| facts.types.get(record).name.to_string()),
        refusal,
    }
}

/// The structure that most functions of a table take a pointer to; of equals the one that holds
/// the table, else the first.
fn principal(facts: &Facts, table: TypeId) -> Option<TypeId> {
    let types = &facts.types;
    let Shape::Record { members, .. } = &types.get(table).shape else {
        return None;
    };
    let mut counts: Vec<(TypeId, usize)> = Vec::new();
    for member in members {
        let Some(to) = types.pointee(member.ty) else {
            continue;
        };
        let Shape::Function { parameters, .. } = &types.get(to).shape else {
            continue;
        };
        let mut seen = BTreeSet::new();
        for parameter in parameters.iter().flatten() {
            let Some(record) = types.pointee(*parameter).filter(|r| types.is_record(*r)) else {
                continue;
            };
            if seen.insert(record) {
                match counts.iter_mut().find(|(known, _)| *known == record) {
                    Some((_, count)) => *count += 1,
                    None => counts.push((record, 1)),
                }
            }
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max()?;
    counts.retain(|(_, count)| *count == most);
    let own = counts.iter().find(|(record, _)| *record == table);
    own.or(counts.first()).map(|(record, _)| *record)
}

/// What a function of this return type gives back when it refuses.
fn refusal(types: &Types, result: Option<TypeId>) -> Refusal {
    let say = |value, name: &str| Refusal {
        value,
        name: name.into(),
    };
    let Some(ty) = result.map(|r| types.get(r)) else {
        return say(0, "void");
    };
    match ty.shape {
        Shape::Pointer(_) => say(0, "NULL"),
        Shape::Scalar if ty.name == "_Bool" => say(0, "false"),
        Shape::Scalar
            if matches!(
                ty.name.as_str(),
                "int" | "long" | "long long" | "short" | "signed char"
            ) =>
        {
            say(-5, "-EIO")
        }
        _ => say(0, "0"),
    }
}
