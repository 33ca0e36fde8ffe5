//! `otf-vmtest bench-runtime`: what operations cost without a policy, with it, and with the naive scheme, in instructions.
//!
//! Time in the machine counts instructions (`-icount`), so a measurement repeats. Each machine measures one set of bundles;
//! what it measured is kept under a stamp of all that it depends on, and only what is missing is measured again.

mod kept;
mod machine;
mod plot;
mod prices;
mod report;
mod rows;

use std::{fs, path::PathBuf};

use clap::Args;
use kept::{Kept, Run};
use otf_artifact::{
    Artifact,
    diagnostic::{Code, Diagnostic},
};

use super::target::Setting;

/// What bundle a machine loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// None.
    Without,
    /// That of the policy.
    Policy,
    /// A probe for every store.
    Naive,
}

impl Scheme {
    /// What is done about violations. Under *audit* perf owns the probes, one event for each, as in the
    /// naive scheme; under *deny* the guard does.
    fn action(self) -> &'static str {
        match self {
            Self::Without | Self::Policy => "deny",
            Self::Naive => "audit",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Without => "without",
            Self::Policy => "policy",
            Self::Naive => "naive",
        }
    }
}

/// `otf-vmtest bench-runtime`
#[derive(Args)]
pub struct BenchRuntime {
    #[command(flatten)]
    setting: Setting,
    /// Compartments whose bundles are loaded together: NAME or NAME+NAME.
    #[arg(long = "compartment", required = true)]
    compartments: Vec<String>,
    /// Operations, all by default; see guest/operations.sh.
    #[arg(long = "operation")]
    operations: Vec<String>,
    /// Root file system (ext4), as `eval/root.sh` makes it.
    #[arg(long)]
    root_image: PathBuf,
    /// The kernel's modules (ext4), as `eval/modules.sh` makes it.
    #[arg(long)]
    modules_image: PathBuf,
    /// `otf-exercise`, linked statically.
    #[arg(long)]
    exercise: PathBuf,
    /// Where measurements are kept, and `runtime.json` goes.
    #[arg(long, default_value = "out/bench")]
    to: PathBuf,
    /// Where `runtime.md` and its plots go.
    #[arg(long, default_value = "docs/evaluation")]
    docs: PathBuf,
    /// Only write the report, from what is kept.
    #[arg(long)]
    report: bool,
    /// Seconds that a machine gets.
    #[arg(long, default_value_t = 3600)]
    time_limit: u64,
}

/// Measures what is missing and writes the report; whether every row is complete.
pub fn run(options: &BenchRuntime) -> Result<bool, Diagnostic> {
    let all = operations();
    if let Some(unknown) = options.operations.iter().find(|o| !all.contains(o)) {
        let message = format!("no operation `{unknown}`; there are {}", all.join(", "));
        return Err(Diagnostic::error(Code::Usage, message));
    }
    let wanted = if options.operations.is_empty() {
        all.clone()
    } else {
        options.operations.clone()
    };
    if !options.report {
        let mut runs = vec![Run::new(options, "", Scheme::Without)?];
        for set in &options.compartments {
            for scheme in [Scheme::Policy, Scheme::Naive] {
                runs.push(Run::new(options, set, scheme)?);
            }
        }
        for run in &runs {
            measure(options, run, &wanted)?;
        }
    }
    let rows = rows::rows(&options.to, &all)?;
    let json = options.to.join("runtime.json");
    let text = serde_json::to_string_pretty(&rows)
        .map_err(|e| Diagnostic::error(Code::Environment, e.to_string()))?;
    fs::write(&json, text + "\n").map_err(|e| failed("write", &json, &e))?;
    let prices = prices::prices(&rows);
    if let Some(prices) = &prices {
        let file = options.to.join("prices.json");
        let mut bytes = Vec::new();
        prices
            .write(&mut bytes)
            .and_then(|()| fs::write(&file, bytes))
            .map_err(|e| failed("write", &file, &e))?;
    }
    report::write(&options.docs, &options.to, &rows, prices.as_ref())?;
    Ok(rows.iter().all(rows::Row::complete))
}

/// Measures the operations that a run has no result of; a machine that fails leaves its reason.
fn measure(options: &BenchRuntime, run: &Run, wanted: &[String]) -> Result<(), Diagnostic> {
    let mut kept = Kept::read(&run.file, &run.stamp);
    let missing: Vec<&str> = wanted
        .iter()
        .map(String::as_str)
        .filter(|operation| !kept.measured.contains_key(*operation))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("bench: {}: {}", run.label(), missing.join(" "));
    let seen = machine::run(options, run, &missing)?;
    for line in &seen.failures {
        println!("bench: {}: {line}", run.label());
    }
    kept.add(seen, &missing);
    kept.write(&run.file)
}

/// Names of all operations, in the order of the script that has them.
fn operations() -> Vec<String> {
    machine::OPERATIONS
        .lines()
        .filter_map(|line| line.strip_prefix("operation_")?.split_once("()"))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn failed(what: &str, path: &std::path::Path, why: &dyn std::fmt::Display) -> Diagnostic {
    Diagnostic::error(
        Code::Environment,
        format!("cannot {what} {}: {why}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_kind_to_clean_up() {
        let names = operations();
        assert!(names.contains(&"udp_round_trip".to_owned()), "{names:?}");
        for name in &names {
            let kind = machine::OPERATIONS
                .lines()
                .find_map(|l| l.strip_prefix(&format!("kind[{name}]=")));
            let kind = kind.unwrap_or_else(|| panic!("{name} has no kind"));
            assert!(machine::OPERATIONS.contains(&format!("after_{kind}()")));
        }
    }
}
