//! Whether every row that facts name exists: a file of facts with right checksums may still have
//! been made by something else.

use crate::{
    facts::{
        Facts, FunctionFacts, Holder, Path, Root, Shape, Source, TypeId, Types, Use, Variable,
    },
    slots::{NameId, Place, Slots},
};

/// What is wrong with facts, if something is.
pub(crate) fn validate(facts: &Facts) -> Result<(), &'static str> {
    let rows = Rows {
        types: facts.types.0.len(),
        globals: facts.globals.len(),
    };
    let sound = rows.types > 0
        && rows.types(&facts.types)
        && facts.functions.iter().all(|f| rows.function(f))
        && facts.globals.iter().all(|g| rows.maybe(g.ty))
        && facts.references.iter().all(|reference| match reference.by {
            Use::Member(ty, _) => rows.ty(ty),
            Use::Argument(_) | Use::Stored | Use::Initcall | Use::Exitcall => true,
        })
        && rows.slots(&facts.slots);
    if !sound {
        return Err("it names a row that does not exist");
    }
    if !ends(&facts.types) {
        return Err("a type holds itself");
    }
    Ok(())
}

/// Numbers of rows.
struct Rows {
    types: usize,
    globals: usize,
}

impl Rows {
    fn ty(&self, id: TypeId) -> bool {
        (id.0 as usize) < self.types
    }

    fn maybe(&self, id: Option<TypeId>) -> bool {
        id.is_none_or(|id| self.ty(id))
    }

    fn global(&self, row: u32) -> bool {
        (row as usize) < self.globals
    }

    fn types(&self, types: &Types) -> bool {
        types.0.iter().all(|ty| match &ty.shape {
            Shape::Scalar => true,
            Shape::Pointer(to) => self.maybe(*to),
            Shape::Array { element, .. } => self.ty(*element),
            Shape::Function { result, parameters } => {
                self.maybe(*result) && parameters.iter().all(|ty| self.maybe(*ty))
            }
            Shape::Record { members, .. } => members.iter().all(|m| self.ty(m.ty)),
        })
    }

    fn path(&self, path: &Path, calls: usize) -> bool {
        let root = match path.root {
            Root::Global(row) => self.global(row),
            Root::Call(row) => (row as usize) < calls,
            Root::Memory(Source::Global(variable)) => self.variable(variable),
            Root::Memory(Source::Member(holder)) => self.holder(holder),
            Root::Memory(Source::Somewhere)
            | Root::Local
            | Root::Parameter(_)
            | Root::Result
            | Root::Constant
            | Root::PerCpu
            | Root::Unknown => true,
        };
        root && path.view.is_none_or(|view| self.ty(view.ty))
    }

    fn variable(&self, variable: Variable) -> bool {
        self.global(variable.global)
    }

    fn holder(&self, holder: Holder) -> bool {
        self.ty(holder.record)
    }

    fn function(&self, function: &FunctionFacts) -> bool {
        let calls = function.calls.len();
        let path = |path: &Path| self.path(path, calls);
        let mut arguments = function.calls.iter().flat_map(|call| &call.arguments);
        function.parameters.iter().all(|ty| self.maybe(*ty))
            && self.maybe(function.result)
            && function.locals.iter().all(|ty| self.ty(*ty))
            && function.writes.iter().all(|w| w.pointer.iter().all(path))
            && arguments.all(|argument| argument.pointer.iter().all(path))
            && function.returns.iter().all(path)
            && function
                .flows
                .iter()
                .all(|flow| path(&flow.from) && self.ty(flow.to))
            && function
                .stored
                .iter()
                .all(|(to, from)| self.variable(*to) && path(from))
            && function
                .kept
                .iter()
                .all(|(to, from)| self.holder(*to) && path(from))
    }

    fn slots(&self, slots: &Slots) -> bool {
        let name = |id: NameId| (id.0 as usize) < slots.names.len();
        let place = |place: &Place| match *place {
            Place::Function(symbol) | Place::Parameter(symbol, _) | Place::Result(symbol) => {
                name(symbol)
            }
            Place::Member(row) => (row as usize) < slots.members.len(),
            Place::Variable(row) => self.global(row),
            Place::Passed(_, signature) => name(signature),
            Place::Unknown(_, signature) => signature.is_none_or(name),
        };
        slots.members.iter().all(|slot| {
            let outer = slot.outer.is_none_or(|(record, member)| {
                name(record.name) && name(record.file) && name(member)
            });
            outer
                && [
                    slot.record.name,
                    slot.record.file,
                    slot.member,
                    slot.signature,
                ]
                .into_iter()
                .all(name)
        }) && slots
            .flows
            .iter()
            .all(|(from, to)| place(from) && place(to))
            && slots
                .calls
                .iter()
                .all(|call| name(call.function) && call.from.iter().all(place))
            && slots
                .signatures
                .iter()
                .all(|(symbol, signature)| name(*symbol) && name(*signature))
    }
}

/// Whether going into arrays and members comes to an end: no type holds itself. All rows exist.
fn ends(types: &Types) -> bool {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let inner = |row: usize, at: usize| -> Option<usize> {
        match &types.0[row].shape {
            Shape::Array { element, .. } => (at == 0).then_some(element.0 as usize),
            Shape::Record { members, .. } => members.get(at).map(|m| m.ty.0 as usize),
            _ => None,
        }
    };
    let mut states = vec![State::New; types.0.len()];
    let mut chain: Vec<(usize, usize)> = Vec::new();
    for start in 0..types.0.len() {
        if states[start] != State::New {
            continue;
        }
        states[start] = State::Open;
        chain.push((start, 0));
        while let Some((row, at)) = chain.last_mut() {
            let Some(next) = inner(*row, *at) else {
                states[*row] = State::Done;
                chain.pop();
                continue;
            };
            *at += 1;
            match states[next] {
                State::Open => return false,
                State::Done => {}
                State::New => {
                    states[next] = State::Open;
                    chain.push((next, 0));
                }
            }
        }
    }
    true
}
