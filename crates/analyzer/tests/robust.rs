//! Bad input, determinism and the file format of facts.

mod common;

use std::sync::LazyLock;

use common::{bitcode, cases, unit};
use otf_analyzer::{
    FileMeta, Request, analyze,
    check::check,
    facts,
    facts::{Facts, Path, Reach, Root, Shape, Type, TypeId, View},
    format::{self, Depth, EXTRACTOR, decode, encode},
    slots::{NameId, Place},
};
use otf_artifact::{diagnostic::Code, ids::LegalSetId};
use proptest::prelude::*;

/// Of no bitcode at all.
const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn damaged_bitcode_is_refused_or_read_as_something_else(
        at in any::<prop::sample::Index>(),
        bits in 1..=u8::MAX,
        more in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| bitcode("containers.c"));
        let mut damaged = WHOLE.clone();
        let at = at.index(damaged.len());
        damaged[at] ^= bits;
        for (at, byte) in more {
            let at = at.index(damaged.len());
            damaged[at] = byte;
        }
        if let Err(error) = facts(&damaged, "containers.c") {
            prop_assert_eq!(error.code, Code::BadBitcode);
        }
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
    let bytes = encode(facts.clone(), HASH, Depth::Full).unwrap().0;
    assert_eq!(format::header(&bytes, "x").unwrap().bitcode, HASH);
    let whole = decode(&bytes, Depth::Full, "x").unwrap();
    assert_eq!(whole.types.0.len(), facts.types.0.len());
    assert_eq!(encode(whole, HASH, Depth::Full).unwrap().0, bytes);
    for depth in [Depth::Mentioned, Depth::Full] {
        let (_, left) = encode(facts.clone(), HASH, depth).unwrap();
        assert_eq!(left, decode(&bytes, depth, "x").unwrap());
    }
    assert_eq!(encode(facts.clone(), HASH, Depth::Full).unwrap().0, bytes);
    let folder = cases().display().to_string();
    assert!(!format!("{facts:?}").contains(&folder));
}

#[test]
fn an_analysis_does_not_depend_on_the_way_through_a_file() {
    let files = vec![
        unit("private_area.c", true),
        unit("private_area.scope.c", false),
    ];
    let direct = analyze(&files, &Request::default()).unwrap();
    for depth in [Depth::Mentioned, Depth::Full] {
        let read: Vec<(FileMeta, Facts)> = files
            .iter()
            .map(|(meta, facts)| {
                let bytes = encode(facts.clone(), HASH, Depth::Full).unwrap().0;
                (meta.clone(), decode(&bytes, depth, "x").unwrap())
            })
            .collect();
        assert_eq!(
            analyze(&read, &Request::default()).unwrap(),
            direct,
            "{depth:?}"
        );
    }
}

#[test]
fn without_what_is_not_mentioned_pointees_are_opaque_and_parts_are_whole() {
    let (_, facts) = unit("containers.c", true);
    let bytes = encode(facts, HASH, Depth::Full).unwrap().0;
    let few = decode(&bytes, Depth::Mentioned, "x").unwrap();
    let all = decode(&bytes, Depth::Full, "x").unwrap();
    let (few, all) = (few.types.0, all.types.0);
    for (few, all) in few.iter().zip(&all) {
        assert_eq!(
            (&few.name, few.size, few.identity),
            (&all.name, all.size, all.identity)
        );
        assert!(few == all || few.is_opaque());
    }
}

#[test]
fn damaged_facts_are_refused() {
    let (_, facts) = unit("lists.c", true);
    let bytes = encode(facts, HASH, Depth::Full).unwrap().0;
    let code = |bytes: &[u8]| decode(bytes, Depth::Full, "x").unwrap_err().code;
    for cut in 0..bytes.len() {
        assert_eq!(code(&bytes[..cut]), Code::BadArtifact);
    }
    for at in (0..24).chain(88..bytes.len()) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert_eq!(code(&changed), Code::BadArtifact, "byte {at}");
    }
    let mut other = bytes.clone();
    assert_eq!(&other[8..24], EXTRACTOR.as_bytes());
    other[8..24].copy_from_slice(b"0123456789abcdef");
    let error = decode(&other, Depth::Full, "x").unwrap_err();
    assert!(error.message.contains("version"), "{}", error.message);
    let mut longer = bytes;
    longer.push(0);
    assert_eq!(code(&longer), Code::BadArtifact);
}

/// A file of these facts with right checksums, whatever they say.
fn forged(facts: &Facts) -> Result<Vec<u8>, postcard::Error> {
    let mut bytes = b"OTFFACTS".to_vec();
    bytes.extend(EXTRACTOR.as_bytes());
    bytes.extend(HASH.as_bytes());
    let first = postcard::to_extend(facts, Vec::new())?;
    // No types that are not mentioned: two empty lists.
    let sections = [first, vec![0, 0]];
    for section in &sections {
        bytes.extend((section.len() as u64).to_le_bytes());
        bytes.extend(xxhash_rust::xxh3::xxh3_64(section).to_le_bytes());
    }
    bytes.extend(sections.concat());
    Ok(bytes)
}

#[test]
fn facts_that_name_a_row_which_does_not_exist_are_refused() {
    type Break<'a> = &'a dyn Fn(&mut Facts);
    const FAR: u32 = 1 << 20;
    let (_, facts) = unit("lists.c", true);
    let facts = encode(facts, HASH, Depth::Full).unwrap().1;
    let decode = |facts: &Facts| decode(&forged(facts).unwrap(), Depth::Full, "x");
    assert_eq!(decode(&facts).unwrap(), facts);
    let path = |root| Path {
        root,
        reach: Reach::Object,
        view: None,
    };
    let view = View {
        ty: TypeId(FAR),
        offset: None,
    };
    let broken: &[(&str, Break<'_>)] = &[
        ("type of a global", &|f| f.globals[0].ty = Some(TypeId(FAR))),
        ("type of a parameter", &|f| {
            f.functions[0].parameters.push(Some(TypeId(FAR)));
        }),
        ("call", &|f| {
            f.functions[0].returns.insert(path(Root::Call(FAR)));
        }),
        ("global", &|f| {
            f.functions[0].returns.insert(path(Root::Global(FAR)));
        }),
        ("view", &|f| {
            f.functions[0].returns.insert(Path {
                view: Some(view),
                ..path(Root::Local)
            });
        }),
        ("member's type", &|f| {
            let member = |ty: &mut Type| match &mut ty.shape {
                Shape::Record { members, .. } if !members.is_empty() => {
                    members[0].ty = TypeId(FAR);
                    true
                }
                _ => false,
            };
            assert!(f.types.0.iter_mut().any(member));
        }),
        ("name of a place", &|f| {
            f.slots
                .flows
                .push((Place::Result(NameId(FAR)), Place::Variable(0)));
        }),
        ("member of a place", &|f| {
            f.slots.flows.push((Place::Member(FAR), Place::Variable(0)));
        }),
        ("no type at all", &|f| f.types.0.clear()),
        ("array of itself", &|f| {
            let row = TypeId(f.types.0.len() as u32);
            f.types.0.push(Type {
                name: "".into(),
                size: 8,
                shape: Shape::Array {
                    element: row,
                    stride: 8,
                    count: 1,
                },
                identity: 0,
            });
        }),
    ];
    for (what, change) in broken {
        let mut wrong = facts.clone();
        change(&mut wrong);
        let refused = decode(&wrong).map_err(|e| e.code);
        assert_eq!(refused, Err(Code::BadArtifact), "{what}");
    }
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
