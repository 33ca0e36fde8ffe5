//! Abstract places to legal sets.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use otf_artifact::analysis::{Dimension, Family, HeapPlace, StackRule};
use rayon::prelude::*;
use rustc_hash::FxHashMap as HashMap;

use crate::{
    facts::{Root, Shape},
    program::{
        FunctionRef, Program, RecordId,
        casts::Disguise,
        layout::{Layout, Placement, reduce, run},
        origins::{CallRef, Origins},
        places::{Place, Places},
        stock::{Sites, Stock},
    },
};

/// An object type before it has a row: a structure, or a buffer named after its allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TypeRef {
    Record(RecordId),
    Buffer(CallRef),
}

/// A heap place before tables have rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Draft {
    pub(crate) target: TypeRef,
    pub(crate) container: TypeRef,
    pub(crate) offset: u64,
    pub(crate) dimensions: Vec<Dimension>,
    pub(crate) size: u64,
    pub(crate) minimum: u64,
    pub(crate) exact: Option<u64>,
}

/// A parameter of a function.
type Parameter = (FunctionRef, u16);

/// What of stacks is legal where a parameter points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PassedBytes {
    pub(crate) size: u64,
    pub(crate) otherwise: StackRule,
}

/// A legal set before tables have rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LegalDraft {
    pub(crate) types: BTreeSet<TypeRef>,
    pub(crate) stack: StackRule,
    pub(crate) passed: BTreeMap<Parameter, PassedBytes>,
    pub(crate) globals: BTreeSet<(usize, usize)>,
    /// Places with the allocations that give out their objects.
    pub(crate) heap: BTreeMap<Arc<Draft>, Sites>,
    pub(crate) any_heap: BTreeSet<String>,
    pub(crate) any_global: BTreeSet<String>,
    pub(crate) per_cpu: bool,
    pub(crate) user: bool,
}

impl LegalDraft {
    fn merge(&mut self, other: &Self) {
        self.types.extend(&other.types);
        self.stack = self.stack.max(other.stack);
        for (parameter, bytes) in &other.passed {
            let known = self.passed.entry(*parameter).or_insert(*bytes);
            known.otherwise = known.otherwise.max(bytes.otherwise);
        }
        self.globals.extend(&other.globals);
        for (place, sites) in &other.heap {
            self.add(place, sites);
        }
        self.any_heap.extend(other.any_heap.iter().cloned());
        self.any_global.extend(other.any_global.iter().cloned());
        self.per_cpu |= other.per_cpu;
        self.user |= other.user;
    }

    fn add(&mut self, place: &Arc<Draft>, sites: &Sites) {
        let Some(known) = self.heap.get_mut(place) else {
            self.heap.insert(Arc::clone(place), Arc::clone(sites));
            return;
        };
        if Arc::ptr_eq(known, sites) || sites.is_subset(known) {
            return;
        }
        if known.is_subset(sites) {
            *known = Arc::clone(sites);
        } else {
            Arc::make_mut(known).extend(sites.iter());
        }
    }
}

/// What a type means, wherever it lies.
struct Typed {
    draft: LegalDraft,
    /// Open containers that it lies in.
    trusted: BTreeSet<RecordId>,
}

/// A type, and whether a run of its elements may be written.
type Kind = (RecordId, bool);

/// Places of a type beyond which they are not listed: a table of them would check nothing.
const PLACES: usize = 1024;

/// Knows for each place what it means.
pub(crate) struct Legal<'p, 'a> {
    program: &'p Program<'a>,
    origins: &'p Origins,
    layout: Layout,
    stock: Stock,
    globals: BTreeMap<RecordId, BTreeSet<(usize, usize)>>,
    locals: BTreeMap<RecordId, StackRule>,
    /// Types that others begin with, whose objects may have room for more.
    bases: BTreeSet<RecordId>,
    /// Types that other memory is cast to, which may have room for more.
    disguised: BTreeSet<RecordId>,
    /// Whether allocations were seen of a type, or of one that holds it.
    allocated: Vec<OnceLock<bool>>,
    /// Open containers that closed types lie in, with the types.
    pub(crate) trusted: BTreeMap<RecordId, BTreeSet<RecordId>>,
}

impl<'p, 'a> Legal<'p, 'a> {
    pub(crate) fn new(program: &'p Program<'a>, origins: &'p Origins) -> Self {
        let layout = Layout::new(program, &origins.areas, &origins.loose);
        let mut legal = Self {
            program,
            origins,
            stock: Stock::new(program, origins, &layout),
            layout,
            globals: BTreeMap::new(),
            locals: BTreeMap::new(),
            bases: origins.downcasts.iter().map(|(_, base)| *base).collect(),
            disguised: disguised(program),
            allocated: program.records.iter().map(|_| OnceLock::new()).collect(),
            trusted: BTreeMap::new(),
        };
        for (file, (_, facts)) in program.files.iter().enumerate() {
            for (row, global) in facts.globals.iter().enumerate() {
                let record = global.ty.and_then(|ty| program.record(file, ty));
                if let Some(record) = record.filter(|_| !global.constant) {
                    let global = program.definition(file, row);
                    legal.globals.entry(record).or_default().insert(global);
                }
            }
        }
        for (record, disguises) in &origins.variables {
            for disguise in disguises {
                match disguise {
                    Disguise::Global(file, row) => {
                        if !program.global((*file, *row)).constant {
                            let known = legal.globals.entry(*record).or_default();
                            known.insert((*file, *row));
                        }
                    }
                    Disguise::Local(function) => legal.local(*record, *function),
                }
            }
        }
        for function in program.functions() {
            for ty in &program.function(function).locals {
                if let Some(record) = program.record(function.file, *ty) {
                    legal.local(record, function);
                }
            }
        }
        legal
    }

    /// Notes that objects of a type lie in a function's frame.
    fn local(&mut self, record: RecordId, function: FunctionRef) {
        let rule = if self.program.is_confined(function) {
            StackRule::Compartment
        } else {
            StackRule::Any
        };
        let known = self.locals.entry(record).or_default();
        *known = rule.max(*known);
    }

    /// Whether objects of this type have bytes behind the declared ones.
    pub(crate) fn is_open_ended(&self, record: RecordId) -> bool {
        self.layout.is_open_ended(self.program, record)
    }

    /// The union of each set of places as a legal set, in the order of the sets.
    pub(crate) fn drafts<'s>(
        &mut self,
        sets: BTreeSet<&'s Places>,
    ) -> Vec<(&'s Places, Arc<LegalDraft>)> {
        let places: BTreeSet<Place> = sets.iter().copied().flatten().copied().collect();
        let kinds: BTreeSet<Kind> = places.iter().filter_map(|p| kind(*p)).collect();
        let kinds: Vec<Kind> = kinds.into_iter().collect();
        let typed: Vec<(Kind, Typed)> = kinds
            .into_par_iter()
            .with_max_len(1)
            .map(|(record, runs)| ((record, runs), self.typed(record, runs)))
            .collect();
        let typed: BTreeMap<Kind, Typed> = typed.into_iter().collect();
        let places: Vec<Place> = places.into_iter().collect();
        let known: HashMap<Place, Arc<LegalDraft>> = places
            .into_par_iter()
            .map(|place| (place, Arc::new(self.place(place, &typed))))
            .collect();
        let sets: Vec<&Places> = sets.into_iter().collect();
        let drafts = sets.into_par_iter().map(|set| {
            let mut places = set.iter().map(|place| &known[place]);
            let draft = if let (Some(only), None) = (places.next(), places.next()) {
                Arc::clone(only)
            } else {
                let mut draft = LegalDraft::default();
                for place in set {
                    draft.merge(&known[place]);
                }
                Arc::new(draft)
            };
            (set, draft)
        });
        let drafts = drafts.collect();
        for ((record, _), typed) in typed {
            for container in typed.trusted {
                self.trusted.entry(container).or_default().insert(record);
            }
        }
        drafts
    }

    fn place(&self, place: Place, typed: &BTreeMap<Kind, Typed>) -> LegalDraft {
        let mut draft = LegalDraft::default();
        match place {
            Place::Own => draft.stack = StackRule::Own,
            Place::Compartment => draft.stack = StackRule::Compartment,
            Place::Caller => draft.stack = StackRule::Any,
            Place::Global(file, row) => {
                draft.globals.insert((file, row));
            }
            Place::PerCpu => draft.per_cpu = true,
            Place::User => draft.user = true,
            Place::Untyped => {
                anywhere(
                    &mut draft,
                    "the pointer has no structure type in the source",
                );
            }
            Place::Object(call) => self.object(call, &mut draft),
            Place::Typed(record) => draft = typed[&(record, false)].draft.clone(),
            Place::Run(record) => draft = typed[&(record, true)].draft.clone(),
            Place::Passed(passed) => {
                let record = passed.record;
                draft = typed[&(record, passed.runs)].draft.clone();
                let size = self.program.records[record.0].size;
                // Where a whole structure is copied there may be an array of them.
                let bounded = !passed.runs || passed.within;
                if bounded
                    && size > 0
                    && !self.is_open_ended(record)
                    && !self.disguised.contains(&record)
                    && draft.stack > StackRule::Own
                {
                    let otherwise = std::mem::take(&mut draft.stack);
                    let bytes = PassedBytes { size, otherwise };
                    let parameter = (passed.function, passed.parameter);
                    draft.passed.insert(parameter, bytes);
                }
            }
        }
        draft
    }

    fn typed(&self, record: RecordId, runs: bool) -> Typed {
        let program = self.program;
        let mut draft = LegalDraft::default();
        let mut trusted = BTreeSet::new();
        draft.types.insert(TypeRef::Record(record));
        let facts = &program.records[record.0];
        if !program.is_closed(record) {
            let place = if facts.file.is_empty() {
                "outside the scope"
            } else {
                &facts.file
            };
            let reason = format!(
                "{} is defined in {place}: containers outside the scope are not known",
                facts.name
            );
            anywhere(&mut draft, &reason);
            return Typed { draft, trusted };
        }
        for placement in self.layout.placements(program, record) {
            let container = placement.container;
            self.locate(record, &placement, runs, &mut draft);
            // Where nobody knows of an object, nobody knows of what lies in it.
            for reason in self.origins.strangers.get(&container).into_iter().flatten() {
                let name = &program.records[container.0].name;
                anywhere(&mut draft, &format!("{name} {reason}"));
            }
            if program.is_closed(container) {
                continue;
            }
            if self.is_allocated(container) {
                trusted.insert(container);
            } else {
                let reason = format!(
                    "{} lies in {}, whose allocations are outside the scope",
                    facts.name, program.records[container.0].name
                );
                anywhere(&mut draft, &reason);
            }
        }
        if draft.heap.len() > PLACES {
            let count = draft.heap.len();
            let reason = format!("{} lies in {count} places: too many to list", facts.name);
            anywhere(&mut draft, &reason);
            draft.heap.clear();
        }
        let nowhere = draft.heap.is_empty()
            && draft.globals.is_empty()
            && draft.stack == StackRule::None
            && draft.any_heap.is_empty()
            && !draft.per_cpu;
        if nowhere {
            draft.any_heap.insert(format!(
                "no allocation of {} was found in the scope",
                facts.name
            ));
        }
        Typed { draft, trusted }
    }

    /// Whether allocations were seen of this type, or of one that holds it.
    fn is_allocated(&self, record: RecordId) -> bool {
        *self.allocated[record.0].get_or_init(|| {
            let placements = self.layout.placements(self.program, record);
            placements
                .iter()
                .any(|p| self.stock.of(p.container).is_some())
        })
    }

    /// Adds the objects of a placement's container.
    fn locate(&self, record: RecordId, placement: &Placement, runs: bool, draft: &mut LegalDraft) {
        let container = placement.container;
        let bytes = self.program.records[container.0].size;
        // A variable has no bytes behind its type, so no private area.
        if placement.minimum <= bytes {
            if let Some(globals) = self.globals.get(&container) {
                draft.globals.extend(globals);
            }
            if let Some(rule) = self.locals.get(&container) {
                draft.stack = draft.stack.max(*rule);
            }
        }
        let Some(kinds) = self.stock.of(container) else {
            return;
        };
        draft.per_cpu |= kinds.per_cpu;
        for group in &kinds.groups {
            let Some(chosen) = group.at_least(placement.minimum, self.origins) else {
                continue;
            };
            let mut place = placement.clone();
            if let Some(array) = group.array {
                place.dimensions.insert(0, array);
            }
            place = reduce(place);
            if runs {
                place = run(place);
                if self.bases.contains(&record) {
                    place.size = HeapPlace::TO_END;
                }
            }
            // A cache's objects may end before their type does: of `task_struct` the tail is left out.
            let needed = match group.dedicated {
                true if container == record && place.dimensions.is_empty() => {
                    place.size = HeapPlace::TO_END;
                    1
                }
                true if place.size != HeapPlace::TO_END => reach(&place),
                _ => place.minimum,
            };
            // What begins somewhere in the container must not be taken for the type itself.
            let target = if place.loose { container } else { record };
            let place = Draft {
                target: TypeRef::Record(target),
                container: TypeRef::Record(container),
                offset: place.offset,
                dimensions: place.dimensions,
                size: place.size,
                minimum: chosen.least.unwrap_or(0).max(needed),
                exact: chosen.least.filter(|_| chosen.uniform),
            };
            draft.add(&Arc::new(place), &chosen.sites);
        }
    }

    /// Adds the object of one allocation call.
    fn object(&self, call: CallRef, draft: &mut LegalDraft) {
        let allocation = &self.origins.allocations[&call];
        if allocation.allocator.family == Family::PerCpu {
            draft.per_cpu = true;
        }
        let mut types = allocation.object_types(call);
        if types.is_empty() || allocation.remote {
            types.insert(TypeRef::Buffer(call));
        }
        for ty in &types {
            draft.types.insert(*ty);
            let (bytes, open_ended) = match ty {
                TypeRef::Record(record) => (
                    self.program.records[record.0].size.max(1),
                    self.layout.is_open_ended(self.program, *record) || self.bases.contains(record),
                ),
                TypeRef::Buffer(_) => (allocation.size.unwrap_or(1).max(1), false),
            };
            // A dedicated cache holds one object, whatever its size.
            let single = allocation.size == Some(bytes)
                || allocation.allocator.family == Family::Slab && matches!(ty, TypeRef::Record(_));
            let place = Draft {
                target: *ty,
                container: *ty,
                offset: 0,
                dimensions: Vec::new(),
                size: if single && !open_ended {
                    bytes
                } else {
                    HeapPlace::TO_END
                },
                minimum: allocation.size.unwrap_or(bytes),
                exact: allocation.size,
            };
            let sites = Arc::new(BTreeSet::from([call]));
            draft.add(&Arc::new(place), &sites);
        }
    }
}

/// Types of which an object may go on behind their end: something declared as something else is
/// used as one (`(struct nft_data *)buffer`), or they share a union with something larger.
fn disguised(program: &Program<'_>) -> BTreeSet<RecordId> {
    let mut found = BTreeSet::new();
    for (file, (_, facts)) in program.files.iter().enumerate() {
        for ty in &facts.types.0 {
            let Shape::Record { members, .. } = &ty.shape else {
                continue;
            };
            if members.len() < 2 || members.iter().any(|m| m.offset > 0) {
                continue;
            }
            let smaller = members
                .iter()
                .filter(|m| facts.types.get(m.ty).size < ty.size);
            found.extend(smaller.filter_map(|m| program.record(file, m.ty)));
        }
    }
    for function in program.functions() {
        for flow in &program.function(function).flows {
            // Memory without a type is what the cast says.
            if flow.from.view.is_some() && !matches!(flow.from.root, Root::Call(_)) {
                found.extend(program.record(function.file, flow.to));
            }
        }
    }
    found
}

/// Bytes from the object's start to the end of the last element.
fn reach(place: &Placement) -> u64 {
    let steps = place.dimensions.iter();
    let last: u64 = steps.map(|d| d.stride * d.count.saturating_sub(1)).sum();
    place.offset + last + place.size
}

/// The type that a place asks for.
fn kind(place: Place) -> Option<Kind> {
    match place {
        Place::Typed(record) => Some((record, false)),
        Place::Run(record) => Some((record, true)),
        Place::Passed(passed) => Some((passed.record, passed.runs)),
        _ => None,
    }
}

/// Every writable object, for one reason.
fn anywhere(draft: &mut LegalDraft, reason: &str) {
    draft.stack = StackRule::Any;
    draft.any_heap.insert(reason.to_owned());
    draft.any_global.insert(reason.to_owned());
    draft.per_cpu = true;
}
