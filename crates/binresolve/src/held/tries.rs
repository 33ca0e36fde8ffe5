//! Attempts to acquire something, and the branches that tell how they ended.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{ConditionCode, FlowControl, InstructionInfoFactory, Mnemonic, OpAccess, Register};

use super::{effects::Step, flow::Flow};
use crate::{
    decode::Instructions,
    locks::{Effect, Held, Success},
};

/// How many instructions behind the call its result may be looked at.
const LOOK_AHEAD: usize = 6;

/// An attempt whose success a branch tells.
#[derive(Clone, Copy, Debug)]
pub struct Try {
    /// What is acquired when it succeeds.
    pub kind: Held,
    /// Whether it succeeded where the branch is taken; else where it is not.
    taken: bool,
}

impl Try {
    /// Whether something was acquired where the branch goes.
    pub fn acquires(&self, taken: bool) -> bool {
        taken == self.taken
    }
}

/// The attempts by row of their branch: a direct path without another entry leads from the call over
/// a test of the result to it.
pub fn of(code: &Instructions, flow: &Flow, steps: &BTreeMap<usize, Step>) -> BTreeMap<usize, Try> {
    let beside = |row: usize, next: &usize| *next == row + 1;
    let joins: BTreeSet<usize> = flow
        .next
        .iter()
        .enumerate()
        .flat_map(|(row, next)| next.iter().filter(move |next| !beside(row, next)))
        .copied()
        .collect();
    let attempts = steps.iter().filter_map(|(row, step)| match step.effect {
        // Of two kinds at once neither is settled.
        Effect::TryAcquire(kind, success) if !step.halves => Some((*row, kind, success)),
        _ => None,
    });
    attempts
        .filter_map(|(call, kind, success)| {
            let (branch, equal) = branch_on_result(code, flow, &joins, call)?;
            let taken = match success {
                Success::NonZero => !equal,
                Success::Zero => equal,
                Success::Unclear => return None,
            };
            Some((branch, Try { kind, taken }))
        })
        .collect()
}

/// The branch on what the call returned, and whether it is taken when that is 0.
fn branch_on_result(
    code: &Instructions,
    flow: &Flow,
    joins: &BTreeSet<usize>,
    call: usize,
) -> Option<(usize, bool)> {
    let mut factory = InstructionInfoFactory::new();
    let mut tested = false;
    let mut before = call;
    for row in call + 1..(call + 1 + LOOK_AHEAD).min(code.all.len()) {
        let instruction = &code.all[row];
        if flow.next[before] != [row] || joins.contains(&row) {
            return None;
        }
        before = row;
        if instruction.flow_control() == FlowControl::ConditionalBranch {
            return match instruction.condition_code() {
                ConditionCode::e if tested => Some((row, true)),
                ConditionCode::ne if tested => Some((row, false)),
                _ => None,
            };
        }
        if instruction.flow_control() != FlowControl::Next {
            return None;
        }
        let result = [0, 1].map(|operand| instruction.op_register(operand).full_register());
        if instruction.mnemonic() == Mnemonic::Test && result == [Register::RAX; 2] {
            tested = true;
            continue;
        }
        let writes = |used: &iced_x86::UsedRegister| {
            used.register().full_register() == Register::RAX
                && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
        };
        let info = factory.info(instruction);
        if info.used_registers().iter().any(writes) || tested && instruction.rflags_modified() != 0
        {
            return None;
        }
    }
    None
}
