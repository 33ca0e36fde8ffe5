//! The same-object rule: where a register points to the structure that a write with an index must
//! stay in.
//!
//! C allows a pointer to lead from an object only to its own bytes, and one past it. So where the
//! source's own variable, a pointer to a structure, is in a register of the operand, the object that
//! the register points to is the one that is meant, whatever the index.

use otf_artifact::sites::Register;

use crate::{confined::Confined, operand::MemoryWrite};

/// The register of a write with an index that points to the structure meant; `None` where that is
/// not known.
///
/// Pointers that compilers make are no variables: they may be biased (one past the end and a
/// negative index), as may be a negative displacement.
pub fn register(confined: &Confined<'_>, address: u64, write: &MemoryWrite) -> Option<Register> {
    let operand = &write.operand;
    let indexed = operand.index.is_some() || operand.bit_index.is_some();
    let fixed = operand.per_cpu || write.referent.is_some() || operand.displacement < 0;
    if !indexed || fixed {
        return None;
    }
    let index = operand.index.filter(|_| operand.scale == 1);
    let points = |register: &Register| {
        let number = register.dwarf_number();
        number.is_some_and(|number| confined.debug.holds_pointer(address, number))
    };
    let mut found = [operand.base, index].into_iter().flatten().filter(points);
    let only = found.next().filter(|register| *register != Register::Sp)?;
    // A sum of two pointers is none.
    found.next().is_none().then_some(only)
}
