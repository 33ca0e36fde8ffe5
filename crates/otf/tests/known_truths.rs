//! What a person who reads `sch_qfq.c` knows must be in its artifacts.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use otf_artifact::{
    Artifact,
    analysis::Dimension,
    ids::ObjectTypeId,
    sites::{Coverage, Precision, Sites},
};
use otf_testkit::products;

/// The sites of the stock module; `None` where real kernels are left out.
fn sites() -> Option<Sites> {
    let path = products()?.folder("sch_qfq").join("sites.json");
    let bytes = std::fs::read(path).unwrap();
    Some(Sites::read(&bytes, "sites.json").unwrap())
}

#[test]
fn groups_are_an_array_in_the_qdisc() {
    let Some(sites) = sites() else { return };
    let analysis = &sites.analysis;
    let name = |id: ObjectTypeId| analysis.types[id.index()].name.as_str();
    let places: Vec<_> = analysis
        .legal_sets
        .iter()
        .flat_map(|set| &set.heap)
        .collect();
    let whole_group = places
        .iter()
        .find(|place| name(place.target) == "struct qfq_group" && place.size == 296);
    let place = whole_group.expect("a write through a pointer to a group");
    assert_eq!(name(place.container), "struct Qdisc");
    assert_eq!(place.offset, 488);
    let dimension = Dimension {
        stride: 296,
        count: 25,
    };
    assert_eq!(place.dimensions, [dimension]);
}

#[test]
fn gates_are_the_operations() {
    let Some(sites) = sites() else { return };
    let gates = &sites.analysis.gates;
    // 17 operations of the qdisc and its classes, `qdisc_peek_dequeued`, init and exit.
    assert_eq!(gates.len(), 20);
    let gate = |function: &str| gates.iter().find(|g| g.function == function).unwrap();
    let enqueue = gate("qfq_enqueue");
    assert_eq!(enqueue.reached_by, ["Qdisc_ops.enqueue"]);
    assert_eq!(enqueue.instance_argument, Some(1));
    assert_eq!(enqueue.instance_type.as_deref(), Some("struct Qdisc"));
    assert_eq!(enqueue.refusal.value, 1);
    assert_eq!(enqueue.refusal.name, "NET_XMIT_DROP");
    let dequeue = gate("qfq_dequeue");
    assert_eq!(dequeue.instance_argument, Some(0));
    assert_eq!(dequeue.refusal.value, 0);
    assert_eq!(gate("qfq_change_class").refusal.name, "-EIO");
}

#[test]
fn four_calls_allocate_what_is_written() {
    let Some(sites) = sites() else { return };
    let analysis = &sites.analysis;
    let calls: Vec<_> = analysis
        .allocation_sites
        .iter()
        .map(|a| (a.file.as_str(), a.function.as_str(), a.size))
        .collect();
    let qfq = "net/sched/sch_qfq.c";
    assert_eq!(
        calls,
        [
            // The size is that of the qdisc's private part, which the caller knows.
            ("net/sched/sch_generic.c", "qdisc_alloc", None),
            (qfq, "qfq_change_agg", Some(104)),
            (qfq, "qfq_change_class", Some(128)),
            (qfq, "qfq_change_class", Some(104)),
        ]
    );
    assert!(sites.untracked_allocations.is_empty());
}

#[test]
fn every_site_has_a_place_in_the_source_and_a_narrow_rung() {
    let Some(sites) = sites() else { return };
    for site in &sites.sites {
        let name = format!(
            "{}+{:#x}",
            site.location.symbol, site.location.symbol_offset
        );
        assert!(site.chain[0].line > 0, "{name} has no line");
        assert_ne!(site.precision, Precision::Compartment, "{name}");
    }
    let probed = sites.sites.iter().filter(|s| s.coverage == Coverage::Probe);
    // The write of CVE-2023-31436: a slot of a group beyond its array.
    let mut scheduling = probed.filter(|s| s.location.symbol == "qfq_schedule_agg");
    let into_a_group = scheduling.any(|site| {
        let set = &sites.legal_sets[site.legal.index()];
        let types: Vec<_> = set
            .types
            .iter()
            .map(|t| &sites.analysis.types[t.index()].name)
            .collect();
        types == ["struct qfq_group"] && set.any_heap.is_none() && !set.heap.is_empty()
    });
    assert!(into_a_group);
}
