//! Function pointers of a module: places, flows between them, calls through them.

mod call_signature;
mod function;
mod globals;
mod layout;
mod origins;

use std::{collections::BTreeSet, rc::Rc};

use rustc_hash::FxHashMap as HashMap;

use crate::{
    bitcode::Value,
    extract::{paths::Unit, slots::layout::Layout},
    facts::{Path, Reference, Root, Shape, TypeId},
    signature::{self, element, function_type},
    slots::{MemberSlot, NameId, Place, PointerCall, RecordName, Slots, Unknown},
};

/// A type and a place in it; `None` when the place is not known.
type Spot = (TypeId, Option<u64>);

/// Offset and row of a member.
type Found = (u64, u32);

/// Collects the function pointers of one module.
pub(super) struct SlotReader<'u, 'm> {
    unit: &'u Unit<'m>,
    layout: Layout,
    names: HashMap<String, NameId>,
    /// Rows of members by slot.
    members: HashMap<MemberSlot, u32>,
    /// Slots of places that were looked up before.
    known: HashMap<Spot, Vec<Found>>,
    /// Signatures by function type.
    signatures: HashMap<TypeId, NameId>,
    /// What matters about functions that are called, by value key.
    callees: HashMap<usize, Rc<function::Callee>>,
    /// Signatures of functions, parameters and results that were met.
    declared: HashMap<Place, NameId>,
    flows: BTreeSet<(Place, Place)>,
    calls: Vec<PointerCall>,
    texts: Vec<String>,
    slots: Vec<MemberSlot>,
}

impl<'u, 'm> SlotReader<'u, 'm> {
    pub(super) fn new(unit: &'u Unit<'m>) -> Self {
        Self {
            unit,
            layout: Layout::default(),
            names: HashMap::default(),
            members: HashMap::default(),
            known: HashMap::default(),
            signatures: HashMap::default(),
            declared: HashMap::default(),
            callees: HashMap::default(),
            flows: BTreeSet::new(),
            calls: Vec::new(),
            texts: Vec::new(),
            slots: Vec::new(),
        }
    }

    /// Everything that was collected, with the signatures of the functions that matter.
    pub(super) fn finish(mut self, references: &BTreeSet<Reference>) -> Slots {
        let taken: BTreeSet<&str> = references.iter().map(|r| r.function.as_str()).collect();
        let mut signatures = BTreeSet::new();
        for function in self.unit.module.functions() {
            let name = function.name();
            let external = !function.is_declaration() && !function.is_internal();
            let declared = self.unit.signatures.get(&function.key());
            if let Some(declared) = declared
                && declared.line > 0
                && (external || taken.contains(name.as_str()))
            {
                let types = &self.unit.types;
                let text = signature::declared(types, declared.result, &declared.parameters);
                signatures.insert((self.name(&name), self.name(&text)));
            }
        }
        Slots {
            names: self.texts,
            members: self.slots,
            flows: self.flows.into_iter().collect(),
            calls: self.calls,
            signatures: signatures.into_iter().collect(),
        }
    }

    fn name(&mut self, text: &str) -> NameId {
        if let Some(id) = self.names.get(text) {
            return *id;
        }
        let id = NameId(self.texts.len() as u32);
        self.texts.push(text.to_owned());
        self.names.insert(text.to_owned(), id);
        id
    }

    fn symbol(&mut self, function: Value<'m>) -> NameId {
        self.name(&function.name())
    }

    /// Signature of a function type.
    fn signature(&mut self, function: TypeId) -> NameId {
        if let Some(id) = self.signatures.get(&function) {
            return *id;
        }
        let text = signature::of_type(&self.unit.types, function);
        let id = self.name(&text);
        self.signatures.insert(function, id);
        id
    }

    /// Signature that a declared type says, if it is a pointer to functions or an array of them.
    fn pointer_signature(&mut self, ty: Option<TypeId>) -> Option<NameId> {
        let types = &self.unit.types;
        let function = function_type(types, element(types, ty?))?;
        Some(self.signature(function))
    }

    /// Function pointers at a place of a type, with their offsets: everywhere in it without one.
    fn slots(&mut self, ty: TypeId, offset: Option<u64>) -> Vec<(u64, u32)> {
        if !self.layout.holds(&self.unit.types, ty) {
            return Vec::new();
        }
        if let Some(known) = self.known.get(&(ty, offset)) {
            return known.clone();
        }
        let found = self.layout.find(&self.unit.types, ty, offset);
        let rows: Vec<(u64, u32)> = found
            .into_iter()
            .map(|found| {
                let slot = MemberSlot {
                    record: self.record(found.record),
                    member: self.name(&found.member),
                    outer: found
                        .outer
                        .map(|(record, member)| (self.record(record), self.name(&member))),
                    signature: self.signature(found.function),
                };
                (found.offset, self.row(slot))
            })
            .collect();
        self.known.insert((ty, offset), rows.clone());
        rows
    }

    fn row(&mut self, slot: MemberSlot) -> u32 {
        let next = self.slots.len() as u32;
        let row = *self.members.entry(slot).or_insert(next);
        if row == next {
            self.slots.push(slot);
        }
        row
    }

    fn record(&mut self, ty: TypeId) -> RecordName {
        let row = self.unit.types.get(ty);
        let file = match &row.shape {
            Shape::Record { file, .. } => file.as_str(),
            _ => "",
        };
        RecordName {
            name: self.name(&row.name),
            file: self.name(file),
        }
    }

    /// What the memory that a path leads to holds, if it holds function pointers.
    fn held(&mut self, path: Path) -> Vec<Place> {
        if let Root::Global(row) = path.root
            && self
                .pointer_signature(self.unit.globals[row as usize].ty)
                .is_some()
        {
            return vec![Place::Variable(row)];
        }
        let Some(view) = path.view else {
            return Vec::new();
        };
        let offset = match view.offset.map(u64::try_from) {
            None => None,
            Some(Ok(offset)) => Some(offset),
            Some(Err(_)) => return Vec::new(),
        };
        self.slots(view.ty, offset)
            .into_iter()
            .map(|(_, row)| Place::Member(row))
            .collect()
    }

    fn flow(&mut self, from: Place, to: Place) {
        let known = match (from, to) {
            // A copy from one object to another: where the structure around them is not known,
            // it may be a different one.
            (Place::Member(a), Place::Member(b)) if a == b => {
                self.slots[a as usize].outer.is_some()
            }
            _ => from == to,
        };
        if !known {
            self.flows.insert((from, to));
        }
    }

    /// A place may hold functions that are written there in ways that are not followed.
    fn open(&mut self, place: Place) {
        let signature = self.declared(place);
        self.flow(Place::Unknown(Unknown::Untyped, signature), place);
    }

    /// Signature that a place is declared with.
    fn declared(&mut self, place: Place) -> Option<NameId> {
        match place {
            Place::Member(row) => Some(self.slots[row as usize].signature),
            Place::Variable(row) => self.pointer_signature(self.unit.globals[row as usize].ty),
            place => self.declared.get(&place).copied(),
        }
    }
}
