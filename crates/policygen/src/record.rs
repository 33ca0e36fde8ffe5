//! Sites to the contents of a bundle that records what they write, and judges nothing.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    FORMAT_VERSION, abi,
    bundle::{GlobalBinding, Manifest, Plan, PlanGate, PlanSite, Probe, Program, RecordingPlan},
    diagnostic::{Code, Diagnostic},
    ids::{CallSiteId, SiteId},
    sites::{Coverage, Site, Sites},
};
use otf_bundle::Bundle;

use crate::{
    calls::{UNREADABLE, can_read, operand_of},
    codegen::{RECORD_LIBRARY, emit},
    compile::build_ids,
    inspect::coverage,
    shape::Shape,
    tables::{MAX_SHAPES, Tables, gate_probes, impossible, plan_gate, site_row, symbol_rows},
};

/// What goes into the bundle besides the sites.
#[derive(Clone, Debug)]
pub struct RecordInputs {
    /// `uname -r` of the kernel.
    pub release: String,
    /// SHA-256 (hex) of the files the bundle is made from, by name.
    pub hashes: BTreeMap<String, String>,
}

/// Makes the contents of a bundle that records every probed site and indirect call.
///
/// # Errors
/// [`Code::InvariantBroken`] for an operand that no program can compute,
/// [`Code::PolicyTooLarge`] and [`Code::CompileFailed`] as `compile` has them.
pub fn record(sites: &Sites, inputs: RecordInputs) -> Result<Bundle, Vec<Diagnostic>> {
    let probed: Vec<SiteId> = rows_where(&sites.sites, |site| site.coverage == Coverage::Probe);
    let calls: Vec<CallSiteId> = rows_where(&sites.calls, |call| {
        call.coverage == Coverage::Probe && can_read(call)
    });
    let unread = sites
        .calls
        .iter()
        .filter(|call| call.coverage == Coverage::Probe && !can_read(call));
    let left_out = match unread.count() as u64 {
        0 => BTreeMap::new(),
        count => BTreeMap::from([(UNREADABLE.to_owned(), count)]),
    };
    let mut globals: Vec<GlobalBinding> = Vec::new();
    let symbols = symbol_rows(
        probed
            .iter()
            .filter_map(|id| sites.site(*id).operand_symbol.as_ref()),
        &mut globals,
    )?;
    let tables = tables(sites, &probed, &calls, &symbols)?;
    let object = emit(RECORD_LIBRARY, &tables).map_err(|e| vec![e])?;
    let plan = Plan {
        covered: Vec::new(),
        left_to_audit: Vec::new(),
        version: FORMAT_VERSION,
        images: sites.images.clone(),
        probes: probes(sites, &probed, &calls),
        globals,
        caches: Vec::new(),
        sites: probed.iter().map(|id| plan_site(sites.site(*id))).collect(),
        entries: Vec::new(),
        calls: Vec::new(),
        returns: Vec::new(),
        targets: Vec::new(),
        gates: sites
            .analysis
            .gates
            .iter()
            .map(plan_gate)
            .collect::<Vec<PlanGate>>(),
        allocations: Vec::new(),
        default_action: abi::Action::Audit,
        private_heap: None,
        recording: Some(RecordingPlan {
            sites: probed,
            calls,
            left_out,
        }),
    };
    let manifest = Manifest {
        version: FORMAT_VERSION,
        kernel: sites.analysis.kernel.clone(),
        compartment: sites.analysis.compartment.clone(),
        release: inputs.release,
        build_ids: build_ids(sites)?,
        members: BTreeMap::new(),
        inputs: inputs.hashes,
        coverage: coverage(sites),
    };
    Ok(Bundle {
        manifest,
        plan,
        policy: "# A recording: nothing is checked.\n".into(),
        object,
        guard: Vec::new(),
    })
}

fn rows_where<T, I: From<usize>>(table: &[T], wanted: impl Fn(&T) -> bool) -> Vec<I> {
    let rows = table.iter().enumerate().filter(|(_, row)| wanted(row));
    rows.map(|(row, _)| I::from(row)).collect()
}

fn tables(
    sites: &Sites,
    probed: &[SiteId],
    calls: &[CallSiteId],
    symbols: &BTreeMap<otf_artifact::sites::Location, u16>,
) -> Result<Tables, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let mut site_rows = Vec::new();
    for id in probed {
        let site = sites.site(*id);
        let symbol = site.operand_symbol.as_ref().and_then(|s| symbols.get(s));
        let row = Shape::of(site).and_then(|shape| {
            let row = site_row(site, 0, abi::Action::Audit)?;
            Ok((
                shape,
                abi::Site {
                    symbol: symbol.copied().unwrap_or(0),
                    ..row
                },
            ))
        });
        match row {
            Ok(row) => site_rows.push(row),
            Err(why) => errors.push(impossible(site, why)),
        }
    }
    let mut call_rows = Vec::new();
    for id in calls {
        let (operand, memory) = operand_of(&sites.calls[id.index()]);
        // Only those that can be read are here.
        let Ok(shape) = Shape::of_operand(operand) else {
            continue;
        };
        let row = abi::Call {
            displacement: operand.displacement,
            memory: memory.into(),
            ..abi::Call::default()
        };
        call_rows.push((shape, row));
    }
    let shapes: BTreeSet<Shape> = site_rows
        .iter()
        .map(|(shape, _)| *shape)
        .chain(call_rows.iter().map(|(shape, _)| *shape))
        .collect();
    if shapes.len() > MAX_SHAPES {
        let message = format!("{} operand shapes, more than {MAX_SHAPES}", shapes.len());
        errors.push(Diagnostic::error(Code::PolicyTooLarge, message).help("split the compartment"));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let numbers: BTreeMap<Shape, u16> = shapes.iter().copied().zip(0..).collect();
    Ok(Tables {
        sites: site_rows
            .into_iter()
            .map(|(shape, row)| abi::Site {
                shape: numbers[&shape],
                ..row
            })
            .collect(),
        calls: call_rows
            .into_iter()
            .map(|(shape, row)| abi::Call {
                shape: numbers[&shape],
                ..row
            })
            .collect(),
        shapes: shapes.into_iter().collect(),
        ..Tables::default()
    })
}

/// Gates first, so that the first write already knows its gate.
fn probes(sites: &Sites, writes: &[SiteId], calls: &[CallSiteId]) -> Vec<Probe> {
    let mut probes = gate_probes(sites);
    probes.extend(writes.iter().zip(0..).map(|(id, cookie)| Probe {
        program: Program::Site,
        location: sites.site(*id).location.clone(),
        cookie,
        room: None,
    }));
    probes.extend(calls.iter().zip(0..).map(|(id, cookie)| Probe {
        program: Program::Call,
        location: sites.calls[id.index()].location.clone(),
        cookie,
        room: None,
    }));
    probes
}

/// The judge has the sites themselves: chain and legal set stay out.
fn plan_site(site: &Site) -> PlanSite {
    PlanSite {
        location: site.location.clone(),
        text: site.text.clone(),
        chain: Vec::new(),
        legal: String::new(),
        quick: None,
    }
}
