//! How much of its own frame a function has below the return address, at least.
//!
//! Call frame information tells it exactly, but not where a function aligns its stack pointer.
//! This forward analysis counts what was pushed and subtracted; what it does not understand
//! makes the count 0, and where paths differ the smaller count holds.

use iced_x86::Register;
use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind};

use super::{HeldAnalysis, flow::Flow};
use crate::decode::Instructions;

/// Bytes between the stack pointer before each instruction and the return address, at least.
pub fn least_frames(analysis: &HeldAnalysis, flow: &Flow, code: &Instructions) -> Vec<u32> {
    let mut factory = InstructionInfoFactory::new();
    let changes: Vec<Change> = code
        .all
        .iter()
        .map(|instruction| change(&mut factory, instruction))
        .collect();
    let mut least: Vec<Option<u32>> = vec![None; code.all.len()];
    // Nothing is known of code that is entered in another way.
    let mut work: Vec<usize> = analysis.entries().collect();
    for entry in &work {
        least[*entry] = Some(0);
    }
    while let Some(row) = work.pop() {
        let Some(before) = least[row] else {
            continue;
        };
        let after = changes[row].apply(before);
        for next in &flow.next[row] {
            let same = analysis.owner[*next] == analysis.owner[row];
            let after = if same { after } else { 0 };
            if least[*next].is_none_or(|known| after < known) {
                least[*next] = Some(after);
                work.push(*next);
            }
        }
    }
    least.into_iter().map(Option::unwrap_or_default).collect()
}

/// What an instruction does to the stack pointer.
#[derive(Clone, Copy)]
enum Change {
    /// Lowers it by so many bytes, or raises it.
    Lower(i64),
    /// Lowers it by an unknown number of bytes.
    Align,
    /// Sets it.
    Unknown,
}

impl Change {
    fn apply(self, before: u32) -> u32 {
        match self {
            Self::Lower(bytes) => {
                let after = i64::from(before).saturating_add(bytes).max(0);
                u32::try_from(after).unwrap_or(0)
            }
            Self::Align => before,
            Self::Unknown => 0,
        }
    }
}

fn change(factory: &mut InstructionInfoFactory, instruction: &Instruction) -> Change {
    let called = matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::IndirectCall
    );
    if called {
        // The callee gives back what the call pushes.
        return Change::Lower(0);
    }
    let immediate = match instruction.op1_kind() {
        OpKind::Immediate8to64 | OpKind::Immediate32to64 => Some(instruction.immediate(1) as i64),
        _ => None,
    };
    let target = instruction.op_count() > 0 && instruction.op0_register() == Register::RSP;
    match (instruction.mnemonic(), immediate) {
        (Mnemonic::Sub, Some(bytes)) if target => Change::Lower(bytes),
        (Mnemonic::Add, Some(bytes)) if target => Change::Lower(bytes.saturating_neg()),
        (Mnemonic::And, Some(..0)) if target => Change::Align,
        (Mnemonic::Push | Mnemonic::Pushfq, _) => {
            Change::Lower(i64::from(instruction.stack_pointer_increment()).saturating_neg())
        }
        (Mnemonic::Pop | Mnemonic::Popfq, _) if !target => {
            Change::Lower(i64::from(instruction.stack_pointer_increment()).saturating_neg())
        }
        _ => {
            let info = factory.info(instruction);
            let sets = info.used_registers().iter().any(|used| {
                used.register().full_register() == Register::RSP
                    && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
            });
            if sets {
                Change::Unknown
            } else {
                Change::Lower(0)
            }
        }
    }
}
