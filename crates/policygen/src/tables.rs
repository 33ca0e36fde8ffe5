//! A bound policy as the rows that BPF programs read, and the plan that says how to attach them.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    FORMAT_VERSION, abi,
    bundle::{Plan, PlanGate, PlanSite, Probe, Program},
    diagnostic::{Code, Diagnostic},
    ids::AllocationSiteId,
    sites::{Length, Register, Site, Sites, Unwind},
};

use crate::{
    bind::{Bound, BoundSite},
    legal_rows::legal_rows,
    provenance::Provenance,
    shape::Shape,
    words,
};

/// The rows of every table. A row's number is the cookie of its probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// `otf_sites`.
    pub sites: Vec<abi::Site>,
    /// `otf_legals`.
    pub legals: Vec<abi::Legal>,
    /// `otf_places`.
    pub places: Vec<abi::Place>,
    /// `otf_global_rows`.
    pub global_rows: Vec<u32>,
    /// `otf_gates`.
    pub gates: Vec<abi::Gate>,
    /// `otf_allocs`.
    pub allocs: Vec<abi::Alloc>,
    /// Cases of `otf_effective_address`, sorted.
    pub shapes: Vec<Shape>,
}

/// What [`build`] makes.
#[derive(Clone, Debug)]
pub struct Built {
    /// The rows.
    pub tables: Tables,
    /// How to attach them.
    pub plan: Plan,
    /// What was widened to keep a limit.
    pub warnings: Vec<Diagnostic>,
}

/// Makes rows and plan.
///
/// # Errors
/// [`Code::InvariantBroken`] for a site whose operand no program can compute: such a site should
/// have been listed as unprobable.
pub fn build(bound: &Bound, sites: &Sites) -> Result<Built, Vec<Diagnostic>> {
    let mut warnings = Vec::new();
    let wanted: BTreeSet<AllocationSiteId> = bound
        .legal_sets
        .iter()
        .flat_map(|legal| &legal.set.heap)
        .flat_map(|place| &place.allocation_sites)
        .copied()
        .collect();
    let provenance = Provenance::new(&wanted, sites, &mut warnings);
    let legal = legal_rows(&bound.legal_sets, sites, &provenance, &mut warnings);
    let (site_rows, shapes) = site_rows(bound, sites)?;
    let plan = Plan {
        version: FORMAT_VERSION,
        images: sites.images.clone(),
        probes: probes(bound, sites, &provenance),
        globals: legal.globals,
        caches: legal.caches,
        sites: bound
            .sites
            .iter()
            .map(|site| plan_site(site, bound, sites))
            .collect(),
        gates: bound.gates.iter().map(plan_gate).collect(),
        allocations: provenance
            .rows
            .iter()
            .map(|row| allocation_text(&row.members, sites))
            .collect(),
        default_action: bound.default_action,
    };
    let tables = Tables {
        sites: site_rows,
        legals: legal.legals,
        places: legal.places,
        global_rows: legal.global_rows,
        gates: bound.gates.iter().map(gate_row).collect(),
        allocs: provenance.rows.iter().map(|row| row.row).collect(),
        shapes,
    };
    Ok(Built {
        tables,
        plan,
        warnings,
    })
}

fn site_rows(
    bound: &Bound,
    sites: &Sites,
) -> Result<(Vec<abi::Site>, Vec<Shape>), Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let mut rows = Vec::new();
    for entry in &bound.sites {
        let site = sites.site(entry.site);
        let row = Shape::of(site).and_then(|shape| Ok((shape, site_row(site, entry)?)));
        match row {
            Ok(row) => rows.push(row),
            Err(why) => errors.push(impossible(site, why)),
        }
    }
    let distinct: BTreeSet<Shape> = rows.iter().map(|(shape, _)| *shape).collect();
    if distinct.len() > usize::from(u16::MAX) {
        errors.push(Diagnostic::error(
            Code::PolicyTooLarge,
            "more than 65,535 operand shapes",
        ));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let numbers: BTreeMap<Shape, u16> = distinct.iter().copied().zip(0..).collect();
    let number = |(shape, row): (Shape, abi::Site)| abi::Site {
        shape: numbers[&shape],
        ..row
    };
    Ok((
        rows.into_iter().map(number).collect(),
        distinct.into_iter().collect(),
    ))
}

fn impossible(site: &Site, why: &str) -> Diagnostic {
    let place = format!(
        "{}+{:#x}",
        site.location.symbol, site.location.symbol_offset
    );
    let error = Diagnostic::error(
        Code::InvariantBroken,
        format!("`{}` at {place} is to be probed, but {why}", site.text),
    );
    match site.chain.first() {
        Some(frame) => error.at(frame.file.clone(), frame.line, frame.column),
        None => error,
    }
}

fn site_row(site: &Site, entry: &BoundSite) -> Result<abi::Site, &'static str> {
    let (length, size) = match site.length {
        Length::Constant(bytes) => (abi::LengthKind::Constant, bytes),
        Length::Register(Register::Cx, factor) => (abi::LengthKind::Cx, factor),
        Length::Register(Register::Dx, factor) => (abi::LengthKind::Dx, factor),
        Length::Register(Register::Si, factor) => (abi::LengthKind::Si, factor),
        Length::Register(..) => return Err("its length is in a register that no row can name"),
    };
    Ok(abi::Site {
        displacement: site.operand.displacement,
        legal: entry.legal as u32,
        size,
        frame_size: site.frame_size.unwrap_or(0),
        shape: 0,
        length: length as u8,
        flags: site_flags(site),
        insn_len: site.instruction_length,
        action: entry.action as u8,
        pad: [0; 6],
    })
}

fn site_flags(site: &Site) -> u8 {
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    let callee = site.callee.as_deref().unwrap_or("");
    flag(site.unwind == Unwind::Safe, abi::SITE_UNWIND)
        | flag(site.operand.per_cpu, abi::SITE_PERCPU)
        | flag(returns_destination(callee), abi::SITE_RETURNS_DI)
        | flag(returns_rest(callee), abi::SITE_RETURNS_LENGTH)
        | flag(site.frame_size.is_some(), abi::SITE_FRAME)
}

/// Functions that return their first argument.
fn returns_destination(callee: &str) -> bool {
    let plain = callee.trim_start_matches('_');
    [
        "memcpy", "memset", "memmove", "memset16", "memset32", "memset64",
    ]
    .contains(&plain)
        || ["strcpy", "strncpy", "strcat", "strncat"].contains(&plain)
}

/// Functions that return how many bytes they did not write.
fn returns_rest(callee: &str) -> bool {
    let plain = callee.trim_start_matches('_').trim_start_matches("raw_");
    plain.starts_with("copy_from_user")
        || plain.starts_with("copy_to_user")
        || plain.starts_with("copy_user_")
        || plain.starts_with("clear_user")
        || plain == "rep_movs_alternative"
        || plain == "rep_stos_alternative"
}

fn gate_row(gate: &otf_artifact::analysis::Gate) -> abi::Gate {
    abi::Gate {
        refusal: gate.refusal.value,
        instance: gate.instance_argument.unwrap_or(abi::NO_INSTANCE),
        pad: [0; 7],
    }
}

fn probes(bound: &Bound, sites: &Sites, provenance: &Provenance) -> Vec<Probe> {
    let mut probes = provenance.probes.clone();
    let mut gates: Vec<Probe> = sites
        .gate_probes
        .iter()
        .map(|gate| Probe {
            program: Program::Gate,
            location: gate.location.clone(),
            cookie: u64::from(gate.gate.0),
        })
        .collect();
    gates.sort_by(|a, b| (&a.location, a.cookie).cmp(&(&b.location, b.cookie)));
    probes.append(&mut gates);
    probes.extend(bound.sites.iter().zip(0..).map(|(entry, cookie)| Probe {
        program: Program::Site,
        location: sites.site(entry.site).location.clone(),
        cookie,
    }));
    probes
}

fn plan_site(entry: &BoundSite, bound: &Bound, sites: &Sites) -> PlanSite {
    let site = sites.site(entry.site);
    PlanSite {
        location: site.location.clone(),
        text: site.text.clone(),
        chain: site.chain.clone(),
        legal: words::describe(&bound.legal_sets[entry.legal].set, &sites.analysis),
    }
}

fn plan_gate(gate: &otf_artifact::analysis::Gate) -> PlanGate {
    PlanGate {
        function: gate.function.clone(),
        reached_by: gate.reached_by.clone(),
        instance_type: gate.instance_type.clone(),
        refusal: gate.refusal.name.clone(),
    }
}

fn allocation_text(members: &BTreeSet<AllocationSiteId>, sites: &Sites) -> String {
    let text = |id: &AllocationSiteId| {
        let site = sites.analysis.allocation_sites.get(id.index())?;
        Some(format!("{}, {}:{}", site.function, site.file, site.line))
    };
    members
        .iter()
        .filter_map(text)
        .collect::<Vec<_>>()
        .join(" or ")
}
