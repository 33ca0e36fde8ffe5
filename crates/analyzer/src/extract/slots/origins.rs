//! Where the function pointer in a value comes from, inside one function.

use std::{cell::OnceCell, collections::BTreeSet};

use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

use crate::{
    bitcode::{Kind, Opcode, Value},
    extract::{
        paths::Resolver,
        slots::{SlotReader, globals::function_behind},
    },
    facts::{Path, Pointer, Root, Shape, TypeId, View},
    signature::{declared as declared_text, element},
    slots::{NameId, Place, Unknown},
};

/// A function whose values are looked at.
pub(super) struct Frame<'r, 'u, 'm> {
    pub(super) resolver: &'r Resolver<'u, 'm>,
    pub(super) function: Value<'m>,
    pub(super) symbol: NameId,
    pub(super) instructions: &'r [Value<'m>],
    stores: OnceCell<HashMap<usize, Vec<Value<'m>>>>,
}

impl<'r, 'u, 'm> Frame<'r, 'u, 'm> {
    pub(super) fn new(
        resolver: &'r Resolver<'u, 'm>,
        function: Value<'m>,
        symbol: NameId,
        instructions: &'r [Value<'m>],
    ) -> Self {
        Self {
            resolver,
            function,
            symbol,
            instructions,
            stores: OnceCell::new(),
        }
    }

    /// Values stored to variables that only plain loads and stores touch, by the variable's key.
    fn stores(&self, variable: Value<'m>) -> &[Value<'m>] {
        self.stores
            .get_or_init(|| {
                let mut stores: HashMap<usize, Vec<Value<'m>>> = HashMap::default();
                for store in self.instructions {
                    if store.kind() == Kind::Instruction(Opcode::Store)
                        && let (Some(value), Some(home)) = (store.operand(0), store.operand(1))
                        && self.resolver.is_simple(home)
                    {
                        stores.entry(home.key()).or_default().push(value);
                    }
                }
                stores
            })
            .get(&variable.key())
            .map_or(&[], Vec::as_slice)
    }
}

/// One question about a value.
struct Question<'f, 'r, 'u, 'm> {
    frame: &'f Frame<'r, 'u, 'm>,
    seen: HashSet<usize>,
    found: BTreeSet<Place>,
}

impl<'m> SlotReader<'_, 'm> {
    /// Places that a value may come from. `signature` is what its user declares it as.
    pub(super) fn origins(
        &mut self,
        frame: &Frame<'_, '_, 'm>,
        value: Value<'m>,
        signature: Option<NameId>,
    ) -> BTreeSet<Place> {
        let mut question = Question {
            frame,
            seen: HashSet::default(),
            found: BTreeSet::new(),
        };
        self.ask(&mut question, value, signature);
        question.found
    }

    fn ask(
        &mut self,
        question: &mut Question<'_, '_, '_, 'm>,
        value: Value<'m>,
        signature: Option<NameId>,
    ) {
        if !question.seen.insert(value.key()) {
            return;
        }
        match value.kind() {
            Kind::Function | Kind::Alias => {
                if let Some(function) = function_behind(value) {
                    let place = Place::Function(self.symbol(function));
                    let unit = self.unit;
                    let declared = unit.signatures.get(&function.key());
                    if let Some(known) = declared.filter(|d| d.line > 0) {
                        let text = declared_text(&unit.types, known.result, &known.parameters);
                        let signature = self.name(&text);
                        self.declared.insert(place, signature);
                    }
                    question.found.insert(place);
                }
            }
            // Marks such as an error code in a pointer are no functions.
            Kind::Null | Kind::Integer => {}
            Kind::Argument => self.argument(question, value, signature),
            Kind::Global => {
                question
                    .found
                    .insert(Place::Unknown(Unknown::Data, signature));
            }
            Kind::Instruction(opcode) | Kind::Expression(opcode) => {
                self.instruction(question, value, opcode, signature);
            }
            _ => {
                question
                    .found
                    .insert(Place::Unknown(Unknown::Computed, signature));
            }
        }
    }

    fn operand(
        &mut self,
        question: &mut Question<'_, '_, '_, 'm>,
        value: Value<'m>,
        index: u32,
        signature: Option<NameId>,
    ) {
        if let Some(operand) = value.operand(index) {
            self.ask(question, operand, signature);
        }
    }

    fn instruction(
        &mut self,
        question: &mut Question<'_, '_, '_, 'm>,
        value: Value<'m>,
        opcode: Opcode,
        signature: Option<NameId>,
    ) {
        match opcode {
            Opcode::Load => self.load(question, value, signature),
            Opcode::AtomicRMW | Opcode::AtomicCmpXchg => {
                if let Some(address) = value.operand(0) {
                    self.memory(question, address, signature);
                }
            }
            Opcode::Phi => {
                for incoming in value.incoming() {
                    self.ask(question, incoming, signature);
                }
            }
            Opcode::Select => {
                self.operand(question, value, 1, signature);
                self.operand(question, value, 2, signature);
            }
            Opcode::BitCast
            | Opcode::IntToPtr
            | Opcode::PtrToInt
            | Opcode::AddrSpaceCast
            | Opcode::Freeze
            | Opcode::ExtractValue => self.operand(question, value, 0, signature),
            // Flag bits in a pointer.
            Opcode::And | Opcode::Or => {
                self.operand(question, value, 0, signature);
                self.operand(question, value, 1, signature);
            }
            Opcode::Call | Opcode::CallBr => self.called(question, value, signature),
            Opcode::GetElementPtr | Opcode::Alloca => {
                let paths = question.frame.resolver.resolve(value);
                let why = self.untyped(&paths, true);
                question.found.insert(Place::Unknown(why, signature));
            }
            _ => {
                question
                    .found
                    .insert(Place::Unknown(Unknown::Computed, signature));
            }
        }
    }

    fn argument(
        &mut self,
        question: &mut Question<'_, '_, '_, 'm>,
        value: Value<'m>,
        signature: Option<NameId>,
    ) {
        let Some((index, ty)) = self.parameter(question.frame.function, value) else {
            question
                .found
                .insert(Place::Unknown(Unknown::Computed, signature));
            return;
        };
        let types = &self.unit.types;
        let place = if let Some(declared) = self.pointer_signature(ty) {
            let place = Place::Parameter(question.frame.symbol, index);
            self.declared.insert(place, declared);
            place
        } else if ty.is_some_and(|ty| types.is_record(ty)) {
            // A structure by value: its members are places of their own.
            return;
        } else {
            let paths = question.frame.resolver.resolve(value);
            Place::Unknown(self.untyped(&paths, true), signature)
        };
        question.found.insert(place);
    }

    /// Source index and declared type of an IR parameter.
    fn parameter(&self, function: Value<'m>, value: Value<'m>) -> Option<(u16, Option<TypeId>)> {
        let declared = self.unit.signatures.get(&function.key())?;
        let row = function.parameters().position(|p| p.key() == value.key())?;
        let index = declared.source(row as u32)?;
        let ty = declared.parameters.get(usize::from(index)).copied()?;
        Some((index, ty))
    }

    fn load(
        &mut self,
        question: &mut Question<'_, '_, '_, 'm>,
        value: Value<'m>,
        signature: Option<NameId>,
    ) {
        let Some(home) = value.operand(0) else { return };
        let frame = question.frame;
        if !frame.resolver.is_simple(home) {
            self.memory(question, home, signature);
            return;
        }
        let declared = frame.resolver.variable_type(home);
        let signature = self.pointer_signature(declared).or(signature);
        for stored in frame.stores(home) {
            self.ask(question, *stored, signature);
        }
    }

    /// What the memory at an address holds.
    fn memory(
        &mut self,
        question: &mut Question<'_, '_, '_, 'm>,
        address: Value<'m>,
        signature: Option<NameId>,
    ) {
        for path in self.address(question.frame.resolver, address) {
            let held = self.held(path);
            if held.is_empty() {
                let why = self.untyped(&Pointer::from(path), false);
                question.found.insert(Place::Unknown(why, signature));
            }
            question.found.extend(held);
        }
    }

    fn called(
        &mut self,
        question: &mut Question<'_, '_, '_, 'm>,
        call: Value<'m>,
        signature: Option<NameId>,
    ) {
        let Some(callee) = call.callee() else { return };
        match callee.kind() {
            Kind::Assembly => {
                // `xchg` and what hides a value from the optimiser give back an operand.
                for index in 0..call.argument_count() {
                    let Some(operand) = call.operand(index) else {
                        continue;
                    };
                    if call.is_memory_operand(index) {
                        self.memory(question, operand, signature);
                    } else {
                        self.ask(question, operand, signature);
                    }
                }
                if !callee.assembly().1.is_empty() {
                    question
                        .found
                        .insert(Place::Unknown(Unknown::Untyped, signature));
                }
            }
            Kind::Function => {
                if callee.begins("llvm.") {
                    self.operand(question, call, 0, signature);
                    return;
                }
                let result = self
                    .unit
                    .signatures
                    .get(&callee.key())
                    .and_then(|s| s.result);
                let place = if let Some(declared) = self.pointer_signature(result) {
                    let place = Place::Result(self.symbol(callee));
                    self.declared.insert(place, declared);
                    place
                } else if result.is_some_and(|ty| self.unit.types.is_record(ty)) {
                    return;
                } else {
                    let paths = question.frame.resolver.resolve(call);
                    Place::Unknown(self.untyped(&paths, true), signature)
                };
                question.found.insert(place);
            }
            _ => {
                question
                    .found
                    .insert(Place::Unknown(Unknown::Untyped, signature));
            }
        }
    }

    /// Paths of an address. Where arithmetic has lost the way (per-CPU variables), the structure
    /// that the access itself names says what is accessed.
    pub(super) fn address(&self, resolver: &Resolver<'_, 'm>, address: Value<'m>) -> Pointer {
        let paths = resolver.resolve(address);
        let lost = |p: &Path| p.view.is_none_or(|v| v.offset.is_none_or(|o| o < 0));
        if !paths.iter().any(lost) {
            return paths;
        }
        let Some(view) = self.named(address) else {
            return paths;
        };
        paths
            .into_iter()
            .map(|path| {
                if lost(&path) {
                    Path {
                        view: Some(view),
                        ..path
                    }
                } else {
                    path
                }
            })
            .collect()
    }

    /// Structure and offset that an access names.
    fn named(&self, address: Value<'m>) -> Option<View> {
        if !matches!(
            address.kind(),
            Kind::Instruction(Opcode::GetElementPtr) | Kind::Expression(Opcode::GetElementPtr)
        ) {
            return None;
        }
        let mut ty = address.gep_source();
        let named = *self.unit.by_ir_name.get(ty.struct_name()?)?;
        let mut offset = 0;
        for index in 2..address.operand_count() {
            let constant = address.operand(index).and_then(Value::integer).unwrap_or(0);
            if let Some(field) = u32::try_from(constant).ok().and_then(|i| ty.field(i)) {
                offset += ty.field_offset(constant as u32);
                ty = field;
            } else {
                // Elements of an array hold the same.
                ty = ty.element()?;
            }
        }
        Some(View {
            ty: named,
            offset: i64::try_from(offset).ok(),
        })
    }

    /// Why paths say nothing: of a pointer itself (`itself`), or of what lies where it points.
    fn untyped(&self, paths: &Pointer, itself: bool) -> Unknown {
        let data = paths.iter().any(|path| self.is_data(*path, itself));
        if data {
            Unknown::Data
        } else {
            Unknown::Untyped
        }
    }

    /// Whether a path leads to something that is declared as data.
    fn is_data(&self, path: Path, itself: bool) -> bool {
        let types = &self.unit.types;
        let Some(view) = path.view else { return false };
        if itself {
            let pointee = types.get(element(types, view.ty));
            return path.root != Root::Constant
                && pointee.name != "void"
                && matches!(pointee.shape, Shape::Scalar | Shape::Record { .. });
        }
        let Some(Ok(offset)) = view.offset.map(u64::try_from) else {
            return false;
        };
        types.at(view.ty, offset).into_iter().any(|ty| {
            types
                .pointee(ty)
                .is_some_and(|to| matches!(types.get(to).shape, Shape::Scalar))
        })
    }
}
