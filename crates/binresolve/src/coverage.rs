//! How a site is covered: proven from its operand, probed, or why not.

use iced_x86::Instruction;
use otf_artifact::{
    ids::{GlobalId, ImageId},
    sites::{Coverage, Length, Register, SiteKind},
};

use crate::{
    confined::Confined,
    globals::Globals,
    image::{Image, Symbol},
    operand::{MemoryWrite, Referent},
    rewrite::Rewriting,
};

/// A symbol in an operand without registers.
pub struct StaticTarget {
    /// Its name.
    pub name: String,
    /// Its rows in the analysis: several where variables of one name cannot be told apart.
    pub globals: Vec<GlobalId>,
    /// Bytes of the symbol, and how far into it the write starts.
    size: Option<u64>,
    offset: i64,
}

impl StaticTarget {
    /// What the operand names; `None` when it has a register or names nothing known.
    pub fn find(
        image: &Image<'_>,
        others: &[&Image<'_>],
        globals: &Globals,
        write: &MemoryWrite,
    ) -> Option<Self> {
        if !write.is_static() {
            return None;
        }
        match write.referent.as_ref() {
            Some(Referent::Here(address)) => {
                let symbol = image.symbol_at(*address).filter(|s| !s.function)?;
                Some(Self {
                    name: symbol.name.to_owned(),
                    globals: globals.at(image.id, symbol.address).to_vec(),
                    size: Some(symbol.size),
                    offset: (*address - symbol.address) as i64,
                })
            }
            Some(Referent::Elsewhere(name, offset)) => {
                let defined = others
                    .iter()
                    .find_map(|other| other.symbol(name).map(|s| (other.id, s)));
                let by_address =
                    |(id, symbol): (ImageId, &Symbol<'_>)| globals.at(id, symbol.address).to_vec();
                let mut rows = defined.map(by_address).unwrap_or_default();
                if rows.is_empty() {
                    rows.extend(globals.named(name));
                }
                Some(Self {
                    name: name.clone(),
                    globals: rows,
                    size: defined.map(|(_, s)| s.size).filter(|size| *size > 0),
                    offset: *offset,
                })
            }
            None if write.operand.per_cpu => Some(Self {
                name: format!("per-CPU offset {:#x}", write.operand.displacement),
                globals: Vec::new(),
                size: None,
                offset: 0,
            }),
            None => None,
        }
    }

    /// The write stays within the symbol, as far as its size is known.
    fn contains(&self, write: &MemoryWrite) -> bool {
        let Length::Constant(bytes) = write.length else {
            return false;
        };
        let end = self.offset.saturating_add(i64::from(bytes));
        self.offset >= 0 && self.size.is_none_or(|size| end as u64 <= size)
    }
}

/// A fixed place in the frame of the function itself, of which `frame` bytes are known.
pub fn is_own_frame(write: &MemoryWrite, frame: u32) -> bool {
    let operand = &write.operand;
    let Length::Constant(bytes) = write.length else {
        return false;
    };
    write.kind == SiteKind::Store
        && operand.base == Some(Register::Sp)
        && operand.index.is_none()
        && !operand.per_cpu
        && write.inexpressible.is_none()
        && operand.displacement >= 0
        && operand.displacement + i64::from(bytes) <= i64::from(frame)
}

/// Decides how a write is covered.
pub fn coverage(
    confined: &Confined<'_>,
    instruction: &Instruction,
    write: &MemoryWrite,
    rewriting: Rewriting,
    own_frame: bool,
    target: Option<StaticTarget>,
) -> Coverage {
    if own_frame {
        return Coverage::Proven("own frame".into());
    }
    if let Some(target) = target.filter(|t| t.contains(write)) {
        let what = if write.operand.per_cpu {
            "per-CPU"
        } else {
            "global"
        };
        return Coverage::Proven(format!("{what} {}", target.name));
    }
    if let Some(reason) = write.inexpressible {
        return Coverage::Unprobable(reason.into());
    }
    let image = &confined.image;
    match rewriting {
        Rewriting::Differs => Coverage::Unprobable("code is rewritten at boot".into()),
        Rewriting::Template { home, checked } => {
            let home = image.location(home);
            let home = format!("{}+{:#x}", home.section, home.offset);
            if checked {
                Coverage::Proven(format!(
                    "template: only its copy at {home} runs, it is probed"
                ))
            } else {
                Coverage::Unprobable(format!("template that is copied to {home} at boot"))
            }
        }
        Rewriting::None | Rewriting::Agreed(_) => confined
            .tables
            .refusal(image, instruction.ip(), instruction.next_ip())
            .map_or(Coverage::Probe, Coverage::Unprobable),
    }
}
