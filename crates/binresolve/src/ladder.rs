//! The precision ladder: from the place of an instruction to what the source may write there.
//!
//! 1. *Instruction*: an exact map ([`crate::exact`]) says which write of the source it is, or exactly
//!    one stands at the innermost place.
//! 2. *Line*: the union of the writes at that line; if it has none, of functions called there
//!    (a compiler may drop the inlining step), then of the lines of the outer frames.
//! 3. *Function*: the union over every function of the chain and those inlined beside it. Also
//!    where the access is larger than any write at the line (compilers merge stores), and where
//!    the instruction has no line.
//! 4. *Compartment*: everything; decided by the caller when nothing is found here.
//!
//! clang gives locked instructions of inline assembly the line of a neighbour, but the right scope:
//! they take every atomic write of the innermost function, wherever it stands.
//!
//! A target that is a parameter is followed outwards through the calls of the chain.
//!
//! Variables of the frame are not what an operand without the stack pointer has to write: compilers
//! keep them in registers, and give the store of an expression's value the line where the value was
//! computed. Such a line is climbed past, to the first that writes anything else.

mod exact;
mod free;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
};

use otf_artifact::{
    analysis::{Analysis, Call, Function, StackRule, Target, Write, WriteKind},
    ids::LegalSetId,
    sites::Precision,
};

use crate::{
    dwarf::{Place, Step},
    legal::only_stack,
};

/// Depth to which calls are followed that the chain does not show.
pub(crate) const CALL_DEPTH: usize = 4;

/// The machine side of a match.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// Inlining chain, innermost first.
    pub chain: &'a [Step],
    /// Columns are comparable: both sides were made by clang.
    pub columns: bool,
    /// Bytes written when constant.
    pub size: Option<u64>,
    /// The instruction is locked: it implements no plain store.
    pub locked: bool,
    /// The operand is relative to the stack or frame pointer.
    pub on_stack: bool,
    /// Source names of the functions inlined anywhere in the machine function.
    pub inlined: &'a BTreeSet<String>,
}

type Sets = BTreeSet<LegalSetId>;
/// What the arguments of a call lead to; `None` for one that is no pointer.
type Arguments = Vec<Option<Sets>>;

/// An access while it climbs, and what was found out about its chain.
struct Climb<'a> {
    access: &'a Access<'a>,
    /// What parameter i of the function at a level stands for, by (level, i).
    parameters: RefCell<BTreeMap<(usize, usize), Option<Sets>>>,
    /// What a caller handed over was moved, perhaps out of its object.
    strays: Cell<bool>,
    /// Whether it is a pointer that the machine function was given.
    given: RefCell<BTreeMap<(usize, usize), bool>>,
}

impl<'a> Climb<'a> {
    fn new(access: &'a Access<'a>) -> Self {
        Self {
            access,
            parameters: RefCell::default(),
            strays: Cell::default(),
            given: RefCell::default(),
        }
    }
}

impl<'a> Deref for Climb<'a> {
    type Target = Access<'a>;
    fn deref(&self) -> &Access<'a> {
        self.access
    }
}

/// What the source may write, and how that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Legal sets to be united.
    pub sets: BTreeSet<LegalSetId>,
    /// Rung.
    pub precision: Precision,
    /// A pointer that a caller handed over may have left its object.
    pub strays: bool,
}

/// Index of the functions of an analysis.
pub struct Ladder<'a> {
    analysis: &'a Analysis,
    by_place: BTreeMap<(&'a str, &'a str), Vec<usize>>,
    by_name: BTreeMap<&'a str, Vec<usize>>,
}

/// What the parameters of a function stand for.
enum Caller<'c> {
    /// The chain's step above this one.
    Step(usize),
    /// Arguments of a call that the chain does not show.
    Arguments(&'c [Option<Sets>]),
}

/// Which calls of a callee are followed, and how deep.
#[derive(Clone, Copy)]
enum Follow {
    /// Those of functions that the machine function is known to contain.
    Inlined(usize),
    /// All: the inlining step of the callee was dropped, so may be those of its callees.
    All(usize),
}

/// Writes found so far.
#[derive(Default)]
struct Found {
    sets: BTreeSet<LegalSetId>,
    writes: usize,
    /// Largest write; `None` when one of them has no constant size.
    largest: Option<u64>,
    /// Size and field of the write, while there is just one.
    field: Option<(u64, LegalSetId)>,
    /// All of them go through pointers that the machine function was given.
    given: bool,
    /// Callees that were descended into, with the depth that was left.
    visited: BTreeMap<(usize, Arguments), usize>,
}

impl Found {
    fn add(&mut self, write: &Write, sets: BTreeSet<LegalSetId>) {
        let size = (write.size > 0).then_some(write.size);
        self.largest = match (self.writes, self.largest, size) {
            (0, _, size) => size,
            (_, Some(a), Some(b)) => Some(a.max(b)),
            _ => None,
        };
        self.field = write
            .field
            .filter(|_| self.writes == 0)
            .map(|set| (write.size, set));
        self.writes += 1;
        self.sets.extend(sets);
    }

    fn explains(&self, size: Option<u64>) -> bool {
        self.writes > 0
            && size
                .zip(self.largest)
                .is_none_or(|(size, most)| size <= most)
    }
}

impl<'a> Ladder<'a> {
    /// Builds the index.
    pub fn new(analysis: &'a Analysis) -> Self {
        let mut by_place: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        let mut by_name: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (row, function) in analysis.functions.iter().enumerate() {
            by_place
                .entry((function.file.as_str(), function.name.as_str()))
                .or_default()
                .push(row);
            by_name.entry(function.name.as_str()).or_default().push(row);
        }
        Self {
            analysis,
            by_place,
            by_name,
        }
    }

    /// Climbs from the narrowest rung; `None` when no rung but the compartment is left.
    pub fn bind(&self, access: &Access<'_>) -> Option<Binding> {
        let climb = Climb::new(access);
        let mut bound = self.climb(&climb)?;
        bound.strays = climb.strays.get();
        Some(bound)
    }

    fn climb(&self, climb: &Climb<'_>) -> Option<Binding> {
        let access = climb.access;
        if access.locked && !self.line_is_right(access) {
            return self.by_kind(climb).or_else(|| self.by_function(climb));
        }
        self.by_line(climb).or_else(|| self.by_function(climb))
    }

    /// Whether the line of a locked instruction can be trusted: GCC's, where a write of that kind
    /// stands there.
    fn line_is_right(&self, access: &Access<'_>) -> bool {
        let Some(step) = access.chain.first() else {
            return false;
        };
        let functions = self.functions(step);
        let mut writes = functions.iter().flat_map(|f| &f.writes);
        !access.columns && writes.any(|w| w.line == step.place.line && is_atomic(w))
    }

    /// The atomic writes of the innermost function.
    fn by_kind(&self, access: &Climb<'_>) -> Option<Binding> {
        let mut found = Found::default();
        for function in self.functions(access.chain.first()?) {
            for write in function.writes.iter().filter(|w| is_atomic(w)) {
                found.add(write, self.resolve(write.target, &Caller::Step(0), access));
            }
        }
        if !found.explains(access.size) {
            return None;
        }
        let precision = if found.writes == 1 && found.sets.len() == 1 {
            Precision::Instruction
        } else {
            Precision::Line
        };
        Some(Binding {
            strays: false,
            sets: found.sets,
            precision,
        })
    }

    fn by_line(&self, access: &Climb<'_>) -> Option<Binding> {
        if access.chain.first()?.place.line == 0 {
            return None;
        }
        let mut narrow = true;
        let mut variables = Sets::new();
        'climb: for level in 0..access.chain.len() {
            for through_calls in [false, true] {
                let found = if through_calls {
                    self.called_at(access, level)
                } else {
                    self.written_at(access, level)
                };
                if found.writes > 0 {
                    // A larger access merges this write with others that may be anywhere in it.
                    if !found.explains(access.size) {
                        break 'climb;
                    }
                    if !access.on_stack && !found.given && self.are_variables(&found.sets) {
                        variables.extend(found.sets);
                        narrow = false;
                        continue;
                    }
                    if !variables.is_empty() {
                        variables.extend(found.sets);
                        return Some(Binding {
                            strays: false,
                            precision: Precision::Line,
                            sets: variables,
                        });
                    }
                    if !narrow || found.writes > 1 || found.sets.len() > 1 {
                        return Some(Binding {
                            strays: false,
                            precision: Precision::Line,
                            sets: found.sets,
                        });
                    }
                    // Of the same size it is this write alone: no other field.
                    // Not of clang's code: it turns runs of stores into one and splits that anew, under
                    // the line of any of them.
                    let field = found
                        .field
                        .filter(|(size, _)| access.size == Some(*size) && !access.columns);
                    return Some(Binding {
                        strays: false,
                        precision: Precision::Instruction,
                        sets: field.map_or(found.sets, |(_, set)| BTreeSet::from([set])),
                    });
                }
                narrow = false;
            }
        }
        if variables.is_empty() {
            return None;
        }
        let mut binding = self.by_function(access)?;
        if self.are_variables(&binding.sets) {
            binding.precision = Precision::Line;
        }
        binding.sets.extend(variables);
        Some(binding)
    }

    /// Whether these sets allow variables of the compartment's frames alone.
    fn are_variables(&self, sets: &Sets) -> bool {
        let mut rows = sets.iter().map(|id| &self.analysis.legal_sets[id.index()]);
        rows.all(only_stack)
    }

    fn by_function(&self, access: &Climb<'_>) -> Option<Binding> {
        let mut found = Found::default();
        for (level, step) in access.chain.iter().enumerate() {
            for function in self.functions(step) {
                for write in &function.writes {
                    let caller = Caller::Step(level);
                    found.add(write, self.resolve(write.target, &caller, access));
                }
                for call in &function.calls {
                    if access.inlined.contains(&call.callee) || call.line == step.place.line {
                        let caller = Caller::Step(level);
                        self.descend(
                            call,
                            &caller,
                            access,
                            Follow::Inlined(CALL_DEPTH),
                            &mut found,
                        );
                    }
                }
            }
        }
        (!found.sets.is_empty()).then_some(Binding {
            strays: false,
            sets: found.sets,
            precision: Precision::Function,
        })
    }

    /// Writes at the line of one step.
    fn written_at(&self, access: &Climb<'_>, level: usize) -> Found {
        let step = &access.chain[level];
        let mut found = Found::default();
        for function in self.functions(step) {
            let mut writes: Vec<&Write> = at_place(
                &function.writes,
                |w| (w.line, w.column),
                &step.place,
                access.columns,
            );
            if access.locked && writes.iter().any(|w| is_atomic(w)) {
                writes.retain(|w| is_atomic(w));
            }
            for write in writes {
                let caller = Caller::Step(level);
                let given = self.is_given(write.target, access, level);
                found.given = given && (found.given || found.writes == 0);
                found.add(write, self.resolve(write.target, &caller, access));
            }
        }
        found
    }

    /// Writes of the functions that are called at the line of one step.
    fn called_at(&self, access: &Climb<'_>, level: usize) -> Found {
        let step = &access.chain[level];
        let mut found = Found::default();
        for function in self.functions(step) {
            for call in function.calls.iter().filter(|c| c.line == step.place.line) {
                let caller = Caller::Step(level);
                self.descend(call, &caller, access, Follow::All(CALL_DEPTH), &mut found);
            }
        }
        found
    }

    /// Adds the writes of a callee and of what it calls.
    fn descend(
        &self,
        call: &Call,
        caller: &Caller<'_>,
        access: &Climb<'_>,
        follow: Follow,
        found: &mut Found,
    ) {
        let Some(rows) = self.by_name.get(call.callee.as_str()) else {
            return;
        };
        let arguments: Vec<_> = call
            .arguments
            .iter()
            .map(|argument| argument.map(|target| self.resolve(target, caller, access)))
            .collect::<Arguments>();
        let inner = Caller::Arguments(&arguments);
        let (Follow::Inlined(left) | Follow::All(left)) = follow;
        for row in rows {
            let key = (*row, arguments.clone());
            if found.visited.get(&key).is_some_and(|seen| *seen >= left) {
                continue;
            }
            found.visited.insert(key, left);
            let function = &self.analysis.functions[*row];
            for write in &function.writes {
                found.add(write, self.resolve(write.target, &inner, access));
            }
            let (depth, all) = match follow {
                Follow::Inlined(depth) => (depth, false),
                Follow::All(depth) => (depth, true),
            };
            let Some(depth) = depth.checked_sub(1) else {
                continue;
            };
            for call in &function.calls {
                let follow = if all {
                    Follow::All(depth)
                } else {
                    Follow::Inlined(depth)
                };
                if all || access.inlined.contains(&call.callee) {
                    self.descend(call, &inner, access, follow, found);
                }
            }
        }
    }

    fn resolve(&self, target: Target, caller: &Caller<'_>, access: &Climb<'_>) -> Sets {
        let (index, otherwise, strays) = match target {
            Target::Set(id) => return BTreeSet::from([id]),
            Target::Parameter {
                index,
                otherwise,
                strays,
            } => (usize::from(index), otherwise, strays),
        };
        let handed_over = match caller {
            Caller::Arguments(arguments) => arguments.get(index).cloned().flatten(),
            Caller::Step(level) => self.argument(access, *level, index),
        };
        if strays && handed_over.is_some() {
            access.strays.set(true);
        }
        handed_over.unwrap_or_else(|| BTreeSet::from([otherwise]))
    }

    /// What the caller in the chain hands to parameter `index` of the function at `level`.
    fn argument(&self, access: &Climb<'_>, level: usize, index: usize) -> Option<Sets> {
        let key = (level, index);
        if let Some(known) = access.parameters.borrow().get(&key) {
            return known.clone();
        }
        let found = self.handed_over(access, level, index);
        access.parameters.borrow_mut().insert(key, found.clone());
        found
    }

    fn handed_over(&self, access: &Climb<'_>, level: usize, index: usize) -> Option<Sets> {
        let mut result = BTreeSet::new();
        for call in self.callers(access, level) {
            let target = call.arguments.get(index).copied().flatten()?;
            result.extend(self.resolve(target, &Caller::Step(level + 1), access));
        }
        (!result.is_empty()).then_some(result)
    }

    /// The calls of the chain's next step that may have led to the function at `level`.
    fn callers(&self, access: &Climb<'_>, level: usize) -> Vec<&'a Call> {
        let callee = &access.chain[level].function;
        let Some(outer) = access.chain.get(level + 1) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for function in self.functions(outer) {
            let calls: Vec<&Call> = function
                .calls
                .iter()
                .filter(|call| call.callee == *callee)
                .collect();
            let here = at_place(&calls, |c| (c.line, c.column), &outer.place, access.columns);
            if here.is_empty() {
                // The two compilers disagree about the line: it was one of these calls.
                found.extend(calls);
            } else {
                found.extend(here.into_iter().copied());
            }
        }
        found
    }

    /// Whether the pointer is one that the machine function was given: no compiler keeps in a
    /// register what lies there.
    fn is_given(&self, target: Target, access: &Climb<'_>, level: usize) -> bool {
        let index = match target {
            Target::Parameter { index, .. } => index,
            Target::Set(id) => return self.is_passed(id, access),
        };
        if level + 1 == access.chain.len() {
            return true;
        }
        let key = (level, usize::from(index));
        if let Some(known) = access.given.borrow().get(&key) {
            return *known;
        }
        let calls = self.callers(access, level);
        let handed = |call: &&Call| call.arguments.get(usize::from(index)).copied().flatten();
        let given = |call| handed(call).is_some_and(|t| self.is_given(t, access, level + 1));
        let given = !calls.is_empty() && calls.iter().all(given);
        access.given.borrow_mut().insert(key, given);
        given
    }

    /// Whether the set allows objects on stacks that functions were handed, and nothing else. Such
    /// an object is a variable of the machine function only where that function lies within it.
    fn is_passed(&self, id: LegalSetId, access: &Climb<'_>) -> bool {
        let set = &self.analysis.legal_sets[id.index()];
        let within = |function: &String| access.inlined.contains(function);
        only_stack(set)
            && set.stack == StackRule::None
            && !set.passed.iter().any(|object| within(&object.function))
    }

    /// Functions of this name, with their rows.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = (usize, &'a Function)> {
        let rows = self.by_name.get(name).map_or(&[][..], Vec::as_slice);
        let functions = &self.analysis.functions;
        rows.iter().map(move |row| (*row, &functions[*row]))
    }

    /// The functions that a step may be.
    pub(crate) fn functions(&self, step: &Step) -> Vec<&'a Function> {
        let name = step.function.as_str();
        let rows = [step.defined_in.as_str(), step.place.file.as_str()]
            .into_iter()
            .find_map(|file| self.by_place.get(&(file, name)))
            .or_else(|| self.by_name.get(name))
            .map_or(&[][..], Vec::as_slice);
        rows.iter()
            .map(|row| &self.analysis.functions[*row])
            .collect()
    }
}

/// What a locked instruction may implement.
fn is_atomic(write: &Write) -> bool {
    matches!(write.kind, WriteKind::Atomic | WriteKind::Asm)
}

/// Items at a line; where columns are comparable and some agree, only those.
pub(crate) fn at_place<'t, T>(
    items: &'t [T],
    position: impl Fn(&T) -> (u32, u32),
    place: &Place,
    columns: bool,
) -> Vec<&'t T> {
    let mut here: Vec<&T> = items
        .iter()
        .filter(|item| position(item).0 == place.line)
        .collect();
    let exact = |item: &&T| position(item).1 == place.column;
    if columns && place.column != 0 && here.iter().any(exact) {
        here.retain(exact);
    }
    here
}
