//! What rows of the sites are called in a policy: short where that is unique, longer where not.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    analysis::{AllocationSite, Analysis},
    bundle::Plan,
    sites::{Location, SiteImage, Sites},
};

use crate::passed;

/// Names of the rows of one kind, by row.
#[derive(Clone, Debug)]
pub struct Names {
    by_row: Vec<String>,
    rows: BTreeMap<String, usize>,
}

impl Names {
    /// Takes for each row the first candidate that no other row has in the same position; the
    /// last candidates get a number where even they collide.
    fn new<const N: usize>(candidates: &[[String; N]]) -> Self {
        let mut uses: [BTreeMap<&str, usize>; N] = std::array::from_fn(|_| BTreeMap::new());
        for row in candidates {
            for (count, name) in uses.iter_mut().zip(row) {
                *count.entry(name).or_default() += 1;
            }
        }
        let mut names = Self {
            by_row: Vec::new(),
            rows: BTreeMap::new(),
        };
        for (index, row) in candidates.iter().enumerate() {
            let unique = (0..N)
                .find(|k| uses[*k][row[*k].as_str()] == 1)
                .map(|k| row[k].clone());
            let mut name = unique.unwrap_or_else(|| row.last().cloned().unwrap_or_default());
            while names.rows.contains_key(&name) {
                name = format!("{name}#{index}");
            }
            names.rows.insert(name.clone(), index);
            names.by_row.push(name);
        }
        names
    }

    /// Name of a row; empty for a row that does not exist.
    pub fn of(&self, row: usize) -> &str {
        self.by_row.get(row).map_or("", String::as_str)
    }

    /// Row of a name.
    pub fn row(&self, name: &str) -> Option<usize> {
        self.rows.get(name).copied()
    }

    /// All names, sorted.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.rows.keys().map(String::as_str)
    }
}

/// `struct qfq_group`, with ` of FILE` where two files define different ones.
pub fn types(analysis: &Analysis) -> Names {
    let candidates = |t: &otf_artifact::analysis::ObjectType| {
        [t.name.clone(), format!("{} of {}", t.name, t.file)]
    };
    Names::new(&analysis.types.iter().map(candidates).collect::<Vec<_>>())
}

/// `IMAGE:SYMBOL`, with ` of FILE` where an image has two such symbols.
pub fn globals(analysis: &Analysis) -> Names {
    let candidates = |g: &otf_artifact::analysis::Global| {
        let short = format!("{}:{}", g.image, g.symbol);
        [short.clone(), format!("{short} of {}", g.file)]
    };
    Names::new(&analysis.globals.iter().map(candidates).collect::<Vec<_>>())
}

/// `FILE:FUNCTION(PARAMETER)`; each parameter once, its first probe is the row.
pub fn passed(sites: &Sites) -> Names {
    let mut names = Names {
        by_row: Vec::new(),
        rows: BTreeMap::new(),
    };
    for (row, probe) in sites.passed_probes.iter().enumerate() {
        let name = passed::name(&probe.file, &probe.function, probe.parameter);
        names.rows.entry(name.clone()).or_insert(row);
        names.by_row.push(name);
    }
    names
}

/// `FILE:LINE:COLUMN`, with function and callee where several calls stand there.
pub fn allocations(analysis: &Analysis) -> Names {
    let candidates = |a: &AllocationSite| {
        let place = format!("{}:{}:{}", a.file, a.line, a.column);
        let in_function = format!("{place} in {}", a.function);
        let full = format!("{in_function} of {} by {}", a.image, a.callee);
        [place, in_function, full]
    };
    Names::new(
        &analysis
            .allocation_sites
            .iter()
            .map(candidates)
            .collect::<Vec<_>>(),
    )
}

/// `IMAGE:SYMBOL` of call targets, with ` of FILE` where an image has two such symbols.
pub fn targets(analysis: &Analysis) -> Names {
    let candidates = |t: &otf_artifact::analysis::CallTarget| {
        let short = format!("{}:{}", t.image, t.symbol);
        [short.clone(), format!("{short} of {}", t.file)]
    };
    Names::new(&analysis.targets.iter().map(candidates).collect::<Vec<_>>())
}

/// `IMAGE SYMBOL+0xOFFSET`, or `IMAGE SECTION+0xOFFSET` where two functions have the same name.
pub fn sites(sites: &Sites) -> Names {
    at(sites, sites.all().map(|s| &s.location))
}

/// The same of indirect calls.
pub fn calls(sites: &Sites) -> Names {
    at(sites, sites.calls.iter().map(|c| &c.location))
}

/// Machine calls of allocations, sorted.
pub fn allocation_calls(sites: &Sites) -> Vec<Location> {
    let calls = sites.allocation_probes.iter().map(|p| p.call.clone());
    calls.collect::<BTreeSet<_>>().into_iter().collect()
}

/// `IMAGE SYMBOL+0xOFFSET` of places in code, as those of sites.
pub fn places(sites: &Sites, places: &[Location]) -> Names {
    at(sites, places.iter())
}

/// The same of what a bundle checks, by row.
pub fn checked(plan: &Plan) -> Names {
    at_places(&plan.images, plan.checked().map(|row| &row.location))
}

fn at<'l>(sites: &Sites, locations: impl Iterator<Item = &'l Location>) -> Names {
    at_places(&sites.images, locations)
}

fn at_places<'l>(images: &[SiteImage], locations: impl Iterator<Item = &'l Location>) -> Names {
    let candidates = |l: &Location| {
        let image = images.get(l.image.index()).map_or("", |i| i.name.as_str());
        [
            format!("{image} {}+{:#x}", l.symbol, l.symbol_offset),
            format!("{image} {}+{:#x}", l.section, l.offset),
        ]
    };
    Names::new(&locations.map(candidates).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_where_unique_and_always_distinct() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let names = Names::new(&[
            row("a", "a of x"),
            row("b", "b of x"),
            row("a", "a of y"),
            row("a", "a of y"),
        ]);
        let all: Vec<_> = (0..4).map(|r| names.of(r)).collect();
        assert_eq!(all, ["a of x", "b", "a of y", "a of y#3"]);
        for (row, name) in all.iter().enumerate() {
            assert_eq!(names.row(name), Some(row));
        }
        assert_eq!(names.row("a"), None);
    }
}
