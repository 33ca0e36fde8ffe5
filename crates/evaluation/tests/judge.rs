//! Hand-made sites and recordings.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use otf_artifact::{
    FORMAT_VERSION,
    analysis::{Dimension, LegalSet, StackRule},
    ids::{CallSiteId, SeenAllocationId, SiteId},
    recording::{CallPair, CodePlace, Pair, Recording, SeenAllocation, SeenObject, Side},
    sites::Sites,
};
use otf_evaluation::{Judgement, Why, judge};
use serde_json::{Value, json};

const STRUCT: u64 = 0x100;

fn location(image: u32, section: &str, offset: u64, symbol: &str) -> Value {
    json!({ "image": image, "section": section, "offset": offset, "symbol": symbol, "symbol_offset": 0 })
}

fn allocation(line: u32, family: &str, cache: Option<&str>) -> Value {
    json!({
        "file": "a.c", "line": line, "column": 1, "function": "f", "callee": "c", "image": "m",
        "family": family, "cache": cache, "size": null, "size_argument": null,
        "count_argument": null, "types": [0], "confined": true,
    })
}

fn probe(allocation: u32, image: u32, section: &str, after: u64) -> Value {
    json!({
        "allocation": allocation, "call": location(image, section, after - 5, "f"),
        "after": location(image, section, after, "f"), "callee": "c", "size": null,
        "size_argument": null, "count_argument": null, "is_order": false, "returns_page": false,
    })
}

/// One site of module `m` with this legal set, and what it may refer to: allocation sites 0 (kmalloc
/// in `m` at 0x50), 1 (kmalloc in vmlinux at 0x60), 2 (cache `own`), 3 (kmalloc, place unknown), 4
/// (pages); globals 0 (`m`, .data + 8, 16 bytes) and 1 (vmlinux, 0x2000, 4 bytes).
fn sites(legal: &LegalSet) -> Sites {
    let image = |name: &str| json!({ "name": name, "file": name, "build_id": "00", "text": [] });
    let global = |image: &str, symbol: &str| json!({ "image": image, "symbol": symbol, "file": "a.c", "size": 16, "per_cpu": false });
    let symbol = |global: u32, image: u32, section: &str, offset: u64, size: u64| json!({ "global": global, "location": location(image, section, offset, "g"), "size": size });
    let frame = json!([{ "function": "f", "file": "a.c", "line": 3, "column": 1 }]);
    let operand = json!({ "base": "bx", "index": null, "scale": 1, "displacement": 0,
        "per_cpu": false, "bit_index": null });
    let target =
        |image: &str, symbol: &str| json!({ "image": image, "symbol": symbol, "file": "" });
    let value = json!({
        "version": FORMAT_VERSION,
        "images": [image("m"), image("vmlinux")],
        "sites": [{
            "location": location(0, ".text", 0x10, "f"), "kind": "store", "text": "mov",
            "instruction_length": 3, "operand": operand, "length": { "constant": 8 },
            "callee": null, "chain": frame, "precision": "instruction", "legal": 0,
            "coverage": "probe", "frame_size": 0, "unwind": "safe",
        }],
        "legal_sets": [legal],
        "calls": [{
            "location": location(0, ".text", 0x20, "f"), "text": "call", "instruction_length": 2,
            "jump": false, "thunk": null, "through": { "register": "ax" }, "chain": frame,
            "precision": "instruction", "targets": 0, "coverage": "probe",
        }],
        "returns": [],
        "target_sets": [{ "targets": [0, 1], "any": null }],
        "target_symbols": [{ "target": 0, "location": location(0, ".text", 0x400, "t") }],
        "allocation_probes": [
            probe(0, 0, ".text", 0x50), probe(1, 1, ".text", 0x60), probe(2, 0, ".text", 0x70),
            probe(4, 0, ".text", 0x80),
        ],
        "untracked_allocations": [{ "allocation": 3, "reason": "tail call" }],
        "gate_probes": [],
        "global_symbols": [symbol(0, 0, ".data", 8, 16), symbol(1, 1, ".bss", 0x2000, 4)],
        "diagnostics": [],
        "analysis": {
            "version": FORMAT_VERSION, "kernel": "k", "compartment": "m",
            "types": [{ "name": "struct s", "file": "a.c", "size": STRUCT }],
            "globals": [global("m", "g"), global("vmlinux", "h")],
            "allocation_sites": [
                allocation(1, "kmalloc", None), allocation(2, "kmalloc", None),
                allocation(3, "slab", Some("own")), allocation(4, "kmalloc", None),
                allocation(5, "pages", None),
            ],
            "legal_sets": [], "targets": [target("m", "t"), target("absent", "u")],
            "target_sets": [], "functions": [], "gates": [], "compartment_set": 0,
            "diagnostics": [],
        },
    });
    serde_json::from_value(value).unwrap()
}

/// Elements of 8 bytes, 16 apart, four of them from 0x20 on, from these allocation sites.
fn heap(allocation_sites: &[u32]) -> LegalSet {
    let place = json!({
        "target": 0, "container": 0, "offset": 0x20, "dimensions": [Dimension { stride: 16, count: 4 }],
        "size": 8, "allocation_sites": allocation_sites, "object_min": STRUCT, "object_size": null,
    });
    LegalSet {
        heap: vec![serde_json::from_value(place).unwrap()],
        ..LegalSet::default()
    }
}

fn place(image: &str, section: &str, offset: u64, symbol: &str) -> CodePlace {
    CodePlace {
        image: image.into(),
        section: section.into(),
        offset,
        symbol: symbol.into(),
    }
}

fn chain(frames: Vec<CodePlace>) -> SeenAllocation {
    SeenAllocation {
        chain: frames,
        cache: String::new(),
        given: 512,
        requested: (256, 256),
        count: 1,
    }
}

fn pair(object: SeenObject, offset: u64, length: u64) -> Pair {
    Pair {
        site: SiteId(0),
        object,
        offset,
        length,
        rest: Some(8),
        count: 3,
    }
}

/// Allocations: 0 from vmlinux 0x60 below two frames of the allocator, 1 from nowhere known, 2 from
/// the module's 0x50, 3 a fragment of a page.
fn recording(pairs: Vec<Pair>) -> Recording {
    let inner = || place("vmlinux", "", 0x9000, "__kmalloc_noprof+0x1");
    Recording {
        version: FORMAT_VERSION,
        attached: vec![SiteId(0)],
        pairs,
        allocations: vec![
            chain(vec![
                inner(),
                inner(),
                place("vmlinux", "", 0x60, "make+0x1"),
            ]),
            chain(vec![inner(), place("vmlinux", "", 0x61, "other+0x1")]),
            chain(vec![inner(), place("m", ".text", 0x50, "f+0x1")]),
            chain(vec![place(
                "vmlinux",
                "",
                0x62,
                "__page_frag_cache_refill+0x9",
            )]),
        ],
        caches: BTreeMap::from([("merged".into(), vec!["merged".into(), "own".into()])]),
        ..Recording::default()
    }
}

fn slab(cache: &str, general: bool, allocated_at: Option<u32>) -> SeenObject {
    SeenObject::Slab {
        cache: cache.into(),
        object_size: 512,
        general,
        allocated_at: allocated_at.map(SeenAllocationId),
    }
}

fn one(legal: &LegalSet, pair: Pair) -> Judgement {
    judge(&sites(legal), &[recording(vec![pair])])
}

fn why(legal: &LegalSet, pair: Pair) -> Option<Why> {
    let judgement = one(legal, pair);
    assert_eq!(judgement.pairs_seen, 1);
    assert_eq!(judgement.pairs_outside, judgement.outside.len());
    judgement.outside.first().map(|outside| outside.why)
}

#[test]
fn a_heap_write_must_fit_and_come_from_the_right_call() {
    let from = |allocated_at| slab("kmalloc-512", true, allocated_at);
    let legal = heap(&[1]);
    assert_eq!(why(&legal, pair(from(Some(0)), 0x20, 8)), None);
    assert_eq!(
        why(&legal, pair(from(Some(0)), 0x50, 8)),
        None,
        "the last element"
    );
    assert_eq!(
        why(&legal, pair(from(Some(0)), 0x60, 8)),
        Some(Why::Layout),
        "beyond it"
    );
    assert_eq!(
        why(&legal, pair(from(Some(0)), 0x24, 8)),
        Some(Why::Layout),
        "across its end"
    );
    assert_eq!(why(&legal, pair(from(Some(0)), 508, 8)), Some(Why::Bounds));
    assert_eq!(
        why(&legal, pair(from(Some(0)), u64::MAX, 8)),
        Some(Why::Bounds)
    );
    assert_eq!(
        why(&legal, pair(from(Some(1)), 0x20, 8)),
        Some(Why::Provenance)
    );
    assert_eq!(
        why(&legal, pair(from(Some(2)), 0x20, 8)),
        Some(Why::Provenance)
    );
    assert_eq!(
        why(&LegalSet::default(), pair(from(Some(0)), 0x20, 8)),
        Some(Why::Class)
    );
    let past = Pair {
        rest: Some(-1),
        ..pair(from(Some(0)), 0x20, 8)
    };
    assert_eq!(
        why(&legal, past),
        Some(Why::Bounds),
        "more than was requested"
    );
}

#[test]
fn old_objects_are_judged_by_layout() {
    let old = slab("kmalloc-512", true, None);
    let judgement = one(&heap(&[1]), pair(old.clone(), 0x20, 8));
    assert_eq!((judgement.pairs_outside, judgement.pairs_older), (0, 1));
    assert_eq!(why(&heap(&[1]), pair(old, 0x28, 8)), Some(Why::Layout));
    let own = slab("own", false, None);
    assert_eq!(
        why(&heap(&[1]), pair(own, 0x20, 8)),
        Some(Why::Layout),
        "another cache"
    );
}

#[test]
fn dedicated_caches_go_by_any_of_their_names() {
    let mut seen = recording(vec![pair(slab("merged", false, None), 0x20, 8)]);
    assert!(
        judge(&sites(&heap(&[2])), &[seen.clone()])
            .outside
            .is_empty()
    );
    seen.caches.clear();
    assert_eq!(
        judge(&sites(&heap(&[2])), &[seen]).outside[0].why,
        Why::Layout
    );
}

#[test]
fn wide_rules_admit_and_are_counted() {
    let wide = LegalSet {
        any_heap: Some("why".into()),
        ..LegalSet::default()
    };
    let judgement = one(&wide, pair(slab("x", false, Some(1)), 0, 8));
    assert_eq!((judgement.pairs_outside, judgement.pairs_wide), (0, 1));
    assert_eq!(
        why(&wide, pair(slab("x", false, Some(1)), 508, 8)),
        Some(Why::Bounds)
    );
    assert_eq!(why(&wide, pair(SeenObject::PageStruct, 0, 8)), None);
    assert_eq!(
        why(&wide, pair(SeenObject::Other, 0, 8)),
        Some(Why::Address)
    );
    let judgement = one(
        &heap(&[3]),
        pair(slab("kmalloc-512", true, Some(1)), 0x20, 8),
    );
    assert_eq!(
        judgement.pairs_wide, 1,
        "a call whose place is not known may be any"
    );
}

#[test]
fn pages_need_their_bounds_or_a_wide_rule() {
    let pages = |object_size, allocated_at: Option<u32>| SeenObject::Pages {
        object_size,
        allocated_at: allocated_at.map(SeenAllocationId),
    };
    assert_eq!(
        why(&heap(&[4]), pair(pages(Some(4096), Some(2)), 0x20, 8)),
        Some(Why::Provenance)
    );
    assert_eq!(
        one(&heap(&[4]), pair(pages(None, None), 0x24, 8)).pairs_older,
        1
    );
    assert_eq!(
        why(&LegalSet::default(), pair(pages(None, None), 0, 8)),
        Some(Why::Class)
    );
    let fragment = pair(pages(Some(32768), Some(3)), 0x2fff, 8);
    assert_eq!(one(&heap(&[4]), fragment.clone()).pairs_wide, 1);
    assert_eq!(why(&heap(&[0]), fragment), Some(Why::Provenance));
}

#[test]
fn stacks_go_by_frame_and_gate() {
    use Side::{Beyond, Unknown, Within};
    let stack = |alive, frame, gate| pair(SeenObject::Stack { alive, frame, gate }, 0, 8);
    let rule = |stack| LegalSet {
        stack,
        ..LegalSet::default()
    };
    for (legal, alive, frame, gate, fine) in [
        (StackRule::None, true, Within, Within, false),
        (StackRule::Own, true, Within, Unknown, true),
        (StackRule::Own, true, Beyond, Within, false),
        (StackRule::Own, true, Unknown, Within, true),
        (StackRule::Own, true, Unknown, Beyond, true),
        (StackRule::Compartment, true, Beyond, Within, true),
        (StackRule::Compartment, true, Beyond, Beyond, false),
        (StackRule::Compartment, true, Beyond, Unknown, true),
        (StackRule::Any, true, Beyond, Beyond, true),
        (StackRule::Any, false, Within, Within, false),
    ] {
        let found = why(&rule(legal), stack(alive, frame, gate));
        let wanted = (!fine).then_some(Why::Stack);
        assert_eq!(found, wanted, "{legal:?} {alive} {frame:?} {gate:?}");
    }
}

#[test]
fn globals_go_by_range() {
    let legal = LegalSet {
        globals: vec![
            otf_artifact::ids::GlobalId(0),
            otf_artifact::ids::GlobalId(1),
        ],
        ..LegalSet::default()
    };
    let at = |image: &str, section: &str, offset| {
        pair(
            SeenObject::Global(place(image, section, offset, "g+0x0")),
            0,
            4,
        )
    };
    assert_eq!(why(&legal, at("m", ".data", 8)), None);
    assert_eq!(why(&legal, at("m", ".data", 20)), None);
    assert_eq!(
        why(&legal, at("m", ".data", 21)),
        Some(Why::Global),
        "across its end"
    );
    assert_eq!(why(&legal, at("m", ".bss", 8)), Some(Why::Global));
    assert_eq!(why(&legal, at("vmlinux", "", 0x2000)), None);
    assert_eq!(why(&legal, at("vmlinux", "", 0x2004)), Some(Why::Global));
}

#[test]
fn calls_go_to_their_targets() {
    let lead = |image: &str, section: &str, offset, symbol: &str| {
        let mut seen = recording(vec![]);
        seen.calls.push(CallPair {
            call: CallSiteId(0),
            target: place(image, section, offset, symbol),
            count: 1,
        });
        let judgement = judge(&sites(&LegalSet::default()), &[seen]);
        assert_eq!((judgement.targets_seen, judgement.executed_calls), (1, 1));
        judgement.targets_outside
    };
    assert_eq!(lead("m", ".text", 0x400, "t+0x0"), 0);
    assert_eq!(lead("m", ".text", 0x404, "t+0x4"), 1, "past its entry");
    assert_eq!(
        lead("absent", ".text", 0x4, "u+0x0"),
        0,
        "known by name alone"
    );
    assert_eq!(lead("absent", ".text", 0x8, "u+0x4"), 1);
    assert_eq!(lead("absent", ".text", 0x4, "v+0x0"), 1);
}

#[test]
fn figures_are_of_distinct_pairs_over_all_recordings() {
    let legal = heap(&[1]);
    let good = pair(slab("kmalloc-512", true, Some(0)), 0x20, 8);
    let there = pair(slab("kmalloc-512", true, Some(0)), 0x30, 8);
    let bad = pair(slab("kmalloc-512", true, Some(1)), 0x20, 8);
    let mut other = recording(vec![good.clone(), bad]);
    other.lost.insert("x".into(), 2);
    let judgement = judge(
        &sites(&legal),
        &[recording(vec![good, there]), other.clone(), other],
    );
    assert_eq!((judgement.pairs_seen, judgement.writes_seen), (2, 3));
    assert_eq!((judgement.pairs_outside, judgement.executed_sites), (1, 1));
    assert_eq!(judgement.lost["x"], 4);
    let lost = Pair {
        site: SiteId(7),
        ..pair(SeenObject::User, 0, 1)
    };
    assert_eq!(why(&legal, lost), Some(Why::Row));
}
