//! Writes, calls and casts of one function.

use std::collections::BTreeSet;

use otf_artifact::analysis::WriteKind;
use rustc_hash::FxHashMap as HashMap;

use crate::{
    bitcode::{Kind, Opcode, Value},
    extract::{
        calls::{is_call, parameter_homes},
        paths::{Resolver, Unit, variable},
        slots::SlotReader,
        written::{Ir as _, range},
    },
    facts::{
        FunctionFacts, Holder, Path, Pointer, Reference, Root, Shape, TypeId, Types, UserAccess,
        Variable, WriteFacts,
    },
};

/// Text in inline assembly that goes through an exception table or a user-access routine.
const USER_MARKS: &[&str] = &[
    "__ex_table",
    "put_user",
    "rep_movs_alternative",
    "copy_user",
];

/// Facts of a function with a body; uses of functions' addresses are added to `references`.
pub(crate) fn function<'m>(
    unit: &Unit<'m>,
    function: Value<'m>,
    instructions: &[Value<'m>],
    declared: HashMap<usize, TypeId>,
    references: &mut BTreeSet<Reference>,
    slots: &mut SlotReader<'_, 'm>,
) -> FunctionFacts {
    let calls: Vec<Value<'m>> = instructions
        .iter()
        .copied()
        .filter(|i| is_call(*i))
        .collect();
    let rows = calls
        .iter()
        .enumerate()
        .map(|(row, call)| (call.key(), row as u32))
        .collect();
    let resolver = Resolver::new(unit, function, instructions, declared, rows);
    let mut body = Body {
        unit,
        resolver,
        function,
        scalars: parameter_homes(unit, function, instructions),
        writes: Vec::new(),
        returns: Pointer::new(),
        stored: BTreeSet::new(),
        kept: BTreeSet::new(),
        locals: BTreeSet::new(),
    };
    for instruction in instructions {
        body.instruction(*instruction);
        body.references(*instruction, references);
    }
    let calls = calls.into_iter().map(|c| body.call(c)).collect();
    slots.function(&body.resolver, function, instructions);
    let signature = &unit.signatures[&function.key()];
    FunctionFacts {
        symbol: function.name(),
        name: signature.name.clone(),
        file: signature.file.clone(),
        line: signature.line,
        internal: function.is_internal(),
        parameters: signature.parameters.clone(),
        result: signature.result,
        locals: body.locals.into_iter().collect(),
        writes: body.writes,
        calls,
        returns: body.returns,
        stored: body.stored.into_iter().collect(),
        kept: body.kept.into_iter().collect(),
        flows: body.resolver.into_flows(),
    }
}

pub(super) struct Body<'u, 'm> {
    pub(super) unit: &'u Unit<'m>,
    pub(super) resolver: Resolver<'u, 'm>,
    function: Value<'m>,
    pub(super) scalars: HashMap<usize, Option<u16>>,
    writes: Vec<WriteFacts>,
    returns: Pointer,
    stored: BTreeSet<(Variable, Path)>,
    kept: BTreeSet<(Holder, Path)>,
    locals: BTreeSet<TypeId>,
}

impl<'m> Body<'_, 'm> {
    fn instruction(&mut self, instruction: Value<'m>) {
        let Kind::Instruction(opcode) = instruction.kind() else {
            return;
        };
        match opcode {
            Opcode::Store => self.store(instruction),
            Opcode::AtomicRMW | Opcode::AtomicCmpXchg => {
                let size = instruction.operand_size(1);
                if let Some(to) = instruction.operand(0) {
                    self.write(instruction, to, WriteKind::Atomic, size, UserAccess::No);
                }
            }
            Opcode::Call | Opcode::CallBr => self.effect(instruction),
            Opcode::Ret => self.result(instruction),
            Opcode::Alloca if !self.resolver.is_simple(instruction) => {
                if let Some(ty) = self.resolver.variable_type(instruction)
                    && holds_record(&self.unit.types, ty)
                {
                    self.locals.insert(ty);
                }
            }
            _ => {}
        }
    }

    fn store(&mut self, store: Value<'m>) {
        let (Some(value), Some(to)) = (store.operand(0), store.operand(1)) else {
            return;
        };
        if self.resolver.is_simple(to) {
            return;
        }
        let size = store.operand_size(0);
        self.write(store, to, WriteKind::Store, size, UserAccess::No);
        if !value.ty().is_pointer() {
            return;
        }
        let values = self.resolver.resolve(value);
        for target in self.resolver.resolve(to) {
            let kinds = self.resolver.pointers_at(target.view);
            for value in &values {
                self.keep(target, *value, &kinds);
                // In a union one member that fits is enough.
                if !kinds.iter().any(|kind| self.resolver.fits(*value, *kind)) {
                    for kind in kinds.iter().flatten() {
                        self.resolver.note(*value, *kind);
                    }
                }
            }
            if let Some(variable) = variable(target) {
                // Of caches every store counts: one that is missed would leave a wrong name.
                let cache = kinds.iter().flatten().any(|k| self.resolver.is_cache(*k));
                let told = |v: &&Path| match v.root {
                    Root::Call(_) => true,
                    Root::Constant => false,
                    _ => cache,
                };
                self.stored
                    .extend(values.iter().filter(told).map(|v| (variable, *v)));
            }
        }
    }

    /// Notes a pointer that is stored where the source does not say what it leads to.
    fn keep(&mut self, target: Path, value: Path, kinds: &BTreeSet<Option<TypeId>>) {
        if matches!(value.root, Root::Constant | Root::Unknown | Root::Result) {
            return;
        }
        // In a union with a `void *` that is the member that fits.
        if let (Root::Call(_), None, false) = (value.root, value.view, kinds.contains(&None)) {
            for kind in kinds.iter().flatten() {
                self.resolver.note(value, *kind);
            }
        }
        let traced = |kind: &Option<TypeId>| kind.is_none_or(|to| self.resolver.is_cache(to));
        if (value.view.is_none() || kinds.iter().any(traced))
            && let Some(member) = self.resolver.member(target.view)
        {
            self.kept.insert((member, value));
        }
    }

    fn result(&mut self, ret: Value<'m>) {
        let Some(value) = ret.operand(0) else { return };
        if !value.ty().is_pointer() && value.ty().width() != 64 {
            return;
        }
        let declared = self.unit.signatures[&self.function.key()].result;
        let to = declared.and_then(|t| self.unit.types.pointee(t));
        for path in self.resolver.resolve(value) {
            // A cast on return is evidence like any other, but callers want the path behind it.
            if let Some(to) = to {
                self.resolver.note(path, to);
            }
            if path.root != Root::Constant {
                self.returns.insert(path);
            }
        }
    }

    /// Inline assembly, memory intrinsics and functions that write a range.
    fn effect(&mut self, call: Value<'m>) {
        let Some(callee) = call.callee() else { return };
        match callee.kind() {
            Kind::Assembly => self.assembly(call, callee),
            Kind::Function => {
                if let Some(range) = range(call, callee) {
                    self.write(call, range.to, WriteKind::Bulk, range.size, range.user);
                }
            }
            _ => {}
        }
    }

    fn assembly(&mut self, call: Value<'m>, callee: Value<'m>) {
        let (constraints, body) = callee.assembly();
        let clobbers = constraints.contains("~{memory}");
        let user = if USER_MARKS.iter().any(|mark| body.contains(mark)) {
            UserAccess::Possible
        } else {
            UserAccess::No
        };
        let mut seen = BTreeSet::new();
        for index in 0..call.argument_count() {
            let Some(to) = call.operand(index) else {
                continue;
            };
            let memory = call.is_memory_operand(index);
            let pointer = to.ty().is_pointer() && to.kind() != Kind::Function;
            if pointer && (memory || clobbers) && seen.insert(to.key()) {
                self.write(call, to, WriteKind::Asm, 0, user);
            }
        }
    }

    fn write(
        &mut self,
        at: Value<'m>,
        to: Value<'m>,
        kind: WriteKind,
        size: u64,
        user: UserAccess,
    ) {
        let (line, column) = at.place();
        let segment = to.ty().is_segment();
        let mut pointer = Pointer::new();
        for mut path in self.resolver.resolve(to) {
            match path.root {
                // Assembly takes addresses of constants too, but nothing writes there.
                Root::Global(row) if self.unit.globals[row as usize].constant => continue,
                Root::Global(_) => {}
                _ if segment => path.root = Root::PerCpu,
                _ => {}
            }
            pointer.insert(path);
        }
        if pointer.len() > 1 {
            pointer.retain(|p| p.root != Root::Constant);
        }
        // Values that the compiler itself spills have no place in the source.
        let spill = line == 0 && pointer.iter().all(|p| p.root == Root::Local);
        if !pointer.is_empty() && !spill {
            self.writes.push(WriteFacts {
                line,
                column,
                kind,
                size,
                pointer,
                user,
            });
        }
    }
}

fn holds_record(types: &Types, ty: TypeId) -> bool {
    match types.get(ty).shape {
        Shape::Record { .. } => true,
        Shape::Array { element, .. } => holds_record(types, element),
        _ => false,
    }
}
