//! The same-object rule: where a register points into the object that a write with an index must
//! stay in.
//!
//! C allows a pointer to lead from an object only to its own bytes, and one past it. So where the
//! source's own variable, a pointer to a structure, is in a register of the operand, the object that
//! the register points to is the one that is meant, whatever the index. And a copy that the compiler
//! made instructions of ends with `[to + length - width]`, after it began with `[to]`: both are in
//! the object that is copied to.

use std::collections::BTreeSet;

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, OpAccess};
use otf_artifact::sites::{Length, Register, SiteKind};

use crate::{
    confined::Confined,
    gates::branch_targets,
    operand::{MemoryWrite, at_register, general},
};

/// How many instructions before its end a copy may begin.
const LOOK_BACK: usize = 12;

/// Finds such registers in one image.
pub struct SameObject<'c, 'd> {
    confined: &'c Confined<'d>,
    branches: BTreeSet<u64>,
}

impl<'c, 'd> SameObject<'c, 'd> {
    /// Of this image.
    pub fn new(confined: &'c Confined<'d>) -> Self {
        Self {
            confined,
            branches: branch_targets(&confined.code),
        }
    }

    /// The register of a write with an index that points into the object meant; `None` where that
    /// is not known.
    pub fn register(&self, row: usize, write: &MemoryWrite) -> Option<Register> {
        let operand = &write.operand;
        let indexed = operand.index.is_some() || operand.bit_index.is_some();
        if !indexed || operand.per_cpu || write.referent.is_some() {
            return None;
        }
        self.variable(row, write)
            .or_else(|| self.copied_to(row, write))
            .filter(|register| *register != Register::Sp)
    }

    /// Pointers that compilers make are no variables: they may be biased.
    fn variable(&self, row: usize, write: &MemoryWrite) -> Option<Register> {
        let operand = &write.operand;
        let address = self.confined.code.all[row].ip();
        let index = operand.index.filter(|_| operand.scale == 1);
        let points = |register: &Register| {
            let number = register.dwarf_number();
            number.is_some_and(|number| self.confined.debug.holds_pointer(address, number))
        };
        let mut found = [operand.base, index].into_iter().flatten().filter(points);
        let only = found.next()?;
        // A sum of two pointers is none.
        found.next().is_none().then_some(only)
    }

    /// The base of the last store of a copy, of which the first one stands before it.
    fn copied_to(&self, row: usize, write: &MemoryWrite) -> Option<Register> {
        let operand = &write.operand;
        let Length::Constant(bytes) = write.length else {
            return None;
        };
        let last = write.kind == SiteKind::Store
            && operand.index.is_some()
            && operand.scale == 1
            && operand.displacement == -i64::from(bytes);
        let base = operand.base.filter(|_| last)?;
        let code = &self.confined.code.all;
        let mut factory = InstructionInfoFactory::new();
        let mut after = row;
        for before in (row.saturating_sub(LOOK_BACK)..row).rev() {
            let instruction = &code[before];
            let falls_through = matches!(
                instruction.flow_control(),
                FlowControl::Next | FlowControl::ConditionalBranch
            );
            let beside = instruction.next_ip() == code[after].ip();
            if !falls_through || !beside || self.branches.contains(&code[after].ip()) {
                return None;
            }
            if changes(&mut factory, instruction, base) {
                return None;
            }
            if self.stores_at(before, base) {
                return Some(base);
            }
            after = before;
        }
        None
    }

    /// Whether an instruction stores where a register points to.
    fn stores_at(&self, row: usize, base: Register) -> bool {
        let writes = self.confined.writes.get(&row);
        writes.into_iter().flatten().any(|write| {
            write.kind == SiteKind::Store
                && write.referent.is_none()
                && write.operand == at_register(base)
        })
    }
}

/// Whether an instruction may change a register.
fn changes(
    factory: &mut InstructionInfoFactory,
    instruction: &Instruction,
    register: Register,
) -> bool {
    let info = factory.info(instruction);
    info.used_registers().iter().any(|used| {
        let reads = matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
        !reads && general(used.register()) == Some(register)
    })
}
