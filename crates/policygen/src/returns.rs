//! Returns of gates: the only ones of which the legal address is known, the gate's caller.

use std::collections::BTreeMap;

use otf_artifact::{
    abi,
    bundle::{PlanSite, Probe, Program},
    ids::{GateId, ImageId},
    places::Frame,
    sites::{Coverage, Location, Sites},
};

use crate::bind::Bound;

/// What the returns of a policy become.
#[derive(Default)]
pub(crate) struct ReturnRows {
    /// Rows.
    pub rows: Vec<abi::Return>,
    /// Rows for people.
    pub plan: Vec<PlanSite>,
    /// Probes, by row.
    pub probes: Vec<Probe>,
}

/// Where the function of a place begins.
fn start(location: &Location) -> (ImageId, &str, u64) {
    let start = location.offset.wrapping_sub(location.symbol_offset);
    (location.image, &location.section, start)
}

/// Rows of the returns that lie in functions that are gates; none unless the policy wants them.
pub(crate) fn rows(bound: &Bound, sites: &Sites) -> ReturnRows {
    let mut result = ReturnRows::default();
    if !bound.returns {
        return result;
    }
    let gates: BTreeMap<_, GateId> = sites
        .gate_probes
        .iter()
        .map(|probe| (start(&probe.location), probe.gate))
        .collect();
    for each in &sites.returns {
        let Some(id) = gates.get(&start(&each.location)) else {
            continue;
        };
        let Some(gate) = bound.gates.get(id.index()) else {
            continue;
        };
        if each.coverage != Coverage::Probe {
            continue;
        }
        result.probes.push(Probe {
            program: Program::Return,
            location: each.location.clone(),
            cookie: result.rows.len() as u64,
            room: None,
        });
        result.rows.push(abi::Return {
            gate: id.0,
            action: abi::Action::Deny as u8,
            ..abi::Return::default()
        });
        result.plan.push(PlanSite {
            location: each.location.clone(),
            text: if each.thunk {
                "jmp __x86_return_thunk".into()
            } else {
                "ret".into()
            },
            chain: vec![Frame {
                function: gate.function.clone(),
                file: gate.file.clone(),
                line: 0,
                column: 0,
            }],
            legal: format!("return to the caller of {}", gate.function),
            quick: None,
        });
    }
    result
}
