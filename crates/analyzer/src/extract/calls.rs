//! Calls of one function: arguments, and functions whose address is handed on.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap as HashMap;

use crate::{
    bitcode::{Kind, Opcode, Value},
    extract::{body::Body, module::member, paths::Unit},
    facts::{Argument, CallFacts, Integer, Path, Pointer, Reference, Root, TypeId, Use},
};

/// A call that is neither an intrinsic nor inline assembly.
pub(super) fn is_call(instruction: Value<'_>) -> bool {
    instruction.kind() == Kind::Instruction(Opcode::Call)
        && instruction
            .callee()
            .is_some_and(|callee| callee.kind() != Kind::Assembly && !callee.begins("llvm."))
}

/// Variables that hold a parameter's value and nothing else, for integers passed on.
pub(super) fn parameter_homes<'m>(
    unit: &Unit<'m>,
    function: Value<'m>,
    instructions: &[Value<'m>],
) -> HashMap<usize, Option<u16>> {
    let signature = &unit.signatures[&function.key()];
    let sources: HashMap<usize, Option<u16>> = function
        .parameters()
        .enumerate()
        .map(|(i, p)| (p.key(), signature.source(i as u32)))
        .collect();
    let mut homes = HashMap::default();
    for store in instructions
        .iter()
        .filter(|i| i.kind() == Kind::Instruction(Opcode::Store))
    {
        let (Some(value), Some(home)) = (store.operand(0), store.operand(1)) else {
            continue;
        };
        let source = sources.get(&value.key()).copied().flatten();
        homes
            .entry(home.key())
            .and_modify(|known| *known = None)
            .or_insert(source);
    }
    homes
}

impl<'m> Body<'_, 'm> {
    /// A call with its arguments as the source counts them.
    pub(super) fn call(&mut self, call: Value<'m>) -> CallFacts {
        let (line, column) = call.place();
        let callee = call.callee().filter(|c| c.kind() == Kind::Function);
        let signature = callee.and_then(|c| self.unit.signatures.get(&c.key()));
        let mut arguments: Vec<Option<Argument>> = Vec::new();
        for index in 0..call.argument_count() {
            let Some(value) = call.operand(index) else {
                continue;
            };
            let source = match signature {
                Some(signature) => signature.source(index),
                None => u16::try_from(index).ok(),
            };
            let Some(source) = source.map(usize::from) else {
                continue;
            };
            if arguments.len() <= source {
                arguments.resize(source + 1, None);
            }
            if arguments[source].is_none() {
                let declared = signature
                    .and_then(|s| *s.parameters.get(source)?)
                    .and_then(|t| self.unit.types.pointee(t));
                arguments[source] = Some(self.passed(value, declared));
            }
        }
        CallFacts {
            line,
            column,
            callee: callee.map(Value::name),
            arguments: arguments
                .into_iter()
                .map(|a| a.unwrap_or_else(nothing))
                .collect(),
        }
    }

    fn passed(&self, value: Value<'m>, declared: Option<TypeId>) -> Argument {
        let is_pointer = value.ty().is_pointer();
        let mut pointer = Pointer::new();
        if is_pointer || value.ty().width() == 64 {
            pointer = self.resolver.resolve(value);
            pointer.retain(|p| p.root != Root::Constant);
            // Of integers only those that come from a pointer.
            if !is_pointer {
                let derived = |p: &Path| p.view.is_some() || matches!(p.root, Root::Local);
                pointer.retain(derived);
            }
        }
        if let Some(to) = declared {
            for path in &pointer {
                self.resolver.note(*path, to);
            }
        }
        Argument {
            pointer,
            integer: self.integer(value, 0),
            text: (value.kind() == Kind::Global)
                .then(|| value.string())
                .flatten(),
            is_pointer,
        }
    }

    /// An integer: a constant, or a parameter that is passed on through conversions.
    fn integer(&self, value: Value<'m>, depth: u32) -> Integer {
        if let Some(constant) = value.integer() {
            return Integer::Constant(constant);
        }
        let inner = value.operand(0);
        match value.kind() {
            Kind::Instruction(Opcode::Load) => inner
                .filter(|home| self.resolver.is_simple(*home))
                .and_then(|home| self.scalars.get(&home.key()).copied().flatten())
                .map_or(Integer::Unknown, Integer::Parameter),
            Kind::Instruction(Opcode::ZExt | Opcode::SExt) if depth < 4 => {
                inner.map_or(Integer::Unknown, |v| self.integer(v, depth + 1))
            }
            _ => Integer::Unknown,
        }
    }

    /// Functions whose address this instruction hands to somebody.
    pub(super) fn references(&self, instruction: Value<'m>, found: &mut BTreeSet<Reference>) {
        let Kind::Instruction(opcode) = instruction.kind() else {
            return;
        };
        if opcode == Opcode::ICmp {
            return;
        }
        let callee = match opcode {
            Opcode::Call | Opcode::CallBr => instruction.callee(),
            _ => None,
        };
        let count = match callee {
            Some(_) => instruction.argument_count(),
            None => instruction.operand_count(),
        };
        for index in 0..count {
            let Some(value) = instruction.operand(index) else {
                continue;
            };
            if value.kind() != Kind::Function {
                continue;
            }
            let uses = match (opcode, callee) {
                (_, Some(callee)) => vec![Use::Argument(match callee.kind() {
                    Kind::Function => callee.name(),
                    Kind::Assembly => "inline assembly".into(),
                    _ => "an indirect call".into(),
                })],
                (Opcode::Store, None) => self.stored_in(instruction),
                _ => vec![Use::Stored],
            };
            found.extend(uses.into_iter().map(|by| Reference {
                function: value.name(),
                by,
            }));
        }
    }

    fn stored_in(&self, store: Value<'m>) -> Vec<Use> {
        let Some(to) = store.operand(1) else {
            return vec![Use::Stored];
        };
        self.resolver
            .resolve(to)
            .into_iter()
            .map(|path| {
                path.view
                    .and_then(|v| {
                        let offset = u64::try_from(v.offset?).ok()?;
                        member(&self.unit.types, v.ty, offset)
                    })
                    .map_or(Use::Stored, |(ty, name)| Use::Member(ty, name))
            })
            .collect()
    }
}

fn nothing() -> Argument {
    Argument {
        pointer: Pointer::new(),
        integer: Integer::Unknown,
        text: None,
        is_pointer: false,
    }
}
