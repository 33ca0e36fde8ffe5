//! Where casts say that types lie: private areas, buffers, variables declared as something else.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    facts::Root,
    program::{
        FunctionRef, RecordId,
        layout::Area,
        origins::{CallRef, Origin, Search},
    },
};

/// A variable that holds a type which it is not declared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Disguise {
    /// A variable in the frame of this function.
    Local(FunctionRef),
    /// The global in this file and row.
    Global(usize, usize),
}

/// What casts say about where types lie.
#[derive(Default)]
pub(super) struct Casts {
    pub(super) areas: BTreeSet<Area>,
    pub(super) strangers: BTreeMap<RecordId, BTreeSet<String>>,
    pub(super) variables: BTreeMap<RecordId, BTreeSet<Disguise>>,
}

impl Casts {
    fn stranger(&mut self, record: RecordId, reason: String) {
        self.strangers.entry(record).or_default().insert(reason);
    }
}

impl Search<'_, '_> {
    /// A typed use of an address inside an object is a private area there.
    pub(super) fn note_areas(&self, at: CallRef, origins: &BTreeSet<Origin>, casts: &mut Casts) {
        let types = self.uses(at);
        for origin in origins {
            if let Origin::Inside { record, offset } = origin {
                for inner in &types {
                    self.area(*record, *offset, *inner, &mut casts.areas);
                }
            }
        }
        if let Some(name) = self.stranger(at) {
            for record in types {
                casts.stranger(
                    record,
                    format!("comes from {name}, of which nothing is known"),
                );
            }
        }
    }

    /// Casts of a pointer into one thing to a pointer to a structure that is not declared there.
    pub(super) fn note_casts(&self, function: FunctionRef, casts: &mut Casts) {
        for flow in &self.program.function(function).flows {
            let Some(inner) = self.program.record(function.file, flow.to) else {
                continue;
            };
            let begins = flow.from.view.is_none_or(|v| v.offset == Some(0));
            let disguise = match flow.from.root {
                Root::Local => Some(Disguise::Local(function)),
                Root::Global(row) => {
                    let (file, row) = self.program.definition(function.file, row as usize);
                    Some(Disguise::Global(file, row))
                }
                // The start of what a call returned: see `uses`.
                Root::Call(_) if begins => continue,
                _ => None,
            };
            if let Some(disguise) = disguise {
                casts.variables.entry(inner).or_default().insert(disguise);
                continue;
            }
            let Some(view) = flow.from.view else { continue };
            let types = &self.program.files[function.file].1.types;
            match self.inside(function.file, flow.from.view) {
                Some(Origin::Inside { record, offset }) => {
                    self.area(record, offset, inner, &mut casts.areas);
                }
                _ if types.is_record(view.ty) => {
                    // `container_of` of a member in an array is no evidence.
                    let member = self.program.record(function.file, view.ty);
                    if !member.is_some_and(|m| self.holds(inner, m, 0)) {
                        let name = &types.get(view.ty).name;
                        casts.stranger(inner, format!("lies at an unknown place in {name}"));
                    }
                }
                _ => casts.stranger(inner, "lies in a buffer without a type".into()),
            }
        }
    }

    fn area(&self, container: RecordId, offset: i64, inner: RecordId, areas: &mut BTreeSet<Area>) {
        let Ok(offset) = u64::try_from(offset) else {
            return;
        };
        let directly = self.program.parts[container.0]
            .iter()
            .any(|p| p.inner == inner);
        // From a member back to what holds it (`container_of` of the first member) is no area.
        let back = offset == 0 && self.reaches(inner, container, 0);
        if container != inner && !back && !directly {
            areas.insert(Area {
                container,
                offset,
                inner,
            });
        }
    }

    /// Whether a record has another one in it, however deep.
    fn holds(&self, outer: RecordId, inner: RecordId, depth: u32) -> bool {
        outer == inner
            || depth < 12
                && self.program.parts[outer.0]
                    .iter()
                    .any(|p| self.holds(p.inner, inner, depth + 1))
    }

    /// Whether a record begins with another one.
    fn reaches(&self, outer: RecordId, inner: RecordId, depth: u32) -> bool {
        outer == inner
            || depth < 12
                && self.program.parts[outer.0]
                    .iter()
                    .any(|p| self.reaches(p.inner, inner, depth + 1))
    }
}
