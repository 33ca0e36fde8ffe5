//! What may be held at each instruction since the gate: decides whether deny may unwind there.
//!
//! A forward analysis over the machine code of an image counts, per kind of thing, how many were
//! acquired and not released since the function was entered: an interval, because paths differ.
//! Direct calls inside the compartment add what the callee leaves behind; a function's entry joins
//! what its callers hold, up to the gates. A place is safe when the interval is exactly zero for
//! every kind: nothing acquired, and nothing of the caller's given away.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind};
use otf_artifact::sites::Unwind;

use crate::{
    decode::{Destination, Instructions, destination},
    image::Image,
    locks::{self, Effect, Held, KINDS},
    operand::{MemoryWrite, Referent},
    tables::Tables,
};

/// Beyond this many the count is given up: it stays unknown.
const MOST: i8 = 4;

/// Least and greatest number of things held, per kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts([(i8, i8); KINDS]);

impl Counts {
    fn join(&mut self, other: &Self) -> bool {
        let before = *self;
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (mine.0.min(theirs.0), mine.1.max(theirs.1));
        }
        *self != before
    }

    fn plus(&self, other: &Self) -> Self {
        let mut sum = *self;
        for (mine, theirs) in sum.0.iter_mut().zip(&other.0) {
            *mine = (
                add(mine.0, theirs.0, -MOST),
                add(mine.1, theirs.1, MOST),
            );
        }
        sum
    }

    fn apply(&self, effect: Effect) -> Self {
        let mut change = Self::default();
        match effect {
            Effect::Acquire(kind) => change.0[kind as usize] = (1, 1),
            Effect::TryAcquire(kind) => change.0[kind as usize] = (0, 1),
            Effect::Release(kind) => change.0[kind as usize] = (-1, -1),
        }
        self.plus(&change)
    }

    fn first_held(&self) -> Option<Held> {
        Held::ALL
            .into_iter()
            .find(|kind| self.0[*kind as usize] != (0, 0))
    }
}

/// Adds one end of two intervals; `limit` stands for "unknown" on that side and is never left.
fn add(a: i8, b: i8, limit: i8) -> i8 {
    if a == limit || b == limit {
        limit
    } else {
        (a + b).clamp(-MOST, MOST)
    }
}

/// An effect at an instruction, and the words for it.
#[derive(Clone, Debug)]
struct Step {
    effect: Effect,
    what: String,
}

/// A machine function: its instructions and what it does to others.
#[derive(Default)]
struct Body {
    name: String,
    entry: Option<usize>,
    /// Rows of its instructions, sorted.
    rows: Vec<usize>,
    /// Left behind at its ends, with nothing held at its entry; `None`: it does not return.
    leaves: Option<Counts>,
    /// Held by callers at its entry.
    inherited: Counts,
    /// Who holds it, per kind.
    witness: BTreeMap<Held, String>,
}

/// Result of the analysis for one image.
pub struct HeldAnalysis {
    bodies: Vec<Body>,
    /// Body of each instruction row.
    owner: Vec<usize>,
    /// Held before each instruction, with nothing held at the function's entry.
    before: Vec<Option<Counts>>,
    steps: BTreeMap<usize, Step>,
    /// Calls and tail calls: (row, called function).
    passes: BTreeSet<(usize, usize)>,
}

/// What is held at the entry of each function on the paths from one gate; `None`: no path.
pub struct FromGate(Vec<Option<Counts>>);

/// The parts of an image that the analysis reads.
pub struct Input<'i, 'd> {
    /// The image.
    pub image: &'i Image<'d>,
    /// Its code.
    pub code: &'i Instructions,
    /// Its tables.
    pub tables: &'i Tables,
    /// Its writes, by instruction row.
    pub writes: &'i BTreeMap<usize, Vec<MemoryWrite>>,
}

impl HeldAnalysis {
    /// Runs the analysis.
    pub fn run(input: &Input<'_, '_>) -> Self {
        let (bodies, owner) = bodies(input);
        let mut analysis = Self {
            before: vec![None; owner.len()],
            steps: steps(input),
            bodies,
            owner,
            passes: BTreeSet::new(),
        };
        let flow = Flow::of(input, &analysis);
        // What functions leave behind depends on what their callees leave behind. Counts are
        // bounded and only widen, so this ends.
        loop {
            let mut changed = false;
            for body in 0..analysis.bodies.len() {
                changed |= analysis.propagate(body, &flow);
            }
            if !changed {
                break;
            }
        }
        analysis.passes = flow.passes;
        analysis.inherit();
        analysis
    }

    /// Follows the direct calls from the function that starts in this row.
    pub fn from_gate(&self, row: usize) -> FromGate {
        let mut entry = vec![None; self.bodies.len()];
        entry[self.owner[row]] = Some(Counts::default());
        loop {
            let mut changed = false;
            for (row, callee) in &self.passes {
                let caller = entry[self.owner[*row]];
                if let (Some(held), Some(own)) = (caller, self.before[*row]) {
                    changed |= merge(&mut entry[*callee], &held.plus(&own));
                }
            }
            if !changed {
                return FromGate(entry);
            }
        }
    }

    /// Whether nothing is held at the instruction in this row on any path from the gate; `None`
    /// when there is no path.
    pub fn is_free(&self, from: &FromGate, row: usize) -> Option<bool> {
        let (entry, own) = from.0[self.owner[row]].zip(self.before[row])?;
        Some(entry.plus(&own).first_held().is_none())
    }

    /// Whether a call may be unwound from the instruction in this row.
    pub fn unwind(&self, row: usize) -> Unwind {
        let body = &self.bodies[self.owner[row]];
        let Some(own) = self.before[row] else {
            return Unwind::Held(format!("no known path through {} leads here", body.name));
        };
        let Some(kind) = body.inherited.plus(&own).first_held() else {
            return Unwind::Safe;
        };
        if own.0[kind as usize] == (0, 0) {
            let witness = body.witness.get(&kind).cloned();
            return Unwind::Held(witness.unwrap_or_else(|| format!("a caller of {}", body.name)));
        }
        Unwind::Held(self.local_witness(self.owner[row], kind))
    }

    /// The first instruction of a function that changes this kind.
    fn local_witness(&self, body: usize, kind: Held) -> String {
        let body = &self.bodies[body];
        let step = body.rows.iter().find_map(|row| {
            let step = self.steps.get(row)?;
            let (Effect::Acquire(k) | Effect::TryAcquire(k) | Effect::Release(k)) = step.effect;
            (k == kind).then(|| format!("{} {}", body.name, step.what))
        });
        step.unwrap_or_else(|| format!("{} calls a function that keeps something held", body.name))
    }

    /// Flows through one function; says whether what it leaves behind changed.
    fn propagate(&mut self, body: usize, flow: &Flow) -> bool {
        let Some(entry) = self.bodies[body].entry else {
            return false;
        };
        for row in &self.bodies[body].rows {
            self.before[*row] = None;
        }
        self.before[entry] = Some(Counts::default());
        let mut leaves: Option<Counts> = None;
        let mut work = vec![entry];
        while let Some(row) = work.pop() {
            let Some(before) = self.before[row] else {
                continue;
            };
            let Some(after) = self.after(row, &before, flow) else {
                continue;
            };
            if flow.leaves[row] {
                merge(&mut leaves, &after);
            }
            for next in flow.next[row].iter().copied() {
                if self.owner[next] != body {
                    // A tail call: what the target leaves behind comes on top.
                    if let Some(more) = self.bodies[self.owner[next]].leaves {
                        merge(&mut leaves, &after.plus(&more));
                    }
                } else if merge(&mut self.before[next], &after) {
                    work.push(next);
                }
            }
        }
        let changed = self.bodies[body].leaves != leaves;
        self.bodies[body].leaves = leaves;
        changed
    }

    /// Held after an instruction; `None` when it does not come back.
    fn after(&self, row: usize, before: &Counts, flow: &Flow) -> Option<Counts> {
        if let Some(step) = self.steps.get(&row) {
            return Some(before.apply(step.effect));
        }
        match flow.calls.get(&row) {
            Some(callee) => Some(before.plus(&self.bodies[*callee].leaves?)),
            None => Some(*before),
        }
    }

    /// Passes what callers hold down to the functions that they call.
    fn inherit(&mut self) {
        loop {
            let mut changed = false;
            for (row, callee) in &self.passes {
                let Some(own) = self.before[*row] else {
                    continue;
                };
                let caller = self.owner[*row];
                let held = self.bodies[caller].inherited.plus(&own);
                for kind in Held::ALL {
                    let index = kind as usize;
                    if held.0[index] == (0, 0) || self.bodies[*callee].witness.contains_key(&kind) {
                        continue;
                    }
                    let witness = if own.0[index] == (0, 0) {
                        self.bodies[caller].witness.get(&kind).cloned()
                    } else {
                        Some(self.local_witness(caller, kind))
                    };
                    if let Some(witness) = witness {
                        self.bodies[*callee].witness.insert(kind, witness);
                    }
                }
                changed |= self.bodies[*callee].inherited.join(&held);
            }
            if !changed {
                break;
            }
        }
    }
}

fn merge(into: &mut Option<Counts>, from: &Counts) -> bool {
    if let Some(counts) = into {
        counts.join(from)
    } else {
        *into = Some(*from);
        true
    }
}

/// The control flow graph, by instruction row.
struct Flow {
    next: Vec<Vec<usize>>,
    leaves: Vec<bool>,
    /// Calls of functions in this image.
    calls: BTreeMap<usize, usize>,
    /// Calls and tail calls: (row, called function).
    passes: BTreeSet<(usize, usize)>,
}

impl Flow {
    fn of(input: &Input<'_, '_>, analysis: &HeldAnalysis) -> Self {
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
                        flow.calls.insert(row, analysis.owner[callee]);
                        flow.passes.insert((row, analysis.owner[callee]));
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
                && analysis.owner[follows] == analysis.owner[row]
                && code.all[follows].ip() == instruction.next_ip()
            {
                flow.next[row].push(follows);
            }
        }
        flow.add_patched(input);
        for row in 0..count {
            for next in &flow.next[row] {
                if analysis.owner[*next] != analysis.owner[row] {
                    flow.passes.insert((row, analysis.owner[*next]));
                }
            }
        }
        flow
    }

    /// Edges of code that the kernel patches, and of faults.
    fn add_patched(&mut self, input: &Input<'_, '_>) {
        let row = |address: u64| input.code.row(address);
        let pairs = input
            .tables
            .jump_labels
            .iter()
            .chain(&input.tables.fixups);
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

/// Effects of single instructions.
fn steps(input: &Input<'_, '_>) -> BTreeMap<usize, Step> {
    let mut steps = BTreeMap::new();
    for (row, instruction) in input.code.all.iter().enumerate() {
        let called = destination(input.image, instruction)
            .filter(|_| instruction.flow_control() != FlowControl::ConditionalBranch);
        let step = match (called, instruction.mnemonic()) {
            (Some(Destination { symbol, .. }), _) => locks::effect(symbol).map(|effect| Step {
                effect,
                what: format!("calls {symbol}"),
            }),
            (None, Mnemonic::Cli) => Some(Step {
                effect: Effect::Acquire(Held::Irq),
                what: "disables interrupts".into(),
            }),
            (None, Mnemonic::Sti | Mnemonic::Popfq) => Some(Step {
                effect: Effect::Release(Held::Irq),
                what: "enables interrupts".into(),
            }),
            _ => input
                .writes
                .get(&row)
                .and_then(|writes| preemption(input.image, instruction, writes)),
        };
        if let Some(step) = step {
            steps.insert(row, step);
        }
    }
    steps
}

/// A write of the per-CPU preemption counter.
fn preemption(
    image: &Image<'_>,
    instruction: &Instruction,
    writes: &[MemoryWrite],
) -> Option<Step> {
    let counter = writes.iter().any(|w| {
        let name = match &w.referent {
            Some(Referent::Elsewhere(name, offset)) => (name.as_str(), *offset),
            Some(Referent::Here(address)) => {
                let symbol = image.symbol_at(*address);
                symbol.map_or(("", 0), |s| (s.name, (address - s.address) as i64))
            }
            None => ("", 0),
        };
        // 6.2 moved the counter behind the pointer to the current task.
        w.operand.per_cpu && (name.0 == "__preempt_count" || name == ("pcpu_hot", 8))
    });
    if !counter {
        return None;
    }
    let amount = match instruction.op1_kind() {
        OpKind::Immediate8 | OpKind::Immediate8to32 | OpKind::Immediate32 => {
            Some(instruction.immediate(1) as i32)
        }
        _ => None,
    };
    let (effect, what) = match (instruction.mnemonic(), amount) {
        (Mnemonic::Inc, _) => (Effect::Acquire(Held::Preempt), "disables preemption"),
        (Mnemonic::Dec, _) => (Effect::Release(Held::Preempt), "enables preemption"),
        (Mnemonic::Add, Some(1..)) | (Mnemonic::Sub, Some(..0)) => {
            (Effect::Acquire(Held::Preempt), "disables preemption")
        }
        (Mnemonic::Add | Mnemonic::Sub, Some(_)) => {
            (Effect::Release(Held::Preempt), "enables preemption")
        }
        _ => (
            Effect::TryAcquire(Held::Preempt),
            "changes the preemption count",
        ),
    };
    Some(Step {
        effect,
        what: what.into(),
    })
}

/// Cuts the code into functions: at function symbols, a split-off `.cold` part and the templates
/// of patched code with the function that they belong to.
fn bodies(input: &Input<'_, '_>) -> (Vec<Body>, Vec<usize>) {
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
        let is_entry = symbol.is_some_and(|s| s.address == address && !s.name.ends_with(".cold"));
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
