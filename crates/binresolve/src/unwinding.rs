//! To which gates deny may unwind from an instruction, and what it gives back on the way.

use std::collections::BTreeMap;

use otf_artifact::{ids::GateId, sites::Release};

use crate::held::{FromGate, HeldAnalysis, Since};

/// What is held at an instruction, by the gate since which.
pub struct Unwinding(BTreeMap<GateId, Since>);

impl Unwinding {
    /// At the instruction in this row; all entries of a gate that lead here must agree.
    pub fn of(held: &HeldAnalysis, gates: &[(GateId, FromGate)], row: usize) -> Self {
        let mut since: BTreeMap<GateId, Since> = BTreeMap::new();
        for (gate, from) in gates {
            if let Some(now) = held.since(from, row) {
                let all = since.entry(*gate).or_insert(now);
                if *all != now {
                    *all = Since::Else;
                }
            }
        }
        Self(since)
    }

    /// Gates since which nothing is held.
    pub fn free(&self) -> Vec<GateId> {
        self.gates(Since::Nothing)
    }

    /// What is held since most of the gates since which it can be given back.
    pub fn release(&self) -> Option<Release> {
        let mut times: BTreeMap<Since, usize> = BTreeMap::new();
        for since in self.0.values() {
            if matches!(since, Since::Counts { .. }) {
                *times.entry(*since).or_default() += 1;
            }
        }
        // Of several the smallest.
        let (since, _) = times.into_iter().rev().max_by_key(|(_, count)| *count)?;
        let Since::Counts { rcu, bottom_halves } = since else {
            return None;
        };
        Some(Release {
            rcu,
            bottom_halves,
            gates: self.gates(since),
        })
    }

    fn gates(&self, wanted: Since) -> Vec<GateId> {
        let gates = self.0.iter().filter(|(_, since)| **since == wanted);
        gates.map(|(gate, _)| *gate).collect()
    }
}
