//! What an instruction writes to memory: the operand as the check computes it.

use iced_x86::{
    Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register as Machine,
    UsedMemory,
};
use otf_artifact::sites::{Length, Operand, Register, SiteKind};

use crate::image::{Image, Section};

/// Bytes of an `xsave` area: its size is set by the processor, this is above those in use.
const XSAVE_AREA: u32 = 4096;

/// What a constant address in an operand refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Referent {
    /// A place in this image.
    Here(u64),
    /// A symbol of another image and the distance from it.
    Elsewhere(String, i64),
}

/// One write of memory by an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryWrite {
    /// What kind of site it makes.
    pub kind: SiteKind,
    /// Registers and displacement; the displacement is relative to `referent` where there is one.
    pub operand: Operand,
    /// Bytes.
    pub length: Length,
    /// Symbol in the operand.
    pub referent: Option<Referent>,
    /// Why the operand cannot be computed from `pt_regs`.
    pub inexpressible: Option<&'static str>,
}

impl MemoryWrite {
    /// Neither base nor index: the address is fixed when the image is loaded.
    pub fn is_static(&self) -> bool {
        self.operand.base.is_none() && self.operand.index.is_none() && !self.is_bit_string()
    }

    fn is_bit_string(&self) -> bool {
        self.operand.bit_index.is_some()
    }
}

/// The writes of an instruction, the implicit stack writes of push, call and the like apart.
pub fn writes(
    image: &Image<'_>,
    section: &Section<'_>,
    factory: &mut InstructionInfoFactory,
    instruction: &Instruction,
) -> Vec<MemoryWrite> {
    if matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Lea) {
        return Vec::new();
    }
    let info = factory.info(instruction);
    let mut result = Vec::new();
    let mut explicit = false;
    for op in 0..instruction.op_count() {
        if !is_write(info.op_access(op)) {
            continue;
        }
        match instruction.op_kind(op) {
            OpKind::Memory => {
                explicit = true;
                result.push(memory_operand(image, section, instruction));
            }
            OpKind::MemoryESRDI | OpKind::MemorySegRDI => {
                explicit = true;
                result.push(string_operand(instruction));
            }
            OpKind::MemoryESEDI | OpKind::MemorySegEDI | OpKind::MemoryESDI => {
                explicit = true;
                result.push(MemoryWrite {
                    inexpressible: Some("32-bit address"),
                    ..string_operand(instruction)
                });
            }
            _ => {}
        }
    }
    if !explicit {
        let implicit = info.used_memory().iter().filter(|m| {
            is_write(m.access())
                && !(instruction.is_stack_instruction() && m.base() == Machine::RSP)
        });
        result.extend(implicit.map(implied_operand));
    }
    result
}

fn is_write(access: OpAccess) -> bool {
    matches!(
        access,
        OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
    )
}

/// An address with nothing in it.
const NOWHERE: Operand = Operand {
    base: None,
    index: None,
    scale: 1,
    displacement: 0,
    per_cpu: false,
    bit_index: None,
};

/// `[di]`, or the register that holds a call's destination.
pub fn at_register(register: Register) -> Operand {
    Operand {
        base: Some(register),
        ..NOWHERE
    }
}

fn string_operand(instruction: &Instruction) -> MemoryWrite {
    let element = element_size(instruction);
    let repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    let (kind, length) = if repeated {
        (SiteKind::RepString, Length::Register(Register::Cx, element))
    } else {
        (SiteKind::Store, Length::Constant(element))
    };
    MemoryWrite {
        kind,
        operand: at_register(Register::Di),
        length,
        referent: None,
        inexpressible: None,
    }
}

fn element_size(instruction: &Instruction) -> u32 {
    u32::try_from(instruction.memory_size().size())
        .ok()
        .filter(|size| *size > 0)
        .unwrap_or(XSAVE_AREA)
}

/// The memory operand of an instruction.
pub fn memory_operand(
    image: &Image<'_>,
    section: &Section<'_>,
    instruction: &Instruction,
) -> MemoryWrite {
    let mut problem = segment_problem(instruction.memory_segment());
    let mut register = |machine: Machine| match general(machine) {
        _ if machine == Machine::None => None,
        Some(register) => Some(register),
        None => {
            problem = problem.or(Some("32-bit or vector address"));
            None
        }
    };
    let index = register(instruction.memory_index());
    let rip_relative = instruction.is_ip_rel_memory_operand();
    let base = if rip_relative {
        None
    } else {
        register(instruction.memory_base())
    };
    let (referent, mut displacement) = displacement(image, section, instruction, rip_relative);
    if instruction.mnemonic() == Mnemonic::Pop && base == Some(Register::Sp) {
        // The address is computed after the stack pointer was raised.
        displacement += 8;
    }
    let bit_string = matches!(
        instruction.mnemonic(),
        Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc
    ) && instruction.op1_kind() == OpKind::Register;
    let bit_index = bit_string
        .then(|| general(instruction.op1_register().full_register()))
        .flatten();
    MemoryWrite {
        kind: if bit_string {
            SiteKind::BitString
        } else {
            SiteKind::Store
        },
        operand: Operand {
            base,
            index,
            scale: index.map_or(1, |_| instruction.memory_index_scale() as u8),
            displacement,
            per_cpu: instruction.memory_segment() == Machine::GS,
            bit_index,
        },
        length: Length::Constant(element_size(instruction)),
        referent,
        inexpressible: problem,
    }
}

/// Splits the displacement into the symbol that it refers to and the rest.
fn displacement(
    image: &Image<'_>,
    section: &Section<'_>,
    instruction: &Instruction,
    rip_relative: bool,
) -> (Option<Referent>, i64) {
    let start = instruction.ip() - section.base;
    let field = section_bytes(section, start, instruction.len())
        .and_then(|bytes| displacement_offset(bytes, instruction));
    let relocation = field.and_then(|f| section.relocation(start + f as u64));
    if let (Some(relocation), Some(field)) = (relocation, field) {
        // A distance counts from the instruction's end, its relocation from the field.
        let ahead = if rip_relative {
            (instruction.len() - field) as i64
        } else {
            0
        };
        let addend = relocation.addend.wrapping_add(ahead);
        let referent = match relocation.base {
            Some(base) => Referent::Here(base.wrapping_add_signed(addend)),
            None => Referent::Elsewhere(relocation.symbol.to_owned(), addend),
        };
        return (Some(referent), 0);
    }
    let value = instruction.memory_displacement64();
    // The per-CPU section of a linked image starts at 0: beside a register such a number is a distance.
    let registers =
        instruction.memory_base() != Machine::None || instruction.memory_index() != Machine::None;
    let names = |s: &Section<'_>| !(registers && s.name.starts_with(".data..percpu"));
    let in_image =
        rip_relative || (!image.relocatable() && image.section_at(value).is_some_and(names));
    if in_image {
        (Some(Referent::Here(value)), 0)
    } else {
        (None, value as i64)
    }
}

fn section_bytes<'s>(section: &'s Section<'_>, start: u64, len: usize) -> Option<&'s [u8]> {
    let start = usize::try_from(start).ok()?;
    section.data.get(start..start.checked_add(len)?)
}

/// Where the four displacement bytes lie in the instruction.
fn displacement_offset(bytes: &[u8], instruction: &Instruction) -> Option<usize> {
    let mut decoder =
        iced_x86::Decoder::with_ip(64, bytes, instruction.ip(), iced_x86::DecoderOptions::NONE);
    let again = decoder.decode();
    let offsets = decoder.get_constant_offsets(&again);
    (offsets.has_displacement() && offsets.displacement_size() >= 4)
        .then(|| offsets.displacement_offset())
}

/// A write that no operand shows (`clzero`, `movdir64b`).
fn implied_operand(memory: &UsedMemory) -> MemoryWrite {
    let size = u32::try_from(memory.memory_size().size()).unwrap_or(0);
    let base = general(memory.base());
    let index = general(memory.index());
    MemoryWrite {
        kind: SiteKind::Store,
        operand: Operand {
            base,
            index,
            scale: index.map_or(1, |_| memory.scale() as u8),
            displacement: memory.displacement() as i64,
            per_cpu: memory.segment() == Machine::GS,
            bit_index: None,
        },
        length: Length::Constant(if size == 0 { 64 } else { size }),
        referent: None,
        inexpressible: segment_problem(memory.segment())
            .or((base.is_none() && memory.base() != Machine::None)
                .then_some("32-bit or vector address")),
    }
}

fn segment_problem(segment: Machine) -> Option<&'static str> {
    (segment == Machine::FS).then_some("operand relative to fs")
}

/// The 64-bit general register.
pub fn general(machine: Machine) -> Option<Register> {
    Some(match machine {
        Machine::RAX => Register::Ax,
        Machine::RBX => Register::Bx,
        Machine::RCX => Register::Cx,
        Machine::RDX => Register::Dx,
        Machine::RSI => Register::Si,
        Machine::RDI => Register::Di,
        Machine::RBP => Register::Bp,
        Machine::RSP => Register::Sp,
        Machine::R8 => Register::R8,
        Machine::R9 => Register::R9,
        Machine::R10 => Register::R10,
        Machine::R11 => Register::R11,
        Machine::R12 => Register::R12,
        Machine::R13 => Register::R13,
        Machine::R14 => Register::R14,
        Machine::R15 => Register::R15,
        _ => return None,
    })
}
