//! Bad input, determinism and the file format of facts.

mod common;

use common::{bitcode, cases, unit};
use otf_analyzer::{FileMeta, Request, analyze, check::check, facts, facts::Facts};
use otf_artifact::{diagnostic::Code, ids::LegalSetId};
use proptest::prelude::*;

#[test]
fn a_file_without_magic_is_refused() {
    for bytes in [&b""[..], b"BC", b"\x7fELF....", b"; ModuleID = 'x'"] {
        let error = facts(bytes, "a.c").unwrap_err();
        assert_eq!(error.code, Code::BadBitcode);
        assert!(error.message.contains("a.c"), "{}", error.message);
    }
}

#[test]
fn a_truncated_module_is_refused() {
    let whole = bitcode("lists.c");
    for part in 1..16 {
        let cut = &whole[..whole.len() * part / 16];
        assert_eq!(facts(cut, "lists.c").unwrap_err().code, Code::BadBitcode);
    }
}

#[test]
fn no_confined_file_is_an_error() {
    let files = vec![unit("lists.c", false)];
    let errors = analyze(&files, &Request::default()).unwrap_err();
    assert_eq!(errors[0].code, Code::UnknownCompartment);
}

#[test]
fn facts_survive_their_file_format_and_name_no_machine() {
    let (_, facts) = unit("private_area.c", true);
    let bytes = postcard::to_allocvec(&facts).unwrap();
    assert_eq!(postcard::from_bytes::<Facts>(&bytes).unwrap(), facts);
    let folder = cases().display().to_string();
    assert!(!format!("{facts:?}").contains(&folder));
}

#[test]
fn the_order_of_files_does_not_matter() {
    let mut files = vec![
        unit("private_area.c", true),
        unit("lists.c", true),
        unit("private_area.scope.c", false),
    ];
    let request = Request::default();
    let first = analyze(&files, &request).unwrap();
    files.reverse();
    assert_eq!(analyze(&files, &request).unwrap(), first);
}

#[test]
fn the_checker_finds_what_is_broken() {
    let files: Vec<(FileMeta, Facts)> = vec![unit("containers.c", true)];
    let sound = analyze(&files, &Request::default()).unwrap();
    assert_eq!(check(&sound), []);
    let places = |set: &otf_artifact::analysis::LegalSet| !set.heap.is_empty();
    let with_heap = sound.legal_sets.iter().position(places).unwrap();

    let mut broken = sound.clone();
    broken.types.reverse();
    assert!(!check(&broken).is_empty(), "unsorted types");
    let mut broken = sound.clone();
    broken.compartment_set = LegalSetId(1000);
    assert!(!check(&broken).is_empty(), "set out of range");
    let mut broken = sound.clone();
    broken.legal_sets[with_heap].heap[0].object_min = 1;
    assert!(!check(&broken).is_empty(), "place outside its object");
    let mut broken = sound.clone();
    broken.legal_sets[with_heap].heap[0]
        .allocation_sites
        .clear();
    assert!(!check(&broken).is_empty(), "place without allocation");
    let mut broken = sound;
    broken.legal_sets[with_heap] = otf_artifact::analysis::LegalSet::default();
    assert!(!check(&broken).is_empty(), "set that allows nothing");
}

proptest! {
    #[test]
    fn arbitrary_bytes_give_a_diagnostic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let mut with_magic = b"BC\xC0\xDE".to_vec();
        with_magic.extend(&bytes);
        for bytes in [bytes, with_magic] {
            prop_assert_eq!(facts(&bytes, "x.c").unwrap_err().code, Code::BadBitcode);
        }
    }
}
