//! What one compartment's `sites.json` says in numbers.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    analysis::LegalSet,
    exact::Exact,
    sites::{Coverage, Precision, Site, Sites},
};

/// Rows of a list of reasons.
const REASONS: usize = 5;

/// Figures of a compartment that need no recording. Everything is counted over sites or calls, not over sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Sites.
    pub sites: usize,
    /// Sites per rung: instruction, line, function, compartment.
    pub by_precision: BTreeMap<&'static str, usize>,
    /// Sites at the instruction rung by an exact map, and sites that one was asked about; `None` without maps.
    pub exact: Option<(usize, usize)>,
    /// Types per site's legal set; a set that allows any heap object counts as all types of the analysis.
    pub types: Spread,
    /// Allocation sites per site's legal set; a set that allows any heap object counts as all of them.
    pub allocations: Spread,
    /// Sites whose legal set allows any heap object or any global.
    pub wide: usize,
    /// The most frequent reasons for that, with sites.
    pub wide_reasons: Vec<(String, usize)>,
    /// Sites that need no probe.
    pub proven: usize,
    /// Sites that cannot be probed.
    pub unprobable: usize,
    /// Allocation sites in the compartment's own code.
    pub allocation_sites: usize,
    /// Of these, those with a type.
    pub allocation_sites_typed: usize,
    /// Indirect calls and jumps.
    pub indirect_calls: usize,
    /// Indirect calls that may go anywhere.
    pub unbounded_calls: usize,
    /// Mean targets per indirect call; one that may go anywhere counts as all targets of the analysis. `None` without calls.
    pub targets_mean: Option<f64>,
    /// Returns.
    pub returns: usize,
}

/// Median and 90th percentile, by nearest rank; 0 of nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// Half of the values are at most this.
    pub median: usize,
    /// Nine of ten are at most this.
    pub p90: usize,
}

impl Spread {
    /// Of any values.
    pub fn of(mut values: Vec<usize>) -> Self {
        values.sort_unstable();
        let rank = |percent: usize| {
            let at = (values.len() * percent).div_ceil(100).saturating_sub(1);
            values.get(at).copied().unwrap_or(0)
        };
        Self {
            median: rank(50),
            p90: rank(90),
        }
    }
}

/// Counts a compartment.
pub fn figures(sites: &Sites) -> Figures {
    let legal = |id: otf_artifact::ids::LegalSetId| sites.legal_sets.get(id.index());
    let sets: Vec<&LegalSet> = sites.sites.iter().filter_map(|s| legal(s.legal)).collect();
    let wide = sets.iter().filter_map(|set| wide_reason(set));
    let (wide, wide_reasons) = top(wide);
    let rung = |precision| {
        sites
            .sites
            .iter()
            .filter(|s| s.precision == precision)
            .count()
    };
    let own = sites
        .analysis
        .allocation_sites
        .iter()
        .filter(|a| a.confined);
    let targets: Vec<usize> = sites
        .calls
        .iter()
        .filter_map(|c| sites.target_sets.get(c.targets.index()))
        .map(|set| match set.any {
            Some(_) => sites.analysis.targets.len(),
            None => set.targets.len(),
        })
        .collect();
    let unbounded = |c: &&otf_artifact::sites::CallSite| {
        sites
            .target_sets
            .get(c.targets.index())
            .is_none_or(|set| set.any.is_some())
    };
    let asked = sites.sites.iter().filter(|s| s.exact.is_some());
    let bound = |s: &&Site| s.exact == Some(Exact::Bound) && s.precision == Precision::Instruction;
    let bound = (asked.clone().filter(bound).count(), asked.count());
    Figures {
        exact: (bound.1 > 0).then_some(bound),
        sites: sites.sites.len(),
        by_precision: BTreeMap::from([
            ("instruction", rung(Precision::Instruction)),
            ("line", rung(Precision::Line)),
            ("function", rung(Precision::Function)),
            ("compartment", rung(Precision::Compartment)),
        ]),
        types: Spread::of(sets.iter().map(|set| types(set, sites)).collect()),
        allocations: Spread::of(sets.iter().map(|set| allocations(set, sites)).collect()),
        wide,
        wide_reasons,
        proven: covered(sites, |c| matches!(c, Coverage::Proven(_))),
        unprobable: covered(sites, |c| matches!(c, Coverage::Unprobable(_))),
        allocation_sites: own.clone().count(),
        allocation_sites_typed: own.filter(|a| !a.types.is_empty()).count(),
        indirect_calls: sites.calls.len(),
        unbounded_calls: sites.calls.iter().filter(unbounded).count(),
        targets_mean: mean(&targets),
        returns: sites.returns.len(),
    }
}

/// Why a legal set allows more than the types and globals that it names.
pub fn wide_reason(set: &LegalSet) -> Option<&str> {
    set.any_heap.as_deref().or(set.any_global.as_deref())
}

fn covered(sites: &Sites, is: impl Fn(&Coverage) -> bool) -> usize {
    sites.sites.iter().filter(|s| is(&s.coverage)).count()
}

fn types(set: &LegalSet, sites: &Sites) -> usize {
    match set.any_heap {
        Some(_) => sites.analysis.types.len(),
        None => set.types.len(),
    }
}

fn allocations(set: &LegalSet, sites: &Sites) -> usize {
    if set.any_heap.is_some() {
        return sites.analysis.allocation_sites.len();
    }
    let places = set.heap.iter().flat_map(|place| &place.allocation_sites);
    places.collect::<BTreeSet<_>>().len()
}

/// How many, and the most frequent ones.
fn top<'a>(reasons: impl Iterator<Item = &'a str>) -> (usize, Vec<(String, usize)>) {
    let mut counts = BTreeMap::<&str, usize>::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let all = counts.values().sum();
    let mut rows: Vec<_> = counts.into_iter().map(|(r, n)| (r.to_owned(), n)).collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    rows.truncate(REASONS);
    (all, rows)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of calls and functions are far below 2^52"
)]
fn mean(values: &[usize]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<usize>() as f64 / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_values_that_occur() {
        assert_eq!(Spread::of(vec![]), Spread { median: 0, p90: 0 });
        assert_eq!(Spread::of(vec![7]), Spread { median: 7, p90: 7 });
        let ten = (1..=10).rev().collect();
        assert_eq!(Spread::of(ten), Spread { median: 5, p90: 9 });
    }

    #[test]
    fn reasons_are_sorted_by_how_often() {
        let (all, rows) = top(["b", "a", "b", "c"].into_iter());
        assert_eq!(all, 4);
        let expected = [("b", 2), ("a", 1), ("c", 1)].map(|(r, n)| (r.to_owned(), n));
        assert_eq!(rows, expected);
    }

    #[test]
    fn the_mean_of_nothing_is_nothing() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[1, 2]), Some(1.5));
    }
}
