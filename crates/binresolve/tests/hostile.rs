//! Damaged images: an error or a result, never a panic.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are not marked as tests"
)]

mod common;

use std::sync::OnceLock;

use otf_artifact::diagnostic::Code;
use otf_binresolve::{ImageInput, extent::Confinement, resolve};
use proptest::prelude::*;

/// A small module with code, tables, relocations and DWARF.
fn module() -> &'static [u8] {
    static MODULE: OnceLock<Vec<u8>> = OnceLock::new();
    MODULE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let source = "
int counter;
static inline void put(int *p) { *p = 1; }
void *memcpy(void *, const void *, unsigned long);
void f(int *p, unsigned long n) {
	put(p);
	counter++;
	asm(\"661: nop; 662: .pushsection .altinstructions, \\\"a\\\"; .long 661b - .; .long 664f - .;\"
	    \".4byte 0; .byte 1; .byte 1; .popsection; .pushsection .altinstr_replacement, \\\"ax\\\";\"
	    \"664: nop; .popsection\");
	memcpy(p, &counter, n);
}
";
        std::fs::write(directory.path().join("t.c"), source).unwrap();
        let object = common::compile("gcc", directory.path(), "t.c", &[]);
        std::fs::read(object).unwrap()
    })
}

fn try_resolve(bytes: &[u8]) {
    let input = ImageInput {
        name: "test",
        file: "test.ko",
        bytes,
        confined: Confinement::Whole,
        exact: &[],
    };
    // A result has passed the checker; an error blames the input.
    if let Err(problems) = resolve(&common::empty_analysis(), &[input]) {
        assert!(!problems.is_empty());
        assert!(
            problems.iter().all(|p| p.code == Code::BadImage),
            "{problems:?}"
        );
    }
}

#[test]
fn an_undamaged_module_resolves() {
    let input = ImageInput {
        name: "test",
        file: "test.ko",
        bytes: module(),
        confined: Confinement::Whole,
        exact: &[],
    };
    assert!(resolve(&common::empty_analysis(), &[input]).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn truncated(cut in 0.0..1.0f64) {
        let bytes = module();
        try_resolve(&bytes[..(bytes.len() as f64 * cut) as usize]);
    }

    #[test]
    fn changed(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut bytes = module().to_vec();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        try_resolve(&bytes);
    }

    #[test]
    fn arbitrary(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        try_resolve(&bytes);
    }
}
