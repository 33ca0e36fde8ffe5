//! A small compartment with one thing of each kind.

use otf_artifact::{
    FORMAT_VERSION,
    analysis::{
        AllocationSite, Analysis, CallTarget, Dimension, Family, Gate, Global, HeapPlace, LegalSet,
        ObjectType, Refusal, StackRule, TargetSet,
    },
    ids::{
        AllocationSiteId, GateId, GlobalId, ImageId, LegalSetId, ObjectTypeId, TargetId,
        TargetSetId,
    },
    places::Frame,
    sites::{
        AllocationProbe, CallSite, CallThrough, Coverage, GateProbe, GlobalSymbol, Guarded,
        HeapCall, Length, Location, Operand, Precision, Register, ReturnSite, Site, SiteImage,
        SiteKind, Sites, TargetSymbol, TextSection, Untracked, Unwind,
    },
};

pub const FILE: &str = "net/sched/sch_qfq.c";
const MODULE: ImageId = ImageId(0);
const VMLINUX: ImageId = ImageId(1);

pub fn location(symbol: &str, offset: u64) -> Location {
    let start = symbol.bytes().map(u64::from).sum::<u64>() * 0x1000;
    Location {
        image: MODULE,
        section: ".text".into(),
        offset: start + offset,
        symbol: symbol.into(),
        symbol_offset: offset,
    }
}

fn heap_call(offset: u64, callee: &str, general: Option<&str>) -> HeapCall {
    HeapCall {
        location: location("qfq_change_class", offset),
        callee: callee.into(),
        general: general.map(str::to_owned),
    }
}

fn allocation(line: u32, callee: &str, family: Family) -> AllocationSite {
    AllocationSite {
        file: FILE.into(),
        line,
        column: 9,
        function: "qfq_change_class".into(),
        callee: callee.into(),
        image: "sch_qfq".into(),
        family,
        cache: None,
        size: None,
        size_argument: None,
        count_argument: None,
        types: vec![],
        because: Vec::new(),
        confined: true,
    }
}

fn allocations() -> Vec<AllocationSite> {
    vec![
        AllocationSite {
            size: Some(7904),
            types: vec![ObjectTypeId(2)],
            ..allocation(100, "__kmalloc_cache_noprof", Family::Kmalloc)
        },
        AllocationSite {
            size_argument: Some(0),
            ..allocation(200, "__kvmalloc_node_noprof", Family::Kvmalloc)
        },
        AllocationSite {
            cache: Some("skbuff_head_cache".into()),
            size: Some(232),
            ..allocation(300, "kmem_cache_alloc_noprof", Family::Slab)
        },
        AllocationSite {
            size_argument: Some(1),
            ..allocation(400, "alloc_pages_noprof", Family::Pages)
        },
        AllocationSite {
            size: Some(96),
            ..allocation(500, "__kmalloc_cache_noprof", Family::Kmalloc)
        },
        AllocationSite {
            size: Some(16),
            ..allocation(600, "pcpu_alloc_noprof", Family::PerCpu)
        },
    ]
}

fn place(target: u32, container: u32, sites: &[u32]) -> HeapPlace {
    HeapPlace {
        target: ObjectTypeId(target),
        container: ObjectTypeId(container),
        offset: 0,
        dimensions: vec![],
        size: 96,
        allocation_sites: sites.iter().map(|id| AllocationSiteId(*id)).collect(),
        object_min: 96,
        object_size: None,
    }
}

fn legal_sets() -> Vec<LegalSet> {
    let groups = HeapPlace {
        offset: 488,
        dimensions: vec![Dimension {
            stride: 296,
            count: 25,
        }],
        size: 296,
        object_min: 7904,
        object_size: Some(7904),
        ..place(1, 2, &[0])
    };
    vec![
        LegalSet {
            stack: StackRule::Own,
            ..LegalSet::default()
        },
        LegalSet {
            types: vec![ObjectTypeId(0), ObjectTypeId(1)],
            // Tracked general, tracked kvmalloc and a dedicated cache: three kinds of rows.
            heap: vec![place(0, 0, &[0, 1, 2]), groups],
            ..LegalSet::default()
        },
        LegalSet {
            types: vec![ObjectTypeId(0)],
            globals: vec![GlobalId(0), GlobalId(1)],
            // Site 4 has no probe: its objects have no provenance.
            heap: vec![place(0, 0, &[3]), place(0, 0, &[4]), place(0, 0, &[5])],
            stack: StackRule::Compartment,
            user: true,
            ..LegalSet::default()
        },
        LegalSet {
            any_heap: Some("container of struct sk_buff: \"unknown\" # really".into()),
            any_global: Some("inline assembly".into()),
            per_cpu: true,
            stack: StackRule::Any,
            ..LegalSet::default()
        },
    ]
}

pub fn site(symbol: &str, offset: u64, legal: u32) -> Site {
    Site {
        location: location(symbol, offset),
        kind: SiteKind::Store,
        text: "mov [rbx+8],rax".into(),
        instruction_length: 4,
        operand: Operand {
            base: Some(Register::Bx),
            index: None,
            scale: 1,
            displacement: 8,
            per_cpu: false,
            bit_index: None,
        },
        operand_symbol: None,
        same_object: None,
        length: Length::Constant(8),
        callee: None,
        chain: vec![Frame {
            function: symbol.into(),
            file: FILE.into(),
            line: 1000 + offset as u32,
            column: 5,
        }],
        precision: Precision::Instruction,
        legal: LegalSetId(legal),
        coverage: Coverage::Probe,
        covered: None,
        frame_size: Some(64),
        guarded: Guarded::default(),
        unwind: Unwind::Safe,
        unwind_gates: vec![],
        release: None,
        exact: None,
        on_skip: otf_artifact::sites::OnSkip::Nothing,
        tail: false,
    }
}

fn machine_sites() -> Vec<Site> {
    let indexed = Operand {
        base: Some(Register::Ax),
        index: Some(Register::Cx),
        scale: 4,
        displacement: -16,
        per_cpu: false,
        bit_index: None,
    };
    let bits = Operand {
        bit_index: Some(Register::Dx),
        index: None,
        scale: 1,
        ..indexed
    };
    let di = Operand {
        base: Some(Register::Di),
        displacement: 0,
        ..bits
    };
    let di = Operand {
        bit_index: None,
        ..di
    };
    let mut sites = vec![
        site("qfq_schedule_agg", 0x10, 0),
        Site {
            operand: indexed,
            precision: Precision::Line,
            ..site("qfq_schedule_agg", 0x20, 1)
        },
        Site {
            kind: SiteKind::BitString,
            operand: bits,
            unwind: Unwind::Held("spin_lock".into()),
            unwind_gates: vec![GateId(1), GateId(2)],
            ..site("qfq_schedule_agg", 0x30, 1)
        },
        Site {
            kind: SiteKind::RepString,
            operand: di,
            length: Length::Register(Register::Cx, 8),
            precision: Precision::Function,
            ..site("qfq_dequeue", 0x10, 2)
        },
        Site {
            kind: SiteKind::BulkCall,
            operand: di,
            length: Length::Register(Register::Dx, 1),
            callee: Some("__memcpy".into()),
            frame_size: None,
            guarded: Guarded::default(),
            ..site("qfq_dequeue", 0x20, 3)
        },
        Site {
            operand: Operand {
                per_cpu: true,
                base: None,
                ..di
            },
            precision: Precision::Compartment,
            ..site("qfq_dequeue", 0x30, 3)
        },
        Site {
            coverage: Coverage::Unprobable("jump label".into()),
            ..site("qfq_dequeue", 0x40, 3)
        },
        Site {
            coverage: Coverage::Proven("own frame".into()),
            ..site("qfq_dequeue", 0x50, 0)
        },
    ];
    sites.sort_by(|a, b| a.location.cmp(&b.location));
    sites
}

fn target(image: &str, symbol: &str) -> CallTarget {
    CallTarget {
        image: image.into(),
        symbol: symbol.into(),
        file: FILE.into(),
    }
}

fn target_sets() -> Vec<TargetSet> {
    let set = |targets: &[u32], any: Option<&str>| TargetSet {
        targets: targets.iter().map(|t| TargetId(*t)).collect(),
        any: any.map(str::to_owned),
    };
    vec![
        set(&[1, 2], None),
        set(
            &[1],
            Some("struct Qdisc_ops is filled outside the scope too"),
        ),
        // Target 0 lies in an image that was not given.
        set(&[0, 2], None),
        set(&[], None),
    ]
}

fn call(offset: u64, targets: u32) -> CallSite {
    CallSite {
        location: location("qfq_dequeue", offset),
        text: "call __x86_indirect_thunk_rbx".into(),
        instruction_length: 5,
        jump: false,
        thunk: Some("__x86_indirect_thunk_rbx".into()),
        through: CallThrough::Register(Register::Bx),
        chain: vec![Frame {
            function: "qfq_dequeue".into(),
            file: FILE.into(),
            line: 1000 + offset as u32,
            column: 5,
        }],
        precision: Precision::Instruction,
        targets: TargetSetId(targets),
        coverage: Coverage::Probe,
        unwind_gates: vec![],
    }
}

/// A strict one, a weak one, one with a target that nobody knows, one without any, one that
/// cannot be checked.
fn calls() -> Vec<CallSite> {
    vec![
        CallSite {
            unwind_gates: vec![GateId(1), GateId(2)],
            ..call(0x60, 0)
        },
        CallSite {
            jump: true,
            text: "jmp __x86_indirect_thunk_rbx".into(),
            ..call(0x70, 1)
        },
        call(0x80, 2),
        call(0x90, 3),
        CallSite {
            coverage: Coverage::Unprobable("a call with a prefix".into()),
            ..call(0xa0, 0)
        },
    ]
}

/// Of a gate, of a function that is none, and one that cannot be probed.
fn returns() -> Vec<ReturnSite> {
    let at = |symbol: &str, coverage| ReturnSite {
        location: location(symbol, 0xb0),
        thunk: true,
        coverage,
    };
    vec![
        at("qfq_dequeue", Coverage::Probe),
        at("qfq_schedule_agg", Coverage::Probe),
        at("qfq_enqueue", Coverage::Unprobable("jump label".into())),
    ]
}

fn analysis() -> Analysis {
    let object_type = |name: &str, size| ObjectType {
        name: name.into(),
        file: FILE.into(),
        size,
    };
    let global = |symbol: &str, per_cpu| Global {
        image: "sch_qfq".into(),
        symbol: symbol.into(),
        file: FILE.into(),
        size: 8,
        per_cpu,
    };
    let gate = |function: &str, instance: Option<u8>| Gate {
        file: FILE.into(),
        function: function.into(),
        reached_by: vec![format!("Qdisc_ops.{function}")],
        instance_argument: instance,
        instance_type: instance.map(|_| "struct Qdisc".into()),
        refusal: Refusal {
            value: 1,
            name: "NET_XMIT_DROP".into(),
        },
    };
    Analysis {
        targets: vec![
            target("nf_nat", "nat_hook"),
            target("sch_qfq", "qfq_dequeue"),
            target("vmlinux", "pfifo_dequeue"),
        ],
        target_sets: target_sets(),
        version: FORMAT_VERSION,
        kernel: "debian-6.12".into(),
        compartment: "sch_qfq@cve-2023-31436".into(),
        types: vec![
            object_type("struct qfq_class", 96),
            object_type("struct qfq_group", 296),
            object_type("struct qfq_sched", 7520),
        ],
        globals: vec![global("counter", true), global("qfq_qdisc_ops", false)],
        allocation_sites: allocations(),
        legal_sets: legal_sets(),
        functions: vec![],
        gates: vec![
            gate("qfq_dequeue", Some(0)),
            gate("qfq_enqueue", Some(1)),
            gate("qfq_init", None),
        ],
        compartment_set: LegalSetId(3),
        diagnostics: vec![],
    }
}

pub fn sites() -> Sites {
    let probe = |id: u32, symbol: &str, offset: u64| {
        let allocation = &analysis().allocation_sites[id as usize];
        AllocationProbe {
            allocation: AllocationSiteId(id),
            call: location(symbol, offset),
            after: location(symbol, offset + 5),
            callee: allocation.callee.clone(),
            size: allocation.size,
            size_argument: allocation.size_argument,
            count_argument: allocation.count_argument,
            is_order: allocation.family == Family::Pages,
            returns_page: allocation.family == Family::Pages,
        }
    };
    let image = |name: &str, text: bool| SiteImage {
        name: name.into(),
        file: format!("{name}.ko"),
        build_id: format!("{:040x}", name.len()),
        text: if text {
            vec![TextSection {
                name: ".text".into(),
                offset: 0,
                size: 0x4000,
            }]
        } else {
            vec![]
        },
    };
    let gate = |row: u32, function: &str| GateProbe {
        gate: GateId(row),
        location: location(function, 0),
    };
    let global = GlobalSymbol {
        global: GlobalId(1),
        location: Location {
            image: MODULE,
            section: ".data".into(),
            offset: 64,
            symbol: "qfq_qdisc_ops".into(),
            symbol_offset: 0,
        },
        size: 192,
    };
    assert_eq!(VMLINUX.index(), 1);
    Sites {
        calls: calls(),
        returns: returns(),
        target_sets: target_sets(),
        target_symbols: vec![
            TargetSymbol {
                target: TargetId(1),
                location: location("qfq_dequeue", 0),
            },
            TargetSymbol {
                target: TargetId(2),
                location: Location {
                    image: VMLINUX,
                    ..location("pfifo_dequeue", 0)
                },
            },
        ],
        version: FORMAT_VERSION,
        images: vec![image("sch_qfq", true), image("vmlinux", false)],
        sites: machine_sites(),
        frees: vec![],
        legal_sets: legal_sets(),
        allocation_probes: vec![
            probe(0, "qfq_change_class", 0x10),
            probe(1, "qfq_change_class", 0x20),
            probe(2, "qfq_change_class", 0x30),
            probe(3, "qfq_change_class", 0x40),
            // The compiler merged the calls of sites 0 and 4 here.
            probe(0, "qfq_init", 0x10),
            probe(4, "qfq_init", 0x10),
        ],
        heap_calls: vec![
            heap_call(0x10, "__kmalloc_cache_noprof", None),
            heap_call(
                0x20,
                "krealloc_noprof",
                Some("krealloc_noprof allocates by itself"),
            ),
        ],
        untracked_allocations: vec![Untracked {
            allocation: AllocationSiteId(4),
            reason: "tail call".into(),
        }],
        passed_probes: vec![],
        unnoted_parameters: vec![],
        gate_probes: vec![
            gate(0, "qfq_dequeue"),
            gate(1, "qfq_enqueue"),
            gate(2, "qfq_init"),
        ],
        global_symbols: vec![global],
        jump_rooms: Vec::new(),
        diagnostics: vec![],
        analysis: analysis(),
    }
}
