//! Where the pointers of one function lead.
//!
//! Raw IR keeps every local variable in memory. A variable whose address never escapes holds
//! exactly what is stored to it, so its paths are the union over its stores, found by iteration;
//! everything else that is loaded has the declared type of the memory it comes from.

use std::{cell::RefCell, collections::BTreeSet};

use compact_str::CompactString;
use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

use crate::{
    bitcode::{Kind, Module, Opcode, Passing, Value},
    extract::{module::Signature, types::TypeReader},
    facts::{
        Flow, GlobalFacts, Holder, Path, Pointer, Reach, Root, Source, TypeId, Types, Variable,
        View,
    },
};

/// What is the same for every function of a module.
pub(crate) struct Unit<'m> {
    pub(crate) module: &'m Module,
    pub(crate) types: Types,
    pub(crate) by_ir_name: HashMap<CompactString, TypeId>,
    pub(crate) signatures: HashMap<usize, Signature>,
    pub(crate) global_rows: HashMap<usize, u32>,
    pub(crate) globals: Vec<GlobalFacts>,
}

/// A function's variables and what they may hold.
pub(crate) struct Resolver<'u, 'm> {
    pub(super) unit: &'u Unit<'m>,
    /// Source parameter, declared type and way of passing by value key.
    arguments: HashMap<usize, (Option<u16>, Option<TypeId>, Passing)>,
    /// Declared types of variables.
    declared: HashMap<usize, TypeId>,
    /// Variables that only plain loads and stores touch.
    simple: HashSet<usize>,
    /// Paths that simple variables may hold.
    held: HashMap<usize, Pointer>,
    /// Rows of calls.
    calls: HashMap<usize, u32>,
    memo: RefCell<HashMap<usize, Pointer>>,
    active: RefCell<HashSet<usize>>,
    pub(super) flows: RefCell<BTreeSet<Flow>>,
}

/// Rounds after which an offset that still changes is taken as unknown.
const PRECISE_ROUNDS: u32 = 6;
/// Rounds after which iteration has ended in any case: paths without offsets are few.
const ROUNDS: u32 = 40;

impl<'u, 'm> Resolver<'u, 'm> {
    pub(crate) fn new(
        unit: &'u Unit<'m>,
        function: Value<'m>,
        instructions: &[Value<'m>],
        declared: HashMap<usize, TypeId>,
        calls: HashMap<usize, u32>,
    ) -> Self {
        let signature = &unit.signatures[&function.key()];
        let arguments = function
            .parameters()
            .enumerate()
            .map(|(index, value)| {
                let source = signature.source(index as u32);
                let ty = source.and_then(|s| *signature.parameters.get(usize::from(s))?);
                let passing = function.passing(index as u32);
                (value.key(), (source, ty, passing))
            })
            .collect();
        let mut resolver = Self {
            unit,
            arguments,
            declared,
            simple: simple_variables(instructions),
            held: HashMap::default(),
            calls,
            memo: RefCell::default(),
            active: RefCell::default(),
            flows: RefCell::default(),
        };
        resolver.settle(instructions);
        resolver.note_declared();
        resolver
    }

    /// Whether a variable is one that only plain loads and stores touch.
    pub(crate) fn is_simple(&self, variable: Value<'_>) -> bool {
        self.simple.contains(&variable.key())
    }

    /// Casts that were seen, sorted.
    pub(crate) fn into_flows(self) -> Vec<Flow> {
        self.flows.into_inner().into_iter().collect()
    }

    fn settle(&mut self, instructions: &[Value<'m>]) {
        let stores: Vec<_> = instructions
            .iter()
            .filter(|i| i.kind() == Kind::Instruction(Opcode::Store))
            .filter_map(|i| Some((i.operand(0)?, i.operand(1)?)))
            .filter(|(value, home)| {
                self.simple.contains(&home.key())
                    && (value.ty().is_pointer() || value.ty().width() == 64)
            })
            .collect();
        for round in 0..ROUNDS {
            let mut changed = false;
            for (value, home) in &stores {
                let mut paths = self.resolve(*value);
                if round >= PRECISE_ROUNDS {
                    paths = paths.into_iter().map(without_offset).collect();
                }
                let held = self.held.entry(home.key()).or_default();
                let before = held.len();
                held.extend(paths);
                changed |= held.len() != before;
            }
            self.memo.borrow_mut().clear();
            if !changed {
                return;
            }
        }
    }

    /// A `void *` that is kept in a variable is what the variable is declared for, even where the
    /// function only reads through it.
    #[expect(clippy::iter_over_hash_type, reason = "what is found is sorted")]
    fn note_declared(&self) {
        for (home, held) in &self.held {
            let declared = self.declared.get(home);
            let Some(to) = declared.and_then(|ty| self.unit.types.pointee(*ty)) else {
                continue;
            };
            for path in held.iter().filter(|path| path.view.is_none()) {
                self.note(*path, to);
            }
        }
    }

    /// The paths of a value.
    pub(crate) fn resolve(&self, value: Value<'m>) -> Pointer {
        let key = value.key();
        if let Some(known) = self.memo.borrow().get(&key) {
            return known.clone();
        }
        if !self.active.borrow_mut().insert(key) {
            return Pointer::new();
        }
        let paths = self.paths(value);
        self.active.borrow_mut().remove(&key);
        self.memo.borrow_mut().insert(key, paths.clone());
        paths
    }

    fn paths(&self, value: Value<'m>) -> Pointer {
        match value.kind() {
            Kind::Instruction(opcode) | Kind::Expression(opcode) => self.instruction(value, opcode),
            Kind::Argument => self.argument(value),
            Kind::Global => one(match self.unit.global_rows.get(&value.key()) {
                Some(row) => Path {
                    reach: Reach::Object,
                    root: Root::Global(*row),
                    view: start(self.unit.globals[*row as usize].ty),
                },
                None => UNKNOWN,
            }),
            Kind::Function | Kind::Alias | Kind::Integer | Kind::Null => one(Path {
                reach: Reach::Object,
                root: Root::Constant,
                view: None,
            }),
            _ => one(UNKNOWN),
        }
    }

    fn operand(&self, value: Value<'m>, index: u32) -> Pointer {
        value
            .operand(index)
            .map_or_else(|| one(UNKNOWN), |v| self.resolve(v))
    }

    fn instruction(&self, value: Value<'m>, opcode: Opcode) -> Pointer {
        match opcode {
            Opcode::Alloca => one(Path {
                reach: Reach::Object,
                root: Root::Local,
                view: start(self.variable_type(value)),
            }),
            Opcode::Load => self.load(value),
            Opcode::AtomicRMW | Opcode::AtomicCmpXchg => self.loaded(&self.operand(value, 0), true),
            Opcode::GetElementPtr => self.element(value),
            Opcode::BitCast
            | Opcode::IntToPtr
            | Opcode::PtrToInt
            | Opcode::AddrSpaceCast
            | Opcode::Freeze => self.operand(value, 0),
            Opcode::Phi => value.incoming().flat_map(|v| self.resolve(v)).collect(),
            Opcode::Select => {
                let mut paths = self.operand(value, 1);
                paths.extend(self.operand(value, 2));
                paths
            }
            Opcode::Add | Opcode::Sub | Opcode::And | Opcode::Or | Opcode::Xor
                if value.ty().width() == 64 =>
            {
                self.arithmetic(value)
            }
            Opcode::Call | Opcode::CallBr => self.call(value),
            _ => one(UNKNOWN),
        }
    }

    fn argument(&self, value: Value<'m>) -> Pointer {
        let Some((source, ty, passing)) = self.arguments.get(&value.key()) else {
            return one(UNKNOWN);
        };
        one(match (passing, source) {
            (Passing::Result, _) | (_, None) => Path {
                reach: Reach::Object,
                root: Root::Result,
                view: None,
            },
            (Passing::Copy, _) => Path {
                reach: Reach::Object,
                root: Root::Local,
                view: start(*ty),
            },
            (Passing::Plain, Some(index)) => Path {
                reach: Reach::Object,
                root: Root::Parameter(*index),
                view: start(ty.and_then(|t| self.unit.types.pointee(t))),
            },
        })
    }

    /// Declared type of a variable, else the structure that the IR allocates.
    pub(crate) fn variable_type(&self, variable: Value<'m>) -> Option<TypeId> {
        self.declared.get(&variable.key()).copied().or_else(|| {
            let mut ty = variable.allocated_type();
            while let Some(element) = ty.element() {
                ty = element;
            }
            self.unit.by_ir_name.get(ty.struct_name()?).copied()
        })
    }

    fn load(&self, value: Value<'m>) -> Pointer {
        let Some(from) = value.operand(0) else {
            return one(UNKNOWN);
        };
        if !self.simple.contains(&from.key()) {
            return self.loaded(&self.resolve(from), value.ty().is_pointer());
        }
        let held = self.held.get(&from.key()).cloned().unwrap_or_default();
        match self
            .declared
            .get(&from.key())
            .and_then(|t| self.unit.types.pointee(*t))
        {
            Some(to) => held.into_iter().map(|p| self.retype(p, to)).collect(),
            None => held,
        }
    }

    /// Pointers in the memory that these paths lead to; an integer from there has no type, even
    /// where a union holds a pointer at the same place.
    fn loaded(&self, from: &Pointer, is_pointer: bool) -> Pointer {
        let mut paths = Pointer::new();
        for path in from {
            let kinds = if is_pointer {
                self.pointers_at(path.view)
            } else {
                BTreeSet::new()
            };
            // In a union of pointers the variable that takes the value says which one it is.
            let only = if kinds.len() == 1 {
                kinds.first().copied().flatten()
            } else {
                None
            };
            let member = || {
                let traced = only.is_none_or(|to| self.is_cache(to));
                let member = self.member(path.view).filter(|_| is_pointer && traced);
                member.map_or(Source::Somewhere, Source::Member)
            };
            paths.insert(Path {
                reach: Reach::Object,
                root: Root::Memory(variable(*path).map_or_else(member, Source::Global)),
                view: start(only),
            });
        }
        paths
    }

    /// The member of a structure that a place is.
    pub(crate) fn member(&self, view: Option<View>) -> Option<Holder> {
        let View { ty, offset } = view?;
        self.unit.types.is_record(ty).then_some(Holder {
            record: ty,
            offset: u32::try_from(offset?).ok()?,
        })
    }

    /// Whether this is a slab cache.
    pub(crate) fn is_cache(&self, ty: TypeId) -> bool {
        self.unit.types.get(ty).name == "struct kmem_cache"
    }

    /// Integer arithmetic on addresses: whatever looks like a pointer stays in its object.
    fn arithmetic(&self, value: Value<'m>) -> Pointer {
        let mut paths = self.operand(value, 0);
        paths.extend(self.operand(value, 1));
        let derived: Pointer = paths
            .iter()
            .filter(|p| {
                p.view.is_some() || matches!(p.root, Root::Local | Root::Global(_) | Root::Call(_))
            })
            .map(|p| {
                if aligns(value) {
                    anywhere_in(*p)
                } else {
                    Path {
                        reach: strayed(*p),
                        ..without_offset(*p)
                    }
                }
            })
            .collect();
        if !derived.is_empty() {
            return derived;
        }
        paths.retain(|p| p.root != Root::Constant);
        if paths.is_empty() {
            paths.insert(UNKNOWN);
        }
        paths
    }

    fn call(&self, value: Value<'m>) -> Pointer {
        let Some(callee) = value.callee() else {
            return one(UNKNOWN);
        };
        if callee.kind() == Kind::Assembly {
            // `asm("" : "=r"(p) : "0"(q))` hides a value from the optimiser.
            if callee.assembly().1.is_empty() && value.argument_count() == 1 {
                return self.operand(value, 0);
            }
            return one(UNKNOWN);
        }
        if callee.kind() == Kind::Function && callee.begins("llvm.") {
            return if callee.begins("llvm.expect") || callee.begins("llvm.ptr") {
                self.operand(value, 0)
            } else {
                one(UNKNOWN)
            };
        }
        let result = self
            .unit
            .signatures
            .get(&callee.key())
            .and_then(|s| s.result);
        one(match self.calls.get(&value.key()) {
            Some(row) => Path {
                reach: Reach::Object,
                root: Root::Call(*row),
                view: start(result.and_then(|t| self.unit.types.pointee(t))),
            },
            None => UNKNOWN,
        })
    }

    fn element(&self, value: Value<'m>) -> Pointer {
        let source = value.gep_source();
        let named = source
            .struct_name()
            .and_then(|name| self.unit.by_ir_name.get(name).copied());
        let mut paths = self.operand(value, 0);
        if let Some(to) = named {
            paths = paths.into_iter().map(|p| self.retype(p, to)).collect();
        }
        let bytes = source.width() == 8;
        let first = value.operand(1).and_then(Value::integer);
        let more = value.operand_count() > 2;
        let inner = inner_offset(value);
        paths
            .into_iter()
            .map(|path| {
                let view = path.view.unwrap_or(View {
                    ty: Types::VOID,
                    offset: Some(0),
                });
                let step = match first {
                    Some(0) => Some(0),
                    Some(n) if bytes => Some(n),
                    // `p + 1` leaves the structure; `p[1].x` stays in an array of them.
                    Some(n) if named == Some(view.ty) && view.offset == Some(0) && !more => {
                        i64::try_from(self.unit.types.get(view.ty).size)
                            .ok()
                            .and_then(|size| size.checked_mul(n))
                    }
                    // Bytes may be cast to anything: their index matters, that of elements not.
                    None if bytes => None,
                    _ => Some(0),
                };
                let offset = match (view.offset, step) {
                    (Some(at), Some(step)) => at.checked_add(step.saturating_add(inner)),
                    _ => None,
                };
                Path {
                    reach: self.reach(path, value),
                    root: path.root,
                    view: (path.view.is_some() || offset != Some(0))
                        .then_some(View { offset, ..view }),
                }
            })
            .collect()
    }

    /// How far an element is from what a parameter points to.
    fn reach(&self, path: Path, element: Value<'m>) -> Reach {
        if !matches!(path.root, Root::Parameter(_)) || path.reach == Reach::Strayed {
            return path.reach;
        }
        let scalars = path
            .view
            .is_none_or(|view| !self.unit.types.is_record(view.ty));
        let inner = element.operand_count() > 2;
        match element.operand(1).and_then(Value::integer) {
            Some(0) if enters_array(element) => Reach::Array,
            Some(0) => path.reach,
            Some(back) if back < 0 => Reach::Strayed,
            _ if path.reach == Reach::Array || scalars && !inner => path.reach,
            _ => Reach::Strayed,
        }
    }
}

/// Offset of the indices after the first; variable ones count as 0.
fn inner_offset(value: Value<'_>) -> i64 {
    let mut ty = value.gep_source();
    let mut offset = 0;
    for index in 2..value.operand_count() {
        let constant = value.operand(index).and_then(Value::integer).unwrap_or(0);
        if let Some(field) = u32::try_from(constant).ok().and_then(|i| ty.field(i)) {
            offset += ty.field_offset(constant as u32) as i64;
            ty = field;
        } else if let Some(element) = ty.element() {
            offset += constant.saturating_mul(element.size() as i64);
            ty = element;
        }
    }
    offset
}

/// Whether indices after the first one choose an element of an array.
fn enters_array(element: Value<'_>) -> bool {
    let mut ty = element.gep_source();
    for index in 2..element.operand_count() {
        if ty.is_array() {
            return true;
        }
        let constant = element.operand(index).and_then(Value::integer);
        let field = constant.and_then(|at| ty.field(u32::try_from(at).ok()?));
        match field {
            Some(field) => ty = field,
            None => return false,
        }
    }
    false
}

const UNKNOWN: Path = Path {
    reach: Reach::Object,
    root: Root::Unknown,
    view: None,
};

/// The variable with static storage that an address is that of.
pub(crate) fn variable(path: Path) -> Option<Variable> {
    let Root::Global(global) = path.root else {
        return None;
    };
    let offset = match path.view {
        Some(view) => u32::try_from(view.offset?).ok()?,
        None => 0,
    };
    Some(Variable { global, offset })
}

fn one(path: Path) -> Pointer {
    Pointer::from(path)
}

pub(super) fn start(ty: Option<TypeId>) -> Option<View> {
    ty.map(|ty| View {
        ty,
        offset: Some(0),
    })
}

/// Whether a mask moves a pointer instead of taking marks out of it.
fn aligns(value: Value<'_>) -> bool {
    /// No object's alignment leaves room for more marks.
    const MARKS: i64 = 8;
    value.kind() == Kind::Instruction(Opcode::And)
        && value
            .operand(1)
            .and_then(Value::integer)
            .is_some_and(|mask| mask < -MARKS)
}

/// A pointer to some byte of what a pointer leads into: what begins there begins nowhere else.
fn anywhere_in(path: Path) -> Path {
    Path {
        reach: strayed(path),
        view: path.view.map(|_| View {
            ty: Types::VOID,
            offset: None,
        }),
        ..path
    }
}

/// The reach of a pointer that arithmetic may have moved anywhere.
pub(super) fn strayed(path: Path) -> Reach {
    match path.root {
        Root::Parameter(_) => Reach::Strayed,
        _ => path.reach,
    }
}

fn without_offset(path: Path) -> Path {
    Path {
        view: path.view.map(|v| View { offset: None, ..v }),
        ..path
    }
}

/// Variables of pointer or integer type whose address is used by plain loads and stores only.
fn simple_variables(instructions: &[Value<'_>]) -> HashSet<usize> {
    let mut simple: HashSet<usize> = instructions
        .iter()
        .filter(|i| i.kind() == Kind::Instruction(Opcode::Alloca))
        .filter(|i| {
            let ty = i.allocated_type();
            !ty.is_struct() && !ty.is_array()
        })
        .map(|i| i.key())
        .collect();
    for instruction in instructions {
        let Kind::Instruction(opcode) = instruction.kind() else {
            continue;
        };
        for index in 0..instruction.operand_count() {
            let Some(operand) = instruction.operand(index) else {
                continue;
            };
            if !simple.contains(&operand.key()) {
                continue;
            }
            let plain = match opcode {
                Opcode::Load => true,
                Opcode::Store => index == 1,
                Opcode::Call => instruction
                    .callee()
                    .is_some_and(|c| c.begins("llvm.lifetime.")),
                _ => false,
            };
            if !plain {
                simple.remove(&operand.key());
            }
        }
    }
    simple
}

/// What a finished type reader leaves to resolvers.
pub(crate) fn finish_types(mut reader: TypeReader<'_>) -> (Types, HashMap<CompactString, TypeId>) {
    reader.types.seal();
    (reader.types, reader.by_ir_name)
}
