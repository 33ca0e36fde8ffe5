//! Registers that hold pointers to structures: variables and parameters of the source.

use std::collections::BTreeMap;

use gimli::{AttributeValue, DebuggingInformationEntry, UnitOffset};

use super::{
    Reader,
    parameters::only_register,
    scopes::{in_unit, origins},
};

type Entry<'a> = DebuggingInformationEntry<Reader<'a>>;

/// Most typedefs and qualifiers on the way to a type; debug information may refer in a circle.
const MAX_NAMES: usize = 16;

/// Where the variables of one unit that point to structures or unions are in registers.
#[derive(Debug, Default)]
pub struct Pointers {
    /// First address, end, DWARF register; sorted once all are read.
    ranges: Vec<(u64, u64, u16)>,
    /// The longest range: how far before an address one that holds it may begin.
    longest: u64,
    /// Whether a type is a pointer to a structure or union of a known size.
    types: BTreeMap<UnitOffset, bool>,
}

impl Pointers {
    /// Takes note of a variable or parameter; `scope` are the ranges of the function it belongs to,
    /// of one in an inner block none.
    pub fn note<'a>(
        &mut self,
        dwarf: &gimli::Dwarf<Reader<'a>>,
        unit: &gimli::Unit<Reader<'a>>,
        entry: &Entry<'a>,
        scope: &[(u64, u64)],
    ) -> Result<(), gimli::Error> {
        let Some(location) = entry.attr_value(gimli::DW_AT_location) else {
            return Ok(());
        };
        if let Some(expression) = location.exprloc_value() {
            // The same place in all of the scope.
            if let Some(register) = only_register(expression, unit)?
                && self.is_pointer(unit, entry)
            {
                let all = scope.iter().map(|(start, end)| (*start, *end, register));
                self.ranges.extend(all);
            }
            return Ok(());
        }
        let Some(mut list) = dwarf.attr_locations(unit, location)? else {
            return Ok(());
        };
        let mut pointer = None;
        while let Some(part) = list.next()? {
            let (start, end) = (part.range.begin, part.range.end);
            if start >= end {
                continue;
            }
            let Some(register) = only_register(part.data, unit)? else {
                continue;
            };
            if !*pointer.get_or_insert_with(|| self.is_pointer(unit, entry)) {
                return Ok(());
            }
            self.ranges.push((start, end, register));
        }
        Ok(())
    }

    /// Ends reading.
    pub fn seal(&mut self) {
        self.ranges.sort_unstable();
        self.ranges.dedup();
        let lengths = self.ranges.iter().map(|(start, end, _)| end - start);
        self.longest = lengths.max().unwrap_or(0);
        self.types = BTreeMap::new();
    }

    /// Whether a register holds such a pointer when the instruction at an address is reached.
    pub fn holds(&self, address: u64, register: u16) -> bool {
        let first = address.saturating_sub(self.longest);
        let from = self.ranges.partition_point(|(start, ..)| *start < first);
        let near = self.ranges[from..].iter();
        near.take_while(|(start, ..)| *start <= address)
            .any(|(_, end, held)| address < *end && *held == register)
    }

    fn is_pointer<'a>(&mut self, unit: &gimli::Unit<Reader<'a>>, entry: &Entry<'a>) -> bool {
        let ty =
            origins(unit, entry).find_map(|at| in_unit(unit, at.attr_value(gimli::DW_AT_type)?));
        let Some(ty) = ty else { return false };
        if let Some(known) = self.types.get(&ty) {
            return *known;
        }
        let target = behind_names(unit, ty)
            .filter(|at| at.tag() == gimli::DW_TAG_pointer_type)
            .and_then(|at| behind_names(unit, in_unit(unit, at.attr_value(gimli::DW_AT_type)?)?));
        let known = target.is_some_and(|target| {
            let record = [gimli::DW_TAG_structure_type, gimli::DW_TAG_union_type];
            let size = target.attr_value(gimli::DW_AT_byte_size);
            record.contains(&target.tag())
                && size.and_then(|value: AttributeValue<_>| value.udata_value()) > Some(0)
        });
        self.types.insert(ty, known);
        known
    }
}

/// The type behind typedefs and qualifiers.
fn behind_names<'a>(unit: &gimli::Unit<Reader<'a>>, ty: UnitOffset) -> Option<Entry<'a>> {
    let mut at = unit.entry(ty).ok()?;
    for _ in 0..MAX_NAMES {
        let name = [
            gimli::DW_TAG_typedef,
            gimli::DW_TAG_const_type,
            gimli::DW_TAG_volatile_type,
            gimli::DW_TAG_restrict_type,
        ];
        if !name.contains(&at.tag()) {
            return Some(at);
        }
        at = unit
            .entry(in_unit(unit, at.attr_value(gimli::DW_AT_type)?)?)
            .ok()?;
    }
    None
}
