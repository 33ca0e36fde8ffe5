//! What `void *` turns into: pointers without a type, followed through parameters, results and
//! members of structures over the whole program.
//!
//! Objects whose receiver says nothing (`x->priv = kzalloc(n)`) get the types that those who read
//! the pointer later cast it to. A member is one place for all objects of its structure, so this
//! only adds types: a site whose own function names a type does not ask here. What nobody sees as a
//! structure, but somebody as numbers or text, is an array of these.

use std::collections::BTreeSet;

use rayon::prelude::*;
use rustc_hash::FxHashMap as HashMap;

use crate::{
    facts::{Path, Root, Source, Types},
    program::{FunctionRef, Program, RecordId, origins::CallRef},
};

/// Something that holds a pointer to `void`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Node {
    /// Parameter of a function.
    Parameter(FunctionRef, u16),
    /// Member of a structure, by its offset.
    Member(RecordId, u32),
    /// What a function returns.
    Result(FunctionRef),
    /// What one call returned.
    Call(CallRef),
    /// What any call through a pointer returns.
    AnyResult,
    /// This argument of any call through a pointer.
    AnyParameter(u16),
}

/// Where nodes lead, by rows of nodes.
pub(super) struct Voids {
    rows: HashMap<Node, u32>,
    edges: Vec<Vec<u32>>,
    casts: Vec<Vec<RecordId>>,
    plain: Vec<bool>,
}

/// What objects of a call are seen as.
#[derive(Default)]
pub(super) struct Seen {
    /// These structures.
    pub(super) records: BTreeSet<RecordId>,
    /// Numbers, characters or pointers.
    pub(super) plain: bool,
}

/// What one function contributes.
#[derive(Default)]
struct Local {
    casts: Vec<(Node, RecordId)>,
    edges: Vec<(Node, Node)>,
    /// Seen as numbers, characters or pointers.
    plain: Vec<Node>,
}

impl Voids {
    /// Gathers the ways of all pointers.
    pub(super) fn gather(program: &Program<'_>) -> Self {
        let functions: Vec<FunctionRef> = program.functions().collect();
        let mut locals: Vec<Local> = functions.par_iter().map(|f| local(program, *f)).collect();
        locals.push(indirect(program));
        let mut voids = Self {
            rows: HashMap::default(),
            edges: Vec::new(),
            casts: Vec::new(),
            plain: Vec::new(),
        };
        for local in locals {
            for (node, record) in local.casts {
                let row = voids.row(node);
                voids.casts[row as usize].push(record);
            }
            for (from, to) in local.edges {
                let (from, to) = (voids.row(from), voids.row(to));
                voids.edges[from as usize].push(to);
            }
            for node in local.plain {
                let row = voids.row(node);
                voids.plain[row as usize] = true;
            }
        }
        voids
    }

    fn row(&mut self, node: Node) -> u32 {
        let next = self.edges.len() as u32;
        *self.rows.entry(node).or_insert_with(|| {
            self.edges.push(Vec::new());
            self.casts.push(Vec::new());
            self.plain.push(false);
            next
        })
    }

    /// What these calls returned is cast to, anywhere.
    pub(super) fn of_calls(&self, calls: impl Iterator<Item = CallRef>) -> Seen {
        let mut found = Seen::default();
        let mut seen = vec![false; self.edges.len()];
        let mut work: Vec<u32> = Vec::new();
        for call in calls {
            work.extend(self.rows.get(&Node::Call(call)));
        }
        while let Some(row) = work.pop() {
            if std::mem::replace(&mut seen[row as usize], true) {
                continue;
            }
            found.records.extend(&self.casts[row as usize]);
            found.plain |= self.plain[row as usize];
            work.extend(&self.edges[row as usize]);
        }
        found
    }
}

fn local(program: &Program<'_>, at: FunctionRef) -> Local {
    let function = program.function(at);
    let mut local = Local::default();
    for flow in &function.flows {
        let Some(node) = node(program, at, flow.from) else {
            continue;
        };
        match program.record(at.file, flow.to) {
            Some(record) => local.casts.push((node, record)),
            None => local.plain.push(node),
        }
    }
    for (holder, path) in &function.kept {
        if let Some(from) = node(program, at, *path)
            && let Some(record) = program.record(at.file, holder.record)
        {
            local
                .edges
                .push((from, Node::Member(record, holder.offset)));
        }
    }
    for path in &function.returns {
        if let Some(from) = node(program, at, *path) {
            local.edges.push((from, Node::Result(at)));
        }
    }
    for (row, call) in function.calls.iter().enumerate() {
        let result = Node::Call(CallRef {
            function: at,
            call: row as u32,
        });
        let callee = match call.callee.as_deref() {
            // What takes an object back sees it as its own bookkeeping, not as what it was.
            Some(symbol) if symbol.contains("free") => continue,
            Some(symbol) => match program.callee(at.file, symbol) {
                Some(callee) => Some(callee),
                None => continue,
            },
            None => None,
        };
        let returned = callee.map_or(Node::AnyResult, Node::Result);
        local.edges.push((returned, result));
        for (index, argument) in (0u16..).zip(&call.arguments) {
            let to = match callee {
                Some(callee) => Node::Parameter(callee, index),
                None => Node::AnyParameter(index),
            };
            let from = argument.pointer.iter();
            let from: Vec<Node> = from.filter_map(|p| node(program, at, *p)).collect();
            if callee.is_some_and(|callee| takes_plain(program, callee, index)) {
                local.plain.extend(&from);
            }
            local.edges.extend(from.into_iter().map(|from| (from, to)));
        }
    }
    local
}

/// Whether a parameter is declared as a pointer to numbers, characters or pointers.
fn takes_plain(program: &Program<'_>, callee: FunctionRef, index: u16) -> bool {
    let parameters = &program.function(callee).parameters;
    let types = &program.files[callee.file].1.types;
    let declared = parameters.get(usize::from(index)).copied().flatten();
    let to = declared.and_then(|ty| types.pointee(ty));
    to.is_some_and(|to| to != Types::VOID && program.record(callee.file, to).is_none())
}

/// Calls through pointers: any function whose address is taken may be the one.
fn indirect(program: &Program<'_>) -> Local {
    let mut local = Local::default();
    for at in program.escaping_functions() {
        let count = u16::try_from(program.function(at).parameters.len()).unwrap_or(u16::MAX);
        local.edges.push((Node::Result(at), Node::AnyResult));
        let parameters = 0..count;
        local
            .edges
            .extend(parameters.map(|i| (Node::AnyParameter(i), Node::Parameter(at, i))));
    }
    local
}

/// The node that a path without a type comes from.
fn node(program: &Program<'_>, at: FunctionRef, path: Path) -> Option<Node> {
    if path.view.is_some() {
        return None;
    }
    match path.root {
        Root::Parameter(index) => Some(Node::Parameter(at, index)),
        Root::Call(call) => Some(Node::Call(CallRef { function: at, call })),
        Root::Memory(Source::Member(holder)) => Some(Node::Member(
            program.record(at.file, holder.record)?,
            holder.offset,
        )),
        _ => None,
    }
}
