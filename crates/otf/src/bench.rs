//! `otf bench`: how long the analysis of a kernel takes, and how much memory.
//!
//! Every phase runs as a process of its own (the hidden `otf bench-phase`), so that its peak of
//! memory is its own. The bare walk parses the same files and visits every instruction: what
//! LLVM's reader costs alone.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    kernel::KernelLock,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    cli::{Bench, BenchPhase, Phase},
    facts, files, pipeline,
    render::{self, Failure},
};

/// Numbers of files at which growth is measured, beside all.
const STEPS: &[usize] = &[100, 400, 800];

/// What a phase took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Cost {
    seconds: f64,
    peak_bytes: u64,
}

/// Cost with so many files.
#[derive(Debug, Serialize)]
struct Growth {
    files: usize,
    bitcode_bytes: u64,
    facts_seconds: f64,
    load_seconds: f64,
    program_seconds: f64,
}

/// `out/bench/analysis.json`.
#[derive(Debug, Serialize)]
struct Report {
    files: usize,
    bitcode_bytes: u64,
    bare_walk_seconds: f64,
    bare_walk_peak_bytes: u64,
    facts_seconds: f64,
    facts_peak_bytes: u64,
    facts_bytes: u64,
    load_seconds: f64,
    program_seconds: f64,
    program_peak_bytes: u64,
    incremental_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolve_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolve_peak_bytes: Option<u64>,
    growth: Vec<Growth>,
}

/// `otf bench`
pub fn bench(args: &Bench) -> Result<(), Failure> {
    let lock = files::read_lock(&args.dir.join("kernel.lock.yaml"))?;
    let kept = args
        .output
        .parent()
        .unwrap_or(Path::new("."))
        .join("facts.tmp");
    // The first reading of the files warms the machine's cache for all phases alike.
    let sizes = sizes(&lock)?;
    let run = |phase, files| phase_of(args, phase, files, &kept);
    let all = lock.bitcode.len();
    let walk = run(Phase::Walk, all)?;
    let mut growth = Vec::new();
    let mut last = None;
    for files in STEPS.iter().copied().filter(|n| *n < all).chain([all]) {
        clear(&kept)?;
        let facts = run(Phase::Facts, files)?;
        let load = run(Phase::Load, files)?;
        let program = run(Phase::Program, files)?;
        growth.push(Growth {
            files,
            bitcode_bytes: chosen(&sizes, files).into_iter().sum(),
            facts_seconds: facts.seconds,
            load_seconds: load.seconds,
            program_seconds: program.seconds,
        });
        last = Some((facts, load, program));
    }
    let (facts, load, program) = last.ok_or_else(|| failed("no file was measured"))?;
    let facts_bytes = files_in(&kept)?;
    let incremental = run(Phase::Incremental, all)?;
    clear(&kept)?;
    let resolve = match &args.resolve {
        Some(dir) => Some(child(dir, Phase::Resolve, 0, &kept)?),
        None => None,
    };
    let report = Report {
        files: all,
        bitcode_bytes: sizes.iter().sum(),
        bare_walk_seconds: walk.seconds,
        bare_walk_peak_bytes: walk.peak_bytes,
        facts_seconds: facts.seconds,
        facts_peak_bytes: facts.peak_bytes,
        facts_bytes,
        load_seconds: load.seconds,
        program_seconds: program.seconds,
        program_peak_bytes: program.peak_bytes,
        incremental_seconds: incremental.seconds,
        resolve_seconds: resolve.map(|r| r.seconds),
        resolve_peak_bytes: resolve.map(|r| r.peak_bytes),
        growth,
    };
    let text = serde_json::to_string_pretty(&report).map_err(|e| failed(&e.to_string()))?;
    files::write(&args.output, format!("{text}\n").as_bytes())?;
    table(&report)
}

fn table(r: &Report) -> Result<(), Failure> {
    let mb = |bytes: u64| bytes / 1_000_000;
    let row = |name: &str, seconds: f64, peak: Option<u64>| {
        let peak = peak.map_or_else(String::new, |p| format!("{} MB", mb(p)));
        render::line(&format!("{name:<28} {seconds:>8.2} s {peak:>9}"))
    };
    render::line(&format!(
        "{} files, {} MB bitcode, {} MB facts",
        r.files,
        mb(r.bitcode_bytes),
        mb(r.facts_bytes)
    ))?;
    row(
        "bare walk",
        r.bare_walk_seconds,
        Some(r.bare_walk_peak_bytes),
    )?;
    row("facts, cold", r.facts_seconds, Some(r.facts_peak_bytes))?;
    row("reading facts", r.load_seconds, None)?;
    row(
        "whole program",
        r.program_seconds,
        Some(r.program_peak_bytes),
    )?;
    row("one file changed, all in all", r.incremental_seconds, None)?;
    if let Some(seconds) = r.resolve_seconds {
        row("resolve", seconds, r.resolve_peak_bytes)?;
    }
    for g in &r.growth {
        let (files, size) = (g.files, mb(g.bitcode_bytes));
        render::line(&format!(
            "{files:>5} files {size:>4} MB: facts {:.2} s, reading {:.2} s, program {:.2} s",
            g.facts_seconds, g.load_seconds, g.program_seconds
        ))?;
    }
    Ok(())
}

/// `otf bench-phase`: one phase; prints its cost as JSON.
pub fn phase(args: &BenchPhase) -> Result<(), Failure> {
    let mut lock = files::read_lock(&args.dir.join("kernel.lock.yaml"))?;
    let start;
    match args.phase {
        Phase::Resolve => {
            start = Instant::now();
            pipeline::resolve_only(&args.dir, &lock)?;
        }
        Phase::Walk => {
            start = Instant::now();
            let walked = lock.bitcode.par_iter().map(|unit| {
                let path = files::cache()?.join(&unit.file.path);
                Ok(otf_analyzer::walk(&files::read(&path)?, &unit.source)?)
            });
            walked.collect::<Result<Vec<u64>, Failure>>()?;
        }
        Phase::Facts | Phase::Load => {
            lock.bitcode = chosen(&lock.bitcode, args.files);
            start = Instant::now();
            facts::of_lock(&lock, &args.facts)?;
        }
        Phase::Program => {
            lock.bitcode = chosen(&lock.bitcode, args.files);
            // Some file has to be confined.
            if !lock.bitcode.iter().any(|unit| unit.confined)
                && let Some(first) = lock.bitcode.first_mut()
            {
                first.confined = true;
            }
            let read = facts::of_lock(&lock, &args.facts)?;
            start = Instant::now();
            pipeline::program(&args.root, &lock, &read)?;
        }
        Phase::Incremental => {
            if let Some(unit) = lock.bitcode.iter().find(|unit| unit.confined) {
                let path = facts::place(&args.facts, &unit.file);
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != ErrorKind::NotFound => {
                        return Err(failed(&e.to_string()));
                    }
                    _ => {}
                }
            }
            start = Instant::now();
            let read = facts::of_lock(&lock, &args.facts)?;
            pipeline::program(&args.root, &lock, &read)?;
        }
    }
    let cost = Cost {
        seconds: start.elapsed().as_secs_f64(),
        peak_bytes: peak()?,
    };
    let text = serde_json::to_string(&cost).map_err(|e| failed(&e.to_string()))?;
    render::line(&text)
}

fn phase_of(args: &Bench, phase: Phase, files: usize, kept: &Path) -> Result<Cost, Failure> {
    child(&args.dir, phase, files, kept)
}

/// Runs a phase in a process of its own.
fn child(dir: &Path, phase: Phase, files: usize, kept: &Path) -> Result<Cost, Failure> {
    let own = std::env::current_exe().map_err(|e| failed(&e.to_string()))?;
    let output = Command::new(own)
        .args(["--quiet", "bench-phase", phase.name()])
        .arg(dir)
        .args(["--files", &files.to_string(), "--facts"])
        .arg(kept)
        .output()
        .map_err(|e| failed(&e.to_string()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(failed(&format!(
            "{} ended with {}: {words}",
            phase.name(),
            output.status
        )));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| failed(&e.to_string()))
}

/// Peak of this process' memory in bytes.
fn peak() -> Result<u64, Failure> {
    let path = Path::new("/proc/self/status");
    let text = String::from_utf8_lossy(&files::read(path)?).into_owned();
    text.lines()
        .find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        })
        .map(|kib| kib * 1024)
        .ok_or_else(|| failed("/proc/self/status has no VmHWM"))
}

/// So many of the rows, evenly spread.
fn chosen<T: Clone>(rows: &[T], count: usize) -> Vec<T> {
    let count = count.min(rows.len());
    (0..count)
        .map(|i| rows[i * rows.len() / count].clone())
        .collect()
}

fn sizes(lock: &KernelLock) -> Result<Vec<u64>, Failure> {
    let cache = files::cache()?;
    lock.bitcode
        .iter()
        .map(|unit| Ok(files::read(&cache.join(&unit.file.path))?.len() as u64))
        .collect()
}

fn files_in(folder: &Path) -> Result<u64, Failure> {
    let mut total = 0;
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| failed(&e.to_string()))? {
            let entry = entry.map_err(|e| failed(&e.to_string()))?;
            let meta = entry.metadata().map_err(|e| failed(&e.to_string()))?;
            if meta.is_dir() {
                folders.push(entry.path());
            } else {
                total += meta.len();
            }
        }
    }
    Ok(total)
}

fn clear(folder: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(failed(&e.to_string())),
        _ => Ok(()),
    }
}

fn failed(message: &str) -> Failure {
    Diagnostic::error(Code::Environment, format!("cannot measure: {message}")).into()
}
