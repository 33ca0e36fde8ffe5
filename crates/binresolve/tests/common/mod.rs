//! Helpers of the tests: compiling snippets, a small analysis, an independent disassembler.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses a part of this module, which is not marked as a test"
)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use otf_artifact::{
    FORMAT_VERSION,
    analysis::{Analysis, Global, LegalSet, StackRule},
    ids::{GlobalId, LegalSetId},
    sites::{Site, SiteKind, Sites},
};
use otf_binresolve::{ImageInput, resolve};

/// An analysis that knows nothing but one wide set for the compartment.
pub fn empty_analysis() -> Analysis {
    Analysis {
        version: FORMAT_VERSION,
        kernel: "test".into(),
        compartment: "test".into(),
        types: Vec::new(),
        globals: Vec::new(),
        allocation_sites: Vec::new(),
        legal_sets: vec![LegalSet {
            stack: StackRule::Any,
            any_heap: Some("test".into()),
            ..LegalSet::default()
        }],
        functions: Vec::new(),
        gates: Vec::new(),
        compartment_set: LegalSetId(0),
        diagnostics: Vec::new(),
    }
}

/// Adds a legal set with one global, so that sets can be told apart.
pub fn distinct_set(analysis: &mut Analysis) -> LegalSetId {
    let id = GlobalId::from(analysis.globals.len());
    analysis.globals.push(Global {
        image: "test".into(),
        symbol: format!("mark{}", id.0),
        file: String::new(),
        size: 8,
        per_cpu: false,
    });
    analysis.legal_sets.push(LegalSet {
        globals: vec![id],
        ..LegalSet::default()
    });
    LegalSetId::from(analysis.legal_sets.len() - 1)
}

pub fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Options that make code look like a kernel module's.
const KERNEL_LIKE: &[&str] = &[
    "-O2",
    "-g",
    "-ffreestanding",
    "-fno-pic",
    "-fno-pie",
    "-mcmodel=kernel",
    "-mno-red-zone",
    "-mno-sse",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none",
    "-mfentry",
    "-pg",
    "-w",
];

/// Compiles a file (`.c`, `.S`) into an object beside it; names in DWARF are relative.
pub fn compile(compiler: &str, directory: &Path, source: &str, options: &[&str]) -> PathBuf {
    let object = directory.join(format!("{source}.{compiler}.o"));
    let mut command = Command::new(compiler);
    command.current_dir(directory).args(KERNEL_LIKE);
    if compiler == "gcc" {
        command.arg("-mrecord-mcount");
    }
    command.args(options).arg("-c").arg(source).arg("-o");
    run(command.arg(&object));
    object
}

/// Resolves one file as a confined module called `test`.
pub fn resolve_file(analysis: &Analysis, object: &Path) -> Sites {
    let bytes = std::fs::read(object).unwrap();
    let input = ImageInput {
        name: "test",
        file: "test.ko",
        bytes: &bytes,
        confined: true,
    };
    resolve(analysis, &[input]).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// Sites that are instructions, not calls.
pub fn stores(sites: &Sites) -> impl Iterator<Item = &Site> {
    sites.sites.iter().filter(|s| s.kind != SiteKind::BulkCall)
}

const PREFIXES: [&str; 10] = [
    "lock", "rep", "repe", "repne", "notrack", "data16", "cs", "ds", "es", "addr32",
];

/// Memory-writing instructions by (section, offset), as llvm-objdump prints them: nothing here is
/// shared with the resolver.
pub fn disassembled_writes(object: &Path) -> BTreeMap<(String, u64), String> {
    let text = run(Command::new("llvm-objdump-19")
        .args(["-d", "--no-show-raw-insn", "--no-leading-headers"])
        .arg(object));
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

/// Whether an instruction in AT&T syntax writes memory, judged by its text.
pub fn att_writes_memory(instruction: &str) -> bool {
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

/// Fails with the differences between the sites and what the disassembler prints.
pub fn assert_same_writes(sites: &Sites, object: &Path) {
    let expected = disassembled_writes(object);
    let found: BTreeMap<(String, u64), String> = stores(sites)
        .map(|s| {
            let place = (s.location.section.clone(), s.location.offset);
            (place, s.text.clone())
        })
        .collect();
    let missing: Vec<_> = expected
        .iter()
        .filter(|(k, _)| !found.contains_key(*k))
        .collect();
    let surplus: Vec<_> = found
        .iter()
        .filter(|(k, _)| !expected.contains_key(*k))
        .collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing: {missing:#?}\nsurplus: {surplus:#?}"
    );
    assert_eq!(stores(sites).count(), expected.len());
}
