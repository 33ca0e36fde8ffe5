//! What a slot decides without a program, run on this machine, against what the rules say.

mod guard;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const SP: usize = 4;
const NO_REGISTER: u8 = 0xff;
const NOT_ABOVE: u32 = u32::MAX;
/// `THREAD_SIZE`, `OTF_WIDE_LINES` of the guard; `LINES` and the stack of the harness.
const STACK: u64 = 16384;
const WIDE: u64 = 16;
const LINES: usize = 64;
const STACKS: u64 = 0x1000_0000;
/// Flags that code can choose: CF, PF, AF, ZF, SF, OF.
const FLAGS: u64 = 0x8d5;
/// Bytes that stand below the stack pointer while it decides.
const PUSHED: u64 = 24;

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    start: u64,
    length: u64,
    object: u32,
    page: u32,
    sum: u64,
}

#[derive(Clone, Debug)]
struct Case {
    displacement: i32,
    size: u32,
    line: u32,
    wide: bool,
    frame: u32,
    above: u32,
    base: u8,
    index: u8,
    shift: u8,
    registers: [u64; 16],
    flags: u64,
    lines: Vec<Line>,
    generations: [u64; 16],
}

/// Addresses near each other, so that some ranges hold some of them.
fn lines() -> impl Strategy<Value = Vec<Line>> {
    let line = (0u64..0x8000, 0u64..0x3000, 0u32..16, 0u32..16, 0u64..6).prop_map(
        |(start, length, object, page, sum)| Line {
            start: 0xffff_8880_0000_0000 + start,
            length,
            object,
            page,
            sum,
        },
    );
    prop::collection::vec(line, LINES)
}

fn cases() -> impl Strategy<Value = Case> {
    let operand = (
        -0x200i32..0x200,
        prop_oneof![1u32..9, 1u32..300],
        prop_oneof![4 => 0u8..16, 1 => Just(NO_REGISTER)],
        prop_oneof![1 => 0u8..16, 2 => Just(NO_REGISTER)].prop_filter("no index", |i| *i != 4),
        0u8..4,
    );
    let rules = (
        prop_oneof![Just(0u32), 1u32..40],
        any::<bool>(),
        prop_oneof![Just(0u32), 8u32..0x300],
        prop_oneof![Just(NOT_ABOVE), Just(0), 0u32..0x300],
    );
    let value = prop_oneof![
        4 => (0u64..0x8000).prop_map(|v| 0xffff_8880_0000_0000 + v),
        3 => (0u64..0x10000).prop_map(|v| STACKS + 0x4000 + v),
        1 => 0u64..0x100,
        1 => any::<u64>(),
    ];
    let machine = (
        prop::array::uniform16(value),
        (0u64..0x2000).prop_map(|v| STACKS + 0x8000 + 8 * v),
        any::<u64>(),
        lines(),
        prop::array::uniform16(0u64..4),
    );
    (operand, rules, machine).prop_map(
        |(
            (displacement, size, base, index, shift),
            (line, wide, frame, above),
            (mut registers, sp, flags, lines, generations),
        )| {
            registers[SP] = sp;
            Case {
                displacement,
                size,
                line,
                wide: wide && line != 0,
                frame,
                above,
                base,
                index,
                shift,
                registers,
                flags: flags & FLAGS | 0x202,
                lines,
                generations,
            }
        },
    )
}

fn address(case: &Case) -> u64 {
    let value = |register: u8| case.registers.get(usize::from(register)).copied();
    let index = value(case.index).unwrap_or(0) << case.shift;
    value(case.base)
        .unwrap_or(0)
        .wrapping_add(index)
        .wrapping_add_signed(i64::from(case.displacement))
}

/// Whether the rules find a write legal without a program.
fn is_legal(case: &Case) -> bool {
    let at = address(case);
    let size = u64::from(case.size);
    let sp = case.registers[SP];
    let Some(end) = at.checked_add(size) else {
        return false;
    };
    let in_frame = at >= sp && end <= sp + u64::from(case.frame);
    // What is pushed lies on the same stack, or it is at its very end.
    let same_stack = (end - 1) / STACK == (sp - PUSHED) / STACK;
    let above = case.above != NOT_ABOVE && same_stack && at >= sp + u64::from(case.above);
    let row = match (case.line, case.wide) {
        (0, _) => return in_frame || above,
        (first, true) => u64::from(first) + (at >> 12) % WIDE,
        (row, false) => u64::from(row),
    };
    let line = case.lines[row as usize];
    let generation = |row: u32| case.generations[row as usize];
    let valid = generation(line.object).wrapping_add(generation(line.page)) == line.sum;
    let inside = at >= line.start && end - line.start <= line.length;
    in_frame || above || (valid && inside)
}

fn input(case: &Case) -> Vec<u8> {
    let mut input = Vec::new();
    input.extend(case.displacement.to_ne_bytes());
    let wide = u32::from(case.wide);
    for number in [case.size, case.line, wide, case.frame, case.above] {
        input.extend(number.to_ne_bytes());
    }
    input.extend([case.base, case.index, case.shift, 0, 0, 0, 0, 0]);
    for number in case.registers.iter().chain([&case.flags]) {
        input.extend(number.to_ne_bytes());
    }
    for line in &case.lines {
        input.extend(line.start.to_ne_bytes());
        input.extend(line.length.to_ne_bytes());
        input.extend(line.object.to_ne_bytes());
        input.extend(line.page.to_ne_bytes());
        input.extend(line.sum.to_ne_bytes());
    }
    for generation in case.generations {
        input.extend(generation.to_ne_bytes());
    }
    input
}

#[test]
fn a_slot_decides_by_the_rules_and_changes_nothing() {
    const OUTPUT: usize = 8 * (2 + 17);
    let folder = tempfile::tempdir().unwrap();
    let options = ["-fno-pie", "-no-pie", "-Wl,-Ttext-segment=0x40000000"];
    let program = guard::compile("quick_main", &options, folder.path());
    let numbers = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), numbers);
    let strategy = cases();
    let cases: Vec<Case> = (0..20_000)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .collect();
    let output = guard::feed(&program, cases.iter().flat_map(input).collect());
    assert_eq!(output.len(), OUTPUT * cases.len());
    let mut decided = [0; 2];
    for (case, raw) in cases.iter().zip(output.chunks_exact(OUTPUT)) {
        let words: Vec<u64> = raw
            .chunks(8)
            .map(|b| u64::from_ne_bytes(b.try_into().unwrap()))
            .collect();
        let legal = is_legal(case);
        let (asked, hits) = (u64::from(!legal), u64::from(legal));
        assert_eq!(
            (words[0], words[1]),
            (asked, hits),
            "asked, hits: {case:x?}"
        );
        assert_eq!(&words[2..18], &case.registers, "registers: {case:x?}");
        let flags = |value: u64| value & (FLAGS | 0x200);
        assert_eq!(flags(words[18]), flags(case.flags), "flags: {case:x?}");
        decided[usize::from(legal)] += 1;
    }
    assert!(decided.iter().all(|n| *n > 400), "{decided:?}");
}
