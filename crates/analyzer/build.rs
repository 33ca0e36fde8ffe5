//! A fingerprint of the sources that decide what facts say: facts made by another extractor are
//! made again, without anybody raising a version.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// What works on facts and does not make them.
const OTHERS: &[&str] = &["program", "check.rs", "lib.rs", "validate.rs"];

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("src");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=build.rs");
    // FNV-1a, 64 bits.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    };
    for file in sources(&root)? {
        let name = file.strip_prefix(&root).unwrap_or(&file);
        add(name.to_string_lossy().as_bytes());
        add(&fs::read(&file)?);
    }
    println!("cargo::rustc-env=OTF_EXTRACTOR={hash:016x}");
    Ok(())
}

/// Source files of the extractor, sorted.
fn sources(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let top = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            if OTHERS.contains(&top.as_str()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
