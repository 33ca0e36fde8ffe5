//! The whole program: facts of all files joined by type, function and global.

pub(crate) mod analyze;
mod caches;
mod casts;
mod fields;
mod gates;
mod layout;
mod legal;
mod origins;
mod places;
mod tables;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use otf_artifact::analysis::{Dimension, Refusal};

use crate::facts::{Facts, FunctionFacts, GlobalFacts, Shape, TypeId};

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
    /// Name, offset and size of every member: tells apart what only the name has in common.
    shape: Vec<(String, u64, u64)>,
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
    pub(crate) files: &'a [(FileMeta, Facts)],
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
}

impl<'a> Program<'a> {
    /// Joins the files; `complete` as in [`Request`].
    pub(crate) fn link(files: &'a [(FileMeta, Facts)], complete: &BTreeSet<String>) -> Self {
        let (records, rows) = intern_records(files);
        let mut program = Self {
            files,
            parts: vec![BTreeSet::new(); records.len()],
            open_ended: vec![false; records.len()],
            closed: Vec::new(),
            rows,
            internal: Vec::new(),
            external: HashMap::new(),
            definitions: HashMap::new(),
            records,
        };
        let sources: BTreeSet<&str> = files.iter().map(|(m, _)| m.source.as_str()).collect();
        program.closed = program
            .records
            .iter()
            .map(|r| sources.contains(r.file.as_str()) || complete.contains(&r.name))
            .collect();
        for (file, (_, facts)) in files.iter().enumerate() {
            program.link_file(file, facts);
        }
        program.spread_open_ends();
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

    fn link_file(&mut self, file: usize, facts: &'a Facts) {
        let mut internal = HashMap::new();
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
        for (index, ty) in facts.types.0.iter().enumerate() {
            let Some(record) = self.rows[file][index] else {
                continue;
            };
            let Shape::Record { members, .. } = &ty.shape else {
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

    /// The record of a type, through arrays.
    pub(crate) fn record(&self, file: usize, ty: TypeId) -> Option<RecordId> {
        let (inner, _) = element(&self.files[file].1, ty);
        self.rows[file][inner.0 as usize]
    }

    /// Whether all objects of this type are in what was read.
    pub(crate) fn is_closed(&self, record: RecordId) -> bool {
        self.closed[record.0]
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

fn key(facts: &Facts, id: TypeId) -> Option<Record> {
    let ty = facts.types.get(id);
    let Shape::Record { file, members } = &ty.shape else {
        return None;
    };
    Some(Record {
        name: ty.name.clone(),
        file: file.clone(),
        size: ty.size,
        shape: members
            .iter()
            .map(|m| (m.name.clone(), m.offset, facts.types.get(m.ty).size))
            .collect(),
    })
}

/// All records, sorted, and the record of every type of every file.
fn intern_records(files: &[(FileMeta, Facts)]) -> (Vec<Record>, Vec<Vec<Option<RecordId>>>) {
    let keys: Vec<Vec<Option<Record>>> = files
        .iter()
        .map(|(_, facts)| {
            (0..facts.types.0.len())
                .map(|i| key(facts, TypeId(i as u32)))
                .collect()
        })
        .collect();
    let mut by_name: BTreeMap<&str, BTreeSet<&Record>> = BTreeMap::new();
    for record in keys.iter().flatten().flatten() {
        if !record.file.is_empty() {
            by_name.entry(&record.name).or_default().insert(record);
        }
    }
    // A type that a file only declares is the one that another file defines, if there is one.
    let defined = |record: &Record| -> Record {
        match by_name.get(record.name.as_str()) {
            Some(known) if record.file.is_empty() && known.len() == 1 => {
                known.iter().next().map_or(record, |r| *r).clone()
            }
            _ => record.clone(),
        }
    };
    let resolved: Vec<Vec<Option<Record>>> = keys
        .iter()
        .map(|file| file.iter().map(|r| r.as_ref().map(defined)).collect())
        .collect();
    let all: BTreeSet<&Record> = resolved.iter().flatten().flatten().collect();
    let ids: BTreeMap<&Record, RecordId> = all
        .iter()
        .enumerate()
        .map(|(i, r)| (*r, RecordId(i)))
        .collect();
    let rows = resolved
        .iter()
        .map(|file| file.iter().map(|r| r.as_ref().map(|r| ids[r])).collect())
        .collect();
    (all.iter().map(|r| (*r).clone()).collect(), rows)
}
