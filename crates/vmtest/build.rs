//! Compiles the guest's init into a static program that the library embeds.

use std::{env, error::Error, path::PathBuf, process::Command};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=guest/init.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?).join("otf-guest-init");
    let rustc = env::var("RUSTC")?;
    let status = Command::new(&rustc)
        .args(["--edition=2024", "--crate-name=otf_guest_init"])
        .args(["-Ctarget-feature=+crt-static", "-Crelocation-model=static"])
        .args(["-Copt-level=s", "-Cstrip=symbols", "-Cpanic=abort"])
        .args(["--target", &env::var("TARGET")?])
        .arg("-o")
        .arg(&out)
        .arg("guest/init.rs")
        .status()
        .map_err(|e| format!("cannot run {rustc}: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{rustc} could not compile guest/init.rs: {status}").into())
    }
}
