//! Facts before every instruction of an image: a forward analysis over its control flow graph.
//!
//! Nothing is known where control may come from elsewhere: at symbols, fix-ups of faults, targets of
//! jumps from other functions. Code that the kernel rewrites forgets everything. A function with a
//! jump that may be one through a table, or with bytes that are no instruction, is left out.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{FlowControl, InstructionInfoFactory};

use super::facts::{Address, Effect, Facts, Origin};
use crate::{calls::is_indirect_jump, confined::Confined, decode::destination};

/// What becomes known in a row: before the instruction for a site, behind it for a call.
pub type Sources = BTreeMap<usize, Vec<(Origin, Address)>>;

/// The graph as this analysis sees it.
pub struct Paths<'c> {
    confined: &'c Confined<'c>,
    effects: Vec<Effect>,
    /// Rows that may be entered from unknown places.
    entries: BTreeSet<usize>,
    /// Functions of which no path is sure.
    unsure: BTreeSet<usize>,
}

impl<'c> Paths<'c> {
    /// Reads the code of an image.
    pub fn new(confined: &'c Confined<'c>) -> Self {
        let mut paths = Self {
            confined,
            effects: effects(confined),
            entries: BTreeSet::new(),
            unsure: unsure_functions(confined),
        };
        paths.find_entries();
        paths
    }

    /// Facts before each of the `wanted` rows.
    pub fn facts(&self, sources: &Sources, wanted: &BTreeSet<usize>) -> BTreeMap<usize, Facts> {
        let flow = self.confined.held.flow();
        let mut before: Vec<Option<Facts>> = vec![None; self.effects.len()];
        let mut work: Vec<usize> = self.entries.iter().copied().collect();
        for entry in &work {
            before[*entry] = Some(Facts::default());
        }
        while let Some(row) = work.pop() {
            let Some(mut facts) = before[row].clone() else {
                continue;
            };
            let found = sources.get(&row).map_or(&[][..], Vec::as_slice);
            for (origin, address) in found {
                if matches!(origin, Origin::Site(_)) {
                    facts.learn(*origin, *address);
                }
            }
            facts.pass(&self.effects[row]);
            for (origin, address) in found {
                if matches!(origin, Origin::Call(_)) {
                    facts.learn(*origin, *address);
                }
            }
            for next in &flow.next[row] {
                let changed = match &mut before[*next] {
                    Some(known) => known.meet(&facts),
                    unknown => {
                        *unknown = Some(facts.clone());
                        true
                    }
                };
                if changed {
                    work.push(*next);
                }
            }
        }
        let sure = |row: &&usize| !self.unsure.contains(&self.confined.held.owner(**row));
        wanted
            .iter()
            .filter(sure)
            .filter_map(|row| Some((*row, before[*row].take()?)))
            .collect()
    }

    /// Whether whoever passes `from` comes to `to`, before anything can have been freed.
    pub fn always_leads(&self, from: usize, to: usize) -> bool {
        /// Rows that are looked at.
        const MOST: usize = 512;
        let flow = self.confined.held.flow();
        let mut seen = BTreeSet::new();
        let mut work = flow.next[from].clone();
        if work.is_empty() || flow.leaves[from] {
            return false;
        }
        while let Some(row) = work.pop() {
            if row == to || !seen.insert(row) {
                continue;
            }
            let lost = row == from
                || seen.len() > MOST
                || self.effects[row].forgets
                || flow.leaves[row]
                || flow.next[row].is_empty()
                || self.confined.held.owner(row) != self.confined.held.owner(from);
            if lost {
                return false;
            }
            work.extend(&flow.next[row]);
        }
        true
    }

    fn find_entries(&mut self) {
        let Confined {
            image,
            code,
            tables,
            held,
            ..
        } = self.confined;
        let flow = held.flow();
        let mut entered = vec![false; code.all.len()];
        for (row, next) in flow.next.iter().enumerate() {
            for next in next {
                if held.owner(row) == held.owner(*next) {
                    entered[*next] = true;
                } else {
                    self.entries.insert(*next);
                }
            }
        }
        let unreached = (0..entered.len()).filter(|row| !entered[*row]);
        self.entries.extend(unreached);
        let symbols = image.symbols.iter().filter_map(|s| code.row(s.address));
        self.entries.extend(symbols);
        let fixups = tables.fixups.iter().filter_map(|(_, to)| code.row(*to));
        self.entries.extend(fixups);
        for (from, to) in &tables.jump_labels {
            if let (None, Some(to)) = (code.row(*from), code.row(*to)) {
                self.entries.insert(to);
            }
        }
    }
}

/// Functions of which not every path is known: with a jump that may be one through a table, or with
/// bytes that are no instruction.
pub fn unsure_functions(confined: &Confined<'_>) -> BTreeSet<usize> {
    let Confined {
        image,
        code,
        frames,
        held,
        ..
    } = confined;
    let mut unsure = BTreeSet::new();
    // The instruction that an address lies in, but does not start.
    let inside = |address: u64| {
        let row = code.all.partition_point(|i| i.ip() <= address);
        let row = row.checked_sub(1)?;
        let instruction = &code.all[row];
        (instruction.ip() < address && address < instruction.next_ip()).then_some(row)
    };
    for (row, instruction) in code.all.iter().enumerate() {
        let address = instruction.ip();
        // A function without a frame jumps through a register to leave, and by an index to a label.
        let indexed = instruction.flow_control() == FlowControl::IndirectBranch
            && instruction.memory_index() != iced_x86::Register::None;
        let table =
            is_indirect_jump(image, instruction) && (indexed || frames.size(address) != Some(0));
        if table || instruction.flow_control() == FlowControl::XbeginXabortXend {
            unsure.insert(held.owner(row));
        }
        let target = destination(image, instruction).and_then(|d| d.address);
        if let Some(row) = target.and_then(inside) {
            unsure.insert(held.owner(row));
        }
    }
    for address in &code.undecodable {
        let next = code.all.partition_point(|i| i.ip() <= *address);
        for row in [next.checked_sub(1), Some(next)].into_iter().flatten() {
            if row < code.all.len() {
                unsure.insert(held.owner(row));
            }
        }
    }
    unsure
}

fn effects(confined: &Confined<'_>) -> Vec<Effect> {
    let mut factory = InstructionInfoFactory::new();
    let mut effects: Vec<Effect> = confined
        .code
        .all
        .iter()
        .map(|instruction| {
            let section = confined.image.section_at(instruction.ip());
            let relocated = section.is_none_or(|section| {
                let start = instruction.ip() - section.base;
                (start..start + instruction.len() as u64).any(|at| section.relocation(at).is_some())
            });
            Effect::of(&mut factory, instruction, relocated)
        })
        .collect();
    for alternative in &confined.tables.alternatives {
        for (start, end) in [alternative.original, alternative.replacement] {
            for row in confined.code.rows(start, end) {
                effects[row] = Effect::unknown();
            }
        }
    }
    effects
}
