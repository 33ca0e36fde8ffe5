//! A legal set in words, for events and reports.

use std::fmt::Write as _;

use otf_artifact::{
    analysis::{Analysis, HeapPlace, LegalSet, StackRule},
    ids::ObjectTypeId,
};

/// Items of one kind that are spelled out.
const MOST: usize = 6;

/// What a set allows, in one line.
pub fn describe(set: &LegalSet, analysis: &Analysis) -> String {
    let parts: Vec<String> = kinds(set, analysis).into_iter().flat_map(first).collect();
    if parts.is_empty() {
        "nothing".to_owned()
    } else {
        parts.join("; ")
    }
}

/// Everything that a set allows, one item each, in the order of the set.
pub fn items(set: &LegalSet, analysis: &Analysis) -> Vec<String> {
    kinds(set, analysis).concat()
}

/// The same by kind of memory.
fn kinds(set: &LegalSet, analysis: &Analysis) -> Vec<Vec<String>> {
    let stack = match set.stack {
        StackRule::None => None,
        StackRule::Own => Some("own stack frame"),
        StackRule::Compartment => Some("stack frames since the gate"),
        StackRule::Any => Some("any stack frame"),
    };
    let passed = set.passed.iter().map(|p| {
        format!(
            "{} bytes of stack that parameter {} of {} points to",
            p.size, p.parameter, p.function
        )
    });
    let globals = set
        .globals
        .iter()
        .filter_map(|id| analysis.globals.get(id.index()))
        .map(|g| format!("global {}:{}", g.image, g.symbol));
    let heap = match &set.any_heap {
        Some(why) => vec![format!("any heap object ({why})")],
        None => set.heap.iter().map(|p| place(p, analysis)).collect(),
    };
    let any_global = set.any_global.iter();
    vec![
        stack.into_iter().map(str::to_owned).chain(passed).collect(),
        globals.collect(),
        heap,
        any_global
            .map(|why| format!("any global ({why})"))
            .collect(),
        set.per_cpu
            .then(|| "per-CPU memory".to_owned())
            .into_iter()
            .collect(),
        set.user
            .then(|| "user memory".to_owned())
            .into_iter()
            .collect(),
    ]
}

fn place(place: &HeapPlace, analysis: &Analysis) -> String {
    let name = |id: ObjectTypeId| {
        analysis
            .types
            .get(id.index())
            .map_or("?", |t| t.name.as_str())
    };
    // Of a structure that is narrowed to a field, the bytes of the field.
    let size = analysis.types.get(place.target.index()).map(|t| t.size);
    let whole = place.size == HeapPlace::TO_END || Some(place.size) == size;
    let part = if whole {
        String::new()
    } else {
        format!("{} bytes of ", place.size)
    };
    if place.target == place.container && place.dimensions.is_empty() && place.offset == 0 {
        return format!("{part}{}", name(place.target));
    }
    let mut text = format!(
        "{part}{} in {} at {}",
        name(place.target),
        name(place.container),
        place.offset
    );
    for (dimension, variable) in place.dimensions.iter().zip(["i", "j"]) {
        // Writing to a String cannot fail.
        let _ = write!(text, " + {} {variable}", dimension.stride);
        if dimension.count > 0 {
            let _ = write!(text, " ({variable} < {})", dimension.count);
        }
    }
    text
}

fn first(mut items: Vec<String>) -> Vec<String> {
    items.dedup();
    let more = items.len().saturating_sub(MOST);
    if more > 0 {
        items.truncate(MOST);
        items.push(format!("{more} more"));
    }
    items
}
