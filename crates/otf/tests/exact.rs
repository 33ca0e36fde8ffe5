//! C snippets through a shadow of their object: what each machine write is bound to.
//!
//! A line that says `//~ OUTCOME TYPE…` has machine writes, and of all of them the exact map says this
//! and the legal set names these types; `//~0` speaks of what has no line. Lines without have none (but
//! for those of the own frame).
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use otf_analyzer::{FileMeta, Request, analyze, facts, shadow};
use otf_artifact::{
    analysis::Analysis,
    diagnostic::Code,
    exact::{Exact, ExactMap},
    kernel::CodegenCommand,
    sites::{Coverage, Precision, Site, Sites},
};
use otf_binresolve::{ImageInput, extent::Confinement, resolve};
use otf_kernel::codegen;

const ARGUMENTS: &str = "--target=x86_64-linux-gnu -O2 -fno-pie -mcmodel=kernel -mno-red-zone -mno-sse \
    -fno-stack-protector -fno-asynchronous-unwind-tables -fno-strict-aliasing -pg -mfentry -w";

const SNIPPET: &str = include_str!("exact.c");

/// A snippet as a build leaves it.
struct Built {
    folder: tempfile::TempDir,
    bitcode: Vec<u8>,
    object: Vec<u8>,
    command: CodegenCommand,
}

fn clang(folder: &Path, arguments: &[&str]) {
    let output = Command::new("clang-19")
        .current_dir(folder)
        .args(ARGUMENTS.split_whitespace())
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Built {
    fn new(source: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("t.c"), source).unwrap();
        let raw = [
            "-g",
            "-emit-llvm",
            "-Xclang",
            "-disable-llvm-passes",
            "-c",
            "t.c",
            "-o",
            "t.bc",
        ];
        clang(folder.path(), &raw);
        clang(folder.path(), &["-c", "-x", "ir", "t.bc", "-o", "t.o"]);
        let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
        Self {
            bitcode: read("t.bc"),
            object: read("t.o"),
            command: CodegenCommand {
                source: "t.c".into(),
                bitcode: "t.bc".into(),
                object: "t.o".into(),
                compiler: "clang-19".into(),
                arguments: ARGUMENTS.split_whitespace().map(str::to_owned).collect(),
            },
            folder,
        }
    }

    fn analysis(&self) -> Analysis {
        let meta = FileMeta {
            source: "t.c".into(),
            image: "test".into(),
            confined: true,
        };
        let request = Request {
            kernel: "k".into(),
            compartment: "c".into(),
            ..Request::default()
        };
        analyze(&[(meta, facts(&self.bitcode, "t.c").unwrap())], &request).unwrap()
    }

    fn map(&self) -> ExactMap {
        let shadow = shadow::mark(&self.bitcode, "t.c").unwrap();
        assert_eq!(shadow.unmarkable, None);
        let made = codegen::again(&self.command, &shadow.bitcode, self.folder.path()).unwrap();
        let changed = shadow::changed(&made.optimised, &shadow.marks, "t.c").unwrap();
        otf_binresolve::exact::read("t.c", &made.object, &shadow.marks, &changed).unwrap()
    }

    fn sites(&self, maps: &[ExactMap]) -> Sites {
        let input = ImageInput {
            name: "test",
            file: "test.ko",
            bytes: &self.object,
            confined: Confinement::Whole,
            exact: maps,
        };
        resolve(&self.analysis(), &[input]).unwrap_or_else(|problems| panic!("{problems:#?}"))
    }
}

fn outside_the_frame(sites: &Sites) -> impl Iterator<Item = &Site> {
    let own = Coverage::Proven("own frame".into());
    sites.sites.iter().filter(move |site| site.coverage != own)
}

/// What the map says of a site, and the structures that it may write.
fn found(sites: &Sites, site: &Site) -> String {
    let set = &sites.legal_sets[site.legal.index()];
    let types = set
        .types
        .iter()
        .map(|ty| &sites.analysis.types[ty.index()].name);
    let outcome = format!("{:?}", site.exact.unwrap()).to_lowercase();
    types.fold(outcome, |text, name| {
        format!("{text} {}", name.trim_start_matches("struct "))
    })
}

#[test]
fn every_write_is_bound_to_what_it_was_made_of() {
    let built = Built::new(SNIPPET);
    let sites = built.sites(&[built.map()]);
    let mut by_line: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for site in outside_the_frame(&sites) {
        let line = by_line.entry(site.chain[0].line).or_default();
        line.insert(found(&sites, site));
    }
    let lines = SNIPPET.lines().zip(1_u32..);
    let expected: BTreeMap<u32, BTreeSet<String>> = lines
        .filter_map(|(line, number)| {
            let (at, all) = line.split_once("//~")?.1.split_once(' ')?;
            let number = at.parse().unwrap_or(number);
            Some((number, all.split(", ").map(str::to_owned).collect()))
        })
        .collect();
    assert_eq!(by_line, expected);
}

#[test]
fn merged_writes_are_never_taken_for_one_of_them() {
    let built = Built::new(SNIPPET);
    let sites = built.sites(&[built.map()]);
    let merged = |site: &&Site| {
        matches!(
            site.exact,
            Some(Exact::Merged | Exact::Unlike | Exact::Nothing)
        )
    };
    let mut seen = BTreeSet::new();
    for site in outside_the_frame(&sites).filter(merged) {
        let symbol = site.location.symbol.as_str();
        // All parts of this one stand in its line.
        let expected = match symbol {
            "line" | "twice" => Precision::Line,
            _ => Precision::Function,
        };
        assert_eq!(site.precision, expected, "{symbol}");
        seen.insert(symbol);
    }
    let all = [
        "cleared",
        "conditional",
        "joined",
        "line",
        "pair",
        "thrice",
        "twice",
    ];
    assert_eq!(seen, BTreeSet::from(all));
}

#[test]
fn code_that_is_not_the_maps_falls_to_the_ladder_and_says_so() {
    let built = Built::new(SNIPPET);
    let plain = built.sites(&[]);
    // The same source but for one number in one function.
    let other = Built::new(&SNIPPET.replace("42", "43")).map();
    let sites = built.sites(&[other]);
    let said: Vec<&str> = sites
        .diagnostics
        .iter()
        .filter(|d| d.code == Code::NoExactMap)
        .map(|d| d.message.as_str())
        .collect();
    assert_eq!(said, ["the code of single is not that of its exact map"]);
    let mut fell = 0;
    for (site, without) in sites.sites.iter().zip(&plain.sites) {
        assert_eq!(without.exact, None);
        if site.exact == Some(Exact::OtherCode) {
            fell += 1;
            assert_eq!(site.location.symbol, "single");
            assert_eq!(site.precision, without.precision);
            let set = |all: &Sites, site: &Site| all.legal_sets[site.legal.index()].clone();
            assert_eq!(set(&sites, site), set(&plain, without));
        }
    }
    assert!(fell > 0);
}

#[test]
fn maps_are_the_same_every_time() {
    let [a, b] = [(), ()].map(|()| Built::new(SNIPPET).map());
    assert_eq!(a, b);
    assert!(a.functions.len() > 5 && a.writes.len() > 5);
}
