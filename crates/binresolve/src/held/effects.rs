//! Instructions that acquire or release something.

use std::collections::BTreeMap;

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind};

use super::Input;
use crate::{
    decode::{Destination, destination},
    image::Image,
    locks::{self, Effect, Held, Success},
    operand::{MemoryWrite, Referent},
};

/// One disabling of bottom halves in the preemption counter; lower bits count those of preemption.
const BOTTOM_HALVES: i32 = 0x200;

/// An effect at an instruction, and the words for it.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it changes.
    pub effect: Effect,
    /// The same happens to bottom halves: `_raw_spin_lock_bh`. They need not go together: a lock may
    /// be released by `spin_unlock` first.
    pub halves: bool,
    /// In words: `calls _raw_spin_lock`.
    pub what: String,
}

/// Effects of single instructions.
pub fn steps(input: &Input<'_, '_>) -> BTreeMap<usize, Step> {
    let mut steps = BTreeMap::new();
    for (row, instruction) in input.code.all.iter().enumerate() {
        let called = destination(input.image, instruction)
            .filter(|_| instruction.flow_control() != FlowControl::ConditionalBranch);
        let step = match (called, instruction.mnemonic()) {
            (Some(Destination { symbol, .. }), _) => locks::effect(symbol).map(|effect| Step {
                effect,
                halves: symbol.starts_with('_') && symbol.ends_with("lock_bh"),
                what: format!("calls {symbol}"),
            }),
            (None, Mnemonic::Cli) => Some(Step {
                effect: Effect::Acquire(Held::Irq),
                halves: false,
                what: "disables interrupts".into(),
            }),
            (None, Mnemonic::Sti | Mnemonic::Popfq) => Some(Step {
                effect: Effect::Release(Held::Irq),
                halves: false,
                what: "enables interrupts".into(),
            }),
            _ => input
                .writes
                .get(&row)
                .and_then(|writes| preemption(input.image, instruction, writes)),
        };
        if let Some(step) = step {
            steps.insert(row, step);
        }
    }
    steps
}

/// A write of the per-CPU preemption counter.
fn preemption(
    image: &Image<'_>,
    instruction: &Instruction,
    writes: &[MemoryWrite],
) -> Option<Step> {
    let counter = writes.iter().any(|w| {
        let name = match &w.referent {
            Some(Referent::Elsewhere(name, offset)) => (name.as_str(), *offset),
            Some(Referent::Here(address)) => {
                let symbol = image.symbol_at(*address);
                symbol.map_or(("", 0), |s| (s.name, (address - s.address) as i64))
            }
            None => ("", 0),
        };
        // 6.2 moved the counter behind the pointer to the current task.
        w.operand.per_cpu && (name.0 == "__preempt_count" || name == ("pcpu_hot", 8))
    });
    if !counter {
        return None;
    }
    let amount = match instruction.op1_kind() {
        OpKind::Immediate8 | OpKind::Immediate8to32 | OpKind::Immediate32 => {
            Some(instruction.immediate(1) as i32)
        }
        _ => None,
    };
    let bottom_halves = amount.is_some_and(|amount| amount % BOTTOM_HALVES == 0);
    let (kind, name) = if bottom_halves {
        (Held::Bh, "bottom halves")
    } else {
        (Held::Preempt, "preemption")
    };
    let (effect, verb) = match (instruction.mnemonic(), amount) {
        (Mnemonic::Inc, _) | (Mnemonic::Add, Some(1..)) | (Mnemonic::Sub, Some(..0)) => {
            (Effect::Acquire(kind), "disables")
        }
        (Mnemonic::Dec, _) | (Mnemonic::Add | Mnemonic::Sub, Some(_)) => {
            (Effect::Release(kind), "enables")
        }
        _ => (Effect::TryAcquire(kind, Success::Unclear), "may disable"),
    };
    let what = format!("{verb} {name}");
    Some(Step {
        effect,
        halves: false,
        what,
    })
}
