//! Claims that a site needs no probe, held against executions: small random functions are assembled,
//! resolved, and then run by an interpreter of the instructions that they were made of.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are not marked as tests"
)]

mod common;

use std::{collections::BTreeMap, fmt::Write};

use otf_artifact::{
    covered::Cover,
    ids::SiteId,
    sites::{Length, Site, Sites},
};

/// Registers, as 64 and 32 bits; the first [`KEPT`] survive a call.
const REGISTERS: [(&str, &str); 8] = [
    ("%rbx", "%ebx"),
    ("%r12", "%r12d"),
    ("%rbp", "%ebp"),
    ("%rax", "%eax"),
    ("%rcx", "%ecx"),
    ("%rdi", "%edi"),
    ("%rsi", "%esi"),
    ("%r8", "%r8d"),
];
const KEPT: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Copy(usize, usize),
    CopyLow(usize, usize),
    Add(usize, i64),
    Lea(usize, usize, i64),
    Load(usize, usize),
    Swap(usize, usize),
    Store { base: usize, at: i64, bytes: u32 },
    Indexed { base: usize, index: usize, at: i64 },
    Exchange { base: usize, with: usize, at: i64 },
    Call,
    Trap,
    Push,
    Jump(usize),
    Branch(usize),
    Return,
}

/// Numbers without a pattern, the same on every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 20) as usize % end
    }
}

/// A function: blocks of steps.
fn function(dice: &mut Dice) -> Vec<Vec<Step>> {
    let count = 1 + dice.below(6);
    (0..count)
        .map(|_| {
            let mut steps: Vec<Step> = (0..dice.below(7)).map(|_| step(dice)).collect();
            if dice.below(2) == 0 {
                steps.push(Step::Branch(dice.below(count)));
            }
            steps.push(match dice.below(4) {
                0 => Step::Return,
                _ => Step::Jump(dice.below(count)),
            });
            steps
        })
        .collect()
}

fn step(dice: &mut Dice) -> Step {
    // Few registers and places, so that facts meet.
    let a = dice.below(4);
    let b = dice.below(REGISTERS.len());
    let at = 8 * dice.below(5) as i64;
    match dice.below(32) {
        0 => Step::Copy(a, b),
        1 => Step::CopyLow(a, b),
        2 => Step::Add(a, at - 16),
        3 => Step::Lea(b, a, at - 16),
        4 => Step::Load(b, a),
        5 => Step::Swap(a, b),
        6 => Step::Indexed {
            base: a,
            index: b,
            at,
        },
        7 => Step::Exchange {
            base: a,
            with: b,
            at,
        },
        8 => Step::Call,
        9 => Step::Trap,
        10 => Step::Push,
        n => Step::Store {
            base: a,
            at,
            bytes: if n % 3 == 0 { 4 } else { 8 },
        },
    }
}

fn assembly(functions: &[Vec<Vec<Step>>]) -> String {
    let mut text = String::from(".text\n");
    for (number, blocks) in functions.iter().enumerate() {
        writeln!(
            text,
            ".globl f{number}\n.type f{number}, @function\nf{number}:"
        )
        .unwrap();
        writeln!(text, "77: call __fentry__").unwrap();
        writeln!(
            text,
            ".pushsection __mcount_loc, \"a\"\n.quad 77b\n.popsection"
        )
        .unwrap();
        for (block, steps) in blocks.iter().enumerate() {
            writeln!(text, ".Lb{number}_{block}:").unwrap();
            for step in steps {
                line(&mut text, number, *step);
            }
        }
        writeln!(text, ".size f{number}, .-f{number}").unwrap();
    }
    text
}

fn line(text: &mut String, function: usize, step: Step) {
    let r = |n: usize| REGISTERS[n].0;
    let low = |n: usize| REGISTERS[n].1;
    match step {
        Step::Copy(to, from) => writeln!(text, "movq {}, {}", r(from), r(to)),
        Step::CopyLow(to, from) => writeln!(text, "movl {}, {}", low(from), low(to)),
        Step::Add(to, by) => writeln!(text, "addq ${by}, {}", r(to)),
        Step::Lea(to, from, by) => writeln!(text, "leaq {by}({}), {}", r(from), r(to)),
        Step::Load(to, from) => writeln!(text, "movq 8({}), {}", r(from), r(to)),
        Step::Swap(a, b) => writeln!(text, "xchgq {}, {}", r(a), r(b)),
        Step::Store { base, at, bytes: 4 } => writeln!(text, "movl %edx, {at}({})", r(base)),
        Step::Store { base, at, .. } => writeln!(text, "movq %rdx, {at}({})", r(base)),
        Step::Indexed { base, index, at } => {
            writeln!(text, "movq %rdx, {at}({}, {}, 4)", r(base), r(index))
        }
        Step::Exchange { base, with, at } => {
            writeln!(text, "xchgq {}, {at}({})", r(with), r(base))
        }
        Step::Call => writeln!(text, "call elsewhere"),
        Step::Trap => writeln!(text, "ud2"),
        Step::Push => writeln!(text, "pushq %rdx"),
        Step::Jump(block) => writeln!(text, "jmp .Lb{function}_{block}"),
        Step::Branch(block) => writeln!(text, "jne .Lb{function}_{block}"),
        Step::Return => writeln!(text, "ret"),
    }
    .unwrap();
}

/// What a function stored at last, by the number of the store, and in which stretch without a call.
#[derive(Default)]
struct Trace {
    last: BTreeMap<usize, (u64, u64)>,
    stretch: u64,
}

/// Runs a function; `stored` sees each store before it is noted.
fn run(blocks: &[Vec<Step>], dice: &mut Dice, mut stored: impl FnMut(usize, u64, &Trace)) {
    let mut first = Vec::new();
    let mut count = 0;
    for block in blocks {
        first.push(count);
        count += block.iter().filter(|s| is_store(**s)).count();
    }
    let mut registers: [u64; REGISTERS.len()] = std::array::from_fn(|_| dice.next());
    let mut trace = Trace::default();
    let (mut block, mut at, mut number) = (0, 0, 0);
    for _ in 0..300 {
        let mut address = None;
        let step = blocks[block][at];
        at += 1;
        match step {
            Step::Copy(to, from) => registers[to] = registers[from],
            Step::CopyLow(to, from) => registers[to] = registers[from] & 0xffff_ffff,
            Step::Add(to, by) => registers[to] = registers[to].wrapping_add_signed(by),
            Step::Lea(to, from, by) => registers[to] = registers[from].wrapping_add_signed(by),
            Step::Load(to, _) => registers[to] = dice.next(),
            Step::Swap(a, b) => registers.swap(a, b),
            Step::Store { base, at, .. } => address = Some(registers[base].wrapping_add_signed(at)),
            Step::Indexed { base, index, at } => {
                let index = registers[index].wrapping_mul(4);
                address = Some(registers[base].wrapping_add(index).wrapping_add_signed(at));
            }
            Step::Exchange { base, at, .. } => {
                address = Some(registers[base].wrapping_add_signed(at));
            }
            Step::Call | Step::Trap => {
                trace.stretch += 1;
                for register in &mut registers[KEPT..] {
                    *register = dice.next();
                }
            }
            Step::Push => {}
            Step::Jump(to) => (block, at, number) = (to, 0, first[to]),
            Step::Branch(to) => {
                if dice.below(2) == 0 {
                    (block, at, number) = (to, 0, first[to]);
                }
            }
            Step::Return => return,
        }
        if let Some(address) = address {
            stored(number, address, &trace);
            trace.last.insert(number, (address, trace.stretch));
            number += 1;
        }
        if let Step::Exchange { with, .. } = step {
            registers[with] = dice.next();
        }
    }
}

fn is_store(step: Step) -> bool {
    matches!(
        step,
        Step::Store { .. } | Step::Indexed { .. } | Step::Exchange { .. }
    )
}

fn resolved(functions: &[Vec<Vec<Step>>]) -> Sites {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("t.S"), assembly(functions)).unwrap();
    let object = common::compile("gcc", directory.path(), "t.S", &[]);
    common::resolve_file(&common::empty_analysis(), &object)
}

fn bytes(site: &Site) -> i64 {
    match site.length {
        Length::Constant(bytes) => i64::from(bytes),
        Length::Register(..) => panic!("no such store is made"),
    }
}

#[test]
fn a_covered_store_is_always_preceded_by_its_check() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let functions: Vec<_> = (0..400).map(|_| function(&mut dice)).collect();
    let sites = resolved(&functions);
    let (mut claims, mut executed) = (0, 0);
    for (number, blocks) in functions.iter().enumerate() {
        let name = format!("f{number}");
        let mine: Vec<usize> = (0..sites.sites.len())
            .filter(|row| sites.sites[*row].location.symbol == name)
            .collect();
        let expected = blocks.iter().flatten().filter(|s| is_store(**s)).count();
        assert_eq!(mine.len(), expected, "{name}");
        let store_of = |id: SiteId| mine.iter().position(|row| *row == id.index()).unwrap();
        claims += mine
            .iter()
            .filter(|r| sites.sites[**r].covered.is_some())
            .count();
        for _ in 0..30 {
            run(blocks, &mut dice, |store, address, trace| {
                let site = &sites.sites[mine[store]];
                let Some(Cover::Check {
                    by,
                    distance,
                    joined,
                    ..
                }) = &site.covered
                else {
                    assert_eq!(site.covered, None);
                    return;
                };
                let leader = sites.site(*by);
                assert_eq!(leader.covered, None, "{name} `{}`", leader.text);
                let place = format!("{name} {blocks:?}: `{}` by `{}`", site.text, leader.text);
                let last = trace.last.get(&store_of(*by));
                let (checked, stretch) = last.unwrap_or_else(|| panic!("not checked: {place}"));
                assert_eq!(*stretch, trace.stretch, "a call between: {place}");
                assert_eq!(address, checked.wrapping_add_signed(*distance), "{place}");
                let inside = 0 <= *distance && distance + bytes(site) <= bytes(leader);
                assert!(*joined || inside, "{place}");
                executed += 1;
            });
        }
    }
    // The test must have something to look at.
    assert!(
        claims > 200 && executed > 2000,
        "{claims} claims, {executed} executions"
    );
}

/// What covers the stores of a function, in order: `-` or the number of the store that does.
fn covers(code: &str) -> String {
    let text = format!(
        ".text\n.globl f\n.type f, @function\nf:\n77: call __fentry__\n{code}\n.size f, .-f\n\
         .section __mcount_loc, \"a\"\n.quad 77b\n"
    );
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("t.S"), text).unwrap();
    let object = common::compile("gcc", directory.path(), "t.S", &[]);
    let sites = common::resolve_file(&common::empty_analysis(), &object);
    let words = sites.sites.iter().map(|site| match &site.covered {
        Some(Cover::Check { by, .. }) => by.0.to_string(),
        Some(other) => format!("{other:?}"),
        None => "-".to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_ends_a_region() {
    const CASES: &[(&str, &str)] = &[
        ("movq %rax, (%rbx); movl %eax, 4(%rbx); ret", "- 0"),
        ("movq %rax, (%rbx); call g; movl %eax, 4(%rbx); ret", "- -"),
        ("movq %rax, (%rbx); int3; movl %eax, 4(%rbx); ret", "- -"),
        ("movq %rax, (%rbx); sti; movl %eax, 4(%rbx); ret", "- -"),
        (
            "movq %rax, (%rbx); movl %ebx, %ebx; movl %eax, 4(%rbx); ret",
            "- -",
        ),
        (
            "movq %rax, (%rbx); movq %rbx, %rcx; movl %eax, 4(%rcx); ret",
            "- 0",
        ),
        // Not on every path.
        (
            "je 1f; movq %rax, (%rbx); 1: movl %eax, 4(%rbx); ret",
            "- -",
        ),
        (
            "je 1f; movq %rax, (%rbx); 1: movq %rax, (%rbx); movl %eax, (%rbx); ret",
            "- - 1",
        ),
        // A symbol can be called.
        (
            "movq %rax, (%rbx); .globl h; h: movl %eax, 4(%rbx); ret",
            "- -",
        ),
        // A fault that is fixed up comes from before.
        (
            "1: movq %rax, (%rbx); 2: movl %eax, 4(%rbx); ret\n\
             .pushsection __ex_table, \"a\"\n.long 1b-., 2b-., 0\n.popsection",
            "- -",
        ),
        // Jump tables lead to unknown places.
        (
            "pushq %rax; movq %rax, (%rbx); movl %eax, 4(%rbx); jmp *%rcx",
            "- -",
        ),
        // Each is only as good as where it ends: no chain.
        (
            "movq %rax, (%rbx); movq %rax, 8(%rbx); movq %rax, 16(%rbx); ret",
            "- 0 0",
        ),
        // The second one need not run: it is not checked in advance.
        (
            "movq %rax, (%rbx); je 1f; movq %rax, 8(%rbx); 1: ret",
            "- -",
        ),
    ];
    for (code, expected) in CASES {
        assert_eq!(covers(code), *expected, "{code}");
    }
}
