//! What `void *` turns into: pointers without a type, followed through parameters, results and
//! members of structures over the whole program.
//!
//! Objects whose receiver says nothing (`x->priv = kzalloc(n)`) get the types that those who read
//! the pointer later cast it to. A member is one place for all objects of its structure, so this
//! only adds types: a site whose own function names a type does not ask here. What nobody sees as a
//! structure, but somebody as numbers or text, is an array of these.

use std::collections::BTreeSet;

use rayon::prelude::*;
use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

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
    rows: Rows,
    edges: Lists<u32>,
    casts: Lists<RecordId>,
    plain: Vec<bool>,
}

/// Rows of nodes: those of a function beside each other, found without a search.
struct Rows {
    /// By file and function: the row of its result, before those of parameters and of calls.
    first: Vec<Vec<(u32, u32)>>,
    count: u32,
    others: HashMap<Node, u32>,
}

impl Rows {
    fn new(program: &Program<'_>) -> Self {
        let mut count = 0;
        let first = program.files.iter().map(|(_, facts)| {
            let functions = facts.functions.iter().map(|function| {
                let parameters = function.parameters.len() as u32;
                let first = count;
                count += 1 + parameters + function.calls.len() as u32;
                (first, parameters)
            });
            functions.collect()
        });
        Self {
            first: first.collect(),
            count,
            others: HashMap::default(),
        }
    }

    /// The row of a node that belongs to a function.
    fn own(&self, node: Node) -> Option<u32> {
        let of = |at: FunctionRef| self.first[at.file][at.row];
        match node {
            Node::Result(at) => Some(of(at).0),
            Node::Parameter(at, index) => {
                let (first, parameters) = of(at);
                (u32::from(index) < parameters).then(|| first + 1 + u32::from(index))
            }
            Node::Call(call) => {
                let (first, parameters) = of(call.function);
                Some(first + 1 + parameters + call.call)
            }
            Node::Member(..) | Node::AnyResult | Node::AnyParameter(_) => None,
        }
    }

    fn row(&mut self, node: Node) -> u32 {
        if let Some(row) = self.own(node) {
            return row;
        }
        let next = self.count;
        let row = *self.others.entry(node).or_insert(next);
        self.count += u32::from(row == next);
        row
    }
}

/// A list for each row.
struct Lists<T> {
    ends: Vec<u32>,
    items: Vec<T>,
}

impl<T: Copy> Lists<T> {
    /// Sorts the pairs by row.
    fn new(mut pairs: Vec<(u32, T)>, rows: u32) -> Self {
        pairs.sort_by_key(|(row, _)| *row);
        let mut ends = vec![0; rows as usize];
        for (row, _) in &pairs {
            ends[*row as usize] += 1;
        }
        let mut end = 0;
        for count in &mut ends {
            end += *count;
            *count = end;
        }
        Self {
            ends,
            items: pairs.into_iter().map(|(_, item)| item).collect(),
        }
    }

    fn of(&self, row: u32) -> &[T] {
        let start = row.checked_sub(1).map_or(0, |row| self.ends[row as usize]);
        &self.items[start as usize..self.ends[row as usize] as usize]
    }
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
        let mut rows = Rows::new(program);
        let (mut edges, mut casts, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        for local in locals {
            let of_local = local.casts.into_iter();
            casts.extend(of_local.map(|(node, record)| (rows.row(node), record)));
            let of_local = local.edges.into_iter();
            edges.extend(of_local.map(|(from, to)| (rows.row(from), rows.row(to))));
            plain.extend(local.plain.into_iter().map(|node| rows.row(node)));
        }
        let count = rows.count;
        let mut is_plain = vec![false; count as usize];
        for row in plain {
            is_plain[row as usize] = true;
        }
        Self {
            rows,
            edges: Lists::new(edges, count),
            casts: Lists::new(casts, count),
            plain: is_plain,
        }
    }

    /// What these calls returned is cast to, anywhere.
    pub(super) fn of_calls(&self, calls: impl Iterator<Item = CallRef>) -> Seen {
        let mut found = Seen::default();
        let mut seen: HashSet<u32> = HashSet::default();
        let mut work: Vec<u32> = Vec::new();
        for call in calls {
            work.extend(self.rows.own(Node::Call(call)));
        }
        while let Some(row) = work.pop() {
            if !seen.insert(row) {
                continue;
            }
            found.records.extend(self.casts.of(row));
            found.plain |= self.plain[row as usize];
            work.extend(self.edges.of(row));
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
        let at_call = CallRef {
            function: at,
            call: row as u32,
        };
        let callee = match call.callee.as_deref() {
            // What takes an object back sees it as its own bookkeeping, not as what it was.
            Some(symbol) if symbol.contains("free") => continue,
            Some(_) => match program.calls.target(at_call) {
                Some(callee) => Some(callee),
                None => continue,
            },
            None => None,
        };
        let returned = callee.map_or(Node::AnyResult, Node::Result);
        local.edges.push((returned, Node::Call(at_call)));
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
