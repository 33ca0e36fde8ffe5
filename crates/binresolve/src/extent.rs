//! Which code of an image belongs to the compartment.

use std::collections::BTreeSet;

use crate::{
    decode::is_filler,
    dwarf::{UnitIndex, UnitRanges},
    image::{Image, Problem, Section},
    tables::Tables,
};

/// What of an image is confined.
#[derive(Clone, Copy, Debug)]
pub enum Confinement<'a> {
    /// Nothing: the image is read for allocation calls, variables and call targets.
    Outside,
    /// All its code.
    Whole,
    /// The code of these source files, named as in the kernel tree.
    Files(&'a BTreeSet<String>),
}

/// Alignment leaves less than this between two functions or files.
const MOST_FILLER: u64 = 128;
/// Debug information of code that the linker dropped names addresses below this.
const DROPPED: u64 = 0x10_0000;
/// Section of the code that replaces other code.
const TEMPLATES: &str = ".altinstr_replacement";
/// Section of the code that decides by CPU feature until alternatives are applied.
const UNDECIDED: &str = ".altinstr_aux";

/// Code of the compartment in one image.
#[derive(Clone, Debug, Default)]
pub struct Extent {
    /// `[start, end)`, sorted and disjoint: the code that the compartment's source files became.
    pub ranges: Vec<(u64, u64)>,
    /// Code that the kernel patches into these ranges, or enters from them until it is patched.
    pub patches: Vec<(u64, u64)>,
}

impl Extent {
    /// Every executable section.
    pub fn whole(image: &Image<'_>) -> Self {
        Self {
            ranges: code_sections(image)
                .map(|s| (s.base, s.base + s.size))
                .collect(),
            patches: Vec::new(),
        }
    }

    /// The code of some source files. A module's code that no other file claims is taken for
    /// theirs; of `vmlinux` only what debug information gives them.
    ///
    /// # Errors
    /// When a file is in no compilation unit, none has code, or a unit's code lies where the image
    /// has none.
    pub fn of_files(
        image: &Image<'_>,
        tables: &Tables,
        units: &UnitIndex<'_>,
        files: &BTreeSet<String>,
    ) -> Result<Self, Problem> {
        let missing = files.iter().find(|file| !units.has(file));
        if let Some(file) = missing {
            return Err(format!(
                "{file} is no compilation unit of {}: {}",
                image.name,
                if units.is_empty() {
                    "it has no debug information"
                } else {
                    "it is not built, or part of another image"
                }
            ));
        }
        let (own, others): (Vec<UnitRanges>, Vec<UnitRanges>) = units
            .ranges(|name| image.relocatable() || files.contains(name))
            .map_err(|e| format!("debug information of {}: {e}", image.name))?
            .into_iter()
            .partition(|unit| files.contains(&unit.name));
        let claimed = claims(image, &own)?;
        if claimed.is_empty() {
            return Err(format!("the confined files have no code in {}", image.name));
        }
        let ranges = if image.relocatable() {
            subtract(Self::whole(image).ranges, &claims(image, &others)?)
        } else {
            claimed
        };
        let mut extent = Self {
            ranges: join(image, ranges),
            patches: Vec::new(),
        };
        extent.patches = extent.patches(image, tables);
        Ok(extent)
    }

    /// Whether the address is code of the compartment's files.
    pub fn holds(&self, address: u64) -> bool {
        let end = self.ranges.partition_point(|(start, _)| *start <= address);
        end > 0 && address < self.ranges[end - 1].1
    }

    /// All code to be looked at.
    pub fn all(&self) -> Vec<(u64, u64)> {
        let mut all = self.ranges.clone();
        all.extend_from_slice(&self.patches);
        normalise(all)
    }

    fn patches(&self, image: &Image<'_>, tables: &Tables) -> Vec<(u64, u64)> {
        let mut patches: Vec<(u64, u64)> = tables
            .alternatives
            .iter()
            .filter(|a| self.holds(a.original.0) && a.replacement.0 < a.replacement.1)
            .map(|a| a.replacement)
            .collect();
        // Few bytes that write nothing: all of it is looked at, so that flow can be followed.
        let undecided = image.section(UNDECIDED);
        patches.extend(undecided.map(|s| (s.base, s.base + s.size)));
        patches.retain(|(start, end)| !(self.holds(*start) && self.holds(end - 1)));
        normalise(patches)
    }

    /// Ranges for the artifact: those of the files as they are, patches by their section.
    pub fn sections<'i>(&self, image: &'i Image<'_>) -> Vec<(&'i str, u64, u64)> {
        let mut result: Vec<(&str, u64, u64)> = Vec::new();
        for (start, end) in &self.ranges {
            if let Some(section) = image.section_at(*start) {
                result.push((section.name, *start, *end));
            }
        }
        let first = result.len();
        for (start, end) in &self.patches {
            let Some(section) = image.section_at(*start) else {
                continue;
            };
            match result[first..].iter_mut().find(|r| r.0 == section.name) {
                Some(range) => *range = (range.0, range.1.min(*start), range.2.max(*end)),
                None => result.push((section.name, *start, *end)),
            }
        }
        result.sort_unstable();
        result
    }
}

fn code_sections<'i, 'd>(image: &'i Image<'d>) -> impl Iterator<Item = &'i Section<'d>> {
    let sections = image.sections.iter();
    sections.filter(|s| s.executable && s.size > 0)
}

/// Whether code of a section never runs where it lies.
pub fn is_template(section: &str) -> bool {
    section.starts_with(TEMPLATES)
}

/// The ranges of units, which must lie in the code of the image.
fn claims(image: &Image<'_>, units: &[UnitRanges]) -> Result<Vec<(u64, u64)>, Problem> {
    let mut claimed = Vec::new();
    for unit in units {
        for (start, end) in &unit.ranges {
            if *start < DROPPED {
                continue;
            }
            let section = image.section_at(*start).filter(|s| s.executable);
            if section.is_none_or(|s| *end > s.base + s.size) {
                return Err(format!(
                    "debug information contradicts the image: it has code of {} at {start:#x}, \
                     where {} has none",
                    unit.name, image.name
                ));
            }
            claimed.push((*start, *end));
        }
    }
    Ok(normalise(claimed))
}

/// Sorts and joins ranges that overlap or touch.
fn normalise(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut result: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match result.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => result.push((start, end)),
        }
    }
    result
}

/// What is left of sorted, disjoint ranges.
fn subtract(ranges: Vec<(u64, u64)>, holes: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut result = Vec::new();
    for (mut start, end) in ranges {
        let first = holes.partition_point(|hole| hole.1 <= start);
        for hole in &holes[first..] {
            if hole.0 >= end {
                break;
            }
            if start < hole.0 {
                result.push((start, hole.0));
            }
            start = start.max(hole.1);
        }
        if start < end {
            result.push((start, end));
        }
    }
    result
}

/// Joins ranges of one section between which there is only filler: a checker of addresses has few
/// rows. Drops ranges that are nothing else.
fn join(image: &Image<'_>, ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let filler = |start: u64, end: u64| {
        let section = image.section_at(start)?;
        let from = usize::try_from(start - section.base).ok()?;
        let to = usize::try_from(end.checked_sub(section.base)?).ok()?;
        Some(is_filler(section.data.get(from..to)?, start))
    };
    let mut result: Vec<(u64, u64)> = Vec::new();
    for (start, end) in ranges {
        if end - start < MOST_FILLER && filler(start, end) == Some(true) {
            continue;
        }
        match result.last_mut() {
            Some(last)
                if start >= last.1
                    && start - last.1 < MOST_FILLER
                    && filler(last.1, start) == Some(true) =>
            {
                last.1 = end;
            }
            _ => result.push((start, end)),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((0u64..200, 1u64..20), 0..12)
            .prop_map(|list| list.into_iter().map(|(s, n)| (s, s + n)).collect())
    }

    fn holds(ranges: &[(u64, u64)], at: u64) -> bool {
        ranges
            .iter()
            .any(|(start, end)| (*start..*end).contains(&at))
    }

    proptest! {
        #[test]
        fn normal_ranges_hold_the_same(list in ranges()) {
            let normal = normalise(list.clone());
            prop_assert!(normal.windows(2).all(|w| w[0].1 < w[1].0));
            let extent = Extent { ranges: normal.clone(), patches: Vec::new() };
            for at in 0..230 {
                prop_assert_eq!(holds(&list, at), holds(&normal, at));
                prop_assert_eq!(holds(&list, at), extent.holds(at));
            }
        }

        #[test]
        fn subtraction_leaves_exactly_the_rest(list in ranges(), holes in ranges()) {
            let rest = subtract(normalise(list.clone()), &normalise(holes.clone()));
            for at in 0..230 {
                prop_assert_eq!(holds(&rest, at), holds(&list, at) && !holds(&holes, at));
            }
        }
    }
}
