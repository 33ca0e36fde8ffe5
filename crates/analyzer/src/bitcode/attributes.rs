//! Attributes of parameters, of those kinds that facts ask for.

use rustc_hash::FxHashMap as HashMap;

use crate::bitcode::{Error, NONE, stream::Entry, stream::Reader};

const BY_VALUE: u64 = 3;
const STRUCT_RESULT: u64 = 29;
const ELEMENT_TYPE: u64 = 77;

/// An attribute that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    ByValue,
    StructResult,
    ElementType,
}

/// Parameters, from 1, with what they have.
type Group = Vec<(u32, Attribute)>;

/// Attributes of a module.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    groups: HashMap<u64, Group>,
    lists: Vec<Group>,
}

impl Attributes {
    /// Reads the block of groups.
    pub(super) fn groups(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        const ENTRY: u32 = 3;
        loop {
            match reader.next()? {
                Entry::End => return Ok(()),
                Entry::Block(_) => reader.skip()?,
                Entry::Record(ENTRY) => {
                    let id = reader.get(0)?;
                    // Those of the function itself have a number that no parameter has.
                    let parameter = reader.row(1)?;
                    let found = kinds(&reader.record[2..])?;
                    let group = found.into_iter().map(|kind| (parameter, kind)).collect();
                    self.groups.insert(id, group);
                }
                Entry::Record(code) => return Err(Error::Unknown("attributes", code.into())),
            }
        }
    }

    /// Reads the block of lists, which are made of groups.
    pub(super) fn lists(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        const ENTRY: u32 = 2;
        loop {
            match reader.next()? {
                Entry::End => return Ok(()),
                Entry::Block(_) => reader.skip()?,
                Entry::Record(ENTRY) => {
                    let mut list = Group::new();
                    for id in &reader.record {
                        let group = self.groups.get(id);
                        list.extend(group.ok_or(Error::NoSuch("attributes"))?);
                    }
                    self.lists.push(list);
                }
                Entry::Record(code) => return Err(Error::Unknown("attributes", code.into())),
            }
        }
    }

    /// The row of a list by its number in a record, where 0 stands for none.
    pub(super) fn row(&self, number: u32) -> Result<u32, Error> {
        match number.checked_sub(1) {
            None => Ok(NONE),
            Some(row) if (row as usize) < self.lists.len() => Ok(row),
            Some(_) => Err(Error::NoSuch("attributes")),
        }
    }

    /// Whether parameter `index`, from 0, has an attribute in a list.
    pub(super) fn has(&self, list: u32, index: u32, attribute: Attribute) -> bool {
        let list = self.lists.get(list as usize);
        list.is_some_and(|list| {
            let wanted = |(parameter, kind): &(u32, Attribute)| {
                parameter.checked_sub(1) == Some(index) && *kind == attribute
            };
            list.iter().any(wanted)
        })
    }
}

/// What is kept of a group; all of it has to be walked, as each kind has its own length.
fn kinds(record: &[u64]) -> Result<Vec<Attribute>, Error> {
    let mut found = Vec::new();
    let mut at = 0;
    let text = |from: usize| {
        let rest = record.get(from..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == 0);
        end.map(|end| from + end + 1).ok_or(Error::ShortRecord)
    };
    while at < record.len() {
        let kind = record.get(at + 1).copied();
        at = match record[at] {
            // A kind alone, as a type without one.
            0 | 5 => at + 2,
            // With a number.
            1 => at + 3,
            // With a type.
            6 => {
                found.extend(match kind {
                    Some(BY_VALUE) => Some(Attribute::ByValue),
                    Some(STRUCT_RESULT) => Some(Attribute::StructResult),
                    Some(ELEMENT_TYPE) => Some(Attribute::ElementType),
                    _ => None,
                });
                at + 3
            }
            // Text, without and with a value.
            3 => text(at + 1)?,
            4 => text(text(at + 1)?)?,
            // Width, begin and end of a range.
            7 if record.get(at + 2).is_some_and(|width| *width <= 64) => at + 5,
            form => return Err(Error::Unknown("an attribute", form)),
        };
    }
    Ok(found)
}
