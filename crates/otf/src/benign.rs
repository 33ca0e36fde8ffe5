//! `otf benign-report`: what `make test-benign` has measured, as JSON and as Markdown.

use std::path::Path;

use otf_artifact::diagnostic::{Code, Diagnostic};
use otf_evaluation::report::{
    self,
    benign::{self, Benign, Said},
};
use serde_json::Value;

use crate::{
    cli,
    evaluate::text,
    files,
    render::{self, Failure},
};

/// Violations that are listed.
const FIRST: usize = 5;

/// Reads what came out of the machines, and writes both reports; `false` when there is a violation or
/// a changed result.
pub fn report(args: &cli::BenignReport) -> Result<bool, Failure> {
    let mut rows = Vec::new();
    for name in &args.cases {
        let Some((kernel, compartment)) = name.split_once('/') else {
            let message = format!("`{name}` is not KERNEL/COMPARTMENT");
            return Err(Diagnostic::error(Code::Usage, message).into());
        };
        rows.push(row(&args.runs.join(kernel), kernel, compartment));
    }
    let json = serde_json::to_string_pretty(&rows)
        .map_err(|e| Diagnostic::error(Code::InvariantBroken, format!("cannot be written: {e}")))?;
    files::write(&args.json, format!("{json}\n").as_bytes())?;
    files::write(&args.markdown, benign::render(&rows).as_bytes())?;
    render::line(&args.markdown.display().to_string())?;
    let clean = |row: &Benign| row.violations == Some(0) && row.result_changes == 0;
    Ok(rows.iter().all(clean))
}

fn row(runs: &Path, kernel: &str, compartment: &str) -> Benign {
    let under = |mode: &str| runs.join(format!("{compartment}.{mode}"));
    let results = text(&under("deny").join("results.tsv")).unwrap_or_default();
    let expected = text(&under("without").join("results.tsv"));
    let tasks = report::tasks(&results, expected.as_deref());
    let failed = text(&runs.join(format!("{compartment}.deny.failed")));
    let said = said(&under("deny"))
        .ok_or_else(|| failed.unwrap_or_else(|| "no run under the policy".to_owned()));
    let minutes = text(&under("deny").join("timing.txt")).and_then(|timing| {
        let line = timing.lines().find_map(|l| l.strip_prefix("workload\t"))?;
        Some(line.trim().parse::<f64>().ok()? / 60.0)
    });
    benign::compare(kernel, compartment, &tasks, said, minutes)
}

fn said(folder: &Path) -> Option<Said> {
    let status: Value = serde_json::from_str(&text(&folder.join("status.json"))?).ok()?;
    let status = status
        .as_array()
        .and_then(|all| all.first())
        .unwrap_or(&status);
    let counter = |name: &str| status.pointer(&format!("/counters/{name}"))?.as_u64();
    let events = text(&folder.join("events.ndjson")).unwrap_or_default();
    let violation = |line: &str| {
        let event: Value = serde_json::from_str(line).ok()?;
        let word = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        let unknown = word("/reason")? == "unknown" && word("/phase")? == "transition";
        (!unknown).then(|| {
            format!(
                "{}:{} `{}`: {}; may write: {}",
                word("/site/file").unwrap_or("?"),
                event.pointer("/site/line").unwrap_or(&Value::Null),
                word("/site/instruction").unwrap_or_default(),
                word("/reason_text").unwrap_or_default(),
                word("/site/legal").unwrap_or_default(),
            )
        })
    };
    Some(Said {
        violations: counter("violations")?,
        checks: counter("checks")?,
        weak: counter("weak")?,
        first: events.lines().filter_map(violation).take(FIRST).collect(),
    })
}
