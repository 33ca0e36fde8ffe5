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
    /// Of all threads, in user and kernel mode: what other work on the machine adds least to.
    cpu_seconds: f64,
    peak_bytes: u64,
}

/// Cost with so many files.
#[derive(Debug, Serialize)]
struct Growth {
    files: usize,
    bitcode_bytes: u64,
    bare_walk_seconds: f64,
    bare_walk_cpu_seconds: f64,
    facts_seconds: f64,
    facts_cpu_seconds: f64,
    load_seconds: f64,
    program_seconds: f64,
    program_cpu_seconds: f64,
}

/// `out/bench/analysis.json`.
#[derive(Debug, Serialize)]
struct Report {
    files: usize,
    bitcode_bytes: u64,
    bare_walk_seconds: f64,
    bare_walk_cpu_seconds: f64,
    bare_walk_peak_bytes: u64,
    facts_seconds: f64,
    facts_cpu_seconds: f64,
    facts_peak_bytes: u64,
    facts_bytes: u64,
    load_seconds: f64,
    load_cpu_seconds: f64,
    program_seconds: f64,
    program_cpu_seconds: f64,
    program_peak_bytes: u64,
    incremental_seconds: f64,
    incremental_cpu_seconds: f64,
    incremental_peak_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolve_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolve_cpu_seconds: Option<f64>,
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
    let mut growth = Vec::new();
    let mut last = None;
    for files in STEPS.iter().copied().filter(|n| *n < all).chain([all]) {
        clear(&kept)?;
        let walk = run(Phase::Walk, files)?;
        let facts = run(Phase::Facts, files)?;
        let load = run(Phase::Load, files)?;
        let program = run(Phase::Program, files)?;
        growth.push(Growth {
            files,
            bitcode_bytes: chosen(&sizes, files).into_iter().sum(),
            bare_walk_seconds: walk.seconds,
            bare_walk_cpu_seconds: walk.cpu_seconds,
            facts_seconds: facts.seconds,
            facts_cpu_seconds: facts.cpu_seconds,
            load_seconds: load.seconds,
            program_seconds: program.seconds,
            program_cpu_seconds: program.cpu_seconds,
        });
        last = Some((walk, facts, load, program));
    }
    let (walk, facts, load, program) = last.ok_or_else(|| failed("no file was measured"))?;
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
        bare_walk_cpu_seconds: walk.cpu_seconds,
        bare_walk_peak_bytes: walk.peak_bytes,
        facts_seconds: facts.seconds,
        facts_cpu_seconds: facts.cpu_seconds,
        facts_peak_bytes: facts.peak_bytes,
        facts_bytes,
        load_seconds: load.seconds,
        load_cpu_seconds: load.cpu_seconds,
        program_seconds: program.seconds,
        program_cpu_seconds: program.cpu_seconds,
        program_peak_bytes: program.peak_bytes,
        incremental_seconds: incremental.seconds,
        incremental_cpu_seconds: incremental.cpu_seconds,
        incremental_peak_bytes: incremental.peak_bytes,
        resolve_seconds: resolve.map(|r| r.seconds),
        resolve_cpu_seconds: resolve.map(|r| r.cpu_seconds),
        resolve_peak_bytes: resolve.map(|r| r.peak_bytes),
        growth,
    };
    let text = serde_json::to_string_pretty(&report).map_err(|e| failed(&e.to_string()))?;
    files::write(&args.output, format!("{text}\n").as_bytes())?;
    table(&report)
}

fn table(r: &Report) -> Result<(), Failure> {
    let mb = |bytes: u64| bytes / 1_000_000;
    let row = |name: &str, seconds: f64, cpu: f64, peak: Option<u64>| {
        let peak = peak.map_or_else(String::new, |p| format!("{} MB", mb(p)));
        render::line(&format!(
            "{name:<28} {seconds:>8.2} s {cpu:>8.2} CPU s {peak:>9}"
        ))
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
        r.bare_walk_cpu_seconds,
        Some(r.bare_walk_peak_bytes),
    )?;
    row(
        "facts, cold",
        r.facts_seconds,
        r.facts_cpu_seconds,
        Some(r.facts_peak_bytes),
    )?;
    row("reading facts", r.load_seconds, r.load_cpu_seconds, None)?;
    row(
        "whole program",
        r.program_seconds,
        r.program_cpu_seconds,
        Some(r.program_peak_bytes),
    )?;
    row(
        "one file changed, all in all",
        r.incremental_seconds,
        r.incremental_cpu_seconds,
        Some(r.incremental_peak_bytes),
    )?;
    if let (Some(seconds), Some(cpu)) = (r.resolve_seconds, r.resolve_cpu_seconds) {
        row("resolve", seconds, cpu, r.resolve_peak_bytes)?;
    }
    for g in &r.growth {
        let (files, size) = (g.files, mb(g.bitcode_bytes));
        render::line(&format!(
            "{files:>5} files {size:>4} MB: walk {:.2} s, facts {:.2} s, reading {:.2} s, program {:.2} s",
            g.bare_walk_seconds, g.facts_seconds, g.load_seconds, g.program_seconds
        ))?;
    }
    Ok(())
}

/// `otf bench-phase targets`: calls through pointers of all files, not of the compartment alone.
fn targets(args: &BenchPhase, lock: &KernelLock) -> Result<(), Failure> {
    let mut read = facts::of_lock(lock, &args.facts)?;
    for (meta, _) in &mut read {
        meta.confined = true;
    }
    let found = otf_analyzer::count_targets(&read, &pipeline::request(&args.root, lock)?);
    let mean = |calls: usize, targets: usize| targets as f64 / calls.max(1) as f64;
    let typed_calls = found.calls - found.untyped_calls;
    let typed_targets = found.targets - found.untyped_targets;
    render::line(&format!(
        "{} calls, {} targets, {:.1} each; through typed memory {typed_calls} calls, {typed_targets} targets, {:.1} each; \
         {} calls may lead elsewhere too",
        found.calls,
        found.targets,
        mean(found.calls, found.targets),
        mean(typed_calls, typed_targets),
        found.unbounded_calls,
    ))
}

/// `otf bench-phase`: one phase; prints its cost as JSON.
pub fn phase(args: &BenchPhase) -> Result<(), Failure> {
    let mut lock = files::read_lock(&args.dir.join("kernel.lock.yaml"))?;
    let start;
    let cpu_before;
    match args.phase {
        Phase::Resolve => {
            (start, cpu_before) = (Instant::now(), cpu_seconds()?);
            pipeline::resolve_only(&args.dir, &lock)?;
        }
        Phase::Walk => {
            lock.bitcode = chosen(&lock.bitcode, args.files);
            (start, cpu_before) = (Instant::now(), cpu_seconds()?);
            let walked = lock.bitcode.par_iter().map(|unit| {
                let path = files::cache()?.join(&unit.file.path);
                Ok(otf_analyzer::walk(&files::read(&path)?, &unit.source)?)
            });
            walked.collect::<Result<Vec<u64>, Failure>>()?;
        }
        Phase::Facts | Phase::Load => {
            lock.bitcode = chosen(&lock.bitcode, args.files);
            (start, cpu_before) = (Instant::now(), cpu_seconds()?);
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
            (start, cpu_before) = (Instant::now(), cpu_seconds()?);
            pipeline::program(&args.root, &lock, &read)?;
        }
        Phase::Targets => return targets(args, &lock),
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
            (start, cpu_before) = (Instant::now(), cpu_seconds()?);
            pipeline::whole_program(&args.root, &lock, &args.facts)?;
        }
    }
    let cost = Cost {
        seconds: start.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds()? - cpu_before,
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

/// CPU seconds of this process until now.
fn cpu_seconds() -> Result<f64, Failure> {
    /// Ticks of `/proc` in a second: the same on every x86 kernel.
    const USER_HZ: f64 = 100.0;
    let text = String::from_utf8_lossy(&files::read(Path::new("/proc/self/stat"))?).into_owned();
    // The name in parentheses may hold anything; utime and stime are the fields 14 and 15.
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks = |field: usize| fields.split(' ').nth(field - 3)?.parse::<f64>().ok();
    let sum = ticks(14).zip(ticks(15)).map(|(user, system)| user + system);
    sum.map(|ticks| ticks / USER_HZ)
        .ok_or_else(|| failed("/proc/self/stat has no times"))
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
