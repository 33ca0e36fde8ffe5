//! The verdict on made-up objects, stacks and addresses, by `BPF_PROG_TEST_RUN` on this machine's kernel.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{path::Path, process::Command};

use libbpf_rs::{MapCore as _, MapFlags, Object, ObjectBuilder, ProgramInput};
use otf_artifact::abi::{self, Class, Reason};
use otf_policygen::{codegen::emit, tables::Tables};
use proptest::{prelude::*, test_runner::TestRunner};

/// Rows of the legal sets below.
const GROUPS: u64 = 0;
const ANYWHERE: u64 = 1;
const NOTHING: u64 = 2;
const UNTRACKED: u64 = 3;
const PAGES: u64 = 4;
const OWN: u64 = 5;
const COMPARTMENT: u64 = 6;
const CALLERS: u64 = 7;
const DEDICATED: u64 = 9;

/// Words of the state, with which a test of an address begins.
const STATE: usize = size_of::<abi::State>() / 8;

fn place() -> abi::Place {
    // groups of 296 bytes, 25 of them, from 488: as in struct qfq_sched
    abi::Place {
        offset: 488,
        stride: [296, 0],
        count: [25, 0],
        size: 296,
        object_min: 7888,
        allocations: bits(3),
        cache: abi::CACHE_GENERAL,
        ..abi::Place::default()
    }
}

fn bits(allocation: u32) -> [u64; abi::ALLOC_WORDS] {
    let mut words = [0; abi::ALLOC_WORDS];
    words[allocation as usize / 64] = 1 << (allocation % 64);
    words
}

fn tables() -> Tables {
    let heap = |first_place, places, flags| abi::Legal {
        first_place,
        places,
        flags,
        ..abi::Legal::default()
    };
    let stack = |stack| abi::Legal {
        stack,
        ..abi::Legal::default()
    };
    Tables {
        sites: vec![
            abi::Site {
                frame_size: 64,
                saved: 1,
                canary: 3,
                flags: abi::SITE_FRAME,
                ..abi::Site::default()
            },
            abi::Site {
                displacement: 0x180,
                ..abi::Site::default()
            },
        ],
        legals: vec![
            heap(0, 1, 0),
            heap(0, 0, abi::LEGAL_ANY_HEAP),
            heap(0, 0, 0),
            heap(1, 1, 0),
            heap(2, 1, 0),
            stack(1),
            stack(2),
            stack(3),
            abi::Legal {
                passed: 2,
                otherwise: 2,
                ..abi::Legal::default()
            },
            heap(3, 1, 0),
        ],
        passed: vec![
            abi::Passed {
                function: 4,
                size: 80,
                argument: 1,
            },
            abi::Passed {
                function: 6,
                size: 16,
                argument: 0,
            },
        ],
        places: vec![
            place(),
            abi::Place {
                allocations: [0; abi::ALLOC_WORDS],
                ..place()
            },
            abi::Place {
                cache: abi::CACHE_NONE,
                ..place()
            },
            abi::Place {
                cache: 0,
                ..place()
            },
        ],
        calls: vec![
            abi::Call {
                targets: 7,
                ..abi::Call::default()
            },
            abi::Call {
                targets: 8,
                flags: abi::CALL_WEAK,
                ..abi::Call::default()
            },
        ],
        ..Tables::default()
    }
}

fn load() -> Object {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("check.bc");
    let status = Command::new("clang-19")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Ibpf"])
        .args(["-I/usr/include/x86_64-linux-gnu", "-emit-llvm", "-c"])
        .args(["tests/bpf/check.bpf.c", "-o"])
        .arg(&out)
        .status()
        .unwrap();
    assert!(status.success());
    let object = emit(&std::fs::read(out).unwrap(), &tables()).unwrap();
    ObjectBuilder::default()
        .open_memory(&object)
        .unwrap()
        .load()
        .unwrap()
}

/// Runs a program on words; the last word holds what it answered, byte by byte.
fn run<const N: usize>(object: &Object, program: &str, words: [u64; N]) -> [u8; 8] {
    let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let input = ProgramInput {
        context_in: Some(&mut bytes),
        ..ProgramInput::default()
    };
    let program = object.progs_mut().find(|p| p.name() == program).unwrap();
    assert_eq!(program.test_run(input).unwrap().return_value, 0);
    bytes[N * 8 - 8..].try_into().unwrap()
}

/// A write into an object as `struct otf_test` has it.
#[derive(Clone, Copy, Debug)]
struct Write {
    legal: u64,
    offset: u64,
    length: u64,
    size: u64,
    /// 0 for pages.
    cache: u64,
    general: bool,
    /// Allocation site and requested size of the record.
    record: Option<(u32, u64)>,
    object: u64,
}

const IN_GROUP: Write = Write {
    legal: GROUPS,
    offset: 488,
    length: 8,
    size: 8192,
    cache: 0x1234,
    general: true,
    record: Some((3, 7904)),
    object: 0xffff_8880_0010_0000,
};

fn verdict(object: &Object, w: Write) -> (Reason, bool) {
    let (alloc, record) = w.record.unwrap_or((0, 0));
    let answer = run(
        object,
        "otf_test_object",
        [
            w.offset,
            w.length,
            w.size,
            w.cache,
            record,
            w.object,
            w.legal | u64::from(alloc) << 32,
            u64::from(w.general),
        ],
    );
    (Reason::from_raw(answer[1].into()).unwrap(), answer[2] != 0)
}

/// What the loader writes for a dedicated cache: where it is, or that any may be it.
#[test]
fn dedicated_caches() {
    let object = load();
    let caches = object.maps().find(|m| m.name() == "otf_caches").unwrap();
    let w = Write {
        legal: DEDICATED,
        general: false,
        ..IN_GROUP
    };
    let outside = Write { offset: 480, ..w };
    for (address, expected) in [
        (w.cache, Reason::Ok),
        (w.cache + 1, Reason::BadLayout),
        (0, Reason::BadLayout),
        (u64::MAX, Reason::Ok),
    ] {
        caches
            .update(&[0; 4], &address.to_ne_bytes(), MapFlags::ANY)
            .unwrap();
        assert_eq!(verdict(&object, w).0, expected, "{address:#x}");
        assert_eq!(verdict(&object, outside).0, Reason::BadLayout);
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn objects() {
    let object = load();
    let w = IN_GROUP;
    let cases = [
        ("first group", w, Reason::Ok),
        (
            "last group",
            Write {
                offset: 488 + 24 * 296,
                ..w
            },
            Reason::Ok,
        ),
        (
            "end of a group",
            Write {
                offset: 488 + 288,
                ..w
            },
            Reason::Ok,
        ),
        (
            "group 25 does not exist",
            Write {
                offset: 488 + 25 * 296,
                ..w
            },
            Reason::BadLayout,
        ),
        (
            "before the groups",
            Write { offset: 480, ..w },
            Reason::BadLayout,
        ),
        (
            "across two groups",
            Write {
                offset: 488 + 292,
                ..w
            },
            Reason::BadLayout,
        ),
        (
            "out of the object",
            Write { offset: 8188, ..w },
            Reason::BadBounds,
        ),
        (
            "far out of the object",
            Write {
                offset: u64::MAX - 3,
                ..w
            },
            Reason::BadBounds,
        ),
        (
            "longer than everything",
            Write {
                length: u64::MAX,
                ..w
            },
            Reason::BadBounds,
        ),
        (
            "smaller size class",
            Write { size: 4096, ..w },
            Reason::BadLayout,
        ),
        (
            "dedicated cache",
            Write {
                general: false,
                ..w
            },
            Reason::BadLayout,
        ),
        (
            "another allocation site",
            Write {
                record: Some((4, 7904)),
                ..w
            },
            Reason::BadProvenance,
        ),
        (
            "beyond what was requested",
            Write {
                record: Some((3, 490)),
                ..w
            },
            Reason::BadBounds,
        ),
        ("no record", Write { record: None, ..w }, Reason::Unknown),
        (
            "no record, misfit",
            Write {
                record: None,
                offset: 480,
                ..w
            },
            Reason::BadLayout,
        ),
        (
            "untracked",
            Write {
                legal: UNTRACKED,
                record: None,
                ..w
            },
            Reason::Ok,
        ),
        (
            "nothing is legal",
            Write {
                legal: NOTHING,
                ..w
            },
            Reason::BadClass,
        ),
        (
            "any object",
            Write {
                legal: ANYWHERE,
                offset: 3,
                ..w
            },
            Reason::Ok,
        ),
        (
            "any object, out of it",
            Write {
                legal: ANYWHERE,
                offset: 8190,
                ..w
            },
            Reason::BadBounds,
        ),
        (
            "pages as a slab object",
            Write { legal: PAGES, ..w },
            Reason::BadLayout,
        ),
        (
            "pages",
            Write {
                legal: PAGES,
                cache: 0,
                ..w
            },
            Reason::Ok,
        ),
        (
            "large kmalloc",
            Write {
                cache: 0,
                general: false,
                ..w
            },
            Reason::Ok,
        ),
    ];
    for (what, write, expected) in cases {
        assert_eq!(verdict(&object, write).0, expected, "{what}: {write:?}");
    }
    assert!(
        verdict(
            &object,
            Write {
                legal: ANYWHERE,
                ..w
            }
        )
        .1,
        "a wide rule counts as weak"
    );
    assert!(!verdict(&object, w).1);
}

#[test]
fn a_freed_object_is_a_violation_in_any_phase() {
    let object = load();
    let w = Write {
        record: None,
        ..IN_GROUP
    };
    let freed = object.maps().find(|m| m.name() == "otf_freed").unwrap();
    // `OTF_HASH_FACTOR` of otf_kernel.h.
    let row = (w.object.wrapping_mul(0x61c8_8646_80b5_83eb) >> 50) as u32;
    let mut ways = [0; 32];
    ways[8..16].copy_from_slice(&w.object.to_le_bytes());
    freed
        .update(&row.to_le_bytes(), &ways, libbpf_rs::MapFlags::ANY)
        .unwrap();
    assert_eq!(verdict(&object, w).0, Reason::Freed);
    assert_eq!(
        verdict(&object, IN_GROUP).0,
        Reason::Ok,
        "obtained again: the record counts"
    );
}

#[test]
fn the_layout_rule_is_that_of_the_model() {
    let object = load();
    let strategy = (
        any::<prop::sample::Index>(),
        0_u64..9000,
        1_u64..600,
        0_u64..9000,
    );
    let mut runner = TestRunner::new(ProptestConfig::with_cases(2000));
    runner
        .run(&strategy, |(size, offset, length, record)| {
            let size = *size.get(&[64, 4096, 7888, 8192, 16384]);
            let write = Write {
                offset,
                length,
                size,
                record: Some((3, record)),
                ..IN_GROUP
            };
            // by bytes instead of by division
            let legal = (0..25).any(|n| {
                let start = 488 + 296 * n;
                (start..start + 296).contains(&offset) && offset + length <= start + 296
            });
            let expected = if offset + length > size {
                Reason::BadBounds
            } else if !legal || size < 7888 {
                Reason::BadLayout
            } else if record == 0 {
                Reason::Unknown
            } else if offset + length > record {
                Reason::BadBounds
            } else {
                Reason::Ok
            };
            prop_assert_eq!(verdict(&object, write).0, expected, "{:?}", write);
            Ok(())
        })
        .unwrap();
}

#[test]
fn stacks() {
    let object = load();
    let (sp, gate, top) = (
        0xffff_c900_0000_3000_u64,
        0xffff_c900_0000_3800,
        0xffff_c900_0000_4000,
    );
    let stack = |legal, gate, addr, length| {
        let answer = run(
            &object,
            "otf_test_stack",
            [sp, gate, top, addr, length, legal, 0],
        );
        Reason::from_raw(answer[0].into()).unwrap()
    };
    let cases = [
        ("own frame", OWN, gate, sp + 16, 8, Reason::Ok),
        ("own frame, last bytes", OWN, gate, sp + 48, 8, Reason::Ok),
        ("saved register", OWN, gate, sp + 56, 8, Reason::BadStack),
        ("canary", COMPARTMENT, gate, sp + 39, 2, Reason::BadStack),
        ("below the canary", CALLERS, gate, sp + 32, 8, Reason::Ok),
        (
            "own return address, by a wide rule",
            CALLERS,
            gate,
            sp + 64,
            1,
            Reason::BadStack,
        ),
        ("return address", OWN, gate, sp + 64, 8, Reason::BadStack),
        (
            "partly return address",
            OWN,
            gate,
            sp + 60,
            8,
            Reason::BadStack,
        ),
        (
            "below the stack pointer",
            OWN,
            gate,
            sp - 8,
            8,
            Reason::BadStack,
        ),
        (
            "caller in the compartment",
            COMPARTMENT,
            gate,
            sp + 256,
            8,
            Reason::Ok,
        ),
        (
            "gate's return address",
            COMPARTMENT,
            gate,
            gate,
            8,
            Reason::BadStack,
        ),
        (
            "kernel's frame",
            COMPARTMENT,
            gate,
            gate + 64,
            8,
            Reason::BadStack,
        ),
        ("no gate known", COMPARTMENT, 0, gate + 64, 8, Reason::Ok),
        ("caller's object", CALLERS, gate, gate + 64, 8, Reason::Ok),
        (
            "end of the stack",
            CALLERS,
            gate,
            top - 4,
            8,
            Reason::BadStack,
        ),
        (
            "no stack is legal",
            NOTHING,
            gate,
            sp + 16,
            8,
            Reason::BadStack,
        ),
    ];
    for (what, legal, gate, addr, length, expected) in cases {
        assert_eq!(stack(legal, gate, addr, length), expected, "{what}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn addresses_without_objects() {
    let object = load();
    let page_offset = 0xffff_8880_0000_0000;
    let (vmalloc, vmemmap) = (0xffff_c900_0000_0000, 0xffff_ea00_0000_0000);
    let kernel_map = 0xffff_ffff_8000_0000_u64;
    let (stack, top) = (0xffff_c900_0010_0000, 0xffff_c900_0010_4000);
    let address = |legal: u64, addr: u64, length: u64| {
        let mut words = [0; STATE + 8];
        words[..6].copy_from_slice(&[0, page_offset, vmemmap, vmalloc, vmemmap, kernel_map]);
        words[STATE..STATE + 7].copy_from_slice(&[
            stack + 0x1000,
            stack,
            top,
            stack,
            addr,
            length,
            legal,
        ]);
        let answer = run(&object, "otf_test_address", words);
        (
            Class::from_raw(answer[0].into()).unwrap(),
            Reason::from_raw(answer[1].into()).unwrap(),
        )
    };
    let cases = [
        (
            "user memory",
            ANYWHERE,
            0x7fff_0000,
            8,
            Class::User,
            Reason::BadClass,
        ),
        ("null", ANYWHERE, 8, 8, Class::User, Reason::BadClass),
        (
            "kernel data",
            ANYWHERE,
            kernel_map + 0x100,
            8,
            Class::Global,
            Reason::BadGlobal,
        ),
        (
            "wraps",
            ANYWHERE,
            u64::MAX - 3,
            8,
            Class::Other,
            Reason::BadAddress,
        ),
        (
            "hole below the linear map",
            ANYWHERE,
            1 << 63,
            8,
            Class::Other,
            Reason::BadAddress,
        ),
        (
            "struct page",
            ANYWHERE,
            vmemmap + 64,
            8,
            Class::Other,
            Reason::Ok,
        ),
        (
            "struct page, nothing legal",
            NOTHING,
            vmemmap + 64,
            8,
            Class::Other,
            Reason::BadAddress,
        ),
        (
            "vmalloc, any object",
            ANYWHERE,
            vmalloc + 64,
            8,
            Class::Vmalloc,
            Reason::Ok,
        ),
        (
            "vmalloc, nothing legal",
            NOTHING,
            vmalloc + 64,
            8,
            Class::Vmalloc,
            Reason::BadClass,
        ),
        (
            "vmalloc without record",
            GROUPS,
            vmalloc + 64,
            8,
            Class::Vmalloc,
            Reason::Unknown,
        ),
        (
            "the stack",
            ANYWHERE,
            stack + 0x1010,
            8,
            Class::Stack,
            Reason::BadStack,
        ),
    ];
    for (what, legal, addr, length, class, reason) in cases {
        assert_eq!(address(legal, addr, length), (class, reason), "{what}");
    }
    assert_eq!(
        address(NOTHING, 0xdead, 0).1,
        Reason::Ok,
        "nothing is written"
    );
}

/// Notes as `struct otf_notes` has them: function, return address (0: the slot was used again) and
/// arguments of each.
fn notes(entries: &[(u64, u64, [u64; 2])]) -> Vec<u64> {
    let mut words = vec![entries.len() as u64];
    for row in 0..abi::MAX_NOTES {
        let (function, ret, arguments) = entries.get(row).copied().unwrap_or_default();
        words.extend([0, ret, arguments[0], arguments[1], 0, 0, 0, 0, function]);
    }
    words
}

#[test]
fn on_a_stack_only_what_a_live_function_was_handed() {
    const LEGAL: u64 = 8;
    let object = load();
    let verdict = |entries: &[(u64, u64, [u64; 2])], sp: u64, addr: u64, length: u64| {
        let mut words = notes(entries);
        words.extend([7, sp, addr, length, LEGAL]);
        let words: [u64; 1 + 9 * abi::MAX_NOTES + 5] = words.try_into().unwrap();
        run(&object, "otf_test_passed", words)[4]
    };
    let (unknown, inside, outside) = (0, 1, 2);
    let live = (4, 1, [0, 0x1000]);
    assert_eq!(verdict(&[], 0, 0x1000, 8), unknown);
    assert_eq!(verdict(&[live], 0, 0x1000, 80), inside);
    assert_eq!(verdict(&[live], 0, 0x1048, 8), inside);
    assert_eq!(verdict(&[live], 0, 0x1049, 8), outside);
    assert_eq!(verdict(&[live], 0, 0xfff, 8), outside);
    // Another function's arguments say nothing; of two that are legal either does.
    assert_eq!(verdict(&[(5, 1, [0, 0x1000])], 0, 0x1000, 8), unknown);
    let other = (6, 1, [0x2000, 0]);
    assert_eq!(verdict(&[live, other], 0, 0x2008, 8), inside);
    assert_eq!(verdict(&[live, other], 0, 0x2010, 8), outside);
    // Returned: the stack pointer is above it, or its slot holds something else.
    assert_eq!(verdict(&[live], u64::MAX, 0x1000, 8), unknown);
    assert_eq!(verdict(&[(4, 0, [0, 0x1000])], 0, 0x2000, 8), unknown);
}

/// Adds a key to a map.
fn put(object: &Object, map: &str, words: &[u64], value: &[u8]) {
    let map = object.maps().find(|m| m.name() == map).unwrap();
    let key: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    map.update(&key, value, MapFlags::ANY).unwrap();
}

#[test]
fn calls_lead_where_their_set_says() {
    const STRICT: u64 = 0;
    const WEAK: u64 = 1;
    // Of a function of the running kernel, and of the byte behind its start.
    const ENTRY: u64 = 0;
    const INSIDE: u64 = 1;
    let object = load();
    let kernel_map = 0xffff_ffff_8000_0000_u64;
    let legal = kernel_map + 0x1234_5670;
    put(&object, "otf_targets", &[legal, 7], &[1]);
    let call = |row: u64, endbr: u64, target: u64| {
        let answer = run(
            &object,
            "otf_test_target",
            [kernel_map, target, endbr | row << 32, 0],
        );
        (Reason::from_raw(answer[0].into()).unwrap(), answer[1] != 0)
    };
    let bad = (Reason::BadTarget, false);
    for endbr in [0, 1] {
        assert_eq!(call(STRICT, endbr, legal), (Reason::Ok, false));
        assert_eq!(call(STRICT, endbr, legal + 4), bad, "inside of a function");
        assert_eq!(call(STRICT, endbr, ENTRY), bad, "of no set");
        for nowhere in [8, 0x7fff_0000, 0xffff_8880_0420_1000] {
            assert_eq!(call(WEAK, endbr, nowhere), bad, "no code of the kernel");
        }
    }
    // The key is the set and the address, not the address.
    assert_eq!(call(WEAK, 1, legal), bad);
    assert_eq!(call(WEAK, 0, legal), (Reason::Ok, true));
    assert_eq!(call(WEAK, 1, INSIDE), bad, "no instruction to land on");
    assert_eq!(call(WEAK, 0, INSIDE), (Reason::Ok, true));
}

#[test]
fn frees_without_a_look_at_kernel_memory() {
    let object = load();
    let page_offset = 0xffff_8880_0000_0000;
    let (vmalloc, vmemmap) = (0xffff_c900_0000_0000_u64, 0xffff_ea00_0000_0000);
    let kernel_map = 0xffff_ffff_8000_0000_u64;
    let (stack, top) = (0xffff_c900_0010_0000, 0xffff_c900_0010_4000);
    let freed = |legal: u64, addr: u64| {
        let mut words = [0; STATE + 8];
        words[..6].copy_from_slice(&[0, page_offset, vmemmap, vmalloc, vmemmap, kernel_map]);
        words[STATE..STATE + 7].copy_from_slice(&[
            stack + 0x1000,
            stack,
            top,
            stack,
            addr,
            u64::MAX,
            legal,
        ]);
        Reason::from_raw(run(&object, "otf_test_address", words)[1].into()).unwrap()
    };
    // Two pages of an object of vmalloc.
    let start = vmalloc + 0x8000;
    let record: Vec<u8> = [start, 8192, 3]
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .collect();
    for page in [start, start + 4096] {
        put(&object, "otf_pages", &[page], &record);
    }
    let cases = [
        ("NULL", NOTHING, 0, Reason::Ok),
        ("ZERO_SIZE_PTR", NOTHING, 16, Reason::Ok),
        ("user memory", ANYWHERE, 0x7fff_0000, Reason::BadFree),
        ("an error", ANYWHERE, (-12_i64) as u64, Reason::BadFree),
        ("a global", ANYWHERE, kernel_map + 64, Reason::BadFree),
        ("the stack", ANYWHERE, stack + 0x1010, Reason::BadFree),
        ("the start", ANYWHERE, start, Reason::Ok),
        ("not the start", ANYWHERE, start + 8, Reason::BadFree),
        ("not the start", ANYWHERE, start + 4096, Reason::BadFree),
        ("no place begins there", GROUPS, start, Reason::BadLayout),
        ("nothing legal", NOTHING, start, Reason::BadClass),
        ("without record", GROUPS, start + 0x4000, Reason::Unknown),
    ];
    for (what, legal, addr, reason) in cases {
        assert_eq!(freed(legal, addr), reason, "{what}");
    }
}

#[test]
fn a_write_with_an_index_stays_in_the_object_of_its_pointer() {
    let object = load();
    let (start, size) = (0xffff_8880_0420_1000_u64, 512);
    let answer = |site: u64, pointer: u64, addr: u64, length: u64, before: Reason| {
        let last = site | (before as u64) << 32;
        let words = [start, size, pointer, addr, length, last];
        let answer = run(&object, "otf_test_same", words);
        (Reason::from_raw(answer[5].into()).unwrap(), answer[6])
    };
    let ok = (Reason::Ok, 0);
    let bad = (Reason::OtherObject, abi::RULE_SAME_OBJECT);
    // Rows of sites: an element of an array that the pointer leads to, one of a member.
    let (elements, member) = (0, 1);
    for (what, site, pointer, addr, length, expected) in [
        ("its start", member, start, start, 4, ok),
        ("its end", member, start, start + size - 4, 4, ok),
        ("over its end", member, start, start + size - 2, 4, bad),
        ("behind it", member, start, start + size, 4, bad),
        ("before it", member, start, start - 4, 4, bad),
        ("over its start", member, start, start - 2, 4, bad),
        ("far away", member, start + 8, 8, 4, bad),
        ("from its middle", member, start + 256, start, 8, ok),
        ("nothing", member, start, start + size, 0, ok),
        ("round the end", member, start, u64::MAX - 1, 4, bad),
        ("one past an array", elements, start, start - 8, 8, ok),
        (
            "past it by an element",
            elements,
            start,
            start + size,
            8,
            bad,
        ),
        ("back by an element", elements, start + 8, start - 8, 8, bad),
        ("a red zone", member, start - 8, start - 4, 4, ok),
    ] {
        assert_eq!(
            answer(site, pointer, addr, length, Reason::Ok),
            expected,
            "{what}"
        );
    }
    let outside = |before| answer(member, start, start + size, 8, before).0;
    assert_eq!(outside(Reason::Unknown), Reason::OtherObject);
    assert_eq!(
        outside(Reason::BadLayout),
        Reason::BadLayout,
        "what was found first is said"
    );
}

#[test]
fn a_return_ends_its_own_gate_only() {
    let object = load();
    // Gates 5, 6 and 7, each called by the one before.
    let slots = [0x3000, 5, 0x2000, 6, 0x1000, 7];
    let ends = |sp: u64, gate: u64, depth: u64| {
        let mut words = [0; 10];
        words[..3].copy_from_slice(&[sp, gate, depth]);
        words[3..9].copy_from_slice(&slots);
        let answer = run(&object, "otf_test_return", words);
        // The noted address and how many gates are left.
        (answer[0], answer[1])
    };
    assert_eq!(ends(0x1000, 7, 3), (102, 2), "the innermost");
    assert_eq!(ends(0x1000, 6, 3), (0, 3), "the function of another gate");
    assert_eq!(ends(0x0f00, 7, 3), (0, 3), "a call from within the gate");
    assert_eq!(ends(0x2000, 6, 3), (101, 1), "those below are over");
    assert_eq!(ends(0x2800, 6, 3), (0, 1), "no gate was entered here");
    assert_eq!(ends(0x3000, 5, 0), (0, 0), "nothing was noted");
}
