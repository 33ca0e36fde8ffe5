//! The guard's plain stores against an independent decoder: same instruction, same address, same value.

mod guard;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const IP: u64 = 0xffff_ffff_8123_4567;
const REGISTERS: [Register; 16] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RBX,
    Register::RSP,
    Register::RBP,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

#[derive(Clone, Debug)]
struct Case {
    code: [u8; 16],
    registers: [u64; 16],
}

/// What an instruction stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Store {
    next: u64,
    at: u64,
    value: u64,
    size: u64,
}

/// Instructions that are stores more often than not, and rubbish.
fn cases() -> impl Strategy<Value = Case> {
    let prefixes = prop::sample::subsequence(vec![0x66u8, 0x67, 0x65, 0xf0, 0xf3], 0..2);
    let rex = prop::option::of(0x40u8..0x50);
    let opcode = prop_oneof![
        8 => prop::sample::select(vec![0x88u8, 0x89, 0xc6, 0xc7]),
        1 => any::<u8>(),
    ];
    (prefixes, rex, opcode, any::<[u8; 12]>(), any::<[u64; 16]>()).prop_map(
        |(prefixes, rex, opcode, rest, registers)| {
            let mut code = prefixes;
            code.extend(rex);
            code.push(opcode);
            code.extend(rest);
            code.resize(16, 0x90);
            let code = code.try_into().unwrap_or([0x90; 16]);
            Case { code, registers }
        },
    )
}

/// The value of a register or a part of it.
fn register(case: &Case, register: Register) -> u64 {
    let full = register.full_register();
    let value = REGISTERS
        .iter()
        .position(|r| *r == full)
        .map_or(0, |i| case.registers[i]);
    match register {
        Register::AH | Register::CH | Register::DH | Register::BH => value >> 8 & 0xff,
        part if part.size() < 8 => value & ((1 << (8 * part.size())) - 1),
        _ => value,
    }
}

/// What the independent decoder says; `None` when it is no store that the guard does.
fn expected(case: &Case) -> Option<Store> {
    let mut decoder = Decoder::with_ip(64, &case.code, IP, DecoderOptions::NONE);
    let instruction: Instruction = decoder.decode();
    let code = instruction.code();
    let plain = instruction.mnemonic() == Mnemonic::Mov
        && matches!(
            code,
            Code::Mov_rm8_r8
                | Code::Mov_rm16_r16
                | Code::Mov_rm32_r32
                | Code::Mov_rm64_r64
                | Code::Mov_rm8_imm8
                | Code::Mov_rm16_imm16
                | Code::Mov_rm32_imm32
                | Code::Mov_rm64_imm32
        )
        && instruction.op0_kind() == OpKind::Memory;
    if !plain {
        return None;
    }
    let size = instruction.memory_size().size() as u64;
    let value = match instruction.op1_kind() {
        OpKind::Register => register(case, instruction.op1_register()),
        _ => instruction.immediate(1),
    };
    let at = instruction.virtual_address(0, 0, |r, _, _| {
        Some(if r.is_segment_register() {
            0
        } else {
            register(case, r)
        })
    })?;
    Some(Store {
        next: instruction.next_ip(),
        at,
        value: if size == 8 {
            value
        } else {
            value & ((1 << (8 * size)) - 1)
        },
        size,
    })
}

/// Redundant and odd prefixes are left to the kernel.
fn unusual(case: &Case) -> bool {
    let mut legacy = case.code.iter().take_while(|b| {
        matches!(
            b,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3
        )
    });
    let opcode = &case.code[legacy.clone().count()..];
    // Of two REX prefixes only the last counts.
    let twice = opcode.iter().take(2).all(|b| b & 0xf0 == 0x40);
    twice || legacy.clone().any(|b| *b != 0x66) || legacy.nth(1).is_some()
}

/// Addresses below the kernel's, and the exception's own frames below the stack pointer.
fn left_to_the_cpu(case: &Case, store: &Store) -> bool {
    let below = register(case, Register::RSP).wrapping_sub(store.at);
    store.at < 1 << 63
        || store.at.checked_add(store.size).is_none()
        || (1..16384 + store.size).contains(&below)
}

#[test]
fn the_guard_stores_what_the_instruction_would() {
    let folder = tempfile::tempdir().unwrap();
    let options = [
        "-fsanitize=undefined",
        "-fno-sanitize=alignment",
        "-fno-sanitize-recover=undefined",
    ];
    let program = guard::compile("plain_store_main", &options, folder.path());
    let mut runner = TestRunner::new(Config::with_cases(1));
    let all = prop::collection::vec(cases(), 20_000);
    runner
        .run(&all, |cases| {
            let mut input = Vec::new();
            for case in &cases {
                input.extend(case.code);
                case.registers
                    .iter()
                    .for_each(|r| input.extend(r.to_ne_bytes()));
                input.extend(IP.to_ne_bytes());
            }
            let output = guard::feed(&program, input);
            let mut stores = 0;
            for (case, raw) in cases.iter().zip(output.chunks_exact(40)) {
                let word = |i: usize| u64::from_ne_bytes(raw[8 * i..8 * i + 8].try_into().unwrap());
                let found = (word(0) == 1).then(|| Store {
                    next: word(1),
                    at: word(2),
                    value: word(3),
                    size: word(4),
                });
                match (found, expected(case)) {
                    (Some(found), wanted) => {
                        stores += 1;
                        prop_assert!(!left_to_the_cpu(case, &found), "{:02x?}", case.code);
                        prop_assert_eq!(Some(found), wanted, "{:02x?}", case.code);
                    }
                    (None, Some(wanted)) if !left_to_the_cpu(case, &wanted) => {
                        prop_assert!(unusual(case), "left out: {:02x?}", case.code);
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(output.len(), 40 * cases.len());
            prop_assert!(stores > 1000, "only {} were stores", stores);
            Ok(())
        })
        .unwrap();
}
