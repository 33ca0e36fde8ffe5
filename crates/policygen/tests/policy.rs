//! policy.yaml: what is generated reads back; what is wrong is found where it stands.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use otf_artifact::{
    abi::Action,
    analysis::HeapPlace,
    diagnostic::{Code, Diagnostic},
};
use otf_policygen::{Policy, bind::bind, generate, parse, schema, to_yaml};

fn text() -> String {
    to_yaml(&generate(&common::sites()))
}

/// Errors of the generated policy after one change of its text.
fn errors(from: &str, to: &str) -> Vec<Diagnostic> {
    let text = text();
    assert!(text.contains(from), "{from} is not in\n{text}");
    let changed = text.replacen(from, to, 1);
    match parse(&changed, "my/policy.yaml") {
        Err(error) => vec![error],
        Ok(policy) => bind(&policy, &common::sites()).err().unwrap_or_default(),
    }
}

/// The place of `needle` in the generated policy after the change: line and column.
fn place(from: &str, to: &str, needle: &str) -> (u32, u32) {
    let changed = text().replacen(from, to, 1);
    let at = changed.find(to).unwrap() + to.find(needle).unwrap();
    let before = &changed[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |n| n + 1) + 1;
    (line as u32, column as u32)
}

fn one_error(from: &str, to: &str, needle: &str) -> Diagnostic {
    let mut found = errors(from, to);
    assert_eq!(found.len(), 1, "{found:?}");
    let error = found.remove(0);
    assert_eq!(error.file.as_deref(), Some("my/policy.yaml"));
    assert_eq!(
        (error.line, error.column),
        place(from, to, needle),
        "{error}"
    );
    error
}

#[test]
fn generated_reads_back_and_binds() {
    let text = text();
    let policy = parse(&text, "policy.yaml").unwrap();
    let bound = bind(&policy, &common::sites()).unwrap();
    assert_eq!(bound.sites.len(), 6);
    let direct = bind(&generate(&common::sites()), &common::sites()).unwrap();
    let sets = |b: &otf_policygen::bind::Bound| {
        b.legal_sets
            .iter()
            .map(|l| l.set.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(sets(&bound), sets(&direct));
    assert_eq!(sets(&bound), common::sites().legal_sets);
    assert_eq!(bound.gates, common::sites().analysis.gates);
}

#[test]
fn generated_text_is_for_people() {
    let text = text();
    for line in [
        "default_action: audit",
        "  - function: qfq_enqueue",
        "    instance: {argument: 1, type: struct Qdisc}",
        "    refusal: {value: 1, name: NET_XMIT_DROP}",
        "  - {id: A0, at: net/sched/sch_qfq.c:100:9, function: qfq_change_class, \
         calls: __kmalloc_cache_noprof}  # 7904 bytes, struct qfq_sched",
        "      - {type: struct qfq_group, in: struct qfq_sched, offset: 488, \
         dimensions: [{stride: 296, count: 25}], size: 296, object_min: 7904, object_size: 7904, \
         allocated_at: [A0]}",
        "    globals: [sch_qfq:counter, sch_qfq:qfq_qdisc_ops]",
        "    any_heap: \"container of struct sk_buff: \\\"unknown\\\" # really\"",
        "      - {at: sch_qfq qfq_schedule_agg+0x20, source: net/sched/sch_qfq.c:1032, legal: L1}  \
         # mov [rbx+8],rax",
        "#   sch_qfq qfq_dequeue+0x40 (net/sched/sch_qfq.c:1064) `mov [rbx+8],rax`: NOT CHECKED, \
         jump label",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
    }
    assert_eq!(text, to_yaml(&generate(&common::sites())));
}

#[test]
fn calls_are_for_people() {
    let text = text();
    for line in [
        "returns: false",
        "private_heap: false",
        "#   1 calls can go there",
        "#   1 cannot: krealloc_noprof allocates by itself",
        "  - {id: T0, targets: [sch_qfq:qfq_dequeue, vmlinux:pfifo_dequeue]}",
        "  - {id: T1, targets: [sch_qfq:qfq_dequeue], \
         any: struct Qdisc_ops is filled outside the scope too}",
        "  - {id: T2, targets: [nf_nat:nat_hook, vmlinux:pfifo_dequeue]}  \
         # 1 of them in no image that was given: weak",
        "  - {id: T3, targets: [], any: no target was found}",
        "      - {at: sch_qfq qfq_dequeue+0x70, source: net/sched/sch_qfq.c:1112, targets: T1}  \
         # jmp __x86_indirect_thunk_rbx",
        "#   sch_qfq qfq_dequeue+0xa0 (net/sched/sch_qfq.c:1160) \
         `call __x86_indirect_thunk_rbx`: NOT CHECKED, a call with a prefix",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn edits_of_calls_are_checked() {
    let error = one_error("targets: T1}", "targets: T9}", "T9");
    assert_eq!(error.message, "unknown target set `T9`");
    let error = one_error(
        "[sch_qfq:qfq_dequeue, vmlinux:pfifo_dequeue]",
        "[sch_qfq:qfq_dequeu, vmlinux:pfifo_dequeue]",
        "sch_qfq:qfq_dequeu",
    );
    assert_eq!(error.message, "unknown call target `sch_qfq:qfq_dequeu`");
    let error = one_error(
        "id: T3, targets: [], any: no target was found",
        "id: T3, targets: []",
        "T3",
    );
    assert_eq!(error.message, "target set `T3` allows nothing");
    let found = errors("qfq_dequeue+0x90,", "qfq_dequeue+0x80,");
    let messages: Vec<&str> = found.iter().map(|e| e.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "call `sch_qfq qfq_dequeue+0x80` occurs twice",
            "call `sch_qfq qfq_dequeue+0x80` is at net/sched/sch_qfq.c:1128, \
             not at net/sched/sch_qfq.c:1144",
            "the policy has no entry for the call `sch_qfq qfq_dequeue+0x90` \
             (net/sched/sch_qfq.c:1144)",
        ]
    );
}

#[test]
fn unknown_field() {
    let error = one_error("    stack: own", "    stak: own", "stak");
    assert_eq!(error.code, Code::BadYaml);
    assert_eq!(error.message, "unknown field `stak`");
    assert!(error.help.unwrap().starts_with("did you mean `stack`?"));
}

#[test]
fn unknown_names_have_a_suggestion() {
    let cases = [
        (
            "type: struct qfq_group",
            "type: struct qfq_grop",
            "struct qfq_grop",
            "struct qfq_group",
        ),
        (
            "sch_qfq:qfq_qdisc_ops]",
            "sch_qfq:qfq_qdsc_ops]",
            "sch_qfq:qfq_qdsc",
            "sch_qfq:qfq_qdisc_ops",
        ),
        ("allocated_at: [A0]", "allocated_at: [A9]", "A9", "A0"),
        (
            "schedule_agg+0x20, ",
            "schedule_agg+0x21, ",
            "",
            "sch_qfq qfq_schedule_agg+0x20",
        ),
        ("c:1032, legal: L1", "c:1032, legal: L7", "L7", "L0"),
        (
            "- function: qfq_enqueue",
            "- function: qfq_enqeue",
            "qfq_enqeue",
            "qfq_enqueue",
        ),
        (
            "at: net/sched/sch_qfq.c:100:9",
            "at: net/sched/sch_qfq.c:101:9",
            "net",
            "net/sched/sch_qfq.c:100:9",
        ),
    ];
    for (from, to, needle, suggestion) in cases {
        let found = errors(from, to);
        let error = found.iter().find(|e| e.line > 0).unwrap();
        assert_eq!(error.code, Code::PolicyInvalid, "{error}");
        assert!(error.message.starts_with("unknown "), "{error}");
        let help = error.help.as_deref().unwrap();
        assert!(
            help.starts_with(&format!("did you mean `{suggestion}`?")),
            "{help}"
        );
        if !needle.is_empty() {
            assert_eq!(
                (error.line, error.column),
                place(from, to, needle),
                "{error}"
            );
        }
    }
}

#[test]
fn contradictions() {
    for (from, to, needle, words) in [
        ("version: 2", "version: 3", "3", "format version 3"),
        (
            "kernel: debian-6.12",
            "kernel: debian-6.1",
            "debian-6.1",
            "the sites for `debian-6.12`",
        ),
        (
            "{argument: 1,",
            "{argument: 6,",
            "6",
            "not passed in a register",
        ),
        (
            "source: net/sched/sch_qfq.c:1032",
            "source: net/sched/sch_qfq.c:1033",
            "net",
            "is at net",
        ),
        (
            "size: 296, object_min",
            "size: 0, object_min",
            "0",
            "0 bytes",
        ),
        (
            "allocated_at: [A0]",
            "allocated_at: []",
            "",
            "nothing allocates",
        ),
        (
            "object_size: 7904",
            "object_size: 7903",
            "7903",
            "less than object_min",
        ),
        ("{stride: 296,", "{stride: 0,", "", "stride: 0"),
        (
            "id: L0\n    stack: own",
            "id: L0\n    stack: none",
            "L0",
            "allows nothing",
        ),
        ("- id: L1", "- id: L0", "", "defined twice"),
    ] {
        let found = errors(from, to);
        let error = found
            .iter()
            .find(|e| e.message.contains(words))
            .unwrap_or_else(|| panic!("{found:?}"));
        assert_eq!(error.code, Code::PolicyInvalid);
        if !needle.is_empty() {
            assert_eq!(
                (error.line, error.column),
                place(from, to, needle),
                "{error}"
            );
        }
    }
}

#[test]
fn nothing_is_left_out_in_silence() {
    let text = text();
    let line = text
        .lines()
        .find(|l| l.contains("at: sch_qfq qfq_schedule_agg+0x20"))
        .unwrap();
    let found = errors(&format!("{line}\n"), "");
    assert!(
        found[0]
            .message
            .contains("no entry for the site `sch_qfq qfq_schedule_agg+0x20`")
    );
    let found = errors(
        "+0x20, source: net/sched/sch_qfq.c:1032",
        "+0x10, source: net/sched/sch_qfq.c:1016",
    );
    assert!(
        found.iter().any(|e| e.message.contains("occurs twice")),
        "{found:?}"
    );
    let gate = text.find("  - function: qfq_enqueue").unwrap();
    let next = gate + text[gate + 1..].find("  - function:").unwrap() + 1;
    let found = errors(&text[gate..next], "");
    assert!(
        found[0].message.contains("no gate `qfq_enqueue`"),
        "{found:?}"
    );
    let unprobable = "qfq_dequeue+0x30, source: net/sched/sch_qfq.c:1048";
    let found = errors(
        unprobable,
        "qfq_dequeue+0x40, source: net/sched/sch_qfq.c:1064",
    );
    assert!(
        found
            .iter()
            .any(|e| e.message.contains("cannot be checked: jump label")),
        "{found:?}"
    );
}

#[test]
fn a_person_overrides() {
    let text = text()
        .replacen(
            "refusal: {value: 1, name: NET_XMIT_DROP}",
            "refusal: {value: -5, name: -EIO}",
            1,
        )
        .replacen("    instance: {argument: 0, type: struct Qdisc}\n", "", 1)
        .replacen("c:1032, legal: L1}", "c:1032, legal: L0, action: audit}", 1)
        .replacen("default_action: audit", "default_action: deny", 1);
    let policy: Policy = parse(&text, "policy.yaml").unwrap();
    let sites = common::sites();
    let bound = bind(&policy, &sites).unwrap();
    assert_eq!(bound.default_action, Action::Deny);
    let gate = &bound.gates[0];
    assert_eq!(
        (gate.refusal.value, gate.refusal.name.as_str()),
        (-5, "-EIO")
    );
    assert_eq!(gate.instance_argument, None);
    let site = bound
        .sites
        .iter()
        .find(|s| sites.site(s.site).location.symbol_offset == 0x20);
    let limited = bound.sites.iter().filter(|s| s.action == Action::Audit);
    assert_eq!(limited.count(), 1);
    assert!(site.is_some());
}

#[test]
fn a_place_to_the_end() {
    let mut sites = common::sites();
    sites.legal_sets[1].heap[0].size = HeapPlace::TO_END;
    let text = to_yaml(&generate(&sites));
    assert!(
        text.contains("{type: struct qfq_class, size: end, object_min: 96,"),
        "{text}"
    );
    let bound = bind(&parse(&text, "policy.yaml").unwrap(), &sites).unwrap();
    assert_eq!(bound.legal_sets[1].set, sites.legal_sets[1]);
    let error = one_error("size: 296, object_min", "size: ends, object_min", "size");
    assert_eq!(error.code, Code::BadYaml);
}

#[test]
fn the_schema_knows_every_field_and_refuses_others() {
    let schema = schema();
    assert_eq!(schema["additionalProperties"], false);
    for field in ["kernel", "gates", "legal_sets", "sites", "default_action"] {
        assert!(schema["properties"][field].is_object(), "{field}");
    }
    assert!(schema["properties"]["file"].is_null());
}

mod strings {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_string_survives(name in "\\PC*|[ -~]*|true|0x10|1e3|~|- a|a: b", control in any::<String>()) {
            let mut policy = generate(&common::sites());
            policy.gates[0].refusal.name = name.clone();
            policy.legal_sets[0].any_heap = Some(control.clone());
            policy.sites[0].writes[0].note = control.clone();
            policy.unchecked.push(control.clone());
            let back = parse(&to_yaml(&policy), "policy.yaml").unwrap();
            prop_assert_eq!(&back.gates[0].refusal.name, &name);
            prop_assert_eq!(back.legal_sets[0].any_heap.as_ref(), Some(&control));
            prop_assert_eq!(back.sites, parse(&to_yaml(&policy), "policy.yaml").unwrap().sites);
        }
    }
}
