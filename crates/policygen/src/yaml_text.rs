//! Writes a policy the way a person would: one line per thing, comments where they help.

use std::fmt::Write as _;

use otf_artifact::{
    abi::Action,
    analysis::{Dimension, StackRule},
    covered::Under,
    yaml::Placed,
};

use crate::policy::{
    AllocationRule, BudgetRule, CallRule, CoverRule, GateRule, HeapRule, LegalRule, Policy,
    SiteRule, TargetRule,
};

const HEAD: &str = "\
# What the compartment may write. Made from its sites; meant to be read and edited.
# `otf compile` checks it and makes the bundle; docs/schema/policy.json describes every field.
";
const ABOUT_ACTION: &str = "\
# What a violation leads to unless the load names an action: audit reports, kill ends the task,
# deny prevents the write, returns `refusal` from the gate and quarantines the instance.
";
const ABOUT_GATES: &str = "\
# Entries of the compartment. `instance` is the argument (from 0) on whose behalf they are entered.
";
const ABOUT_ALLOCATIONS: &str = "\
# Calls that obtain the heap objects which legal sets name.
";
const ABOUT_LEGAL: &str = "\
# What a write may change. Stack: none, own (the function's frame), compartment (frames since the
# gate), any. Heap: `size` bytes at `offset` (plus a multiple of each stride) of an object that one
# of the calls in `allocated_at` gave.
";
const ABOUT_RETURNS: &str = "\
# Whether the returns of gates are checked against the address they were called from: one more
# probe at each of them.
";
const ABOUT_HEAP: &str = "\
# Whether what the compartment obtains by kmalloc comes from caches of its own, which nobody else
# gets memory from: loads only with the guard.
";
const ABOUT_BUDGETS: &str = "\
# What a load under deny or kill may add to an operation: to keep it, `otf compile` leaves checks to
# audit, dearest first, and lists them. The profile is made by `otf-load profile --operation`.
#   - {operation: tcp_100k, profile: tcp_100k.json, percent: 25}
";
const ABOUT_TARGETS: &str = "\
# Where an indirect call may lead. `any` (says why): besides any function that can be called so.
";
const ABOUT_SITES: &str = "\
# Every checked instruction. `action: audit` (or kill) limits what a violation there leads to.
# `covered` says why one needs no probe of its own; remove it to have one.
";

/// The policy as text; the same text for the same policy.
pub fn to_yaml(policy: &Policy) -> String {
    let mut out = Text(String::from(HEAD));
    out.line(format_args!("version: {}", policy.version));
    out.line(format_args!("kernel: {}", placed(&policy.kernel)));
    out.line(format_args!("compartment: {}", placed(&policy.compartment)));
    out.0.push_str(ABOUT_ACTION);
    out.line(format_args!(
        "default_action: {}",
        action(policy.default_action)
    ));
    out.line(format_args!("{ABOUT_RETURNS}returns: {}", policy.returns));
    out.line(format_args!(
        "{ABOUT_HEAP}private_heap: {}",
        policy.private_heap
    ));
    for line in &policy.heap_note {
        out.line(format_args!("#   {}", comment(line)));
    }
    out.section("max_overhead", ABOUT_BUDGETS, &policy.max_overhead, budget);
    out.section("gates", ABOUT_GATES, &policy.gates, gate);
    out.section(
        "allocation_sites",
        ABOUT_ALLOCATIONS,
        &policy.allocation_sites,
        allocation,
    );
    out.section("legal_sets", ABOUT_LEGAL, &policy.legal_sets, legal);
    out.section("target_sets", ABOUT_TARGETS, &policy.target_sets, targets);
    out.section("sites", ABOUT_SITES, &policy.sites, |out, function| {
        out.line(format_args!("  - function: {}", scalar(&function.function)));
        if !function.writes.is_empty() {
            out.line(format_args!("    writes:"));
        }
        for rule in &function.writes {
            site(out, rule);
        }
        if !function.calls.is_empty() {
            out.line(format_args!("    calls:"));
        }
        for rule in &function.calls {
            call(out, rule);
        }
    });
    if !policy.unchecked.is_empty() {
        out.line(format_args!("\n# Instructions without a check:"));
        for line in &policy.unchecked {
            out.line(format_args!("#   {}", comment(line)));
        }
    }
    out.0
}

struct Text(String);

impl Text {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn section<T>(&mut self, name: &str, about: &str, items: &[T], item: impl Fn(&mut Self, &T)) {
        let empty = if items.is_empty() { " []" } else { "" };
        self.line(format_args!("\n{about}{name}:{empty}"));
        for each in items {
            item(self, each);
        }
    }
}

fn budget(out: &mut Text, rule: &BudgetRule) {
    let mut fields = vec![
        format!("operation: {}", placed(&rule.operation)),
        format!("profile: {}", placed(&rule.profile)),
    ];
    fields.extend(rule.percent.as_ref().map(|p| format!("percent: {p}")));
    let most = rule.instructions.as_ref();
    fields.extend(most.map(|most| format!("instructions: {most}")));
    out.line(format_args!("  - {{{}}}", fields.join(", ")));
}

fn gate(out: &mut Text, gate: &GateRule) {
    out.line(format_args!("  - function: {}", placed(&gate.function)));
    out.line(format_args!("    file: {}", placed(&gate.file)));
    out.line(format_args!(
        "    reached_by: {}",
        list(gate.reached_by.iter().map(String::as_str))
    ));
    if let Some(instance) = &gate.instance {
        let kind = instance
            .kind
            .as_deref()
            .map_or(String::new(), |k| format!(", type: {}", scalar(k)));
        out.line(format_args!(
            "    instance: {{argument: {}{kind}}}",
            instance.argument
        ));
    }
    let (value, name) = (gate.refusal.value, scalar(&gate.refusal.name));
    out.line(format_args!(
        "    refusal: {{value: {value}, name: {name}}}"
    ));
}

fn allocation(out: &mut Text, rule: &AllocationRule) {
    let (id, at) = (placed(&rule.id), placed(&rule.at));
    let (function, calls) = (scalar(&rule.function), scalar(&rule.calls));
    let note = note(&rule.note);
    out.line(format_args!(
        "  - {{id: {id}, at: {at}, function: {function}, calls: {calls}}}{note}"
    ));
}

fn legal(out: &mut Text, rule: &LegalRule) {
    out.line(format_args!("  - id: {}", placed(&rule.id)));
    if !rule.types.is_empty() {
        out.line(format_args!(
            "    types: {}",
            list(rule.types.iter().map(|t| t.value.as_str()))
        ));
    }
    out.line(format_args!("    stack: {}", stack(rule.stack)));
    if !rule.passed.is_empty() {
        out.line(format_args!("    passed:"));
    }
    for object in &rule.passed {
        let (to, size) = (placed(&object.to), object.size.value);
        let otherwise = stack(object.otherwise);
        out.line(format_args!(
            "      - {{to: {to}, size: {size}, otherwise: {otherwise}}}"
        ));
    }
    if !rule.globals.is_empty() {
        out.line(format_args!(
            "    globals: {}",
            list(rule.globals.iter().map(|g| g.value.as_str()))
        ));
    }
    if !rule.heap.is_empty() {
        out.line(format_args!("    heap:"));
    }
    for place in &rule.heap {
        out.line(format_args!("      - {{{}}}", heap(place)));
    }
    for (name, why) in [
        ("any_heap", &rule.any_heap),
        ("any_global", &rule.any_global),
    ] {
        if let Some(why) = why {
            out.line(format_args!("    {name}: {}", scalar(why)));
        }
    }
    for (name, on) in [("per_cpu", rule.per_cpu), ("user", rule.user)] {
        if on {
            out.line(format_args!("    {name}: true"));
        }
    }
}

fn heap(place: &HeapRule) -> String {
    let mut fields = vec![format!("type: {}", placed(&place.target))];
    if let Some(container) = &place.container {
        fields.push(format!("in: {}", placed(container)));
    }
    if place.offset.value > 0 {
        fields.push(format!("offset: {}", place.offset));
    }
    if !place.dimensions.is_empty() {
        let one = |d: &Dimension| format!("{{stride: {}, count: {}}}", d.stride, d.count);
        let all: Vec<_> = place.dimensions.iter().map(one).collect();
        fields.push(format!("dimensions: [{}]", all.join(", ")));
    }
    fields.push(format!("size: {}", place.size));
    if place.object_min > 0 {
        fields.push(format!("object_min: {}", place.object_min));
    }
    if let Some(size) = &place.object_size {
        fields.push(format!("object_size: {size}"));
    }
    let sites = place.allocated_at.iter().map(|id| id.value.as_str());
    fields.push(format!("allocated_at: {}", list(sites)));
    fields.join(", ")
}

fn targets(out: &mut Text, rule: &TargetRule) {
    let names = list(rule.targets.iter().map(|t| t.value.as_str()));
    let any = rule
        .any
        .as_ref()
        .map_or(String::new(), |why| format!(", any: {}", scalar(why)));
    let (id, note) = (placed(&rule.id), note(&rule.note));
    out.line(format_args!(
        "  - {{id: {id}, targets: {names}{any}}}{note}"
    ));
}

fn call(out: &mut Text, rule: &CallRule) {
    let (at, source) = (placed(&rule.at), placed(&rule.source));
    let (targets, limit, note) = (placed(&rule.targets), limit(rule.action), note(&rule.note));
    out.line(format_args!(
        "      - {{at: {at}, source: {source}, targets: {targets}{limit}}}{note}"
    ));
}

fn limit(most: Option<Action>) -> String {
    most.map_or(String::new(), |a| format!(", action: {}", action(a)))
}

fn site(out: &mut Text, rule: &SiteRule) {
    let (at, source, legal) = (placed(&rule.at), placed(&rule.source), placed(&rule.legal));
    let (limit, note) = (limit(rule.action), note(&rule.note));
    let covered = rule.covered.as_ref().map_or(String::new(), cover);
    out.line(format_args!(
        "      - {{at: {at}, source: {source}, legal: {legal}{limit}{covered}}}{note}"
    ));
}

fn cover(rule: &CoverRule) -> String {
    let mut fields = Vec::new();
    for (name, place) in [
        ("check_of", &rule.check_of),
        ("fresh_from", &rule.fresh_from),
    ] {
        fields.extend(place.as_ref().map(|at| format!("{name}: {}", placed(at))));
    }
    if rule.any_address {
        fields.push("any_address: true".into());
    }
    if rule.distance != 0 {
        fields.push(format!("distance: {}", rule.distance));
    }
    if rule.under == Under::NotDeny {
        fields.push("under: not_deny".into());
    }
    if rule.joined {
        fields.push("joined: true".into());
    }
    format!(", covered: {{{}}}", fields.join(", "))
}

fn action(action: Action) -> &'static str {
    // The text of an action is how it is spelled in YAML too; a test holds them together.
    action.text()
}

fn stack(rule: StackRule) -> &'static str {
    match rule {
        StackRule::None => "none",
        StackRule::Own => "own",
        StackRule::Compartment => "compartment",
        StackRule::Any => "any",
    }
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let items: Vec<_> = items.map(scalar).collect();
    format!("[{}]", items.join(", "))
}

fn note(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("  # {}", comment(text))
    }
}

/// A comment must stay on its line.
fn comment(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn placed(text: &Placed<String>) -> String {
    scalar(&text.value)
}

/// A string as a YAML scalar, valid inside flow collections; quoted unless it surely needs no quotes.
fn scalar(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            // Writing to a String cannot fail.
            _ => drop(write!(quoted, "\\U{:08X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

fn is_plain(text: &str) -> bool {
    /// Words that some YAML reader takes for something else than a string.
    const RESERVED: &[&str] = &[
        "true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf",
    ];
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let ends_well = !text.ends_with([' ', ':']);
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./+@ :".contains(c);
    starts_well
        && ends_well
        && text.chars().all(plain)
        && !text.contains(": ")
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str())
}
