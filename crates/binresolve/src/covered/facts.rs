//! What is known before an instruction: addresses that were checked, in terms of registers as they
//! are now.

use std::collections::BTreeMap;

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register as Machine,
};
use otf_artifact::{
    ids::SiteId,
    sites::{Operand, Register},
};

use crate::operand::general;

/// Where a fact comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The check of a site: the address is the one that it writes.
    Site(SiteId),
    /// A call in this row of the code: the address is what it returned.
    Call(usize),
}

/// An address as registers give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Base register.
    pub base: Register,
    /// Index register and scale.
    pub index: Option<(Register, u8)>,
    /// Displacement.
    pub displacement: i64,
}

impl Address {
    /// What an operand names, when registers alone do.
    pub fn of(operand: &Operand) -> Option<Self> {
        (!operand.per_cpu && operand.bit_index.is_none()).then_some(Self {
            base: operand.base?,
            index: operand.index.map(|index| (index, operand.scale)),
            displacement: operand.displacement,
        })
    }

    /// Bytes from this address to the other one; `None` when registers differ.
    pub fn distance(&self, other: &Self) -> Option<i64> {
        (self.base == other.base && self.index == other.index)
            .then(|| other.displacement.checked_sub(self.displacement))?
    }

    fn uses(&self, registers: u32) -> bool {
        let index = self.index.map_or(0, |(register, _)| bit(register));
        (bit(self.base) | index) & registers != 0
    }
}

/// Facts, and whether the stack pointer was moved since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts(pub BTreeMap<(Origin, Address), bool>);

impl Facts {
    /// Keeps what both know. Says whether something was dropped.
    pub fn meet(&mut self, other: &Self) -> bool {
        let before = self.0.len();
        self.0.retain(|fact, _| other.0.contains_key(fact));
        let mut changed = self.0.len() != before;
        for (fact, moved) in &mut self.0 {
            if !*moved && other.0[fact] {
                *moved = true;
                changed = true;
            }
        }
        changed
    }

    /// A new fact takes the place of older ones from the same origin: that was another execution.
    pub fn learn(&mut self, origin: Origin, address: Address) {
        self.0.retain(|(known, _), _| *known != origin);
        self.0.insert((origin, address), false);
    }

    /// What is still known behind an instruction.
    pub fn pass(&mut self, effect: &Effect) {
        if effect.forgets {
            self.0.clear();
            return;
        }
        if effect.writes == 0 && effect.copy.is_none() {
            return;
        }
        let mut after = BTreeMap::new();
        for ((origin, address), moved) in &self.0 {
            let moved = *moved || effect.writes & bit(Register::Sp) != 0;
            for address in effect.follow(address).into_iter().flatten() {
                after.insert((*origin, address), moved);
            }
        }
        self.0 = after;
    }
}

/// `to = from + by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Copy {
    to: Register,
    from: Register,
    by: i64,
}

/// What an instruction does to facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Afterwards anything may have been freed.
    pub forgets: bool,
    /// Registers that it changes, one bit each; the target of a copy is among them.
    writes: u32,
    copy: Option<Copy>,
}

impl Effect {
    /// An instruction of which nothing is known.
    pub fn unknown() -> Self {
        Self {
            forgets: true,
            ..Self::default()
        }
    }

    /// Reads an instruction. A number in it that is `relocated` is not the one that counts.
    pub fn of(
        factory: &mut InstructionInfoFactory,
        instruction: &Instruction,
        relocated: bool,
    ) -> Self {
        let forgets = !matches!(
            instruction.flow_control(),
            FlowControl::Next | FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
        ) || matches!(
            instruction.mnemonic(),
            // What waits for interrupts to be enabled runs now.
            Mnemonic::Sti | Mnemonic::Popfq | Mnemonic::Popf | Mnemonic::Hlt
        );
        let mut writes = 0;
        for used in factory.info(instruction).used_registers() {
            if !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
                && let Some(register) = general(used.register().full_register())
            {
                writes |= bit(register);
            }
        }
        Self {
            forgets,
            writes,
            copy: copy(instruction).filter(|copy| copy.by == 0 || !relocated),
        }
    }

    /// The address behind the instruction: as it was, and through a copied register.
    fn follow(&self, address: &Address) -> [Option<Address>; 2] {
        let Some(Copy { to, from, by }) = self.copy else {
            return [(!address.uses(self.writes)).then_some(*address), None];
        };
        let others = self.writes & !bit(to);
        if address.uses(others) {
            return [None, None];
        }
        let indexed_by_it = address.index.is_some_and(|(index, _)| index == to);
        let through = (address.base == from && !indexed_by_it)
            .then(|| address.displacement.checked_sub(by))
            .flatten()
            .map(|displacement| Address {
                base: to,
                displacement,
                ..*address
            });
        let stays = (!address.uses(bit(to))).then_some(*address);
        [stays, through]
    }
}

fn copy(instruction: &Instruction) -> Option<Copy> {
    if instruction.op_count() == 0 || instruction.op0_kind() != OpKind::Register {
        return None;
    }
    let to = general(instruction.op0_register())?;
    let immediate = match instruction.op_count() {
        2 => match instruction.op1_kind() {
            OpKind::Immediate8to64 | OpKind::Immediate32to64 => {
                Some(instruction.immediate(1) as i64)
            }
            _ => None,
        },
        _ => None,
    };
    let (from, by) = match (instruction.mnemonic(), immediate) {
        (Mnemonic::Mov, _) if instruction.op1_kind() == OpKind::Register => {
            (general(instruction.op1_register())?, 0)
        }
        (Mnemonic::Lea, _)
            if instruction.memory_index() == Machine::None
                && instruction.segment_prefix() == Machine::None =>
        {
            let from = general(instruction.memory_base())?;
            (from, instruction.memory_displacement64() as i64)
        }
        (Mnemonic::Add, Some(bytes)) => (to, bytes),
        (Mnemonic::Sub, Some(bytes)) => (to, bytes.checked_neg()?),
        (Mnemonic::Inc, _) => (to, 1),
        (Mnemonic::Dec, _) => (to, -1),
        _ => return None,
    };
    Some(Copy { to, from, by })
}

const fn bit(register: Register) -> u32 {
    1 << register as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: Origin = Origin::Site(SiteId(7));

    fn at(base: Register, displacement: i64) -> Address {
        Address {
            base,
            index: None,
            displacement,
        }
    }

    fn after(start: Address, code: &[&[u8]]) -> Vec<Address> {
        let mut facts = Facts::default();
        facts.learn(SITE, start);
        let mut factory = InstructionInfoFactory::new();
        for bytes in code {
            let instruction =
                iced_x86::Decoder::new(64, bytes, iced_x86::DecoderOptions::NONE).decode();
            facts.pass(&Effect::of(&mut factory, &instruction, false));
        }
        facts.0.into_keys().map(|(_, address)| address).collect()
    }

    #[test]
    fn copies_are_followed() {
        // mov rbx, rdi; add rdi, 16; lea rax, [rbx-8]
        let code: [&[u8]; 3] = [
            &[0x48, 0x89, 0xfb],
            &[0x48, 0x83, 0xc7, 0x10],
            &[0x48, 0x8d, 0x43, 0xf8],
        ];
        assert_eq!(
            after(at(Register::Di, 8), &code),
            [
                at(Register::Ax, 16),
                at(Register::Bx, 8),
                at(Register::Di, -8)
            ]
        );
    }

    #[test]
    fn other_values_are_forgotten() {
        let start = at(Register::Bx, 8);
        // mov ebx, ebx; mov rbx, [rbx]; cmovne rbx, rax; xchg rax, rbx; pop rbx; call; int3; ud2
        let codes: [&[u8]; 8] = [
            &[0x89, 0xdb],
            &[0x48, 0x8b, 0x1b],
            &[0x48, 0x0f, 0x45, 0xd8],
            &[0x48, 0x93],
            &[0x5b],
            &[0xe8, 0, 0, 0, 0],
            &[0xcc],
            &[0x0f, 0x0b],
        ];
        for code in codes {
            assert_eq!(after(start, &[code]), [], "{code:x?}");
        }
        // mov bl, 1: a part of it. An index that changes: inc rcx.
        assert_eq!(after(start, &[&[0xb3, 0x01]]), []);
        let indexed = Address {
            index: Some((Register::Cx, 8)),
            ..start
        };
        assert_eq!(after(indexed, &[&[0x48, 0xff, 0xc1]]), []);
        // mov rcx, rbx overwrites the index of what it copies.
        assert_eq!(after(indexed, &[&[0x48, 0x89, 0xd9]]), []);
    }

    #[test]
    fn a_pushed_word_is_remembered() {
        let mut facts = Facts::default();
        facts.learn(SITE, at(Register::Bx, 0));
        let mut factory = InstructionInfoFactory::new();
        let push = iced_x86::Decoder::new(64, &[0x50], iced_x86::DecoderOptions::NONE).decode();
        let mut moved = facts.clone();
        moved.pass(&Effect::of(&mut factory, &push, false));
        assert!(moved.0[&(SITE, at(Register::Bx, 0))]);
        assert!(facts.meet(&moved));
        assert!(facts.0[&(SITE, at(Register::Bx, 0))]);
        assert!(!facts.meet(&moved));
        assert!(facts.meet(&Facts::default()) && facts.0.is_empty());
    }
}
