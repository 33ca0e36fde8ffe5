//! Function pointers in initialisers.

use crate::{
    bitcode::{Kind, Value},
    extract::slots::SlotReader,
    facts::{Path, Reach, Root, TypeId, View},
    slots::Place,
};

/// Nesting of an initialiser that is followed.
const DEPTH: u32 = 32;

impl<'m> SlotReader<'_, 'm> {
    /// Functions that initialise globals.
    pub(in crate::extract) fn globals(&mut self) {
        for global in self.unit.module.globals() {
            let Some(row) = self.unit.global_rows.get(&global.key()).copied() else {
                continue;
            };
            let facts = &self.unit.globals[row as usize];
            // Keep symbols alive, and are gone from the image.
            if facts.symbol.starts_with("llvm.") || global.section() == ".discard.addressable" {
                continue;
            }
            let ty = facts.ty;
            if let Some(value) = global.initializer() {
                self.constant(row, ty, value, 0, 0);
            }
        }
    }

    fn constant(
        &mut self,
        row: u32,
        ty: Option<TypeId>,
        value: Value<'m>,
        offset: u64,
        depth: u32,
    ) {
        match value.kind() {
            Kind::Function | Kind::Alias => {
                let path = Path {
                    root: Root::Global(row),
                    reach: Reach::Object,
                    view: ty.map(|ty| View {
                        ty,
                        offset: i64::try_from(offset).ok(),
                    }),
                };
                if let Some(function) = function_behind(value) {
                    let from = Place::Function(self.symbol(function));
                    for to in self.held(path) {
                        self.flow(from, to);
                    }
                }
            }
            // The address of a pointer variable: somebody may write through it.
            Kind::Global => self.escape(value),
            Kind::Aggregate if depth < DEPTH => {
                let ir = value.ty();
                for index in 0..value.operand_count() {
                    let Some(part) = value.operand(index) else {
                        continue;
                    };
                    let at = if ir.is_struct() {
                        ir.field_offset(index)
                    } else {
                        u64::from(index) * part.ty().size()
                    };
                    self.constant(row, ty, part, offset + at, depth + 1);
                }
            }
            Kind::Expression(_) if depth < DEPTH => {
                for index in 0..value.operand_count() {
                    if let Some(part) = value.operand(index) {
                        self.constant(row, ty, part, offset, depth + 1);
                    }
                }
            }
            _ => {}
        }
    }

    /// The address of a variable that is a function pointer goes somewhere.
    pub(super) fn escape(&mut self, global: Value<'m>) {
        let Some(row) = self.unit.global_rows.get(&global.key()).copied() else {
            return;
        };
        let facts = &self.unit.globals[row as usize];
        if !facts.constant && self.pointer_signature(facts.ty).is_some() {
            self.open(Place::Variable(row));
        }
    }
}

/// The function that a value is, behind an alias.
pub(super) fn function_behind(value: Value<'_>) -> Option<Value<'_>> {
    match value.kind() {
        Kind::Function => Some(value),
        Kind::Alias => value.aliasee().filter(|f| f.kind() == Kind::Function),
        _ => None,
    }
}
