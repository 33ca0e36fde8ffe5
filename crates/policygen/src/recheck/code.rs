//! Machine code for the validation of claims: instructions, where each can be reached from, and
//! where nothing is certain. Read from the image's bytes alone, apart from how claims are made.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Code as Opcode, Decoder, DecoderOptions, FlowControl, Instruction, OpKind};
use otf_artifact::sites::{Location, SiteImage};

use super::{depth, elf::Elf};

/// The code of an image.
pub struct Code {
    /// Instructions by address.
    pub instructions: BTreeMap<u64, Instruction>,
    /// Instructions that may be executed directly before one.
    before: BTreeMap<u64, Vec<u64>>,
    /// Where control may come from anywhere.
    entries: BTreeSet<u64>,
    /// Code that the kernel rewrites.
    rewritten: Vec<(u64, u64)>,
    /// Instructions whose number is filled in by the loader.
    pub relocated: BTreeSet<u64>,
    /// Those of which it goes into the address.
    pub displaced: BTreeSet<u64>,
    /// Start of the functions, with their names.
    functions: BTreeMap<u64, String>,
    /// Functions in which paths may be missing, by name without `.cold`.
    unsure: BTreeSet<String>,
    elf_address: BTreeMap<String, u64>,
    linked: bool,
}

impl Code {
    /// Reads an image of the sites.
    pub fn read(image: &SiteImage, bytes: &[u8]) -> Result<Self, String> {
        let elf = Elf::read(bytes)?;
        if elf.build_id != image.build_id {
            return Err(format!(
                "{} is another build than that of the sites",
                image.name
            ));
        }
        let mut code = Self {
            instructions: BTreeMap::new(),
            before: BTreeMap::new(),
            entries: elf.symbols.keys().copied().collect(),
            rewritten: Vec::new(),
            relocated: BTreeSet::new(),
            displaced: BTreeSet::new(),
            functions: elf.symbols.clone(),
            unsure: BTreeSet::new(),
            elf_address: elf
                .sections
                .iter()
                .map(|s| (s.name.clone(), s.address))
                .collect(),
            linked: elf.origin.is_some(),
        };
        if let Some(origin) = elf.origin {
            code.elf_address = BTreeMap::from([(String::new(), origin)]);
            for text in &image.text {
                let start = origin.wrapping_add(text.offset);
                code.decode(&elf, start, start.saturating_add(text.size));
            }
        } else {
            for section in elf.sections.iter().filter(|s| s.executable) {
                code.decode(&elf, section.address, section.end());
            }
        }
        let alternatives = elf.alternatives()?;
        for (_, replacement) in &alternatives {
            if !code.instructions.contains_key(&replacement.0) {
                code.decode(&elf, replacement.0, replacement.1);
            }
        }
        for (original, replacement) in alternatives {
            code.rewritten.extend([original, replacement]);
        }
        code.connect(&elf)?;
        code.find_tables(&elf);
        Ok(code)
    }

    /// Address of a place, as this reading numbers them.
    pub fn address(&self, location: &Location) -> Option<u64> {
        let section = if self.linked { "" } else { &location.section };
        Some(self.elf_address.get(section)? + location.offset)
    }

    /// Whether control may come to this instruction from places that are not known.
    pub fn is_entry(&self, address: u64) -> bool {
        self.entries.contains(&address)
    }

    /// The instructions before; none where control comes from nowhere that is known.
    pub fn before(&self, address: u64) -> &[u64] {
        self.before.get(&address).map_or(&[], Vec::as_slice)
    }

    /// Whether the bytes of the instruction may be others by now.
    pub fn is_rewritten(&self, instruction: &Instruction) -> bool {
        self.rewritten
            .iter()
            .any(|(start, end)| instruction.ip() < *end && *start < instruction.next_ip())
    }

    /// Whether a path to this instruction may be unknown.
    pub fn is_unsure(&self, address: u64) -> bool {
        self.function(address)
            .is_none_or(|name| self.unsure.contains(name))
    }

    fn function(&self, address: u64) -> Option<&str> {
        let (_, name) = self.functions.range(..=address).next_back()?;
        Some(whole(name))
    }

    fn doubt(&mut self, address: u64) {
        if let Some(name) = self.function(address).map(str::to_owned) {
            self.unsure.insert(name);
        }
    }

    fn decode(&mut self, elf: &Elf<'_>, start: u64, end: u64) {
        let mut starts: Vec<u64> = self
            .functions
            .range(start..end)
            .map(|(at, _)| *at)
            .collect();
        starts.extend([start, end]);
        starts.sort_unstable();
        starts.dedup();
        for pair in starts.windows(2) {
            let bytes = elf.bytes(pair[0], pair[1]).unwrap_or_default();
            let mut decoder = Decoder::with_ip(64, bytes, pair[0], DecoderOptions::NONE);
            while decoder.can_decode() {
                let position = decoder.position();
                let instruction = decoder.decode();
                if instruction.code() == Opcode::INVALID {
                    let at = pair[0] + position as u64;
                    self.doubt(at);
                    if decoder.set_position(position + 1).is_err() {
                        break;
                    }
                    decoder.set_ip(at + 1);
                } else {
                    let fields = decoder.get_constant_offsets(&instruction);
                    let field = instruction.ip() + fields.displacement_offset() as u64;
                    if fields.has_displacement() && elf.relocation(field).is_some() {
                        self.displaced.insert(instruction.ip());
                    }
                    self.instructions.insert(instruction.ip(), instruction);
                }
            }
        }
    }

    fn connect(&mut self, elf: &Elf<'_>) -> Result<(), String> {
        let mut edges = elf.jump_labels()?;
        self.entries.extend(elf.fixups()?);
        let mut broken = Vec::new();
        for (address, instruction) in &self.instructions {
            let end = instruction.next_ip();
            if (*address..end).any(|at| elf.relocation(at).is_some()) {
                self.relocated.insert(*address);
            }
            let target = target(elf, instruction);
            let jumps = match instruction.flow_control() {
                FlowControl::Call => {
                    self.entries.extend(target);
                    false
                }
                FlowControl::XbeginXabortXend => {
                    broken.push(*address);
                    false
                }
                flow => matches!(
                    flow,
                    FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
                ),
            };
            if let (true, Some(target)) = (jumps, target) {
                edges.push((*address, target));
            }
            let falls = !matches!(
                instruction.flow_control(),
                FlowControl::UnconditionalBranch
                    | FlowControl::IndirectBranch
                    | FlowControl::Return
            );
            if falls {
                edges.push((*address, end));
            }
        }
        for (from, to) in edges {
            if self.instructions.contains_key(&to) {
                self.before.entry(to).or_default().push(from);
            } else if let Some((at, inside)) = self.instructions.range(..to).next_back()
                && to < inside.next_ip()
            {
                // A jump into an instruction: what is executed there is not what was read.
                broken.push(*at);
            }
        }
        for address in broken {
            self.doubt(address);
        }
        Ok(())
    }

    /// A jump to an address that is computed leads out of the function, or through a table of
    /// places in it.
    fn find_tables(&mut self, elf: &Elf<'_>) {
        let starts = self.functions.iter();
        let starts = starts.filter(|(_, name)| whole(name) == name.as_str());
        let starts: Vec<u64> = starts.map(|(at, _)| *at).collect();
        let depths = depth::depths(&self.instructions, &self.before, &starts, &self.functions);
        let unknown: Vec<u64> = self
            .instructions
            .values()
            .filter(|instruction| {
                let computed = instruction.flow_control() == FlowControl::IndirectBranch
                    || (instruction.flow_control() != FlowControl::Call
                        && elf.is_jump_thunk(target_of(instruction), instruction));
                computed && depths.get(&instruction.ip()) != Some(&0)
            })
            .map(Instruction::ip)
            .collect();
        for address in unknown {
            self.doubt(address);
        }
    }
}

/// A function's name without the suffix of a part that was split off.
fn whole(name: &str) -> &str {
    name.strip_suffix(".cold").unwrap_or(name)
}

fn target_of(instruction: &Instruction) -> Option<u64> {
    (instruction.op_count() > 0
        && matches!(
            instruction.op0_kind(),
            OpKind::NearBranch64 | OpKind::NearBranch32
        ))
    .then(|| instruction.near_branch_target())
}

/// Where a direct branch leads, when that is in the image.
fn target(elf: &Elf<'_>, instruction: &Instruction) -> Option<u64> {
    let plain = target_of(instruction)?;
    match elf.relocation(instruction.next_ip() - 4) {
        Some(relocation) if instruction.len() >= 5 => Some(
            relocation
                .address?
                .wrapping_add_signed(relocation.addend)
                .wrapping_add(4),
        ),
        _ => Some(plain),
    }
}
