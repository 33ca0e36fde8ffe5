//! Which registers hold addresses in the frame of the function.
//!
//! A forward analysis over the control flow graph: the stack pointer, what is computed from it, and
//! copies of these. A register counts only where it holds such an address on all known paths.

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register as Machine,
};
use otf_artifact::sites::Register;

use super::{HeldAnalysis, flow::Flow};
use crate::{decode::Instructions, operand::general};

/// Registers that a callee keeps.
const KEPT: [Register; 7] = [
    Register::Bx,
    Register::Bp,
    Register::Sp,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// The stack pointer alone.
const FRAME: Registers = Registers(bit(Register::Sp));

/// A set of registers, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers(u32);

impl Registers {
    /// Whether the register is one of them.
    pub fn holds(self, register: Register) -> bool {
        self.0 & bit(register) != 0
    }

    fn holds_machine(self, machine: Machine) -> bool {
        general(machine).is_some_and(|register| self.holds(register))
    }

    fn set(&mut self, register: Register, on: bool) {
        if on {
            self.0 |= bit(register);
        } else {
            self.0 &= !bit(register);
        }
    }
}

const fn bit(register: Register) -> u32 {
    1 << register as u32
}

/// Registers that hold an address in the frame before each instruction.
pub fn registers(analysis: &HeldAnalysis, flow: &Flow, code: &Instructions) -> Vec<Registers> {
    let mut factory = InstructionInfoFactory::new();
    let mut before: Vec<Option<Registers>> = vec![None; code.all.len()];
    let mut work: Vec<usize> = analysis.entries().collect();
    for entry in &work {
        before[*entry] = Some(FRAME);
    }
    while let Some(row) = work.pop() {
        let Some(known) = before[row] else {
            continue;
        };
        let after = step(&mut factory, &code.all[row], known);
        for next in &flow.next[row] {
            let after = if analysis.owner[*next] == analysis.owner[row] {
                after
            } else {
                FRAME
            };
            let joined = Registers(before[*next].map_or(after.0, |old| old.0 & after.0));
            if before[*next] != Some(joined) {
                before[*next] = Some(joined);
                work.push(*next);
            }
        }
    }
    before.into_iter().map(|b| b.unwrap_or(FRAME)).collect()
}

fn step(
    factory: &mut InstructionInfoFactory,
    instruction: &Instruction,
    before: Registers,
) -> Registers {
    let mut after = before;
    if matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::IndirectCall
    ) {
        after.0 &= KEPT.into_iter().fold(0, |all, kept| all | bit(kept));
        return after;
    }
    for used in factory.info(instruction).used_registers() {
        if !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
            && let Some(register) = general(used.register().full_register())
        {
            after.set(register, false);
        }
    }
    if instruction.op_count() > 0
        && instruction.op0_kind() == OpKind::Register
        && let Some(target) = general(instruction.op0_register())
        && computes(instruction, before)
    {
        after.set(target, true);
    }
    // Pushing, popping and aligning keep it a stack pointer.
    after.set(Register::Sp, true);
    after
}

/// Whether the first operand is an address in the frame afterwards.
fn computes(instruction: &Instruction, before: Registers) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Mov => {
            instruction.op1_kind() == OpKind::Register
                && before.holds_machine(instruction.op1_register())
        }
        // An index is a distance; of two addresses neither is known to be the one.
        Mnemonic::Lea => {
            before.holds_machine(instruction.memory_base())
                && !before.holds_machine(instruction.memory_index())
        }
        Mnemonic::Add | Mnemonic::Sub => {
            let distance = instruction.op1_kind() != OpKind::Register
                || !before.holds_machine(instruction.op1_register());
            before.holds_machine(instruction.op0_register()) && distance
        }
        Mnemonic::Inc | Mnemonic::Dec | Mnemonic::And => {
            before.holds_machine(instruction.op0_register())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(code: &[&[u8]], start: &[Register]) -> Registers {
        let mut registers = FRAME;
        for register in start {
            registers.set(*register, true);
        }
        let mut factory = InstructionInfoFactory::new();
        for bytes in code {
            let mut decoder = iced_x86::Decoder::new(64, bytes, iced_x86::DecoderOptions::NONE);
            registers = step(&mut factory, &decoder.decode(), registers);
        }
        registers
    }

    #[test]
    fn addresses_of_the_frame_are_followed() {
        // lea rdi, [rsp+8]; mov rbx, rdi; add rbx, 16; call
        let lea: &[u8] = &[0x48, 0x8d, 0x7c, 0x24, 0x08];
        let copy: &[u8] = &[0x48, 0x89, 0xfb];
        let add: &[u8] = &[0x48, 0x83, 0xc3, 0x10];
        let call: &[u8] = &[0xe8, 0, 0, 0, 0];
        let found = after(&[lea, copy, add], &[]);
        assert!(found.holds(Register::Di) && found.holds(Register::Bx));
        let found = after(&[lea, copy, add, call], &[]);
        assert!(!found.holds(Register::Di) && found.holds(Register::Bx));
        assert!(found.holds(Register::Sp));
    }

    #[test]
    fn other_values_are_not() {
        // mov rdi, [rsp]: what lies there; mov edi, edi: no address any more.
        let load: &[u8] = &[0x48, 0x8b, 0x3c, 0x24];
        let cut: &[u8] = &[0x89, 0xff];
        assert!(!after(&[load], &[Register::Di]).holds(Register::Di));
        assert!(!after(&[cut], &[Register::Di]).holds(Register::Di));
        // lea rax, [rbx+rsp] with both in the frame; pop rsi.
        let both: &[u8] = &[0x48, 0x8d, 0x04, 0x1c];
        assert!(!after(&[both], &[Register::Bx]).holds(Register::Ax));
        assert!(!after(&[&[0x5e]], &[Register::Si]).holds(Register::Si));
    }
}
