//! Operand shapes: the part of a memory operand that depends on registers.

use otf_artifact::sites::{Length, Operand, Register, Site, SiteKind};

/// `base + index * scale`, and for bit strings the bytes that the bit index adds. The displacement
/// is in the site's row, so that many sites share a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// Base register.
    pub base: Option<Register>,
    /// Index register and its scale.
    pub index: Option<(Register, u8)>,
    /// Register that holds the bit index, and bytes of the operand: 2, 4 or 8.
    pub bit: Option<(Register, u8)>,
}

impl Shape {
    /// The shape of a site's operand, or what is wrong with it.
    pub fn of(site: &Site) -> Result<Self, &'static str> {
        let bit = match (site.operand.bit_index, site.length) {
            (None, _) => None,
            (Some(register), Length::Constant(bytes @ (2 | 4 | 8)))
                if site.kind == SiteKind::BitString =>
            {
                Some((register, bytes as u8))
            }
            _ => return Err("a bit index without an operand of 2, 4 or 8 bytes"),
        };
        Ok(Self {
            bit,
            ..Self::of_operand(site.operand)?
        })
    }

    /// The shape of an operand without its bit index, or what is wrong with it.
    pub fn of_operand(operand: Operand) -> Result<Self, &'static str> {
        let Operand {
            base, index, scale, ..
        } = operand;
        if [base, index].contains(&Some(Register::Ip)) {
            return Err("the operand is relative to the instruction pointer");
        }
        if index.is_some() && ![1, 2, 4, 8].contains(&scale) {
            return Err("the scale of the operand is not 1, 2, 4 or 8");
        }
        Ok(Self {
            base,
            index: index.map(|register| (register, scale)),
            bit: None,
        })
    }
}

/// Where a register is saved in `struct pt_regs` of x86-64.
pub(crate) fn offset_in_pt_regs(register: Register) -> u32 {
    let slot = match register {
        Register::R15 => 0,
        Register::R14 => 1,
        Register::R13 => 2,
        Register::R12 => 3,
        Register::Bp => 4,
        Register::Bx => 5,
        Register::R11 => 6,
        Register::R10 => 7,
        Register::R9 => 8,
        Register::R8 => 9,
        Register::Ax => 10,
        Register::Cx => 11,
        Register::Dx => 12,
        Register::Si => 13,
        Register::Di => 14,
        Register::Ip => 16,
        Register::Sp => 19,
    };
    slot * 8
}
