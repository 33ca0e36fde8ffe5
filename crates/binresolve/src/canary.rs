//! Where functions keep the value of the stack protector.

use std::collections::BTreeMap;

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use crate::{decode::Instructions, dwarf::cfi::FrameTable, image::Image};

/// Place of the value in the per-CPU area; the same for every kernel since the compilers fix it.
const VALUE: u64 = 0x28;
/// Instructions between reading the value and keeping it.
const NEAR: usize = 12;

/// Words between the slot of the return address and that of the value, by the address of the
/// function's symbol. A function that keeps it at two places is left out.
pub fn find(image: &Image<'_>, code: &Instructions, frames: &FrameTable) -> BTreeMap<u64, u8> {
    let mut found: BTreeMap<u64, Option<u8>> = BTreeMap::new();
    for (row, read) in code.all.iter().enumerate() {
        let Some(register) = reads_value(read) else {
            continue;
        };
        let near = code.all[row + 1..].iter().take(NEAR);
        let Some(kept) = near
            .take_while(|i| i.mnemonic() == Mnemonic::Push || !overwrites(i, register))
            .find(|i| keeps(i, register))
        else {
            continue;
        };
        let words = frames.size(kept.ip()).and_then(|size| {
            let below = u64::from(size).checked_sub(kept.memory_displacement64())?;
            u8::try_from(below / 8)
                .ok()
                .filter(|n| *n > 0 && below % 8 == 0)
        });
        let Some(function) = image.symbol_at(kept.ip()) else {
            continue;
        };
        found
            .entry(function.address)
            .and_modify(|known| {
                if *known != words {
                    *known = None;
                }
            })
            .or_insert(words);
    }
    found
        .into_iter()
        .filter_map(|(function, words)| Some((function, words?)))
        .collect()
}

/// `mov REG, gs:[0x28]`.
fn reads_value(instruction: &Instruction) -> Option<Register> {
    let value = instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Memory
        && instruction.memory_segment() == Register::GS
        && instruction.memory_base() == Register::None
        && instruction.memory_index() == Register::None
        && instruction.memory_displacement64() == VALUE;
    value.then(|| instruction.op0_register())
}

/// `mov [rsp+X], REG`.
fn keeps(instruction: &Instruction, register: Register) -> bool {
    instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_kind() == OpKind::Memory
        && instruction.memory_base() == Register::RSP
        && instruction.memory_index() == Register::None
        && instruction.memory_segment() != Register::GS
        && instruction.op1_kind() == OpKind::Register
        && instruction.op1_register() == register
}

/// Whether the register is given something else.
fn overwrites(instruction: &Instruction, register: Register) -> bool {
    instruction.op0_kind() == OpKind::Register
        && instruction.op0_register().full_register() == register.full_register()
}
