//! Indirect calls: which can be checked, their rules and their rows.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    abi,
    analysis::TargetSet,
    bundle::{PlanSite, Probe, Program, TargetBinding},
    ids::{TargetId, TargetSetId},
    sites::{CallSite, CallThrough, Coverage, Location, Operand, Sites},
    yaml::Placed,
};

use crate::{
    bind::Bound,
    generate::source_of,
    names::{self, Names},
    policy::{CallRule, TargetRule},
    shape::Shape,
};

/// Why a call that could be probed is not checked or recorded.
pub(crate) const UNREADABLE: &str = "the operand of the call is not in registers alone";
/// Why a set without a target allows any.
const EMPTY: &str = "no target was found";
/// Targets that are spelled out for people.
const MOST: usize = 6;

/// The operand that leads to the target, and whether the target stands in memory there.
pub(crate) fn operand_of(call: &CallSite) -> (Operand, bool) {
    match call.through {
        CallThrough::Memory(operand) => (operand, true),
        CallThrough::Register(register) => {
            let operand = Operand {
                base: Some(register),
                index: None,
                scale: 1,
                displacement: 0,
                per_cpu: false,
                bit_index: None,
            };
            (operand, false)
        }
    }
}

/// A target in per-CPU memory or at a fixed address cannot be read from the registers alone.
pub(crate) fn can_read(call: &CallSite) -> bool {
    let (operand, _) = operand_of(call);
    !operand.per_cpu && operand.base.is_some() && Shape::of_operand(operand).is_ok()
}

/// Whether the call has a row of its own in a policy.
pub(crate) fn is_checked(call: &CallSite) -> bool {
    call.coverage == Coverage::Probe && can_read(call)
}

/// Whether calls with this set may lead to functions that it does not name: because the analysis
/// says so, found nothing, or found one of which nobody knows where it is.
pub(crate) fn is_weak(set: &TargetSet, known: &BTreeSet<TargetId>) -> bool {
    set.any.is_some() || set.targets.is_empty() || !set.targets.iter().all(|t| known.contains(t))
}

/// Targets of which the machine address is known.
pub(crate) fn known_targets(sites: &Sites) -> BTreeSet<TargetId> {
    sites.target_symbols.iter().map(|s| s.target).collect()
}

fn target_id(id: TargetSetId) -> Placed<String> {
    format!("T{}", id.0).into()
}

/// The sets that checked calls use.
pub(crate) fn target_rules(sites: &Sites) -> Vec<TargetRule> {
    let names = names::targets(&sites.analysis);
    let known = known_targets(sites);
    let used: BTreeSet<TargetSetId> = sites
        .calls
        .iter()
        .filter(|call| is_checked(call))
        .map(|call| call.targets)
        .collect();
    let rule = |id: &TargetSetId| {
        let set = sites.target_sets.get(id.index())?;
        let unknown = set.targets.iter().filter(|t| !known.contains(t)).count();
        let nothing = set.targets.is_empty().then(|| EMPTY.to_owned());
        let note = match unknown {
            0 => String::new(),
            n => format!("{n} of them in no image that was given: weak"),
        };
        Some(TargetRule {
            id: target_id(*id),
            targets: set
                .targets
                .iter()
                .map(|t| names.of(t.index()).to_owned().into())
                .collect(),
            any: set.any.clone().or(nothing),
            note,
        })
    };
    used.iter().filter_map(rule).collect()
}

/// The rule of a call as the analysis has it.
pub(crate) fn rule(call: &CallSite, name: &str) -> CallRule {
    CallRule {
        at: name.to_owned().into(),
        source: source_of(&call.chain).into(),
        targets: target_id(call.targets),
        action: None,
        note: call.text.clone(),
    }
}

/// A line for each call without a check.
pub(crate) fn unchecked(sites: &Sites, names: &Names) -> Vec<String> {
    let line = |(row, call): (usize, &CallSite)| {
        let why = match &call.coverage {
            Coverage::Unprobable(why) | Coverage::Proven(why) => why.as_str(),
            Coverage::Probe if can_read(call) => return None,
            Coverage::Probe => UNREADABLE,
        };
        let (name, source) = (names.of(row), source_of(&call.chain));
        Some(format!(
            "{name} ({source}) `{}`: NOT CHECKED, {why}",
            call.text
        ))
    };
    sites.calls.iter().enumerate().filter_map(line).collect()
}

/// What the calls of a policy become.
#[derive(Default)]
pub(crate) struct CallRows {
    /// Rows, each with the shape of its operand.
    pub rows: Vec<(Shape, abi::Call)>,
    /// Rows for people.
    pub plan: Vec<PlanSite>,
    /// Keys of the map of targets.
    pub targets: Vec<TargetBinding>,
    /// Probes, by row.
    pub probes: Vec<Probe>,
}

/// Rows of the checked calls; `gates` gives the row of a set of gates.
pub(crate) fn rows(bound: &Bound, sites: &Sites, gates: impl Fn(&CallSite) -> u16) -> CallRows {
    let known = known_targets(sites);
    let mut result = CallRows::default();
    for entry in &bound.calls {
        let call = &sites.calls[entry.call.index()];
        let (operand, memory) = operand_of(call);
        // Only those that can be read are bound.
        let Ok(shape) = Shape::of_operand(operand) else {
            continue;
        };
        let set = &bound.target_sets[entry.targets];
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let row = abi::Call {
            displacement: operand.displacement,
            targets: entry.targets as u32,
            gates: gates(call),
            memory: memory.into(),
            insn_len: call.instruction_length,
            action: entry.action as u8,
            flags: flag(is_weak(set, &known), abi::CALL_WEAK) | flag(call.jump, abi::CALL_TAIL),
            ..abi::Call::default()
        };
        result.probes.push(Probe {
            program: Program::Call,
            location: call.location.clone(),
            cookie: result.rows.len() as u64,
            room: None,
        });
        result.rows.push((shape, row));
        result.plan.push(PlanSite {
            location: call.location.clone(),
            text: call.text.clone(),
            chain: call.chain.clone(),
            legal: describe(set, sites),
            quick: None,
        });
    }
    result.targets = targets(bound, sites);
    result
}

fn targets(bound: &Bound, sites: &Sites) -> Vec<TargetBinding> {
    let mut places: BTreeMap<TargetId, Vec<&Location>> = BTreeMap::new();
    for symbol in &sites.target_symbols {
        places
            .entry(symbol.target)
            .or_default()
            .push(&symbol.location);
    }
    let mut all = BTreeSet::new();
    for (row, set) in bound.target_sets.iter().enumerate() {
        let here = set.targets.iter().filter_map(|t| places.get(t)).flatten();
        all.extend(here.map(|location| TargetBinding {
            set: row as u32,
            location: (*location).clone(),
        }));
    }
    all.into_iter().collect()
}

/// Where a call may lead, in one line.
pub(crate) fn describe(set: &TargetSet, sites: &Sites) -> String {
    let name = |id: &TargetId| {
        let target = sites.analysis.targets.get(id.index())?;
        Some(format!("{}:{}", target.image, target.symbol))
    };
    let mut parts: Vec<String> = set.targets.iter().filter_map(name).collect();
    let more = parts.len().saturating_sub(MOST);
    if more > 0 {
        parts.truncate(MOST);
        parts.push(format!("{more} more"));
    }
    match &set.any {
        Some(why) => parts.push(format!("any function ({why})")),
        None if set.targets.is_empty() => parts.push(format!("any function ({EMPTY})")),
        None => {}
    }
    format!("call of {}", parts.join(", "))
}
