//! The binary on bad input: exit code 2, a stable code, and nothing pinned or inserted.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use minisign::KeyPair;
use otf_artifact::{
    FORMAT_VERSION, abi,
    bundle::{CoverageSummary, Manifest, Plan, UNTRUSTED_COMMENT},
};
use otf_bundle::{Bundle, pack, trusted_comment};

const KERNEL_ID: [u8; 20] = [0xaa; 20];

/// A signed bundle, and sysfs and procfs of a machine that it fits.
struct Case {
    folder: tempfile::TempDir,
    pair: KeyPair,
}

impl Case {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut Bundle)) -> Self {
        let case = Self {
            folder: tempfile::tempdir().unwrap(),
            pair: KeyPair::generate_unencrypted_keypair().unwrap(),
        };
        let mut bundle = sample();
        change(&mut bundle);
        let bytes = pack(&bundle).unwrap();
        let comment = UNTRUSTED_COMMENT
            .strip_prefix("untrusted comment: ")
            .unwrap();
        let signature = minisign::sign(
            None,
            &case.pair.sk,
            Cursor::new(&bytes),
            Some(&trusted_comment(&bundle.manifest)),
            Some(comment),
        )
        .unwrap();
        case.put("b.otf", &bytes);
        case.put("b.otf.minisig", signature.to_string().as_bytes());
        case.put("key.pub", Case::key(&case.pair).as_bytes());
        case.put("sys/kernel/notes", &note(&KERNEL_ID));
        case.put("sys/kernel/btf/vmlinux", b"");
        case.put("sys/bus/event_source/devices/kprobe/type", b"8\n");
        case.put("proc/sys/kernel/osrelease", b"6.12.117+deb12-amd64\n");
        case.put("proc/kallsyms", b"ffffffff81000000 T _text\n");
        case
    }

    fn key(pair: &KeyPair) -> String {
        pair.pk.to_box().unwrap().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_otf-load"))
            .args(["--bpffs", self.path("pins").to_str().unwrap()])
            .args(["--sysfs", self.path("sys").to_str().unwrap()])
            .args(["--procfs", self.path("proc").to_str().unwrap()])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn load(&self, more: &[&str]) -> Output {
        let bundle = self.path("b.otf");
        let key = self.path("key.pub");
        let mut arguments = vec!["load", bundle.to_str().unwrap(), "--key"];
        arguments.push(key.to_str().unwrap());
        arguments.extend(more);
        self.run(&arguments)
    }

    /// Asserts that the load is refused with this code, and has left nothing.
    #[track_caller]
    fn refused(&self, more: &[&str], code: &str) {
        let output = self.load(more);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.starts_with(&format!("error[{code}]: ")), "{stderr}");
        assert!(stderr.contains("\n  help: "), "{stderr}");
        assert!(output.stdout.is_empty());
        assert!(!self.path("pins").exists());
        assert!(!Path::new("/sys/module/otf_guard").exists());
    }
}

fn note(id: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    for word in [4u32, id.len() as u32, 3] {
        raw.extend(word.to_le_bytes());
    }
    raw.extend(b"GNU\0");
    raw.extend(id);
    raw
}

fn sample() -> Bundle {
    Bundle {
        manifest: Manifest {
            version: FORMAT_VERSION,
            kernel: "debian-6.12".into(),
            compartment: "sch_qfq".into(),
            release: "6.12.117+deb12-amd64".into(),
            build_ids: BTreeMap::from([("vmlinux".into(), "aa".repeat(20))]),
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
        guard: vec![],
    }
}

#[test]
fn the_good_case_is_accepted_so_that_the_others_mean_something() {
    let case = Case::new();
    let output = case.load(&["--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("sch_qfq would be loaded: action audit"),
        "{text}"
    );
    assert!(!case.path("pins").exists());
}

#[test]
fn a_flipped_bit_anywhere() {
    let case = Case::new();
    let good = fs::read(case.path("b.otf")).unwrap();
    // one bit in each 211th byte reaches every member and every header
    for at in (0..good.len()).step_by(211) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        case.put("b.otf", &bad);
        case.refused(&["--dry-run"], "OTF0051");
    }
}

#[test]
fn a_truncated_file() {
    let case = Case::new();
    let good = fs::read(case.path("b.otf")).unwrap();
    for length in [0, 1, 512, good.len() - 1] {
        case.put("b.otf", &good[..length]);
        case.refused(&[], "OTF0051");
    }
    fs::remove_file(case.path("b.otf")).unwrap();
    case.refused(&[], "OTF0050");
}

#[test]
fn keys_and_signatures() {
    let case = Case::new();
    let other = KeyPair::generate_unencrypted_keypair().unwrap();
    case.put("key.pub", Case::key(&other).as_bytes());
    case.refused(&[], "OTF0051");
    case.put("key.pub", b"no key\n");
    case.refused(&[], "OTF0043");
    case.put("key.pub", Case::key(&case.pair).as_bytes());
    fs::remove_file(case.path("b.otf.minisig")).unwrap();
    case.refused(&[], "OTF0051");
    case.put("b.otf.minisig", b"");
    case.refused(&[], "OTF0051");
}

#[test]
fn another_kernel() {
    let case = Case::new();
    case.put("sys/kernel/notes", &note(&[0xab; 20]));
    case.refused(&[], "OTF0052");
    case.put("sys/kernel/notes", b"");
    case.refused(&[], "OTF0002");
}

#[test]
fn modules_must_be_there_and_the_same() {
    let case = Case::with(|bundle| {
        let ids = &mut bundle.manifest.build_ids;
        ids.insert("sch_qfq".into(), "bb".repeat(20));
    });
    case.refused(&[], "OTF0056");
    case.put("sys/module/sch_qfq/initstate", b"live\n");
    case.put(
        "sys/module/sch_qfq/notes/.note.gnu.build-id",
        &note(&[0xbc; 20]),
    );
    case.refused(&[], "OTF0052");
}

#[test]
fn actions_are_never_weakened() {
    let case = Case::new();
    // no guard in the bundle
    case.refused(&["--action", "deny"], "OTF0053");
    case.put("sys/kernel/security/lockdown", b"none [integrity]\n");
    case.refused(&["--action", "deny"], "OTF0053");
    fs::remove_file(case.path("sys/bus/event_source/devices/kprobe/type")).unwrap();
    case.refused(&["--action", "kill"], "OTF0053");
    case.refused(&[], "OTF0053");
}

#[test]
fn a_signed_bundle_that_contradicts_itself() {
    let case = Case::with(|bundle| bundle.manifest.compartment = "../../etc".into());
    case.refused(&[], "OTF0050");
    let case = Case::with(|bundle| bundle.manifest.build_ids.clear());
    case.refused(&[], "OTF0050");
}

#[test]
fn errors_are_json_when_asked_for() {
    let case = Case::new();
    case.put("b.otf.minisig", b"");
    let output = case.load(&["--format", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["code"], "OTF0051");
    assert_eq!(error["severity"], "error");
    assert!(error["help"].is_string());
}

#[test]
fn commands_without_anything_loaded() {
    let case = Case::new();
    for (arguments, code) in [
        (&["events"][..], "OTF0055"),
        (&["phase", "working"], "OTF0055"),
        (&["unload", "sch_qfq"], "OTF0055"),
        (&["release", "--all"], "OTF0055"),
        (&["release", "rubbish"], "OTF0001"),
        (&["status", "sch_qfq"], "OTF0055"),
    ] {
        let output = case.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(code), "{arguments:?}: {stderr}");
    }
    assert_eq!(case.run(&["status"]).status.code(), Some(0));
    assert_eq!(case.run(&["status", "--check"]).status.code(), Some(1));
    assert_eq!(case.run(&["rubbish"]).status.code(), Some(2));
}

#[test]
fn verify_tells_who_and_for_what() {
    let case = Case::new();
    let bundle = case.path("b.otf");
    let key = case.path("key.pub");
    let arguments = [
        "verify",
        bundle.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
        "--format",
        "json",
    ];
    let output = case.run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["manifest"]["compartment"], "sch_qfq");
    assert_eq!(report["signer"]["key_id"].as_str().unwrap().len(), 16);
    assert_eq!(report["host"], serde_json::Value::Null);
    case.put("sys/kernel/notes", &note(&[0xab; 20]));
    assert_eq!(
        case.run(&arguments).status.code(),
        Some(0),
        "offline: the host does not matter"
    );
    let output = case.run(&[&arguments[..], &["--host"]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("OTF0052"));
}
