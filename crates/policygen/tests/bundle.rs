//! From sites to a signed bundle that the `minisign` command accepts.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{collections::BTreeMap, fs, process::Command};

use otf_artifact::{diagnostic::Code, profile::Profile};
use otf_bundle::{pack, unpack, verify};
use otf_policygen::{
    Inputs, compile, generate, inspect, inspect_bundle, new_key, parse, sign, to_yaml,
};

fn inputs() -> Inputs<'static> {
    static NO_PROFILES: BTreeMap<String, Profile> = BTreeMap::new();
    Inputs {
        images: &[],
        profiles: &NO_PROFILES,
        prices: None,
        release: "6.12.1-amd64".into(),
        guard: b"\x7fELF guard".to_vec(),
        hashes: BTreeMap::from([("sites".to_owned(), "ab".repeat(32))]),
        policy_text: None,
    }
}

fn packed() -> Vec<u8> {
    let sites = common::sites();
    let (bundle, warnings) = compile(&generate(&sites), &sites, inputs()).unwrap();
    assert_eq!(warnings, []);
    pack(&bundle).unwrap()
}

#[test]
fn two_runs_give_the_same_bytes() {
    assert_eq!(packed(), packed());
}

#[test]
fn the_minisign_command_accepts_the_signature() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = packed();
    let bundle = unpack(&bytes).unwrap();
    let key = new_key().unwrap();
    let signature = sign(&bytes, &bundle.manifest, &key.secret).unwrap();
    assert_eq!(
        signature,
        sign(&bytes, &bundle.manifest, &key.secret).unwrap()
    );
    fs::write(folder.path().join("b.otf"), &bytes).unwrap();
    fs::write(folder.path().join("b.otf.minisig"), &signature).unwrap();
    fs::write(folder.path().join("k.pub"), &key.public).unwrap();
    let minisign = |file: &str| {
        Command::new("minisign")
            .current_dir(folder.path())
            .args(["-V", "-p", "k.pub", "-x", "b.otf.minisig", "-m", file])
            .output()
            .unwrap()
    };
    let accepted = minisign("b.otf");
    assert!(accepted.status.success(), "{accepted:?}");
    let words = String::from_utf8(accepted.stdout).unwrap();
    let comment =
        "otf bundle kernel=debian-6.12 compartment=sch_qfq@cve-2023-31436 release=6.12.1-amd64";
    assert!(words.contains(comment), "{words}");
    assert!(!minisign("k.pub").status.success());
    let verified = verify(&bytes, &signature, &key.public).unwrap();
    assert_eq!(verified, bundle);
}

#[test]
fn keys_that_cannot_be_used() {
    let bytes = packed();
    let manifest = unpack(&bytes).unwrap().manifest;
    let public = new_key().unwrap().public;
    for bad in [
        "",
        "untrusted comment: x\n",
        "untrusted comment: x\nAAAA\n",
        public.as_str(),
    ] {
        assert_eq!(
            sign(&bytes, &manifest, bad).unwrap_err().code,
            Code::KeyProblem,
            "{bad}"
        );
    }
}

#[test]
fn the_bundle_keeps_the_policy_as_it_was_written() {
    let sites = common::sites();
    let text = format!("# mine\n{}", to_yaml(&generate(&sites)));
    let policy = parse(&text, "policy.yaml").unwrap();
    let written = Inputs {
        policy_text: Some(text.clone()),
        ..inputs()
    };
    let (edited, _) = compile(&policy, &sites, written).unwrap();
    let (generated, _) = compile(&generate(&sites), &sites, inputs()).unwrap();
    assert_eq!(edited.policy, text);
    assert_eq!(edited.object, generated.object);
}

#[test]
fn an_image_without_a_build_id_is_refused() {
    let mut sites = common::sites();
    sites.images[0].build_id.clear();
    let errors = compile(&generate(&sites), &sites, inputs()).unwrap_err();
    assert_eq!(errors[0].code, Code::BadImage);
}

#[test]
fn figures() {
    let sites = common::sites();
    let value = inspect(
        &sites,
        &[("sch_qfq".into(), "/x/sch_qfq.ko".into())].into(),
        None,
        1234,
    );
    let expected = serde_json::json!({
        "kernel": "debian-6.12",
        "compartment": "sch_qfq@cve-2023-31436",
        "images": ["/x/sch_qfq.ko"],
        "sites": 8,
        "stores": 7,
        "bulk_writes": 2,
        "probed": 6,
        "proven": 1,
        "unwindable": 1,
        "wide": 2,
        "by_precision": {"instruction": 5, "line": 1, "function": 1, "compartment": 1},
        "allocation_sites": 6,
        "untracked_allocations": 1,
        "gates": 3,
        "legal_types_median": 0,
        "bundle_bytes": 1234,
    });
    for (key, wanted) in expected.as_object().unwrap() {
        assert_eq!(&value[key], wanted, "{key}");
    }
    assert_eq!(value["unprobable"][0]["reason"], "jump label");
    assert_eq!(value["unprobable"][0]["symbol"], "qfq_dequeue+0x40");
    let (bundle, _) = compile(&generate(&sites), &sites, inputs()).unwrap();
    let value = inspect_bundle(&bundle, 99);
    assert_eq!((&value["probed"], &value["wide"]), (&6.into(), &2.into()));
    assert_eq!(value["bundle_bytes"], 99);
}
