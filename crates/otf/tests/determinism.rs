//! The same inputs give the same bytes, and others can check who signed them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{answer, assert_same_files, copy};
use otf_testkit::{products, repository};

const BUNDLE: &str = "sch_qfq.otf";
const SIGNATURE: &str = "sch_qfq.otf.minisig";

fn compile(folder: &Path) -> PathBuf {
    let bundle = folder.join(BUNDLE);
    // Made anew, not left behind.
    fs::remove_file(&bundle).unwrap();
    fs::remove_file(folder.join(SIGNATURE)).unwrap();
    let said = answer([Path::new("compile"), folder]);
    assert_eq!(said.trim_end(), bundle.to_str().unwrap());
    bundle
}

#[test]
fn compiling_again_gives_the_same_bundle_and_signature() {
    let Some(products) = products() else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let original = products.folder("sch_qfq");
    for (name, times) in [("sch_qfq", 2), ("another name", 1)] {
        let folder = copy(&original, &temp.path().join(name));
        for _ in 0..times {
            compile(&folder);
            assert_same_files(&folder, &original);
        }
    }
}

#[test]
fn analyzing_again_gives_the_same_files() {
    let Some(products) = products() else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    for expected in products.folders() {
        let name = expected.file_name().unwrap().to_str().unwrap();
        let lock = products.lock(name);
        let mut arguments = vec!["analyze", "--kernel", &lock.kernel];
        arguments.extend(["--compartment", &lock.compartment]);
        if let Some(overlay) = &lock.overlay {
            arguments.extend(["--overlay", overlay]);
        }
        let root = repository();
        arguments.extend(["--root", root.to_str().unwrap()]);
        arguments.extend(["--out", temp.path().to_str().unwrap()]);
        answer(arguments);
        let folder = temp.path().join(&lock.kernel).join(name);
        if expected.join(format!("{name}.record.otf")).exists() {
            answer([Path::new("compile"), &folder, Path::new("--record")]);
        }
        assert_same_files(&folder, &expected);
    }
}

#[test]
fn sites_made_again_are_the_same() {
    let Some(products) = products() else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let original = products.folder("sch_qfq");
    let folder = copy(&original, temp.path());
    fs::remove_file(folder.join("sites.json")).unwrap();
    answer([Path::new("resolve"), &folder]);
    assert_same_files(&folder, &original);
}

fn minisign_accepts(bundle: &Path, public: &Path) -> bool {
    let mut command = Command::new("minisign");
    command
        .arg("-V")
        .arg("-p")
        .arg(public)
        .arg("-m")
        .arg(bundle);
    command.output().unwrap().status.success()
}

#[test]
fn minisign_accepts_the_signature() {
    let Some(products) = products() else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let folder = copy(&products.folder("sch_qfq"), temp.path());
    let bundle = folder.join(BUNDLE);
    let public = products.public_key();
    assert!(minisign_accepts(&bundle, &public));

    let mut bytes = fs::read(&bundle).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    assert!(!minisign_accepts(&bundle, &public));
}

#[test]
fn a_key_of_ones_own() {
    let Some(products) = products() else {
        return;
    };
    let temp = tempfile::tempdir().unwrap();
    let folder = copy(&products.folder("sch_qfq"), &temp.path().join("sch_qfq"));
    let key = temp.path().join("team.key");
    answer([Path::new("key"), &key]);
    answer([Path::new("compile"), &folder, Path::new("--key"), &key]);
    let bundle = folder.join(BUNDLE);
    assert!(minisign_accepts(&bundle, &key.with_extension("pub")));
    assert!(!minisign_accepts(&bundle, &products.public_key()));
    let original = products.folder("sch_qfq").join(BUNDLE);
    assert!(fs::read(&bundle).unwrap() == fs::read(original).unwrap());
}
