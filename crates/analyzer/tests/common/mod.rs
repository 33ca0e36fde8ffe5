//! Compiles C snippets to facts.

use std::{path::PathBuf, process::Command};

use otf_analyzer::{FileMeta, facts, facts::Facts};

/// The folder with the snippets.
pub fn cases() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// Raw bitcode of a snippet, as the kernel's files are compiled.
pub fn bitcode(name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let object = folder.path().join("out.bc");
    let output = Command::new("clang-19")
        .current_dir(cases())
        .args("--target=x86_64-linux-gnu -std=gnu11 -O2 -g -w -ffreestanding".split(' '))
        .args("-fno-strict-aliasing -Xclang -disable-llvm-passes -emit-llvm -c".split(' '))
        .arg(name)
        .arg("-o")
        .arg(&object)
        .output()
        .expect("clang-19 is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::read(object).expect("clang wrote bitcode")
}

/// Facts of a snippet with what the profile would say about it.
pub fn unit(name: &str, confined: bool) -> (FileMeta, Facts) {
    let meta = FileMeta {
        source: name.into(),
        image: if confined { "box" } else { "vmlinux" }.into(),
        confined,
    };
    (meta, facts(&bitcode(name), name).expect("sound bitcode"))
}
