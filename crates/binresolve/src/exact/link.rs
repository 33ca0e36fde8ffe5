//! The code of exact maps in an image: found by symbol, and used only where it is the same.

use std::collections::BTreeMap;

use otf_artifact::exact::{ExactMap, MapRow, Mapped, MappedFunction, SourceWrite};

use crate::{dwarf::DebugInfo, image::Image};

/// The maps of the files of one image.
#[derive(Default)]
pub struct Linked<'m> {
    /// By first address: end, and the function if its code is that of the map.
    functions: BTreeMap<u64, (u64, Option<Function<'m>>)>,
    /// Functions whose code is another than that of the map: file and symbol, sorted.
    pub other_code: Vec<(&'m str, &'m str)>,
}

#[derive(Clone, Copy)]
struct Function<'m> {
    map: &'m ExactMap,
    row: usize,
    rows: &'m [MapRow],
}

/// What a map says about an address.
#[derive(Clone, Copy)]
pub struct Hit<'m> {
    /// From here on it says so.
    pub since: u64,
    /// What it says; `None`: the code is not that of the map.
    pub origin: Option<Origin<'m>>,
}

/// As [`Mapped`], with the write at hand.
#[derive(Clone, Copy)]
pub enum Origin<'m> {
    /// This write; its map and row tell it from others.
    Write(&'m SourceWrite, (usize, u32)),
    /// This write, put together with others to this many bytes.
    Merged(&'m SourceWrite, u64),
    /// Anything else.
    No(Mapped),
}

impl<'m> Linked<'m> {
    /// Finds the functions of every map whose file is part of the image.
    pub fn new(image: &Image<'_>, debug: &DebugInfo, maps: &'m [ExactMap]) -> Self {
        let mut linked = Self::default();
        for (row, map) in maps.iter().enumerate() {
            let units = || debug.units().iter().filter(|u| u.name() == map.source);
            for function in &map.functions {
                let here = |address| units().any(|unit| unit.holds(address));
                let symbols = image.symbols_named(&function.symbol);
                let mut symbols = symbols.filter(|s| s.function && here(s.address));
                let mut found = None;
                // A file may hold several of one name; the code tells them apart.
                for symbol in symbols.by_ref() {
                    let end = symbol.address + symbol.size;
                    let known = linked.functions.get(&symbol.address);
                    let taken = known.is_some_and(|(_, function)| function.is_some());
                    if !taken && is_same(image, symbol.address, symbol.size, function) {
                        let rows = function.rows.as_slice();
                        let function = Function { map, row, rows };
                        linked
                            .functions
                            .insert(symbol.address, (end, Some(function)));
                        found = Some(true);
                        break;
                    }
                    found = found.or(Some(false));
                    linked
                        .functions
                        .entry(symbol.address)
                        .or_insert((end, None));
                }
                if found == Some(false) {
                    linked.other_code.push((&map.source, &function.symbol));
                }
            }
        }
        linked.other_code.sort_unstable();
        linked
    }

    /// What the map of the file says about the instruction at an address; `None` without a map.
    pub fn at(&self, address: u64) -> Option<Hit<'m>> {
        let (start, (end, function)) = self.functions.range(..=address).next_back()?;
        if address >= *end {
            return None;
        }
        let Some(found) = function else {
            return Some(Hit {
                since: *start,
                origin: None,
            });
        };
        let offset = u32::try_from(address - start).ok()?;
        let rows = found.rows;
        let last = rows.partition_point(|row| row.offset <= offset);
        let row = last.checked_sub(1).and_then(|at| rows.get(at))?;
        let origin = match row.origin {
            Mapped::Write(write) => {
                let source = found.map.writes.get(write as usize)?;
                Origin::Write(source, (found.row, write))
            }
            Mapped::Merged { write, bytes } => {
                Origin::Merged(found.map.writes.get(write as usize)?, bytes)
            }
            other => Origin::No(other),
        };
        Some(Hit {
            since: start + u64::from(row.offset),
            origin: Some(origin),
        })
    }
}

/// Whether the image has the bytes of the map at an address, but for masked ones.
fn is_same(image: &Image<'_>, address: u64, size: u64, function: &MappedFunction) -> bool {
    let Some(mut wanted) = bytes(&function.code) else {
        return false;
    };
    let here = image.section_at(address).and_then(|section| {
        let from = usize::try_from(address - section.base).ok()?;
        let to = from.checked_add(usize::try_from(size).ok()?)?;
        section.data.get(from..to)
    });
    let Some(here) = here.filter(|here| here.len() == wanted.len()) else {
        return false;
    };
    let mut here = here.to_vec();
    for (offset, length) in &function.masked {
        let start = (*offset as usize).min(wanted.len());
        let end = start.saturating_add(*length as usize).min(wanted.len());
        wanted[start..end].fill(0);
        here[start..end].fill(0);
    }
    here == wanted
}

/// Bytes written as hexadecimal digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_are_read_from_digits() {
        assert_eq!(bytes("00ff1e"), Some(vec![0, 0xff, 0x1e]));
        assert_eq!(bytes("0"), None);
        assert_eq!(bytes("zz"), None);
    }
}
