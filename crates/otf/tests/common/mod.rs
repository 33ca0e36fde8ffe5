//! Runs the command, on copies of the products in folders of its own.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses a part of this module, which is not marked as a test"
)]

pub mod case;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Runs `otf -q` with arguments.
pub fn otf<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_otf"));
    command.arg("-q").args(arguments).output().unwrap()
}

/// Runs `otf -q`, which must succeed; its answer.
pub fn answer<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> String {
    let output = otf(arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A copy of a folder and what is below it.
pub fn copy(from: &Path, to: &Path) -> PathBuf {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
    to.to_owned()
}

/// Every file below a folder with its bytes; nothing where there is no folder.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

/// Fails with the names of the files that differ.
pub fn assert_same_files(folder: &Path, expected: &Path) {
    let relative = |folder: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        let all = files(folder).into_iter();
        all.map(|(path, bytes)| (path.strip_prefix(folder).unwrap().to_owned(), bytes))
            .collect()
    };
    let (found, expected) = (relative(folder), relative(expected));
    assert!(found.keys().eq(expected.keys()), "{:?}", found.keys());
    let differ = found
        .iter()
        .filter(|(name, bytes)| expected[*name] != **bytes);
    let differ: Vec<_> = differ.map(|(name, _)| name).collect();
    assert!(differ.is_empty(), "not the same bytes: {differ:?}");
}
