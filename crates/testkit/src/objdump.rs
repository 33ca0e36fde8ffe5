//! Memory-writing instructions as `llvm-objdump` prints them.

use std::{collections::BTreeMap, path::Path, process::Command};

const PREFIXES: [&str; 10] = [
    "lock", "rep", "repe", "repne", "notrack", "data16", "cs", "ds", "es", "addr32",
];

/// Memory-writing instructions by (section, offset), as llvm-objdump prints them: nothing here is
/// shared with the resolver. Panics where there is no `llvm-objdump-19`, or it cannot read the file.
pub fn writes(object: &Path) -> BTreeMap<(String, u64), String> {
    read(&printed(object, &[]))
}

/// The same for `[start, end)` of a linked image.
pub fn writes_between(object: &Path, start: u64, end: u64) -> BTreeMap<(String, u64), String> {
    let range = [
        format!("--start-address={start:#x}"),
        format!("--stop-address={end:#x}"),
    ];
    read(&printed(object, &range))
}

fn read(text: &str) -> BTreeMap<(String, u64), String> {
    let mut section = String::new();
    // A prefix may stand on a line of its own: the instruction starts there.
    let mut prefix = None;
    let mut writes = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("Disassembly of section ") {
            name.trim_end_matches(':').clone_into(&mut section);
        } else if let Some((address, instruction)) = line.split_once(':')
            && let Ok(offset) = u64::from_str_radix(address.trim(), 16)
        {
            let start = prefix.take().unwrap_or(offset);
            if PREFIXES.contains(&instruction.trim()) {
                prefix = Some(start);
            } else if att_writes_memory(instruction) {
                writes.insert((section.clone(), start), instruction.trim().to_owned());
            }
        }
    }
    writes
}

fn printed(object: &Path, options: &[String]) -> String {
    let mut command = Command::new("llvm-objdump-19");
    command.args(["-d", "--no-show-raw-insn", "--no-leading-headers"]);
    command.args(options);
    let output = command
        .arg(object)
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {words}");
    String::from_utf8(output.stdout).expect("a disassembly is text")
}

/// Whether an instruction in AT&T syntax writes memory, judged by its text.
fn att_writes_memory(instruction: &str) -> bool {
    let instruction = instruction.split(['#', '<']).next().unwrap_or_default();
    let mut words = instruction
        .split_whitespace()
        .skip_while(|word| PREFIXES.contains(word));
    let Some(mnemonic) = words.next() else {
        return false;
    };
    let operands = split_operands(&words.collect::<Vec<_>>().join(" "));
    let reads_only = [
        "nop", "lea", "test", "push", "call", "jmp", "prefetch", "clflush", "clwb", "cldemote",
        "mul", "imul", "div", "idiv", "lgdt", "lidt", "lldt", "ltr", "lmsw", "ver", "invl", "invp",
        "ldmxcsr", "fxrstor", "xrstor", "fld", "fild", "fadd", "fsub", "fmul", "fdiv", "fcom",
        "vmptrld", "vmclear", "vmxon", "out", "ptwrite", "scas", "lods", "cmps", "mulx", "ret",
        "ud", "j",
    ];
    let compares = mnemonic.starts_with("cmp") && !mnemonic.starts_with("cmpxchg");
    let bit_test = ["bt", "btw", "btl", "btq"].contains(&mnemonic);
    if compares || bit_test || reads_only.iter().any(|m| mnemonic.starts_with(m)) {
        return false;
    }
    if mnemonic.starts_with("maskmov") || mnemonic.starts_with("clzero") {
        return true;
    }
    if mnemonic.starts_with("xchg") {
        return operands.iter().any(|operand| is_memory(operand));
    }
    operands.last().is_some_and(|operand| is_memory(operand))
}

fn is_memory(operand: &str) -> bool {
    let segment = ["%gs:", "%fs:", "%es:", "%ds:"]
        .iter()
        .any(|s| operand.starts_with(s));
    segment || operand.contains('(') || !operand.starts_with(['%', '$', '*'])
}

fn split_operands(text: &str) -> Vec<String> {
    let mut operands = vec![String::new()];
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                operands.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = operands.last_mut() {
            last.push(c);
        }
    }
    operands.retain_mut(|operand| {
        *operand = operand.trim().to_owned();
        !operand.is_empty()
    });
    operands
}
