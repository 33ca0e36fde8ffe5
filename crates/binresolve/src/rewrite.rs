//! Sites in code that the kernel rewrites when it boots or loads the module.
//!
//! An *original* range may be replaced by a *template* from `.altinstr_replacement`. A site in an
//! original is probed only if every variant writes the same at the same place; a template is never
//! executed where it lies.

use std::collections::BTreeMap;

use otf_artifact::sites::{Length, Operand};

use crate::{
    decode::{Instructions, is_padding},
    operand::{MemoryWrite, Referent},
    tables::{Alternative, Tables},
};

/// What rewriting means for an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewriting {
    /// Never rewritten.
    None,
    /// Every variant writes the same here. Skipping the instruction skips this many bytes.
    Agreed(u8),
    /// The variants differ.
    Differs,
    /// A template; its home is this address. `checked`: a probe at home covers it.
    Template {
        /// Where it is copied to.
        home: u64,
        /// The site at home agrees with it.
        checked: bool,
    },
}

/// Answers for one image.
pub struct Rewrites<'i> {
    code: &'i Instructions,
    tables: &'i Tables,
    writes: &'i BTreeMap<usize, Vec<MemoryWrite>>,
    /// The alternatives by replacement, sorted.
    templates: Vec<&'i Alternative>,
}

/// More bytes than an alternative has: its lengths are bytes.
const LONGEST: u64 = 256;

impl<'i> Rewrites<'i> {
    /// Borrows the parts that it reads.
    pub fn new(
        code: &'i Instructions,
        tables: &'i Tables,
        writes: &'i BTreeMap<usize, Vec<MemoryWrite>>,
    ) -> Self {
        let mut templates: Vec<&Alternative> = tables.alternatives.iter().collect();
        templates.sort_unstable_by_key(|a| a.replacement);
        Self {
            code,
            tables,
            writes,
            templates,
        }
    }

    /// Alternatives whose range holds the address.
    fn around<'a, A: std::borrow::Borrow<Alternative>>(
        sorted: &'a [A],
        range: impl Fn(&Alternative) -> (u64, u64) + 'a,
        address: u64,
    ) -> impl Iterator<Item = &'a Alternative> {
        let near =
            sorted.partition_point(|a| range(a.borrow()).0.saturating_add(LONGEST) <= address);
        let near = sorted[near..].iter().map(std::borrow::Borrow::borrow);
        near.map(move |a| (a, range(a)))
            .take_while(move |(_, (start, _))| *start <= address)
            .filter(move |(_, (_, end))| address < *end)
            .map(|(a, _)| a)
    }

    /// What rewriting means for the instruction in this row.
    pub fn of(&self, row: usize) -> Rewriting {
        let address = self.code.all[row].ip();
        let alternatives = &self.tables.alternatives;
        let mut originals = Self::around(alternatives, |a| a.original, address).peekable();
        if originals.peek().is_some() {
            return self.original(row, originals);
        }
        // One template may serve several places: it is covered when all of them are.
        let mut template = None;
        for alternative in Self::around(&self.templates, |a| a.replacement, address) {
            let distance = address - alternative.replacement.0;
            let home = alternative.original.0.wrapping_add(distance);
            let checked = self
                .code
                .row(home)
                .is_some_and(|row| matches!(self.of(row), Rewriting::Agreed(_)));
            let (first, all) = template.unwrap_or((home, true));
            template = Some((first, all && checked));
        }
        template.map_or(Rewriting::None, |(home, checked)| Rewriting::Template {
            home,
            checked,
        })
    }

    /// What two variants must have in common; a `rep` and a call that write one range agree.
    fn effects(
        &self,
        row: usize,
    ) -> Vec<(Operand, Length, Option<&Referent>, Option<&'static str>)> {
        let writes = self.writes.get(&row).map_or(&[][..], Vec::as_slice);
        writes
            .iter()
            .map(|w| (w.operand, w.length, w.referent.as_ref(), w.inexpressible))
            .collect()
    }

    fn original<'a>(
        &self,
        row: usize,
        alternatives: impl Iterator<Item = &'a Alternative>,
    ) -> Rewriting {
        let instruction = &self.code.all[row];
        let address = instruction.ip();
        let mut length = instruction.len() as u64;
        for alternative in alternatives {
            let (start, end) = alternative.original;
            let twin = alternative.replacement.0.wrapping_add(address - start);
            let twin = self.code.row(twin);
            let twin = twin.filter(|twin| {
                self.code.all[*twin].ip() < alternative.replacement.1
                    && self.effects(*twin) == self.effects(row)
            });
            let Some(twin) = twin else {
                return Rewriting::Differs;
            };
            if self.code.all[twin].len() == instruction.len() {
                continue;
            }
            // The shorter variant is filled up: then both end where the range ends.
            let tail = |from: usize, end: u64| {
                self.code.all[from + 1..]
                    .iter()
                    .take_while(|i| i.ip() < end)
                    .all(is_padding)
            };
            if !tail(row, end) || !tail(twin, alternative.replacement.1) {
                return Rewriting::Differs;
            }
            length = end - address;
        }
        u8::try_from(length).map_or(Rewriting::Differs, Rewriting::Agreed)
    }
}
