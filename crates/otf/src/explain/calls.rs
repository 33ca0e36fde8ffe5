//! An indirect call for people: where its pointer comes from, where it may lead, what deny does.

use std::collections::BTreeSet;

use otf_artifact::{
    analysis::Analysis,
    sites::{CallSite, Coverage, Sites},
};

/// What is known about a call.
pub fn describe(
    sites: &Sites,
    source: &Analysis,
    call: &CallSite,
    left: Option<&String>,
) -> String {
    let mut lines = vec![format!(
        "{}+{:#x}  {}",
        call.location.symbol, call.location.symbol_offset, call.text
    )];
    for frame in &call.chain {
        lines.push(format!(
            "  at {} ({}:{})",
            frame.function, frame.file, frame.line
        ));
    }
    for way in pointers(source, call) {
        lines.push(format!("  pointer: {way}"));
    }
    lines.push(format!("  precision: {:?}", call.precision).to_lowercase());
    lines.push(match &call.coverage {
        Coverage::Probe => super::probe(left),
        Coverage::Proven(why) => format!("  coverage: proven ({why})"),
        Coverage::Unprobable(why) => format!("  coverage: none ({why})"),
    });
    let gates: Vec<&str> = call
        .unwind_gates
        .iter()
        .filter_map(|gate| sites.analysis.gates.get(gate.index()))
        .map(|gate| gate.function.as_str())
        .collect();
    let left_out = if call.jump {
        "returns 0 to the function's caller"
    } else {
        "leaves the call out, as if it had returned 0"
    };
    lines.push(if gates.is_empty() {
        format!("  deny: {left_out}")
    } else {
        format!(
            "  deny: unwinds to {}; from elsewhere {left_out}",
            gates.join(", ")
        )
    });
    lines.extend(targets(sites, call));
    lines.join("\n")
}

/// Where the source takes the function's address from.
fn pointers<'a>(source: &'a Analysis, call: &CallSite) -> BTreeSet<&'a str> {
    let Some(place) = call.chain.first() else {
        return BTreeSet::new();
    };
    source
        .functions
        .iter()
        .filter(|f| f.name == place.function)
        .flat_map(|f| &f.indirect_calls)
        .filter(|c| c.line == place.line)
        .map(|c| c.through.as_str())
        .collect()
}

/// Every target, and which of them have no address.
fn targets(sites: &Sites, call: &CallSite) -> Vec<String> {
    let Some(set) = sites.target_sets.get(call.targets.index()) else {
        return Vec::new();
    };
    let known: BTreeSet<_> = sites.target_symbols.iter().map(|s| s.target).collect();
    let mut lines: Vec<String> = set
        .targets
        .iter()
        .filter_map(|id| Some((id, sites.analysis.targets.get(id.index())?)))
        .map(|(id, target)| {
            let unknown = if known.contains(id) {
                ""
            } else {
                " (in no image that was given: any function is accepted)"
            };
            format!("  may call: {}:{}{unknown}", target.image, target.symbol)
        })
        .collect();
    match &set.any {
        Some(why) => lines.push(format!("  may call: any function ({why})")),
        None if set.targets.is_empty() => {
            lines.push("  may call: any function (no target was found)".to_owned());
        }
        None => {}
    }
    lines
}
