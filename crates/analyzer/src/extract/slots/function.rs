//! Flows and calls in one function.

use std::rc::Rc;

use crate::{
    bitcode::{Kind, Opcode, Value},
    extract::{
        paths::Resolver,
        slots::{SlotReader, call_signature::of_call, globals::function_behind, origins::Frame},
    },
    facts::{Path, Shape, TypeId, Types, View},
    signature::{agree, element, function_type},
    slots::{MemberSlot, NameId, Place, PointerCall, Unknown},
};

/// Text in inline assembly that calls through a pointer.
const CALLS: &[&str] = &["call *", "call\t*", "jmp *", "__x86_indirect_thunk"];

/// Functions that copy memory from the second argument to the first, the third says how much.
const COPIES: &[&str] = &["memcpy", "memmove", "__memcpy", "__memmove"];

/// What a function does with an argument that may matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// IR argument, the parameter, its signature: a pointer to functions.
    Pointer(u32, Place, NameId),
    /// IR argument: the address of a pointer.
    Address(u32),
    /// IR argument of an undeclared type, and the parameter.
    Undeclared(u32, Place),
}

/// What matters about a function that is called.
#[derive(Default)]
pub(super) struct Callee {
    /// It copies memory from its second argument to the first.
    copies: bool,
    taken: Vec<Taken>,
}

impl<'m> SlotReader<'_, 'm> {
    /// Flows and calls of a function with a body; `resolver` is that of the function.
    pub(in crate::extract) fn function(
        &mut self,
        resolver: &Resolver<'_, 'm>,
        function: Value<'m>,
        instructions: &[Value<'m>],
    ) {
        let symbol = self.symbol(function);
        let frame = Frame::new(resolver, function, symbol, instructions);
        let result = self
            .unit
            .signatures
            .get(&function.key())
            .and_then(|s| s.result);
        let result = self.pointer_signature(result);
        for instruction in instructions {
            match instruction.kind() {
                Kind::Instruction(Opcode::Store) => self.store(&frame, *instruction),
                Kind::Instruction(Opcode::AtomicRMW) => {
                    self.kept(&frame, *instruction, 0, &[1]);
                }
                Kind::Instruction(Opcode::AtomicCmpXchg) => {
                    self.kept(&frame, *instruction, 0, &[2]);
                }
                Kind::Instruction(Opcode::Call | Opcode::CallBr) => {
                    self.call(&frame, *instruction);
                }
                Kind::Instruction(Opcode::Ret) if result.is_some() => {
                    if let Some(value) = instruction.operand(0) {
                        let to = Place::Result(symbol);
                        self.comes_to(&frame, value, to, result);
                    }
                }
                _ => {}
            }
        }
        let casts = resolver.flows.borrow().clone();
        for flow in casts {
            self.cast(flow.from.view, flow.to);
        }
    }

    fn store(&mut self, frame: &Frame<'_, '_, 'm>, store: Value<'m>) {
        let (Some(value), Some(to)) = (store.operand(0), store.operand(1)) else {
            return;
        };
        let wide = value.ty().is_pointer() || value.ty().width() == 64;
        if !wide || frame.resolver.is_simple(to) {
            return;
        }
        if value.kind() == Kind::Global {
            self.escape(value);
        }
        self.kept(frame, store, 1, &[0]);
    }

    /// Operands of an instruction are kept in the memory at another one.
    fn kept(
        &mut self,
        frame: &Frame<'_, '_, 'm>,
        instruction: Value<'m>,
        address: u32,
        values: &[u32],
    ) {
        let Some(address) = instruction.operand(address) else {
            return;
        };
        for path in self.address(frame.resolver, address) {
            let places = self.held(path);
            if places.is_empty() {
                continue;
            }
            let typed = !self.shared(path);
            for value in values.iter().filter_map(|i| instruction.operand(*i)) {
                for place in &places {
                    let signature = self.declared(*place);
                    for from in self.origins(frame, value, signature) {
                        if typed || self.fits(from, signature) {
                            self.flow(from, *place);
                        }
                    }
                }
            }
        }
    }

    /// Whether something else than pointers to functions may lie where a path leads: another
    /// member of a union, or any member when the offset is not known.
    fn shared(&self, path: Path) -> bool {
        let Some(view) = path.view else { return false };
        let types = &self.unit.types;
        let Some(offset) = view.offset.and_then(|o| u64::try_from(o).ok()) else {
            return types.is_record(element(types, view.ty));
        };
        types.at(view.ty, offset).into_iter().any(|ty| {
            matches!(types.get(ty).shape, Shape::Scalar | Shape::Pointer(_))
                && function_type(types, ty).is_none()
        })
    }

    /// Whether something is a pointer to functions of a signature.
    fn fits(&mut self, from: Place, signature: Option<NameId>) -> bool {
        let (Some(from), Some(to)) = (self.declared(from), signature) else {
            return !matches!(from, Place::Unknown(..));
        };
        agree(&self.texts[to.0 as usize], &self.texts[from.0 as usize])
    }

    fn comes_to(
        &mut self,
        frame: &Frame<'_, '_, 'm>,
        value: Value<'m>,
        to: Place,
        signature: Option<NameId>,
    ) {
        for from in self.origins(frame, value, signature) {
            self.flow(from, to);
        }
    }

    fn call(&mut self, frame: &Frame<'_, '_, 'm>, call: Value<'m>) {
        let Some(callee) = call.callee() else { return };
        match callee.kind() {
            Kind::Function => self.direct(frame, call, callee),
            Kind::Assembly => self.assembly(frame, call, callee),
            _ if function_behind(callee).is_some() => {}
            _ => self.indirect(frame, call, callee),
        }
    }

    fn direct(&mut self, frame: &Frame<'_, '_, 'm>, call: Value<'m>, callee: Value<'m>) {
        let callee = if let Some(known) = self.callees.get(&callee.key()) {
            Rc::clone(known)
        } else {
            let fresh = Rc::new(self.callee(callee));
            self.callees.insert(callee.key(), Rc::clone(&fresh));
            fresh
        };
        if callee.copies {
            self.copy(frame, call);
        }
        for taken in &callee.taken {
            match *taken {
                Taken::Pointer(index, to, signature) => {
                    if let Some(value) = call.operand(index) {
                        self.comes_to(frame, value, to, Some(signature));
                    }
                }
                Taken::Address(index) => {
                    if let Some(value) = call.operand(index) {
                        self.handed_out(frame, value);
                    }
                }
                Taken::Undeclared(index, to) => {
                    let value = call.operand(index);
                    if let Some(value) = value.filter(|v| v.kind() == Kind::Function) {
                        self.comes_to(frame, value, to, None);
                    }
                }
            }
        }
    }

    fn callee(&mut self, function: Value<'m>) -> Callee {
        let name = function.name();
        if name.starts_with("llvm.") {
            let copies = name.starts_with("llvm.memcpy.") || name.starts_with("llvm.memmove.");
            return Callee {
                copies,
                taken: Vec::new(),
            };
        }
        let mut callee = Callee {
            copies: COPIES.contains(&name.as_str()),
            taken: Vec::new(),
        };
        let unit = self.unit;
        let Some(declared) = unit.signatures.get(&function.key()) else {
            return callee;
        };
        let symbol = self.name(&name);
        for index in 0..function.parameter_count() {
            let Some(source) = declared.source(index) else {
                continue;
            };
            let to = Place::Parameter(symbol, source);
            let Some(ty) = declared.parameters.get(usize::from(source)) else {
                callee.taken.push(Taken::Undeclared(index, to));
                continue;
            };
            let pointee = ty.and_then(|ty| unit.types.pointee(ty));
            if let Some(signature) = self.pointer_signature(*ty) {
                callee.taken.push(Taken::Pointer(index, to, signature));
            } else if pointee.is_some_and(|to| is_pointer(&unit.types, to)) {
                callee.taken.push(Taken::Address(index));
            }
        }
        callee
    }

    /// The address of a function pointer is given to somebody who may write through it.
    fn handed_out(&mut self, frame: &Frame<'_, '_, 'm>, address: Value<'m>) {
        for path in frame.resolver.resolve(address) {
            for place in self.held(path) {
                self.open(place);
            }
        }
    }

    fn assembly(&mut self, frame: &Frame<'_, '_, 'm>, call: Value<'m>, callee: Value<'m>) {
        let operands: Vec<(u32, Value<'m>)> = (0..call.argument_count())
            .filter_map(|i| Some((i, call.operand(i)?)))
            .collect();
        let memory = |(i, _): &&(u32, Value<'m>)| call.is_memory_operand(*i);
        let homes: Vec<Value<'m>> = operands.iter().filter(memory).map(|(_, v)| *v).collect();
        let values: Vec<Value<'m>> = operands
            .iter()
            .filter(|o| !memory(o))
            .map(|(_, v)| *v)
            .collect();
        for home in homes {
            for path in frame.resolver.resolve(home) {
                for place in self.held(path) {
                    for value in &values {
                        let signature = self.declared(place);
                        self.comes_to(frame, *value, place, signature);
                    }
                }
            }
        }
        let text = callee.assembly().1;
        if CALLS.iter().any(|mark| text.contains(mark)) {
            let (line, column) = call.place();
            self.calls.push(PointerCall {
                function: frame.symbol,
                line,
                column,
                from: vec![Place::Unknown(Unknown::Computed, None)],
            });
        }
    }

    fn indirect(&mut self, frame: &Frame<'_, '_, 'm>, call: Value<'m>, callee: Value<'m>) {
        let signature = of_call(call).map(|text| self.name(&text));
        let from = self.origins(frame, callee, signature);
        let (line, column) = call.place();
        self.calls.push(PointerCall {
            function: frame.symbol,
            line,
            column,
            from: from.into_iter().collect(),
        });
        for index in 0..call.argument_count() {
            let Some(value) = call.operand(index).filter(|v| v.ty().is_pointer()) else {
                continue;
            };
            let Ok(argument) = u16::try_from(index) else {
                continue;
            };
            for origin in self.origins(frame, value, None) {
                // Data that is passed is no function; functions in untyped memory are found by
                // their signature.
                if !matches!(origin, Place::Unknown(..)) {
                    let unknown = self.name("?");
                    let signature = self.declared(origin).unwrap_or(unknown);
                    self.flow(origin, Place::Passed(argument, signature));
                }
            }
        }
    }

    /// Function pointers inside a structure that is copied as a whole.
    fn copy(&mut self, frame: &Frame<'_, '_, 'm>, call: Value<'m>) {
        let (Some(to), Some(from)) = (call.operand(0), call.operand(1)) else {
            return;
        };
        let length = call.operand(2).and_then(Value::integer);
        let length = length.and_then(|n| u64::try_from(n).ok());
        let (to, from) = (frame.resolver.resolve(to), frame.resolver.resolve(from));
        for to in &to {
            for from in &from {
                match (to.view, from.view) {
                    (Some(a), Some(b)) => self.matched(b, a, length),
                    (Some(one), None) | (None, Some(one)) => self.anywhere(one),
                    (None, None) => {}
                }
            }
        }
        // What is copied to a variable that is a function pointer comes from somewhere.
        for path in &to {
            if let [place @ Place::Variable(_)] = self.held(*path)[..] {
                self.open(place);
            }
        }
    }

    /// Pointers in a structure are copied to or from an untyped one: of the same type, but what is
    /// around it is not known.
    fn anywhere(&mut self, view: View) {
        for (_, row) in self.slots(view.ty, None) {
            let slot = MemberSlot {
                outer: None,
                ..self.slots[row as usize]
            };
            let place = Place::Member(self.row(slot));
            self.flow(place, place);
        }
    }

    /// Links what lies at the same offsets of two places.
    fn matched(&mut self, from: View, to: View, length: Option<u64>) {
        let types = &self.unit.types;
        let start = |view: View| view.offset.and_then(|o| u64::try_from(o).ok());
        if !self.layout.holds(types, from.ty) || !self.layout.holds(types, to.ty) {
            return;
        }
        let (Some(begin), Some(target)) = (start(from), start(to)) else {
            return;
        };
        for (offset, row) in self.slots(from.ty, None) {
            let inside = offset >= begin && length.is_none_or(|n| offset < begin.saturating_add(n));
            if !inside {
                continue;
            }
            for (_, other) in self.slots(to.ty, Some(target + (offset - begin))) {
                self.flow(Place::Member(row), Place::Member(other));
            }
        }
    }

    /// A structure seen as another one: what lies at the same offset is one thing.
    fn cast(&mut self, from: Option<View>, to: TypeId) {
        let Some(from) = from else { return };
        let to = View {
            ty: to,
            offset: Some(0),
        };
        let types = &self.unit.types;
        // A member that is made its container again has its own places in there.
        if types.contains(to.ty, None, from.ty) {
            return;
        }
        self.matched(from, to, None);
        self.matched(to, from, None);
    }
}

fn is_pointer(types: &Types, ty: TypeId) -> bool {
    matches!(types.get(ty).shape, Shape::Pointer(_))
}
