//! LLVM's reader is the oracle: both must say the same of every function and every instruction.

use std::{fs, path::Path, process::Command};

use crate::{
    bitcode::{Class, Error, Kind, Module, Opcode},
    extract::{Ir, written},
    ir,
};

const USUAL: &[&str] = &["-O2"];

/// Raw bitcode of C source.
fn compile(source: &Path, flags: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let object = folder.path().join("out.bc");
    let output = Command::new("clang-19")
        .args("--target=x86_64-linux-gnu -std=gnu11 -g -w -ffreestanding".split(' '))
        .args("-Xclang -disable-llvm-passes -emit-llvm -c".split(' '))
        .args(flags)
        .arg(source)
        .arg("-o")
        .arg(&object)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::read(object).unwrap()
}

fn compile_text(text: &str, flags: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("a.c");
    fs::write(&source, text).unwrap();
    compile(&source, flags)
}

/// What is called: its kind, its symbol, its assembly.
type Called = (Kind, String, Option<(String, String)>);

/// What of an instruction can be compared.
#[derive(Debug, PartialEq)]
struct Seen {
    place: (u32, u32),
    write: Option<(otf_artifact::analysis::WriteKind, u64)>,
    called: Option<Called>,
    numbers: Vec<Option<i64>>,
}

fn seen<I: Ir>(
    instruction: I,
    place: (u32, u32),
    operands: u32,
    text: impl Fn(I) -> (String, String),
) -> Seen {
    let called = matches!(
        instruction.kind(),
        Kind::Instruction(Opcode::Call | Opcode::CallBr)
    );
    let called = called.then(|| instruction.callee()).flatten();
    Seen {
        place,
        write: written(instruction),
        called: called.map(|callee| {
            let assembly = (callee.kind() == Kind::Assembly).then(|| text(callee));
            // Only what writes are told apart by.
            let kind = match callee.kind() {
                kind @ (Kind::Function | Kind::Assembly) => kind,
                _ => Kind::Other,
            };
            (kind, callee.name(), assembly)
        }),
        numbers: (0..operands)
            .map(|index| instruction.operand(index)?.integer())
            .collect(),
    }
}

fn agree(bitcode: &[u8], name: &str) {
    let own = Module::parse(bitcode).unwrap();
    let other = ir::Module::parse(bitcode).unwrap();
    // LLVM adds declarations of intrinsics for the records that it turns into calls.
    let functions = other
        .functions()
        .filter(|f| !f.name().starts_with("llvm.dbg."));
    let functions: Vec<_> = functions.collect();
    assert_eq!(own.functions().count(), functions.len(), "{name}");
    for (function, known) in own.functions().zip(functions) {
        let name = format!("{name}: {}", known.name());
        assert_eq!(function.name(), known.name());
        assert_eq!(function.is_declaration(), known.is_declaration(), "{name}");
        let source = function.subprogram().map(|s| s.name().to_string());
        assert_eq!(source, other.source_name(known), "{name}");
        let is_debug = |i: &ir::Value<'_>| {
            i.kind() == Kind::Instruction(Opcode::Call)
                && i.callee().is_some_and(|c| c.begins("llvm.dbg."))
        };
        let all = known.instructions();
        let declares = all
            .iter()
            .filter(|i| is_debug(i) && i.callee().is_some_and(|c| c.begins("llvm.dbg.declare")));
        assert_eq!(function.declares().count(), declares.count(), "{name}");
        for (_, home, variable) in function.declares() {
            assert!(
                matches!(
                    home.kind(),
                    Kind::Argument | Kind::Instruction(Opcode::Alloca)
                ),
                "{name}: {:?}",
                home.kind()
            );
            assert_eq!(variable.class(), Class::Local, "{name}");
        }
        let instructions: Vec<_> = all.into_iter().filter(|i| !is_debug(i)).collect();
        assert_eq!(function.instructions().len(), instructions.len(), "{name}");
        for (own, known) in function.instructions().into_iter().zip(instructions) {
            // Blocks and what is called are operands there.
            let operands = match own.argument_count() {
                0 if own.kind() == Kind::Instruction(Opcode::Other) => 0,
                0 => own.operand_count(),
                count => count,
            };
            let text = |(a, b): (&str, &str)| (a.to_owned(), b.to_owned());
            assert_eq!(
                seen(own, own.place(), operands, |c| text(c.assembly())),
                seen(known, known.place(), operands, ir::Value::assembly),
                "{name}"
            );
        }
    }
}

#[test]
fn every_case_is_read_as_llvm_reads_it() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = fs::read_dir(cases)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "c"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        for flags in [USUAL, &["-O0"]] {
            agree(&compile(&file, flags), &file.display().to_string());
        }
    }
}

/// Every kind of instruction and of constant that C leads to, beside those of the cases.
const SELDOM: &str = r#"
typedef int v4 __attribute__((vector_size(16)));
typedef __builtin_va_list list;
struct bits { int a : 3, b : 7; long c; } __attribute__((packed));
struct big { long a[6]; };
int other(struct big, int, ...);
struct bits table[2] = { { 1, 2, 3 }, { 4, 5, 6 } };
static int numbers[] = { 1, -2, 3 };
void *inside[] = { &table[1].c, numbers + 2, (char *)other + 1, 0 };
__int128 wide = ((__int128)1 << 100) + 7;
static double half = 0.5;
const char text[] = "text";
char bytes[4] = { 1, 2, 0, 4 };
__attribute__((alias("twice"))) int again(int);
int twice(int x) { return x << 1; }
v4 mix(v4 a, v4 b, int i) { a[i] = b[1]; return __builtin_shufflevector(a, b, 0, 4, 1, 5) + (a < b); }
long atomics(long *p, long n) {
	long old = __atomic_fetch_add(p, n, 5);
	__atomic_compare_exchange_n(p, &old, n, 1, 5, 0);
	__atomic_thread_fence(5);
	__atomic_store_n(p, n, 3);
	return __atomic_load_n(p, 2) + old;
}
int variadic(int n, ...) {
	list l;
	__builtin_va_start(l, n);
	int got = __builtin_va_arg(l, int);
	__builtin_va_end(l);
	return got;
}
double floats(float a, double b, long double c, int i) { return -a + b * c + i < half ? a : (double)i; }
struct big made(struct big b, unsigned char *p, __seg_gs int *own) {
	*own = b.a[2];
	p[b.a[0]] = other(b, 1, 2L, "x", half);
	__builtin_memcpy(&b, p, sizeof(b));
	return b;
}
int jumps(int n, void *p) {
	static void *to[] = { &&one, &&two };
	switch (n) { case 1: n = 5; break; case -7: return 3; default: n += 2; }
	goto *to[n & 1];
one:
	asm goto("jmp %l[two]; # %0" : : "r"(p) : "memory" : two);
	asm volatile("mov %1, %0" : "=m"(*(int *)p) : "ri"(n) : "memory");
two:
	return n ? n && p : wide > 3;
}
"#;

#[test]
fn seldom_instructions_are_read_as_llvm_reads_them() {
    for flags in [&["-O0"][..], USUAL, &["-O2", "-fsanitize=bounds,shift"]] {
        agree(&compile_text(SELDOM, flags), "seldom");
    }
}

#[test]
fn globals_are_read_with_what_they_hold() {
    let bitcode = compile_text(SELDOM, USUAL);
    let module = Module::parse(&bitcode).unwrap();
    let global = |name: &str| module.globals().find(|g| g.name() == name).unwrap();
    let text = global("text");
    assert_eq!(text.string().as_deref(), Some("text"));
    assert!(text.is_constant() && !text.is_internal());
    assert_eq!(text.value_type().size(), 5);
    // Packed: three bytes of bits would be two, and eight of `c`.
    assert_eq!(global("table").value_type().size(), 2 * 10);
    let inside = global("inside").initializer().unwrap();
    assert_eq!(inside.kind(), Kind::Aggregate);
    let parts: Vec<_> = (0..4).map(|i| inside.operand(i).unwrap().kind()).collect();
    let within = Kind::Expression(Opcode::GetElementPtr);
    assert_eq!(parts, [within, within, within, Kind::Null]);
    assert_eq!(global("wide").value_type().size(), 16);
    let alias = module.aliases().next().unwrap();
    assert_eq!(alias.name(), "again");
    assert_eq!(alias.aliasee().unwrap().name(), "twice");
    let variable = text.variable().unwrap();
    assert_eq!(
        (variable.class(), variable.name().as_str()),
        (Class::GlobalVariable, "text")
    );
}

#[test]
fn what_would_be_read_wrongly_is_refused() {
    let text = "struct s; int f(struct s *p) { int x = 1; return x; }";
    let refused = |flags: &[&str]| Module::parse(&compile_text(text, flags)).unwrap_err();
    let other = refused(&["--target=aarch64-linux-gnu"]);
    assert!(matches!(other, Error::Layout(_)), "{other}");
    let calls = refused(&[
        "-mllvm",
        "-write-experimental-debuginfo-iterators-to-bitcode=false",
    ]);
    assert_eq!(calls, Error::DebugCalls);
    assert_eq!(Module::parse(b"\x7fELF").unwrap_err(), Error::NoMagic);
}

#[test]
fn a_module_cut_off_anywhere_is_refused() {
    let whole = compile_text("int f(int *p) { return *p; }", USUAL);
    for length in 0..whole.len() - 4 {
        assert!(Module::parse(&whole[..length]).is_err(), "{length}");
    }
}
