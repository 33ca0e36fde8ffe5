//! The guard's parts that need no kernel, as programs that read cases and write what came of them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Compiles `SOURCE.c` of this folder into another one.
pub fn compile(source: &str, options: &[&str], to: &Path) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guard");
    let program = to.join(source);
    let status = Command::new("cc")
        .args(["-O1", "-Wall", "-Wno-pointer-sign"])
        .args(options)
        .arg("-o")
        .arg(&program)
        .arg("-I")
        .arg(here.join("include"))
        .arg(here.join(format!("{source}.c")))
        .status();
    assert!(status.is_ok_and(|s| s.success()), "cc failed");
    program
}

/// What a program writes when it has read all of this.
pub fn feed(program: &Path, input: Vec<u8>) -> Vec<u8> {
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the harness starts");
    let mut stdin = child.stdin.take().expect("it has an input");
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    let written = writer.join().expect("nobody panics");
    assert!(output.status.success() && written.is_ok(), "{output:?}");
    output.stdout
}
