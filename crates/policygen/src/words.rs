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
    let mut parts = Vec::new();
    match set.stack {
        StackRule::None => {}
        StackRule::Own => parts.push("own stack frame".to_owned()),
        StackRule::Compartment => parts.push("stack frames since the gate".to_owned()),
        StackRule::Any => parts.push("any stack frame".to_owned()),
    }
    let globals = set
        .globals
        .iter()
        .filter_map(|id| analysis.globals.get(id.index()));
    let globals = globals.map(|g| format!("global {}:{}", g.image, g.symbol));
    parts.extend(first(globals.collect()));
    match &set.any_heap {
        Some(why) => parts.push(format!("any heap object ({why})")),
        None => parts.extend(first(set.heap.iter().map(|p| place(p, analysis)).collect())),
    }
    if let Some(why) = &set.any_global {
        parts.push(format!("any global ({why})"));
    }
    if set.per_cpu {
        parts.push("per-CPU memory".to_owned());
    }
    if set.user {
        parts.push("user memory".to_owned());
    }
    if parts.is_empty() {
        "nothing".to_owned()
    } else {
        parts.join("; ")
    }
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
