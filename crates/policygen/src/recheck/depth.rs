//! How far below its return address the stack pointer of a function stands, where that is the same
//! on every path.

use std::collections::BTreeMap;

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

/// Depth of the stack pointer, and of the frame pointer if it holds an address of the frame.
type State = (Option<i64>, Option<i64>);

/// Bytes pushed before each instruction, where they are known.
pub fn depths(
    instructions: &BTreeMap<u64, Instruction>,
    before: &BTreeMap<u64, Vec<u64>>,
    starts: &[u64],
    symbols: &BTreeMap<u64, String>,
) -> BTreeMap<u64, i64> {
    let mut after: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (to, from) in before {
        for from in from {
            // Behind a call that does not return another function begins.
            let runs_over = symbols.contains_key(to)
                && instructions.get(from).is_some_and(|i| i.next_ip() == *to);
            if !runs_over {
                after.entry(*from).or_default().push(*to);
            }
        }
    }
    let mut factory = InstructionInfoFactory::new();
    let mut known: BTreeMap<u64, State> = starts.iter().map(|at| (*at, (Some(0), None))).collect();
    let mut work = starts.to_vec();
    while let Some(address) = work.pop() {
        let Some(instruction) = instructions.get(&address) else {
            continue;
        };
        let next = step(&mut factory, instruction, known[&address]);
        for to in after.get(&address).into_iter().flatten() {
            let joined = match known.get(to) {
                Some(old) => (same(old.0, next.0), same(old.1, next.1)),
                None => next,
            };
            if known.insert(*to, joined) != Some(joined) {
                work.push(*to);
            }
        }
    }
    known
        .into_iter()
        .filter_map(|(at, (depth, _))| Some((at, depth?)))
        .collect()
}

fn same(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.filter(|_| a == b)
}

fn step(factory: &mut InstructionInfoFactory, instruction: &Instruction, state: State) -> State {
    let (sp, bp) = state;
    if matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::IndirectCall
    ) {
        return state;
    }
    let writes = |register: Register| {
        instruction.op_count() > 0
            && instruction.op0_kind() == OpKind::Register
            && instruction.op0_register() == register
    };
    let moves = |register: Register| {
        instruction.op1_kind() == OpKind::Register && instruction.op1_register() == register
    };
    let immediate = match instruction.op1_kind() {
        OpKind::Immediate8to64 | OpKind::Immediate32to64 => Some(instruction.immediate(1) as i64),
        _ => None,
    };
    let plus = |depth: Option<i64>, bytes: i64| depth.and_then(|d| d.checked_add(bytes));
    let lea = |base: Register| {
        instruction.memory_base() == base && instruction.memory_index() == Register::None
    };
    let offset = (instruction.memory_displacement64() as i64).wrapping_neg();
    match (instruction.mnemonic(), immediate) {
        (Mnemonic::Push | Mnemonic::Pushfq, _) => {
            let bytes = i64::from(instruction.stack_pointer_increment());
            (plus(sp, -bytes), bp)
        }
        (Mnemonic::Pop | Mnemonic::Popfq, _) if !writes(Register::RSP) => {
            let bytes = i64::from(instruction.stack_pointer_increment());
            let bp = if writes(Register::RBP) { None } else { bp };
            (plus(sp, -bytes), bp)
        }
        (Mnemonic::Sub, Some(bytes)) if writes(Register::RSP) => (plus(sp, bytes), bp),
        (Mnemonic::Add, Some(bytes)) if writes(Register::RSP) => {
            (plus(sp, bytes.wrapping_neg()), bp)
        }
        (Mnemonic::Lea, _) if writes(Register::RSP) && lea(Register::RSP) => (plus(sp, offset), bp),
        (Mnemonic::Lea, _) if writes(Register::RSP) && lea(Register::RBP) => (plus(bp, offset), bp),
        (Mnemonic::Mov, _) if writes(Register::RBP) && moves(Register::RSP) => (sp, sp),
        (Mnemonic::Mov, _) if writes(Register::RSP) && moves(Register::RBP) => (bp, bp),
        (Mnemonic::Leave, _) => (plus(bp, -8), None),
        _ => {
            let info = factory.info(instruction);
            let changed = |register: Register| {
                info.used_registers().iter().any(|used| {
                    used.register().full_register() == register
                        && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
                })
            };
            (
                sp.filter(|_| !changed(Register::RSP)),
                bp.filter(|_| !changed(Register::RBP)),
            )
        }
    }
}
