//! Says in words what the analysis found at a line.

use otf_analyzer::{Request, analyze};
use otf_artifact::{
    analysis::{AllocationSite, Analysis, Gate, HeapPlace, LegalSet, Refusal, StackRule, Target},
    ids::{LegalSetId, ObjectTypeId, TargetSetId},
};

use crate::common::{cases, unit};

/// Analysis of a snippet with the files and tables that its `//@` lines ask for.
pub fn analysis(name: &str) -> Analysis {
    let text = std::fs::read_to_string(cases().join(name)).expect("a snippet");
    let mut files = vec![unit(name, true)];
    let mut request = Request {
        kernel: "test".into(),
        compartment: name.into(),
        ..Request::default()
    };
    for line in text.lines().filter_map(|l| l.strip_prefix("//@ ")) {
        let (key, value) = line.split_once(": ").expect("//@ key: value");
        match key {
            "scope" => files.push(unit(value, false)),
            "complete" => {
                request.complete.insert(value.into());
            }
            "closed" => {
                request.closed_headers.insert(value.into());
            }
            "whole" => request.whole = value == "yes",
            "refusal" => {
                let (member, refusal) = value.split_once(" = ").expect("Table.member = refusal");
                let (number, word) = refusal.split_once(' ').expect("number and word");
                let refusal = Refusal {
                    value: number.parse().expect("a number"),
                    name: word.into(),
                };
                request.refusals.insert(member.into(), refusal);
            }
            other => panic!("unknown key {other}"),
        }
    }
    analyze(&files, &request).expect("a sound analysis")
}

/// Words for what a tag asks about a line: `write`, `pass`, `call`, `alloc`, `why` (the types of an allocation) or `gate`.
pub fn say(analysis: &Analysis, file: &str, line: u32, tag: &str) -> String {
    let mut said = Vec::new();
    for function in analysis.functions.iter().filter(|f| f.file == file) {
        match tag {
            "write" => {
                for write in function.writes.iter().filter(|w| w.line == line) {
                    let kind = format!("{:?}", write.kind).to_lowercase();
                    let target = target(analysis, write.target);
                    said.push(format!("{kind} {}: {target}", write.size));
                }
            }
            "call" => {
                for call in function.indirect_calls.iter().filter(|c| c.line == line) {
                    let targets = call_targets(analysis, call.targets);
                    said.push(format!("{}: {targets}", call.through));
                }
            }
            "pass" => {
                for call in function.calls.iter().filter(|c| c.line == line) {
                    let arguments: Vec<String> = call
                        .arguments
                        .iter()
                        .map(|a| a.map_or("-".into(), |a| target(analysis, a)))
                        .collect();
                    said.push(format!("{}({})", call.callee, arguments.join("; ")));
                }
            }
            _ => {}
        }
    }
    if tag == "alloc" {
        let sites = analysis.allocation_sites.iter();
        for site in sites.filter(|s| s.file == file && s.line == line) {
            said.push(allocation(analysis, site));
        }
    }
    if tag == "why" {
        let sites = analysis.allocation_sites.iter();
        let here = sites.filter(|s| s.file == file && s.line == line);
        said.extend(here.flat_map(|s| s.because.clone()));
    }
    if tag == "gate" {
        let name = analysis
            .functions
            .iter()
            .find(|f| f.file == file && f.line == line);
        let gates = analysis.gates.iter().filter(|g| g.file == file);
        said.extend(
            gates
                .filter(|g| Some(&g.function) == name.map(|f| &f.name))
                .map(gate),
        );
    }
    if said.is_empty() {
        "nothing".into()
    } else {
        said.join(" && ")
    }
}

fn call_targets(analysis: &Analysis, id: TargetSetId) -> String {
    let set = &analysis.target_sets[id.index()];
    let mut names: Vec<&str> = set
        .targets
        .iter()
        .map(|t| analysis.targets[t.index()].symbol.as_str())
        .collect();
    if names.is_empty() {
        names.push("none");
    }
    let any = set.any.iter().map(|reason| format!(", any ({reason})"));
    names.join(" ") + &any.collect::<String>()
}

fn target(analysis: &Analysis, target: Target) -> String {
    match target {
        Target::Set(id) => set(analysis, id),
        Target::Parameter {
            index,
            otherwise,
            strays,
        } => {
            let moved = if strays { ", moved," } else { "" };
            format!("parameter {index}{moved} or {}", set(analysis, otherwise))
        }
    }
}

fn set(analysis: &Analysis, id: LegalSetId) -> String {
    let LegalSet {
        stack,
        passed,
        globals,
        heap,
        any_heap,
        any_global,
        per_cpu,
        user,
        ..
    } = &analysis.legal_sets[id.index()];
    let mut parts: Vec<String> = Vec::new();
    match stack {
        StackRule::None => {}
        StackRule::Own => parts.push("own stack".into()),
        StackRule::Compartment => parts.push("compartment stack".into()),
        StackRule::Any => parts.push("any stack".into()),
    }
    for object in passed {
        parts.push(format!(
            "{} bytes of stack at parameter {} of {}",
            object.size, object.parameter, object.function
        ));
    }
    for global in globals {
        let global = &analysis.globals[global.index()];
        let per_cpu = if global.per_cpu { "per-CPU " } else { "" };
        parts.push(format!(
            "{per_cpu}global {}:{}",
            global.image, global.symbol
        ));
    }
    parts.extend(heap.iter().map(|place| heap_place(analysis, place)));
    parts.extend(any_heap.iter().map(|reason| format!("any heap ({reason})")));
    parts.extend(any_global.iter().map(|_| "any global".into()));
    parts.extend(per_cpu.then(|| "per-CPU".into()));
    parts.extend(user.then(|| "user".into()));
    parts.join(", ")
}

fn heap_place(analysis: &Analysis, place: &HeapPlace) -> String {
    let name = |id: ObjectTypeId| &analysis.types[id.index()].name;
    let mut words = vec![format!("heap {}", name(place.target))];
    if place.container != place.target || place.offset > 0 {
        words.push(format!("in {}+{}", name(place.container), place.offset));
    }
    for dimension in &place.dimensions {
        words.push(format!("[{} x {}]", dimension.count, dimension.stride));
    }
    words.push(match place.size {
        HeapPlace::TO_END => "to end".into(),
        size => format!("{size} bytes"),
    });
    words.push(match place.object_size {
        Some(size) => format!("of {size}"),
        None => format!("of {} up", place.object_min),
    });
    let lines: Vec<String> = place
        .allocation_sites
        .iter()
        .map(|s| analysis.allocation_sites[s.index()].line.to_string())
        .collect();
    words.push(format!("from line {}", lines.join(" ")));
    words.join(" ")
}

fn allocation(analysis: &Analysis, site: &AllocationSite) -> String {
    let types: Vec<&str> = site
        .types
        .iter()
        .map(|t| analysis.types[t.index()].name.as_str())
        .collect();
    let bytes = site
        .size
        .map_or("size computed".into(), |s| format!("{s} bytes"));
    let mut words = vec![format!("{:?} by {}", site.family, site.callee), bytes];
    words.extend(site.cache.as_ref().map(|cache| format!("cache {cache}")));
    words.push(if types.is_empty() {
        "no type".into()
    } else {
        types.join(" or ")
    });
    words.join(", ")
}

fn gate(gate: &Gate) -> String {
    let instance = match (gate.instance_argument, &gate.instance_type) {
        (Some(index), Some(name)) => format!("instance {name} in argument {index}"),
        _ => "no instance".into(),
    };
    format!(
        "{}, {instance}, refuses with {} = {}",
        gate.reached_by.join(" and "),
        gate.refusal.name,
        gate.refusal.value
    )
}
