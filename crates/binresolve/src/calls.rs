//! Indirect calls, jumps and returns of the compartment.
//!
//! Compilers send them through thunks against speculation: `call __x86_indirect_thunk_rax`, `jmp
//! __x86_return_thunk`. At boot the kernel writes the plain instruction, a fenced one or another
//! thunk over them (`.retpoline_sites`, `.return_sites`), always at the same first byte and with the
//! target in the same register, so that a probe there sees the same.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind};
use otf_artifact::{
    analysis::TargetSet,
    ids::{GateId, TargetSetId},
    sites::{CallSite, CallThrough, Coverage, Precision, Register, ReturnSite},
};

use crate::{
    confined::Confined,
    decode::destination,
    extent::is_template,
    held::FromGate,
    image::Image,
    join::{frames, text_of},
    ladder::{Access, Ladder},
    operand::{Referent, general, memory_operand},
    rewrite::{Rewrites, Rewriting},
    unwinding::Unwinding,
};

/// Thunks that jump to the address in the register that ends their name.
const THUNKS: [&str; 3] = [
    "__x86_indirect_thunk_",
    "__x86_indirect_call_thunk_",
    "__x86_indirect_jump_thunk_",
];
/// Returns; further ones may stand at the same address.
const RETURN_THUNK: &str = "__x86_return_thunk";

/// Target sets: rows of the analysis, unions behind them.
pub struct TargetSets {
    rows: Vec<TargetSet>,
    known: BTreeMap<TargetSet, TargetSetId>,
}

impl TargetSets {
    /// Starts with the rows of an analysis.
    pub fn new(rows: &[TargetSet]) -> Self {
        let mut known = BTreeMap::new();
        for (row, set) in rows.iter().enumerate() {
            known
                .entry(set.clone())
                .or_insert_with(|| TargetSetId::from(row));
        }
        Self {
            rows: rows.to_vec(),
            known,
        }
    }

    fn intern(&mut self, set: TargetSet) -> TargetSetId {
        if let Some(id) = self.known.get(&set) {
            return *id;
        }
        let id = TargetSetId::from(self.rows.len());
        self.rows.push(set.clone());
        self.known.insert(set, id);
        id
    }

    fn union(&mut self, ids: &BTreeSet<TargetSetId>) -> TargetSetId {
        let mut union = TargetSet::default();
        for set in ids.iter().filter_map(|id| self.rows.get(id.index())) {
            union.targets.extend(&set.targets);
            // Of two reasons the one that sorts first: the order of joining must not show.
            union.any = match (union.any.take(), &set.any) {
                (Some(a), Some(b)) => Some(a.min(b.clone())),
                (a, b) => a.or_else(|| b.clone()),
            };
        }
        union.targets.sort_unstable();
        union.targets.dedup();
        self.intern(union)
    }

    /// All rows.
    pub fn into_rows(self) -> Vec<TargetSet> {
        self.rows
    }
}

/// An indirect call or jump before its targets are looked up.
struct Indirect {
    jump: bool,
    thunk: Option<String>,
    through: CallThrough,
    /// Why a probe there would not see the target.
    unreadable: Option<String>,
}

/// The indirect calls and jumps of an image.
pub fn calls(
    confined: &Confined<'_>,
    ladder: &Ladder<'_>,
    gates: &[(GateId, FromGate)],
    sets: &mut TargetSets,
) -> Vec<CallSite> {
    let image = &confined.image;
    let rewrites = Rewrites::new(&confined.code, &confined.tables, &confined.writes);
    let mut result = Vec::new();
    for (row, instruction) in confined.code.all.iter().enumerate() {
        let Some(indirect) = indirect(image, instruction) else {
            continue;
        };
        let address = instruction.ip();
        let rewriting = rewrites.of(row);
        let home = match rewriting {
            Rewriting::Template { home, .. } => home,
            _ => address,
        };
        let origin = confined.debug.origin(home);
        let bound = origin.as_ref().and_then(|origin| {
            ladder.bind_call(&Access {
                chain: &origin.chain,
                columns: origin.clang,
                size: None,
                locked: false,
                on_stack: false,
                inlined: &confined.debug.inlined_beside(home),
            })
        });
        let (targets, precision) = if let Some(bound) = bound {
            (sets.union(&bound.sets), bound.precision)
        } else {
            let any = "the source has no indirect call in the functions at this place";
            let set = TargetSet {
                targets: Vec::new(),
                any: Some(any.into()),
            };
            (sets.intern(set), Precision::Compartment)
        };
        // Left out it has to return, which is right only where nothing is on the stack; and a jump
        // table's target is no function.
        let inner = (indirect.jump && confined.frames.size(home) != Some(0))
            .then(|| "a jump that is no call in tail position, as far as can be told".to_owned());
        let coverage = match rewriting {
            Rewriting::Template { home, .. } => {
                let home = image.location(home);
                let place = format!("{}+{:#x}", home.section, home.offset);
                Some(format!("template that is copied to {place} at boot"))
            }
            Rewriting::None => indirect.unreadable.or(inner).or_else(|| {
                let tables = &confined.tables;
                tables.refusal(image, address, instruction.next_ip())
            }),
            Rewriting::Agreed(_) | Rewriting::Differs => {
                Some("alternatives: the call is rewritten at boot".into())
            }
        };
        let coverage = coverage.map_or(Coverage::Probe, Coverage::Unprobable);
        result.push(CallSite {
            location: image.location(address),
            text: text_of(instruction, indirect.thunk.as_deref()),
            instruction_length: instruction.len() as u8,
            jump: indirect.jump,
            thunk: indirect.thunk,
            through: indirect.through,
            chain: frames(image, home, origin),
            precision,
            targets,
            coverage,
            unwind_gates: Unwinding::of(&confined.held, gates, row).free(),
        });
    }
    result
}

/// The returns of an image, those in code that is copied elsewhere apart.
pub fn returns(confined: &Confined<'_>) -> Vec<ReturnSite> {
    let image = &confined.image;
    let mut result = Vec::new();
    for instruction in &confined.code.all {
        let thunk = destination(image, instruction)
            .and_then(|target| named_at(image, target.symbol, target.address, &[RETURN_THUNK]))
            .is_some();
        if !thunk && !matches!(instruction.mnemonic(), Mnemonic::Ret | Mnemonic::Retf) {
            continue;
        }
        let location = image.location(instruction.ip());
        if !is_template(&location.section) {
            let tables = &confined.tables;
            let refusal = tables.refusal(image, instruction.ip(), instruction.next_ip());
            let coverage = refusal.map_or(Coverage::Probe, Coverage::Unprobable);
            result.push(ReturnSite {
                location,
                thunk,
                coverage,
            });
        }
    }
    result
}

/// Whether it is a jump to an address in a register or in memory, or may be one to a thunk.
pub fn is_indirect_jump(image: &Image<'_>, instruction: &Instruction) -> bool {
    instruction.flow_control() == FlowControl::IndirectBranch
        || indirect(image, instruction).is_some_and(|indirect| indirect.jump)
}

fn indirect(image: &Image<'_>, instruction: &Instruction) -> Option<Indirect> {
    let flow = instruction.flow_control();
    if !matches!(
        flow,
        FlowControl::IndirectCall | FlowControl::IndirectBranch
    ) {
        return through_thunk(image, instruction);
    }
    let jump = flow == FlowControl::IndirectBranch;
    let mut unreadable = None;
    let through = match instruction.op0_kind() {
        OpKind::Register => match general(instruction.op0_register()) {
            Some(register) => CallThrough::Register(register),
            None => return None,
        },
        OpKind::Memory => {
            let section = image.section_at(instruction.ip())?;
            let operand = memory_operand(image, section, instruction);
            unreadable = operand.inexpressible.map(str::to_owned);
            if let Some(referent) = &operand.referent {
                let name = match referent {
                    Referent::Elsewhere(name, _) => name.as_str(),
                    Referent::Here(address) => image.symbol_at(*address).map_or("", |s| s.name),
                };
                unreadable = Some(format!("the target stands in static memory: {name}"));
            }
            CallThrough::Memory(operand.operand)
        }
        // Far calls through selectors do not occur in a compartment.
        _ => return None,
    };
    Some(Indirect {
        jump,
        thunk: None,
        through,
        unreadable,
    })
}

fn through_thunk(image: &Image<'_>, instruction: &Instruction) -> Option<Indirect> {
    let target = destination(image, instruction)?;
    let thunk = named_at(image, target.symbol, target.address, &THUNKS)?;
    let register = thunk_register(thunk)?;
    let flow = instruction.flow_control();
    let unreadable = (flow == FlowControl::ConditionalBranch)
        .then(|| "a conditional jump: the register counts only when it is taken".to_owned());
    Some(Indirect {
        jump: flow != FlowControl::Call,
        thunk: Some(thunk.to_owned()),
        through: CallThrough::Register(register),
        unreadable,
    })
}

/// The name with one of these beginnings: the symbol's, or another one at the address.
fn named_at<'s>(
    image: &'s Image<'_>,
    symbol: &'s str,
    address: Option<u64>,
    beginnings: &[&str],
) -> Option<&'s str> {
    let fits = |name: &&str| {
        beginnings.iter().any(|b| name.starts_with(b)) && !name.ends_with("_thunk_array")
    };
    if fits(&symbol) {
        return Some(symbol);
    }
    let address = address?;
    let here = image.symbols_in(address, address.checked_add(1)?);
    here.iter().map(|s| s.name).find(|name| fits(name))
}

fn thunk_register(thunk: &str) -> Option<Register> {
    Some(match thunk.rsplit('_').next()? {
        "rax" => Register::Ax,
        "rbx" => Register::Bx,
        "rcx" => Register::Cx,
        "rdx" => Register::Dx,
        "rsi" => Register::Si,
        "rdi" => Register::Di,
        "rbp" => Register::Bp,
        "rsp" => Register::Sp,
        "r8" => Register::R8,
        "r9" => Register::R9,
        "r10" => Register::R10,
        "r11" => Register::R11,
        "r12" => Register::R12,
        "r13" => Register::R13,
        "r14" => Register::R14,
        "r15" => Register::R15,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use otf_artifact::ids::TargetId;

    use super::*;

    #[test]
    fn every_register_has_its_thunk() {
        assert_eq!(
            thunk_register("__x86_indirect_thunk_rax"),
            Some(Register::Ax)
        );
        assert_eq!(
            thunk_register("__x86_indirect_call_thunk_r11"),
            Some(Register::R11)
        );
        assert_eq!(thunk_register("__x86_indirect_thunk_array"), None);
    }

    #[test]
    fn unions_hold_the_targets_of_all() {
        let set = |targets: &[u32], any: Option<&str>| TargetSet {
            targets: targets.iter().map(|t| TargetId(*t)).collect(),
            any: any.map(str::to_owned),
        };
        let mut sets =
            TargetSets::new(&[set(&[1, 4], None), set(&[2, 4], None), set(&[], Some("b"))]);
        let two = BTreeSet::from([TargetSetId(0), TargetSetId(1)]);
        let id = sets.union(&two);
        assert_eq!(id, TargetSetId(3));
        assert_eq!(sets.union(&two), id);
        assert_eq!(
            sets.union(&BTreeSet::from([TargetSetId(1)])),
            TargetSetId(1)
        );
        let all = BTreeSet::from([TargetSetId(0), TargetSetId(2)]);
        assert_eq!(sets.union(&all), TargetSetId(4));
        let rows = sets.into_rows();
        assert_eq!(rows[3], set(&[1, 2, 4], None));
        assert_eq!(rows[4], set(&[1, 4], Some("b")));
    }
}
