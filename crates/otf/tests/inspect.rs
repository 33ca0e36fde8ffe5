//! What `otf inspect` counts, against another disassembler.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use common::answer;
use otf_testkit::{Products, objdump, products};
use serde_json::Value;

fn inspect(products: &Products, compartment: &str) -> Value {
    let folder = products.folder(compartment);
    let folder = folder.to_str().unwrap();
    let said = answer(["inspect", folder, "--format", "json"]);
    serde_json::from_str(&said).unwrap()
}

fn check(products: &Products, compartment: &str) {
    let figures = inspect(products, compartment);
    let lock = products.lock(compartment);
    assert_eq!(figures["kernel"], lock.kernel);
    assert_eq!(figures["compartment"], compartment);

    let images = figures["images"].as_array().unwrap();
    let images: Vec<&Path> = images
        .iter()
        .map(|i| Path::new(i.as_str().unwrap()))
        .collect();
    let locked: Vec<_> = lock
        .modules
        .iter()
        .map(|m| products.file(&m.file))
        .collect();
    assert_eq!(images, locked);
    let counted: usize = images.iter().map(|i| objdump::writes(i).len()).sum();
    let number = |key: &str| figures[key].as_u64().unwrap_or_else(|| panic!("{key}"));
    assert_eq!(number("stores"), counted as u64);

    let rungs = figures["by_precision"].as_object().unwrap();
    let names = ["compartment", "function", "instruction", "line"];
    assert!(rungs.keys().eq(names), "{rungs:?}");
    let all: u64 = rungs.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(all, number("sites"));
    assert!(
        number("sites") >= number("stores")
            && number("sites") <= number("stores") + number("bulk_writes")
    );

    let unprobable = figures["unprobable"].as_array().unwrap();
    for row in unprobable {
        let address = row["address"].as_str().unwrap();
        assert!(u64::from_str_radix(address.strip_prefix("0x").unwrap(), 16).is_ok());
        assert!(!row["reason"].as_str().unwrap().is_empty());
    }
    let covered = number("probed") + number("proven") + unprobable.len() as u64;
    assert_eq!(covered, number("sites"));
    assert!(number("allocation_sites") > 0);
    assert!(number("legal_types_median") > 0);
    let bundle = products
        .folder(compartment)
        .join(format!("{compartment}.otf"));
    assert_eq!(number("bundle_bytes"), fs::metadata(bundle).unwrap().len());
}

#[test]
fn stock_module() {
    if let Some(products) = products() {
        check(&products, "sch_qfq");
    }
}

#[test]
fn module_with_the_bug() {
    if let Some(products) = products() {
        check(&products, "sch_qfq@cve-2023-31436");
    }
}

#[test]
fn broken_module() {
    if let Some(products) = products() {
        check(&products, "otf_broken@broken");
    }
}

/// `otf inspect DIR | head -n 1`
#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let Some(products) = products() else {
        return;
    };
    let mut child = Command::new(env!("CARGO_BIN_EXE_otf"))
        .arg("inspect")
        .arg(products.folder("sch_qfq"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Closed before the command has read its input: every line is one too many.
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn text_says_the_same() {
    let Some(products) = products() else {
        return;
    };
    let folder = products.folder("sch_qfq");
    let text = answer([Path::new("inspect"), &folder]);
    let figures = inspect(&products, "sch_qfq");
    for key in ["sites", "stores", "probed", "bundle_bytes"] {
        let line = format!("{key}: {}", figures[key]);
        assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
    }
}
