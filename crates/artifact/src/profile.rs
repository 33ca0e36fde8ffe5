//! `profile.json`: how often each checked place of a compartment was reached. Written by `otf-load profile`, priced by
//! `otf cost`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Artifact, FORMAT_VERSION};

/// Counts since the load, or since an earlier profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// [`crate::FORMAT_VERSION`].
    pub version: u32,
    /// Compartment, with `@overlay` when one was applied.
    pub compartment: String,
    /// `uname -r` of the kernel.
    pub release: String,
    /// SHA-256 of the bundle that counted.
    pub bundle: String,
    /// What was done meanwhile, if it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// Runs of programs by name; empty where the kernel did not count them, or perf owns the probes:
    /// then programs run for every free of the machine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub runs: BTreeMap<String, u64>,
    /// Every place that the bundle has a check at under the action of its load, those that were not
    /// reached included; sorted.
    pub places: Vec<PlaceHits>,
}

/// What was done while a profile counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Name.
    pub name: String,
    /// How often.
    pub count: u64,
    /// Instructions that one takes without a policy, if they were measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
}

/// What a program does when it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Judges a write, a free or a call.
    Check,
    /// Notes something at a gate, an entry or an allocation.
    Note,
    /// Looks at an object that somebody frees.
    Free,
}

/// What a program of that name does.
pub fn work_of(program: &str) -> Work {
    match program {
        "otf_site" | "otf_call" | "otf_return" | "otf_slot" => Work::Check,
        free if free.starts_with("otf_free") || free == "otf_vfree" => Work::Free,
        _ => Work::Note,
    }
}

/// How often one place was reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlaceHits {
    /// `vmlinux` or a module.
    pub image: String,
    /// Its section; for `vmlinux` the offset is from `_text`.
    pub section: String,
    /// Bytes from there.
    pub offset: u64,
    /// Checks.
    pub hits: u64,
}

/// Places by image, section and offset.
pub type HitsByPlace<'p> = BTreeMap<(&'p str, &'p str, u64), u64>;

impl Artifact for Profile {
    const NAME: &'static str = "profile";
    fn version(&self) -> u32 {
        self.version
    }
}

impl Profile {
    /// The counts by place.
    pub fn by_place(&self) -> HitsByPlace<'_> {
        self.places
            .iter()
            .map(|p| ((p.image.as_str(), p.section.as_str(), p.offset), p.hits))
            .collect()
    }

    /// What was counted since an earlier profile of the same load.
    ///
    /// # Errors
    /// Words that say why the two do not belong together.
    pub fn since(&self, earlier: &Self) -> Result<Self, String> {
        if self.bundle != earlier.bundle {
            return Err("the earlier profile is that of another bundle".to_owned());
        }
        let before = earlier.by_place();
        let mut since = self.clone();
        for place in &mut since.places {
            let key = (place.image.as_str(), place.section.as_str(), place.offset);
            let counted = before.get(&key).copied().unwrap_or(0);
            place.hits = place
                .hits
                .checked_sub(counted)
                .ok_or("the earlier profile counts more: the bundle was loaded anew in between")?;
        }
        if earlier.runs.is_empty() {
            // What ran before the kernel began to count is not known.
            since.runs.clear();
        }
        for (program, runs) in &mut since.runs {
            *runs = runs.saturating_sub(earlier.runs.get(program).copied().unwrap_or(0));
        }
        Ok(since)
    }

    /// Runs of programs that do such work; nothing where runs were not counted.
    pub fn runs_of(&self, work: Work) -> Option<u64> {
        let mine = self.runs.iter();
        let mine = mine.filter(|(program, _)| work_of(program) == work);
        (!self.runs.is_empty()).then(|| mine.map(|(_, runs)| runs).sum())
    }
}

/// `prices.json`: instructions of one hit, as `make bench-runtime` measured them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    /// [`crate::FORMAT_VERSION`].
    pub version: u32,
    /// From what: compartments and operations, joined by `/`.
    pub from: Vec<String>,
    /// Of a check of a write, a free or an indirect call, probe and all.
    pub check: f64,
    /// Of a note: at gates, entries and allocations.
    pub note: f64,
    /// Of an object that anybody frees.
    pub free: f64,
}

impl Artifact for Prices {
    const NAME: &'static str = "prices";
    fn version(&self) -> u32 {
        self.version
    }
}

impl Prices {
    /// Prices of this format.
    pub fn new(from: Vec<String>, [check, note, free]: [f64; 3]) -> Self {
        Self {
            version: FORMAT_VERSION,
            from,
            check,
            note,
            free,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(bundle: &str, hits: u64) -> Profile {
        Profile {
            version: FORMAT_VERSION,
            bundle: bundle.to_owned(),
            places: vec![PlaceHits {
                image: "vmlinux".into(),
                section: String::new(),
                offset: 16,
                hits,
            }],
            ..Profile::default()
        }
    }

    #[test]
    fn earlier_counts_are_taken_off() {
        let since = profile("a", 30).since(&profile("a", 10)).unwrap();
        assert_eq!(since.by_place()[&("vmlinux", "", 16)], 20);
        assert!(profile("a", 30).since(&profile("b", 10)).is_err());
        assert!(profile("a", 3).since(&profile("a", 10)).is_err());
    }

    #[test]
    fn runs_are_those_since_both_counted() {
        let with = |runs: &[(&str, u64)]| Profile {
            runs: runs.iter().map(|(n, r)| ((*n).to_owned(), *r)).collect(),
            ..profile("a", 30)
        };
        let later = with(&[("otf_site", 9), ("otf_gate", 5), ("otf_free_slab", 3)]);
        let since = later.since(&with(&[("otf_gate", 1)])).unwrap();
        let of = |work| since.runs_of(work);
        assert_eq!(of(Work::Check), Some(9));
        assert_eq!(of(Work::Note), Some(4));
        assert_eq!(of(Work::Free), Some(3));
        let began = later.since(&profile("a", 10)).unwrap();
        assert_eq!(began.runs_of(Work::Note), None);
    }
}
