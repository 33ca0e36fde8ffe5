//! Whatever is changed in a bundle or its signature, verification says no and does not panic.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
use std::{collections::BTreeMap, io::Cursor, sync::LazyLock};

use minisign::KeyPair;
use otf_artifact::{
    FORMAT_VERSION, abi,
    bundle::{CoverageSummary, Manifest, Plan, UNTRUSTED_COMMENT},
    diagnostic::Code,
};
use otf_bundle::{Bundle, pack, trusted_comment, unpack, verify};
use proptest::prelude::*;

fn sample() -> Bundle {
    Bundle {
        manifest: Manifest {
            version: FORMAT_VERSION,
            kernel: "debian-6.12".into(),
            compartment: "sch_qfq".into(),
            release: "6.12.1-amd64".into(),
            build_ids: BTreeMap::from([("vmlinux".into(), "00ff".into())]),
            members: BTreeMap::new(),
            inputs: BTreeMap::new(),
            coverage: CoverageSummary::default(),
        },
        plan: Plan {
            covered: Vec::new(),
            left_to_audit: Vec::new(),
            version: FORMAT_VERSION,
            images: vec![],
            probes: vec![],
            globals: vec![],
            caches: vec![],
            sites: vec![],
            calls: vec![],
            returns: vec![],
            targets: vec![],
            entries: vec![],
            gates: vec![],
            allocations: vec![],
            default_action: abi::Action::Audit,
            private_heap: None,
            recording: None,
        },
        policy: "kernel: debian-6.12\n".into(),
        object: vec![0x7f, b'E', b'L', b'F'],
        guard: (0..=255).collect(),
    }
}

struct Signed {
    bytes: Vec<u8>,
    signature: String,
    key: String,
    pair: KeyPair,
}

fn sign(pair: &KeyPair, bytes: &[u8], comment: &str) -> String {
    let untrusted = UNTRUSTED_COMMENT
        .strip_prefix("untrusted comment: ")
        .unwrap();
    minisign::sign(
        None,
        &pair.sk,
        Cursor::new(bytes),
        Some(comment),
        Some(untrusted),
    )
    .unwrap()
    .to_string()
}

static SIGNED: LazyLock<Signed> = LazyLock::new(|| {
    let bundle = sample();
    let bytes = pack(&bundle).unwrap();
    let pair = KeyPair::generate_unencrypted_keypair().unwrap();
    let signature = sign(&pair, &bytes, &trusted_comment(&bundle.manifest));
    let key = pair.pk.to_box().unwrap().to_string();
    Signed {
        bytes,
        signature,
        key,
        pair,
    }
});

fn code_of(bytes: &[u8], signature: &str) -> Option<Code> {
    verify(bytes, signature, &SIGNED.key).err().map(|d| d.code)
}

#[test]
fn what_was_packed_comes_back() {
    let mut expected = sample();
    let got = verify(&SIGNED.bytes, &SIGNED.signature, &SIGNED.key).unwrap();
    expected.manifest.members = got.manifest.members.clone();
    assert_eq!(got, expected);
    assert_eq!(got.manifest.members.len(), 4);
    assert_eq!(pack(&got).unwrap(), SIGNED.bytes);
}

#[test]
fn the_key_may_be_given_as_its_second_line() {
    let line = SIGNED.key.lines().nth(1).unwrap();
    assert!(verify(&SIGNED.bytes, &SIGNED.signature, line).is_ok());
    let problem = verify(&SIGNED.bytes, &SIGNED.signature, "no key").unwrap_err();
    assert_eq!(problem.code, Code::KeyProblem);
}

#[test]
fn every_flipped_bit_of_the_signature_file_is_refused() {
    for bit in 0..SIGNED.signature.len() * 8 {
        let mut text = SIGNED.signature.clone().into_bytes();
        text[bit / 8] ^= 1 << (bit % 8);
        // A file that is no text does not reach `verify`: its caller reads a string.
        if let Ok(text) = String::from_utf8(text) {
            assert_eq!(
                code_of(&SIGNED.bytes, &text),
                Some(Code::BadSignature),
                "bit {bit}"
            );
        }
    }
}

#[test]
fn every_truncated_signature_is_refused() {
    for end in 0..SIGNED.signature.len() {
        let code = code_of(&SIGNED.bytes, &SIGNED.signature[..end]);
        assert_eq!(code, Some(Code::BadSignature), "first {end} bytes");
    }
}

#[test]
fn another_key_is_refused() {
    let other = KeyPair::generate_unencrypted_keypair().unwrap();
    let comment = trusted_comment(&sample().manifest);
    let signature = sign(&other, &SIGNED.bytes, &comment);
    assert_eq!(code_of(&SIGNED.bytes, &signature), Some(Code::BadSignature));
}

#[test]
fn a_signature_for_something_else_is_refused() {
    let signature = sign(&SIGNED.pair, &SIGNED.bytes, "otf bundle kernel=other");
    assert_eq!(code_of(&SIGNED.bytes, &signature), Some(Code::BadBundle));
}

#[test]
fn signed_bytes_that_are_no_bundle_are_refused() {
    let comment = trusted_comment(&sample().manifest);
    let mut swapped = sample();
    swapped.object = vec![1, 2, 3];
    let swapped = pack(&swapped).unwrap();
    // Same sizes elsewhere: only the object's hash is wrong.
    let mut mixed = SIGNED.bytes.clone();
    let place = mixed
        .windows(4)
        .position(|w| w == [0x7f, b'E', b'L', b'F'])
        .unwrap();
    mixed[place] = 0;
    let mut trailing = SIGNED.bytes.clone();
    trailing.extend([0; 512]);
    let half = swapped[..swapped.len() / 1024 * 512].to_vec();
    for bytes in [
        mixed,
        trailing,
        half,
        vec![],
        vec![0; 1024],
        b"hello".to_vec(),
    ] {
        let signature = sign(&SIGNED.pair, &bytes, &comment);
        assert_eq!(code_of(&bytes, &signature), Some(Code::BadBundle));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_flipped_bit_of_the_bundle_is_refused(byte in 0..SIGNED.bytes.len(), bit in 0..8_u8) {
        let mut bytes = SIGNED.bytes.clone();
        bytes[byte] ^= 1 << bit;
        prop_assert_eq!(code_of(&bytes, &SIGNED.signature), Some(Code::BadSignature));
    }

    #[test]
    fn a_truncated_bundle_is_refused(end in 0..SIGNED.bytes.len()) {
        let code = code_of(&SIGNED.bytes[..end], &SIGNED.signature);
        prop_assert_eq!(code, Some(Code::BadSignature));
    }

    /// Without a signature only the manifest itself can be changed unseen.
    #[test]
    fn a_change_outside_the_manifest_is_seen_without_a_signature(
        byte in 0..SIGNED.bytes.len(), value: u8,
    ) {
        let mut bytes = SIGNED.bytes.clone();
        let before = std::mem::replace(&mut bytes[byte], value);
        // The header of the next member: the manifest too names it.
        let mut blocks = (0..bytes.len()).step_by(512);
        let plan = blocks.find(|at| bytes[*at..].starts_with(b"plan.json")).unwrap_or(byte);
        let in_manifest = (512..plan).contains(&byte);
        prop_assert!(unpack(&bytes).is_err() || before == value || in_manifest);
    }
}
