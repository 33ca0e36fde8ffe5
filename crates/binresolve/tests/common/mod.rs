//! Helpers of the tests: compiling snippets, a small analysis, comparison with another disassembler.
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
use otf_binresolve::{ImageInput, extent::Confinement, resolve};
use otf_testkit::objdump;

/// An analysis that knows nothing but one wide set for the compartment.
pub fn empty_analysis() -> Analysis {
    Analysis {
        targets: Vec::new(),
        target_sets: Vec::new(),
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
        confined: Confinement::Whole,
        exact: &[],
    };
    resolve(analysis, &[input]).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// Sites that are instructions, not calls.
pub fn stores(sites: &Sites) -> impl Iterator<Item = &Site> {
    sites.sites.iter().filter(|s| s.kind != SiteKind::BulkCall)
}

/// Fails with the differences between the sites and what the disassembler prints.
pub fn assert_same_writes(sites: &Sites, object: &Path) {
    let expected = objdump::writes(object);
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
