//! C snippets, compiled by GCC and clang: a line that says `//~ KIND` has sites of that kind and no
//! line without has any (of a kind that is not proven to stay in the frame).
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are not marked as tests"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    analysis::{Analysis, Call, Function, LegalSet, StackRule, Target, Write, WriteKind},
    ids::LegalSetId,
    sites::{Coverage, Precision, Register, Release, Site, SiteKind, Sites, Unwind},
};

const COMPILERS: [&str; 2] = ["gcc", "clang-19"];

fn kind_name(kind: SiteKind) -> &'static str {
    match kind {
        SiteKind::Store => "store",
        SiteKind::BitString => "bits",
        SiteKind::RepString => "rep",
        SiteKind::BulkCall => "bulk",
        SiteKind::Free => "free",
    }
}

/// Kinds of sites by line of the snippet, from the innermost frame.
fn kinds_by_line(sites: &Sites) -> BTreeMap<u32, BTreeSet<&'static str>> {
    let mut lines: BTreeMap<u32, BTreeSet<&'static str>> = BTreeMap::new();
    for site in &sites.sites {
        if site.coverage != Coverage::Proven("own frame".into()) {
            let kinds = lines.entry(site.chain[0].line).or_default();
            kinds.insert(kind_name(site.kind));
        }
    }
    lines
}

fn expected_by_line(source: &str) -> BTreeMap<u32, BTreeSet<&str>> {
    source
        .lines()
        .zip(1..)
        .filter_map(|(line, number)| {
            let kinds = line.split_once("//~ ")?.1;
            Some((number, kinds.split_whitespace().collect()))
        })
        .collect()
}

/// A function as a gate.
fn gate(name: &str) -> otf_artifact::analysis::Gate {
    otf_artifact::analysis::Gate {
        file: "t.c".into(),
        function: name.into(),
        reached_by: vec!["test".into()],
        instance_argument: None,
        instance_type: None,
        refusal: otf_artifact::analysis::Refusal {
            value: 0,
            name: "void".into(),
        },
    }
}

fn resolve_snippet(
    compiler: &str,
    source: &str,
    analysis: &otf_artifact::analysis::Analysis,
) -> Sites {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("t.c"), source).unwrap();
    let object = common::compile(compiler, directory.path(), "t.c", &[]);
    let sites = common::resolve_file(analysis, &object);
    common::assert_same_writes(&sites, &object);
    sites
}

#[test]
fn kinds_of_writes() {
    let source = r#"
typedef unsigned long u64;
struct s { int a; long b; unsigned char pad[600]; };
int counter;
int array[64];
void *memset(void *, int, u64);
void *memcpy(void *, const void *, u64);
u64 _copy_from_user(void *, const void *, u64);

void plain(struct s *s, int v) {
	s->a = v; //~ store
	s->b += v; //~ store
}
void atomic(long *p, long v) {
	__atomic_fetch_add(p, v, 5); //~ store
}
void locked_or(int *p) {
	asm volatile("lock orl $4, %0" : "+m"(*p)); //~ store
}
void bits(u64 *p, u64 n) {
	asm volatile("btsq %1, %0" : "+m"(*p) : "r"(n) : "memory"); //~ bits
}
void fixed_bit(u64 *p) {
	asm volatile("btsq $3, %0" : "+m"(*p)); //~ store
}
void string(void *p, u64 n) {
	asm volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(0) : "memory"); //~ rep
}
void calls(void *p, u64 n) {
	memset(p, 1, n); //~ bulk
}
u64 user(void *p, const void *u, u64 n) {
	u64 left = _copy_from_user(p, u, n); //~ bulk
	asm volatile("" ::: "memory");
	return left;
}
void global(int v) {
	counter = v; //~ store
}
void indexed(u64 i, int v) {
	array[i] = v; //~ store
}
void percpu(u64 v) {
	asm volatile("movq %0, %%gs:(%1)" :: "r"(v), "r"(v) : "memory"); //~ store
}
void frame(u64 i, int v) {
	volatile int local[8];
	local[2] = v;
	local[i] = v; //~ store
	asm volatile("" :: "r"(local) : "memory");
}
int reads(struct s *s) {
	asm volatile("push %0; popq %%rcx" :: "m"(s->b) : "rcx");
	return s->a;
}
"#;
    for compiler in COMPILERS {
        let sites = resolve_snippet(compiler, source, &common::empty_analysis());
        let expected = expected_by_line(source);
        assert_eq!(kinds_by_line(&sites), expected, "{compiler}");
        let in_function = |name: &str| -> Vec<&Site> {
            let inside = |s: &&Site| {
                s.location.symbol == name && s.coverage != Coverage::Proven("own frame".into())
            };
            sites.sites.iter().filter(inside).collect()
        };
        let global = in_function("global")[0];
        assert_eq!(global.coverage, Coverage::Proven("global counter".into()));
        assert_eq!(global.operand_symbol, None);
        let indexed = in_function("indexed")[0];
        assert_eq!(indexed.operand_symbol.as_ref().unwrap().symbol, "array");
        assert_eq!(
            indexed.operand.index.or(indexed.operand.base),
            Some(Register::Di)
        );
        assert!(in_function("percpu")[0].operand.per_cpu);
        let bits = in_function("bits")[0];
        assert_eq!(bits.operand.bit_index, Some(Register::Si));
        assert!(in_function("frame").iter().all(|s| s.frame_size.is_some()));
        assert!(in_function("user")[0].chain[0].file == "t.c");
    }
}

#[test]
fn aligned_frames() {
    let source = "
void outside(void *);
void f(long v, long *p) {
	volatile long line[8] __attribute__((aligned(64)));
	line[0] = v;
	line[1] = v + 1;
	line[7] = v + 2;
	outside((void *)line);
	*p = line[0];
}
";
    for compiler in COMPILERS {
        let sites = resolve_snippet(compiler, source, &common::empty_analysis());
        // No frame size can be told, but that the places lie in the frame.
        let own = Coverage::Proven("own frame".into());
        let (inside, outside): (Vec<_>, Vec<_>) =
            sites.sites.iter().partition(|s| s.coverage == own);
        assert!(inside.len() >= 3, "{compiler}: {:#?}", sites.sites);
        assert!(inside.iter().all(|s| s.frame_size.is_none()));
        assert_eq!(outside.len(), 1);
    }
}

/// One function of a hand-made analysis.
fn function(name: &str, writes: Vec<(u32, u64, Target)>, calls: Vec<Call>) -> Function {
    let write = |(line, size, target)| Write {
        line,
        column: 0,
        kind: WriteKind::Store,
        size,
        target,
        field: None,
        pointer: Vec::new(),
    };
    Function {
        indirect_calls: Vec::new(),
        file: "t.c".into(),
        name: name.into(),
        line: 1,
        writes: writes.into_iter().map(write).collect(),
        calls,
    }
}

#[test]
fn the_ladder_climbs() {
    let source = "typedef unsigned long u64;
struct s { int a; int b; };
static inline __attribute__((always_inline)) void put(int *p, int v) {
	*p = v;
}
void through(struct s *s, int v) {
	put(&s->b, v);
}
void both(int *p, int *q, int v) {
	*p = v; *q = v;
}
void elsewhere(int *p, int v) {
	*p = v;
}
void merged(struct s *s) {
	s->a = 1;
	s->b = 2;
}
void unknown(int *p) {
	*p = 1;
}
";
    let mut analysis = common::empty_analysis();
    let sets: Vec<_> = (0..7)
        .map(|_| common::distinct_set(&mut analysis))
        .collect();
    let set = |n: usize| Target::Set(sets[n]);
    let parameter = Target::Parameter {
        index: 0,
        otherwise: sets[6],
        strays: false,
    };
    analysis.functions = vec![
        function("both", vec![(10, 4, set(1)), (10, 4, set(2))], vec![]),
        // The line differs: only the function can be told.
        function("elsewhere", vec![(99, 4, set(3))], vec![]),
        function("merged", vec![(16, 4, set(4)), (17, 4, set(5))], vec![]),
        function("put", vec![(4, 4, parameter)], vec![]),
        function(
            "through",
            vec![],
            vec![Call {
                line: 7,
                column: 0,
                callee: "put".into(),
                arguments: vec![Some(set(0)), None],
            }],
        ),
    ];
    for compiler in COMPILERS {
        let sites = resolve_snippet(compiler, source, &analysis);
        let legal = |name: &str| -> Vec<(Precision, Vec<u32>)> {
            let inside = sites.sites.iter().filter(|s| s.location.symbol == name);
            let globals = |s: &Site| {
                let set = &sites.legal_sets[s.legal.index()];
                set.globals.iter().map(|g| g.0).collect()
            };
            inside.map(|s| (s.precision, globals(s))).collect()
        };
        assert_eq!(
            legal("through"),
            [(Precision::Instruction, vec![0])],
            "{compiler}"
        );
        assert_eq!(
            legal("both"),
            [(Precision::Line, vec![1, 2]), (Precision::Line, vec![1, 2])]
        );
        assert_eq!(legal("elsewhere"), [(Precision::Function, vec![3])]);
        // Two stores of four bytes became one of eight, in whichever line's name.
        assert_eq!(legal("merged"), [(Precision::Function, vec![4, 5])]);
        assert_eq!(legal("unknown"), [(Precision::Compartment, vec![])]);
    }
}

#[test]
fn what_is_freed() {
    let source = "
struct s { int a; void *part; };
void kfree(const void *);
void kmem_cache_free(void *, void *);
static inline __attribute__((always_inline)) void drop(void *part) {
	kfree(part);
}
void whole(struct s *s, int n) {
	drop(s->part);
	if (n)
		kfree(s);
	asm volatile(\"\");
}
void last(struct s *s) {
	kfree(s);
}
void cached(void *cache, struct s *s) {
	kmem_cache_free(cache, s);
	asm volatile(\"\");
}
void unknown(struct s *s) {
	kfree(s);
	asm volatile(\"\");
}
void elsewhere(struct s *s) {
	kfree(s);
	asm volatile(\"\");
}
";
    let mut analysis = common::empty_analysis();
    let heap = |analysis: &mut Analysis, reason: &str| {
        analysis.legal_sets.push(LegalSet {
            any_heap: Some(reason.into()),
            stack: StackRule::Any,
            ..LegalSet::default()
        });
        LegalSetId::from(analysis.legal_sets.len() - 1)
    };
    let (part, object) = (heap(&mut analysis, "part"), heap(&mut analysis, "object"));
    let parameter = Target::Parameter {
        index: 0,
        otherwise: heap(&mut analysis, "otherwise"),
        strays: false,
    };
    let call = |line, callee: &str, arguments| Call {
        line,
        column: 0,
        callee: callee.into(),
        arguments,
    };
    let object = Some(Target::Set(object));
    analysis.functions = vec![
        function(
            "cached",
            vec![],
            vec![call(18, "kmem_cache_free", vec![None, object])],
        ),
        function(
            "drop",
            vec![],
            vec![call(6, "kfree", vec![Some(parameter)])],
        ),
        // Another line than the machine code's.
        function("elsewhere", vec![], vec![call(99, "kfree", vec![object])]),
        function("last", vec![], vec![call(15, "kfree", vec![object])]),
        // What is freed is not known.
        function("unknown", vec![], vec![call(22, "kfree", vec![None])]),
        function(
            "whole",
            vec![],
            vec![
                call(9, "drop", vec![Some(Target::Set(part))]),
                call(11, "kfree", vec![object]),
            ],
        ),
    ];
    for compiler in COMPILERS {
        let sites = resolve_snippet(compiler, source, &analysis);
        let of = |name: &str| {
            let here = sites.frees.iter().filter(|s| s.location.symbol == name);
            let mut found: Vec<_> = here
                .map(|s| {
                    let set = &sites.legal_sets[s.legal.index()];
                    assert_eq!(set.stack, StackRule::None, "only the heap is freed");
                    (set.any_heap.as_deref().unwrap(), s.tail)
                })
                .collect();
            found.dedup();
            found
        };
        // Calls may be merged: both may free what either does.
        assert_eq!(of("whole"), [("object", false)], "{compiler}");
        assert_eq!(of("last"), [("object", true)], "{compiler}");
        assert_eq!(of("cached"), [("object", false)], "{compiler}");
        let unknown = "what is freed is not known";
        assert_eq!(of("unknown"), [(unknown, false)], "{compiler}");
        assert_eq!(of("elsewhere"), [(unknown, false)], "{compiler}");
        let cached = sites.frees.iter().find(|s| s.location.symbol == "cached");
        assert_eq!(cached.unwrap().operand.base, Some(Register::Si));
    }
}

#[test]
fn locks_between_gate_and_site() {
    let source = "
void _raw_spin_lock(void *);
int _raw_spin_trylock(void *);
void _raw_spin_unlock(void *);
__attribute__((noinline)) static void helper(int *p) {
	*p = 1;
	asm volatile(\"\" ::: \"memory\");
}
void holds(void *l, int *p) {
	*p = 1;
	_raw_spin_lock(l);
	*p = 2;
	helper(p);
	_raw_spin_unlock(l);
	*p = 3;
}
void plain(int *p) {
	helper(p);
	*p = 4;
}
void maybe(void *l, int *p) {
	if (_raw_spin_trylock(l))
		*p = 5;
}
asm(\".pushsection __mcount_loc, \\\"a\\\"; .quad holds, plain, maybe; .popsection\");
";
    let mut analysis = common::empty_analysis();
    analysis.gates = vec![gate("holds"), gate("maybe"), gate("plain")];
    for compiler in COMPILERS {
        let sites = resolve_snippet(compiler, source, &analysis);
        assert_eq!(sites.gate_probes.len(), 3, "{compiler}");
        let at = |line: u32| {
            let here = |s: &&Site| {
                s.chain[0].line == line && s.coverage != Coverage::Proven("own frame".into())
            };
            let site = sites.sites.iter().find(here).unwrap();
            let gates: Vec<u32> = site.unwind_gates.iter().map(|g| g.0).collect();
            (site.unwind.clone(), gates)
        };
        let held = |function: &str| Unwind::Held(format!("{function} calls _raw_spin_lock"));
        let maybe = Unwind::Held("maybe calls _raw_spin_trylock".into());
        assert_eq!(at(23), (maybe, vec![]), "{compiler}");
        assert_eq!(at(10), (Unwind::Safe, vec![0]), "{compiler}");
        assert_eq!(at(12), (held("holds"), vec![]), "{compiler}");
        assert_eq!(at(15), (Unwind::Safe, vec![0]), "{compiler}");
        assert_eq!(at(19), (Unwind::Safe, vec![2]), "{compiler}");
        // Reached with the lock through one gate, without through another.
        assert_eq!(at(6), (held("holds"), vec![2]), "{compiler}");
    }
}

/// What is held at a store, behind it: nothing (`free`), something that deny can give back, or else.
const HELD: &str = "
int _raw_spin_trylock(void *);
int mutex_lock_interruptible(void *);
void _raw_spin_unlock(void *);
void mutex_unlock(void *);
void __local_bh_enable_ip(long, int);
void __local_bh_disable_ip(long, int);
void _raw_spin_lock(void *);
extern int __preempt_count;
int attempt(void *l, int *p) {
	if (!_raw_spin_trylock(l)) {
		*p = 1; // free
		return -1;
	}
	*p = 2; // held
	_raw_spin_unlock(l);
	*p = 3; // free
	return 0;
}
int interrupted(void *l, int *p) {
	if (mutex_lock_interruptible(l)) {
		*p = 4; // free
		return -4;
	}
	*p = 5; // held
	mutex_unlock(l);
	*p = 6; // free
	return 0;
}
int unlooked(void *l, int *p) {
	int got = _raw_spin_trylock(l);
	*p = 7; // held
	if (got)
		_raw_spin_unlock(l);
	return got;
}
void halves(int *p) {
	asm volatile(\"addl $0x200, %%gs:__preempt_count\" : : : \"memory\");
	*p = 8; // gives back bottom halves
	__local_bh_enable_ip(0, 0x200);
	*p = 9; // free
}
void __rcu_read_lock(void);
void __rcu_read_unlock(void);
int which(void);
__attribute__((noinline)) static void either(int *p) {
	*p = 14; // held
	asm volatile(\"\" : : : \"memory\");
}
void reads(void *l, int *p) {
	__rcu_read_lock();
	__local_bh_disable_ip(0, 0x200);
	*p = 11; // gives back an RCU read side, bottom halves
	__local_bh_enable_ip(0, 0x200);
	__rcu_read_lock();
	*p = 12; // gives back 2 RCU read sides
	_raw_spin_lock(l);
	*p = 13; // held
	_raw_spin_unlock(l);
	__rcu_read_unlock();
	if (which())
		__rcu_read_unlock();
	either(p);
	if (which())
		__rcu_read_unlock();
}
void _raw_spin_lock_bh(void *);
void _raw_spin_unlock_bh(void *);
void mixed(void *l, int *p) {
	_raw_spin_lock_bh(l);
	_raw_spin_unlock(l);
	*p = 15; // gives back bottom halves
	_raw_spin_lock(l);
	_raw_spin_unlock_bh(l);
	*p = 16; // free
}
void interrupts(int *p) {
	asm volatile(\"cli\" : : : \"memory\");
	*p = 10; // free
	asm volatile(\"sti\" : : : \"memory\");
}
asm(\".pushsection __mcount_loc, \\\"a\\\"; .quad attempt, interrupted, unlooked, halves, interrupts, mixed, reads; .popsection\");
";

#[test]
fn what_is_held_is_counted_along_paths() {
    let mut analysis = common::empty_analysis();
    analysis.gates = [
        "attempt",
        "halves",
        "interrupted",
        "interrupts",
        "mixed",
        "reads",
        "unlooked",
    ]
    .map(gate)
    .to_vec();
    for compiler in COMPILERS {
        let sites = resolve_snippet(compiler, HELD, &analysis);
        let mut seen = 0;
        for (line, number) in HELD.lines().zip(1_u32..) {
            let Some((_, expected)) = line.split_once("// ") else {
                continue;
            };
            let here = |s: &&Site| s.chain[0].line == number && s.kind == SiteKind::Store;
            for site in sites.sites.iter().filter(here) {
                let release = site.release.as_ref().map(Release::describe);
                let found = match (site.unwind_gates.is_empty(), release) {
                    (false, _) => "free".to_owned(),
                    (true, Some(what)) => format!("gives back {what}"),
                    (true, None) => "held".to_owned(),
                };
                assert_eq!(found, expected, "{compiler}: {line}");
                seen += 1;
            }
        }
        assert!(seen >= 10, "{compiler}: {seen} stores");
    }
}

#[test]
fn what_of_a_frame_is_guarded() {
    let source = "
void use(char *);
int keep(int);
int f(unsigned long i, int v) {
	char local[40];
	int kept = keep(v);
	use(local);
	local[i] = v;
	use(local);
	return kept + keep(kept);
}
int plain(int v) { int kept = keep(v); return kept + keep(kept); }
";
    let protector = [
        "-fstack-protector-strong",
        "-mstack-protector-guard=tls",
        "-mstack-protector-guard-reg=gs",
        "-mstack-protector-guard-offset=40",
    ];
    for compiler in COMPILERS {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("t.c"), source).unwrap();
        let object = common::compile(compiler, directory.path(), "t.c", &protector);
        let sites = common::resolve_file(&common::empty_analysis(), &object);
        let of = |name: &str| -> Vec<&Site> {
            let inside = |s: &&Site| s.location.symbol == name && s.frame_size.is_some();
            sites.sites.iter().filter(inside).collect()
        };
        let inside = of("f");
        let indexed = inside
            .iter()
            .find(|s| s.operand.index.is_some())
            .unwrap_or_else(|| panic!("{compiler}: {inside:#?}"));
        assert!(indexed.guarded.saved > 0, "{compiler}: {indexed:?}");
        // The one store that keeps the value stands before the first call.
        let keeps = of("f").into_iter().find(|s| {
            let size = i64::from(s.frame_size.unwrap());
            s.operand.displacement == size - 8 * i64::from(s.guarded.canary)
                && s.operand.base == Some(Register::Sp)
        });
        assert!(indexed.guarded.canary > 0 && keeps.is_some(), "{compiler}");
        assert!(of("plain").iter().all(|s| s.guarded.canary == 0));
    }
}

#[test]
fn indexed_writes_stay_in_the_object_of_their_pointer() {
    let source = "\
struct s { long head; int values[8]; unsigned long bits[2]; };
void member(struct s *s, unsigned long i, int v)
{
	s->values[i] = v;
}
void bits(struct s *s, long n)
{
	asm volatile(\"bts %1,%0\" : \"+m\" (s->bits[0]) : \"r\" (n));
}
void element(struct s *s, unsigned long i)
{
	*(long *)((char *)s + i) = 1;
}
void number(int *p, unsigned long i, int v)
{
	p[i] = v;
}
void fixed(struct s *s, int v)
{
	s->values[3] = v;
}
void before(struct s *s, unsigned long i, int v)
{
	*(int *)((char *)s + i * 4 - 64) = v;
}
";
    let copy = "void copy(char **to, unsigned long n)
{
	asm volatile(\"movq %%rcx, (%0)\\n\\tje 1f\\n\\tmovq %%rdx, -8(%0,%1)\\n1:\" : : \"r\" (*to), \"r\" (n) : \"memory\");
}
void other(char **to, unsigned long n)
{
	asm volatile(\"movq %%rcx, (%0)\\n\\tadd $8, %0\\n\\tmovq %%rdx, -8(%0,%1)\\n1:\" : \"+r\" (*to) : \"r\" (n) : \"memory\");
}
";
    for compiler in COMPILERS {
        let sites = resolve_snippet(compiler, copy, &common::empty_analysis());
        let ends = sites.sites.iter().filter(|s| s.operand.index.is_some());
        let found = ends.map(|s| (s.location.symbol.as_str(), s.same_object == s.operand.base));
        let expected = [("copy", true), ("other", false)];
        assert_eq!(found.collect::<Vec<_>>(), expected, "{compiler}");
        let sites = resolve_snippet(compiler, source, &common::empty_analysis());
        let pointers: BTreeMap<&str, Option<Register>> = sites
            .sites
            .iter()
            .map(|site| (site.location.symbol.as_str(), site.same_object))
            .collect();
        let expected = [
            ("member", Some(Register::Di)),
            ("bits", Some(Register::Di)),
            ("element", Some(Register::Di)),
            ("before", Some(Register::Di)),
            // No structure, no index.
            ("number", None),
            ("fixed", None),
        ];
        assert_eq!(pointers, BTreeMap::from(expected), "{compiler}");
    }
}
