//! The tree of functions and inlined functions of one compilation unit.

use std::collections::{BTreeMap, BTreeSet};

use gimli::{AttributeValue, DebuggingInformationEntry, Operation, UnitOffset};

use super::{
    Reader,
    parameters::{Held, Parameters, Registers},
    pointers::Pointers,
};

type Entry<'a> = DebuggingInformationEntry<Reader<'a>>;

/// A function, or one inlined into another.
#[derive(Debug, Default)]
pub struct Scope {
    /// Source name.
    pub name: String,
    /// File that defines it, by the unit's index.
    pub file: u32,
    /// File of the call that was inlined.
    pub call_file: u32,
    /// Line of that call, 0 for a function of its own.
    pub call_line: u32,
    /// Column of that call.
    pub call_column: u32,
    /// Inlined into another one.
    pub inlined: bool,
    /// First address: of the range that compilers list first, which need not be the lowest one.
    pub entry: u64,
    ranges: Vec<(u64, u64)>,
    children: Vec<usize>,
}

impl Scope {
    fn holds(&self, address: u64) -> bool {
        self.ranges
            .iter()
            .any(|(begin, end)| (*begin..*end).contains(&address))
    }
}

/// A variable with static storage.
#[derive(Debug)]
pub struct Variable {
    /// Source name.
    pub name: String,
    /// Function that it belongs to, empty for one of the file.
    pub function: String,
    /// Address.
    pub address: u64,
}

/// The functions of one unit.
#[derive(Debug, Default)]
pub struct ScopeTree {
    scopes: Vec<Scope>,
    roots: Vec<usize>,
    /// Variables of the unit.
    pub variables: Vec<Variable>,
    registers: Registers,
    /// Registers that hold pointers to structures.
    pub pointers: Pointers,
    /// Compiler and its options.
    pub producer: String,
}

/// What encloses an entry while the tree is walked.
struct Enclosing {
    depth: isize,
    /// Row of its scope, when the entry has code.
    code: Option<usize>,
    /// Row of the innermost scope with code.
    scope: Option<usize>,
    function: String,
    /// Parameters of it so far; `None` of one that is inlined.
    parameters: Option<u16>,
}

impl ScopeTree {
    pub fn read(
        dwarf: &gimli::Dwarf<Reader<'_>>,
        unit: &gimli::Unit<Reader<'_>>,
    ) -> Result<Self, gimli::Error> {
        let mut tree = Self::default();
        let mut path: Vec<Enclosing> = Vec::new();
        let mut parameters = Parameters::default();
        let mut cursor = unit.entries();
        while let Some(entry) = cursor.next_dfs()? {
            let depth = entry.depth();
            while path.last().is_some_and(|e| e.depth >= depth) {
                path.pop();
            }
            match entry.tag() {
                gimli::DW_TAG_compile_unit => {
                    if let Some(value) = entry.attr_value(gimli::DW_AT_producer) {
                        tree.producer = string(dwarf, unit, value);
                    }
                }
                gimli::DW_TAG_subprogram | gimli::DW_TAG_inlined_subroutine => {
                    let inlined = entry.tag() == gimli::DW_TAG_inlined_subroutine;
                    let parent = path.iter().rev().find_map(|e| e.scope);
                    let row = tree.add(dwarf, unit, entry, parent.filter(|_| inlined))?;
                    path.push(Enclosing {
                        depth,
                        code: row,
                        scope: row.or(parent.filter(|_| inlined)),
                        function: name_and_file(dwarf, unit, entry).0,
                        parameters: (!inlined).then_some(0),
                    });
                }
                gimli::DW_TAG_formal_parameter => {
                    tree.note_pointer(dwarf, unit, entry, path.last())?;
                    let Some(of) = path.last_mut().filter(|e| e.depth + 1 == depth) else {
                        continue;
                    };
                    let Some(position) = of.parameters.as_mut() else {
                        continue;
                    };
                    let scope = of.scope.map(|row| (row, tree.scopes[row].entry));
                    parameters.note(dwarf, unit, entry, *position, scope)?;
                    *position += 1;
                }
                gimli::DW_TAG_variable => {
                    tree.note_pointer(dwarf, unit, entry, path.last())?;
                    let function = path.last().map_or("", |e| e.function.as_str());
                    let variable = variable(dwarf, unit, entry, function);
                    tree.variables.extend(variable);
                }
                _ => {}
            }
        }
        tree.registers = parameters.finish();
        tree.pointers.seal();
        tree.roots
            .sort_by_key(|row| tree.scopes[*row].ranges.first().copied());
        Ok(tree)
    }

    fn note_pointer<'a>(
        &mut self,
        dwarf: &gimli::Dwarf<Reader<'a>>,
        unit: &gimli::Unit<Reader<'a>>,
        entry: &Entry<'a>,
        within: Option<&Enclosing>,
    ) -> Result<(), gimli::Error> {
        let row = within
            .filter(|within| within.depth + 1 == entry.depth())
            .and_then(|within| within.code);
        let ranges = row.map_or(&[][..], |row| &self.scopes[row].ranges);
        self.pointers.note(dwarf, unit, entry, ranges)
    }

    fn add<'a>(
        &mut self,
        dwarf: &gimli::Dwarf<Reader<'a>>,
        unit: &gimli::Unit<Reader<'a>>,
        entry: &Entry<'a>,
        parent: Option<usize>,
    ) -> Result<Option<usize>, gimli::Error> {
        let mut ranges = Vec::new();
        let mut list = dwarf.die_ranges(unit, entry)?;
        while let Some(range) = list.next()? {
            if range.begin < range.end {
                ranges.push((range.begin, range.end));
            }
        }
        let Some((first, _)) = ranges.first().copied() else {
            return Ok(None);
        };
        ranges.sort_unstable();
        let (name, file) = name_and_file(dwarf, unit, entry);
        let row = self.scopes.len();
        self.scopes.push(Scope {
            name,
            file,
            call_file: number(entry, gimli::DW_AT_call_file),
            call_line: number(entry, gimli::DW_AT_call_line),
            call_column: number(entry, gimli::DW_AT_call_column),
            inlined: parent.is_some(),
            entry: first,
            ranges,
            children: Vec::new(),
        });
        match parent {
            Some(parent) => self.scopes[parent].children.push(row),
            None => self.roots.push(row),
        }
        Ok(Some(row))
    }

    /// The scopes that hold the address, innermost first.
    pub fn path(&self, address: u64) -> impl DoubleEndedIterator<Item = &Scope> {
        let mut found = Vec::new();
        let mut level = &self.roots;
        while let Some(row) = level.iter().find(|row| self.scopes[**row].holds(address)) {
            let scope = &self.scopes[*row];
            found.push(scope);
            level = &scope.children;
        }
        found.into_iter().rev()
    }
}

impl ScopeTree {
    /// Row of the innermost scope that holds the address.
    pub fn innermost(&self, address: u64) -> Option<usize> {
        let mut found = None;
        let mut level = &self.roots;
        while let Some(row) = level.iter().find(|row| self.scopes[**row].holds(address)) {
            found = Some(*row);
            level = &self.scopes[*row].children;
        }
        found
    }

    /// The scopes of this name, with the registers of their parameters by position.
    pub fn named<'s>(
        &'s self,
        name: &'s str,
    ) -> impl Iterator<Item = (&'s Scope, BTreeMap<u16, Vec<Held>>)> {
        let scopes = self.scopes.iter().enumerate();
        scopes
            .filter(move |(_, scope)| scope.name == name)
            .map(|(row, scope)| {
                let registers = self.registers.range((row, 0)..=(row, u16::MAX));
                (
                    scope,
                    registers.map(|((_, at), r)| (*at, r.clone())).collect(),
                )
            })
    }

    /// Names of the functions inlined anywhere into the function that holds the address.
    pub fn inlined_beside(&self, address: u64) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut work: Vec<usize> = self
            .roots
            .iter()
            .copied()
            .filter(|row| self.scopes[*row].holds(address))
            .collect();
        while let Some(row) = work.pop() {
            for child in &self.scopes[row].children {
                names.insert(self.scopes[*child].name.clone());
                work.push(*child);
            }
        }
        names
    }
}

fn string(
    dwarf: &gimli::Dwarf<Reader<'_>>,
    unit: &gimli::Unit<Reader<'_>>,
    value: AttributeValue<Reader<'_>>,
) -> String {
    dwarf
        .attr_string(unit, value)
        .map(|s| s.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn number(entry: &Entry<'_>, name: gimli::DwAt) -> u32 {
    entry
        .attr_value(name)
        .and_then(|value| match value {
            AttributeValue::FileIndex(index) => Some(index),
            value => value.udata_value(),
        })
        .and_then(|value| u32::try_from(value).ok())
        .unwrap_or(0)
}

/// Name and declaring file of an entry, from where its chain of origins first says them.
fn name_and_file<'a>(
    dwarf: &gimli::Dwarf<Reader<'a>>,
    unit: &gimli::Unit<Reader<'a>>,
    entry: &Entry<'a>,
) -> (String, u32) {
    let (mut name, mut file) = (String::new(), 0);
    for at in origins(unit, entry) {
        if name.is_empty()
            && let Some(value) = at.attr_value(gimli::DW_AT_name)
        {
            name = string(dwarf, unit, value);
        }
        if file == 0 {
            file = number(&at, gimli::DW_AT_decl_file);
        }
    }
    (name, file)
}

/// An entry and those that it refers to by `abstract_origin` and `specification` within the unit.
pub(super) fn origins<'u, 'a>(
    unit: &'u gimli::Unit<Reader<'a>>,
    entry: &Entry<'a>,
) -> impl Iterator<Item = Entry<'a>> + use<'u, 'a> {
    let next = |at: &Entry<'a>| {
        let origin = [gimli::DW_AT_abstract_origin, gimli::DW_AT_specification]
            .into_iter()
            .find_map(|reference| in_unit(unit, at.attr_value(reference)?));
        unit.entry(origin?).ok()
    };
    // A chain of origins is short; the bound stops a file whose entries refer in a circle.
    std::iter::successors(Some(entry.clone()), next).take(8)
}

/// The entry of the same unit that a reference leads to.
pub(super) fn in_unit(
    unit: &gimli::Unit<Reader<'_>>,
    value: AttributeValue<Reader<'_>>,
) -> Option<UnitOffset> {
    match value {
        AttributeValue::UnitRef(offset) => Some(offset),
        AttributeValue::DebugInfoRef(offset) => offset.to_unit_offset(&unit.header),
        _ => None,
    }
}

fn variable<'a>(
    dwarf: &gimli::Dwarf<Reader<'a>>,
    unit: &gimli::Unit<Reader<'a>>,
    entry: &Entry<'a>,
    function: &str,
) -> Option<Variable> {
    let expression = entry.attr_value(gimli::DW_AT_location)?.exprloc_value()?;
    let mut operations = expression.operations(unit.encoding());
    let address = match operations.next().ok()?? {
        Operation::Address { address } => address,
        Operation::AddressIndex { index } => dwarf.address(unit, index).ok()?,
        _ => return None,
    };
    if operations.next().ok()?.is_some() {
        return None;
    }
    let (name, _) = name_and_file(dwarf, unit, entry);
    (!name.is_empty()).then(|| Variable {
        name,
        function: function.to_owned(),
        address,
    })
}
