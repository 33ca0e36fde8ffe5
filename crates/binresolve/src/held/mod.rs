//! What may be held at each instruction since the gate: decides whether deny may unwind there.
//!
//! A forward analysis over the machine code of an image counts, per kind of thing, how many were
//! acquired and not released since the function was entered: an interval, because paths differ.
//! Direct calls inside the compartment add what the callee leaves behind; a function's entry joins
//! what its callers hold, up to the gates. A place is safe when the interval is exactly zero for
//! every kind: nothing acquired, and nothing of the caller's given away.

mod counts;
mod depth;
mod effects;
pub mod flow;
mod stack;
mod tries;

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::sites::{Register, Unwind};

use self::{
    counts::{Counts, merge},
    effects::{Step, steps},
    flow::{Flow, bodies},
    tries::Try,
};
use crate::{
    decode::Instructions,
    image::Image,
    locks::{Effect, Held},
    operand::MemoryWrite,
    tables::Tables,
};

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
    /// Attempts by the branch that tells whether they succeeded.
    tries: BTreeMap<usize, Try>,
    /// The control flow graph; its `passes` are taken out of it.
    flow: Flow,
    /// Calls and tail calls: (row, called function).
    passes: BTreeSet<(usize, usize)>,
    least_frames: Vec<u32>,
    in_frame: Vec<stack::Registers>,
}

/// What is held since a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Since {
    /// Nothing.
    Nothing,
    /// This, on every path.
    Counts {
        /// RCU read sides.
        rcu: u8,
        /// Disablings of bottom halves.
        bottom_halves: u8,
    },
    /// Something else, or not the same on every path.
    Else,
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
            tries: BTreeMap::new(),
            bodies,
            owner,
            flow: Flow::default(),
            passes: BTreeSet::new(),
            least_frames: Vec::new(),
            in_frame: Vec::new(),
        };
        let mut flow = Flow::of(input, &analysis.owner);
        analysis.tries = tries::of(input.code, &flow, &analysis.steps);
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
        analysis.least_frames = depth::least_frames(&analysis, &flow, input.code);
        analysis.in_frame = stack::registers(&analysis, &flow, input.code);
        analysis.passes = std::mem::take(&mut flow.passes);
        analysis.flow = flow;
        analysis.inherit();
        analysis
    }

    /// Bytes between the stack pointer before the instruction in this row and the return address,
    /// at least; call frame information may know more.
    pub fn least_frame(&self, row: usize) -> u32 {
        self.least_frames[row]
    }

    /// Whether a register holds an address in the function's own frame before the instruction in
    /// this row.
    pub fn is_in_frame(&self, row: usize, register: Register) -> bool {
        self.in_frame[row].holds(register)
    }

    /// The control flow graph.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Number of the function that the instruction in this row belongs to.
    pub fn owner(&self, row: usize) -> usize {
        self.owner[row]
    }

    /// First instructions of the functions.
    fn entries(&self) -> impl Iterator<Item = usize> {
        self.bodies.iter().filter_map(|body| body.entry)
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

    /// What is held at the instruction in this row on all paths from the gate; `None` when there is
    /// no path. Interrupts do not count: the check compares their flag with that at the gate.
    pub fn since(&self, from: &FromGate, row: usize) -> Option<Since> {
        let (entry, own) = from.0[self.owner[row]].zip(self.before[row])?;
        Some(match entry.plus(&own).releasable() {
            Some((0, 0)) => Since::Nothing,
            Some((rcu, bottom_halves)) => Since::Counts { rcu, bottom_halves },
            None => Since::Else,
        })
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
            let (Effect::Acquire(k) | Effect::TryAcquire(k, _) | Effect::Release(k)) = step.effect;
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
            let attempt = self.tries.get(&row);
            let along = |taken: bool| match attempt {
                Some(attempt) => after.settled(attempt.kind, attempt.acquires(taken)),
                None => after,
            };
            if flow.leaves[row] {
                merge(&mut leaves, &along(true));
            }
            for next in flow.next[row].iter().copied() {
                let after = along(next != row + 1);
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
            let after = before.apply(step.effect);
            let halves = step.halves.then(|| after.apply(step.effect.of(Held::Bh)));
            return Some(halves.unwrap_or(after));
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
