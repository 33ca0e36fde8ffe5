//! Bundles that record: what they hold, and that this machine's kernel accepts their programs.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;

use libbpf_rs::ObjectBuilder;
use otf_artifact::{
    bundle::Program,
    ids::TargetSetId,
    sites::{CallSite, CallThrough, Coverage, Operand, Precision, Register, Sites},
};
use otf_bundle::{Bundle, pack};
use otf_policygen::{RecordInputs, record};

fn call(through: CallThrough, offset: u64) -> CallSite {
    CallSite {
        location: common::location("qfq_enqueue", offset),
        text: "call rax".into(),
        instruction_length: 2,
        jump: false,
        thunk: None,
        through,
        chain: vec![],
        precision: Precision::Compartment,
        targets: TargetSetId(0),
        coverage: Coverage::Probe,
        unwind_gates: vec![],
    }
}

fn sites() -> Sites {
    let memory = |base| {
        CallThrough::Memory(Operand {
            base,
            index: None,
            scale: 1,
            displacement: 24,
            per_cpu: false,
            bit_index: None,
        })
    };
    Sites {
        calls: vec![
            call(CallThrough::Register(Register::Ax), 0x900),
            call(memory(None), 0x910),
            call(memory(Some(Register::Dx)), 0x920),
        ],
        ..common::sites()
    }
}

fn bundle() -> Bundle {
    let inputs = RecordInputs {
        release: "6.12.1-amd64".into(),
        hashes: BTreeMap::from([("sites.json".to_owned(), "ab".repeat(32))]),
    };
    record(&sites(), inputs).unwrap()
}

#[test]
fn every_probed_site_and_readable_call_has_a_row_and_a_probe() {
    let bundle = bundle();
    let rows = bundle.plan.recording.as_ref().unwrap();
    let wanted = sites();
    let written = wanted
        .sites
        .iter()
        .filter(|s| s.coverage == Coverage::Probe);
    assert_eq!(rows.sites.len(), written.count());
    assert_eq!(rows.calls.iter().map(|c| c.0).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(
        rows.left_out.values().sum::<u64>(),
        1,
        "{:?}",
        rows.left_out
    );
    for (program, count) in [
        (Program::Site, rows.sites.len()),
        (Program::Call, rows.calls.len()),
        (Program::Gate, wanted.gate_probes.len()),
        (Program::AllocationReturn, 0),
    ] {
        let probes = bundle.plan.probes.iter().filter(|p| p.program == program);
        assert_eq!(probes.count(), count, "{program:?}");
    }
    for probe in bundle
        .plan
        .probes
        .iter()
        .filter(|p| p.program == Program::Site)
    {
        let site = wanted.site(rows.sites[probe.cookie as usize]);
        assert_eq!(site.location, probe.location);
    }
}

#[test]
fn two_runs_give_the_same_bytes() {
    assert_eq!(pack(&bundle()).unwrap(), pack(&bundle()).unwrap());
}

#[test]
fn the_kernel_accepts_the_programs() {
    let object = ObjectBuilder::default()
        .open_memory(&bundle().object)
        .unwrap()
        .load()
        .unwrap();
    let programs: Vec<String> = object
        .progs()
        .map(|p| p.name().to_string_lossy().into_owned())
        .collect();
    for name in [
        "otf_site",
        "otf_call",
        "otf_gate",
        "otf_setup",
        "otf_kmalloc_twin",
    ] {
        assert!(programs.iter().any(|p| p == name), "{name}");
    }
}
