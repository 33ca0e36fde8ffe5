//! `otf diff`: what changed between two analyses (another kernel version, changed source).
//!
//! Rows are matched by what people call them, never by line or index, so that code which only
//! moved is no difference. Two writes or calls of one function with the same meaning are told
//! apart by their number.

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

/// Things by name, each with what may change about it.
type Described = BTreeMap<String, BTreeSet<String>>;

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
    let none = BTreeSet::new();
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| {
            let old = before.get(name).unwrap_or(&none);
            let new = after.get(name).unwrap_or(&none);
            Change {
                chapter,
                name: name.clone(),
                only: match (before.contains_key(name), after.contains_key(name)) {
                    (true, false) => Some(Side::Before),
                    (false, true) => Some(Side::After),
                    _ => None,
                },
                removed: old.difference(new).cloned().collect(),
                added: new.difference(old).cloned().collect(),
            }
        })
        .collect()
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

/// Adds something under a name that only it has.
fn number(into: &mut Described, name: String, items: BTreeSet<String>) {
    let mut free = name.clone();
    let mut copies = 1;
    while into.contains_key(&free) {
        copies += 1;
        free = format!("{name} ({copies})");
    }
    into.insert(free, items);
}

fn types(analysis: &Analysis) -> Described {
    let mut found = Described::new();
    for ty in &analysis.types {
        // A synthetic type is named after a line: its allocation site speaks for it.
        if !ty.file.is_empty() {
            number(
                &mut found,
                format!("{} ({})", ty.name, ty.file),
                BTreeSet::from([format!("{} bytes", ty.size)]),
            );
        }
    }
    found
}

fn allocations(analysis: &Analysis) -> Described {
    let mut found = Described::new();
    for site in &analysis.allocation_sites {
        let name = format!("{} in {} ({})", site.callee, site.function, site.file);
        number(&mut found, name, allocation(site, analysis));
    }
    found
}

fn allocation(site: &AllocationSite, analysis: &Analysis) -> BTreeSet<String> {
    let types = site
        .types
        .iter()
        .filter_map(|id| analysis.types.get(id.index()))
        .map(|ty| format!("gives {}", ty.name));
    let cache = site.cache.iter().map(|cache| format!("cache {cache}"));
    let size = site.size.iter().map(|size| format!("{size} bytes"));
    types.chain(cache).chain(size).collect()
}

fn gates(analysis: &Analysis) -> Described {
    let mut found = Described::new();
    for gate in &analysis.gates {
        let name = format!("{} ({})", gate.function, gate.file);
        number(&mut found, name, gate_items(gate));
    }
    found
}

fn gate_items(gate: &Gate) -> BTreeSet<String> {
    let reached = gate.reached_by.iter().map(|by| format!("reached by {by}"));
    let instance = match (&gate.instance_type, gate.instance_argument) {
        (Some(ty), Some(argument)) => format!("instance is argument {argument}, {ty}"),
        _ => "the whole compartment is the instance".to_owned(),
    };
    let refusal = format!("refuses with {}", gate.refusal.name);
    reached.chain([instance, refusal]).collect()
}

fn writes(analysis: &Analysis) -> Described {
    let mut found = Described::new();
    for function in &analysis.functions {
        for write in &function.writes {
            number(
                &mut found,
                write_name(function, write),
                allowed(analysis, write.target),
            );
        }
    }
    found
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

fn allowed(analysis: &Analysis, target: Target) -> BTreeSet<String> {
    let items = |id: LegalSetId| {
        let set = analysis.legal_sets.get(id.index());
        set.map_or_else(Vec::new, |set| otf_policygen::items(set, analysis))
    };
    match target {
        Target::Set(id) => items(id).into_iter().collect(),
        Target::Parameter { index, otherwise } => items(otherwise)
            .into_iter()
            .chain([format!("what the caller passes as argument {index}")])
            .collect(),
    }
}

fn calls(analysis: &Analysis) -> Described {
    let mut found = Described::new();
    for function in &analysis.functions {
        for call in &function.indirect_calls {
            let name = format!(
                "{} ({}): through {}",
                function.name, function.file, call.through
            );
            number(&mut found, name, reachable(analysis, call));
        }
    }
    found
}

fn reachable(analysis: &Analysis, call: &IndirectCall) -> BTreeSet<String> {
    let Some(set) = analysis.target_sets.get(call.targets.index()) else {
        return BTreeSet::new();
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
    use super::{Side, chapter_changes, number};
    use std::collections::{BTreeMap, BTreeSet};

    fn items(items: &[&str]) -> BTreeSet<String> {
        items.iter().map(|i| (*i).to_owned()).collect()
    }

    #[test]
    fn what_is_on_one_side_only_is_named_so() {
        let before = BTreeMap::from([
            ("a".to_owned(), items(&["1", "2"])),
            ("b".to_owned(), items(&[])),
            ("same".to_owned(), items(&["x"])),
        ]);
        let after = BTreeMap::from([
            ("a".to_owned(), items(&["2", "3"])),
            ("c".to_owned(), items(&["4"])),
            ("same".to_owned(), items(&["x"])),
        ]);
        let changes = chapter_changes("types", &before, &after);
        let text: Vec<String> = changes.iter().map(super::Change::text).collect();
        assert_eq!(text, ["~ a\n    - 1\n    + 3", "- b", "+ c\n    + 4"]);
        assert_eq!(changes[1].only, Some(Side::Before));
    }

    #[test]
    fn things_of_one_name_are_numbered() {
        let mut found = BTreeMap::new();
        number(&mut found, "w".into(), items(&["1"]));
        number(&mut found, "w".into(), items(&["2"]));
        assert!(found.keys().eq(["w", "w (2)"]));
    }
}
