//! Structures and unions of all files, one row for those that are the same.

use std::hash::{Hash, Hasher};

use rayon::prelude::*;
use rustc_hash::{FxBuildHasher, FxHashMap as HashMap, FxHashSet as HashSet};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    facts::{Facts, Shape, TypeId},
    program::{Record, RecordId},
    types::Type,
};

/// Records of the program and how the types of each file map to them.
pub(super) struct Interned {
    /// Sorted by name, file and size.
    pub(super) records: Vec<Record>,
    /// For each file the record of each of its types.
    pub(super) rows: Vec<Vec<Option<RecordId>>>,
    /// For each file the types that no earlier file has: whose members are worth a look.
    pub(super) fresh: Vec<Vec<TypeId>>,
}

/// What a type is told apart by: name, file and size, for a structure without a name its members
/// too; 128 bits of hash.
type Key = u128;

/// A structure as one file sees it.
struct Seen<'a> {
    id: TypeId,
    /// Which row of the program it is.
    key: Key,
    /// With all that members show, to find rows that a file sees like another one before it.
    content: Key,
    ty: &'a Type,
    file: &'a str,
}

pub(super) fn intern(files: &[&Facts]) -> Interned {
    let seen: Vec<Vec<Seen<'_>>> = files.par_iter().map(|facts| records(facts)).collect();
    let mut known: HashMap<Key, (&Type, &str)> = HashMap::default();
    let mut contents: HashSet<Key> = HashSet::default();
    let mut fresh = Vec::with_capacity(files.len());
    for file in &seen {
        let mut new = Vec::new();
        for record in file {
            if contents.insert(record.content) {
                new.push(record.id);
                known.entry(record.key).or_insert((record.ty, record.file));
            }
        }
        fresh.push(new);
    }
    let mut sorted: Vec<(Key, (&Type, &str))> = known.into_iter().collect();
    sorted.par_sort_by(|(a, (x, f)), (b, (y, g))| {
        (&x.name, *f, x.size, a).cmp(&(&y.name, *g, y.size, b))
    });
    // A type that a file only declares is the one that another file defines, if there is one.
    let mut defined: HashMap<&str, Option<usize>> = HashMap::default();
    for (row, (_, (ty, file))) in sorted.iter().enumerate() {
        if !file.is_empty() {
            defined
                .entry(&ty.name)
                .and_modify(|only| *only = None)
                .or_insert(Some(row));
        }
    }
    let mut ids: HashMap<Key, RecordId> =
        HashMap::with_capacity_and_hasher(sorted.len(), FxBuildHasher);
    for (row, (key, (ty, file))) in sorted.iter().enumerate() {
        let definition = defined.get(ty.name.as_str()).copied().flatten();
        let row = definition.filter(|_| file.is_empty()).unwrap_or(row);
        ids.insert(*key, RecordId(row));
    }
    let rows = seen
        .par_iter()
        .zip(files)
        .map(|(file, facts)| {
            let mut rows = vec![None; facts.types.0.len()];
            for record in file {
                rows[record.id.0 as usize] = ids.get(&record.key).copied();
            }
            rows
        })
        .collect();
    Interned {
        records: sorted
            .into_iter()
            .map(|(_, (ty, file))| Record {
                name: ty.name.to_string(),
                file: file.to_owned(),
                size: ty.size,
            })
            .collect(),
        rows,
        fresh,
    }
}

fn records(facts: &Facts) -> Vec<Seen<'_>> {
    let types = &facts.types.0;
    let mut content = Content::default();
    types
        .iter()
        .enumerate()
        .filter_map(|(row, ty)| {
            let Shape::Record { file, members } = &ty.shape else {
                return None;
            };
            content.0.clear();
            content.add((&ty.name, file, ty.size));
            let name = content.key();
            for member in members {
                let inner = &types[member.ty.0 as usize];
                content.add((&member.name, member.offset, &inner.name, inner.size));
                if let Shape::Array { element, count, .. } = inner.shape {
                    content.add((&types[element.0 as usize].name, count));
                }
            }
            let content = content.key();
            Some(Seen {
                id: TypeId(row as u32),
                key: if ty.is_anonymous() { content } else { name },
                content,
                ty,
                file,
            })
        })
        .collect()
}

/// What a key is the hash of; the same in every run.
#[derive(Default)]
struct Content(Vec<u8>);

impl Content {
    fn add(&mut self, value: impl Hash) {
        value.hash(self);
    }

    fn key(&self) -> Key {
        xxh3_128(&self.0)
    }
}

impl Hasher for Content {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        self.key() as u64
    }
}
