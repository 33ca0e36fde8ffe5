//! Measurements side by side: `out/bench/runtime.json`.

use std::{collections::BTreeMap, fs, path::Path};

use otf_artifact::diagnostic::{Code, Diagnostic};
use serde::Serialize;

use super::{
    failed,
    kept::{Kept, Measured},
};

/// One operation under the bundles of one set of compartments.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Compartments, joined by `+`.
    pub compartment: String,
    /// Operation.
    pub operation: String,
    /// Instructions of one operation without a bundle.
    pub instructions_without: Option<f64>,
    /// With the policy.
    pub instructions_with: Option<f64>,
    /// With a probe for every store.
    pub instructions_naive: Option<f64>,
    /// Runs of BPF programs in one operation, with the policy.
    pub hits_per_operation: Option<f64>,
    /// The same with a probe for every store.
    pub hits_naive: Option<f64>,
    /// The first, by program.
    pub hits_by_program: BTreeMap<String, f64>,
    /// Largest difference between rounds of one measurement, as a part of the smaller one.
    pub spread: f64,
    /// Why a figure is missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Violations that the machine of the policy reported, all operations together.
    pub violations: u64,
}

impl Row {
    /// Whether all three were measured.
    pub fn complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// What the policy adds, as a part of the operation without it.
    pub fn added(&self) -> Option<f64> {
        part(self.instructions_with, self.instructions_without)
    }

    /// What the naive scheme adds.
    pub fn added_naive(&self) -> Option<f64> {
        part(self.instructions_naive, self.instructions_without)
    }

    /// What the policy adds, as a part of what the naive scheme adds; nothing where that adds next to nothing.
    pub fn of_naive(&self) -> Option<f64> {
        let (with, naive) = (self.added()?, self.added_naive()?);
        (naive > 0.01).then(|| with / naive)
    }

    /// Instructions that the policy adds for each hit; nothing where hits are rare.
    pub fn per_hit(&self) -> Option<f64> {
        let added = self.instructions_with? - self.instructions_without?;
        let hits = self.hits_per_operation?;
        (hits >= 0.5).then(|| added / hits)
    }
}

fn part(with: Option<f64>, without: Option<f64>) -> Option<f64> {
    let without = without?;
    Some((with? - without) / without)
}

/// All rows for which something of the set was measured, operations in the order given.
pub fn rows(to: &Path, operations: &[String]) -> Result<Vec<Row>, Diagnostic> {
    let folder = to.join("runtime");
    let without = all(&folder.join("without.json"))?;
    let mut rows = Vec::new();
    for set in sets(&folder)? {
        let with = all(&folder.join(format!("{set}.policy.json")))?;
        let naive = all(&folder.join(format!("{set}.naive.json")))?;
        for operation in operations {
            let row = row(&set, operation, &without, &with, &naive);
            if row.instructions_with.is_some() || !with.failed.is_empty() {
                rows.push(row);
            }
        }
    }
    Ok(rows)
}

/// A run's file; without one, nothing was measured.
pub fn all(file: &Path) -> Result<Kept, Diagnostic> {
    if !file.exists() {
        return Ok(Kept::default());
    }
    let bytes = fs::read(file).map_err(|e| failed("read", file, &e))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Diagnostic::error(Code::BadArtifact, format!("{}: {e}", file.display())))
}

/// Sets of compartments that have a file; single ones first.
pub fn sets(folder: &Path) -> Result<Vec<String>, Diagnostic> {
    let mut sets = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| failed("list", folder, &e))? {
        let entry = entry.map_err(|e| failed("list", folder, &e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        sets.extend(name.strip_suffix(".policy.json").map(str::to_owned));
    }
    sets.sort_by_key(|set| (set.contains('+'), set.clone()));
    Ok(sets)
}

fn row(set: &str, operation: &str, without: &Kept, with: &Kept, naive: &Kept) -> Row {
    let mut missing = Vec::new();
    let mut get = |kept: &'_ Kept, name: &str| -> Option<Measured> {
        let found = kept.measured.get(operation).cloned();
        if found.is_none() {
            let reason = kept.failed.get(operation);
            let reason = reason.map_or("not measured", String::as_str);
            missing.push(format!("{name}: {reason}"));
        }
        found
    };
    let without = get(without, "without");
    let policy = get(with, "with");
    let naive = get(naive, "naive");
    let spread = [&without, &policy, &naive]
        .into_iter()
        .flatten()
        .map(spread);
    let spread = spread.fold(0.0, f64::max);
    Row {
        compartment: set.to_owned(),
        operation: operation.to_owned(),
        instructions_without: without.as_ref().map(instructions),
        instructions_with: policy.as_ref().map(instructions),
        instructions_naive: naive.as_ref().map(instructions),
        hits_per_operation: policy.as_ref().map(hits),
        hits_naive: naive.as_ref().map(hits),
        hits_by_program: policy.as_ref().map(by_program).unwrap_or_default(),
        spread,
        missing,
        violations: with.violations,
    }
}

/// Mean of the rounds.
fn instructions(measured: &Measured) -> f64 {
    let sum: u64 = measured.busy.iter().sum();
    sum as f64 / (measured.busy.len() as f64 * measured.count as f64)
}

fn hits(measured: &Measured) -> f64 {
    measured.hits.values().sum::<u64>() as f64 / measured.count as f64
}

fn by_program(measured: &Measured) -> BTreeMap<String, f64> {
    let one = |(name, runs): (&String, &u64)| (name.clone(), *runs as f64 / measured.count as f64);
    measured.hits.iter().map(one).collect()
}

fn spread(measured: &Measured) -> f64 {
    let least = measured.busy.iter().min().copied().unwrap_or(0);
    let most = measured.busy.iter().max().copied().unwrap_or(0);
    if least == 0 {
        return 0.0;
    }
    (most - least) as f64 / least as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(busy: &[u64], hits: u64) -> Kept {
        let mut kept = Kept::default();
        let measured = Measured {
            operation: "pipe".into(),
            count: 10,
            busy: busy.to_vec(),
            hits: BTreeMap::from([("otf_site".to_owned(), hits)]),
        };
        kept.measured.insert("pipe".into(), measured);
        kept
    }

    #[test]
    fn figures_are_per_operation() {
        let naive = kept(&[3000, 3000], 40);
        let row = row(
            "a",
            "pipe",
            &kept(&[1000], 0),
            &kept(&[1100, 1300], 20),
            &naive,
        );
        assert_eq!(row.instructions_without, Some(100.0));
        assert_eq!(row.instructions_with, Some(120.0));
        assert_eq!(row.hits_per_operation, Some(2.0));
        assert_eq!(row.per_hit(), Some(10.0));
        assert_eq!(row.of_naive(), Some(0.1));
        assert!((row.spread - 2.0 / 11.0).abs() < 1e-9);
        assert!(row.complete());
    }

    #[test]
    fn a_missing_figure_has_a_reason() {
        let mut broken = Kept::default();
        broken.failed.insert("pipe".into(), "it broke".into());
        let row = row("a", "pipe", &kept(&[1000], 0), &broken, &Kept::default());
        assert_eq!(row.missing, ["with: it broke", "naive: not measured"]);
        assert_eq!((row.added(), row.of_naive()), (None, None));
    }
}
