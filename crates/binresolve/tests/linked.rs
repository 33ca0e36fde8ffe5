//! Linked images like `vmlinux`, of which some source files are confined.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are not marked as tests"
)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use otf_artifact::{
    analysis::{Analysis, CallTarget, Function, IndirectCall, TargetSet},
    diagnostic::{Code, Diagnostic},
    ids::{TargetId, TargetSetId},
    sites::{CallThrough, Coverage, Precision, Sites},
};
use otf_binresolve::{ImageInput, extent::Confinement, resolve};
use proptest::prelude::*;
use tempfile::TempDir;

/// Confined: hot, cold and init code, an inline function, indirect calls.
const INSIDE: &str = "
#include \"shared.h\"
__attribute__((noinline)) static int same(int *p) { *p = 1; return *p; }
int (*hook)(int *) = same;
__attribute__((cold)) void rare(int *p) { *p = 2; }
__attribute__((section(\".init.text\"))) void setup(int *p) { *p = 3; }
void inside(int *p, int n) { put(p + n); if (n > 4) rare(p); }
int through(int *p) {
	return hook(p) + 1; }
void tail(int *p) {
	hook(p); }
";
/// Not confined, with a function of the same name.
const OUTSIDE: &str = "
#include \"shared.h\"
__attribute__((noinline)) static int same(int *p) { *p = 5; return *p; }
int (*other_hook)(int *) = same;
void outside(int *p, int n) { put(p + 2 * n); }
";
const SHARED: &str = "static inline void put(int *p) { *p = 7; }\n";
const THUNKS: &str = "
.macro THUNK reg
.globl __x86_indirect_thunk_\\reg
.type __x86_indirect_thunk_\\reg,@function
__x86_indirect_thunk_\\reg: jmp *%\\reg
.size __x86_indirect_thunk_\\reg,.-__x86_indirect_thunk_\\reg
.endm
.section .text.unlikely,\"ax\"
.globl _text
_text: nop
.text
.irp reg, rax,rbx,rcx,rdx,rsi,rdi,rbp,r8,r9,r10,r11,r12,r13,r14,r15
THUNK \\reg
.endr
.globl __x86_return_thunk
.type __x86_return_thunk,@function
__x86_return_thunk: ret
.size __x86_return_thunk,.-__x86_return_thunk
.globl __fentry__
__fentry__: ret
";

fn build(compiler: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("inside.c", INSIDE),
        ("outside.c", OUTSIDE),
        ("shared.h", SHARED),
        ("thunks.S", THUNKS),
    ] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let thunks: &[&str] = if compiler == "gcc" {
        &[
            "-mindirect-branch=thunk-extern",
            "-mfunction-return=thunk-extern",
        ]
    } else {
        &[
            "-mretpoline-external-thunk",
            "-mfunction-return=thunk-extern",
        ]
    };
    let objects = ["thunks.S", "inside.c", "outside.c"]
        .map(|source| common::compile(compiler, directory.path(), source, thunks));
    let image = directory.path().join("vmlinux");
    let mut command = Command::new("ld");
    command
        .args([
            "-Ttext=0xffffffff81000000",
            "-e",
            "_text",
            "-z",
            "noexecstack",
            "--build-id",
            "-o",
        ])
        .arg(&image)
        .args(objects);
    common::run(&mut command);
    (directory, image)
}

fn analysis() -> Analysis {
    let call = |line| IndirectCall {
        line,
        column: 0,
        through: "hook".into(),
        targets: TargetSetId(0),
    };
    let function = |name: &str, line| Function {
        file: "inside.c".into(),
        name: name.into(),
        line,
        writes: Vec::new(),
        calls: Vec::new(),
        indirect_calls: vec![call(line + 1)],
    };
    let target = |file: &str| CallTarget {
        image: "vmlinux".into(),
        symbol: "same".into(),
        file: file.into(),
    };
    let set = |targets: &[u32]| TargetSet {
        targets: targets.iter().map(|t| TargetId(*t)).collect(),
        any: None,
    };
    Analysis {
        functions: vec![function("tail", 10), function("through", 8)],
        targets: vec![target("inside.c"), target("outside.c")],
        target_sets: vec![set(&[0])],
        ..common::empty_analysis()
    }
}

fn resolved(bytes: &[u8], files: &[&str]) -> Result<Sites, Vec<Diagnostic>> {
    let files: BTreeSet<String> = files.iter().map(|f| (*f).to_owned()).collect();
    let input = ImageInput {
        name: "vmlinux",
        file: "vmlinux",
        bytes,
        confined: Confinement::Files(&files),
        exact: &[],
    };
    resolve(&analysis(), &[input])
}

fn refused(path: &Path, files: &[&str]) -> String {
    let problems = resolved(&std::fs::read(path).unwrap(), files).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].code, Code::BadImage);
    problems[0].message.clone()
}

/// The image after `objcopy`.
fn copied(directory: &Path, image: &Path, options: &[&str]) -> PathBuf {
    let target = directory.join("copy");
    common::run(
        Command::new("objcopy")
            .args(options)
            .arg(image)
            .arg(&target),
    );
    target
}

#[test]
fn only_and_all_code_of_the_confined_file() {
    for compiler in ["gcc", "clang-19"] {
        let (_directory, image) = build(compiler);
        let sites = resolved(&std::fs::read(&image).unwrap(), &["inside.c"]).unwrap();
        let mut functions: Vec<&str> = sites
            .sites
            .iter()
            .map(|s| s.location.symbol.as_str())
            .collect();
        functions.dedup();
        functions.sort_unstable();
        let names: BTreeSet<&str> = functions
            .iter()
            .map(|name| name.split('.').next().unwrap())
            .collect();
        let expected = BTreeSet::from(["inside", "rare", "same", "setup"]);
        assert_eq!(names, expected, "{compiler}");
        let setup = sites.sites.iter().find(|s| s.location.symbol == "setup");
        let Coverage::Unprobable(reason) = &setup.unwrap().coverage else {
            panic!("{compiler}: init code is probed");
        };
        assert!(reason.starts_with("freed after boot"), "{reason}");
        let text = &sites.images[0].text;
        assert!(text.iter().any(|t| t.name == ".init.text"), "{text:?}");
        let own: Vec<_> = text.iter().filter(|t| t.name == ".text").collect();
        assert!(
            own.iter().all(|t| t.offset > 0),
            "the thunks are not ours: {own:?}"
        );
    }
}

#[test]
fn indirect_calls_and_returns() {
    for compiler in ["gcc", "clang-19"] {
        let (_directory, image) = build(compiler);
        let sites = resolved(&std::fs::read(&image).unwrap(), &["inside.c"]).unwrap();
        assert_eq!(sites.calls.len(), 2, "{compiler}: {:#?}", sites.calls);
        for call in &sites.calls {
            assert_eq!(call.jump, call.location.symbol == "tail", "{compiler}");
            assert!(
                call.thunk
                    .as_ref()
                    .unwrap()
                    .starts_with("__x86_indirect_thunk_r")
            );
            assert!(matches!(call.through, CallThrough::Register(_)));
            assert_eq!(
                call.precision,
                Precision::Instruction,
                "{compiler}: {call:?}"
            );
            assert_eq!(call.targets, TargetSetId(0));
        }
        assert!(!sites.returns.is_empty());
        assert!(sites.returns.iter().all(|r| r.thunk), "{compiler}");
        // Each `same` is the one of its own file.
        let mut found: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
        for symbol in &sites.target_symbols {
            found
                .entry(symbol.target.0)
                .or_default()
                .insert(symbol.location.offset);
        }
        assert_eq!(found.len(), 2, "{compiler}");
        assert!(
            found.values().all(|places| places.len() == 1),
            "{compiler}: {found:?}"
        );
        assert!(found[&0] != found[&1]);
        let text = &sites.images[0].text;
        let inside = |at: &u64| {
            text.iter()
                .any(|t| (t.offset..t.offset + t.size).contains(at))
        };
        assert!(found[&0].iter().all(inside) && !found[&1].iter().any(inside));
    }
}

#[test]
fn what_cannot_be_resolved_says_why() {
    let (directory, image) = build("gcc");
    let message = refused(&image, &["elsewhere.c"]);
    assert!(
        message.contains("elsewhere.c is no compilation unit of vmlinux"),
        "{message}"
    );
    let stripped = copied(directory.path(), &image, &["--strip-debug"]);
    let message = refused(&stripped, &["inside.c"]);
    assert!(message.contains("no debug information"), "{message}");
    let debug = copied(directory.path(), &image, &["--only-keep-debug"]);
    let message = refused(&debug, &["inside.c"]);
    assert!(message.contains("debug information alone"), "{message}");
    let twice = copied(
        directory.path(),
        &image,
        &["--rename-section", ".init.text=.text"],
    );
    let message = refused(&twice, &["inside.c"]);
    assert!(message.contains("are called .text"), "{message}");
    let high = copied(
        directory.path(),
        &image,
        &[
            "--redefine-sym",
            "_text=low",
            "--add-symbol",
            "_text=.data:0",
        ],
    );
    let message = refused(&high, &["inside.c"]);
    assert!(message.contains("below the symbol _text"), "{message}");
    let moved = copied(
        directory.path(),
        &image,
        &["--change-section-address", ".text-0x100000"],
    );
    let message = refused(&moved, &["inside.c"]);
    assert!(message.contains("contradicts the image"), "{message}");
}

fn try_resolve(bytes: &[u8]) {
    // A result has passed the checker; an error blames the input.
    if let Err(problems) = resolved(bytes, &["inside.c"]) {
        assert!(!problems.is_empty());
        assert!(
            problems.iter().all(|p| p.code == Code::BadImage),
            "{problems:?}"
        );
    }
}

fn image() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let (_directory, image) = build("gcc");
        std::fs::read(image).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn truncated(cut in 0.0..1.0f64) {
        let bytes = image();
        try_resolve(&bytes[..(bytes.len() as f64 * cut) as usize]);
    }

    #[test]
    fn changed(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut bytes = image().to_vec();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        try_resolve(&bytes);
    }
}
