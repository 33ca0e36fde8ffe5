//! Where a probe can be a jump instead of a breakpoint.
//!
//! A jump of five bytes replaces whole instructions, which run elsewhere then
//! (`crates/runtime/guard/slot.c`). So nothing may come to one of them but to the first: no jump or
//! call of the image, no fix-up of a fault, no return of a call. And nobody else may rewrite them.

use std::collections::BTreeSet;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};
use otf_artifact::sites::{JumpRoom, Location, Room};

use crate::{
    calls::is_indirect_jump,
    confined::Confined,
    covered::flow::unsure_functions,
    decode::{Instructions, destination, is_padding},
    heap,
    image::{Image, Problem},
    tables::Tables,
};

/// Bytes of a near jump.
const JUMP: u64 = 5;
/// More is of no use: what a jump replaces has few bytes more than it.
const AHEAD: u64 = 24;
/// How far before the probed instruction a jump may stand.
const BACK: u64 = 15;

/// Those of the places where a jump has room, sorted: in the code of the compartment, and in the
/// functions around the others.
///
/// # Errors
/// When the tables of an image cannot be read.
pub fn find<'a>(
    confined: &[Confined<'_>],
    others: &[Image<'_>],
    places: impl Iterator<Item = &'a Location>,
) -> Result<Vec<JumpRoom>, Problem> {
    let places: BTreeSet<&Location> = places.collect();
    let mut rooms = Vec::new();
    for known in confined {
        let image = &known.image;
        let own = addresses(image, &places);
        let (inside, outside): (Vec<_>, Vec<_>) = own
            .into_iter()
            .partition(|(_, address)| known.code.row(*address).is_some());
        let functions = Functions::around(image, &outside);
        let holds = |address| known.extent.holds(address) || functions.hold(address);
        let mut entered = entered(image, &known.tables, holds);
        // Once more as the functions are decoded, should data before one have misled the other.
        let inner = known
            .code
            .all
            .iter()
            .filter_map(|i| destination(image, i)?.address);
        entered.extend(inner);
        entered.sort_unstable();
        entered.dedup();
        let unsure = unsure_functions(known);
        let unsure = (0..known.code.all.len()).map(|row| unsure.contains(&known.held.owner(row)));
        let straight = Straight {
            tables: &known.tables,
            code: &known.code,
            entered: &entered,
            unsure: unsure.collect(),
            heap_calls: heap::calls(known)
                .iter()
                .filter_map(|call| image.address(&call.location))
                .collect(),
        };
        rooms.extend(straight.rooms(&inside));
        rooms.extend(functions.rooms(image, &known.tables, &entered, &outside));
    }
    for image in others {
        let own = addresses(image, &places);
        if own.is_empty() {
            continue;
        }
        let tables = Tables::read(image)?;
        let functions = Functions::around(image, &own);
        let entered = entered(image, &tables, |address| functions.hold(address));
        rooms.extend(functions.rooms(image, &tables, &entered, &own));
    }
    rooms.sort();
    rooms.dedup();
    Ok(rooms)
}

/// Places of an image with their addresses.
fn addresses<'a>(image: &Image<'_>, places: &BTreeSet<&'a Location>) -> Vec<(&'a Location, u64)> {
    let own = places.iter().filter(|place| place.image == image.id);
    own.filter_map(|place| Some((*place, image.address(place)?)))
        .collect()
}

/// Functions outside the compartment's code, which nothing else has decoded.
struct Functions {
    /// Sorted ranges.
    ranges: Vec<(u64, u64)>,
    code: Instructions,
}

impl Functions {
    fn around(image: &Image<'_>, places: &[(&Location, u64)]) -> Self {
        let mut ranges: Vec<(u64, u64)> = places
            .iter()
            .filter_map(|(_, address)| image.symbol_at(*address))
            .filter(|symbol| symbol.function && symbol.size > 0)
            .flat_map(|symbol| {
                let cold = format!("{}.cold", symbol.name);
                let cold = image.symbols_named(&cold).map(|s| (s.address, s.size));
                let parts = cold.chain([(symbol.address, symbol.size)]);
                parts.collect::<Vec<_>>()
            })
            .map(|(start, size)| (start, start.saturating_add(size)))
            .collect();
        ranges.sort_unstable();
        ranges.dedup();
        Self {
            code: Instructions::decode(image, &ranges),
            ranges,
        }
    }

    fn hold(&self, address: u64) -> bool {
        let end = self.ranges.partition_point(|(start, _)| *start <= address);
        end > 0 && address < self.ranges[end - 1].1
    }

    fn rooms(
        &self,
        image: &Image<'_>,
        tables: &Tables,
        entered: &[u64],
        places: &[(&Location, u64)],
    ) -> Vec<JumpRoom> {
        // The name without the ending of a part: they are judged together.
        let whole = |address| {
            let name = image.symbol_at(address).map_or("", |s| s.name);
            name.strip_suffix(".cold").unwrap_or(name)
        };
        let leads_anywhere = self.code.all.iter().filter(|i| is_indirect_jump(image, i));
        let unsure: BTreeSet<&str> = leads_anywhere
            .map(Instruction::ip)
            .chain(self.code.undecodable.iter().copied())
            .map(whole)
            .collect();
        let rows = self.code.all.iter();
        let straight = Straight {
            tables,
            code: &self.code,
            entered,
            unsure: rows.map(|i| unsure.contains(whole(i.ip()))).collect(),
            heap_calls: BTreeSet::new(),
        };
        straight.rooms(places)
    }
}

/// Addresses that are come to from elsewhere, sorted; of those that `wanted` says.
fn entered(image: &Image<'_>, tables: &Tables, wanted: impl Fn(u64) -> bool) -> Vec<u64> {
    let mut entered = branch_targets(image, wanted);
    entered.extend(image.symbols.iter().map(|s| s.address));
    entered.extend(tables.fixups.iter().map(|(_, to)| *to));
    entered.extend(tables.jump_labels.iter().map(|(_, to)| *to));
    entered.extend(tables.alternatives.iter().map(|a| a.original.1));
    entered.sort_unstable();
    entered.dedup();
    entered
}

/// Code, and what is known of how it is come to.
struct Straight<'c> {
    tables: &'c Tables,
    code: &'c Instructions,
    entered: &'c [u64],
    /// By row: a function of which not every path is known.
    unsure: Vec<bool>,
    /// Calls that a private heap may want a probe of its own on.
    heap_calls: BTreeSet<u64>,
}

impl Straight<'_> {
    fn rooms(&self, places: &[(&Location, u64)]) -> Vec<JumpRoom> {
        let places = places.iter();
        places
            .filter_map(|(place, address)| {
                Some(JumpRoom {
                    image: place.image,
                    section: place.section.clone(),
                    offset: place.offset,
                    room: self.around(self.code.row(*address)?)?,
                })
            })
            .collect()
    }

    fn around(&self, row: usize) -> Option<Room> {
        let code = &self.code.all;
        if self.unsure[row] || !self.movable(&code[row]) {
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
            && !self.tables.is_rewritten(start, end)
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
