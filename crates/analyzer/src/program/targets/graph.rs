//! Places that hold function pointers, of all files, and what flows from one to another.
//!
//! Structures have one place per member for all their objects. Where the structure around it is
//! known, the member has a place of its own per structure; a pointer to the inner structure alone
//! may be to any of them: it writes to [`Node::Into`], which leads to all, and reads from
//! [`Node::OutOf`], where all lead.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap as HashMap;

use crate::{
    program::{FunctionRef, Program},
    signature::{agree, function_type, of_type},
    slots::{MemberSlot, Place, RecordName, Slots, Unknown},
};

/// A function of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Callee<'a> {
    /// With a body in what was read.
    Known(FunctionRef),
    /// Without one, by symbol.
    Foreign(&'a str),
}

/// Name, file and member of a structure.
pub(super) type Member<'a> = (&'a str, &'a str, &'a str);

/// A place, over all files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Node<'a> {
    Function(Callee<'a>),
    Into(Member<'a>),
    OutOf(Member<'a>),
    Inside(Member<'a>, Member<'a>),
    /// File and row of the variable's definition.
    Variable(usize, usize),
    Parameter(Callee<'a>, u16),
    Result(Callee<'a>),
    Passed(u16, &'a str),
    Unknown(Unknown, Option<&'a str>),
}

/// Row of [`Graph::nodes`].
pub(super) type NodeId = u32;

/// Flows of the whole program.
pub(super) struct Graph<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    /// For each node the nodes that flow into it.
    pub(super) sources: Vec<Vec<NodeId>>,
    rows: HashMap<Node<'a>, NodeId>,
}

impl<'a> Graph<'a> {
    pub(super) fn new(program: &Program<'a>, taken: &BTreeSet<Callee<'a>>) -> Self {
        let mut graph = Self {
            nodes: Vec::new(),
            sources: Vec::new(),
            rows: HashMap::default(),
        };
        for (file, (_, facts)) in program.files.iter().enumerate() {
            for (from, to) in &facts.slots.flows {
                let (from, _) = graph.place(program, file, *from);
                let (_, to) = graph.place(program, file, *to);
                graph.edge(from, to);
            }
            for place in facts.slots.calls.iter().flat_map(|c| &c.from) {
                graph.place(program, file, *place);
            }
        }
        graph.pass(program, taken);
        for sources in &mut graph.sources {
            sources.sort_unstable();
            sources.dedup();
        }
        graph
    }

    fn node(&mut self, node: Node<'a>) -> NodeId {
        let next = self.nodes.len() as NodeId;
        let row = *self.rows.entry(node).or_insert(next);
        if row == next {
            self.nodes.push(node);
            self.sources.push(Vec::new());
        }
        row
    }

    fn edge(&mut self, from: NodeId, to: NodeId) {
        if from != to {
            self.sources[to as usize].push(from);
        }
    }

    /// Nodes to read a place of a file from and to write it to.
    pub(super) fn place(
        &mut self,
        program: &Program<'a>,
        file: usize,
        place: Place,
    ) -> (NodeId, NodeId) {
        let slots: &'a Slots = &program.files[file].1.slots;
        let callee = |id| callee(program, file, slots.name(id));
        let node = match place {
            Place::Member(row) => return self.member(slots, slots.members[row as usize]),
            Place::Function(symbol) => Node::Function(callee(symbol)),
            Place::Variable(row) => {
                let (file, row) = program.definition(file, row as usize);
                Node::Variable(file, row)
            }
            Place::Parameter(symbol, index) => Node::Parameter(callee(symbol), index),
            Place::Result(symbol) => Node::Result(callee(symbol)),
            Place::Passed(index, signature) => Node::Passed(index, slots.name(signature)),
            Place::Unknown(why, signature) => Node::Unknown(why, signature.map(|s| slots.name(s))),
        };
        let id = self.node(node);
        (id, id)
    }

    fn member(&mut self, slots: &'a Slots, slot: MemberSlot) -> (NodeId, NodeId) {
        let member = |record: RecordName, name| {
            let (record, file) = (slots.name(record.name), slots.name(record.file));
            (record, file, slots.name(name))
        };
        let inner = member(slot.record, slot.member);
        let known = self.nodes.len();
        let into = self.node(Node::Into(inner));
        let out_of = self.node(Node::OutOf(inner));
        if self.nodes.len() > known {
            self.edge(into, out_of);
        }
        let Some((record, name)) = slot.outer else {
            return (out_of, into);
        };
        let known = self.nodes.len();
        let inside = self.node(Node::Inside(member(record, name), inner));
        if self.nodes.len() > known {
            self.edge(into, inside);
            self.edge(inside, out_of);
        }
        (inside, inside)
    }

    /// What calls through pointers pass reaches the parameters of every function whose address
    /// is taken.
    fn pass(&mut self, program: &Program<'a>, taken: &BTreeSet<Callee<'a>>) {
        let passed: Vec<(NodeId, u16, &str)> = self
            .nodes
            .iter()
            .enumerate()
            .filter_map(|(row, node)| match node {
                Node::Passed(index, signature) => Some((row as NodeId, *index, *signature)),
                _ => None,
            })
            .collect();
        for row in 0..self.nodes.len() {
            let Node::Parameter(callee @ Callee::Known(at), index) = self.nodes[row] else {
                continue;
            };
            if !taken.contains(&callee) {
                continue;
            }
            let types = &program.files[at.file].1.types;
            let function = program.function(at);
            let declared = function.parameters.get(usize::from(index)).copied();
            let signature = declared
                .flatten()
                .and_then(|ty| function_type(types, ty))
                .map_or("?".into(), |ty| of_type(types, ty));
            // A structure by value takes several arguments, or shifts the others by one.
            let by_value = |ty: &Option<_>| ty.is_some_and(|ty| types.is_record(ty));
            let shifted = by_value(&function.result) || function.parameters.iter().any(by_value);
            for (from, argument, passed) in &passed {
                if (*argument == index || shifted && *argument > index) && agree(&signature, passed)
                {
                    self.edge(*from, row as NodeId);
                }
            }
        }
    }
}

/// The function that a symbol means in a file.
pub(super) fn callee<'a>(program: &Program<'a>, file: usize, symbol: &'a str) -> Callee<'a> {
    program
        .callee(file, symbol)
        .map_or(Callee::Foreign(symbol), Callee::Known)
}
