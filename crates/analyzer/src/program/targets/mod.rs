//! Legal targets of calls through pointers, by multi-layer type analysis (Lu and Hu, CCS 2019) on
//! facts: what was stored in the member that the pointer is loaded from, followed through copies,
//! arguments and results.
//!
//! A set is a superset of what the source allows. Where a pointer was kept in memory without its
//! type, every function of the call's signature whose address is taken counts. Where functions
//! outside of what was read may come in, the set says so with a reason.

mod graph;
mod pool;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    analysis::{Analysis, CallTarget, IndirectCall, TargetSet},
    ids::{TargetId, TargetSetId},
};
use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};
use tracing::info;

use crate::{
    facts::Facts,
    program::{
        FileMeta, FunctionRef, Program, Request,
        targets::{
            graph::{Callee, Graph, Node, NodeId},
            pool::Pool,
        },
    },
    slots::Unknown,
};

/// Where the calls of the compartment may lead.
pub(super) struct CallTargets {
    targets: Vec<CallTarget>,
    sets: Vec<TargetSet>,
    /// Calls by file and name of the function, sorted.
    calls: BTreeMap<(String, String), Vec<IndirectCall>>,
}

impl CallTargets {
    /// Puts the calls into an analysis of the same program.
    pub(super) fn fill(mut self, analysis: &mut Analysis) {
        analysis.targets = self.targets;
        analysis.target_sets = self.sets;
        for function in &mut analysis.functions {
            let key = (function.file.clone(), function.name.clone());
            function.indirect_calls = self.calls.remove(&key).unwrap_or_default();
        }
    }
}

/// How many targets the calls through pointers have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of the source.
    pub calls: usize,
    /// Targets of all of them.
    pub targets: usize,
    /// Calls through a pointer from memory without a type: any function of the signature.
    pub untyped_calls: usize,
    /// Targets of these.
    pub untyped_targets: usize,
    /// Calls that may lead somewhere else too.
    pub unbounded_calls: usize,
}

/// Counts the targets of all calls of the confined files.
pub fn count_targets(files: &[(FileMeta, Facts)], request: &Request) -> Counts {
    let program = Program::link(files, request);
    let found = call_targets(&program);
    let mut counts = Counts::default();
    for call in found.calls.values().flatten() {
        let set = &found.sets[call.targets.index()];
        counts.calls += 1;
        counts.targets += set.targets.len();
        counts.unbounded_calls += usize::from(set.any.is_some());
        if call.through.contains(words::UNTYPED) {
            counts.untyped_calls += 1;
            counts.untyped_targets += set.targets.len();
        }
    }
    counts
}

/// What a node or a call may lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Answer<'a> {
    functions: BTreeSet<Callee<'a>>,
    any: BTreeSet<String>,
}

/// A call of the source; the copies that several files hold of a function in a header are one.
#[derive(Default)]
struct Site {
    through: BTreeSet<String>,
    nodes: BTreeSet<NodeId>,
}

/// File, function, line and column.
type Place = (String, String, u32, u32);

/// Finds the targets of every call through a pointer in the compartment.
pub(super) fn call_targets(program: &Program<'_>) -> CallTargets {
    let pool = Pool::new(program);
    let mut graph = Graph::new(program, &pool.taken);
    let mut sites: BTreeMap<Place, Site> = BTreeMap::new();
    for (file, (meta, facts)) in program.files.iter().enumerate() {
        if !meta.confined {
            continue;
        }
        for call in &facts.slots.calls {
            let symbol = facts.slots.name(call.function);
            let Some(at) = program.callee(file, symbol).filter(|at| at.file == file) else {
                continue;
            };
            let function = program.function(at);
            let place = (
                function.file.clone(),
                function.name.clone(),
                call.line,
                call.column,
            );
            let site = sites.entry(place).or_default();
            for from in &call.from {
                site.nodes.insert(graph.place(program, file, *from).0);
                site.through.insert(words::through(program, file, *from));
            }
        }
    }
    let mut solver = Solver {
        program,
        graph: &graph,
        pool,
        memo: HashMap::default(),
    };
    let answers: Vec<Answer<'_>> = sites.values().map(|s| solver.answer(&s.nodes)).collect();
    let result = number(program, sites, &answers);
    info!(
        places = graph.nodes.len(),
        targets = result.targets.len(),
        sets = result.sets.len(),
        "found targets of calls"
    );
    result
}

struct Solver<'p, 'a> {
    program: &'p Program<'a>,
    graph: &'p Graph<'a>,
    pool: Pool<'a>,
    memo: HashMap<NodeId, Answer<'a>>,
}

impl<'a> Solver<'_, 'a> {
    fn answer(&mut self, nodes: &BTreeSet<NodeId>) -> Answer<'a> {
        let mut answer = Answer::default();
        for node in nodes {
            if !self.memo.contains_key(node) {
                let known = self.reach(*node);
                self.memo.insert(*node, known);
            }
            let known = &self.memo[node];
            answer.functions.extend(&known.functions);
            answer.any.extend(known.any.iter().cloned());
        }
        answer
    }

    /// Everything that flows into a node.
    fn reach(&mut self, start: NodeId) -> Answer<'a> {
        let mut answer = Answer::default();
        let mut seen = HashSet::from_iter([start]);
        let mut work = vec![start];
        while let Some(id) = work.pop() {
            let node = self.graph.nodes[id as usize];
            match node {
                Node::Function(function) => {
                    answer.functions.insert(function);
                }
                Node::Unknown(why, signature) => self.unknown(why, signature, &mut answer),
                _ => answer.any.extend(self.outside(node)),
            }
            let sources = &self.graph.sources[id as usize];
            work.extend(sources.iter().filter(|s| seen.insert(**s)));
        }
        answer
    }

    fn unknown(&mut self, why: Unknown, signature: Option<&'a str>, answer: &mut Answer<'a>) {
        let reason = match why {
            Unknown::Data => "the pointer was one to data: code made at run time",
            Unknown::Computed => "arithmetic or assembly makes the pointer",
            Unknown::Untyped => {
                match signature {
                    Some(signature) => answer.functions.extend(self.pool.matching(signature)),
                    None => {
                        answer.any.insert("the signature is not known".into());
                    }
                }
                if self.program.whole {
                    return;
                }
                "the pointer is kept without its type, and not all files are read"
            }
        };
        answer.any.insert(reason.into());
    }

    /// Why functions that were not read may come to a place.
    fn outside(&self, node: Node<'a>) -> Option<String> {
        let program = self.program;
        let whole = program.whole;
        match node {
            Node::Into((record, file, _)) | Node::Inside((record, file, _), _) => (!whole
                && !program.is_own(file))
            .then(|| format!("{record} is filled outside the scope too")),
            Node::Variable(file, row) => {
                let global = program.global((file, row));
                (!global.defined || !whole && !global.internal && !global.constant)
                    .then(|| format!("{} is written outside the scope too", global.symbol))
            }
            Node::Parameter(Callee::Known(at), _) => {
                let function = program.function(at);
                let reached = !function.internal || self.pool.taken.contains(&Callee::Known(at));
                (!whole && reached)
                    .then(|| format!("{} is called from outside the scope", function.name))
            }
            Node::Passed(..) => (!whole).then(|| "a call outside the scope passes it".to_owned()),
            Node::Result(Callee::Foreign(symbol)) => Some(format!("{symbol} is outside the scope")),
            _ => None,
        }
    }
}

fn number(
    program: &Program<'_>,
    sites: BTreeMap<Place, Site>,
    answers: &[Answer<'_>],
) -> CallTargets {
    let mut rows: BTreeMap<CallTarget, usize> = BTreeMap::new();
    let mut known: HashMap<Callee<'_>, CallTarget> = HashMap::default();
    for function in answers.iter().flat_map(|a| &a.functions) {
        if !known.contains_key(function) {
            let target = target(program, *function);
            rows.insert(target.clone(), 0);
            known.insert(*function, target);
        }
    }
    for (row, index) in rows.values_mut().enumerate() {
        *index = row;
    }
    let ids: HashMap<Callee<'_>, TargetId> = known
        .into_iter()
        .map(|(function, target)| (function, TargetId::from(rows[&target])))
        .collect();
    let mut sets: BTreeMap<TargetSet, usize> = BTreeMap::new();
    let drafts: Vec<TargetSet> = answers
        .iter()
        .map(|answer| {
            let targets: BTreeSet<TargetId> = answer.functions.iter().map(|f| ids[f]).collect();
            TargetSet {
                targets: targets.into_iter().collect(),
                any: words::reason(&answer.any),
            }
        })
        .collect();
    for draft in &drafts {
        sets.insert(draft.clone(), 0);
    }
    for (row, index) in sets.values_mut().enumerate() {
        *index = row;
    }
    let mut calls: BTreeMap<(String, String), Vec<IndirectCall>> = BTreeMap::new();
    for (((file, function, line, column), site), draft) in sites.into_iter().zip(drafts) {
        calls
            .entry((file, function))
            .or_default()
            .push(IndirectCall {
                line,
                column,
                through: words::all(&site.through),
                targets: TargetSetId::from(sets[&draft]),
            });
    }
    CallTargets {
        targets: rows.into_keys().collect(),
        sets: sets.into_keys().collect(),
        calls,
    }
}

fn target(program: &Program<'_>, function: Callee<'_>) -> CallTarget {
    match function {
        Callee::Known(at @ FunctionRef { file, .. }) => CallTarget {
            image: program.files[file].0.image.clone(),
            symbol: program.function(at).symbol.clone(),
            file: program.function(at).file.clone(),
        },
        Callee::Foreign(symbol) => CallTarget {
            image: "vmlinux".into(),
            symbol: symbol.to_owned(),
            file: String::new(),
        },
    }
}
