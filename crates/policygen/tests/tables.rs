//! Policy to rows: what each kind of thing becomes.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use otf_artifact::{
    abi,
    analysis::{HeapPlace, StackRule},
    bundle::{Probe, Program},
    diagnostic::{Code, Severity},
    ids::{AllocationSiteId, GlobalId},
    sites::{Coverage, Length, Register, Site, SiteKind, Sites},
};
use otf_policygen::{
    Policy,
    bind::bind,
    check::check,
    generate,
    tables::{Built, build},
};

fn built(sites: &Sites) -> Built {
    let bound = bind(&generate(sites), sites).unwrap();
    let built = build(&bound, sites).unwrap();
    assert_eq!(check(&built.tables, &built.plan, sites), []);
    built
}

/// The legal row of the first checked site with this row in the sites.
fn legal_of(built: &Built, sites: &Sites, legal: u32) -> abi::Legal {
    let checked = sites.sites.iter().filter(|s| s.coverage == Coverage::Probe);
    let row = checked
        .into_iter()
        .position(|s| s.legal.0 == legal)
        .unwrap();
    built.tables.legals[built.tables.sites[row].legal as usize]
}

fn places_of(built: &Built, legal: abi::Legal) -> &[abi::Place] {
    let first = legal.first_place as usize;
    &built.tables.places[first..first + legal.places as usize]
}

#[test]
fn only_checked_sites_get_a_row_in_order() {
    let sites = common::sites();
    let built = built(&sites);
    assert_eq!(built.warnings, []);
    assert_eq!(built.tables.sites.len(), 6);
    let probes = built
        .plan
        .probes
        .iter()
        .filter(|p| p.program == Program::Site);
    for (row, (probe, site)) in probes.zip(&built.plan.sites).enumerate() {
        assert_eq!(probe.cookie, row as u64);
        assert_eq!(probe.location, site.location);
    }
    let programs: Vec<_> = built.plan.probes.iter().map(|p| p.program).collect();
    assert!(programs.is_sorted(), "{programs:?}");
}

#[test]
fn rows_of_sites() {
    let sites = common::sites();
    let built = built(&sites);
    let row = |symbol: &str, offset: u64| {
        let place = common::location(symbol, offset);
        let row = built
            .plan
            .sites
            .iter()
            .position(|s| s.location == place)
            .unwrap();
        built.tables.sites[row]
    };
    let plain = row("qfq_schedule_agg", 0x10);
    assert_eq!((plain.displacement, plain.size, plain.length), (8, 8, 0));
    assert_eq!(plain.flags, abi::SITE_FRAME);
    assert_eq!((plain.frame_size, plain.insn_len), (64, 4));
    assert_eq!(plain.action, abi::Action::Deny as u8);
    let held = row("qfq_schedule_agg", 0x30);
    assert_eq!(held.flags, abi::SITE_FRAME);
    // It may unwind to gates 1 and 2 only.
    assert_eq!((held.gates, plain.gates), (1, 0));
    assert_eq!(
        built.tables.gate_sets,
        [abi::GateSet {
            gates: [0b110, 0, 0, 0]
        }]
    );
    let rep = row("qfq_dequeue", 0x10);
    assert_eq!((rep.length, rep.size), (abi::LengthKind::Cx as u8, 8));
    let call = row("qfq_dequeue", 0x20);
    assert_eq!((call.length, call.size), (abi::LengthKind::Dx as u8, 1));
    assert_eq!(call.flags, abi::SITE_RETURNS_DI);
    let per_cpu = row("qfq_dequeue", 0x30);
    assert!(per_cpu.flags & abi::SITE_PERCPU != 0);
    // The displacement is not part of a shape: [di] of rep and call are one, [rbx], [rax+rcx*4],
    // the bit string and the per-CPU operand without a base are others.
    assert_eq!(built.tables.shapes.len(), 5);
    assert_eq!(rep.shape, call.shape);
}

#[test]
fn a_symbol_in_an_operand_is_a_range_that_no_set_names() {
    let mut sites = common::sites();
    let symbol = common::location("table", 8);
    sites.sites[0].operand_symbol = Some(symbol.clone());
    sites.sites[1].operand_symbol = Some(symbol.clone());
    let built = built(&sites);
    let rows: Vec<_> = built.tables.sites.iter().map(|s| s.symbol).collect();
    assert_eq!(rows, [2, 2, 0, 0, 0, 0]);
    let global = &built.plan.globals[1];
    assert_eq!(
        (&global.location, global.symbol.as_str(), global.size),
        (&symbol, "", 0)
    );
    assert_eq!(built.tables.global_rows, [0]);
}

#[test]
fn user_copies_return_what_they_did_not_copy() {
    let mut sites = common::sites();
    let callees = [
        ("_copy_from_user", abi::SITE_RETURNS_LENGTH),
        ("rep_movs_alternative", abi::SITE_RETURNS_LENGTH),
        ("memset", abi::SITE_RETURNS_DI),
        ("strscpy", 0),
    ];
    for (callee, expected) in callees {
        let row = sites.sites.iter().position(|s| s.callee.is_some()).unwrap();
        sites.sites[row].callee = Some(callee.into());
        let built = built(&sites);
        let site = built
            .plan
            .sites
            .iter()
            .position(|s| s.location == sites.sites[row].location);
        let flags = built.tables.sites[site.unwrap()].flags;
        let found = flags & (abi::SITE_RETURNS_DI | abi::SITE_RETURNS_LENGTH);
        assert_eq!(found, expected, "{callee}");
    }
}

#[test]
fn a_place_gets_a_row_for_each_kind_of_cache() {
    let sites = common::sites();
    let built = built(&sites);
    let places = places_of(&built, legal_of(&built, &sites, 1));
    assert_eq!(places.len(), 3);
    assert_eq!(built.plan.caches, ["skbuff_head_cache"]);
    let dedicated = places.iter().find(|p| p.cache == 0).unwrap();
    let groups = places.iter().find(|p| p.stride[0] == 296).unwrap();
    let class = places
        .iter()
        .find(|p| p.cache == abi::CACHE_GENERAL && p.size == 96)
        .unwrap();
    assert_eq!((groups.count, groups.object_max), ([25, 0], 7904));
    let rows = |place: &abi::Place| {
        let bits = (0..64).filter(|b| place.allocations[0] >> b & 1 == 1);
        bits.map(|row| built.plan.allocations[row].as_str())
            .collect::<Vec<_>>()
    };
    let one = "qfq_change_class, net/sched/sch_qfq.c:100";
    let merged =
        "qfq_change_class, net/sched/sch_qfq.c:100 or qfq_change_class, net/sched/sch_qfq.c:500";
    assert_eq!(
        rows(dedicated),
        ["qfq_change_class, net/sched/sch_qfq.c:300"]
    );
    assert_eq!(rows(groups), [one, merged]);
    assert_eq!(
        rows(class),
        [one, merged, "qfq_change_class, net/sched/sch_qfq.c:200"]
    );
}

#[test]
fn no_provenance_where_an_allocation_is_not_recorded() {
    let sites = common::sites();
    let built = built(&sites);
    let legal = legal_of(&built, &sites, 2);
    let places = places_of(&built, legal);
    // Pages are recorded; allocation site 4 is not; per-CPU memory is no heap place.
    assert_eq!(places.len(), 2);
    let pages = places.iter().find(|p| p.cache == abi::CACHE_NONE).unwrap();
    assert_ne!(pages.allocations, [0; abi::ALLOC_WORDS]);
    let general = places
        .iter()
        .find(|p| p.cache == abi::CACHE_GENERAL)
        .unwrap();
    assert_eq!(general.allocations, [0; abi::ALLOC_WORDS]);
    assert_eq!(
        legal.flags,
        abi::LEGAL_PERCPU | abi::LEGAL_USER | abi::LEGAL_TRACKED
    );
    assert_eq!(legal.stack, StackRule::Compartment as u8);
    // The per-CPU global has no range, the other one has.
    assert_eq!(legal.globals, 1);
    assert_eq!(built.plan.globals[0].symbol, "qfq_qdisc_ops");
}

#[test]
fn wide_sets_need_no_places() {
    let sites = common::sites();
    let built = built(&sites);
    let legal = legal_of(&built, &sites, 3);
    assert_eq!(
        legal.flags,
        abi::LEGAL_ANY_HEAP | abi::LEGAL_ANY_GLOBAL | abi::LEGAL_PERCPU
    );
    assert_eq!(legal.stack, StackRule::Any as u8);
}

#[test]
fn objects_of_slabs_are_recorded_for_narrow_sets_alone() {
    let recorded = |sites: &Sites, line: &str| {
        let built = built(sites);
        built.plan.allocations.iter().any(|a| a.contains(line))
    };
    let mut sites = common::sites();
    assert!(recorded(&sites, ":300") && recorded(&sites, ":400"));
    for set in &mut sites.legal_sets {
        set.any_heap = Some("containers outside the scope are not known".into());
    }
    // A slab says itself where an object ends; pages do not.
    assert!(!recorded(&sites, ":300") && recorded(&sites, ":400"));
}

#[test]
fn sizes_of_allocations() {
    let sites = common::sites();
    let built = built(&sites);
    let row = |text: &str| {
        let row = built
            .plan
            .allocations
            .iter()
            .position(|a| a.contains(text))
            .unwrap();
        (row as u64, built.tables.allocs[row])
    };
    let calls: Vec<_> = built
        .plan
        .probes
        .iter()
        .filter(|p| p.program == Program::AllocationCall)
        .map(|p| p.cookie)
        .collect();
    let (kvmalloc, alloc) = row(":200");
    assert_eq!(
        (alloc.size, alloc.size_arg, alloc.count_arg, alloc.is_order),
        (0, 0, 0xff, 0)
    );
    let (pages, alloc) = row(":400");
    assert_eq!((alloc.size, alloc.size_arg, alloc.is_order), (0, 1, 1));
    let (_, constant) = row(":300");
    assert_eq!((constant.size, constant.size_arg), (232, 0xff));
    // Merged calls with different constants: no size is known.
    let (_, merged) = row(" or ");
    assert_eq!((merged.size, merged.size_arg), (0, 0xff));
    // Every call is noted, also where the size is known.
    let mut calls = calls;
    calls.sort_unstable();
    assert!(calls.contains(&kvmalloc) && calls.contains(&pages));
    assert_eq!(
        calls,
        (0..built.tables.allocs.len() as u64).collect::<Vec<_>>()
    );
}

#[test]
fn beyond_a_limit_a_set_is_widened_and_says_so() {
    let mut sites = common::sites();
    let base: HeapPlace = sites.legal_sets[1].heap[0].clone();
    sites.legal_sets[1].heap = (0..=abi::MAX_PLACES as u64)
        .map(|n| HeapPlace {
            offset: n * 1000,
            ..base.clone()
        })
        .collect();
    let built = built(&sites);
    assert_eq!(built.warnings.len(), 1);
    assert_eq!(built.warnings[0].code, Code::PolicyTooLarge);
    assert_eq!(built.warnings[0].severity, Severity::Warning);
    let legal = legal_of(&built, &sites, 1);
    assert_eq!((legal.flags, legal.places), (abi::LEGAL_ANY_HEAP, 0));
}

#[test]
fn a_global_without_an_address_widens() {
    let mut sites = common::sites();
    sites.global_symbols.clear();
    let built = built(&sites);
    let legal = legal_of(&built, &sites, 2);
    assert!(legal.flags & abi::LEGAL_ANY_GLOBAL != 0);
    assert_eq!(built.warnings.len(), 1);
    assert!(sites.legal_sets[2].globals.contains(&GlobalId(1)));
}

#[test]
fn more_allocation_calls_than_bits_lose_provenance_not_permission() {
    let mut sites = common::sites();
    let many = 64 * abi::ALLOC_WORDS + 3;
    let site = sites.analysis.allocation_sites[4].clone();
    let mut ids = vec![];
    for n in 0..many as u32 {
        ids.push(AllocationSiteId::from(
            sites.analysis.allocation_sites.len(),
        ));
        let site = otf_artifact::analysis::AllocationSite {
            line: 5000 + n,
            ..site.clone()
        };
        sites.analysis.allocation_sites.push(site);
        let mut probe = sites.allocation_probes[0].clone();
        probe.allocation = ids[n as usize];
        probe.size = Some(96);
        probe.after.offset = 0x10_0000 + u64::from(n);
        probe.call.offset = 0x10_0000 + u64::from(n);
        sites.allocation_probes.push(probe);
    }
    sites.legal_sets[0].heap = vec![HeapPlace {
        allocation_sites: ids,
        ..sites.legal_sets[1].heap[0].clone()
    }];
    let built = built(&sites);
    assert_eq!(built.tables.allocs.len(), 64 * abi::ALLOC_WORDS);
    assert_eq!(built.warnings.len(), 1);
    let places = places_of(&built, legal_of(&built, &sites, 0));
    assert_eq!(places.len(), 1);
    assert_eq!(places[0].allocations, [0; abi::ALLOC_WORDS]);
}

#[test]
fn a_site_that_no_program_can_compute_is_an_error() {
    let mut sites = common::sites();
    sites.sites[0].operand.base = Some(Register::Ip);
    sites.sites[1].length = Length::Register(Register::R9, 1);
    let bound = bind(&generate(&sites), &sites).unwrap();
    let errors = build(&bound, &sites).unwrap_err();
    assert_eq!(errors.len(), 2);
    assert!(
        errors
            .iter()
            .all(|e| e.code == Code::InvariantBroken && e.file.is_some())
    );
}

#[test]
fn the_checker_sees_broken_tables() {
    let sites = common::sites();
    let good = built(&sites);
    let broken = |change: &dyn Fn(&mut Built)| {
        let mut bad = good.clone();
        change(&mut bad);
        check(&bad.tables, &bad.plan, &sites)
    };
    let changes: [&dyn Fn(&mut Built); 10] = [
        &|b| b.tables.sites[0].legal = 99,
        &|b| b.tables.sites[0].shape = 99,
        &|b| b.tables.sites[0].insn_len = 0,
        &|b| b.tables.sites.truncate(1),
        &|b| b.tables.legals[0].places = 99,
        &|b| b.tables.legals[0] = abi::Legal::default(),
        &|b| b.tables.places[0].cache = 7,
        &|b| b.tables.places[0].allocations[7] = 1 << 63,
        &|b| b.plan.probes[0].cookie = 99,
        &|b| b.plan.probes.push(b.plan.probes[0].clone()),
    ];
    for (n, change) in changes.iter().enumerate() {
        let found = broken(change);
        assert!(!found.is_empty(), "change {n}");
        assert!(found.iter().all(|d| d.code == Code::InvariantBroken));
    }
}

#[test]
fn rows_of_calls() {
    let sites = common::sites();
    let built = built(&sites);
    let row = |flags, targets, gates| abi::Call {
        targets,
        gates,
        flags,
        insn_len: 5,
        action: abi::Action::Deny as u8,
        ..abi::Call::default()
    };
    let found: Vec<_> = built
        .tables
        .calls
        .iter()
        .map(|call| abi::Call { shape: 0, ..*call })
        .collect();
    assert_eq!(
        found,
        [
            row(0, 0, 1),
            row(abi::CALL_WEAK | abi::CALL_TAIL, 1, 0),
            // A target without an address, and none at all: any function will do.
            row(abi::CALL_WEAK, 2, 0),
            row(abi::CALL_WEAK, 3, 0),
        ]
    );
    let targets: Vec<(u32, &str)> = built
        .plan
        .targets
        .iter()
        .map(|t| (t.set, t.location.symbol.as_str()))
        .collect();
    assert_eq!(
        targets,
        [
            (0, "qfq_dequeue"),
            (0, "pfifo_dequeue"),
            (1, "qfq_dequeue"),
            (2, "pfifo_dequeue"),
        ]
    );
    let cookies = built.plan.probes.iter();
    let cookies = cookies.filter(|p| p.program == Program::Call);
    assert!(cookies.map(|p| p.cookie).eq(0..4));
    let plan = &built.plan;
    assert_eq!(plan.checked().count(), plan.sites.len() + 4);
    let first = plan.checked_at(plan.sites.len() as u32).unwrap();
    assert_eq!(first.location, common::location("qfq_dequeue", 0x60));
    assert_eq!(
        first.legal,
        "call of sch_qfq:qfq_dequeue, vmlinux:pfifo_dequeue"
    );
}

#[test]
fn returns_of_gates_only_and_only_if_wanted() {
    let sites = common::sites();
    assert!(built(&sites).tables.returns.is_empty());
    let policy = Policy {
        returns: true,
        ..generate(&sites)
    };
    let built = build(&bind(&policy, &sites).unwrap(), &sites).unwrap();
    assert_eq!(check(&built.tables, &built.plan, &sites), []);
    let gates: Vec<u32> = built.tables.returns.iter().map(|r| r.gate).collect();
    assert_eq!(gates, [0]);
    let place = common::location("qfq_dequeue", 0xb0);
    assert_eq!(built.plan.returns[0].location, place);
}

#[test]
fn a_private_heap_only_if_wanted() {
    let sites = common::sites();
    let private = |p: &&Probe| p.program == Program::PrivateHeap;
    let without = built(&sites).plan;
    assert!(without.probes.iter().find(private).is_none());
    assert_eq!(without.private_heap, None);
    assert_eq!(built(&sites).tables.own_caches, []);
    let policy = Policy {
        private_heap: true,
        ..generate(&sites)
    };
    let built = build(&bind(&policy, &sites).unwrap(), &sites).unwrap();
    assert_eq!(check(&built.tables, &built.plan, &sites), []);
    // All that it gives is recorded, so that what it was given back is known.
    let name = format!("otf.{}-", sites.analysis.compartment);
    let words = &built.tables.own_caches;
    let bytes = words.iter().flat_map(|word| word.word.to_le_bytes());
    let text: Vec<u8> = bytes.filter(|byte| *byte != 0).collect();
    assert_eq!(text, name.as_bytes());
    let masked = words.iter().flat_map(|word| word.mask.to_le_bytes());
    assert_eq!(masked.filter(|byte| *byte == 0xff).count(), name.len());
    // First of all, and not where the heap cannot serve.
    let probes = &built.plan.probes;
    assert!(private(&&probes[0]));
    assert_eq!(
        probes[0].location,
        common::location("qfq_change_class", 0x10)
    );
    assert_eq!(probes.iter().filter(private).count(), 1);
    let heap = built.plan.private_heap.unwrap();
    assert_eq!(heap.private, 1);
    let general: Vec<(&str, u64)> = heap.general.iter().map(|(k, n)| (k.as_str(), *n)).collect();
    assert_eq!(
        general,
        [
            (
                "in functions outside the compartment, which serve others too",
                1
            ),
            ("krealloc_noprof allocates by itself", 1),
        ]
    );
}

#[test]
fn what_a_private_heap_takes_back_is_not_known_when_it_gives_unrecorded() {
    let mut sites = common::sites();
    let at = common::location("qfq_change_class", 0x10);
    sites.allocation_probes.retain(|probe| probe.call != at);
    let policy = Policy {
        private_heap: true,
        ..generate(&sites)
    };
    let built = build(&bind(&policy, &sites).unwrap(), &sites).unwrap();
    assert_eq!(built.tables.own_caches, []);
    let said = built
        .warnings
        .iter()
        .map(|warning| warning.message.as_str());
    assert_eq!(
        said.collect::<Vec<_>>(),
        [
            "1 calls that the private heap serves are not recorded: a write by a wide rule to what was freed is not seen"
        ]
    );
}

#[test]
fn frees_and_calls_by_jumps() {
    let mut sites = common::sites();
    let call = sites.sites.iter().find(|s| s.kind == SiteKind::BulkCall);
    let free = Site {
        kind: SiteKind::Free,
        callee: Some("kfree".into()),
        length: Length::Constant(1),
        location: common::location("qfq_dequeue", 0x58),
        tail: true,
        ..call.unwrap().clone()
    };
    let location = free.location.clone();
    sites.frees.push(free);
    let built = built(&sites);
    let row = built.plan.sites.iter().position(|s| s.location == location);
    let row = built.tables.sites[row.unwrap()];
    assert_eq!(row.flags, abi::SITE_FREE | abi::SITE_TAIL);
}
