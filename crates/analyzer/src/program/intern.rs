//! Structures and unions of all files, one row for those that are the same.

use std::{
    collections::{HashMap, HashSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

use rayon::prelude::*;

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
    let mut known: HashMap<Key, (&Type, &str)> = HashMap::new();
    let mut contents: HashSet<Key> = HashSet::new();
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
    let mut defined: HashMap<&str, Option<usize>> = HashMap::new();
    for (row, (_, (ty, file))) in sorted.iter().enumerate() {
        if !file.is_empty() {
            defined
                .entry(&ty.name)
                .and_modify(|only| *only = None)
                .or_insert(Some(row));
        }
    }
    let mut ids: HashMap<Key, RecordId> = HashMap::with_capacity(sorted.len());
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
                name: ty.name.clone(),
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
    types
        .iter()
        .enumerate()
        .filter_map(|(row, ty)| {
            let Shape::Record { file, members } = &ty.shape else {
                return None;
            };
            let mut content = Hash128::new();
            content.add((&ty.name, file, ty.size));
            let name = content.finish();
            for member in members {
                let inner = &types[member.ty.0 as usize];
                content.add((&member.name, member.offset, &inner.name, inner.size));
                if let Shape::Array { element, count, .. } = inner.shape {
                    content.add((&types[element.0 as usize].name, count));
                }
            }
            let content = content.finish();
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

/// Two hashes with different beginnings: 128 bits, the same in every run.
struct Hash128(DefaultHasher, DefaultHasher);

impl Hash128 {
    fn new() -> Self {
        let mut second = DefaultHasher::new();
        second.write_u8(1);
        Self(DefaultHasher::new(), second)
    }

    fn add(&mut self, value: impl Hash) {
        value.hash(&mut self.0);
        value.hash(&mut self.1);
    }

    fn finish(&self) -> Key {
        Key::from(self.0.finish()) << 64 | Key::from(self.1.finish())
    }
}
