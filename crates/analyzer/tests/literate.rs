//! Markdown with snippets of C and, under them, all that the analysis says about them.
//!
//! A case is one file: prose, a fence ```` ```c ```` per file (the first is confined, others are
//! named after the word `c`), an optional fence ```` ```request ```` with `whole`, `complete: TYPE`
//! or `because` (allocations alone, and what says which types they have), and a fence ```` ```expect ```` that lists every write, argument, allocation
//! and gate of the confined file by its line. `OTF_BLESS=1 cargo test -p otf-analyzer --test
//! literate` writes what is found; read the difference before committing it.

mod common;
#[expect(dead_code, reason = "the other runner reads requests from comments")]
mod words;

use std::{collections::BTreeMap, fmt::Write, fs, path::Path, process::Command};

use otf_analyzer::{FileMeta, Request, analyze, facts, facts::Facts};
use otf_artifact::analysis::Analysis;

/// The confined file's name.
const BOX: &str = "box.c";
/// The request that asks for the sources of types.
const BECAUSE: &str = "because";

#[test]
fn every_case_is_as_it_says() {
    let bless = std::env::var_os("OTF_BLESS").is_some();
    let mut wrong = String::new();
    let mut cases = 0;
    let mut names: Vec<_> = fs::read_dir(common::cases())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    names.sort();
    for path in names {
        cases += 1;
        let text = fs::read_to_string(&path).unwrap();
        let fences = fences(&text);
        let because = fences
            .get("request")
            .is_some_and(|r| r.lines().any(|l| l == BECAUSE));
        let found = describe(&run(&fences), fences[BOX].lines().count() as u32, because);
        let expected = fences.get("expect").copied().unwrap_or_default();
        if bless {
            let old = format!("```expect\n{expected}```");
            assert!(text.contains(&old), "{}: no ```expect", path.display());
            let new = format!("```expect\n{found}```");
            fs::write(&path, text.replace(&old, &new)).unwrap();
        } else if found != expected {
            let name = path.file_name().unwrap_or_default().display();
            writeln!(wrong, "{name}: expected\n{expected}found\n{found}").unwrap();
        }
    }
    assert!(cases > 0, "there are no cases");
    assert!(wrong.is_empty(), "{wrong}");
}

/// Contents of the fences by name: `box.c`, others `NAME.c`, `request`, `expect`.
fn fences(text: &str) -> BTreeMap<&str, &str> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("```") {
        let (head, after) = after.split_once('\n').expect("a fence has a line");
        let (body, after) = after.split_once("```").expect("a fence ends");
        let name = match head.split_once(' ') {
            Some(("c", name)) => name,
            None if head == "c" => BOX,
            _ => head,
        };
        assert!(found.insert(name, body).is_none(), "two fences {name}");
        rest = after;
    }
    found
}

fn run(fences: &BTreeMap<&str, &str>) -> Analysis {
    let folder = tempfile::tempdir().expect("files of the case");
    fs::copy(
        common::cases().join("kernel.h"),
        folder.path().join("kernel.h"),
    )
    .expect("files of the case");
    let sources = fences.iter().filter(|(name, _)| {
        Path::new(name)
            .extension()
            .is_some_and(|extension| extension == "c")
    });
    let files: Vec<(FileMeta, Facts)> = sources
        .map(|(name, code)| {
            fs::write(folder.path().join(name), code).expect("files of the case");
            let meta = FileMeta {
                source: (*name).into(),
                image: if *name == BOX { "box" } else { "vmlinux" }.into(),
                confined: *name == BOX,
            };
            (
                meta,
                facts(&compile(folder.path(), name), name).expect("sound bitcode"),
            )
        })
        .collect();
    let mut request = Request {
        kernel: "test".into(),
        compartment: "box".into(),
        ..Request::default()
    };
    for line in fences.get("request").copied().unwrap_or_default().lines() {
        match line.split_once(": ") {
            None if line == "whole" => request.whole = true,
            None if line == BECAUSE => {}
            Some(("complete", name)) => {
                request.complete.insert(name.into());
            }
            _ => panic!("unknown request {line}"),
        }
    }
    analyze(&files, &request).expect("a sound analysis")
}

fn compile(folder: &Path, name: &str) -> Vec<u8> {
    let output = Command::new("clang-19")
        .current_dir(folder)
        .args("--target=x86_64-linux-gnu -std=gnu11 -O2 -g -w -ffreestanding".split(' '))
        .args("-fno-strict-aliasing -Xclang -disable-llvm-passes -emit-llvm -c".split(' '))
        .args([name, "-o", "out.bc"])
        .output()
        .expect("clang-19 is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    fs::read(folder.join("out.bc")).expect("clang wrote bitcode")
}

fn describe(analysis: &Analysis, lines: u32, because: bool) -> String {
    let mut text = String::new();
    let tags: &[&str] = if because {
        &["alloc", "why"]
    } else {
        &["gate", "alloc", "write", "pass"]
    };
    for line in 1..=lines {
        for tag in tags.iter().copied() {
            let said = words::say(analysis, BOX, line, tag);
            if said != "nothing" {
                writeln!(text, "{line} {tag}: {said}").expect("text grows");
            }
        }
    }
    text
}
