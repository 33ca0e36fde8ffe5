//! Rows for everything that a legal set names, and legal sets in terms of those rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use otf_artifact::{
    analysis::{AllocationSite, Global, HeapPlace, LegalSet, ObjectType, PassedObject},
    ids::{AllocationSiteId, GlobalId, ObjectTypeId},
};
use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

use crate::program::{
    Program, RecordId, evidence,
    legal::{LegalDraft, TypeRef},
    origins::{CallRef, Origins},
    places::Places,
    stock::Sites,
};

/// Rows of the tables.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) types: BTreeMap<ObjectType, usize>,
    pub(super) globals: BTreeMap<Global, usize>,
    rows: HashMap<TypeRef, ObjectTypeId>,
    sites: HashMap<CallRef, usize>,
}

impl Tables {
    /// The row of a structure, if a legal set names it.
    pub(super) fn record(
        &self,
        program: &Program<'_>,
        origins: &Origins,
        record: RecordId,
    ) -> Option<ObjectTypeId> {
        // Another row of the program may be the same to the eye.
        let ty = object_type(program, origins, TypeRef::Record(record));
        self.types.get(&ty).map(|row| ObjectTypeId::from(*row))
    }
}

/// Gives rows to everything that a legal set names, and to every allocation of the compartment.
pub(super) fn number(
    program: &Program<'_>,
    origins: &Origins,
    drafts: &[(&Places, Arc<LegalDraft>)],
) -> (Tables, Vec<AllocationSite>) {
    let mut calls: BTreeSet<CallRef> = origins
        .allocations
        .keys()
        .filter(|c| program.is_confined(c.function))
        .copied()
        .collect();
    let mut types: BTreeSet<TypeRef> = BTreeSet::new();
    let mut globals: BTreeSet<(usize, usize)> = BTreeSet::new();
    // Many places share them.
    let mut seen: HashSet<*const BTreeSet<CallRef>> = HashSet::default();
    for (_, draft) in drafts {
        types.extend(&draft.types);
        globals.extend(&draft.globals);
        for (place, sites) in &draft.heap {
            types.extend([place.target, place.container]);
            if seen.insert(Arc::as_ptr(sites)) {
                calls.extend(sites.iter());
            }
        }
    }
    for call in &calls {
        types.extend(origins.allocations[call].object_types(*call));
    }
    let mut tables = Tables {
        types: types
            .iter()
            .map(|t| (object_type(program, origins, *t), 0))
            .collect(),
        globals: globals
            .into_iter()
            .map(|g| (global(program, g), 0))
            .collect(),
        rows: HashMap::default(),
        sites: HashMap::default(),
    };
    for (row, index) in tables.types.values_mut().enumerate() {
        *index = row;
    }
    for (row, index) in tables.globals.values_mut().enumerate() {
        *index = row;
    }
    for ty in types {
        let row = tables.types[&object_type(program, origins, ty)];
        tables.rows.insert(ty, ObjectTypeId::from(row));
    }
    let mut sites: Vec<(AllocationSite, CallRef)> = calls
        .into_iter()
        .map(|call| (site(program, origins, &tables, call), call))
        .collect();
    sites.sort();
    let mut rows: Vec<AllocationSite> = Vec::new();
    for (site, call) in sites {
        if rows.last() != Some(&site) {
            rows.push(site);
        }
        tables.sites.insert(call, rows.len() - 1);
    }
    (tables, rows)
}

fn object_type(program: &Program<'_>, origins: &Origins, ty: TypeRef) -> ObjectType {
    match ty {
        TypeRef::Record(record) => {
            let record = &program.records[record.0];
            ObjectType {
                name: record.name.clone(),
                file: record.file.clone(),
                size: record.size,
            }
        }
        TypeRef::Buffer(call) => {
            let function = program.function(call.function);
            let line = function.calls[call.call as usize].line;
            ObjectType {
                name: format!("alloc:{}:{line}", function.file),
                file: String::new(),
                size: origins.allocations[&call].size.unwrap_or(0),
            }
        }
    }
}

fn global(program: &Program<'_>, at: (usize, usize)) -> Global {
    let facts = program.global(at);
    let image = if facts.defined {
        program.files[at.0].0.image.clone()
    } else {
        "vmlinux".into()
    };
    Global {
        image,
        symbol: facts.symbol.clone(),
        file: facts.file.clone(),
        size: facts.size,
        per_cpu: facts.per_cpu,
    }
}

fn site(program: &Program<'_>, origins: &Origins, tables: &Tables, at: CallRef) -> AllocationSite {
    let function = program.function(at.function);
    let call = &function.calls[at.call as usize];
    let allocation = &origins.allocations[&at];
    let meta = &program.files[at.function.file].0;
    AllocationSite {
        file: function.file.clone(),
        line: call.line,
        column: call.column,
        function: function.name.clone(),
        callee: allocation.allocator.symbol.to_owned(),
        image: meta.image.clone(),
        family: allocation.allocator.family,
        cache: allocation.cache.clone(),
        size: allocation.size,
        size_argument: allocation.allocator.size,
        count_argument: allocation.allocator.count,
        types: sorted(allocation.object_types(at).iter().map(|ty| tables.rows[ty])),
        because: evidence::types(program, allocation),
        confined: meta.confined,
    }
}

/// Rows of allocations that many places share, by where they are kept.
pub(super) type Shared = HashMap<*const BTreeSet<CallRef>, Vec<AllocationSiteId>>;

pub(super) fn set(
    program: &Program<'_>,
    tables: &Tables,
    draft: &LegalDraft,
    shared: &mut Shared,
) -> LegalSet {
    let mut rows = |sites: &Sites| {
        let row = |site: &CallRef| AllocationSiteId::from(tables.sites[site]);
        let known = shared.entry(Arc::as_ptr(sites));
        known
            .or_insert_with(|| sorted(sites.iter().map(row)))
            .clone()
    };
    let heap = draft.heap.iter().map(|(place, sites)| HeapPlace {
        target: tables.rows[&place.target],
        container: tables.rows[&place.container],
        offset: place.offset,
        dimensions: place.dimensions.clone(),
        size: place.size,
        allocation_sites: rows(sites),
        object_min: place.minimum,
        object_size: place.exact,
    });
    let mut heap: Vec<HeapPlace> = heap.collect();
    heap.sort();
    heap.dedup();
    let globals = draft.globals.iter().map(|g| global(program, *g));
    LegalSet {
        types: sorted(draft.types.iter().map(|t| tables.rows[t])),
        stack: draft.stack,
        passed: sorted(draft.passed.iter().map(|((function, parameter), bytes)| {
            let function = program.function(*function);
            PassedObject {
                file: function.file.clone(),
                function: function.name.clone(),
                parameter: *parameter,
                size: bytes.size,
                otherwise: bytes.otherwise,
            }
        })),
        globals: sorted(globals.map(|g| GlobalId::from(tables.globals[&g]))),
        heap,
        any_heap: reason(&draft.any_heap),
        any_global: reason(&draft.any_global),
        per_cpu: draft.per_cpu,
        user: draft.user,
    }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The first of several reasons, with the number of others.
fn reason(reasons: &BTreeSet<String>) -> Option<String> {
    let first = reasons.first()?;
    Some(match reasons.len() {
        1 => first.clone(),
        more => format!("{first} (and {} more)", more - 1),
    })
}
