//! Where a probe can be a jump: the code around a store, and the bytes that a jump may take of it.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are not marked as tests"
)]

mod common;

use otf_artifact::sites::{Room, Sites};

/// A traced function with this body, and one behind it whose symbol is entered.
fn resolve(body: &str) -> Sites {
    let source = format!(
        ".globl f\n.type f, @function\nf:\n1: call __fentry__\n\
         .pushsection __mcount_loc, \"a\"\n.quad 1b\n.popsection\n\
         {body}\n.size f, . - f\n.globl g\n.type g, @function\ng: ret\n.size g, . - g\n"
    );
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("t.S"), source).unwrap();
    let object = common::compile("gcc", directory.path(), "t.S", &[]);
    common::resolve_file(&common::empty_analysis(), &object)
}

/// Room of the store of `%al` to memory, the one of its kind: bytes before it, and from it on.
fn room(body: &str) -> Option<(u8, u8)> {
    let sites = resolve(body);
    let site = sites.sites.iter().find(|s| s.text.ends_with("], al"));
    let site = site.unwrap_or_else(|| panic!("no site in {body}"));
    sites
        .room(&site.location)
        .map(|Room { back, ahead }| (back, ahead))
}

#[test]
fn whole_instructions_up_to_what_is_entered() {
    // 2 bytes, 3 of xor, then ret and no more.
    assert_eq!(room("movb %al, (%rbx)\nxorq %rcx, %rcx\nret"), Some((0, 6)));
    // The jump leads behind the store: room ends there.
    assert_eq!(
        room("test %eax, %eax\nje 2f\nmovabs $1, %rdx\nmovb %al, 0x1000(%rbx)\n2: ret"),
        Some((0, 6))
    );
}

#[test]
fn a_short_store_may_have_what_stands_before_it() {
    // Entered behind it: the instruction before makes room.
    assert_eq!(
        room("test %eax, %eax\nje 2f\nxorq %rcx, %rcx\nmovb %al, (%rbx)\n2: ret"),
        Some((3, 2))
    );
    // But not when the store itself is entered, or there is nothing but the jump.
    assert_eq!(
        room("test %eax, %eax\nje 3f\nxorq %rcx, %rcx\n3: movb %al, (%rbx)\n2: ret\njmp 2b"),
        None
    );
    assert_eq!(
        room("test %eax, %eax\nje 2f\nmovb %al, (%rbx)\n2: ret"),
        // The conditional jump can be moved too.
        Some((4, 2))
    );
}

#[test]
fn who_comes_back_from_a_call_comes_behind_it() {
    // A call may be the last of a room, not in its middle.
    assert_eq!(
        room("movb %al, (%rbx)\ncall h\nxorq %rcx, %rcx\nret"),
        Some((0, 7))
    );
    // What follows a call is entered, but may be the first.
    assert_eq!(
        room("call h\nmovb %al, (%rbx)\nxorq %rcx, %rcx\nret"),
        Some((0, 6))
    );
    assert_eq!(room("call h\nmovb %al, (%rbx)\nret"), None);
    // The site of ftrace is one as well.
    assert_eq!(room("movb %al, (%rbx)\nret"), None);
}

#[test]
fn nobody_else_may_rewrite_it() {
    let label = ".pushsection __jump_table, \"aw\"\n.long 2b - ., 3f - .\n.quad 0\n.popsection\n";
    assert_eq!(
        room(&format!(
            "movb %al, (%rbx)\n2: .byte 0x0f, 0x1f, 0x44, 0, 0\n{label}nop\n3: ret"
        )),
        None
    );
    let fixup = ".pushsection __ex_table, \"a\"\n.long 2b - ., 3f - ., 0\n.popsection\n";
    assert_eq!(
        room(&format!(
            "movb %al, (%rbx)\n2: movq (%rcx), %rcx\n{fixup}3: ret"
        )),
        None
    );
}

#[test]
fn padding_behind_a_return_is_room() {
    assert_eq!(
        room("call h\nmovb %al, (%rbx)\nret\nint3\nint3\n"),
        Some((0, 5))
    );
    // The next function begins there.
    assert_eq!(room("call h\nmovb %al, (%rbx)\nret\nint3\n"), None);
}

#[test]
fn a_table_of_jumps_leads_anywhere() {
    assert_eq!(
        room("subq $8, %rsp\nmovb %al, (%rbx)\nxorq %rcx, %rcx\njmp *%rcx"),
        None
    );
}
