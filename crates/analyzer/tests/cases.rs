//! Snippets with their expectation on the line that it is about: `//~ TAG: words`.
//!
//! `OTF_BLESS=1 cargo test -p otf-analyzer --test cases` writes what is found into the snippets;
//! read the difference before committing it.

mod common;
mod words;

use std::fs;

use common::cases;
use words::{analysis, say};

fn run(name: &str) {
    let path = cases().join(name);
    let text = fs::read_to_string(&path).expect("a snippet");
    let analysis = analysis(name);
    let bless = std::env::var_os("OTF_BLESS").is_some();
    let mut lines = Vec::new();
    let mut wrong = Vec::new();
    let mut expectations = 0;
    for (index, line) in text.lines().enumerate() {
        let Some((code, expectation)) = line.split_once("//~ ") else {
            lines.push(line.to_owned());
            continue;
        };
        expectations += 1;
        let tag = expectation.split(':').next().unwrap_or(expectation);
        let found = format!("{tag}: {}", say(&analysis, name, index as u32 + 1, tag));
        if found != expectation {
            wrong.push(format!(
                "{name}:{}: expected {expectation}\n    found {found}",
                index + 1
            ));
        }
        lines.push(format!("{code}//~ {found}"));
    }
    assert!(expectations > 0, "{name} expects nothing");
    if bless {
        fs::write(&path, lines.join("\n") + "\n").expect("the snippet can be written");
    } else {
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

macro_rules! snippets {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            run(concat!(stringify!($name), ".c"));
        })*

        #[test]
        fn every_snippet_is_run() {
            let named = [$(concat!(stringify!($name), ".c")),*];
            for entry in fs::read_dir(cases()).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if name.ends_with(".c") && !name.ends_with(".scope.c") {
                    assert!(named.contains(&name.as_str()), "{name} has no test");
                }
            }
        }
    };
}

snippets! {
    allocations,
    asm_ops,
    buffers,
    bulk,
    closed_header,
    complete,
    containers,
    gates,
    globals,
    lists,
    open_header,
    private_area,
    stack,
    targets,
    targets_flows,
    targets_partial,
    unions,
}
