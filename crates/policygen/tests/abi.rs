//! `artifact::abi` and `otf_abi.h` say the same: clang checks what Rust asserts.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{fmt::Write as _, mem::offset_of, process::Command};

use otf_artifact::{
    abi::{self, Action, Class, Counter, Done, LengthKind, Phase, Reason},
    analysis::StackRule,
    recorder,
};

macro_rules! layouts {
    ($out:ident, $home:ident; $($rust:ident = $c:literal { $($field:ident $(as $other:literal)?),* })*) => {$(
        writeln!(
            $out,
            "_Static_assert(sizeof(struct {}) == {}, \"{}\");",
            $c, size_of::<$home::$rust>(), $c,
        ).unwrap();
        $(
            let name = [stringify!($field) $(, $other)?];
            let name = name[name.len() - 1];
            writeln!(
                $out,
                "_Static_assert(__builtin_offsetof(struct {}, {name}) == {}, \"{} {name}\");",
                $c, offset_of!($home::$rust, $field), $c,
            ).unwrap();
        )*
    )*};
}

fn structs(out: &mut String) {
    layouts! { out, abi;
        Site = "otf_site" {
            displacement, legal, size, frame_size, shape, length, flags, insn_len, action, symbol,
            gates, saved, canary, pointer, release, release_gates, pad
        }
        GateSet = "otf_gate_set" { gates }
        Legal = "otf_legal" { first_place, places, first_global, globals, first_passed, passed, otherwise, stack, flags }
        Passed = "otf_passed" { function, size, argument }
        Place = "otf_place" {
            offset, stride, count, size, object_min, object_max, allocations, cache, pad
        }
        Gate = "otf_gate" { refusal, instance, pad }
        Call = "otf_call" {
            displacement, targets, shape, symbol, gates, memory, insn_len, action, flags, pad
        }
        NameWord = "otf_name_word" { word, mask }
        Return = "otf_return" { gate, action, pad }
        Target = "otf_target" { address, set, pad }
        Alloc = "otf_alloc" { size, size_arg, count_arg, is_order, pad }
        Range = "otf_range" { start, end }
        State = "otf_state" {
            phase, action, page_offset, vmemmap, vmalloc_start, vmalloc_end, kernel_map, texts, endbr,
            text
        }
        Object = "otf_object" { start, size, alloc, pad }
        Quarantine = "otf_quarantine" { object, time, refused, site, gate }
        Event = "otf_event" {
            time, address, length, object, object_size, instance, ip, site, gate, alloc, pid, tid,
            cpu, class, reason, done, phase, in_interrupt, rules, pad, comm, cache
        }
        SiteCount = "otf_site_count" { hits, violations, unknown }
        Cache = "otf_cache" { address, size, object_size, name, unique }
    }
}

fn recorder_structs(out: &mut String) {
    layouts! { out, recorder;
        Chain = "otf_chain" { frame, given }
        ChainUse = "otf_chain_use" { cache, count, least, most, id, pad }
        Seen = "otf_seen" { object, offset, size, site, chain, class, flags, pad }
        SeenUse = "otf_seen_use" { count, length, rest }
        Called = "otf_called" { target, call, pad }
    }
    for (name, value) in [
        ("CHAIN", recorder::CHAIN),
        ("LOST_MAX", recorder::LOST.len()),
        ("SEEN_DEAD", recorder::SEEN_DEAD.into()),
        ("SEEN_IN_FRAME", recorder::SEEN_IN_FRAME.into()),
        ("SEEN_NO_FRAME", recorder::SEEN_NO_FRAME.into()),
        ("SEEN_IN_GATE", recorder::SEEN_IN_GATE.into()),
        ("SEEN_NO_GATE", recorder::SEEN_NO_GATE.into()),
        ("SEEN_GENERAL", recorder::SEEN_GENERAL.into()),
        ("SEEN_KFENCE", recorder::SEEN_KFENCE.into()),
        ("SEEN_BOUNDED", recorder::SEEN_BOUNDED.into()),
    ] {
        writeln!(out, "_Static_assert(OTF_{name} == {value}, \"{name}\");").unwrap();
    }
}

/// Rust's `FooBar` is C's `OTF_<prefix>FOO_BAR`.
fn constants(out: &mut String) {
    let mut same = |name: String, value: u64| {
        writeln!(out, "_Static_assert({name} == {value}ULL, \"{name}\");").unwrap();
    };
    for (name, value) in [
        ("MAX_PLACES", abi::MAX_PLACES as u64),
        ("MAX_GLOBALS", abi::MAX_GLOBALS as u64),
        ("MAX_FRAMES", abi::MAX_FRAMES as u64),
        ("MAX_TEXTS", abi::MAX_TEXTS as u64),
        ("ALLOC_WORDS", abi::ALLOC_WORDS as u64),
        ("MAX_NAME_WORDS", abi::MAX_NAME_WORDS as u64),
        ("GATE_WORDS", abi::GATE_WORDS as u64),
        ("FILTER_SLOTS", abi::FILTER_SLOTS as u64),
        ("LENGTH_LEADER", abi::LENGTH_LEADER.into()),
        ("RULE_LAYOUT", abi::RULE_LAYOUT.into()),
        ("RULE_PROVENANCE", abi::RULE_PROVENANCE.into()),
        ("RULE_SAME_OBJECT", abi::RULE_SAME_OBJECT.into()),
        ("POINTER_AX", abi::POINTER_AX.into()),
        ("NO_INSTANCE", abi::NO_INSTANCE.into()),
        ("CACHE_GENERAL", abi::CACHE_GENERAL.into()),
        ("CACHE_ANY", abi::CACHE_ANY.into()),
        ("CACHE_NONE", abi::CACHE_NONE.into()),
        ("SITE_FREE", abi::SITE_FREE.into()),
        ("SITE_TAIL", abi::SITE_TAIL.into()),
        ("CALL_WEAK", abi::CALL_WEAK.into()),
        ("CALL_TAIL", abi::CALL_TAIL.into()),
        ("SITE_SKIP_ZF", abi::SITE_SKIP_ZF.into()),
        ("SITE_SKIP_CF", abi::SITE_SKIP_CF.into()),
        ("SITE_PERCPU", abi::SITE_PERCPU.into()),
        ("SITE_RETURNS_DI", abi::SITE_RETURNS_DI.into()),
        ("SITE_RETURNS_LENGTH", abi::SITE_RETURNS_LENGTH.into()),
        ("SITE_FRAME", abi::SITE_FRAME.into()),
        ("LEGAL_ANY_HEAP", abi::LEGAL_ANY_HEAP.into()),
        ("LEGAL_ANY_GLOBAL", abi::LEGAL_ANY_GLOBAL.into()),
        ("LEGAL_PERCPU", abi::LEGAL_PERCPU.into()),
        ("LEGAL_USER", abi::LEGAL_USER.into()),
        ("COUNT_MAX", Counter::ALL.len() as u64),
    ] {
        same(format!("OTF_{name}"), value);
    }
    let mut words = |prefix: &str, names: Vec<String>| {
        for (value, name) in names.iter().enumerate() {
            same(format!("OTF_{prefix}{}", snake(name)), value as u64);
        }
    };
    words("", Action::ALL.iter().map(|v| format!("{v:?}")).collect());
    words("", Phase::ALL.iter().map(|v| format!("{v:?}")).collect());
    words(
        "LENGTH_",
        LengthKind::ALL.iter().map(|v| format!("{v:?}")).collect(),
    );
    words(
        "CLASS_",
        Class::ALL.iter().map(|v| format!("{v:?}")).collect(),
    );
    words("", Reason::ALL.iter().map(|v| format!("{v:?}")).collect());
    words(
        "DONE_",
        Done::ALL.iter().map(|v| format!("{v:?}")).collect(),
    );
    words(
        "COUNT_",
        Counter::ALL.iter().map(|v| format!("{v:?}")).collect(),
    );
    let stacks = [
        StackRule::None,
        StackRule::Own,
        StackRule::Compartment,
        StackRule::Any,
    ];
    for (value, rule) in stacks.iter().enumerate() {
        assert_eq!(*rule as usize, value);
    }
    words("STACK_", stacks.iter().map(|v| format!("{v:?}")).collect());
}

fn snake(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(c.to_ascii_uppercase());
    }
    text.replace("PER_CPU", "PERCPU")
}

fn compiles(source: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("abi.c");
    std::fs::write(&file, source).unwrap();
    let output = Command::new("clang-19")
        .args([
            "-target",
            "bpf",
            "-fsyntax-only",
            "-I/usr/include/x86_64-linux-gnu",
            "-Ibpf",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg(&file)
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn layouts_and_constants_are_those_of_the_header() {
    let mut source = String::from("#include <linux/types.h>\n#include \"otf_record.h\"\n");
    structs(&mut source);
    recorder_structs(&mut source);
    constants(&mut source);
    let (ok, words) = compiles(&source);
    assert!(ok, "{words}");
    // The test can fail: one wrong number is refused.
    source.push_str("_Static_assert(sizeof(struct otf_site) == 1, \"\");\n");
    assert!(!compiles(&source).0);
}
