//! The control flow graph of an image, and the functions that its code belongs to.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::FlowControl;

use super::{Body, Input};
use crate::decode::destination;

/// The control flow graph, by instruction row.
#[derive(Default)]
pub struct Flow {
    /// Instructions that may come next.
    pub next: Vec<Vec<usize>>,
    /// Whether control may leave the function for code that is not in the image.
    pub leaves: Vec<bool>,
    /// Calls of functions in this image.
    pub calls: BTreeMap<usize, usize>,
    /// Calls and tail calls: (row, called function).
    pub passes: BTreeSet<(usize, usize)>,
}

impl Flow {
    /// Builds the graph; `owner` is the function of each instruction.
    pub(super) fn of(input: &Input<'_, '_>, owner: &[usize]) -> Self {
        let code = input.code;
        let count = code.all.len();
        let mut flow = Self {
            next: vec![Vec::new(); count],
            leaves: vec![false; count],
            calls: BTreeMap::new(),
            passes: BTreeSet::new(),
        };
        for (row, instruction) in code.all.iter().enumerate() {
            let target = destination(input.image, instruction);
            let inside = target
                .and_then(|t| t.address)
                .and_then(|address| code.row(address));
            let mut falls = false;
            match instruction.flow_control() {
                FlowControl::Call | FlowControl::IndirectCall => {
                    falls = true;
                    if let Some(callee) = inside {
                        flow.calls.insert(row, owner[callee]);
                        flow.passes.insert((row, owner[callee]));
                    }
                }
                FlowControl::UnconditionalBranch => match inside {
                    Some(next) => flow.next[row].push(next),
                    None => flow.leaves[row] = true,
                },
                FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend => {
                    falls = true;
                    match inside {
                        Some(next) => flow.next[row].push(next),
                        None => flow.leaves[row] = true,
                    }
                }
                FlowControl::Return | FlowControl::IndirectBranch => flow.leaves[row] = true,
                // ud2 does not come back from a BUG, but it does from a WARN.
                FlowControl::Exception | FlowControl::Next | FlowControl::Interrupt => falls = true,
            }
            let follows = row + 1;
            if falls
                && follows < count
                && owner[follows] == owner[row]
                && code.all[follows].ip() == instruction.next_ip()
            {
                flow.next[row].push(follows);
            }
        }
        flow.add_patched(input);
        for row in 0..count {
            for next in &flow.next[row] {
                if owner[*next] != owner[row] {
                    flow.passes.insert((row, owner[*next]));
                }
            }
        }
        flow
    }

    /// Edges of code that the kernel patches, and of faults.
    fn add_patched(&mut self, input: &Input<'_, '_>) {
        let row = |address: u64| input.code.row(address);
        let pairs = input.tables.jump_labels.iter().chain(&input.tables.fixups);
        for (from, to) in pairs {
            if let (Some(from), Some(to)) = (row(*from), row(*to)) {
                self.next[from].push(to);
            }
        }
        for alternative in &input.tables.alternatives {
            let (start, end) = alternative.original;
            let (Some(from), Some(to)) = (row(start), row(end)) else {
                continue;
            };
            let template = input
                .code
                .rows(alternative.replacement.0, alternative.replacement.1);
            if template.is_empty() {
                self.next[from].push(to);
            } else {
                // Entered from where it is copied to.
                self.next[from].push(template.start);
                self.next[template.end - 1].push(to);
            }
        }
    }
}

/// Cuts the code into functions: at function symbols, a split-off `.cold` part and the templates
/// of patched code with the function that they belong to.
pub(super) fn bodies(input: &Input<'_, '_>) -> (Vec<Body>, Vec<usize>) {
    let image = input.image;
    let mut bodies: Vec<Body> = Vec::new();
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    // Files have static functions of one name: each has a body of its own.
    let mut has_body: BTreeSet<&str> = BTreeSet::new();
    let mut owner = Vec::with_capacity(input.code.all.len());
    let mut last: Option<(u64, usize)> = None;
    for (row, instruction) in input.code.all.iter().enumerate() {
        let address = instruction.ip();
        let symbol = image.symbol_at(address).filter(|s| s.function);
        let section = image.section_at(address).map_or(0, |s| s.base);
        let start = symbol.map_or(section, |s| s.address);
        let body = match last {
            Some((known, body)) if known == start => body,
            _ => {
                let name = symbol.map_or("code without a symbol", |s| s.name);
                let whole = name.strip_suffix(".cold").unwrap_or(name);
                let split = symbol.filter(|s| s.name != whole || !has_body.contains(whole));
                let known = split.and_then(|_| by_name.get(whole).copied());
                if symbol.is_some_and(|s| s.name == whole) {
                    has_body.insert(whole);
                }
                known.unwrap_or_else(|| {
                    bodies.push(Body {
                        name: whole.to_owned(),
                        ..Body::default()
                    });
                    if symbol.is_some() {
                        by_name.entry(whole).or_insert(bodies.len() - 1);
                    }
                    bodies.len() - 1
                })
            }
        };
        last = Some((start, body));
        owner.push(body);
        let is_entry =
            symbol.is_some_and(|s| s.address == address && s.name.strip_suffix(".cold").is_none());
        if is_entry || symbol.is_none() {
            bodies[body].entry.get_or_insert(row);
        }
    }
    for alternative in &input.tables.alternatives {
        if let Some(original) = input.code.row(alternative.original.0) {
            for row in input
                .code
                .rows(alternative.replacement.0, alternative.replacement.1)
            {
                owner[row] = owner[original];
            }
        }
    }
    for (row, body) in owner.iter().enumerate() {
        bodies[*body].rows.push(row);
    }
    (bodies, owner)
}
