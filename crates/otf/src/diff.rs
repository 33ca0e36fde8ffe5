//! `otf diff`: what changed between two analyses (another kernel version, changed source).
//!
//! Rows are matched by what people call them, never by line or index, so that code which only
//! moved is no difference. Of several things of one name, those that are alike on both sides are
//! set off against each other first; the rest is compared in the order of the source.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use otf_artifact::{
    analysis::{AllocationSite, Analysis, Function, Gate, IndirectCall, Target, Write},
    ids::LegalSetId,
};
use serde_json::{Value, json};

use crate::{
    cli::{Diff, Format},
    files,
    render::{self, Failure},
};

/// What may change about a thing.
type Items = BTreeSet<String>;

/// Things by name, each with what may change about it.
type Described = BTreeMap<String, Vec<Items>>;

/// What a chapter is called, and what it says about an analysis.
type Chapter = (&'static str, fn(&Analysis) -> Described);

/// The chapters, in the order of the report.
const CHAPTERS: [Chapter; 5] = [
    ("types", types),
    ("allocation sites", allocations),
    ("gates", gates),
    ("writes", writes),
    ("indirect calls", calls),
];

/// A thing that is not the same on both sides.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    chapter: &'static str,
    name: String,
    /// Which side has it, when only one has.
    only: Option<Side>,
    removed: Vec<String>,
    added: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

/// Prints the differences; whether there are any.
pub fn diff(args: &Diff, format: Format) -> Result<bool, Failure> {
    let read = |dir: &Path| files::read_artifact::<Analysis>(&dir.join("analysis.json"));
    let changes = compare(&read(&args.before)?, &read(&args.after)?);
    match format {
        Format::Json => {
            let rows: Vec<Value> = changes.iter().map(Change::json).collect();
            render::line(&format!("{:#}", Value::Array(rows)))?;
        }
        Format::Text => {
            for change in &changes {
                render::line(&change.text())?;
            }
            let counts = CHAPTERS.map(|(chapter, _)| {
                let count = changes.iter().filter(|c| c.chapter == chapter).count();
                format!("{count} {chapter}")
            });
            render::line(&format!("changed: {}", counts.join(", ")))?;
        }
    }
    Ok(!changes.is_empty())
}

fn compare(before: &Analysis, after: &Analysis) -> Vec<Change> {
    CHAPTERS
        .iter()
        .flat_map(|(chapter, describe)| {
            chapter_changes(chapter, &describe(before), &describe(after))
        })
        .collect()
}

fn chapter_changes(chapter: &'static str, before: &Described, after: &Described) -> Vec<Change> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let of = |side: &Described, name: &String| side.get(name).cloned().unwrap_or_default();
    names
        .into_iter()
        .flat_map(|name| {
            let (old, new) = unlike(of(before, name), of(after, name));
            (0..old.len().max(new.len()))
                .map(move |row| change(chapter, name, old.get(row), new.get(row)))
        })
        .collect()
}

/// What is left on each side when what both have is taken away, copy by copy.
fn unlike(before: Vec<Items>, mut after: Vec<Items>) -> (Vec<Items>, Vec<Items>) {
    let mut left = Vec::new();
    for items in before {
        match after.iter().position(|other| *other == items) {
            Some(same) => drop(after.remove(same)),
            None => left.push(items),
        }
    }
    (left, after)
}

fn change(
    chapter: &'static str,
    name: &str,
    before: Option<&Items>,
    after: Option<&Items>,
) -> Change {
    let none = Items::new();
    let (old, new) = (before.unwrap_or(&none), after.unwrap_or(&none));
    Change {
        chapter,
        name: name.to_owned(),
        only: match (before, after) {
            (Some(_), None) => Some(Side::Before),
            (None, Some(_)) => Some(Side::After),
            _ => None,
        },
        removed: old.difference(new).cloned().collect(),
        added: new.difference(old).cloned().collect(),
    }
}

impl Change {
    fn text(&self) -> String {
        let sign = match self.only {
            Some(Side::Before) => "- ",
            Some(Side::After) => "+ ",
            None => "~ ",
        };
        let removed = self.removed.iter().map(|item| format!("\n    - {item}"));
        let added = self.added.iter().map(|item| format!("\n    + {item}"));
        let items: String = removed.chain(added).collect();
        format!("{sign}{}{items}", self.name)
    }

    fn json(&self) -> Value {
        json!({
            "chapter": self.chapter,
            "name": self.name,
            "only": self.only.map(|side| match side {
                Side::Before => "before",
                Side::After => "after",
            }),
            "removed": self.removed,
            "added": self.added,
        })
    }
}

fn describe(things: impl Iterator<Item = (String, Items)>) -> Described {
    let mut found = Described::new();
    for (name, items) in things {
        found.entry(name).or_default().push(items);
    }
    found
}

fn types(analysis: &Analysis) -> Described {
    // A synthetic type is named after a line: its allocation site speaks for it.
    let named = analysis.types.iter().filter(|ty| !ty.file.is_empty());
    describe(named.map(|ty| {
        let size = Items::from([format!("{} bytes", ty.size)]);
        (format!("{} ({})", ty.name, ty.file), size)
    }))
}

fn allocations(analysis: &Analysis) -> Described {
    describe(analysis.allocation_sites.iter().map(|site| {
        let name = format!("{} in {} ({})", site.callee, site.function, site.file);
        (name, allocation(site, analysis))
    }))
}

fn allocation(site: &AllocationSite, analysis: &Analysis) -> Items {
    let types = site
        .types
        .iter()
        .filter_map(|id| analysis.types.get(id.index()))
        .map(|ty| format!("gives {}", ty.name));
    let cache = site.cache.iter().map(|cache| format!("cache {cache}"));
    let bytes = site.size.iter().map(|n| format!("{n} bytes"));
    types.chain(cache).chain(bytes).collect()
}

fn gates(analysis: &Analysis) -> Described {
    let name = |gate: &Gate| format!("{} ({})", gate.function, gate.file);
    describe(analysis.gates.iter().map(|g| (name(g), gate_items(g))))
}

fn gate_items(gate: &Gate) -> Items {
    let reached = gate.reached_by.iter().map(|by| format!("reached by {by}"));
    let instance = match (&gate.instance_type, gate.instance_argument) {
        (Some(ty), Some(argument)) => format!("instance is argument {argument}, {ty}"),
        _ => "the whole compartment is the instance".to_owned(),
    };
    let refusal = format!("refuses with {}", gate.refusal.name);
    reached.chain([instance, refusal]).collect()
}

fn writes(analysis: &Analysis) -> Described {
    describe(analysis.functions.iter().flat_map(|function| {
        let of = |write: &Write| (write_name(function, write), allowed(analysis, write.target));
        function.writes.iter().map(of).collect::<Vec<_>>()
    }))
}

fn write_name(function: &Function, write: &Write) -> String {
    let kind = match serde_json::to_value(write.kind) {
        Ok(Value::String(kind)) => kind,
        _ => String::new(),
    };
    let size = match write.size {
        0 => "any number of bytes".to_owned(),
        bytes => format!("{bytes} bytes"),
    };
    format!("{} ({}): {kind} of {size}", function.name, function.file)
}

fn allowed(analysis: &Analysis, target: Target) -> Items {
    let items = |id: LegalSetId| {
        let set = analysis.legal_sets.get(id.index());
        set.map_or_else(Vec::new, |set| otf_policygen::items(set, analysis))
    };
    match target {
        Target::Set(id) => items(id).into_iter().collect(),
        Target::Parameter {
            index, otherwise, ..
        } => items(otherwise)
            .into_iter()
            .chain([format!("what the caller passes as argument {index}")])
            .collect(),
    }
}

fn calls(analysis: &Analysis) -> Described {
    describe(analysis.functions.iter().flat_map(|function| {
        let place = format!("{} ({})", function.name, function.file);
        let of = |call: &IndirectCall| {
            let name = format!("{place}: through {}", call.through);
            (name, reachable(analysis, call))
        };
        function.indirect_calls.iter().map(of).collect::<Vec<_>>()
    }))
}

fn reachable(analysis: &Analysis, call: &IndirectCall) -> Items {
    let Some(set) = analysis.target_sets.get(call.targets.index()) else {
        return Items::new();
    };
    let names = set
        .targets
        .iter()
        .filter_map(|id| analysis.targets.get(id.index()))
        .map(|target| format!("{}:{}", target.image, target.symbol));
    let any = set.any.iter().map(|why| format!("any function ({why})"));
    names.chain(any).collect()
}

#[cfg(test)]
mod tests {
    use super::{Change, Described, Items, Side, chapter_changes, describe};

    fn side(things: &[(&str, &[&str])]) -> Described {
        let items = |items: &[&str]| items.iter().map(|i| (*i).to_owned()).collect::<Items>();
        describe(
            things
                .iter()
                .map(|(name, i)| ((*name).to_owned(), items(i))),
        )
    }

    fn text(before: &[(&str, &[&str])], after: &[(&str, &[&str])]) -> Vec<String> {
        let changes = chapter_changes("types", &side(before), &side(after));
        changes.iter().map(Change::text).collect()
    }

    #[test]
    fn what_is_on_one_side_only_is_named_so() {
        let before = [("a", &["1", "2"][..]), ("b", &[]), ("same", &["x"])];
        let after = [("a", &["2", "3"][..]), ("c", &["4"]), ("same", &["x"])];
        assert_eq!(
            text(&before, &after),
            ["~ a\n    - 1\n    + 3", "- b", "+ c\n    + 4"]
        );
        let changes = chapter_changes("types", &side(&before), &side(&after));
        assert_eq!(changes[1].only, Some(Side::Before));
    }

    #[test]
    fn one_more_of_a_kind_is_one_difference() {
        let before = [("w", &["1"][..]), ("w", &["2"])];
        let after = [("w", &["new"][..]), ("w", &["1"]), ("w", &["2"])];
        assert_eq!(text(&before, &after), ["+ w\n    + new"]);
        assert!(text(&before, &before).is_empty());
    }
}
