//! Every instruction of an image.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

use crate::image::{Image, Section};

/// The instructions of an image's executable sections.
#[derive(Debug, Default)]
pub struct Instructions {
    /// Sorted by address.
    pub all: Vec<Instruction>,
    /// Addresses of bytes that are no instruction.
    pub undecodable: Vec<u64>,
}

/// Where a direct call or jump leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination<'i> {
    /// Symbol; empty for code without one.
    pub symbol: &'i str,
    /// Address, when the code is in this image.
    pub address: Option<u64>,
}

impl Instructions {
    /// Decodes ranges from end to end, starting afresh at each function symbol, so that neither
    /// code without a symbol nor data between functions hides an instruction.
    pub fn decode(image: &Image<'_>, ranges: &[(u64, u64)]) -> Self {
        let mut result = Self::default();
        for (start, end) in ranges {
            let Some(section) = image.section_at(*start).filter(|s| s.executable) else {
                continue;
            };
            let end = (*end).min(section.base + section.data.len() as u64);
            let symbols = image.symbols_in(*start, end);
            let mut starts: Vec<u64> = symbols
                .iter()
                .filter(|s| s.function)
                .map(|s| s.address)
                .collect();
            starts.push(*start);
            starts.push(end);
            starts.sort_unstable();
            starts.dedup();
            for pair in starts.windows(2) {
                result.region(section, pair[0], pair[1]);
            }
        }
        result.all.sort_unstable_by_key(Instruction::ip);
        result
    }

    /// Decodes `[start, end)`; a byte that is no instruction is noted and skipped.
    fn region(&mut self, section: &Section<'_>, start: u64, end: u64) {
        let offset = |address: u64| usize::try_from(address - section.base).ok();
        let bytes = offset(start)
            .zip(offset(end.max(start)))
            .and_then(|(from, to)| section.data.get(from..to))
            .unwrap_or_default();
        let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
        while decoder.can_decode() {
            let position = decoder.position();
            let instruction = decoder.decode();
            if instruction.code() == Code::INVALID {
                self.undecodable.push(start + position as u64);
                if decoder.set_position(position + 1).is_err() {
                    break;
                }
                decoder.set_ip(start + position as u64 + 1);
            } else {
                self.all.push(instruction);
            }
        }
    }

    /// Row of the instruction that starts at the address.
    pub fn row(&self, address: u64) -> Option<usize> {
        self.all
            .binary_search_by_key(&address, Instruction::ip)
            .ok()
    }

    /// Rows of the instructions that start in `[start, end)`.
    pub fn rows(&self, start: u64, end: u64) -> std::ops::Range<usize> {
        let from = self.all.partition_point(|i| i.ip() < start);
        let to = self.all.partition_point(|i| i.ip() < end);
        from..to.max(from)
    }
}

/// Where a direct call, jump or conditional jump leads; `None` for any other instruction.
pub fn destination<'i>(image: &'i Image<'_>, instruction: &Instruction) -> Option<Destination<'i>> {
    let direct = matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
    );
    if !direct
        || !matches!(
            instruction.op0_kind(),
            OpKind::NearBranch64 | OpKind::NearBranch32
        )
    {
        return None;
    }
    let section = image.section_at(instruction.ip())?;
    let end = instruction.next_ip() - section.base;
    // The distance is the last field of a branch; only one of four bytes can be relocated.
    let relocation = (instruction.len() >= 5)
        .then(|| section.relocation(end - 4))
        .flatten();
    let address = match relocation {
        // The processor adds the distance to the end of the field, the linker to its start.
        Some(relocation) => relocation.address().map(|a| a.wrapping_add(4)),
        None => Some(instruction.near_branch_target()),
    };
    let symbol = match (relocation, address) {
        (Some(relocation), _) if !relocation.symbol.is_empty() => relocation.symbol,
        (_, Some(address)) => image
            .symbol_at(address)
            .filter(|s| s.address == address)
            .map_or("", |s| s.name),
        _ => "",
    };
    Some(Destination { symbol, address })
}

/// Whether bytes are nothing but space between functions.
pub fn is_filler(bytes: &[u8], address: u64) -> bool {
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        // Old linkers fill with zeroes, which decode as `add %al,(%rax)`.
        let zeroes = instruction.code() == Code::Add_rm8_r8 && instruction.len() == 2;
        if !(is_padding(&instruction) || zeroes && bytes.iter().all(|b| *b == 0)) {
            return false;
        }
    }
    true
}

/// Fills space: does nothing.
pub fn is_padding(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3)
        || (instruction.code() == Code::Xchg_rm16_r16
            && instruction.op0_register() == instruction.op1_register())
}
