//! Slots of the guard against an independent decoder: what runs there does what the code did that a
//! jump has replaced, behind a call in front of each probed instruction.

mod guard;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const START: u64 = 0xffff_ffff_8123_4567;
const SLOT: u64 = 0xffff_ffff_c055_0040;
const ENTRY: u64 = 0xffff_ffff_c010_0000;
/// `CODE`, `OTF_REGION_INSNS` and `OTF_SLOT_BYTES` of the harness and the guard.
const CODE: usize = 64;
const INSNS: usize = 24;
const SLOT_BYTES: usize = 2048;
/// What the harness gives the first probed instruction.
const FIRST_INDEX: u32 = 1000;

/// What compilers write, in front of random operands.
const FORMS: &[&[u8]] = &[
    &[0x48, 0x89],                   // mov
    &[0x88],                         // mov, one byte
    &[0x66, 0xc7, 0x00],             // movw $imm, (%rax)
    &[0xc7, 0x05],                   // movl $imm, rip
    &[0xf0, 0x48, 0x0f, 0xba, 0x2d], // lock bts $imm, rip
    &[0xf0, 0x0f, 0xb1],             // lock cmpxchg
    &[0x48, 0x8d, 0x05],             // lea rip
    &[0x48, 0x83, 0x3d],             // cmp $imm, rip
    &[0xf3, 0x48, 0xab],             // rep stos
    &[0x65, 0x48, 0x01],             // add to per-CPU
    &[0x50],                         // push
    &[0x0f, 0x84],                   // je rel32
    &[0x75],                         // jne rel8
    &[0xe8],                         // call
    &[0x2e, 0xe8],                   // call with a prefix
    &[0xe9],                         // jmp rel32
    &[0xeb],                         // jmp rel8
    &[0xff, 0x15],                   // call *rip
    &[0xff, 0x50],                   // call *disp(%rax)
    &[0x41, 0xff, 0xd3],             // call *%r11
    &[0x41, 0xff, 0xe3],             // jmp *%r11
    &[0xff, 0x25],                   // jmp *rip
    &[0xc3],                         // ret
    &[0xcc],                         // int3
    &[0x90],                         // nop
    &[0x0f, 0x0b],                   // ud2
    &[0xf3, 0x0f, 0x1e, 0xfa],       // endbr64
    &[0xe2],                         // loop
    &[0xc5, 0xf8],                   // AVX
];

#[derive(Clone, Debug)]
struct Case {
    code: Vec<u8>,
    need: u32,
    room: u32,
    probed: u32,
}

fn cases() -> impl Strategy<Value = Case> {
    let form = prop_oneof![
        9 => prop::sample::select(FORMS).prop_map(<[u8]>::to_vec),
        // A REX prefix stands in front of an opcode alone.
        1 => any::<[u8; 2]>()
            .prop_filter("a REX prefix", |bytes| bytes.iter().all(|b| b & 0xf0 != 0x40))
            .prop_map(|bytes| bytes.to_vec()),
    ];
    let instruction = (form, any::<[u8; 10]>()).prop_map(|(mut code, rest)| {
        code.extend(rest);
        let length = Decoder::with_ip(64, &code, START, DecoderOptions::NONE)
            .decode()
            .len();
        code.truncate(length.max(1));
        code
    });
    (
        prop::collection::vec(instruction, 8),
        5u32..12,
        0u32..24,
        any::<u32>(),
    )
        .prop_map(|(instructions, need, more, probed)| {
            let mut code: Vec<u8> = instructions.concat();
            code.resize(CODE, 0x90);
            Case {
                code,
                need,
                room: (need + more).min(32),
                probed,
            }
        })
}

fn decode(code: &[u8], ip: u64) -> Vec<Instruction> {
    Decoder::with_ip(64, code, ip, DecoderOptions::NONE)
        .into_iter()
        .collect()
}

/// What the kernel's decoder would say.
fn field(instruction: &Instruction, code: &[u8]) -> [u8; 20] {
    let mut field = [0; 20];
    if instruction.code() == Code::INVALID {
        return field;
    }
    let legacy = |b: &&u8| {
        matches!(
            **b,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3
        )
    };
    let prefixes = code.iter().take_while(legacy).count();
    let rex = usize::from(is_rex(code[prefixes]));
    if rex == 1 && is_rex(code[prefixes + 1]) {
        return field;
    }
    let first = prefixes + rex;
    let vex = matches!(code[first], 0xc4 | 0xc5 | 0x62);
    let opcodes = match code[first..] {
        [0x0f, 0x38 | 0x3a, ..] => 3,
        [0x0f, ..] => 2,
        _ => 1,
    };
    let mut decoder = Decoder::with_ip(64, code, instruction.ip(), DecoderOptions::NONE);
    let again = decoder.decode();
    let offsets = decoder.get_constant_offsets(&again);
    let near = matches!(again.op0_kind(), OpKind::NearBranch64)
        && again.flow_control() != FlowControl::XbeginXabortXend;
    // A group of opcodes, or an operand that is no part of the opcode: what stands between the
    // opcode and the constants.
    let constants =
        offsets.displacement_size() + offsets.immediate_size() + offsets.immediate_size2();
    let between = again.len() - constants - first - opcodes;
    let immediate = match offsets.immediate_size() {
        0 => 0,
        1 => i32::from(code[offsets.immediate_offset()] as i8),
        2 => i32::from(i16::from_le_bytes([
            code[offsets.immediate_offset()],
            code[offsets.immediate_offset() + 1],
        ])),
        _ => word(code, offsets.immediate_offset()),
    };
    let displacement = match offsets.displacement_size() {
        1 => i32::from(code[offsets.displacement_offset()] as i8),
        4 => word(code, offsets.displacement_offset()),
        _ => 0,
    };
    let modrm = !near && between > 0;
    field[0] = again.len() as u8;
    field[1] = prefixes as u8;
    field[2] = rex as u8;
    field[3] = u8::from(vex);
    field[4] = opcodes as u8;
    field[5..5 + opcodes].copy_from_slice(&code[first..first + opcodes]);
    if modrm && !vex {
        field[8] = 1;
        field[9] = code[first + opcodes];
        field[10] = between as u8 - 1;
    }
    // The distance of a branch is an immediate to the kernel.
    let (displacement, immediate) = if near && offsets.immediate_size() == 0 {
        (0, displacement)
    } else {
        (displacement, immediate)
    };
    field[12..16].copy_from_slice(&displacement.to_le_bytes());
    field[16..20].copy_from_slice(&immediate.to_le_bytes());
    field
}

fn is_rex(byte: u8) -> bool {
    byte & 0xf0 == 0x40
}

fn word(code: &[u8], at: usize) -> i32 {
    i32::from_le_bytes([code[at], code[at + 1], code[at + 2], code[at + 3]])
}

/// Whether an instruction may run elsewhere at all.
fn movable(instruction: &Instruction, code: &[u8]) -> bool {
    let mut legacy = code.iter().take_while(|b| {
        matches!(
            b,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3
        )
    });
    let prefixes = legacy.clone().count();
    let vex = matches!(code[prefixes], 0xc4 | 0xc5 | 0x62);
    let twice = is_rex(code[prefixes]) && is_rex(code[prefixes + 1]);
    // On one CPU the kernel makes a lock prefix one of these, and back.
    let unlocked = legacy.clone().any(|b| *b == 0x3e);
    let short = legacy.any(|b| *b == 0x66) && instruction.flow_control() != FlowControl::Next;
    // Its return address is pushed first, and the operand with a SIB byte may be on the stack.
    let modrm = code.get(prefixes + usize::from(is_rex(code[prefixes])) + 1);
    let through_stack = instruction.flow_control() == FlowControl::IndirectCall
        && instruction.op0_kind() == OpKind::Memory
        && modrm.is_some_and(|modrm| modrm & 7 == 4);
    let far = matches!(
        instruction.code(),
        Code::Call_m1616
            | Code::Call_m1632
            | Code::Call_m1664
            | Code::Jmp_m1616
            | Code::Jmp_m1632
            | Code::Jmp_m1664
    );
    let from_eip = instruction.memory_base() == Register::EIP;
    !vex && !twice
        && !from_eip
        && !unlocked
        && !short
        && !through_stack
        && !far
        && instruction.code() != Code::INVALID
        && !matches!(
            instruction.flow_control(),
            FlowControl::Exception | FlowControl::Interrupt | FlowControl::XbeginXabortXend
        )
        && !matches!(
            instruction.mnemonic(),
            Mnemonic::Endbr64
                | Mnemonic::Loop
                | Mnemonic::Retf
                | Mnemonic::Rsm
                | Mnemonic::Iret
                | Mnemonic::Iretd
                | Mnemonic::Iretq
                | Mnemonic::Hlt
                | Mnemonic::Syscall
                | Mnemonic::Sysret
                | Mnemonic::Sysretq
                | Mnemonic::Sysenter
                | Mnemonic::Sysexit
                | Mnemonic::Sysexitq
                | Mnemonic::Loope
                | Mnemonic::Loopne
                | Mnemonic::Jrcxz
                | Mnemonic::Jecxz
        )
}

fn goes_on(instruction: &Instruction) -> bool {
    !matches!(
        instruction.flow_control(),
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Return
    )
}

/// The same instruction but for where it stands.
fn same(old: &Instruction, new: &Instruction) -> bool {
    let operands = |i: &Instruction| -> Vec<(OpKind, Register, u64)> {
        (0..i.op_count())
            .map(|op| match i.op_kind(op) {
                OpKind::Register => (OpKind::Register, i.op_register(op), 0),
                OpKind::Memory => (OpKind::Memory, Register::None, 0),
                kind => (kind, Register::None, i.immediate(op)),
            })
            .collect()
    };
    old.code() == new.code()
        && operands(old) == operands(new)
        && old.memory_base() == new.memory_base()
        && old.memory_index() == new.memory_index()
        && old.memory_index_scale() == new.memory_index_scale()
        && old.memory_displacement64() == new.memory_displacement64()
        && old.segment_prefix() == new.segment_prefix()
        && old.has_lock_prefix() == new.has_lock_prefix()
        && old.has_rep_prefix() == new.has_rep_prefix()
}

/// Reads one slot: why it does not do what the code did.
fn judge(case: &Case, length: usize, after: &[u16], slot: &[u8]) -> Result<(), String> {
    let old = decode(&case.code[..length], START);
    let new = decode(slot, SLOT);
    let mut new = new.iter();
    let mut next = || new.next().ok_or("the slot ends early");
    let mut last = None;
    for (row, old) in old.iter().enumerate() {
        // What follows a jump is padding, which the slot leaves out.
        if last.is_some_and(|i: &Instruction| !goes_on(i)) {
            break;
        }
        last = Some(old);
        if case.probed >> row & 1 == 1 {
            let push = next()?;
            if push.mnemonic() != Mnemonic::Push
                || push.immediate(0) != u64::from(FIRST_INDEX + row as u32)
            {
                return Err(format!("no index in front of {old}"));
            }
            if next()?.near_branch_target() != ENTRY {
                return Err(format!("no check in front of {old}"));
            }
            let lea = next()?;
            if lea.mnemonic() != Mnemonic::Lea || lea.memory_displacement64() != 8 {
                return Err(format!("the index stays on the stack at {old}"));
            }
        }
        let mut moved = next()?;
        let call = matches!(
            old.flow_control(),
            FlowControl::Call | FlowControl::IndirectCall
        );
        if call {
            if moved.mnemonic() != Mnemonic::Push || moved.immediate(0) != old.next_ip() {
                return Err(format!("{old} does not come back behind itself"));
            }
            moved = next()?;
        }
        let fits = match (old.flow_control(), moved.flow_control()) {
            (FlowControl::IndirectCall, FlowControl::IndirectBranch) => {
                old.memory_base() == moved.memory_base()
                    && old.memory_displacement64() == moved.memory_displacement64()
                    && old.op0_register() == moved.op0_register()
            }
            (
                FlowControl::Call | FlowControl::UnconditionalBranch,
                FlowControl::UnconditionalBranch,
            ) => old.near_branch_target() == moved.near_branch_target(),
            (FlowControl::ConditionalBranch, FlowControl::ConditionalBranch) => {
                old.near_branch_target() == moved.near_branch_target()
                    && old.condition_code() == moved.condition_code()
            }
            _ => same(old, moved),
        };
        if !fits {
            return Err(format!("{old} became {moved}"));
        }
        if SLOT + u64::from(after[row]) != moved.next_ip() {
            return Err(format!("behind {old} is not {:#x}", after[row]));
        }
    }
    if next()?.near_branch_target() != START + length as u64 {
        return Err("it does not go on behind the region".into());
    }
    match next() {
        Ok(more) => Err(format!("{more} follows")),
        Err(_) => Ok(()),
    }
}

/// Whether there has to be a slot: whole movable instructions up to what is needed, no call in their
/// middle, nothing but padding behind one that does not go on.
fn wanted(case: &Case) -> bool {
    let mut at = 0;
    let mut ended = false;
    for instruction in decode(&case.code, START) {
        let end = at + instruction.len();
        if at >= case.need as usize {
            return true;
        }
        if ended {
            let rest = &case.code[at..case.need as usize];
            return rest.iter().all(|b| matches!(b, 0x90 | 0xcc));
        }
        let call = matches!(
            instruction.flow_control(),
            FlowControl::Call | FlowControl::IndirectCall
        );
        if end > case.room as usize
            || !movable(&instruction, &case.code[at..])
            || call && end < case.need as usize
        {
            return false;
        }
        ended = !goes_on(&instruction);
        at = end;
    }
    true
}

/// Whether something in it is farther from the slot than a distance of four bytes reaches.
fn far(case: &Case) -> bool {
    decode(&case.code[..case.room as usize], START)
        .iter()
        .filter_map(|i| match i.op0_kind() {
            OpKind::NearBranch64 => Some(i.near_branch_target()),
            _ => i
                .is_ip_rel_memory_operand()
                .then(|| i.ip_rel_memory_address()),
        })
        .any(|target| target.wrapping_sub(SLOT).cast_signed().unsigned_abs() > (1 << 31) - 1024)
}

fn input(case: &Case) -> Vec<u8> {
    let mut input = Vec::new();
    input.extend(START.to_ne_bytes());
    input.extend(SLOT.to_ne_bytes());
    for number in [case.room, case.need, case.probed, 0] {
        input.extend(number.to_ne_bytes());
    }
    input.extend(&case.code);
    let mut fields = [[0; 20]; CODE];
    for instruction in decode(&case.code, START) {
        let at = (instruction.ip() - START) as usize;
        fields[at] = field(&instruction, &case.code[at..]);
    }
    input.extend(fields.concat());
    input
}

#[test]
fn a_slot_does_what_the_code_did() {
    const OUTPUT: usize = 4 + 4 + 2 * INSNS + SLOT_BYTES;
    let folder = tempfile::tempdir().unwrap();
    let entry = format!("-Wl,--defsym=otf_jump_entry={ENTRY:#x}");
    let options = ["-fno-pie", "-no-pie", "-mcmodel=large", &entry];
    let program = guard::compile("slot_main", &options, folder.path());
    let numbers = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::with_cases(1), numbers);
    let all = prop::collection::vec(cases(), 60_000);
    runner
        .run(&all, |cases| {
            let input: Vec<u8> = cases.iter().flat_map(input).collect();
            let output = guard::feed(&program, input);
            prop_assert_eq!(output.len(), OUTPUT * cases.len());
            let mut slots = 0;
            for (case, raw) in cases.iter().zip(output.chunks_exact(OUTPUT)) {
                let number = |at: usize| i32::from_ne_bytes(raw[at..at + 4].try_into().unwrap());
                let size = number(0);
                if size <= 0 {
                    prop_assert!(
                        !wanted(case) || far(case),
                        "no slot ({}) for {:02x?}",
                        size,
                        case
                    );
                    continue;
                }
                slots += 1;
                let after: Vec<u16> = raw[8..8 + 2 * INSNS]
                    .chunks(2)
                    .map(|b| u16::from_ne_bytes([b[0], b[1]]))
                    .collect();
                let slot = &raw[8 + 2 * INSNS..][..size as usize];
                let judged = judge(case, number(4) as usize, &after, slot);
                prop_assert!(
                    judged.is_ok(),
                    "{:?} for {:02x?}: {:02x?}",
                    judged,
                    case,
                    slot
                );
            }
            prop_assert!(slots > 4000, "only {} slots", slots);
            Ok(())
        })
        .unwrap();
}
