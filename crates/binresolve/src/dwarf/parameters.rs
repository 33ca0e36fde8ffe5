//! Registers that hold the parameters of a function at its entry.

use std::collections::BTreeMap;

use gimli::{AttributeValue, DebuggingInformationEntry, Operation, UnitOffset};

use super::Reader;

type Entry<'a> = DebuggingInformationEntry<Reader<'a>>;

/// Parameters of the functions of one unit, while its entries are walked.
#[derive(Debug, Default)]
pub struct Parameters {
    /// Position of a parameter in its function's list, by its entry.
    positions: BTreeMap<UnitOffset, u16>,
    /// Concrete parameters that refer to one of an abstract function.
    waiting: Vec<(usize, UnitOffset, u16)>,
    /// DWARF register by (row of the scope, position).
    found: BTreeMap<(usize, u16), u16>,
}

impl Parameters {
    /// Takes note of parameter `position` of an entry whose scope has this row, if it has code.
    pub fn note<'a>(
        &mut self,
        dwarf: &gimli::Dwarf<Reader<'a>>,
        unit: &gimli::Unit<Reader<'a>>,
        entry: &Entry<'a>,
        position: u16,
        scope: Option<(usize, u64)>,
    ) -> Result<(), gimli::Error> {
        self.positions.insert(entry.offset(), position);
        let Some((row, start)) = scope else {
            return Ok(());
        };
        let Some(register) = register_at(dwarf, unit, entry, start)? else {
            return Ok(());
        };
        match entry.attr_value(gimli::DW_AT_abstract_origin) {
            Some(AttributeValue::UnitRef(origin)) => self.waiting.push((row, origin, register)),
            Some(_) => {}
            None => {
                self.found.insert((row, position), register);
            }
        }
        Ok(())
    }

    /// DWARF registers by (row of the scope, position in the source).
    pub fn finish(mut self) -> BTreeMap<(usize, u16), u16> {
        for (row, origin, register) in self.waiting {
            if let Some(position) = self.positions.get(&origin) {
                self.found.insert((row, *position), register);
            }
        }
        self.found
    }
}

/// The register that is the whole location of a variable at an address.
fn register_at<'a>(
    dwarf: &gimli::Dwarf<Reader<'a>>,
    unit: &gimli::Unit<Reader<'a>>,
    entry: &Entry<'a>,
    address: u64,
) -> Result<Option<u16>, gimli::Error> {
    let Some(location) = entry.attr_value(gimli::DW_AT_location) else {
        return Ok(None);
    };
    if let Some(expression) = location.exprloc_value() {
        return only_register(expression, unit);
    }
    let Some(mut list) = dwarf.attr_locations(unit, location)? else {
        return Ok(None);
    };
    while let Some(part) = list.next()? {
        if (part.range.begin..part.range.end).contains(&address) {
            return only_register(part.data, unit);
        }
    }
    Ok(None)
}

/// The register that is all of a location.
pub(super) fn only_register<'a>(
    expression: gimli::Expression<Reader<'a>>,
    unit: &gimli::Unit<Reader<'a>>,
) -> Result<Option<u16>, gimli::Error> {
    let mut operations = expression.operations(unit.encoding());
    let Some(Operation::Register { register }) = operations.next()? else {
        return Ok(None);
    };
    Ok(operations.next()?.is_none().then_some(register.0))
}
