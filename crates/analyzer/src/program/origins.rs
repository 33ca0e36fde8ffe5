//! Which calls give out which objects.
//!
//! A wrapper is found by what it returns: a function that returns what an allocator returned is
//! an allocator for its callers. An allocation belongs to the first function on the way up that
//! is not written in a header, because that is where DWARF puts the inlined code.

use std::{
    cell::{OnceCell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

use crate::{
    facts::{Argument, FunctionFacts, Integer, Path, Pointer, Root, Types, View},
    program::{
        FunctionRef, Program, RecordId,
        caches::Keeper,
        casts::{Casts, Disguise},
        layout::Area,
        receivers,
        voids::Voids,
    },
    tables::{ALLOCATORS, Allocator, Product, allocator, sounds_like_allocator},
};

/// A call of a function: the function and the row of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CallRef {
    pub(crate) function: FunctionRef,
    pub(crate) call: u32,
}

/// The cache that an object comes from, seen from inside a function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cache {
    Parameter(u16),
    Named(String),
    Unknown,
}

/// An allocation that belongs to whoever calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pending {
    /// Row of the allocator table.
    allocator: usize,
    size: Size,
    cache: Cache,
    types: Typed,
}

/// Why an object has a type: the source place that says so. The first kind says it best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Because {
    /// The function of this call uses what it returns so.
    Used(CallRef),
    /// What this call calls is declared to return so.
    Declared(CallRef),
    /// It is a copy of what the first argument of this call leads to.
    Copied(CallRef),
    /// Somebody who gets what this call returned, as a pointer without a type, casts it so.
    Later(CallRef),
}

/// Types of an object, each with the best place that says so.
pub(crate) type Typed = BTreeMap<RecordId, Because>;

/// Adds types that one place names.
pub(super) fn note(types: &mut Typed, records: impl IntoIterator<Item = RecordId>, why: Because) {
    for record in records {
        let known = types.entry(record).or_insert(why);
        *known = why.min(*known);
    }
}

fn merge(types: &mut Typed, more: &Typed) {
    for (record, why) in more {
        note(types, [*record], *why);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Size {
    Constant(u64),
    Parameter(u16),
    Unknown,
}

/// What a call returns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// Object of this allocation call.
    Object(CallRef),
    /// Object of an allocation that no function outside headers has claimed yet.
    Pending(Pending),
    /// Address inside an object of this type.
    Inside { record: RecordId, offset: i64 },
    /// The function's own parameter.
    Parameter(u16),
    /// A pointer that somebody stored: an object that was made elsewhere.
    Loaded,
    /// Somewhere in a buffer of bytes.
    Buffer,
    /// Memory that is there from boot on.
    Boot,
    /// Something else.
    Unknown,
}

/// An allocation call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allocation {
    pub(crate) allocator: &'static Allocator,
    pub(crate) size: Option<u64>,
    pub(crate) cache: Option<String>,
    pub(crate) types: Typed,
    /// The types are those of whoever gets the object later: there may be others.
    pub(crate) remote: bool,
    /// It is used as an array of numbers, characters or pointers.
    pub(crate) plain: bool,
}

/// What a pointer that a call returned may be, for callers of this module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Returned {
    /// Object of this allocation call.
    Object(CallRef),
    /// Somewhere in an object of this type.
    Inside(RecordId),
    /// What this argument of the call is.
    Argument(u16),
    /// Something else too.
    Unknown,
}

/// Allocations by the calls that make them.
type Allocations = BTreeMap<CallRef, Allocation>;

/// What calls return.
type Results = BTreeMap<CallRef, BTreeSet<Returned>>;

/// Allocation calls and private areas of the whole program.
pub(crate) struct Origins {
    pub(crate) allocations: Allocations,
    pub(crate) areas: BTreeSet<Area>,
    /// Types whose objects also lie where no place can be named, with the reason.
    pub(crate) strangers: BTreeMap<RecordId, BTreeSet<String>>,
    /// Types that begin with another one, which pointers to that are cast to: the first is the outer.
    pub(crate) downcasts: BTreeSet<(RecordId, RecordId)>,
    /// Types that lie somewhere in objects of another one, which comes first.
    pub(crate) loose: BTreeSet<(RecordId, RecordId)>,
    /// Types in variables that are declared as something else.
    pub(crate) variables: BTreeMap<RecordId, BTreeSet<Disguise>>,
    returned: Results,
}

impl Origins {
    pub(crate) fn find(program: &Program<'_>) -> Self {
        let (found, voids) = rayon::join(|| Self::search(program), || Voids::gather(program));
        let (mut allocations, casts, returned) = found;
        receivers::complete(program, &voids, &returned, &mut allocations);
        Self {
            allocations,
            areas: casts.areas,
            strangers: casts.strangers,
            variables: casts.variables,
            downcasts: casts.downcasts,
            loose: casts.loose,
            returned,
        }
    }

    /// Allocations, casts and what calls return, before anybody asks who gets the objects later.
    fn search(program: &Program<'_>) -> (Allocations, Casts, Results) {
        let mut search = Search {
            program,
            caches: HashMap::default(),
            memo: vec![OnceCell::new(); program.calls.len()],
            active: RefCell::default(),
            nothing: Rc::default(),
            claimed: RefCell::default(),
        };
        search.caches = search.name_caches();
        let mut casts = Casts::default();
        let mut returned = BTreeMap::new();
        for function in program.functions() {
            for call in 0..program.function(function).calls.len() {
                let call = CallRef {
                    function,
                    call: call as u32,
                };
                let origins = search.of_call(call);
                search.note_areas(call, &origins, &mut casts);
                let public = Search::returned(&origins);
                if !public.is_empty() {
                    returned.insert(call, public);
                }
            }
            search.note_casts(function, &mut casts);
        }
        (search.claimed.into_inner(), casts, returned)
    }

    /// Number of allocations of which nothing says what they are for.
    pub(crate) fn untyped(&self) -> usize {
        let objects = self.allocations.iter();
        objects
            .filter(|(at, a)| a.object_types(**at).is_empty())
            .count()
    }

    /// What a call returns; empty when nothing is known.
    pub(crate) fn returned(&self, call: CallRef) -> impl Iterator<Item = &Returned> {
        self.returned.get(&call).into_iter().flatten()
    }
}

/// Functions that return their first argument.
const COPIES: &[&str] = &[
    "memcpy",
    "__memcpy",
    "memmove",
    "__memmove",
    "memset",
    "__memset",
];

pub(super) struct Search<'p, 'a> {
    pub(super) program: &'p Program<'a>,
    /// Names of slab caches by what holds them; `None` for several names.
    caches: HashMap<Keeper<'a>, Option<String>>,
    /// What calls return, by their rows.
    memo: Vec<OnceCell<Rc<BTreeSet<Origin>>>>,
    /// Calls that are being followed.
    active: RefCell<HashSet<CallRef>>,
    nothing: Rc<BTreeSet<Origin>>,
    claimed: RefCell<Allocations>,
}

impl Search<'_, '_> {
    fn of_call(&self, at: CallRef) -> Rc<BTreeSet<Origin>> {
        let memo = &self.memo[self.program.calls.row(at)];
        if let Some(known) = memo.get() {
            return Rc::clone(known);
        }
        if !self.active.borrow_mut().insert(at) {
            return Rc::clone(&self.nothing);
        }
        let found = self.origins(at);
        let found = if found.is_empty() {
            Rc::clone(&self.nothing)
        } else {
            Rc::new(found)
        };
        self.active.borrow_mut().remove(&at);
        // A call that is being followed is not followed again: this is the first answer.
        Rc::clone(memo.get_or_init(|| found))
    }

    fn origins(&self, at: CallRef) -> BTreeSet<Origin> {
        let program = self.program;
        let caller = program.function(at.function);
        let call = &caller.calls[at.call as usize];
        let Some(symbol) = call.callee.as_deref() else {
            return BTreeSet::from([Origin::Loaded]);
        };
        let mut found = BTreeSet::new();
        let mut pending = Vec::new();
        if let Some(base) = allocator(symbol) {
            let argument = |i: Option<u8>| call.arguments.get(usize::from(i?));
            let cache = argument(base.cache).map(|a| self.cache(at.function.file, a));
            pending.push(Pending {
                allocator: ALLOCATORS
                    .iter()
                    .position(|a| a.symbol == symbol)
                    .unwrap_or_default(),
                size: argument(base.size.filter(|_| base.count.is_none()))
                    .map_or(Size::Unknown, |a| size(a.integer)),
                cache: cache.unwrap_or(Cache::Unknown),
                types: Typed::new(),
            });
        } else if symbol.starts_with("memblock_") {
            found.insert(Origin::Boot);
        } else if COPIES.contains(&symbol) {
            if let Some(argument) = call.arguments.first() {
                found.extend(self.of_pointer(at.function, &argument.pointer));
            }
        } else if let Some(callee) = program.calls.target(at) {
            let declared = program.function(callee).result.and_then(|t| {
                let to = program.files[callee.file].1.types.pointee(t)?;
                program.record(callee.file, to)
            });
            for origin in self.summary(callee) {
                match origin {
                    Origin::Pending(inner) => {
                        let mut outer = self.carry(at.function.file, inner, &call.arguments);
                        note(&mut outer.types, declared, Because::Declared(at));
                        pending.push(outer);
                    }
                    Origin::Parameter(index) => {
                        if let Some(argument) = call.arguments.get(usize::from(index)) {
                            found.extend(self.of_pointer(at.function, &argument.pointer));
                        }
                    }
                    known => {
                        found.insert(known);
                    }
                }
            }
        }
        if !pending.is_empty() {
            let types = self.uses(at);
            for p in &mut pending {
                if ALLOCATORS[p.allocator].product == Product::Page {
                    p.types.clear();
                } else {
                    note(&mut p.types, types.iter().copied(), Because::Used(at));
                }
            }
            if program.in_header(at.function) && is_returned(caller, at.call) {
                found.extend(pending.into_iter().map(Origin::Pending));
            } else {
                self.claim(at, &pending);
                found.insert(Origin::Object(at));
            }
        } else if found.iter().any(|o| matches!(o, Origin::Object(_))) {
            // The caller of an allocating function may know the type better.
            let types = self.uses(at);
            for origin in &found {
                if let Origin::Object(site) = origin
                    && let Some(allocation) = self.claimed.borrow_mut().get_mut(site)
                    && allocation.allocator.product == Product::Object
                {
                    note(
                        &mut allocation.types,
                        types.iter().copied(),
                        Because::Used(at),
                    );
                }
            }
        }
        found
    }

    /// The callee, when it seems to allocate and neither the table nor a body says how.
    pub(super) fn stranger(&self, at: CallRef) -> Option<&str> {
        let call = &self.program.function(at.function).calls[at.call as usize];
        let symbol = call.callee.as_deref()?;
        let unknown = allocator(symbol).is_none()
            && !COPIES.contains(&symbol)
            && self.program.calls.target(at).is_none()
            && (self.program.whole || sounds_like_allocator(symbol));
        unknown.then_some(symbol)
    }

    /// What a function returns, in terms of its own parameters.
    fn summary(&self, function: FunctionRef) -> BTreeSet<Origin> {
        self.of_pointer(function, &self.program.function(function).returns)
    }

    fn of_pointer(&self, function: FunctionRef, pointer: &Pointer) -> BTreeSet<Origin> {
        let mut found = BTreeSet::new();
        for path in pointer {
            let inside = self.inside(function.file, path.view);
            match (path.root, inside) {
                (Root::Call(call), inside) => {
                    let origins = self.of_call(CallRef { function, call });
                    // `dev + 1` of a new object is in it, not the object.
                    match inside {
                        Some(inside @ Origin::Inside { offset, .. }) if offset != 0 => {
                            found.insert(inside);
                        }
                        _ if origins.is_empty() => {
                            found.insert(inside.unwrap_or(Origin::Unknown));
                        }
                        _ => found.extend(origins.iter().cloned()),
                    }
                }
                (Root::Parameter(index), None) => {
                    found.insert(Origin::Parameter(index));
                }
                (Root::Memory(_), inside) => {
                    let loaded = || match path.view {
                        Some(view) if self.is_plain(function.file, view) => Origin::Buffer,
                        _ => Origin::Loaded,
                    };
                    found.insert(inside.unwrap_or_else(loaded));
                }
                (_, inside) => {
                    found.insert(inside.unwrap_or(Origin::Unknown));
                }
            }
        }
        found
    }

    /// Whether memory is seen as numbers or characters.
    fn is_plain(&self, file: usize, view: View) -> bool {
        view.ty != Types::VOID && self.program.record(file, view.ty).is_none()
    }

    pub(super) fn inside(&self, file: usize, view: Option<View>) -> Option<Origin> {
        let View { ty, offset } = view?;
        let types = &self.program.files[file].1.types;
        types.is_record(ty).then_some(())?;
        Some(Origin::Inside {
            record: self.program.record(file, ty)?,
            offset: offset?,
        })
    }

    /// An allocation of a callee as its caller sees it.
    fn carry(&self, file: usize, mut pending: Pending, arguments: &[Argument]) -> Pending {
        if let Size::Parameter(index) = pending.size {
            pending.size = arguments
                .get(usize::from(index))
                .map_or(Size::Unknown, |a| size(a.integer));
        }
        if let Cache::Parameter(index) = pending.cache {
            pending.cache = arguments
                .get(usize::from(index))
                .map_or(Cache::Unknown, |a| self.cache(file, a));
        }
        pending
    }

    fn cache(&self, file: usize, argument: &Argument) -> Cache {
        let mut names = argument.pointer.iter().map(|path| match path.root {
            Root::Parameter(index) => Cache::Parameter(index),
            Root::Memory(source) => {
                let keeper = self.keeper(file, source);
                match keeper.and_then(|k| self.caches.get(&k).cloned().flatten()) {
                    Some(name) => Cache::Named(name),
                    None => Cache::Unknown,
                }
            }
            _ => Cache::Unknown,
        });
        match (names.next(), names.next()) {
            (Some(only), None) => only,
            _ => Cache::Unknown,
        }
    }

    /// Structures as which a call's result is used right after the call.
    pub(super) fn uses(&self, at: CallRef) -> BTreeSet<RecordId> {
        let casts = self.program.function(at.function).casts_of(at.call);
        casts
            .iter()
            .filter(|flow| flow.from.view.is_none_or(|v| v.offset == Some(0)))
            .filter_map(|flow| self.program.record(at.function.file, flow.to))
            .collect()
    }

    fn claim(&self, at: CallRef, pending: &[Pending]) {
        let mut sizes = pending.iter().map(|p| match p.size {
            Size::Constant(bytes) => Some(bytes),
            _ => None,
        });
        let first = sizes.next().flatten();
        let chosen = choose(pending, first);
        let size = if sizes.all(|s| s == first) {
            first
        } else {
            None
        };
        let mut caches = pending.iter().map(|p| match &p.cache {
            Cache::Named(name) => Some(name.clone()),
            _ => None,
        });
        let cache = caches.next().flatten();
        let cache = if caches.all(|c| c == cache) {
            cache
        } else {
            None
        };
        let ordered = chosen.family == otf_artifact::analysis::Family::Pages;
        let mut types = Typed::new();
        for one in pending {
            merge(&mut types, &one.types);
        }
        self.claimed.borrow_mut().insert(
            at,
            Allocation {
                allocator: chosen,
                size: if ordered { size.and_then(pages) } else { size },
                cache,
                types,
                remote: false,
                plain: false,
            },
        );
    }

    fn returned(origins: &BTreeSet<Origin>) -> BTreeSet<Returned> {
        origins
            .iter()
            .map(|origin| match origin {
                Origin::Object(call) => Returned::Object(*call),
                Origin::Inside { record, .. } => Returned::Inside(*record),
                Origin::Parameter(index) => Returned::Argument(*index),
                Origin::Pending(_)
                | Origin::Loaded
                | Origin::Buffer
                | Origin::Boot
                | Origin::Unknown => Returned::Unknown,
            })
            .collect()
    }
}

/// Whether a function returns the very object that a call of it obtains: then it is for the caller
/// to say what it is. A function in a header that keeps the object is its own allocation site.
fn is_returned(function: &FunctionFacts, call: u32) -> bool {
    let begins = |path: &Path| path.view.is_none_or(|v| v.offset == Some(0));
    let mut returns = function.returns.iter();
    returns.any(|path| path.root == Root::Call(call) && begins(path))
}

fn size(integer: Integer) -> Size {
    match integer {
        Integer::Constant(bytes) => u64::try_from(bytes).map_or(Size::Unknown, Size::Constant),
        Integer::Parameter(index) => Size::Parameter(index),
        Integer::Unknown => Size::Unknown,
    }
}

/// Bytes of 2^order pages.
fn pages(order: u64) -> Option<u64> {
    4096u64.checked_shl(u32::try_from(order).ok()?)
}

/// Largest size that kmalloc takes from a cache.
const KMALLOC_MAX_CACHE_SIZE: u64 = 8192;

/// The allocator that machine code most likely calls when a wrapper chooses between several.
fn choose(pending: &[Pending], size: Option<u64>) -> &'static Allocator {
    let of = |mark: &str| {
        pending
            .iter()
            .map(|p| &ALLOCATORS[p.allocator])
            .find(|a| a.symbol.contains(mark))
    };
    let special = match size {
        Some(bytes) if bytes > KMALLOC_MAX_CACHE_SIZE => of("_large"),
        Some(_) => of("_cache_").or_else(|| of("_trace")),
        None => None,
    };
    special
        .or_else(|| {
            pending.iter().map(|p| &ALLOCATORS[p.allocator]).find(|a| {
                !["_large", "_cache_noprof", "_cache_node", "_trace"]
                    .iter()
                    .any(|mark| a.symbol.contains(mark))
            })
        })
        .unwrap_or(&ALLOCATORS[pending[0].allocator])
}
