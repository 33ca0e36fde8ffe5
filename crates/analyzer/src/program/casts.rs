//! Where casts say that types lie: private areas, buffers, variables declared as something else.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    facts::{Root, TypeId, Types, View},
    program::{
        FunctionRef, RecordId,
        layout::Area,
        origins::{CallRef, Origin, Search},
    },
    tables::allocator,
};

/// Functions that turn a number into a pointer that nobody may follow.
const ERRORS: &[&str] = &["ERR_PTR", "ERR_CAST", "IOMEM_ERR_PTR"];

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
    pub(super) downcasts: BTreeSet<(RecordId, RecordId)>,
    pub(super) loose: BTreeSet<(RecordId, RecordId)>,
    pub(super) strangers: BTreeMap<RecordId, BTreeSet<String>>,
    pub(super) variables: BTreeMap<RecordId, BTreeSet<Disguise>>,
}

impl Casts {
    fn stranger(&mut self, record: RecordId, reason: String) {
        self.strangers.entry(record).or_default().insert(reason);
    }
}

/// Whether a cast goes from a member without a structure type back to what holds it.
fn leads_back(types: &Types, view: View, to: TypeId) -> bool {
    let before = view.offset.and_then(i64::checked_neg).filter(|o| *o > 0);
    before.and_then(|o| u64::try_from(o).ok()).is_some_and(|o| {
        // A flexible array begins where the structure ends.
        let inner = types.at(to, o);
        inner.contains(&view.ty) || view.ty == Types::VOID && !inner.is_empty()
    })
}

impl Search<'_, '_> {
    /// A typed use of an address inside an object is a private area there.
    pub(super) fn note_areas(&self, at: CallRef, origins: &BTreeSet<Origin>, casts: &mut Casts) {
        let types = self.uses(at);
        for origin in origins {
            if let Origin::Inside { record, offset } = origin {
                for inner in &types {
                    self.area(*record, *offset, *inner, casts);
                }
            }
        }
        if types.is_empty() {
            return;
        }
        let Some(reason) = self.doubt(at, origins) else {
            return;
        };
        for record in types {
            casts.stranger(record, reason.clone());
        }
    }

    /// Why what a call returned may be memory that no allocation in the scope gave out.
    fn doubt(&self, at: CallRef, origins: &BTreeSet<Origin>) -> Option<String> {
        if let Some(name) = self.stranger(at) {
            return Some(format!("comes from {name}, of which nothing is known"));
        }
        let function = self.program.function(at.function);
        let symbol = function.calls[at.call as usize].callee.as_deref()?;
        if !self.program.whole || ERRORS.contains(&symbol) || allocator(symbol).is_some() {
            return None;
        }
        let name = &function.name;
        if origins.contains(&Origin::Boot) {
            return Some(format!("comes from boot memory in {name}"));
        }
        if origins.contains(&Origin::Buffer) {
            return Some(format!("lies in a buffer without a type in {name}"));
        }
        // What is sometimes a known pointer is one with marks in it otherwise.
        let computed = origins.iter().all(|o| *o == Origin::Unknown);
        computed.then(|| format!("comes from {symbol} in {name}, which computes the address"))
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
                    self.area(record, offset, inner, casts);
                }
                _ if types.is_record(view.ty) => {
                    // `container_of` of a member in an array is no evidence.
                    let member = self.program.record(function.file, view.ty);
                    if let Some(member) = member.filter(|m| !self.holds(inner, *m, 0)) {
                        casts.loose.insert((member, inner));
                    }
                }
                _ if leads_back(types, view, flow.to) => {}
                _ => {
                    let name = &self.program.function(function).name;
                    casts.stranger(inner, format!("lies in a buffer without a type in {name}"));
                }
            }
        }
    }

    fn area(&self, container: RecordId, offset: i64, inner: RecordId, casts: &mut Casts) {
        let Ok(offset) = u64::try_from(offset) else {
            return;
        };
        let directly = self.program.parts[container.0]
            .iter()
            .any(|p| p.inner == inner);
        // From a member back to what holds it (`container_of` of the first member) is no area.
        let back = offset == 0 && self.reaches(inner, container, 0);
        if back && container != inner {
            casts.downcasts.insert((inner, container));
        }
        if container != inner && !back && !directly {
            casts.areas.insert(Area {
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
