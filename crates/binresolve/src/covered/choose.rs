//! Who covers whom: of the checks that stand before a site, one that is not covered itself.
//!
//! "Stands before on every path" has no circles: of two sites one is reached first. So each site is
//! either covered by one that is not, or is not covered.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    covered::{Cover, Under},
    ids::SiteId,
    sites::{Site, Unwind},
};

use super::implied::bytes;

/// A check that stands before a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Whose check.
    pub by: SiteId,
    /// From its address to that of the site.
    pub distance: i64,
    /// The stack pointer moved between them.
    pub stack_moved: bool,
    /// It would have to look at the bytes of both.
    pub joined: bool,
}

/// What is known, by site.
#[derive(Default)]
pub struct Choice {
    /// Checks that can cover the site.
    can: BTreeMap<SiteId, Vec<Candidate>>,
    /// Checks that stand before, but do not imply it by their own bytes.
    before: BTreeMap<SiteId, Vec<Candidate>>,
}

/// When a site that this one covers goes without its probe.
fn under(leader: &Site) -> Under {
    // Refused, it must not go on: what it covers would run unchecked.
    if leader.unwind == Unwind::Safe && !leader.unwind_gates.is_empty() {
        Under::Always
    } else {
        Under::NotDeny
    }
}

impl Choice {
    /// Notes a check that stands before a site, and whether it can cover it.
    pub fn know(&mut self, site: SiteId, candidate: Candidate, can: bool) {
        let known = if can { &mut self.can } else { &mut self.before };
        known.entry(site).or_default().push(candidate);
    }

    /// Decides. `implied` says whether a check of a longer range implies a site.
    pub fn settle(
        self,
        sites: &[Site],
        implied: impl Fn(SiteId, SiteId, Candidate, (i64, i64)) -> bool,
    ) -> BTreeMap<usize, Cover> {
        let mut settled: BTreeMap<SiteId, Option<Candidate>> = BTreeMap::new();
        for id in self.can.keys() {
            self.decide(*id, sites, &mut settled);
        }
        // Ranges that leaders check by now.
        let mut ranges: BTreeMap<SiteId, (i64, i64)> = BTreeMap::new();
        for (id, candidate) in &settled {
            if let Some(Candidate {
                by,
                distance,
                joined: true,
                ..
            }) = candidate
            {
                let length = |id: SiteId| bytes(&sites[id.index()]).unwrap_or(0);
                let range = ranges.entry(*by).or_insert((0, length(*by)));
                *range = (range.0.min(*distance), range.1.max(*distance + length(*id)));
            }
        }
        let leaders: BTreeSet<SiteId> = settled.values().flatten().map(|c| c.by).collect();
        for (id, candidates) in &self.before {
            let covered = |id: &SiteId| matches!(settled.get(id), Some(Some(_)));
            if covered(id) || leaders.contains(id) {
                continue;
            }
            let inside = candidates.iter().find(|candidate| {
                !covered(&candidate.by)
                    && ranges
                        .get(&candidate.by)
                        .is_some_and(|range| implied(candidate.by, *id, **candidate, *range))
            });
            if let Some(candidate) = inside {
                let joined = true;
                settled.insert(
                    *id,
                    Some(Candidate {
                        joined,
                        ..*candidate
                    }),
                );
            }
        }
        let covers = settled.into_iter().filter_map(|(id, candidate)| {
            let candidate = candidate?;
            let cover = Cover::Check {
                by: candidate.by,
                distance: candidate.distance,
                under: under(&sites[candidate.by.index()]),
                joined: candidate.joined,
            };
            Some((id.index(), cover))
        });
        covers.collect()
    }

    /// Takes the best check that is not covered itself, deciding on those first.
    fn decide(
        &self,
        id: SiteId,
        sites: &[Site],
        settled: &mut BTreeMap<SiteId, Option<Candidate>>,
    ) {
        let mut work = vec![id];
        while let Some(id) = work.last().copied() {
            let candidates = self.can.get(&id).map_or(&[][..], Vec::as_slice);
            let open = candidates
                .iter()
                .map(|candidate| candidate.by)
                .find(|by| !settled.contains_key(by) && !work.contains(by));
            if let Some(open) = open {
                work.push(open);
                continue;
            }
            let best = candidates
                .iter()
                .filter(|c| settled.get(&c.by).is_some_and(Option::is_none))
                .min_by_key(|c| (under(&sites[c.by.index()]), c.joined, c.by));
            settled.insert(id, best.copied());
            work.pop();
        }
    }
}
