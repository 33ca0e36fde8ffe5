//! A machine, a bundle and an event that agree with each other.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use otf_artifact::{
    FORMAT_VERSION,
    abi::{self, Action},
    bundle::{
        CoverageSummary, GlobalBinding, Manifest, Plan, PlanGate, PlanSite, Probe, Program,
        TargetBinding,
    },
    ids::ImageId,
    places::Frame,
    sites::{Location, SiteImage, TextSection},
};
use otf_bundle::Bundle;

use crate::host::Host;
use crate::meta::{Changes, Meta};
use crate::verify::Signer;

pub const MODULE_TEXT: u64 = 0xffff_ffff_c0a5_1000;
pub const KERNEL_BASE: u64 = 0xffff_ffff_8100_0000;

/// A folder with the sysfs and procfs files of a stock kernel.
pub struct Machine {
    pub host: Host,
    _root: tempfile::TempDir,
}

impl Machine {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let host = Host {
            sys: root.path().join("sys"),
            proc: root.path().join("proc"),
        };
        let put = |path: &Path, bytes: &[u8]| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let module = host.sys.join("module/sch_qfq");
        put(&host.sys.join("kernel/notes"), &note(&[0xaa; 20]));
        put(&module.join("notes/.note.gnu.build-id"), &note(&[0xbb; 20]));
        put(&module.join("initstate"), b"live\n");
        put(
            &module.join("sections/.text"),
            format!("{MODULE_TEXT:#x}\n").as_bytes(),
        );
        put(&host.sys.join("kernel/btf/vmlinux"), b"btf");
        put(
            &host.sys.join("bus/event_source/devices/kprobe/type"),
            b"8\n",
        );
        put(
            &host.proc.join("sys/kernel/osrelease"),
            b"6.12.117+deb12-amd64\n",
        );
        put(&host.proc.join("sys/kernel/ftrace_enabled"), b"1\n");
        put(&host.proc.join("sys/debug/kprobes-optimization"), b"1\n");
        let symbols = format!(
            "{KERNEL_BASE:x} T _text\n{:x} d noop_qdisc\n",
            KERNEL_BASE + 0x1000
        );
        put(&host.proc.join("kallsyms"), symbols.as_bytes());
        Self { host, _root: root }
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

fn location(image: u32, section: &str, offset: u64, symbol: &str, symbol_offset: u64) -> Location {
    Location {
        image: ImageId(image),
        section: section.into(),
        offset,
        symbol: symbol.into(),
        symbol_offset,
    }
}

pub fn plan() -> Plan {
    let image = |name: &str, id: &str, text: Vec<TextSection>| SiteImage {
        name: name.into(),
        file: name.into(),
        build_id: id.repeat(20),
        text,
    };
    let store = location(0, ".text", 0x65, "qfq_schedule_agg", 0x55);
    Plan {
        covered: Vec::new(),
        left_to_audit: Vec::new(),
        version: FORMAT_VERSION,
        images: vec![
            image(
                "sch_qfq",
                "bb",
                vec![
                    TextSection {
                        name: ".text".into(),
                        offset: 0,
                        size: 0x2000,
                    },
                    TextSection {
                        name: ".init.text".into(),
                        offset: 0,
                        size: 64,
                    },
                ],
            ),
            image("vmlinux", "aa", vec![]),
        ],
        probes: vec![
            Probe {
                program: Program::Gate,
                location: location(0, ".text", 0x10, "qfq_enqueue", 0),
                cookie: 0,
                room: None,
            },
            Probe {
                program: Program::Site,
                location: store.clone(),
                cookie: 0,
                room: None,
            },
        ],
        globals: vec![
            GlobalBinding {
                image: ImageId(1),
                symbol: "noop_qdisc".into(),
                location: location(1, ".data", 0x1000, "noop_qdisc", 0),
                size: 8,
            },
            GlobalBinding {
                image: ImageId(0),
                symbol: "once".into(),
                location: location(0, ".init.data", 0, "once", 0),
                size: 4,
            },
        ],
        caches: vec![],
        sites: vec![PlanSite {
            location: store,
            text: "mov [rbx],r12".into(),
            chain: vec![Frame {
                function: "qfq_slot_insert".into(),
                file: "net/sched/sch_qfq.c".into(),
                line: 1300,
                column: 0,
            }],
            legal: "qfq_sched.groups".into(),
            quick: None,
        }],
        calls: vec![PlanSite {
            location: location(0, ".text", 0x80, "qfq_enqueue", 0x70),
            text: "call __x86_indirect_thunk_rax".into(),
            chain: vec![],
            legal: "call of vmlinux:pfifo_enqueue".into(),
            quick: None,
        }],
        returns: vec![],
        targets: vec![TargetBinding {
            set: 0,
            location: location(1, ".text", 0x2000, "pfifo_enqueue", 0),
        }],
        gates: vec![PlanGate {
            function: "qfq_enqueue".into(),
            reached_by: vec!["Qdisc_ops.enqueue".into()],
            instance_type: Some("Qdisc".into()),
            refusal: "NET_XMIT_DROP".into(),
        }],
        entries: vec![],
        allocations: vec!["qdisc_alloc, net/sched/sch_generic.c:952".into()],
        default_action: Action::Deny,
        private_heap: None,
        recording: None,
    }
}

pub fn bundle() -> Bundle {
    Bundle {
        manifest: Manifest {
            version: FORMAT_VERSION,
            kernel: "debian-6.12".into(),
            compartment: "sch_qfq".into(),
            release: "6.12.117+deb12-amd64".into(),
            build_ids: BTreeMap::from([
                ("sch_qfq".into(), "bb".repeat(20)),
                ("vmlinux".into(), "aa".repeat(20)),
            ]),
            members: BTreeMap::new(),
            inputs: BTreeMap::new(),
            coverage: CoverageSummary::default(),
        },
        plan: plan(),
        policy: String::new(),
        object: Vec::new(),
        guard: Vec::new(),
    }
}

pub fn meta() -> Meta {
    let bundle = bundle();
    Meta {
        version: FORMAT_VERSION,
        bundle: "00".repeat(32),
        signer: Signer {
            key_id: "E7620F1842B4E81F".into(),
            comment: String::new(),
        },
        action: Action::Deny,
        loaded: 1,
        guarded: Some("sch_qfq.1".into()),
        changes: Changes::default(),
        expedited_before: None,
        bases: BTreeMap::from([("sch_qfq .text".into(), MODULE_TEXT)]),
        manifest: bundle.manifest,
        plan: bundle.plan,
    }
}

pub fn event() -> abi::Event {
    let mut cache = [0; 32];
    cache[..10].copy_from_slice(b"kmalloc-8k");
    abi::Event {
        time: 2_000_000_005,
        address: 0xffff_8880_0420_1ff0,
        length: 8,
        object: 0xffff_8880_0420_0000,
        object_size: 7904,
        instance: 0xffff_8880_0420_0000,
        ip: MODULE_TEXT + 0x65,
        site: 0,
        gate: 0,
        alloc: 0,
        pid: 1,
        tid: 1,
        cpu: 0,
        class: abi::Class::Slab as u8,
        reason: abi::Reason::BadLayout as u8,
        done: abi::Done::Unwound as u8,
        phase: abi::Phase::Transition as u8,
        in_interrupt: 1,
        rules: abi::RULE_LAYOUT,
        pad: [0; 2],
        comm: *b"ping\0\0\0\0\0\0\0\0\0\0\0\0",
        cache,
    }
}
