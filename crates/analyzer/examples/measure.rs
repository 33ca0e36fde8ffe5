//! Analyses a tree of bitcode as one compartment and says how long each step takes and how
//! precise the result is: `measure OUT CACHE PREFIX…` confines the sources that begin with a
//! prefix; facts are kept in the file CACHE.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Instant,
};

use otf_analyzer::{FileMeta, Request, analyze, facts, facts::Facts};
use otf_artifact::analysis::{Analysis, Target};
use rayon::prelude::*;

/// Built for other programs than the kernel.
const FOREIGN: &[&str] = &[
    "tools/",
    "scripts/",
    "arch/x86/boot/",
    "arch/x86/realmode/",
    "arch/x86/entry/vdso/",
];

fn main() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_timer(tracing_subscriber::fmt::time::uptime())
        .init();
    let mut arguments = std::env::args().skip(1);
    let out = PathBuf::from(arguments.next().expect("a folder with bitcode"));
    let cache = PathBuf::from(arguments.next().expect("a file for facts"));
    let confined: Vec<String> = arguments.collect();
    let start = Instant::now();
    let kept = std::fs::read(&cache).ok();
    let read: Vec<Facts> = kept
        .and_then(|bytes| postcard::from_bytes(&bytes).ok())
        .unwrap_or_else(|| {
            let read = extract(&out);
            let bytes = postcard::to_stdvec(&read).expect("facts can be written");
            std::fs::write(&cache, bytes).expect("the cache can be written");
            read
        });
    let files: Vec<(FileMeta, Facts)> = read
        .into_iter()
        .map(|facts| {
            let meta = FileMeta {
                confined: confined.iter().any(|p| facts.source.starts_with(p)),
                source: facts.source.clone(),
                image: "vmlinux".into(),
            };
            (meta, facts)
        })
        .collect();
    println!(
        "facts: {} files in {:?}, {} MB",
        files.len(),
        start.elapsed(),
        resident()
    );
    let request = Request {
        kernel: "measure".into(),
        compartment: confined.join(" "),
        whole: true,
        ..Request::default()
    };
    let start = Instant::now();
    match analyze(&files, &request) {
        Ok(analysis) => {
            println!("analyze: {:?}, {} MB", start.elapsed(), resident());
            report(&analysis);
        }
        Err(broken) => {
            println!("analyze: {:?}, {} broken", start.elapsed(), broken.len());
            for diagnostic in broken.iter().take(20) {
                println!("  {}", diagnostic.message);
            }
        }
    }
}

fn extract(out: &Path) -> Vec<Facts> {
    let mut found = Vec::new();
    walk(out, out, &mut found);
    found.sort();
    found
        .par_iter()
        .filter_map(|relative| {
            let bitcode = std::fs::read(out.join(relative)).ok()?;
            let source = format!("{}.c", relative.strip_suffix(".bc")?);
            facts(&bitcode, &source).ok()
        })
        .collect()
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(relative) = path.strip_prefix(root) else {
            continue;
        };
        let name = relative.to_string_lossy().into_owned();
        if FOREIGN.iter().any(|f| format!("{name}/").starts_with(f)) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, found);
        } else if name.ends_with(".bc") && !name.ends_with(".mod.bc") {
            found.push(name);
        }
    }
}

fn report(analysis: &Analysis) {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut writes, mut wide) = (0usize, 0usize);
    let (mut types, mut places, mut sites) = (Vec::new(), Vec::new(), Vec::new());
    for write in analysis.functions.iter().flat_map(|f| &f.writes) {
        writes += 1;
        let (Target::Set(id) | Target::Parameter { otherwise: id, .. }) = write.target;
        let set = &analysis.legal_sets[id.index()];
        if let Some(reason) = &set.any_heap {
            wide += 1;
            *reasons.entry(reason).or_default() += 1;
        }
        types.push(set.types.len());
        places.push(set.heap.len());
        let all: BTreeSet<_> = set.heap.iter().flat_map(|p| &p.allocation_sites).collect();
        sites.push(all.len());
    }
    println!(
        "writes {writes}, any heap {wide} ({:.1} %)",
        percent(wide, writes)
    );
    for (what, values) in [("types", types), ("places", places), ("sites", sites)] {
        println!("{what} per write: {}", quantiles(values));
    }
    let own: Vec<_> = analysis
        .allocation_sites
        .iter()
        .filter(|s| s.confined)
        .collect();
    let typed = own.iter().filter(|s| !s.types.is_empty()).count();
    println!(
        "allocation sites {} (confined {}, with a structure {typed} = {:.1} %), legal sets {}, gates {}",
        analysis.allocation_sites.len(),
        own.len(),
        percent(typed, own.len()),
        analysis.legal_sets.len(),
        analysis.gates.len(),
    );
    for site in own.iter().filter(|s| s.types.is_empty()) {
        println!(
            "  untyped {}:{} {} by {} size {:?}",
            site.file, site.line, site.function, site.callee, site.size
        );
    }
    let mut top: Vec<_> = reasons.into_iter().map(|(reason, n)| (n, reason)).collect();
    top.sort_by(|a, b| b.cmp(a));
    for (count, reason) in top.iter().take(40) {
        println!("  wide {count}: {reason}");
    }
}

fn quantiles(mut values: Vec<usize>) -> String {
    values.sort_unstable();
    let at = |share: usize| values.get(values.len() * share / 100).copied().unwrap_or(0);
    format!(
        "median {}, p90 {}, p99 {}, max {}",
        at(50),
        at(90),
        at(99),
        values.last().unwrap_or(&0)
    )
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Peak resident memory in MB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:"));
    let words = line.and_then(|l| l.split_whitespace().nth(1));
    words.and_then(|w| w.parse::<u64>().ok()).unwrap_or(0) / 1024
}
