//! `docs/evaluation/analysis.md`.

use std::fmt::Write;

use super::{Case, Figures};
use crate::Judgement;

/// Rows of a list of findings.
const FINDINGS: usize = 20;

/// The report as Markdown; `introduction` says how it was made.
pub fn render(introduction: &str, cases: &[Case]) -> String {
    let mut text = introduction.trim_end().to_owned();
    text.push_str("\n\n## Soundness: what was seen on the running kernel\n\n");
    soundness(&mut text, cases);
    text.push_str("\n## Precision\n\n");
    precision(&mut text, cases);
    text.push_str("\n## Allocation sites\n\n");
    allocations(&mut text, cases);
    text.push_str("\n## Indirect calls\n\n");
    calls(&mut text, cases);
    text.push_str("\n## Why legal sets are wide\n\n");
    reasons(&mut text, cases);
    text.push_str("\n## The runs\n\n");
    runs(&mut text, cases);
    text
}

// Writing to a string cannot fail, here and below.

fn table<const N: usize>(text: &mut String, head: [&str; N], rows: Vec<[String; N]>) {
    let _ = writeln!(text, "| {} |", head.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(N));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
}

/// A figure of a case, or a dash.
fn of<T, U: ToString>(source: &Result<T, String>, figure: impl Fn(&T) -> U) -> String {
    source
        .as_ref()
        .map_or_else(|_| "–".to_owned(), |value| figure(value).to_string())
}

fn percent(part: usize, whole: usize) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    // Tenths, rounded down: a share that is not whole never shows as 100.0 %.
    let tenths = part * 1000 / whole;
    format!("{}.{} %", tenths / 10, tenths % 10)
}

fn soundness(text: &mut String, cases: &[Case]) {
    let rows = cases.iter().map(|case| {
        let j = &case.judgement;
        [
            case.kernel.clone(),
            case.compartment.clone(),
            of(&case.figures, |f| f.sites),
            of(j, |j| j.attached_sites),
            of(j, |j| {
                format!(
                    "{} ({})",
                    j.executed_sites,
                    percent(j.executed_sites, j.sites)
                )
            }),
            of(j, |j| j.pairs_seen),
            of(j, |j| j.pairs_outside),
            of(j, |j| j.pairs_wide),
            of(j, |j| j.pairs_older),
            of(j, |j| format!("{} of {}", j.executed_calls, j.calls)),
            of(j, |j| j.targets_seen),
            of(j, |j| j.targets_outside),
        ]
    });
    let head = [
        "kernel",
        "compartment",
        "sites",
        "watched",
        "executed",
        "pairs",
        "outside",
        "by a wide rule",
        "older objects",
        "calls executed",
        "targets seen",
        "targets outside",
    ];
    table(text, head, rows.collect());
    for case in cases {
        if let Err(why) = &case.figures {
            let _ = writeln!(text, "\n{}/{}: {why}", case.kernel, case.compartment);
        } else if let Err(why) = &case.judgement {
            let _ = writeln!(text, "\n{}/{}: {why}", case.kernel, case.compartment);
        }
        if let Ok(judgement) = &case.judgement {
            findings(text, case, judgement);
        }
    }
}

fn findings(text: &mut String, case: &Case, judgement: &Judgement) {
    if !judgement.outside.is_empty() || !judgement.outside_targets.is_empty() {
        let _ = writeln!(
            text,
            "\n{}/{}: `otf judge` names all {} writes and {} calls outside; the first ones:\n",
            case.kernel,
            case.compartment,
            judgement.outside.len(),
            judgement.outside_targets.len()
        );
        for row in judgement.outside.iter().take(FINDINGS) {
            let _ = writeln!(
                text,
                "- site {}: {}, {:?} +{} ({} bytes)",
                row.pair.site.0,
                row.why.text(),
                row.pair.object,
                row.pair.offset,
                row.pair.length
            );
        }
        for row in judgement.outside_targets.iter().take(FINDINGS) {
            let target = &row.pair.target;
            let _ = writeln!(
                text,
                "- call {}: {}:{}",
                row.pair.call.0, target.image, target.symbol
            );
        }
    }
    for (reason, count) in &judgement.lost {
        let _ = writeln!(
            text,
            "\n{}/{}: {count} times lost: {reason}",
            case.kernel, case.compartment
        );
    }
}

fn precision(text: &mut String, cases: &[Case]) {
    let rows = cases.iter().map(|case| {
        let f = &case.figures;
        let rung = |name: &'static str| {
            of(f, |f| {
                percent(f.by_precision.get(name).copied().unwrap_or(0), f.sites)
            })
        };
        [
            case.kernel.clone(),
            case.compartment.clone(),
            of(f, |f| f.sites),
            rung("instruction"),
            of(f, |f| {
                f.exact
                    .map_or_else(|| "–".to_owned(), |(bound, _)| percent(bound, f.sites))
            }),
            of(f, |f| {
                f.exact
                    .map_or_else(|| "–".to_owned(), |(bound, asked)| percent(bound, asked))
            }),
            rung("line"),
            rung("function"),
            rung("compartment"),
            of(f, |f| format!("{} / {}", f.types.median, f.types.p90)),
            of(f, |f| {
                format!("{} / {}", f.allocations.median, f.allocations.p90)
            }),
            of(f, |f| f.wide),
            of(f, |f| f.proven),
            of(f, |f| f.unprobable),
        ]
    });
    let head = [
        "kernel",
        "compartment",
        "sites",
        "instruction",
        "by an exact map",
        "of those asked",
        "line",
        "function",
        "compartment (rung)",
        "types, median / p90",
        "allocation sites, median / p90",
        "wide",
        "proven",
        "unprobable",
    ];
    table(text, head, rows.collect());
}

fn allocations(text: &mut String, cases: &[Case]) {
    let rows = cases.iter().map(|case| {
        let f = &case.figures;
        let view = case.allocinfo.as_ref().ok_or_else(String::new).cloned();
        [
            case.kernel.clone(),
            case.compartment.clone(),
            of(f, |f| f.allocation_sites),
            of(f, |f| {
                format!(
                    "{} ({})",
                    f.allocation_sites_typed,
                    percent(f.allocation_sites_typed, f.allocation_sites)
                )
            }),
            of(&view, |v| v.seen),
            of(&view, |v| {
                format!("{} ({})", v.known, percent(v.known, v.seen))
            }),
            of(&view, |v| {
                format!("{} of {}", v.sized - v.other_size.len(), v.sized)
            }),
        ]
    });
    let head = [
        "kernel",
        "compartment",
        "allocation sites",
        "typed",
        "seen by the kernel",
        "of these known",
        "of the known constant sizes right",
    ];
    table(text, head, rows.collect());
    for case in cases {
        if let Some(view) = &case.allocinfo {
            for line in view.missing.iter().chain(&view.other_size) {
                let _ = writeln!(text, "- {}/{}: {line}", case.kernel, case.compartment);
            }
        }
    }
}

fn calls(text: &mut String, cases: &[Case]) {
    let rows = cases.iter().map(|case| {
        let f = &case.figures;
        let mean = |f: &Figures| {
            f.targets_mean
                .map_or("–".to_owned(), |mean| format!("{mean:.1}"))
        };
        [
            case.kernel.clone(),
            case.compartment.clone(),
            of(f, |f| f.indirect_calls),
            of(f, mean),
            of(f, |f| f.unbounded_calls),
            of(f, |f| f.returns),
        ]
    });
    let head = [
        "kernel",
        "compartment",
        "indirect calls",
        "mean targets",
        "calls without a bound",
        "returns",
    ];
    table(text, head, rows.collect());
}

fn reasons(text: &mut String, cases: &[Case]) {
    let mut rows = Vec::new();
    for case in cases {
        for (reason, sites) in case.figures.iter().flat_map(|f| &f.wide_reasons) {
            rows.push([
                case.kernel.clone(),
                case.compartment.clone(),
                sites.to_string(),
                reason.clone(),
            ]);
        }
    }
    table(text, ["kernel", "compartment", "sites", "reason"], rows);
}

fn runs(text: &mut String, cases: &[Case]) {
    for case in cases.iter().filter(|case| !case.tasks.is_empty()) {
        let count = |result: &str| case.tasks.iter().filter(|t| t.result == result).count();
        let _ = writeln!(
            text,
            "{}/{}: {} tasks passed, {} failed, {} were skipped, {} ran out of time, {} were not run.",
            case.kernel,
            case.compartment,
            count("pass"),
            count("fail"),
            count("skip"),
            count("timeout"),
            count("not-run")
        );
        for (part, seconds) in &case.timing {
            let _ = writeln!(text, "{part} {seconds} s.");
        }
        let other: Vec<String> = case
            .tasks
            .iter()
            .filter_map(|task| {
                let expected = task.expected.as_deref()?;
                (expected != task.result)
                    .then(|| format!("{} {} instead of {expected}", task.name, task.result))
            })
            .collect();
        if !other.is_empty() {
            let _ = writeln!(
                text,
                "Different from the run without a bundle: {}.",
                other.join(", ")
            );
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_is_not_whole_is_not_shown_as_whole() {
        assert_eq!(percent(9999, 10000), "99.9 %");
        assert_eq!(percent(3, 3), "100.0 %");
        assert_eq!(percent(0, 0), "–");
    }

    #[test]
    fn a_cell_cannot_break_its_row() {
        let mut text = String::new();
        table(&mut text, ["a"], vec![["x|y".to_owned()]]);
        assert!(text.ends_with("| x\\|y |\n"));
    }
}
