//! DWARF of one image as plain tables: inlining chains, lines, frame sizes, variables.

pub mod cfi;
mod lines;
mod parameters;
pub mod paths;
mod pointers;
mod scopes;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use gimli::{EndianSlice, LittleEndian, SectionId};
use object::{Object, ObjectSection, ObjectSymbol, RelocationKind, RelocationTarget};
use rayon::prelude::*;

use self::{lines::LineTable, paths::Paths, scopes::ScopeTree};
pub use self::{
    parameters::Held,
    scopes::{Scope, Variable},
};
use crate::{
    image::{Image, Problem},
    passed::Instance,
};

/// How gimli reads a section here.
pub type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// The debug sections of an image, relocated.
pub struct Sections<'d> {
    sections: gimli::DwarfSections<Cow<'d, [u8]>>,
    frame: Cow<'d, [u8]>,
}

impl<'d> Sections<'d> {
    /// Reads (and for a module relocates) the debug sections.
    pub fn load(image: &Image<'d>) -> Result<Self, Problem> {
        let load = |id: SectionId| section_data(image, id.name());
        Ok(Self {
            sections: gimli::DwarfSections::load(load)?,
            frame: section_data(image, SectionId::DebugFrame.name())?,
        })
    }

    /// Call frame information of the functions whose first address `wanted` accepts.
    pub fn frames(&self, wanted: impl Fn(u64) -> bool) -> cfi::FrameTable {
        cfi::FrameTable::build(&self.frame, wanted)
    }

    /// Every row of the line tables: address and line, or `None` where nothing is known from there
    /// on. Of several rows for one address the last counts.
    pub fn lines(&self) -> Result<BTreeMap<u64, Option<u32>>, gimli::Error> {
        let dwarf = self
            .sections
            .borrow(|bytes| EndianSlice::new(bytes, LittleEndian));
        let mut lines = BTreeMap::new();
        let mut list = dwarf.units();
        while let Some(header) = list.next()? {
            let unit = dwarf.unit(header)?;
            lines::collect(&unit, &mut lines)?;
        }
        Ok(lines)
    }

    /// Lists the compilation units.
    pub fn index(&self, paths: &Paths) -> Result<UnitIndex<'_>, gimli::Error> {
        let dwarf = self
            .sections
            .borrow(|bytes| EndianSlice::new(bytes, LittleEndian));
        let mut headers = Vec::new();
        let mut list = dwarf.units();
        while let Some(header) = list.next()? {
            headers.push(header);
        }
        let heads: Vec<Option<Head<'_>>> = headers
            .into_par_iter()
            .map(|header| {
                let name = unit_name(&dwarf, &header)?;
                Ok(name.map(|name| Head {
                    name: paths.normalise("", &name),
                    header,
                }))
            })
            .collect::<Result<_, gimli::Error>>()?;
        let mut heads: Vec<Head<'_>> = heads.into_iter().flatten().collect();
        heads.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(UnitIndex { dwarf, heads })
    }
}

/// A compilation unit by name.
struct Head<'s> {
    name: String,
    header: gimli::UnitHeader<Reader<'s>>,
}

/// The compilation units of an image, most of them unread.
pub struct UnitIndex<'s> {
    dwarf: gimli::Dwarf<Reader<'s>>,
    /// Sorted by name; a file may have several units.
    heads: Vec<Head<'s>>,
}

/// Where the code of a unit lies.
pub struct UnitRanges {
    /// Source file.
    pub name: String,
    /// As debug information gives them.
    pub ranges: Vec<(u64, u64)>,
}

impl<'s> UnitIndex<'s> {
    /// Whether there is no unit at all.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Whether a source file has a unit.
    pub fn has(&self, file: &str) -> bool {
        self.heads
            .binary_search_by(|head| head.name.as_str().cmp(file))
            .is_ok()
    }

    /// Ranges of the units whose source file `wanted` accepts, without reading their entries.
    pub fn ranges(
        &self,
        wanted: impl Fn(&str) -> bool + Send + Sync,
    ) -> Result<Vec<UnitRanges>, gimli::Error> {
        self.wanted(wanted)
            .map(|head| {
                let unit = self.dwarf.unit(head.header)?;
                Ok(UnitRanges {
                    name: head.name.clone(),
                    ranges: unit_ranges(&self.dwarf, &unit)?,
                })
            })
            .collect()
    }

    /// Reads the units whose source file `wanted` accepts.
    pub fn read(
        &self,
        paths: &Paths,
        wanted: impl Fn(&str) -> bool + Send + Sync,
    ) -> Result<DebugInfo, gimli::Error> {
        let units = self
            .wanted(wanted)
            .map(|head| {
                let unit = self.dwarf.unit(head.header)?;
                Unit::read(&self.dwarf, &unit, paths)
            })
            .collect::<Result<Vec<Unit>, gimli::Error>>()?;
        Ok(DebugInfo { units })
    }

    fn wanted(
        &self,
        wanted: impl Fn(&str) -> bool + Send + Sync,
    ) -> impl ParallelIterator<Item = &Head<'s>> {
        self.heads.par_iter().filter(move |head| wanted(&head.name))
    }
}

fn unit_ranges(
    dwarf: &gimli::Dwarf<Reader<'_>>,
    unit: &gimli::Unit<Reader<'_>>,
) -> Result<Vec<(u64, u64)>, gimli::Error> {
    let mut ranges = Vec::new();
    let mut list = dwarf.unit_ranges(unit)?;
    while let Some(range) = list.next()? {
        if range.begin < range.end {
            ranges.push((range.begin, range.end));
        }
    }
    ranges.sort_unstable();
    Ok(ranges)
}

/// Reads only the name in a unit's first entry: a large image has thousands of units.
fn unit_name(
    dwarf: &gimli::Dwarf<Reader<'_>>,
    header: &gimli::UnitHeader<Reader<'_>>,
) -> Result<Option<String>, gimli::Error> {
    let abbreviations = dwarf.abbreviations(header)?;
    let mut entries = header.entries_raw(&abbreviations, None)?;
    let Some(abbreviation) = entries.read_abbreviation()? else {
        return Ok(None);
    };
    for specification in abbreviation.attributes() {
        let attribute = entries.read_attribute(*specification)?;
        if attribute.name() != gimli::DW_AT_name {
            continue;
        }
        let name = match attribute.value() {
            gimli::AttributeValue::String(name) => name,
            gimli::AttributeValue::DebugStrRef(offset) => dwarf.string(offset)?,
            gimli::AttributeValue::DebugLineStrRef(offset) => dwarf.line_string(offset)?,
            // Indexed forms need the unit's bases.
            _ => {
                let unit = dwarf.unit(*header)?;
                match unit.name {
                    Some(name) => name,
                    None => return Ok(None),
                }
            }
        };
        return Ok(Some(name.to_string_lossy().into_owned()));
    }
    Ok(None)
}

fn section_data<'d>(image: &Image<'d>, name: &str) -> Result<Cow<'d, [u8]>, Problem> {
    let Some(section) = image.file.section_by_name(name) else {
        return Ok(Cow::Borrowed(&[]));
    };
    let data = section
        .uncompressed_data()
        .map_err(|e| format!("{name}: {e}"))?;
    if !image.relocatable() {
        return Ok(data);
    }
    let mut data = data.into_owned();
    for (offset, relocation) in section.relocations() {
        if relocation.kind() != RelocationKind::Absolute {
            continue;
        }
        let base = match relocation.target() {
            RelocationTarget::Symbol(index) => {
                let symbol = image
                    .file
                    .symbol_by_index(index)
                    .map_err(|e| format!("{name}: {e}"))?;
                let section = symbol.section_index();
                let base = section.and_then(|s| image.bases.get(&s.0)).unwrap_or(&0);
                base.wrapping_add(symbol.address())
            }
            _ => 0,
        };
        let value = base.wrapping_add_signed(relocation.addend());
        let width = usize::from(relocation.size() / 8);
        let field = usize::try_from(offset)
            .ok()
            .and_then(|start| data.get_mut(start..start.checked_add(width)?))
            .ok_or_else(|| format!("{name}: a relocation lies outside the section"))?;
        match width {
            4 => field.copy_from_slice(&(value as u32).to_le_bytes()),
            8 => field.copy_from_slice(&value.to_le_bytes()),
            _ => return Err(format!("{name}: a relocation of {width} bytes")),
        }
    }
    Ok(Cow::Owned(data))
}

/// A place in the source: `file:line:column`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Relative to the kernel tree; empty when unknown.
    pub file: String,
    /// From 1; 0 when unknown.
    pub line: u32,
    /// From 1; 0 when unknown.
    pub column: u32,
}

/// One step of an inlining chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Source name of the function.
    pub function: String,
    /// File that defines the function; empty when unknown.
    pub defined_in: String,
    /// Where in it.
    pub place: Place,
}

/// A compilation unit.
pub struct Unit {
    /// Source file.
    pub name: String,
    /// Made by clang: columns are comparable with those of the bitcode.
    pub clang: bool,
    /// Address ranges of its code, sorted.
    pub ranges: Vec<(u64, u64)>,
    scopes: ScopeTree,
    lines: LineTable,
}

impl Unit {
    fn read(
        dwarf: &gimli::Dwarf<Reader<'_>>,
        unit: &gimli::Unit<Reader<'_>>,
        paths: &Paths,
    ) -> Result<Self, gimli::Error> {
        let comp_dir = unit
            .comp_dir
            .map(|d| d.to_string_lossy().into_owned())
            .unwrap_or_default();
        let lines = LineTable::read(dwarf, unit, &comp_dir, paths)?;
        let scopes = ScopeTree::read(dwarf, unit)?;
        let ranges = unit_ranges(dwarf, unit)?;
        let name = unit
            .name
            .map(|n| paths.normalise(&comp_dir, &n.to_string_lossy()))
            .unwrap_or_default();
        Ok(Self {
            name,
            clang: scopes.producer.contains("clang"),
            ranges,
            scopes,
            lines,
        })
    }

    /// Source file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the address is in its code.
    pub fn holds(&self, address: u64) -> bool {
        let end = self.ranges.partition_point(|(begin, _)| *begin <= address);
        end > 0 && address < self.ranges[end - 1].1
    }

    /// The inlining chain at an address, innermost first; empty when no function is known there.
    fn chain(&self, address: u64) -> Vec<Step> {
        let mut place = self.lines.place(address);
        self.scopes
            .path(address)
            .map(|scope| Step {
                function: scope.name.clone(),
                defined_in: self.lines.file(scope.file).to_owned(),
                place: std::mem::replace(
                    &mut place,
                    Place {
                        file: self.lines.file(scope.call_file).to_owned(),
                        line: scope.call_line,
                        column: scope.call_column,
                    },
                ),
            })
            .collect()
    }
}

/// The units that were read.
pub struct DebugInfo {
    units: Vec<Unit>,
}

/// What DWARF says about an address.
pub struct Origin {
    /// Innermost first; never empty.
    pub chain: Vec<Step>,
    /// The unit was made by clang.
    pub clang: bool,
}

impl DebugInfo {
    /// The units, sorted by name.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// The inlining chain at an address.
    pub fn origin(&self, address: u64) -> Option<Origin> {
        self.units
            .iter()
            .filter(|unit| unit.holds(address))
            .map(|unit| Origin {
                chain: unit.chain(address),
                clang: unit.clang,
            })
            .find(|origin| !origin.chain.is_empty())
    }

    /// Names of the functions inlined anywhere into the function that holds the address.
    pub fn inlined_beside(&self, address: u64) -> BTreeSet<String> {
        let unit = self.units.iter().find(|unit| unit.holds(address));
        unit.map(|unit| unit.scopes.inlined_beside(address))
            .unwrap_or_default()
    }

    /// Whether a register, by DWARF's number, holds a variable of the source that points to a
    /// structure when the instruction at an address is reached.
    pub fn holds_pointer(&self, address: u64, register: u16) -> bool {
        let mut units = self.units.iter().filter(|unit| unit.holds(address));
        units.any(|unit| unit.scopes.pointers.holds(address, register))
    }

    /// Tells apart the copies of inlined functions: the innermost one that holds the address.
    pub fn copy_at(&self, address: u64) -> Option<(usize, usize)> {
        let mut units = self.units.iter().enumerate();
        units.find_map(|(row, unit)| {
            let scope = unit.holds(address).then(|| unit.scopes.innermost(address));
            Some((row, scope??))
        })
    }

    /// All machine code of a function.
    pub fn instances(&self, file: &str, function: &str) -> Vec<Instance> {
        let mut found = Vec::new();
        for unit in &self.units {
            for (scope, registers) in unit.scopes.named(function) {
                if unit.lines.file(scope.file) == file {
                    found.push(Instance {
                        entry: scope.entry,
                        registers,
                        inlined: scope.inlined,
                    });
                }
            }
        }
        found
    }

    /// File that defines the function whose code starts at the address.
    pub fn definition(&self, address: u64) -> Option<&str> {
        self.units.iter().find_map(|unit| {
            let scope = unit.scopes.path(address).last()?;
            Some(unit.lines.file(scope.file))
        })
    }

    /// Variables with static storage by (enclosing function or "", name): unit and address of each.
    pub fn variables(&self) -> BTreeMap<(&str, &str), Vec<(&str, u64)>> {
        let mut result: BTreeMap<(&str, &str), Vec<(&str, u64)>> = BTreeMap::new();
        for unit in &self.units {
            for variable in &unit.scopes.variables {
                let key = (variable.function.as_str(), variable.name.as_str());
                let place = (unit.name.as_str(), variable.address);
                result.entry(key).or_default().push(place);
            }
        }
        result
    }
}
