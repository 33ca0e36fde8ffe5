//! The whole program: facts of all files joined by type, function and global.

pub(crate) mod analyze;
mod caches;
mod calls;
mod casts;
mod evidence;
mod fields;
mod gates;
mod intern;
mod layout;
mod legal;
mod origins;
mod places;
mod receivers;
mod stock;
mod tables;
pub(crate) mod targets;
mod voids;

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::analysis::{Dimension, Refusal};

use rayon::prelude::*;
use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

use crate::{
    facts::{Facts, FunctionFacts, GlobalFacts, Shape, TypeId},
    program::{
        calls::Calls,
        intern::{Interned, intern},
    },
};

/// What the profile says about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// Source relative to the kernel tree.
    pub source: String,
    /// Image whose code it is part of: `vmlinux` or a module.
    pub image: String,
    /// Whether it belongs to the compartment.
    pub confined: bool,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Kernel profile.
    pub kernel: String,
    /// Compartment, with `@overlay` when one was applied.
    pub compartment: String,
    /// Refusal values that override those of the return type, by `Qdisc_ops.enqueue`.
    pub refusals: BTreeMap<String, Refusal>,
    /// Header types (`struct Qdisc`) of which the scope holds every allocation, static or not.
    pub complete: BTreeSet<String>,
    /// The scope holds every C file of the kernel: then it holds all allocations of every type.
    pub whole: bool,
    /// Headers that only files of the scope can include: it holds all objects of their types.
    pub closed_headers: BTreeSet<String>,
}

/// Row of [`Program::records`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RecordId(pub(crate) usize);

/// A function: row of the file and row in its facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FunctionRef {
    pub(crate) file: usize,
    pub(crate) row: usize,
}

/// A structure or union, one row for all files that define it alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) size: u64,
}

/// A structure inside another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part {
    pub(crate) offset: u64,
    pub(crate) inner: RecordId,
    pub(crate) dimension: Option<Dimension>,
}

/// Facts of all files, joined.
pub(crate) struct Program<'a> {
    pub(crate) files: Vec<(&'a FileMeta, &'a Facts)>,
    pub(crate) whole: bool,
    pub(crate) records: Vec<Record>,
    /// What each record holds directly, sorted.
    pub(crate) parts: Vec<BTreeSet<Part>>,
    /// Whether a record ends in an array without a bound.
    pub(crate) open_ended: Vec<bool>,
    rows: Vec<Vec<Option<RecordId>>>,
    internal: Vec<HashMap<&'a str, usize>>,
    external: HashMap<&'a str, FunctionRef>,
    /// File that defines an external global, by symbol.
    definitions: HashMap<&'a str, (usize, usize)>,
    closed: Vec<bool>,
    /// Files that nobody outside of what was read sees: what was read, and closed headers.
    own: HashSet<&'a str>,
    /// Functions of each file whose address is taken there.
    escaping: Vec<HashSet<&'a str>>,
    calls: Calls,
}

impl<'a> Program<'a> {
    /// Joins the files, in the order of their sources.
    pub(crate) fn link(files: &'a [(FileMeta, Facts)], request: &'a Request) -> Self {
        let mut files: Vec<(&FileMeta, &Facts)> = files.iter().map(|(m, f)| (m, f)).collect();
        files.sort_by(|(a, _), (b, _)| a.source.cmp(&b.source));
        let facts: Vec<&Facts> = files.iter().map(|(_, f)| *f).collect();
        let Interned {
            records,
            rows,
            fresh,
        } = intern(&facts);
        let sources = files.iter().map(|(m, _)| m.source.as_str());
        let own: HashSet<&str> = sources
            .chain(request.closed_headers.iter().map(String::as_str))
            .collect();
        let closed = records
            .iter()
            .map(|r| {
                request.whole && !r.file.is_empty()
                    || own.contains(r.file.as_str())
                    || request.complete.contains(&r.name)
            })
            .collect();
        let mut program = Self {
            whole: request.whole,
            parts: vec![BTreeSet::new(); records.len()],
            open_ended: vec![false; records.len()],
            closed,
            own,
            rows,
            internal: Vec::new(),
            external: HashMap::default(),
            definitions: HashMap::default(),
            escaping: facts
                .par_iter()
                .map(|f| f.references.iter().map(|r| r.function.as_str()).collect())
                .collect(),
            calls: Calls::default(),
            records,
            files,
        };
        for (file, (facts, fresh)) in facts.into_iter().zip(fresh).enumerate() {
            program.link_symbols(file, facts);
            program.link_parts(file, facts, &fresh);
        }
        program.spread_open_ends();
        program.calls = Calls::find(&program);
        program
    }

    /// A record that ends in an open-ended one is open-ended.
    fn spread_open_ends(&mut self) {
        let mut changed = true;
        while changed {
            changed = false;
            for (record, parts) in self.parts.iter().enumerate() {
                let last = parts.iter().map(|p| p.offset).max();
                let open = |p: &&Part| Some(p.offset) == last && self.open_ended[p.inner.0];
                if !self.open_ended[record] && parts.iter().find(open).is_some() {
                    self.open_ended[record] = true;
                    changed = true;
                }
            }
        }
    }

    fn link_symbols(&mut self, file: usize, facts: &'a Facts) {
        let mut internal = HashMap::default();
        for (row, function) in facts.functions.iter().enumerate() {
            if function.internal {
                internal.insert(function.symbol.as_str(), row);
            } else {
                self.external
                    .entry(&function.symbol)
                    .or_insert(FunctionRef { file, row });
            }
        }
        self.internal.push(internal);
        for (row, global) in facts.globals.iter().enumerate() {
            if global.defined && !global.internal {
                self.definitions
                    .entry(&global.symbol)
                    .or_insert((file, row));
            }
        }
    }

    fn link_parts(&mut self, file: usize, facts: &Facts, fresh: &[TypeId]) {
        for id in fresh {
            let Some(record) = self.rows[file][id.0 as usize] else {
                continue;
            };
            let Shape::Record { members, .. } = &facts.types.get(*id).shape else {
                continue;
            };
            let last = members.iter().map(|m| m.offset).max();
            for member in members {
                let (inner, dimension) = element(facts, member.ty);
                if dimension.is_some_and(|d| d.count == 0) && Some(member.offset) == last {
                    self.open_ended[record.0] = true;
                }
                if let Some(inner) = self.rows[file][inner.0 as usize]
                    && inner != record
                {
                    self.parts[record.0].insert(Part {
                        offset: member.offset,
                        inner,
                        dimension,
                    });
                }
            }
        }
    }

    /// Facts of a function.
    pub(crate) fn function(&self, at: FunctionRef) -> &'a FunctionFacts {
        &self.files[at.file].1.functions[at.row]
    }

    /// Every function with a body.
    pub(crate) fn functions(&self) -> impl Iterator<Item = FunctionRef> + '_ {
        self.files
            .iter()
            .enumerate()
            .flat_map(|(file, (_, facts))| {
                (0..facts.functions.len()).map(move |row| FunctionRef { file, row })
            })
    }

    /// The function that a symbol means in a file.
    pub(crate) fn callee(&self, file: usize, symbol: &str) -> Option<FunctionRef> {
        match self.internal[file].get(symbol) {
            Some(row) => Some(FunctionRef { file, row: *row }),
            None => self.external.get(symbol).copied(),
        }
    }

    /// Whether a function's address is taken in its own file.
    pub(crate) fn escapes(&self, at: FunctionRef) -> bool {
        self.escaping[at.file].contains(self.function(at).symbol.as_str())
    }

    /// Every function with a body whose address is taken somewhere.
    pub(crate) fn escaping_functions(&self) -> BTreeSet<FunctionRef> {
        let files = self.escaping.iter().enumerate();
        files
            .flat_map(|(file, symbols)| symbols.iter().filter_map(move |s| self.callee(file, s)))
            .collect()
    }

    /// The record of a type, through arrays.
    pub(crate) fn record(&self, file: usize, ty: TypeId) -> Option<RecordId> {
        let (inner, _) = element(self.files[file].1, ty);
        self.rows[file][inner.0 as usize]
    }

    /// Whether all objects of this type are in what was read.
    pub(crate) fn is_closed(&self, record: RecordId) -> bool {
        self.closed[record.0]
    }

    /// Whether only what was read sees what a file defines.
    pub(crate) fn is_own(&self, file: &str) -> bool {
        self.own.contains(file)
    }

    /// The file and row that define a global which a file names.
    pub(crate) fn definition(&self, file: usize, row: usize) -> (usize, usize) {
        let global = &self.files[file].1.globals[row];
        if global.defined {
            return (file, row);
        }
        self.definitions
            .get(global.symbol.as_str())
            .copied()
            .unwrap_or((file, row))
    }

    /// Facts of a global.
    pub(crate) fn global(&self, (file, row): (usize, usize)) -> &'a GlobalFacts {
        &self.files[file].1.globals[row]
    }

    /// Whether a function is written in a header: then it is part of whoever calls it.
    pub(crate) fn in_header(&self, at: FunctionRef) -> bool {
        self.function(at).file != self.files[at.file].0.source
    }

    /// Whether a function is part of the compartment's own files.
    pub(crate) fn is_confined(&self, at: FunctionRef) -> bool {
        self.files[at.file].0.confined
    }
}

/// The innermost element of an array type and how it repeats.
fn element(facts: &Facts, ty: TypeId) -> (TypeId, Option<Dimension>) {
    let mut at = ty;
    let mut total: Option<Dimension> = None;
    while let Shape::Array {
        element,
        stride,
        count,
    } = facts.types.get(at).shape
    {
        total = Some(Dimension {
            stride,
            count: total.map_or(1, |t| t.count) * count,
        });
        at = element;
    }
    (at, total)
}
