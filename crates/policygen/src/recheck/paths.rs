//! Walks backwards from a site along every path, following where its address came from, until each
//! path has met the instruction that covers it.

use std::collections::BTreeSet;

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register as Machine,
};
use otf_artifact::sites::{Length, Operand, Register};

use super::code::Code;

/// Steps after which a claim counts as not shown.
const MOST_STEPS: usize = 20_000;

/// `base + index * scale + displacement`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expression {
    base: Machine,
    index: Machine,
    scale: u8,
    displacement: i64,
}

impl Expression {
    /// What an operand names; `None` when more than registers go into it.
    pub fn of(operand: &Operand) -> Option<Self> {
        if operand.per_cpu || operand.bit_index.is_some() {
            return None;
        }
        Some(Self {
            base: machine(operand.base?)?,
            index: match operand.index {
                Some(index) => machine(index)?,
                None => Machine::None,
            },
            scale: operand.index.map_or(1, |_| operand.scale),
            displacement: operand.displacement,
        })
    }

    /// What an instruction writes so many bytes at.
    pub fn written(instruction: &Instruction, length: Length) -> Option<Self> {
        let Length::Constant(bytes) = length else {
            return None;
        };
        if usize::try_from(bytes) != Ok(instruction.memory_size().size()) {
            return None;
        }
        match instruction.op0_kind() {
            OpKind::Memory => Some(Self {
                base: instruction.memory_base(),
                index: instruction.memory_index(),
                scale: match instruction.memory_index() {
                    Machine::None => 1,
                    _ => u8::try_from(instruction.memory_index_scale()).ok()?,
                },
                displacement: instruction.memory_displacement64() as i64,
            }),
            OpKind::MemoryESRDI => Some(Self {
                base: Machine::RDI,
                ..Self::returned(0)
            }),
            _ => None,
        }
    }

    /// What a call returned, and a distance.
    pub fn returned(distance: i64) -> Self {
        Self {
            base: Machine::RAX,
            index: Machine::None,
            scale: 1,
            displacement: distance,
        }
    }

    /// This address less a distance.
    fn less(self, distance: i64) -> Option<Self> {
        Some(Self {
            displacement: self.displacement.checked_sub(distance)?,
            ..self
        })
    }
}

/// Where every path has to come from.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// This instruction, when it had this address before it ran.
    Before(u64, Expression),
    /// This call, when the address was this one behind it.
    Behind(u64, Expression),
}

/// What was seen on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// An instruction between changes the stack pointer.
    pub stack_moved: bool,
}

/// Whether every path to the instruction at `from` comes from the goal, with its address less
/// `distance` being the goal's.
///
/// # Errors
/// What stands in the way.
pub fn walk(
    code: &Code,
    from: u64,
    address: Expression,
    distance: i64,
    goal: Goal,
) -> Result<Walked, String> {
    let mut factory = InstructionInfoFactory::new();
    let start = address.less(distance).ok_or("a distance out of range")?;
    let mut seen = BTreeSet::new();
    let mut work = vec![(from, start)];
    let mut walked = Walked::default();
    while let Some((at, wanted)) = work.pop() {
        if !seen.insert((at, wanted)) {
            continue;
        }
        if seen.len() > MOST_STEPS {
            return Err("too many paths to follow".into());
        }
        if code.is_entry(at) || code.before(at).is_empty() {
            return Err(format!("{at:#x} can be reached another way"));
        }
        for previous in code.before(at) {
            let Some(instruction) = code.instructions.get(previous) else {
                return Err(format!("no instruction at {previous:#x}"));
            };
            if code.is_unsure(*previous) || code.is_rewritten(instruction) {
                return Err(format!("paths through {previous:#x} are not certain"));
            }
            if let Goal::Behind(call, returned) = goal
                && call == *previous
                && instruction.flow_control() == FlowControl::Call
            {
                if wanted != returned {
                    return Err("the address is not what the call returned".into());
                }
                continue;
            }
            if may_free(instruction) {
                return Err(format!("the object may be freed at {previous:#x}"));
            }
            let relocated = code.relocated.contains(previous);
            let earlier = earlier(&mut factory, instruction, relocated, wanted)
                .ok_or_else(|| format!("{previous:#x} changes the address"))?;
            if let Goal::Before(leader, checked) = goal
                && leader == *previous
            {
                if earlier != checked {
                    return Err("what is checked there is another address".into());
                }
                continue;
            }
            walked.stack_moved |= changes(&mut factory, instruction, Machine::RSP);
            work.push((*previous, earlier));
        }
    }
    Ok(walked)
}

/// Calls, and what runs a handler.
fn may_free(instruction: &Instruction) -> bool {
    let flow = instruction.flow_control();
    let plain = matches!(
        flow,
        FlowControl::Next | FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
    );
    // With interrupts enabled again, what waited for that runs.
    let enables = matches!(
        instruction.mnemonic(),
        Mnemonic::Sti | Mnemonic::Popfq | Mnemonic::Popf | Mnemonic::Hlt
    );
    !plain || enables
}

/// The same address in terms of the registers before an instruction.
fn earlier(
    factory: &mut InstructionInfoFactory,
    instruction: &Instruction,
    relocated: bool,
    wanted: Expression,
) -> Option<Expression> {
    if wanted.index != Machine::None && changes(factory, instruction, wanted.index) {
        return None;
    }
    if !changes(factory, instruction, wanted.base) {
        return Some(wanted);
    }
    let first =
        instruction.op0_kind() == OpKind::Register && instruction.op0_register() == wanted.base;
    if !first {
        return None;
    }
    let constant = || match instruction.op1_kind() {
        OpKind::Immediate8to64 | OpKind::Immediate32to64 if !relocated => {
            Some(instruction.immediate(1) as i64)
        }
        _ => None,
    };
    let (base, added) = match instruction.mnemonic() {
        Mnemonic::Mov if instruction.op1_kind() == OpKind::Register => {
            (instruction.op1_register(), 0)
        }
        Mnemonic::Lea
            if !relocated
                && instruction.memory_index() == Machine::None
                && instruction.segment_prefix() == Machine::None =>
        {
            (
                instruction.memory_base(),
                instruction.memory_displacement64() as i64,
            )
        }
        Mnemonic::Add => (wanted.base, constant()?),
        Mnemonic::Sub => (wanted.base, constant()?.checked_neg()?),
        Mnemonic::Inc => (wanted.base, 1),
        Mnemonic::Dec => (wanted.base, -1),
        _ => return None,
    };
    // A copy of another size, or of the instruction pointer, is no copy of an address.
    (base.is_gpr64() && wanted.base.is_gpr64()).then_some(Expression {
        base,
        displacement: wanted.displacement.checked_add(added)?,
        ..wanted
    })
}

/// Whether an instruction writes any part of a register.
fn changes(
    factory: &mut InstructionInfoFactory,
    instruction: &Instruction,
    register: Machine,
) -> bool {
    let info = factory.info(instruction);
    info.used_registers().iter().any(|used| {
        used.register().full_register() == register
            && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
    })
}

fn machine(register: Register) -> Option<Machine> {
    Some(match register {
        Register::Ax => Machine::RAX,
        Register::Bx => Machine::RBX,
        Register::Cx => Machine::RCX,
        Register::Dx => Machine::RDX,
        Register::Si => Machine::RSI,
        Register::Di => Machine::RDI,
        Register::Bp => Machine::RBP,
        Register::Sp => Machine::RSP,
        Register::R8 => Machine::R8,
        Register::R9 => Machine::R9,
        Register::R10 => Machine::R10,
        Register::R11 => Machine::R11,
        Register::R12 => Machine::R12,
        Register::R13 => Machine::R13,
        Register::R14 => Machine::R14,
        Register::R15 => Machine::R15,
        Register::Ip => return None,
    })
}
