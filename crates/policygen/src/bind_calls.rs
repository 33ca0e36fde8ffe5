//! Binds the indirect calls of a policy and where they may lead.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    abi,
    analysis::TargetSet,
    ids::{CallSiteId, TargetId},
    sites::{Coverage, Sites},
};

use crate::{
    bind::Errors,
    calls::{self, UNREADABLE},
    generate::source_of,
    names,
    policy::{CallRule, Policy, TargetRule},
};

/// An indirect call and what the policy says of it.
#[derive(Clone, Copy, Debug)]
pub struct BoundCall {
    /// The call.
    pub call: CallSiteId,
    /// Row of the bound target sets.
    pub targets: usize,
    /// Most severe action.
    pub action: abi::Action,
}

/// The sets that a call uses, and the calls by row.
pub(crate) fn bind_calls(
    policy: &Policy,
    sites: &Sites,
    errors: &mut Errors<'_>,
) -> (Vec<TargetSet>, Vec<BoundCall>) {
    let rows = errors.index(policy.target_sets.iter().map(|set| &set.id));
    let targets = names::targets(&sites.analysis);
    let sets: Vec<TargetSet> = policy
        .target_sets
        .iter()
        .map(|rule| target_set(rule, &targets, errors))
        .collect();
    let names = names::calls(sites);
    let mut bound: BTreeMap<CallSiteId, BoundCall> = BTreeMap::new();
    let mut seen: BTreeSet<CallSiteId> = BTreeSet::new();
    for rule in policy.sites.iter().flat_map(|function| &function.calls) {
        let Some(row) = names.row(&rule.at.value) else {
            errors.unknown(&rule.at, "call", "calls", names.all());
            continue;
        };
        let call = CallSiteId::from(row);
        if !seen.insert(call) {
            let message = format!("call `{}` occurs twice", rule.at);
            errors.at(&rule.at, message, Some("keep one of them".into()));
        }
        check_call(rule, sites, call, errors);
        let Some(targets) = rows.get(rule.targets.value.as_str()).copied() else {
            let known = rows.keys().copied();
            errors.unknown(&rule.targets, "target set", "target sets", known);
            continue;
        };
        // Deny is the most severe that a bundle can ask for.
        let action = rule.action.unwrap_or(abi::Action::Deny);
        bound.insert(
            call,
            BoundCall {
                call,
                targets,
                action,
            },
        );
    }
    for (row, call) in sites.calls.iter().enumerate() {
        if calls::is_checked(call) && !seen.contains(&CallSiteId::from(row)) {
            let (name, source) = (names.of(row), source_of(&call.chain));
            errors.missing(
                format!("the policy has no entry for the call `{name}` ({source})"),
                "every indirect call is checked: add it; `action: audit` only reports it",
            );
        }
    }
    used(sets, bound.into_values().collect())
}

/// Only what is used gets a row, in the policy's order.
fn used(sets: Vec<TargetSet>, calls: Vec<BoundCall>) -> (Vec<TargetSet>, Vec<BoundCall>) {
    let wanted: BTreeSet<usize> = calls.iter().map(|call| call.targets).collect();
    let rows: BTreeMap<usize, usize> = wanted.iter().copied().zip(0..).collect();
    let sets = sets.into_iter().enumerate();
    let sets = sets.filter(|(row, _)| wanted.contains(row));
    let calls = calls.into_iter().map(|call| BoundCall {
        targets: rows[&call.targets],
        ..call
    });
    (sets.map(|(_, set)| set).collect(), calls.collect())
}

fn target_set(rule: &TargetRule, targets: &names::Names, errors: &mut Errors<'_>) -> TargetSet {
    let mut set = TargetSet {
        targets: Vec::new(),
        any: rule.any.clone(),
    };
    for name in &rule.targets {
        match targets.row(&name.value) {
            Some(row) => set.targets.push(TargetId::from(row)),
            None => errors.unknown(name, "call target", "call targets", targets.all()),
        }
    }
    set.targets.sort_unstable();
    set.targets.dedup();
    if rule.targets.is_empty() && rule.any.is_none() {
        let message = format!("target set `{}` allows nothing", rule.id);
        let help = "every call would be a violation: name a target, or say why it is not known: \
                    `any: …`";
        errors.at(&rule.id, message, Some(help.into()));
    }
    set
}

fn check_call(rule: &CallRule, sites: &Sites, id: CallSiteId, errors: &mut Errors<'_>) {
    let call = &sites.calls[id.index()];
    let source = source_of(&call.chain);
    if rule.source.value != source {
        let message = format!("call `{}` is at {source}, not at {}", rule.at, rule.source);
        let help =
            "the policy was made for another build: generate it again, then repeat the edits";
        errors.at(&rule.source, message, Some(help.into()));
    }
    let why = match &call.coverage {
        Coverage::Probe if calls::can_read(call) => return,
        Coverage::Probe => UNREADABLE,
        Coverage::Proven(how) => how,
        Coverage::Unprobable(why) => why,
    };
    let message = format!("call `{}` cannot be checked: {why}", rule.at);
    errors.at(&rule.at, message, Some("remove the entry".into()));
}
