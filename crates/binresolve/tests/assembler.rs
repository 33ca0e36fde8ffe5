//! Instructions one by one: what each writes, and code that the kernel rewrites.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are not marked as tests"
)]

mod common;

use otf_artifact::sites::{Coverage, Length, Operand, Register, Site, SiteKind, Sites};

fn assemble(source: &str) -> Sites {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("t.S"), source).unwrap();
    let object = common::compile("gcc", directory.path(), "t.S", &[]);
    let sites = common::resolve_file(&common::empty_analysis(), &object);
    common::assert_same_writes(&sites, &object);
    sites
}

/// `bx+cx*4+0x10`, with `gs:` and `bit:` in front where they apply.
fn operand_text(operand: &Operand) -> String {
    let name = |r: Register| format!("{r:?}").to_lowercase();
    let mut parts = Vec::new();
    parts.extend(operand.base.map(name));
    parts.extend(
        operand
            .index
            .map(|r| format!("{}*{}", name(r), operand.scale)),
    );
    if operand.displacement != 0 || parts.is_empty() {
        parts.push(format!("{:#x}", operand.displacement));
    }
    let gs = if operand.per_cpu { "gs:" } else { "" };
    let bit = operand
        .bit_index
        .map_or_else(String::new, |r| format!("bit({}):", name(r)));
    format!("{gs}{bit}{}", parts.join("+"))
}

fn length_text(length: Length) -> String {
    match length {
        Length::Constant(bytes) => bytes.to_string(),
        Length::Register(register, factor) => format!("{register:?}*{factor}").to_lowercase(),
    }
}

/// (instruction, what it writes: "kind operand length"); "" for one that writes nothing.
const INSTRUCTIONS: &[(&str, &str)] = &[
    ("movq %rax, (%rbx)", "Store bx 8"),
    ("movl %eax, 0x10(%rbx,%rcx,4)", "Store bx+cx*4+0x10 4"),
    ("movb $1, (%rax,%rax)", "Store ax+ax*1 1"),
    ("movw $1, -2(%r13)", "Store r13+0xfffffffffffffffe 2"),
    ("addl $1, (%rdi)", "Store di 4"),
    ("lock orb $1, (%rdi)", "Store di 1"),
    ("lock cmpxchgq %rcx, (%rdx)", "Store dx 8"),
    ("lock xaddl %ecx, (%rdx)", "Store dx 4"),
    ("xchgq %rax, 8(%rsi)", "Store si+0x8 8"),
    ("lock cmpxchg16b (%rsi)", "Store si 16"),
    ("lock cmpxchg8b (%rsi)", "Store si 8"),
    ("incl (%rax)", "Store ax 4"),
    ("negq (%rax)", "Store ax 8"),
    ("shll %cl, (%rax)", "Store ax 4"),
    ("sete (%rax)", "Store ax 1"),
    ("popq (%rax)", "Store ax 8"),
    ("popq 8(%rsp)", "Store sp+0x10 8"),
    ("pushq (%rax)", ""),
    ("pushq %rax", ""),
    ("pushfq", ""),
    ("call *(%rax)", ""),
    ("cmpl $1, (%rax)", ""),
    ("testb $1, (%rax)", ""),
    ("leaq 8(%rax), %rcx", ""),
    ("prefetchw (%rax)", ""),
    ("nopl 8(%rax)", ""),
    ("imulq (%rax)", ""),
    ("movq (%rax), %rcx", ""),
    ("btq %rcx, (%rax)", ""),
    ("btsq %rcx, (%rax)", "BitString bit(cx):ax 8"),
    (
        "lock btrl %r9d, 4(%rax,%rdx,8)",
        "BitString bit(r9):ax+dx*8+0x4 4",
    ),
    ("btcw %cx, (%rax)", "BitString bit(cx):ax 2"),
    ("btsq $7, (%rax)", "Store ax 8"),
    ("rep stosq", "RepString di cx*8"),
    ("rep movsb", "RepString di cx*1"),
    ("rep movsl", "RepString di cx*4"),
    ("stosl", "Store di 4"),
    ("movsq", "Store di 8"),
    ("repne scasb", ""),
    ("repe cmpsb", ""),
    ("lodsb", ""),
    ("movaps %xmm0, (%rax)", "Store ax 16"),
    ("movdqu %xmm0, (%rax)", "Store ax 16"),
    ("vmovdqu %ymm0, (%rax)", "Store ax 32"),
    ("vmovdqu64 %zmm0, (%rax)", "Store ax 64"),
    ("movq %xmm0, (%rax)", "Store ax 8"),
    ("movntiq %rax, (%rcx)", "Store cx 8"),
    ("maskmovdqu %xmm0, %xmm1", "Store di 16"),
    ("fxsave (%rax)", "Store ax 512"),
    ("xsave (%rax)", "Store ax 4096"),
    ("stmxcsr (%rax)", "Store ax 4"),
    ("sgdt (%rax)", "Store ax 10"),
    ("incl %gs:(%rax)", "Store gs:ax 4"),
    ("movl $1, %gs:0x1234", "Store gs:0x1234 4"),
    ("movl $1, %fs:(%rax)", "Store ax 4"),
    ("movl $1, (%eax)", "Store 0x0 4"),
];

#[test]
fn every_instruction() {
    for (instruction, expected) in INSTRUCTIONS {
        let sites = assemble(&format!(
            ".text\n.globl f\n.type f,@function\nf:\n\t{instruction}\n"
        ));
        let found: Vec<String> = sites
            .sites
            .iter()
            .map(|s| {
                let (operand, length) = (operand_text(&s.operand), length_text(s.length));
                format!("{:?} {operand} {length}", s.kind)
            })
            .collect();
        assert_eq!(found.join(" "), *expected, "{instruction}");
    }
}

#[test]
fn what_no_row_can_express_is_said() {
    for (instruction, reason) in [
        ("movl $1, %fs:(%rax)", "operand relative to fs"),
        ("movl $1, (%eax)", "32-bit or vector address"),
        ("addr32 stosb", "32-bit address"),
        (
            "vpscatterdd %zmm0, (%rax,%zmm1){%k1}",
            "32-bit or vector address",
        ),
        ("call strcpy", "length known only after the call"),
    ] {
        let sites = assemble(&format!(".text\nf:\n\t{instruction}\n"));
        let expected = Coverage::Unprobable(reason.into());
        assert_eq!(sites.sites[0].coverage, expected, "{instruction}");
    }
}

/// A function that ftrace knows, with two alternatives.
const REWRITTEN: &str = r#"
.macro alternative old, new
661:	\old
662:	.skip -((665f-664f)-(662b-661b) > 0) * ((665f-664f)-(662b-661b)), 0x90
663:
	.pushsection .altinstructions, "a"
	.long 661b - .
	.long 664f - .
	.4byte 0
	.byte 663b - 661b
	.byte 665f - 664f
	.popsection
	.pushsection .altinstr_replacement, "ax"
664:	\new
665:
	.popsection
.endm
.text
.globl f
.type f, @function
f:
	alternative "rep movsb", "call rep_movs_alternative"
	alternative "movq %rax, (%rdi)", "movq %rax, (%rsi)"
	alternative "lock incl (%rdi)", "lock incl (%rdi)"
	movq %rax, (%rdx)
	ret
.size f, . - f
.section __mcount_loc, "a"
.quad f
"#;

#[test]
fn rewritten_code() {
    let sites = assemble(REWRITTEN);
    let of = |section: &str| -> Vec<&Site> {
        let inside = |s: &&Site| s.location.section == section;
        sites.sites.iter().filter(inside).collect()
    };
    let (text, templates) = (of(".text"), of(".altinstr_replacement"));
    assert_eq!((text.len(), templates.len()), (4, 3));
    // Both variants write [di, di + cx): one probe serves both, and skips five bytes.
    assert_eq!(text[0].kind, SiteKind::RepString);
    assert_eq!(text[0].coverage, Coverage::Probe);
    assert_eq!(text[0].instruction_length, 5);
    assert_eq!(templates[0].kind, SiteKind::BulkCall);
    let template =
        |offset: u32| format!("template: only its copy at .text+{offset:#x} runs, it is probed");
    assert_eq!(templates[0].coverage, Coverage::Proven(template(0)));
    // The variants differ: neither can be checked, both are listed.
    let rewritten = Coverage::Unprobable("code is rewritten at boot".into());
    assert_eq!(text[1].coverage, rewritten);
    let copied = "template that is copied to .text+0x5 at boot";
    assert_eq!(templates[1].coverage, Coverage::Unprobable(copied.into()));
    assert_eq!(text[2].coverage, Coverage::Probe);
    assert_eq!(templates[2].coverage, Coverage::Proven(template(8)));
    assert_eq!(text[3].coverage, Coverage::Probe);
}

#[test]
fn where_no_probe_can_go() {
    let sites = assemble(
        r#"
.section .init.text, "ax"
	movq %rax, (%rdi)
.section .noinstr.text, "ax"
	movq %rax, (%rdi)
.text
	nop
.type notrace, @function
notrace:
	movq %rax, (%rdi)
.size notrace, . - notrace
.type traced, @function
traced:
1:	movq %rax, (%rdi)
	movq %rax, (%rdi)
	ret
.size traced, . - traced
.type traced.cold, @function
traced.cold:
	movq %rax, (%rdi)
.size traced.cold, . - traced.cold
.type listed, @function
listed:
	nop
	movq %rax, (%rdi)
.size listed, . - listed
.section __mcount_loc, "a"
.quad traced
.quad listed
.section _kprobe_blacklist, "a"
.quad listed
.section __jump_table, "aw"
.long 1b - .
.long traced - .
.quad 0
"#,
    );
    let found: Vec<(&str, &Coverage)> = sites
        .sites
        .iter()
        .map(|s| (s.location.section.as_str(), &s.coverage))
        .collect();
    let refused = |reason: &str| Coverage::Unprobable(reason.into());
    assert_eq!(
        found,
        [
            (
                ".init.text",
                &refused("freed after boot: it has run when a policy can be loaded")
            ),
            (
                ".noinstr.text",
                &refused("code in .noinstr.text must not be probed")
            ),
            (".text", &refused("notrace has no ftrace site (notrace)")),
            (".text", &refused("a jump label is patched here")),
            // The label's five bytes reach into it.
            (".text", &refused("a jump label is patched here")),
            (".text", &Coverage::Probe),
            (".text", &refused("listed is on the kprobe blacklist")),
        ]
    );
}

/// The kernel takes a probed call to be five bytes long and returns behind that.
#[test]
fn a_call_with_a_prefix_is_not_probed() {
    let sites = assemble(
        "
.type __x86_indirect_thunk_r8,@function
.globl f
.type f,@function
f:
	.cfi_sections .debug_frame
	.cfi_startproc
	call __fentry__
	call __x86_indirect_thunk_r8
	.byte 0x2e
	call __x86_indirect_thunk_r8
	cs jmp __x86_indirect_thunk_r8
	push %rbx
	.cfi_adjust_cfa_offset 8
	jmp __x86_indirect_thunk_rax
	.cfi_endproc
.size f,.-f
.section __mcount_loc,\"a\"
.quad f
",
    );
    let coverage: Vec<(&str, &Coverage)> = sites
        .calls
        .iter()
        .map(|call| (call.text.as_str(), &call.coverage))
        .collect();
    let [(_, plain), (_, prefixed), (_, jump), (_, inner)] = coverage.as_slice() else {
        panic!("{coverage:?}");
    };
    assert_eq!(**plain, Coverage::Probe);
    assert_eq!(**jump, Coverage::Probe);
    let Coverage::Unprobable(reason) = prefixed else {
        panic!("{prefixed:?}");
    };
    assert!(reason.starts_with("a call with a prefix"), "{reason}");
    let Coverage::Unprobable(reason) = inner else {
        panic!("something is on the stack: {inner:?}");
    };
    assert!(reason.starts_with("a jump that is no call"), "{reason}");
}
