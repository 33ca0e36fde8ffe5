//! `docs/evaluation/runtime.md`: tables, what was aimed at, plots.

use std::{fmt::Write as _, fs, path::Path};

use otf_artifact::{diagnostic::Diagnostic, profile::Prices};

use super::{
    failed,
    kept::Step,
    plot,
    rows::{self, Row},
};

/// What stands before the figures.
const INTRODUCTION: &str = include_str!("introduction.md");
/// Operations that no compartment has to do with.
pub const IDLE: [&str; 5] = ["null_syscall", "pipe", "fork_exec", "file", "sockets"];

/// Whether an operation runs code of the compartment: not by its kind alone, as most bundles lie beside most operations.
pub fn is_use(row: &Row) -> bool {
    let code = |program: &&String| !program.starts_with("otf_free");
    let hits: f64 = row
        .hits_by_program
        .keys()
        .filter(code)
        .map(|p| row.hits_by_program[p])
        .sum();
    !IDLE.contains(&row.operation.as_str()) && hits >= 0.5
}

/// Writes Markdown and plots.
pub fn write(
    docs: &Path,
    to: &Path,
    rows: &[Row],
    prices: Option<&Prices>,
) -> Result<(), Diagnostic> {
    let mut text = INTRODUCTION.to_owned();
    let (used, idle): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| is_use(row));
    section(
        &mut text,
        "Operations that run the compartment's code",
        &used,
    );
    plot::added(
        docs,
        "runtime-use.svg",
        "Instructions added to one operation",
        &used,
    )?;
    text.push_str("\n![Instructions added, in use](runtime-use.svg)\n");
    section(&mut text, "Loaded, but beside the operation", &idle);
    plot::added(
        docs,
        "runtime-idle.svg",
        "Instructions added while a bundle is only loaded",
        &idle,
    )?;
    text.push_str("\n![Instructions added, idle](runtime-idle.svg)\n");
    aims(&mut text, rows);
    price_list(&mut text, prices);
    loading(&mut text, to, rows)?;
    missing(&mut text, rows);
    let file = docs.join("runtime.md");
    fs::write(&file, text).map_err(|e| failed("write", &file, &e))
}

// Writing to a string cannot fail, here and below.
fn section(text: &mut String, title: &str, rows: &[&Row]) {
    let _ = writeln!(
        text,
        "\n## {title}\n\n| compartment | operation | without | policy | naive | policy adds | naive adds | policy : naive | hits | hits, naive \
         | added per hit | spread |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    for row in rows.iter().filter(|row| row.instructions_with.is_some()) {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.compartment,
            row.operation,
            whole(row.instructions_without),
            whole(row.instructions_with),
            whole(row.instructions_naive),
            percent(row.added()),
            percent(row.added_naive()),
            row.of_naive()
                .map_or("–".into(), |part| format!("{part:.2}")),
            short(row.hits_per_operation),
            short(row.hits_naive),
            whole(row.per_hit()),
            percent(Some(row.spread)),
        );
    }
}

fn aims(text: &mut String, rows: &[Row]) {
    let find = |compartment: &str| {
        rows.iter()
            .find(|r| r.compartment == compartment && r.operation == "tcp_100k")
            .and_then(Row::added)
    };
    let parts: Vec<f64> = rows
        .iter()
        .filter(|r| is_use(r))
        .filter_map(Row::of_naive)
        .collect();
    let fifth = parts.iter().filter(|part| **part <= 0.2).count();
    let worst = rows
        .iter()
        .filter(|row| IDLE.contains(&row.operation.as_str()))
        .filter_map(|row| Some((row.added()?, row)))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let worst = worst.map_or("–".to_owned(), |(added, row)| {
        format!(
            "{} ({}, {})",
            percent(Some(added)),
            row.compartment,
            row.operation
        )
    });
    let mut per_hit: Vec<f64> = rows
        .iter()
        .filter(|r| is_use(r))
        .filter_map(Row::per_hit)
        .collect();
    per_hit.sort_by(f64::total_cmp);
    let _ = writeln!(
        text,
        "\n## Aims\n\n| aim | measured |\n|---|---|\n\
         | at most a fifth of what the naive scheme adds, everywhere | in {fifth} of {} operations |\n\
         | ip6_output adds at most 5 % to the 100 KB request | {} |\n\
         | the whole of ipv6 adds at most 25 % to it | {} |\n\
         | idle at most 0.5 % | at worst {worst} |\n\
         | median check at most 400 instructions, all in | {} (median of *added per hit*) |",
        parts.len(),
        percent(find("ip6_output")),
        percent(find("ipv6")),
        whole(per_hit.get(per_hit.len() / 2).copied()),
    );
}

fn price_list(text: &mut String, prices: Option<&Prices>) {
    let Some(prices) = prices else {
        return;
    };
    let _ = writeln!(
        text,
        "\n## What a hit costs\n\nLeast squares over {} rows, instructions with probe and all; `out/bench/prices.json`, which `otf cost` reads.\n\n\
         | a check of a write, free or call | a note at a gate, entry or allocation | a look at an object that is freed |\n|---|---|---|\n\
         | {:.0} | {:.0} | {:.0} |",
        prices.from.len(),
        prices.check,
        prices.note,
        prices.free,
    );
}

/// Steps of loading, as the machine names them.
const STEPS: [&str; 3] = ["check", "load", "unload"];

fn loading(text: &mut String, to: &Path, rows: &[Row]) -> Result<(), Diagnostic> {
    let folder = to.join("runtime");
    let _ = writeln!(
        text,
        "\n## Loading, and what is loaded but not hit\n\n\
         Seconds of the guest, waiting included / instructions in millions / longest time in milliseconds that a task of the highest priority had to wait. \
         *check* is `otf-load load --dry-run`: verifying and binding; *load* does the same first. Memory is that of BPF maps and programs of all bundles of the \
         machine together; the kernel's own for each probe is not in it. What the policy adds to `null_syscall` and `pipe`, which hit nothing, should not grow \
         with the number of probes.\n\n\
         | machine | bundle | probes | check | load | unload | maps | programs | null_syscall | pipe |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    for set in rows::sets(&folder)? {
        for scheme in ["policy", "naive"] {
            let kept = rows::all(&folder.join(format!("{set}.{scheme}.json")))?;
            let kilobytes = |name: &str| {
                let bytes = kept.memory.get(name);
                bytes.map_or("–".into(), |bytes| format!("{} KB", bytes / 1024))
            };
            let idle = |operation: &str| {
                let row = rows
                    .iter()
                    .find(|r| r.compartment == set && r.operation == operation);
                let added = if scheme == "policy" {
                    Row::added
                } else {
                    Row::added_naive
                };
                row.and_then(added)
                    .map_or("–".into(), |added| format!("{:+.2} %", added * 100.0))
            };
            for (compartment, loaded) in &kept.loaded {
                let [check, load, unload] = STEPS.map(|name| step(loaded.steps.get(name)));
                let _ = writeln!(
                    text,
                    "| {set}, {scheme} | {compartment} | {} | {check} | {load} | {unload} | {} | {} | {} | {} |",
                    loaded.probes,
                    kilobytes("map_bytes"),
                    kilobytes("program_bytes"),
                    idle("null_syscall"),
                    idle("pipe"),
                );
            }
        }
    }
    Ok(())
}

fn step(step: Option<&Step>) -> String {
    let Some(step) = step else {
        return "–".into();
    };
    let (elapsed, busy, stall) = (step.elapsed as f64, step.busy as f64, step.stall as f64);
    format!(
        "{:.2} / {:.0} / {:.1}",
        elapsed / 1e9,
        busy / 1e6,
        stall / 1e6
    )
}

fn missing(text: &mut String, rows: &[Row]) {
    let mut lines = Vec::new();
    for row in rows {
        for reason in &row.missing {
            lines.push(format!(
                "- {}, {}: {reason}",
                row.compartment, row.operation
            ));
        }
    }
    let mut violations: Vec<(&str, u64)> = rows
        .iter()
        .filter(|row| row.violations > 0)
        .map(|row| (row.compartment.as_str(), row.violations))
        .collect();
    violations.dedup();
    for (compartment, count) in violations {
        lines.push(format!("- {compartment}: {count} violations were reported, so its figures are not those of ordinary use"));
    }
    if !lines.is_empty() {
        let _ = writeln!(text, "\n## What is missing\n\n{}", lines.join("\n"));
    }
}

fn whole(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{value:.0}"))
}

fn short(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{value:.1}"))
}

fn percent(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{:.1} %", value * 100.0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn row(operation: &str, program: &str, with: Option<f64>) -> Row {
        Row {
            compartment: "ip6_output".into(),
            operation: operation.into(),
            instructions_without: Some(1000.0),
            instructions_with: with,
            instructions_naive: Some(9000.0),
            hits_per_operation: Some(4.0),
            hits_naive: Some(9.0),
            hits_by_program: BTreeMap::from([(program.to_owned(), 4.0)]),
            spread: 0.001,
            missing: if with.is_none() {
                vec!["with: it broke".into()]
            } else {
                Vec::new()
            },
            violations: 0,
        }
    }

    #[test]
    fn frees_alone_are_no_use() {
        assert!(is_use(&row("tcp_100k", "otf_site", Some(2.0))));
        assert!(!is_use(&row("qfq", "otf_free_kfree", Some(2.0))));
        assert!(!is_use(&row("pipe", "otf_site", Some(2.0))));
    }

    #[test]
    fn the_report_has_figures_aims_and_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("runtime")).unwrap();
        let rows = [
            row("tcp_100k", "otf_site", Some(2000.0)),
            row("tcp_1m", "otf_site", None),
        ];
        write(folder.path(), folder.path(), &rows, None).unwrap();
        let text = fs::read_to_string(folder.path().join("runtime.md")).unwrap();
        assert!(
            text.contains(
                "| ip6_output | tcp_100k | 1000 | 2000 | 9000 | 100.0 % | 800.0 % | 0.12 |"
            ),
            "{text}"
        );
        assert!(text.contains("in 1 of 1 operations"), "{text}");
        assert!(
            text.contains("- ip6_output, tcp_1m: with: it broke"),
            "{text}"
        );
        let plot = fs::read_to_string(folder.path().join("runtime-use.svg")).unwrap();
        assert!(plot.contains("tcp_100k"));
    }
}
