//! The generated object runs in the kernel of this machine and reads what was generated.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{path::Path, process::Command};

use libbpf_rs::{MapCore, MapFlags, ObjectBuilder, ProgramInput};
use object::{Object as _, ObjectSection as _};
use otf_artifact::{abi, sites::Register};
use otf_policygen::{
    Shape,
    codegen::{CHECK_LIBRARY, emit},
    rows::{Row, encode},
    tables::{MAX_SHAPES, Tables},
};
use proptest::{prelude::*, test_runner::TestRunner};

const REGISTERS: [Register; 16] = [
    Register::R15,
    Register::R14,
    Register::R13,
    Register::R12,
    Register::Bp,
    Register::Bx,
    Register::R11,
    Register::R10,
    Register::R9,
    Register::R8,
    Register::Ax,
    Register::Cx,
    Register::Dx,
    Register::Si,
    Register::Di,
    Register::Sp,
];
/// Words of `struct pt_regs`; `sp` is the last but one.
const REGS: usize = 21;
const WORDS: usize = REGS + 3;

fn slot(register: Register) -> usize {
    let place = REGISTERS.iter().position(|r| *r == register).unwrap();
    if register == Register::Sp {
        REGS - 2
    } else {
        place
    }
}

fn library() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("tables.bc");
    let status = Command::new("clang-19")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .args([
            "-target",
            "bpf",
            "-mcpu=v3",
            "-O2",
            "-g",
            "-Ibpf",
            "-ffile-compilation-dir=.",
        ])
        .args([
            "-I/usr/include/x86_64-linux-gnu",
            "-emit-llvm",
            "-c",
            "tests/bpf/tables.bpf.c",
            "-o",
        ])
        .arg(&out)
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::read(out).unwrap()
}

/// Every kind of shape over every register.
fn shapes() -> Vec<Shape> {
    let mut shapes = vec![Shape {
        base: None,
        index: None,
        bit: None,
    }];
    for (n, register) in REGISTERS.into_iter().enumerate() {
        let other = REGISTERS[(n + 5) % REGISTERS.len()];
        let scale = 1 << (n % 4);
        shapes.push(Shape {
            base: Some(register),
            index: None,
            bit: None,
        });
        shapes.push(Shape {
            base: Some(register),
            index: Some((other, scale)),
            bit: None,
        });
        shapes.push(Shape {
            base: None,
            index: Some((register, 8)),
            bit: None,
        });
        for bytes in [2, 4, 8] {
            shapes.push(Shape {
                base: Some(other),
                index: None,
                bit: Some((register, bytes)),
            });
            shapes.push(Shape {
                base: Some(other),
                index: Some((REGISTERS[(n + 1) % REGISTERS.len()], scale)),
                bit: Some((register, bytes)),
            });
        }
    }
    shapes
}

/// The manual's words, in 128 bits.
fn expected(shape: Shape, regs: &[u64; REGS]) -> u64 {
    let value = |r: Register| regs[slot(r)];
    let mut address = i128::from(shape.base.map_or(0, value));
    if let Some((index, scale)) = shape.index {
        address += i128::from(value(index)) * i128::from(scale);
    }
    if let Some((bit, bytes)) = shape.bit {
        let index = match bytes {
            2 => i128::from(value(bit) as i16),
            4 => i128::from(value(bit) as i32),
            _ => i128::from(value(bit) as i64),
        };
        let bits = i128::from(bytes) * 8;
        address += index.div_euclid(bits) * i128::from(bytes);
    }
    address as u64
}

fn tables() -> Tables {
    let site = |n: u32| abi::Site {
        displacement: -i64::from(n) * 1000,
        legal: n % 3,
        size: n,
        frame_size: n * 8,
        shape: n as u16,
        length: (n % 4) as u8,
        flags: 0x1f,
        insn_len: 7,
        action: 2,
        symbol: (n % 7) as u16,
        gates: (n % 3) as u16,
        saved: n as u8,
        canary: n as u8,
        pointer: (n % 17) as u8,
        release: (n % 5) as u8 | 0x10,
        release_gates: (n % 3) as u16,
        pad: [0; 4],
    };
    let place = |n: u64| abi::Place {
        offset: n,
        stride: [n * 2, n * 3],
        count: [n, 0],
        size: 8,
        object_min: n,
        object_max: u64::MAX - n,
        allocations: std::array::from_fn(|k| n << k),
        cache: abi::CACHE_GENERAL,
        pad: 0,
    };
    let legal = |n: u32| abi::Legal {
        first_place: n * 3,
        places: 3,
        first_global: n,
        globals: 1,
        stack: 1,
        flags: 4,
        first_passed: 0,
        passed: 0,
        otherwise: 0,
    };
    Tables {
        own_caches: vec![
            abi::NameWord {
                word: 0x2e66_746f,
                mask: 0xffff_ffff
            };
            2
        ],
        sites: (0..500).map(site).collect(),
        legals: (0..3).map(legal).collect(),
        places: (0..9).map(place).collect(),
        global_rows: vec![5, 6, 7],
        gates: vec![
            abi::Gate {
                refusal: -5,
                instance: 1,
                pad: [0; 7]
            };
            4
        ],
        gate_sets: vec![
            abi::GateSet {
                gates: [6, 0, 1, 0]
            };
            2
        ],
        calls: vec![
            abi::Call {
                displacement: -24,
                targets: 70_000,
                shape: 3,
                symbol: 2,
                gates: 1,
                memory: 1,
                insn_len: 5,
                action: 2,
                flags: 3,
                pad: [0; 2],
            };
            3
        ],
        returns: vec![
            abi::Return {
                gate: 2,
                action: 1,
                pad: [0; 3],
            };
            2
        ],
        passed: Vec::new(),
        allocs: vec![abi::Alloc {
            size: 96,
            size_arg: 0xff,
            count_arg: 1,
            is_order: 0,
            pad: [0; 5],
        }],
        shapes: shapes(),
    }
}

struct Loaded(libbpf_rs::Object);

impl Loaded {
    fn new(object: &[u8]) -> Self {
        let mut open = ObjectBuilder::default().open_memory(object).unwrap();
        let mut rodata = open
            .maps_mut()
            .find(|m| m.name().to_string_lossy().ends_with(".rodata"))
            .unwrap();
        assert!(rodata.initial_value_mut().is_some());
        Self(open.load().unwrap())
    }

    /// What the program returns, and the words it leaves in its map.
    fn run(&self, program: &str, context: [u64; WORDS]) -> (i32, Vec<u64>) {
        let mut bytes: Vec<u8> = context.iter().flat_map(|w| w.to_le_bytes()).collect();
        let input = ProgramInput {
            context_in: Some(&mut bytes),
            ..ProgramInput::default()
        };
        let program = self.0.progs_mut().find(|p| p.name() == program).unwrap();
        let code = program.test_run(input).unwrap().return_value as i32;
        let results = self.0.maps().find(|m| m.name() == "results").unwrap();
        let value = results.lookup(&[0; 4], MapFlags::ANY).unwrap().unwrap();
        let words = value
            .chunks_exact(8)
            .map(|w| u64::from_le_bytes(w.try_into().unwrap()));
        (code, words.collect())
    }
}

#[test]
fn effective_addresses_of_every_shape() {
    let tables = tables();
    let loaded = Loaded::new(&emit(&library(), &tables).unwrap());
    let address = |row: usize, regs: &[u64; REGS]| {
        let mut context = [0; WORDS];
        context[..REGS].copy_from_slice(regs);
        context[REGS] = row as u64;
        let (code, words) = loaded.run("address", context);
        assert_eq!(code, 0);
        words[0]
    };
    let edge = prop_oneof![
        any::<u64>(),
        Just(0),
        Just(u64::MAX),
        Just(1 << 63),
        (-70_000_i64..70_000).prop_map(|n| n as u64),
        (0_u64..100).prop_map(|n| 0xffff_8880_0000_0000 + n),
    ];
    let registers = prop::collection::vec(edge, REGS);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(200));
    runner
        .run(&registers, |values| {
            let regs: [u64; REGS] = values.try_into().unwrap();
            for (row, shape) in tables.shapes.iter().enumerate() {
                prop_assert_eq!(address(row, &regs), expected(*shape, &regs), "{:?}", shape);
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(address(tables.shapes.len(), &[1; REGS]), 0);
}

/// The longest code that the limit lets through is emitted, and passes the verifier.
#[test]
fn as_many_shapes_as_there_may_be() {
    let pick = |n: usize| REGISTERS[n % REGISTERS.len()];
    let shape = |n: usize| Shape {
        base: Some(pick(n)),
        index: Some((pick(n / 16), 4)),
        bit: Some((pick(n / 256), [2, 4, 8][n % 3])),
    };
    let mut shapes: Vec<_> = (0..16 * 16 * 16).map(shape).collect();
    shapes.sort();
    shapes.dedup();
    shapes.truncate(MAX_SHAPES);
    assert_eq!(shapes.len(), MAX_SHAPES);
    let tables = Tables { shapes, ..tables() };
    let loaded = Loaded::new(&emit(&library(), &tables).unwrap());
    let regs: [u64; REGS] = std::array::from_fn(|n| (n as u64 + 3) * 0x1234_5678_9abc);
    for row in [0, 1, 1000, MAX_SHAPES - 1] {
        let mut context = [0; WORDS];
        context[..REGS].copy_from_slice(&regs);
        context[REGS] = row as u64;
        let wanted = expected(tables.shapes[row], &regs);
        assert_eq!(loaded.run("address", context).1[0], wanted);
    }
    let library = emit(CHECK_LIBRARY, &tables).unwrap();
    let open = ObjectBuilder::default().open_memory(&library).unwrap();
    assert!(open.load().unwrap().progs().any(|p| p.name() == "otf_site"));
}

/// Each row reads back word by word, and the one after the last is refused.
fn same<R: Row + Copy>(rows: &[R], kind: u64, read: &dyn Fn(u64, usize) -> (i32, Vec<u64>)) {
    for (n, row) in rows.iter().enumerate() {
        let bytes = encode(&[*row]);
        let words = bytes
            .chunks_exact(8)
            .map(|w| u64::from_le_bytes(w.try_into().unwrap()));
        let (code, found) = read(kind, n);
        assert_eq!(
            (code, &found[..bytes.len() / 8]),
            (0, &words.collect::<Vec<_>>()[..])
        );
    }
    assert_eq!(read(kind, rows.len()).0, -1);
}

#[test]
fn rows_read_back() {
    let tables = tables();
    let loaded = Loaded::new(&emit(&library(), &tables).unwrap());
    let read = |kind: u64, row: usize| {
        let mut context = [0; WORDS];
        context[REGS + 1] = row as u64;
        context[REGS + 2] = kind;
        loaded.run("row", context)
    };
    same(&tables.sites, 0, &read);
    same(&tables.legals, 1, &read);
    same(&tables.places, 2, &read);
    same(&tables.gates, 4, &read);
    same(&tables.allocs, 5, &read);
    for (n, row) in tables.global_rows.iter().enumerate() {
        assert_eq!(read(3, n).1[0], u64::from(*row));
    }
    same(&tables.gate_sets, 7, &read);
    same(&tables.calls, 8, &read);
    same(&tables.returns, 9, &read);
    assert_eq!(read(6, 0).1[..7], [500, 3, 9, 3, 4, 1, 2]);
}

/// libbpf binds type information to one `.rodata`; the loader finds its constant by it.
#[test]
fn there_is_one_rodata_and_no_path_of_this_machine() {
    for library in [library().as_slice(), CHECK_LIBRARY] {
        let bytes = emit(library, &tables()).unwrap();
        let object = object::File::parse(bytes.as_slice()).unwrap();
        let rodata = object.sections().filter(|s| s.name() == Ok(".rodata"));
        assert_eq!(rodata.count(), 1);
        for needed in [".BTF", ".BTF.ext"] {
            assert!(object.section_by_name(needed).is_some());
        }
        let folder = env!("CARGO_MANIFEST_DIR").as_bytes();
        assert!(!bytes.windows(folder.len()).any(|w| w == folder));
    }
}

#[test]
fn the_same_tables_give_the_same_bytes() {
    let first = emit(CHECK_LIBRARY, &tables()).unwrap();
    assert_eq!(first, emit(CHECK_LIBRARY, &tables()).unwrap());
    let mut other = tables();
    other.sites[7].displacement += 1;
    assert_ne!(first, emit(CHECK_LIBRARY, &other).unwrap());
}

#[test]
fn the_check_library_passes_the_verifier() {
    for tables in [tables(), Tables::default()] {
        let bytes = emit(CHECK_LIBRARY, &tables).unwrap();
        let mut open = ObjectBuilder::default().open_memory(&bytes).unwrap();
        // Attached by address: the loader does not look for a function name.
        for mut map in open.maps_mut() {
            if map.name() == "otf_site_counts" {
                map.set_max_entries(tables.sites.len().max(1) as u32)
                    .unwrap();
            }
        }
        let loaded = open.load().unwrap();
        let names: Vec<_> = loaded.progs().map(|p| p.name().to_owned()).collect();
        for program in [
            "otf_site",
            "otf_gate",
            "otf_alloc_call",
            "otf_alloc_return",
            "otf_setup",
        ] {
            assert!(names.iter().any(|name| name == program), "{names:?}");
        }
    }
}

#[test]
fn empty_tables_load() {
    let loaded = Loaded::new(&emit(&library(), &Tables::default()).unwrap());
    assert_eq!(loaded.run("row", [0; WORDS]).0, -1);
    let (code, words) = loaded.run("address", [0; WORDS]);
    assert_eq!((code, words[0]), (0, 0));
}
