//! The line table of one compilation unit.

use std::collections::BTreeMap;

use super::{Place, Reader, paths::Paths};

#[derive(Clone, Copy, Debug)]
struct Row {
    address: u64,
    file: u32,
    line: u32,
    column: u32,
    /// The row ends a sequence: nothing is known from here on.
    end: bool,
}

/// Rows sorted by address, and file names by index.
#[derive(Debug, Default)]
pub struct LineTable {
    rows: Vec<Row>,
    files: Vec<String>,
}

impl LineTable {
    pub fn read(
        dwarf: &gimli::Dwarf<Reader<'_>>,
        unit: &gimli::Unit<Reader<'_>>,
        comp_dir: &str,
        paths: &Paths,
    ) -> Result<Self, gimli::Error> {
        let Some(program) = unit.line_program.clone() else {
            return Ok(Self::default());
        };
        let files = file_names(dwarf, unit, program.header(), comp_dir, paths)?;
        let mut sequences: Vec<Vec<Row>> = Vec::new();
        let mut current = Vec::new();
        let mut rows = program.rows();
        while let Some((_, row)) = rows.next_row()? {
            current.push(Row {
                address: row.address(),
                file: u32::try_from(row.file_index()).unwrap_or(u32::MAX),
                line: row.line().map_or(0, |l| l.get() as u32),
                column: match row.column() {
                    gimli::ColumnType::LeftEdge => 0,
                    gimli::ColumnType::Column(c) => c.get() as u32,
                },
                end: row.end_sequence(),
            });
            if row.end_sequence() {
                sequences.push(std::mem::take(&mut current));
            }
        }
        // Addresses grow within a sequence, sequences do not overlap.
        sequences.sort_by_key(|rows| rows.first().map(|r| r.address));
        let rows = sequences.concat();
        Ok(Self { rows, files })
    }

    /// The place of the instruction at an address.
    ///
    /// Of several rows for one address the last counts: compilers put the statements that left
    /// no code before it.
    pub fn place(&self, address: u64) -> Place {
        let end = self.rows.partition_point(|row| row.address <= address);
        match self.rows[..end].last() {
            Some(row) if !row.end => Place {
                file: self.file(row.file).to_owned(),
                line: row.line,
                column: row.column,
            },
            _ => Place::default(),
        }
    }

    /// The name of a file by its index in this unit; empty when there is none.
    pub fn file(&self, index: u32) -> &str {
        self.files.get(index as usize).map_or("", String::as_str)
    }
}

/// Adds address and line of every row of a unit's table; `None` where a sequence ends.
pub fn collect(
    unit: &gimli::Unit<Reader<'_>>,
    lines: &mut BTreeMap<u64, Option<u32>>,
) -> Result<(), gimli::Error> {
    let Some(program) = unit.line_program.clone() else {
        return Ok(());
    };
    let mut rows = program.rows();
    while let Some((_, row)) = rows.next_row()? {
        if row.end_sequence() {
            lines.entry(row.address()).or_insert(None);
        } else {
            let line = row.line().map_or(0, std::num::NonZero::get);
            lines.insert(row.address(), u32::try_from(line).ok());
        }
    }
    Ok(())
}

fn file_names(
    dwarf: &gimli::Dwarf<Reader<'_>>,
    unit: &gimli::Unit<Reader<'_>>,
    header: &gimli::LineProgramHeader<Reader<'_>>,
    comp_dir: &str,
    paths: &Paths,
) -> Result<Vec<String>, gimli::Error> {
    let text = |value| -> Result<String, gimli::Error> {
        Ok(dwarf
            .attr_string(unit, value)?
            .to_string_lossy()
            .into_owned())
    };
    // Before version 5 files are counted from 1.
    let first = usize::from(header.version() < 5);
    let mut names = vec![String::new(); first];
    for file in header.file_names() {
        let name = text(file.path_name())?;
        let directory = match file.directory(header) {
            Some(directory) if file.directory_index() != 0 => text(directory)?,
            _ => String::new(),
        };
        let name = match (name.starts_with('/'), directory.is_empty()) {
            (true, _) | (_, true) => name,
            _ => format!("{directory}/{name}"),
        };
        names.push(paths.normalise(comp_dir, &name));
    }
    Ok(names)
}
