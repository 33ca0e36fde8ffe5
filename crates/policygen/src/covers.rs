//! Sites that go without their probe: the ranges that others check on their behalf, and the plan.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    abi,
    bundle::PlanCover,
    covered::Under,
    ids::SiteId,
    sites::{Length, Sites},
};

use crate::{
    bind::{Bound, BoundCover},
    tables::Built,
};

/// Bytes that one check covers for several sites, from the address that its own site writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: i64,
    /// Behind the last byte.
    pub end: i64,
}

impl Range {
    /// The row of the site with this range in place of its own bytes.
    pub fn of(&self, row: &abi::Site) -> abi::Site {
        abi::Site {
            displacement: row.displacement.wrapping_add(self.start),
            size: u32::try_from(self.end.saturating_sub(self.start)).unwrap_or(u32::MAX),
            ..*row
        }
    }
}

/// The ranges of sites whose check covers others besides.
pub fn ranges(bound: &Bound, sites: &Sites) -> BTreeMap<SiteId, Range> {
    let length = |id: SiteId| match sites.site(id).length {
        Length::Constant(bytes) => Some(i64::from(bytes)),
        Length::Register(..) => None,
    };
    let mut ranges = BTreeMap::new();
    for entry in &bound.sites {
        let Some(BoundCover::Check {
            by,
            distance,
            joined: true,
            ..
        }) = entry.covered
        else {
            continue;
        };
        let (Some(own), Some(other)) = (length(by), length(entry.site)) else {
            continue;
        };
        let range = ranges.entry(by).or_insert(Range { start: 0, end: own });
        range.start = range.start.min(distance);
        range.end = range.end.max(distance.saturating_add(other));
    }
    ranges
}

/// Sites whose check others rely on under *deny*.
pub fn leaders(bound: &Bound) -> BTreeSet<SiteId> {
    let covers = bound.sites.iter().filter_map(|entry| entry.covered);
    covers
        .filter(|cover| cover.under() == Under::Always)
        .filter_map(|cover| match cover {
            BoundCover::Check { by, .. } => Some(by),
            BoundCover::Fresh { .. } | BoundCover::AnyAddress => None,
        })
        .collect()
}

/// Others rely under *deny* on the checks that come before what is left to audit there, too: refused alone,
/// they do not prevent it, and have to say so.
pub fn lead_left(bound: &Bound, built: &mut Built) {
    for left in &built.plan.left_to_audit {
        let entry = bound.sites.get(left.row as usize);
        if let Some(BoundCover::Check { by, .. }) = entry.and_then(|entry| entry.covered)
            && let Some(leader) = row_of(bound, by)
            && let Some(row) = built.tables.sites.get_mut(leader as usize)
        {
            row.length |= abi::LENGTH_LEADER;
        }
    }
}

fn row_of(bound: &Bound, id: SiteId) -> Option<u32> {
    let row = bound.sites.binary_search_by_key(&id, |entry| entry.site);
    row.ok().and_then(|row| u32::try_from(row).ok())
}

/// Rows that go without their probe.
pub fn plan(bound: &Bound) -> Vec<PlanCover> {
    let covers = bound.sites.iter().zip(0..).filter_map(|(entry, site)| {
        let cover = entry.covered?;
        let by = match cover {
            BoundCover::Check { by, .. } => row_of(bound, by),
            BoundCover::Fresh { .. } | BoundCover::AnyAddress => None,
        };
        Some(PlanCover {
            site,
            by,
            under: cover.under(),
        })
    });
    covers.collect()
}
