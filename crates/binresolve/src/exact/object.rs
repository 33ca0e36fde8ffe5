//! Object file of a shadow to the map of its functions.

use std::collections::{BTreeMap, BTreeSet};

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget};
use otf_artifact::{
    FORMAT_VERSION,
    exact::{Change, ExactMap, MapRow, Mapped, MappedFunction, SourceWrite},
    ids::ImageId,
};

use crate::{
    dwarf::Sections,
    image::{Image, Problem, hex},
};

/// Where calls of the tracer are made: objtool and the kernel put something else there.
const TRACER: &str = "__fentry__";

/// Reads the map off an object whose lines are marks. `marks` says by mark, from 1, which write it
/// stands for; `changed` are the marks of those that the optimiser changed.
///
/// # Errors
/// When the object cannot be read.
pub fn read(
    source: &str,
    object: &[u8],
    marks: &[Option<SourceWrite>],
    changed: &BTreeMap<u32, Change>,
) -> Result<ExactMap, Problem> {
    let image = Image::parse(source, ImageId(0), object)?;
    if !image.relocatable() {
        return Err("a linked file, where an object is expected".into());
    }
    let lines = Sections::load(&image)?
        .lines()
        .map_err(|e| format!("line table of {source}: {e}"))?;
    let patched = patched(&image)?;
    let mut used: BTreeSet<u32> = BTreeSet::new();
    let mut found = Vec::new();
    for symbol in image.symbols.iter().filter(|s| s.function && s.size > 0) {
        let section = &image.sections[symbol.section];
        let (start, end) = (symbol.address, symbol.address + symbol.size);
        let from = usize::try_from(start - section.base).map_err(|e| e.to_string())?;
        let to = usize::try_from(end - section.base).map_err(|e| e.to_string())?;
        let code = section
            .data
            .get(from..to)
            .ok_or_else(|| format!("{} reaches beyond its section", symbol.name))?;
        // What came before the function ends with it.
        let mut rows: Vec<(u64, Option<u32>)> = vec![(start, None)];
        rows.extend(
            lines
                .range(start..end)
                .map(|(address, line)| (*address, *line)),
        );
        let mut masked = Vec::new();
        for (at, length) in patched.range(start..end) {
            masked.push((offset(*at - start)?, *length));
        }
        used.extend(rows.iter().filter_map(|(_, line)| *line));
        found.push((symbol.name, start, hex(code), masked, rows));
    }
    let told = |mark: &u32| {
        let remade = matches!(changed.get(mark), Some(Change::Remade));
        write_of(marks, *mark).is_some() && !remade
    };
    let writes: BTreeMap<u32, u32> = used.iter().copied().filter(told).zip(0..).collect();
    let origin = |line: Option<u32>| match line {
        None | Some(0) => Mapped::Nothing,
        Some(mark) => match (writes.get(&mark), changed.get(&mark)) {
            (Some(write), Some(Change::Merged(bytes))) => Mapped::Merged {
                write: *write,
                bytes: *bytes,
            },
            (Some(write), _) => Mapped::Write(*write),
            (None, Some(_)) => Mapped::Remade,
            (None, None) => Mapped::Other,
        },
    };
    let mut functions = Vec::new();
    for (symbol, start, code, masked, rows) in found {
        let mut mapped: Vec<MapRow> = Vec::new();
        for (address, line) in rows {
            let row = MapRow {
                offset: offset(address - start)?,
                origin: origin(line),
            };
            match mapped.last_mut() {
                Some(last) if last.offset == row.offset => *last = row,
                Some(last) if last.origin == row.origin && row.origin == Mapped::Other => {}
                _ => mapped.push(row),
            }
        }
        functions.push(MappedFunction {
            symbol: symbol.to_owned(),
            code,
            masked,
            rows: mapped,
        });
    }
    functions.sort_by(|a, b| (&a.symbol, &a.code).cmp(&(&b.symbol, &b.code)));
    let of = |mark: &u32| write_of(marks, *mark).cloned();
    Ok(ExactMap {
        version: FORMAT_VERSION,
        source: source.to_owned(),
        missing: None,
        writes: writes.keys().filter_map(of).collect(),
        functions,
    })
}

fn write_of(marks: &[Option<SourceWrite>], mark: u32) -> Option<&SourceWrite> {
    let row = usize::try_from(mark).ok()?.checked_sub(1)?;
    marks.get(row)?.as_ref()
}

fn offset(distance: u64) -> Result<u32, Problem> {
    u32::try_from(distance).map_err(|e| e.to_string())
}

/// Bytes of code that are filled in after the compiler, by address.
fn patched(image: &Image<'_>) -> Result<BTreeMap<u64, u32>, Problem> {
    let mut patched = BTreeMap::new();
    for section in image.file.sections() {
        let Some(base) = image.bases.get(&section.index().0) else {
            continue;
        };
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(index) = relocation.target() else {
                continue;
            };
            let symbol = image
                .file
                .symbol_by_index(index)
                .map_err(|e| e.to_string())?;
            let length = u32::from(relocation.size() / 8);
            // The call's opcode too.
            let before = u64::from(symbol.name_bytes().is_ok_and(|n| n == TRACER.as_bytes()));
            patched.insert(
                (base + offset).saturating_sub(before),
                length + before as u32,
            );
        }
    }
    Ok(patched)
}
