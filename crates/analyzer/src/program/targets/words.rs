//! Where function pointers come from, in words for people.

use std::collections::BTreeSet;

use crate::{
    program::Program,
    slots::{Place, Unknown},
};

/// A pointer from memory without a type.
pub(super) const UNTYPED: &str = "untyped memory";

/// Ways that are named before the others are counted.
const NAMED: usize = 3;

/// A place of a file.
pub(super) fn through(program: &Program<'_>, file: usize, place: Place) -> String {
    let facts = program.files[file].1;
    let slots = &facts.slots;
    let function = |symbol| {
        let symbol = slots.name(symbol);
        let at = program.callee(file, symbol);
        at.map_or(symbol, |at| program.function(at).name.as_str())
    };
    match place {
        Place::Function(symbol) => function(symbol).to_owned(),
        Place::Member(row) => {
            let slot = slots.members[row as usize];
            let (record, member) = (slots.name(slot.record.name), slots.name(slot.member));
            match slot.outer {
                None => format!("{record}.{member}"),
                Some((outer, name)) => {
                    let outer = slots.name(outer.name);
                    format!("{record}.{member} in {outer}.{}", slots.name(name))
                }
            }
        }
        Place::Variable(row) => facts.globals[row as usize].symbol.clone(),
        Place::Parameter(symbol, index) => format!("parameter {index} of {}", function(symbol)),
        Place::Result(symbol) => format!("result of {}", function(symbol)),
        Place::Passed(index, _) => format!("argument {index}"),
        Place::Unknown(Unknown::Untyped, _) => UNTYPED.into(),
        Place::Unknown(Unknown::Data, _) => "a pointer to data".into(),
        Place::Unknown(Unknown::Computed, _) => "arithmetic or assembly".into(),
    }
}

/// Several ways as one text.
pub(super) fn all(ways: &BTreeSet<String>) -> String {
    let named: Vec<&str> = ways.iter().take(NAMED).map(String::as_str).collect();
    let mut text = named.join(" or ");
    if text.is_empty() {
        text = "a constant".into();
    }
    if ways.len() > NAMED {
        let others = ways.len() - NAMED;
        return format!("{text} or {others} others");
    }
    text
}

/// The first of several reasons, with the number of others.
pub(super) fn reason(reasons: &BTreeSet<String>) -> Option<String> {
    let first = reasons.first()?;
    Some(match reasons.len() {
        1 => first.clone(),
        more => format!("{first} (and {} more)", more - 1),
    })
}
