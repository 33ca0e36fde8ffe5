//! What the pointers of the compartment may point to, callers included.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashSet as HashSet;

use crate::{
    facts::{Path, Pointer, Reach, Root, View},
    program::{
        FunctionRef, Program, RecordId,
        origins::{CallRef, Origins, Returned},
    },
};

/// An abstract place. The order has no meaning beyond being total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    /// Object in the frame of the writing function.
    Own,
    /// Object in a frame of the compartment.
    Compartment,
    /// Object in a caller's frame.
    Caller,
    /// Global, by the file and row that define or else declare it.
    Global(usize, usize),
    /// Wherever this type may lie.
    Typed(RecordId),
    /// A run of this type: more than one element of an array may be written at once.
    Run(RecordId),
    /// What a parameter points to: of objects on stacks that one alone.
    Passed(Passed),
    /// Object of this allocation call.
    Object(CallRef),
    /// Per-CPU memory through the segment register.
    PerCpu,
    /// User memory.
    User,
    /// Anything, because the pointer has no structure type.
    Untyped,
}

/// The object that a parameter of a function points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Passed {
    pub(crate) function: FunctionRef,
    pub(crate) parameter: u16,
    /// Its type.
    pub(crate) record: RecordId,
    /// The pointer is into an array that is a member: a run of elements stays in the object.
    pub(crate) within: bool,
    /// More than one element may be written at once.
    pub(crate) runs: bool,
}

/// Union of places.
pub(crate) type Places = BTreeSet<Place>;

/// A parameter of a function.
pub(crate) type ParameterRef = (FunctionRef, u16);

/// What parameters of the compartment's functions may point to.
pub(crate) struct Flow<'p, 'a> {
    program: &'p Program<'a>,
    origins: &'p Origins,
    /// Parameters all of whose callers are known.
    arguments: BTreeMap<ParameterRef, Places>,
}

/// Where a pointer leads: to places, or wherever one parameter does.
pub(crate) enum Lead {
    /// These places.
    Places(Places),
    /// Derived from this parameter; how far it may have gone.
    Parameter(u16, Option<View>, Reach),
}

impl<'p, 'a> Flow<'p, 'a> {
    /// Iterates over the compartment's calls until nothing is added.
    pub(crate) fn solve(program: &'p Program<'a>, origins: &'p Origins) -> Self {
        let mut flow = Self {
            program,
            origins,
            arguments: BTreeMap::new(),
        };
        let confined: Vec<FunctionRef> = program
            .functions()
            .filter(|f| program.is_confined(*f))
            .collect();
        flow.track(&confined);
        loop {
            let mut changed = false;
            for caller in &confined {
                changed |= flow.pass(*caller);
            }
            if !changed {
                return flow;
            }
        }
    }

    /// Parameters of functions that nobody outside their file can call.
    fn track(&mut self, confined: &[FunctionRef]) {
        let mut called: HashSet<FunctionRef> = HashSet::default();
        for caller in confined {
            let calls = 0..self.program.function(*caller).calls.len();
            called.extend(calls.filter_map(|call| self.callee(*caller, call)));
        }
        for function in confined {
            let facts = self.program.function(*function);
            if facts.internal && !self.program.escapes(*function) && called.contains(function) {
                for index in 0..facts.parameters.len() {
                    self.arguments
                        .insert((*function, index as u16), Places::new());
                }
            }
        }
    }

    fn callee(&self, caller: FunctionRef, row: usize) -> Option<FunctionRef> {
        self.program.calls.target(CallRef {
            function: caller,
            call: row as u32,
        })
    }

    fn pass(&mut self, caller: FunctionRef) -> bool {
        let mut changed = false;
        for (row, call) in self.program.function(caller).calls.iter().enumerate() {
            let Some(target) = self.callee(caller, row) else {
                continue;
            };
            let count = self.program.function(target).parameters.len();
            for index in 0..count {
                let key = (target, index as u16);
                if !self.arguments.contains_key(&key) {
                    continue;
                }
                let passed = match call.arguments.get(index) {
                    Some(argument) if !argument.pointer.is_empty() => {
                        outside(self.handed_over(caller, &argument.pointer, target, index))
                    }
                    // A null pointer leads nowhere; an integer may be any address.
                    Some(argument) if argument.is_pointer => Places::new(),
                    _ => Places::from([Place::Untyped]),
                };
                let known = self.arguments.entry(key).or_default();
                let before = known.len();
                known.extend(passed);
                changed |= known.len() != before;
            }
        }
        changed
    }

    /// Where a pointer leads, with one parameter kept open.
    pub(crate) fn lead(&self, function: FunctionRef, pointer: &Pointer) -> Lead {
        let mut parameters = pointer.iter().map(|p| match p.root {
            Root::Parameter(index) => Some((index, p.view)),
            _ => None,
        });
        let first = parameters.next().flatten();
        match first {
            Some((index, view)) if parameters.all(|p| p.is_some_and(|(i, _)| i == index)) => {
                let reach = if pointer.iter().any(|p| p.reach == Reach::Strayed) {
                    Reach::Strayed
                } else {
                    // In an array only if every way leads there.
                    pointer.iter().map(|p| p.reach).min().unwrap_or_default()
                };
                Lead::Parameter(index, view, reach)
            }
            _ => Lead::Places(self.places(function, pointer)),
        }
    }

    /// Where a pointer leads when nothing is known about the call.
    pub(crate) fn places(&self, function: FunctionRef, pointer: &Pointer) -> Places {
        pointer
            .iter()
            .flat_map(|path| self.path(function, *path, 0))
            .collect()
    }

    /// Where an argument leads as parameter `index` of `to`. A `void *` from memory becomes what
    /// the parameter is declared as: the conversion is a cast that the source does not spell.
    pub(crate) fn handed_over(
        &self,
        caller: FunctionRef,
        pointer: &Pointer,
        to: FunctionRef,
        index: usize,
    ) -> Places {
        let declared = self
            .program
            .function(to)
            .parameters
            .get(index)
            .copied()
            .flatten();
        let types = &self.program.files[to.file].1.types;
        let record = declared
            .and_then(|ty| types.pointee(ty))
            .filter(|ty| types.is_record(*ty))
            .and_then(|ty| self.program.record(to.file, ty));
        pointer
            .iter()
            .flat_map(|path| match (path.root, path.view, record) {
                (Root::Memory(_), None, Some(record)) => Places::from([Place::Typed(record)]),
                _ => self.path(caller, *path, 0),
            })
            .collect()
    }

    fn path(&self, function: FunctionRef, path: Path, depth: u32) -> Places {
        let typed = || self.typed(function.file, path.view);
        match path.root {
            Root::Local => Places::from([Place::Own]),
            Root::Result => Places::from([Place::Caller]),
            Root::PerCpu => Places::from([Place::PerCpu]),
            Root::Global(row) => {
                let (file, row) = self.program.definition(function.file, row as usize);
                // Nothing may write read-only data.
                if self.program.global((file, row)).constant {
                    return Places::new();
                }
                Places::from([Place::Global(file, row)])
            }
            Root::Memory(_) | Root::Constant | Root::Unknown => typed(),
            Root::Parameter(index) => self.parameter(function, index, path.view, path.reach),
            Root::Call(call) => self.call(CallRef { function, call }, path.view, depth),
        }
    }

    fn call(&self, at: CallRef, view: Option<View>, depth: u32) -> Places {
        let file = at.function.file;
        let mut found = Places::new();
        let mut whole = true;
        for returned in self.origins.returned(at) {
            match returned {
                Returned::Object(site) => {
                    found.insert(Place::Object(*site));
                }
                _ => whole = false,
            }
        }
        if whole && !found.is_empty() {
            return found;
        }
        // Typed pointers may lead to wherever the type lies, however the callee found them.
        let typed = self.typed(file, view);
        if !typed.contains(&Place::Untyped) {
            found.extend(typed);
            return found;
        }
        let arguments = &self.program.function(at.function).calls[at.call as usize].arguments;
        for returned in self.origins.returned(at) {
            match returned {
                Returned::Inside(record) => {
                    found.insert(Place::Typed(*record));
                }
                Returned::Argument(index) if depth < 8 => {
                    let argument = arguments.get(usize::from(*index));
                    let paths = argument.into_iter().flat_map(|a| &a.pointer);
                    let places = paths.flat_map(|p| self.path(at.function, *p, depth + 1));
                    // Nobody knows what the callee did to the pointer.
                    found.extend(places.map(anywhere_near));
                }
                Returned::Argument(_) | Returned::Unknown => {
                    found.insert(Place::Untyped);
                }
                Returned::Object(_) => {}
            }
        }
        if found.is_empty() {
            found.insert(Place::Untyped);
        }
        found
    }

    fn typed(&self, file: usize, view: Option<View>) -> Places {
        let record = view.and_then(|v| self.program.record(file, v.ty));
        Places::from([record.map_or(Place::Untyped, Place::Typed)])
    }

    /// What a parameter may point to when the caller is not known.
    pub(crate) fn parameter(
        &self,
        function: FunctionRef,
        index: u16,
        view: Option<View>,
        reach: Reach,
    ) -> Places {
        let known = self.arguments.get(&(function, index));
        if let Some(known) = known.filter(|known| !known.is_empty()) {
            let here = |place: Place| match (reach, place) {
                (Reach::Array, Place::Passed(passed)) => Place::Passed(Passed {
                    within: true,
                    ..passed
                }),
                (Reach::Object | Reach::Array, _) => place,
                (Reach::Strayed, _) => anywhere_near(place),
            };
            return known.iter().copied().map(here).collect();
        }
        let passed = match known {
            None if reach != Reach::Strayed => self.passed(function, index, view),
            _ => None,
        };
        match passed {
            Some(passed) => Places::from([Place::Passed(Passed {
                within: reach == Reach::Array,
                ..passed
            })]),
            None => self.typed(function.file, view),
        }
    }

    /// The object that a parameter points to, if it is declared as what the pointer sees.
    fn passed(&self, function: FunctionRef, parameter: u16, view: Option<View>) -> Option<Passed> {
        let types = &self.program.files[function.file].1.types;
        let parameters = &self.program.function(function).parameters;
        let declared = (*parameters.get(usize::from(parameter))?)?;
        let seen = view?.ty;
        let record = self.program.record(function.file, seen)?;
        (types.pointee(declared) == Some(seen)).then_some(Passed {
            function,
            parameter,
            record,
            within: false,
            runs: false,
        })
    }
}

/// A place for a pointer that may have left the object it was made from.
fn anywhere_near(place: Place) -> Place {
    match place {
        Place::Passed(passed) if passed.runs => Place::Run(passed.record),
        Place::Passed(passed) => Place::Typed(passed.record),
        other => other,
    }
}

/// Places of an argument as the callee sees them: the caller's frame is not its own.
pub(crate) fn outside(places: Places) -> Places {
    places
        .into_iter()
        .map(|place| match place {
            Place::Own => Place::Compartment,
            other => other,
        })
        .collect()
}
