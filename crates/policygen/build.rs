//! Compiles the C check library to BPF bitcode, which policygen links into every policy.

use std::{env, path::PathBuf, process::Command};

/// The clang of the LLVM that inkwell links: bitcode is read by the same release that wrote it.
const CLANG: &str = "clang-19";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=bpf");
    for library in ["otf", "otf_record"] {
        compile(library)?;
    }
    Ok(())
}

fn compile(library: &str) -> Result<(), Box<dyn std::error::Error>> {
    let source = format!("bpf/{library}.bpf.c");
    let out = PathBuf::from(env::var("OUT_DIR")?).join(format!("{library}.bpf.bc"));
    // Relative paths and a fixed folder: nothing of this machine goes into BTF.
    let status = Command::new(CLANG)
        .current_dir(env::var("CARGO_MANIFEST_DIR")?)
        .args([
            "-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror",
        ])
        .args(["-Wno-unused-parameter", "-Wno-sign-compare"])
        .args([
            "-ffile-compilation-dir=.",
            "-I/usr/include/x86_64-linux-gnu",
        ])
        .args(["-emit-llvm", "-c", &source, "-o"])
        .arg(&out)
        .status()
        .map_err(|e| format!("{CLANG} cannot be run ({e}): install clang-19 and libbpf-dev"))?;
    if !status.success() {
        return Err(format!("{CLANG} could not compile {source}").into());
    }
    Ok(())
}
