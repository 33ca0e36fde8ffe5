//! Allocation calls in a snippet, and in the files of a real `vmlinux` that own them.

mod common;

use otf_artifact::{
    analysis::{AllocationSite, Analysis, Family, Gate, Global, Refusal},
    kernel::Image,
    sites::Sites,
};
use otf_binresolve::{ImageInput, extent::Confinement, resolve};

fn site(image: &str, file: &str, function: &str, line: u32, family: Family) -> AllocationSite {
    AllocationSite {
        file: file.into(),
        line,
        column: 1,
        function: function.into(),
        callee: "kmalloc".into(),
        image: image.into(),
        family,
        cache: None,
        size: None,
        size_argument: None,
        count_argument: None,
        types: Vec::new(),
        because: Vec::new(),
        confined: image == "test",
    }
}

fn with_sites(sites: Vec<AllocationSite>) -> Analysis {
    Analysis {
        allocation_sites: sites,
        ..common::empty_analysis()
    }
}

fn probes(sites: &Sites, row: u32) -> Vec<&otf_artifact::sites::AllocationProbe> {
    let of = |p: &&otf_artifact::sites::AllocationProbe| p.allocation.0 == row;
    sites.allocation_probes.iter().filter(of).collect()
}

fn reason(sites: &Sites, row: u32) -> Option<&str> {
    let mut of = sites.untracked_allocations.iter();
    of.find(|u| u.allocation.0 == row)
        .map(|u| u.reason.as_str())
}

#[test]
fn calls_in_a_module() {
    let source = "typedef unsigned long u64;
void *__kmalloc_noprof(u64, unsigned);
void *__kmalloc_cache_noprof(void *, unsigned, u64);
void *alloc_pages_noprof(unsigned, unsigned);
extern void *cache;
static inline void *kmalloc(u64 n) {
	return __builtin_constant_p(n) ? __kmalloc_cache_noprof(cache, 0, n) : __kmalloc_noprof(n, 0);
}
void *both(u64 n, void **out) {
	*out = kmalloc(n);
	*out = kmalloc(64);
	return *out;
}
void *tail(u64 n) {
	return kmalloc(n);
}
void pages(void **out, unsigned order) {
	*out = alloc_pages_noprof(0, order);
}
void moved(void **out, u64 n) {
	*out = kmalloc(n);
}
";
    let analysis = with_sites(vec![
        site("test", "t.c", "both", 10, Family::Kmalloc),
        site("test", "t.c", "both", 11, Family::Kmalloc),
        site("test", "t.c", "tail", 15, Family::Kmalloc),
        site("test", "t.c", "pages", 18, Family::Pages),
        // A line that only the other compiler knows.
        site("test", "t.c", "moved", 99, Family::Kmalloc),
        site("test", "t.c", "gone", 5, Family::Kmalloc),
        site("other", "o.c", "f", 5, Family::Kmalloc),
        site("test", "t.c", "percpu", 5, Family::PerCpu),
    ]);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("t.c"), source).unwrap();
    let traced = ["-fno-optimize-sibling-calls"];
    for (compiler, options) in [("gcc", &[][..]), ("gcc", &traced[..])] {
        let object = common::compile(compiler, directory.path(), "t.c", options);
        let sites = common::resolve_file(&analysis, &object);
        let variable = probes(&sites, 0)[0];
        assert_eq!(variable.callee, "__kmalloc_noprof");
        assert_eq!(variable.size_argument, Some(0));
        assert_eq!(variable.after.offset, variable.call.offset + 5);
        let constant = probes(&sites, 1)[0];
        assert_eq!(constant.callee, "__kmalloc_cache_noprof");
        assert_eq!(constant.size_argument, Some(2));
        let pages = probes(&sites, 3)[0];
        assert!(pages.is_order && pages.returns_page);
        assert_eq!(probes(&sites, 4).len(), 1);
        if options.is_empty() {
            assert!(reason(&sites, 2).unwrap().starts_with("tail call at tail+"));
        } else {
            assert_eq!(probes(&sites, 2).len(), 1);
        }
        assert!(reason(&sites, 5).unwrap().contains("no machine call"));
        assert_eq!(reason(&sites, 6), Some("the image other was not given"));
        assert!(reason(&sites, 7).unwrap().contains("per-CPU"));
    }
}

#[test]
fn calls_in_a_real_kernel() {
    let Some(products) = otf_testkit::products() else {
        return;
    };
    let lock = products.lock("sch_qfq");
    let read = |image: &Image| std::fs::read(products.file(&image.file)).unwrap();
    let (vmlinux, module) = (read(&lock.vmlinux), read(&lock.modules[0]));
    let start = std::time::Instant::now();
    let file = "net/sched/sch_generic.c";
    let mut analysis = with_sites(vec![
        site("vmlinux", file, "qdisc_alloc", 982, Family::Kmalloc),
        site(
            "sch_qfq",
            "net/sched/sch_qfq.c",
            "qfq_change_class",
            482,
            Family::Kmalloc,
        ),
        site(
            "sch_qfq",
            "net/sched/sch_qfq.c",
            "qfq_change_class",
            514,
            Family::Kmalloc,
        ),
    ]);
    let global = |symbol: &str, per_cpu| Global {
        image: "vmlinux".into(),
        symbol: symbol.into(),
        file: String::new(),
        size: 0,
        per_cpu,
    };
    analysis.globals = vec![global("noop_qdisc", false), global("pcpu_hot", true)];
    analysis.gates = [
        "qfq_change_class",
        "qfq_dequeue",
        "qfq_enqueue",
        "qfq_init_qdisc",
    ]
    .map(|function| Gate {
        file: "net/sched/sch_qfq.c".into(),
        function: function.into(),
        reached_by: vec!["Qdisc_ops".into()],
        instance_argument: Some(0),
        instance_type: None,
        refusal: Refusal {
            value: 0,
            name: "0".into(),
        },
    })
    .to_vec();
    let input = |name, bytes, confined| ImageInput {
        name,
        file: name,
        bytes,
        confined,
        exact: &[],
    };
    let images = [
        input("vmlinux", &vmlinux[..], Confinement::Outside),
        input("sch_qfq", &module[..], Confinement::Whole),
    ];
    let sites = resolve(&analysis, &images).unwrap_or_else(|e| panic!("{e:#?}"));
    eprintln!("resolved in {:?}", start.elapsed());
    for row in 0..3 {
        assert!(!probes(&sites, row).is_empty(), "{:?}", reason(&sites, row));
    }
    assert_eq!(probes(&sites, 0)[0].call.symbol, "qdisc_alloc");
    assert_eq!(sites.gate_probes.len(), 4);
    assert_eq!(sites.global_symbols.len(), 2);
    assert!(sites.global_symbols[0].size >= 384);
    // Class changes hold the tree lock on their way to the scheduler, packets hold nothing.
    let scheduling: Vec<_> = sites
        .sites
        .iter()
        .filter(|s| s.location.symbol == "qfq_schedule_agg")
        .collect();
    assert_eq!(scheduling.len(), 15);
    for site in scheduling {
        let gates: Vec<u32> = site.unwind_gates.iter().map(|g| g.0).collect();
        assert!(
            gates.contains(&2),
            "{} {:?} {gates:?}",
            site.text,
            site.unwind
        );
    }
}

#[test]
fn calls_that_a_private_heap_serves() {
    let source = "typedef unsigned long u64;
void *__kmalloc_noprof(u64, unsigned);
void *krealloc_noprof(void *, u64, unsigned);
void *kmem_cache_alloc_noprof(void *, unsigned);
void *called(u64 n, void **out) {
	*out = __kmalloc_noprof(n, 0);
	return out;
}
void *jumped(u64 n) {
	return __kmalloc_noprof(n, 0);
}
void *grown(void *old, u64 n) {
	return krealloc_noprof(old, n, 0);
}
void *dedicated(void *cache) {
	return kmem_cache_alloc_noprof(cache, 0);
}
";
    // What the analysis knows of allocations has no say in it.
    let analysis = with_sites(Vec::new());
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("t.c"), source).unwrap();
    let object = common::compile("gcc", directory.path(), "t.c", &[]);
    let sites = common::resolve_file(&analysis, &object);
    let mut found: Vec<(&str, &str, Option<&str>)> = sites
        .heap_calls
        .iter()
        .map(|c| {
            (
                c.location.symbol.as_str(),
                c.callee.as_str(),
                c.general.as_deref(),
            )
        })
        .collect();
    found.sort_unstable();
    let general = Some("krealloc_noprof allocates by itself");
    assert_eq!(
        found,
        [
            ("called", "__kmalloc_noprof", None),
            ("grown", "krealloc_noprof", general),
            ("jumped", "__kmalloc_noprof", None),
        ]
    );
}
