//! How often one operation reaches what a bundle checks, from a profile of its compartment.

use otf_artifact::{
    bundle::Plan,
    profile::{Profile, Work},
};

/// How often one place is reached in one operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hits {
    /// As it was counted.
    Counted(f64),
    /// It had no check of its own when the profile was made: as often as the check that covered it.
    Leader(f64),
    /// The profile does not know the place.
    Unknown,
}

impl Hits {
    /// The number, 0 where it is not known.
    pub fn number(self) -> f64 {
        match self {
            Self::Counted(hits) | Self::Leader(hits) => hits,
            Self::Unknown => 0.0,
        }
    }
}

/// What one operation reaches.
#[derive(Clone, Debug, PartialEq)]
pub struct Frequency {
    /// By row of [`Plan::checked`].
    pub hits: Vec<Hits>,
    /// Notes at gates, entries and allocations; nothing where they were not counted.
    pub notes: Option<f64>,
    /// Looks at objects that somebody frees, likewise.
    pub frees: Option<f64>,
}

impl Frequency {
    /// Of so many operations.
    pub fn new(plan: &Plan, profile: &Profile, operations: u64) -> Self {
        let operations = operations.max(1) as f64;
        let counts = profile.by_place();
        let counted: Vec<Option<f64>> = plan
            .checked()
            .map(|row| {
                let location = &row.location;
                let image = plan.images.get(location.image.index())?;
                let key = (
                    image.name.as_str(),
                    location.section.as_str(),
                    location.offset,
                );
                counts.get(&key).map(|hits| *hits as f64 / operations)
            })
            .collect();
        let known = counted.iter().copied();
        let mut hits: Vec<Hits> = known
            .map(|hits| hits.map_or(Hits::Unknown, Hits::Counted))
            .collect();
        for cover in &plan.covered {
            let leader = cover
                .by
                .and_then(|by| counted.get(by as usize).copied().flatten());
            if let (Some(leader), Some(own @ Hits::Unknown)) =
                (leader, hits.get_mut(cover.site as usize))
            {
                *own = Hits::Leader(leader);
            }
        }
        let runs = |work| profile.runs_of(work).map(|runs| runs as f64 / operations);
        Self {
            hits,
            notes: runs(Work::Note),
            frees: runs(Work::Free),
        }
    }

    /// Of a row.
    pub fn of(&self, row: u32) -> Hits {
        let hits = self.hits.get(row as usize);
        hits.copied().unwrap_or(Hits::Unknown)
    }
}
