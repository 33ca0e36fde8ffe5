//! Where a probe can be a jump instead of a breakpoint.
//!
//! A jump of five bytes replaces whole instructions, which run elsewhere then
//! (`crates/runtime/guard/slot.c`). So nothing may come to one of them but to the first: no jump or
//! call of the image, no fix-up of a fault, no return of a call. And nobody else may rewrite them.

use std::collections::BTreeSet;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};
use otf_artifact::sites::{JumpRoom, Location, Room};

use crate::{
    confined::Confined,
    covered::flow::unsure_functions,
    decode::{destination, is_padding},
    heap,
    image::Image,
};

/// Bytes of a near jump.
const JUMP: u64 = 5;
/// More is of no use: what a jump replaces has few bytes more than it.
const AHEAD: u64 = 24;
/// How far before the probed instruction a jump may stand.
const BACK: u64 = 15;

/// Rooms in the code of one image.
pub struct Rooms<'c> {
    confined: &'c Confined<'c>,
    /// Addresses that are come to from elsewhere, sorted.
    entered: Vec<u64>,
    unsure: BTreeSet<usize>,
    /// Calls that a private heap may want a probe of its own on.
    heap_calls: BTreeSet<u64>,
}

impl<'c> Rooms<'c> {
    /// Reads all the code of the image, for a jump may come from anywhere.
    pub fn new(confined: &'c Confined<'c>) -> Self {
        let Confined { image, tables, .. } = confined;
        let mut entered = branch_targets(image, |address| confined.extent.holds(address));
        entered.extend(image.symbols.iter().map(|s| s.address));
        entered.extend(tables.fixups.iter().map(|(_, to)| *to));
        entered.extend(tables.jump_labels.iter().map(|(_, to)| *to));
        entered.extend(tables.alternatives.iter().map(|a| a.original.1));
        entered.sort_unstable();
        entered.dedup();
        Self {
            confined,
            entered,
            unsure: unsure_functions(confined),
            heap_calls: heap::calls(confined)
                .iter()
                .filter_map(|call| image.address(&call.location))
                .collect(),
        }
    }

    /// Those of the places that have one, sorted.
    pub fn of<'a>(&self, places: impl Iterator<Item = &'a Location>) -> Vec<JumpRoom> {
        let places: BTreeSet<&Location> = places
            .filter(|place| place.image == self.confined.image.id)
            .collect();
        let mut rooms: Vec<JumpRoom> = places
            .into_iter()
            .filter_map(|place| {
                let row = self
                    .confined
                    .code
                    .row(self.confined.image.address(place)?)?;
                Some(JumpRoom {
                    image: place.image,
                    section: place.section.clone(),
                    offset: place.offset,
                    room: self.around(row)?,
                })
            })
            .collect();
        rooms.sort();
        rooms.dedup();
        rooms
    }

    fn around(&self, row: usize) -> Option<Room> {
        let code = &self.confined.code.all;
        if self.unsure.contains(&self.confined.held.owner(row)) || !self.movable(&code[row]) {
            return None;
        }
        let mut ahead = code[row].len() as u64;
        let mut last = &code[row];
        // Behind what does not go on there may be padding, and nothing else.
        let mut ended = !goes_on(last);
        for next in &code[row + 1..] {
            let fits = if ended {
                is_padding(next)
            } else {
                self.movable(next) && !self.heap_calls.contains(&next.ip())
            };
            if ahead >= AHEAD
                || next.ip() != last.next_ip()
                || self.is_entered(next)
                || is_call(last)
                || !fits
            {
                break;
            }
            ahead += next.len() as u64;
            last = next;
            ended |= !goes_on(last);
        }
        let mut back = 0;
        let mut first = row;
        while back + ahead < JUMP {
            let before = code.get(first.checked_sub(1)?)?;
            if self.is_entered(&code[first])
                || before.next_ip() != code[first].ip()
                || !goes_on(before)
                || is_call(before)
                || !self.movable(before)
                || back + before.len() as u64 > BACK
            {
                return None;
            }
            back += before.len() as u64;
            first -= 1;
        }
        Some(Room {
            back: u8::try_from(back).ok()?,
            ahead: u8::try_from(ahead).ok()?,
        })
    }

    fn is_entered(&self, instruction: &Instruction) -> bool {
        self.entered.binary_search(&instruction.ip()).is_ok()
    }

    /// Whether an instruction can run elsewhere, and nobody comes into its middle.
    fn movable(&self, instruction: &Instruction) -> bool {
        let (start, end) = (instruction.ip(), instruction.next_ip());
        let inner = self.entered.partition_point(|address| *address <= start);
        self.entered
            .get(inner)
            .is_none_or(|address| *address >= end)
            && !self.confined.tables.is_rewritten(start, end)
            && !matches!(
                instruction.flow_control(),
                FlowControl::Exception | FlowControl::Interrupt | FlowControl::XbeginXabortXend
            )
    }
}

/// Whether the next instruction may come after it.
fn goes_on(instruction: &Instruction) -> bool {
    !matches!(
        instruction.flow_control(),
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Return
    )
}

/// Who sleeps in the called function comes back behind the call.
fn is_call(instruction: &Instruction) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::IndirectCall
    )
}

/// Where the direct jumps and calls of all executable sections lead, of what `wanted` says.
fn branch_targets(image: &Image<'_>, wanted: impl Fn(u64) -> bool) -> Vec<u64> {
    let mut targets = Vec::new();
    let mut instruction = Instruction::default();
    for section in image.sections.iter().filter(|s| s.executable) {
        let mut decoder = Decoder::with_ip(64, section.data, section.base, DecoderOptions::NONE);
        while decoder.can_decode() {
            decoder.decode_out(&mut instruction);
            if !matches!(
                instruction.flow_control(),
                FlowControl::Call
                    | FlowControl::UnconditionalBranch
                    | FlowControl::ConditionalBranch
                    | FlowControl::XbeginXabortXend
            ) {
                continue;
            }
            // Of linked code the instruction itself says it.
            let target = if image.relocatable() {
                destination(image, &instruction).and_then(|d| d.address)
            } else {
                Some(instruction.near_branch_target())
            };
            targets.extend(target.filter(|t| wanted(*t)));
        }
    }
    targets
}
