//! Registers that hold the parameters of a function at its entry.

use std::collections::BTreeMap;

use gimli::{AttributeValue, DebuggingInformationEntry, Operation, UnitOffset};

use super::Reader;

type Entry<'a> = DebuggingInformationEntry<Reader<'a>>;

/// Bytes from a function's first one within which its own code begins: `endbr64`, the ftrace site.
/// Clang lets the locations of parameters begin behind them.
const PROLOGUE: u64 = 16;

/// Where a register holds a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// First address.
    pub begin: u64,
    /// First address behind.
    pub end: u64,
    /// By DWARF's number.
    pub register: u16,
}

/// Where parameters are near the entry of their function, by (row of the scope, position).
pub type Registers = BTreeMap<(usize, u16), Vec<Held>>;

/// Parameters of the functions of one unit, while its entries are walked.
#[derive(Debug, Default)]
pub struct Parameters {
    /// Position of a parameter in its function's list, by its entry.
    positions: BTreeMap<UnitOffset, u16>,
    /// Concrete parameters that refer to one of an abstract function.
    waiting: Vec<(usize, UnitOffset, Vec<Held>)>,
    found: Registers,
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
        let held = held_near(dwarf, unit, entry, start)?;
        match entry.attr_value(gimli::DW_AT_abstract_origin) {
            Some(AttributeValue::UnitRef(origin)) => self.waiting.push((row, origin, held)),
            Some(_) => {}
            None => {
                self.found.insert((row, position), held);
            }
        }
        Ok(())
    }

    /// By position in the source.
    pub fn finish(mut self) -> Registers {
        for (row, origin, held) in self.waiting {
            if let Some(position) = self.positions.get(&origin) {
                self.found.insert((row, *position), held);
            }
        }
        self.found
    }
}

/// The ranges near a function's first address in which a register is all of a variable's location.
fn held_near<'a>(
    dwarf: &gimli::Dwarf<Reader<'a>>,
    unit: &gimli::Unit<Reader<'a>>,
    entry: &Entry<'a>,
    start: u64,
) -> Result<Vec<Held>, gimli::Error> {
    let mut found = Vec::new();
    let Some(location) = entry.attr_value(gimli::DW_AT_location) else {
        return Ok(found);
    };
    let reach = start.saturating_add(PROLOGUE);
    let mut add = |begin, end, expression| -> Result<(), gimli::Error> {
        if let Some(register) = only_register(expression, unit)? {
            found.push(Held {
                begin,
                end,
                register,
            });
        }
        Ok(())
    };
    if let Some(expression) = location.exprloc_value() {
        add(start, reach, expression)?;
    } else if let Some(mut list) = dwarf.attr_locations(unit, location)? {
        while let Some(part) = list.next()? {
            if part.range.begin < reach && start < part.range.end {
                add(part.range.begin, part.range.end, part.data)?;
            }
        }
    }
    Ok(found)
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
