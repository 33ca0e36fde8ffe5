//! Types of objects whose own function does not name one: from whoever gets them later, from what
//! they are copied from, and arrays of plain values.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use rustc_hash::FxHashMap as HashMap;

use crate::{
    program::{
        Program, RecordId,
        legal::TypeRef,
        origins::{Allocation, Because, CallRef, Returned, note},
        voids::Voids,
    },
    tables::Product,
};

/// Allocators that give out text.
const TEXTS: &[&str] = &[
    "kasprintf",
    "kmemdup_nul",
    "kstrdup",
    "kstrdup_noprof",
    "kstrndup",
    "kstrndup_noprof",
    "kvasprintf",
    "memdup_user_nul",
];

/// Allocators that copy what their first argument leads to.
const DUPLICATES: &[&str] = &[
    "devm_kmemdup",
    "kmemdup",
    "kmemdup_array",
    "kmemdup_noprof",
    "kvmemdup",
];

impl Allocation {
    /// Types of the object; an array of plain values is a type of its own. Empty when unknown.
    pub(super) fn object_types(&self, at: CallRef) -> BTreeSet<TypeRef> {
        if self.types.is_empty() && self.plain {
            return BTreeSet::from([TypeRef::Buffer(at)]);
        }
        self.types.keys().copied().map(TypeRef::Record).collect()
    }
}

/// Adds types to allocations that have none.
pub(super) fn complete(
    program: &Program<'_>,
    voids: &Voids,
    returned: &BTreeMap<CallRef, BTreeSet<Returned>>,
    allocations: &mut BTreeMap<CallRef, Allocation>,
) {
    let mut receivers: HashMap<CallRef, Vec<CallRef>> = HashMap::default();
    for (call, origins) in returned {
        for origin in origins {
            if let Returned::Object(site) = origin {
                receivers.entry(*site).or_default().push(*call);
            }
        }
    }
    allocations.par_iter_mut().for_each(|(site, allocation)| {
        if allocation.allocator.product == Product::Page || !allocation.types.is_empty() {
            return;
        }
        let calls = receivers.get(site).map_or(&[] as &[_], Vec::as_slice);
        let calls = || std::iter::once(site).chain(calls);
        allocation.plain = TEXTS.contains(&allocation.allocator.symbol)
            || calls().any(|call| is_plain(program, *call));
        if DUPLICATES.contains(&allocation.allocator.symbol) {
            for call in calls() {
                let records = copied(program, *call);
                note(&mut allocation.types, records, Because::Copied(*call));
            }
        }
        if allocation.types.is_empty() && !allocation.plain {
            let seen = voids.of_calls(calls().copied());
            note(&mut allocation.types, seen.records, Because::Later(*site));
            allocation.plain = seen.plain;
        }
        allocation.remote = !allocation.types.is_empty();
    });
}

/// Whether what a call returned is used as something that is no structure.
fn is_plain(program: &Program<'_>, at: CallRef) -> bool {
    let casts = program.function(at.function).casts_of(at.call);
    casts
        .iter()
        .any(|flow| program.record(at.function.file, flow.to).is_none())
}

/// Structures that the first argument of a call leads to, or is used as in the same function.
fn copied(program: &Program<'_>, at: CallRef) -> BTreeSet<RecordId> {
    let function = program.function(at.function);
    let file = at.function.file;
    let first = function.calls[at.call as usize].arguments.first();
    let mut found = BTreeSet::new();
    for path in first.into_iter().flat_map(|argument| &argument.pointer) {
        match path.view {
            Some(view) if view.offset == Some(0) => found.extend(program.record(file, view.ty)),
            Some(_) => {}
            None => {
                let uses = function.flows.iter().filter(|flow| flow.from == *path);
                found.extend(uses.filter_map(|flow| program.record(file, flow.to)));
            }
        }
    }
    found
}
