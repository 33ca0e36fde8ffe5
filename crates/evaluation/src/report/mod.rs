//! The report of `make eval-analysis`: figures of each compartment beside what was measured in a machine.

mod allocinfo;
pub mod benign;
mod figures;
mod rebase;
mod table;

use std::collections::BTreeMap;

use otf_artifact::{recording::Recording, sites::Sites};
use serde::Serialize;

use crate::Judgement;
pub use allocinfo::{Comparison, Tag, compare, parse as parse_allocinfo};
pub use figures::{Figures, Spread, figures};
pub use rebase::rebase;
pub use table::render;

/// One kernel and compartment in the machine-readable report. What was not measured is `null`, and `missing` says why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Kernel profile.
    pub kernel: String,
    /// Compartment.
    pub compartment: String,
    /// Sites.
    pub sites: Option<usize>,
    /// Sites that wrote something in the recording.
    pub executed_sites: Option<usize>,
    /// Distinct pairs of site and object in the recording.
    pub pairs_seen: Option<usize>,
    /// Those outside the site's legal set.
    pub pairs_outside: Option<usize>,
    /// Sites per rung of the ladder.
    pub by_precision: Option<BTreeMap<&'static str, usize>>,
    /// Types per site's legal set: median.
    pub types_median: Option<usize>,
    /// Types per site's legal set: 90th percentile.
    pub types_p90: Option<usize>,
    /// Allocation sites in the compartment's code.
    pub allocation_sites: Option<usize>,
    /// Those with a type.
    pub allocation_sites_typed: Option<usize>,
    /// Indirect calls and jumps.
    pub indirect_calls: Option<usize>,
    /// Mean legal targets per indirect call.
    pub targets_mean: Option<f64>,
    /// Distinct pairs of call and target in the recording that are outside the target set.
    pub executed_targets_outside: Option<usize>,
    /// Why fields are `null`: `analysis` or `recording`, and the reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub missing: BTreeMap<&'static str, String>,
}

/// A task of a workload and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// `pass`, `fail`, `skip`, `timeout`, `not-run`.
    pub result: String,
    /// The result without a policy, where that was recorded.
    pub expected: Option<String>,
    /// Seconds.
    pub seconds: String,
}

/// All that is known of one kernel and compartment.
#[derive(Clone, Debug)]
pub struct Case {
    /// Kernel profile.
    pub kernel: String,
    /// Compartment.
    pub compartment: String,
    /// From its sites, or why there are none.
    pub figures: Result<Figures, String>,
    /// From a recording, or why there is none.
    pub judgement: Result<Judgement, String>,
    /// Compartment whose run was recorded.
    pub recorded_as: String,
    /// The workload's tasks; empty when this compartment had no run of its own.
    pub tasks: Vec<Task>,
    /// Seconds per part of the run: `load`, `workload`, `recording`.
    pub timing: Vec<(String, String)>,
    /// The kernel's own view of allocations, where it has one.
    pub allocinfo: Option<Comparison>,
}

impl Case {
    /// The machine-readable entry.
    pub fn entry(&self) -> Entry {
        let figures = self.figures.as_ref().ok();
        let judgement = self.judgement.as_ref().ok();
        let mut missing = BTreeMap::new();
        if let Err(why) = &self.figures {
            missing.insert("analysis", why.clone());
        }
        if let Err(why) = &self.judgement {
            missing.insert("recording", why.clone());
        }
        Entry {
            kernel: self.kernel.clone(),
            compartment: self.compartment.clone(),
            sites: figures.map(|f| f.sites),
            executed_sites: judgement.map(|j| j.executed_sites),
            pairs_seen: judgement.map(|j| j.pairs_seen),
            pairs_outside: judgement.map(|j| j.pairs_outside),
            by_precision: figures.map(|f| f.by_precision.clone()),
            types_median: figures.map(|f| f.types.median),
            types_p90: figures.map(|f| f.types.p90),
            allocation_sites: figures.map(|f| f.allocation_sites),
            allocation_sites_typed: figures.map(|f| f.allocation_sites_typed),
            indirect_calls: figures.map(|f| f.indirect_calls),
            targets_mean: figures.and_then(|f| f.targets_mean),
            executed_targets_outside: judgement.map(|j| j.targets_outside),
            missing,
        }
    }
}

/// Reads `results.tsv` of a run beside that of a run without a policy.
pub fn tasks(results: &str, expected: Option<&str>) -> Vec<Task> {
    let rows = |text: &str| -> Vec<(String, String, String)> {
        let row = |line: &str| {
            let mut words = line.split('\t').map(str::to_owned);
            Some((words.next()?, words.next()?, words.next()?))
        };
        text.lines().filter_map(row).collect()
    };
    let before: BTreeMap<String, String> = rows(expected.unwrap_or_default())
        .into_iter()
        .map(|(name, result, _)| (name, result))
        .collect();
    rows(results)
        .into_iter()
        .map(|(name, result, seconds)| Task {
            expected: before.get(&name).cloned(),
            name,
            result,
            seconds,
        })
        .collect()
}

/// Judges `recording`, which was made with the sites `from`, for the sites `to`; `hash` is that of `to`'s file.
pub fn judge_part(recording: &Recording, from: &Sites, to: &Sites, hash: String) -> Judgement {
    crate::judge(to, &[rebase(recording, from, to, hash)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_null_and_has_a_reason() {
        let case = Case {
            kernel: "k".into(),
            compartment: "c".into(),
            figures: Ok(Figures {
                sites: 3,
                ..Figures::default()
            }),
            judgement: Err("the machine did not come up".into()),
            recorded_as: "c".into(),
            tasks: Vec::new(),
            timing: Vec::new(),
            allocinfo: None,
        };
        let entry = case.entry();
        assert_eq!((entry.sites, entry.pairs_seen), (Some(3), None));
        assert_eq!(entry.missing["recording"], "the machine did not come up");
        assert!(!entry.missing.contains_key("analysis"));
    }

    #[test]
    fn tasks_are_compared_by_name() {
        let tasks = tasks("a\tpass\t1\nb\tfail\t2\n", Some("b\tfail\t3\n"));
        assert_eq!(tasks[0].expected, None);
        assert_eq!(tasks[1].expected.as_deref(), Some("fail"));
    }
}
