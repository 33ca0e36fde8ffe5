//! A bound policy as the rows that BPF programs read, and the plan that says how to attach them.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    FORMAT_VERSION, abi,
    analysis::{Family, LegalSet},
    bundle::{GlobalBinding, Plan, PlanGate, PlanSite, Probe, Program},
    diagnostic::{Code, Diagnostic},
    ids::{AllocationSiteId, GateId},
    sites::{Length, Location, OnSkip, Register, Release, Site, SiteKind, Sites},
};

use crate::{
    bind::{Bound, BoundSite},
    calls::{self, CallRows},
    covers, heap,
    legal_rows::legal_rows,
    passed::Entries,
    provenance::Provenance,
    quick, returns,
    shape::Shape,
    words,
};

/// Most operand shapes: they become code, and LLVM ends the process when a branch of a BPF program
/// does not reach over it.
pub const MAX_SHAPES: usize = 2048;

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
    /// `otf_gate_sets`, sorted.
    pub gate_sets: Vec<abi::GateSet>,
    /// `otf_allocs`.
    pub allocs: Vec<abi::Alloc>,
    /// `otf_passed_objects`.
    pub passed: Vec<abi::Passed>,
    /// `otf_calls`.
    pub calls: Vec<abi::Call>,
    /// `otf_returns`.
    pub returns: Vec<abi::Return>,
    /// `otf_own_caches`.
    pub own_caches: Vec<abi::NameWord>,
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
    let mut wanted: BTreeSet<AllocationSiteId> = bound
        .legal_sets
        .iter()
        .flat_map(|legal| recorded_for(&legal.set, sites))
        .collect();
    if bound.private_heap {
        wanted.extend(heap::allocations(sites));
    }
    let provenance = Provenance::new(&wanted, sites, &mut warnings);
    let used: BTreeSet<usize> = bound.sites.iter().map(|site| site.legal).collect();
    let sets = used.iter().map(|row| &bound.legal_sets[*row].set);
    let entries = Entries::of(sets, sites);
    let mut legal = legal_rows(
        &bound.legal_sets,
        sites,
        &provenance,
        &entries,
        &mut warnings,
    );
    let symbols = symbol_rows(
        bound
            .sites
            .iter()
            .filter_map(|entry| sites.site(entry.site).operand_symbol.as_ref()),
        &mut legal.globals,
    )?;
    let gate_sets = gate_sets(bound, sites);
    let refers = References { symbols, gate_sets };
    let calls = calls::rows(bound, sites, |call| refers.gate_set(&call.unwind_gates));
    let returns = returns::rows(bound, sites);
    let site_rows = site_rows(bound, sites, &refers)?;
    let shapes = shapes(&site_rows, &calls)?;
    let plan = Plan {
        version: FORMAT_VERSION,
        images: sites.images.clone(),
        probes: probes(
            bound,
            sites,
            &provenance,
            &entries,
            [&calls.probes, &returns.probes],
        ),
        entries: entries.functions,
        globals: legal.globals,
        caches: legal.caches,
        sites: bound
            .sites
            .iter()
            .zip(&site_rows)
            .map(|(site, (shape, row))| PlanSite {
                quick: quick::quick(*shape, row, &legal.legals),
                ..plan_site(site, bound, sites)
            })
            .collect(),
        covered: covers::plan(bound),
        left_to_audit: Vec::new(),
        calls: calls.plan,
        returns: returns.plan,
        targets: calls.targets,
        gates: bound.gates.iter().map(plan_gate).collect(),
        allocations: provenance
            .rows
            .iter()
            .map(|row| allocation_text(&row.members, sites))
            .collect(),
        default_action: bound.default_action,
        private_heap: bound.private_heap.then(|| heap::plan(sites)),
        recording: None,
    };
    let tables = Tables {
        sites: numbered(site_rows, &shapes, |row, shape| abi::Site { shape, ..row }),
        legals: legal.legals,
        places: legal.places,
        global_rows: legal.global_rows,
        gates: bound.gates.iter().map(gate_row).collect(),
        gate_sets: refers.gate_sets,
        allocs: provenance.rows.iter().map(|row| row.row).collect(),
        passed: legal.passed,
        calls: numbered(calls.rows, &shapes, |row, shape| abi::Call { shape, ..row }),
        returns: returns.rows,
        own_caches: if bound.private_heap {
            heap::own_caches(sites, &provenance, &mut warnings)
        } else {
            Vec::new()
        },
        shapes: shapes.into_iter().collect(),
    };
    Ok(Built {
        tables,
        plan,
        warnings,
    })
}

/// Allocation sites whose records may change a verdict on this set. Where any object will do, they only
/// give the bounds of what no slab or folio has.
fn recorded_for<'a>(
    set: &'a LegalSet,
    sites: &'a Sites,
) -> impl Iterator<Item = AllocationSiteId> + 'a {
    let bounded = |id: &AllocationSiteId| {
        let site = sites.analysis.allocation_sites.get(id.index());
        site.is_some_and(|site| matches!(site.family, Family::Slab | Family::Kmalloc))
    };
    let all = set.heap.iter().flat_map(|place| &place.allocation_sites);
    all.filter(move |id| set.any_heap.is_none() || !bounded(id))
        .copied()
}

/// What site rows refer to besides legal sets and shapes.
struct References {
    symbols: BTreeMap<Location, u16>,
    gate_sets: Vec<abi::GateSet>,
}

impl References {
    fn symbol(&self, site: &Site) -> u16 {
        let row = site
            .operand_symbol
            .as_ref()
            .and_then(|symbol| self.symbols.get(symbol));
        row.copied().unwrap_or(0)
    }

    /// A set beyond the last row that fits is left out: such a site does not unwind.
    fn gate_set(&self, gates: &[GateId]) -> u16 {
        let row = self.gate_sets.binary_search(&gate_set(gates)).ok();
        row.and_then(|row| u16::try_from(row + 1).ok()).unwrap_or(0)
    }
}

/// The distinct sets of gates from which a site may be unwound to.
fn gate_sets(bound: &Bound, sites: &Sites) -> Vec<abi::GateSet> {
    let of_sites = bound
        .sites
        .iter()
        .map(|entry| &sites.site(entry.site).unwind_gates);
    let released = bound
        .sites
        .iter()
        .filter_map(|entry| sites.site(entry.site).release.as_ref())
        .map(|release| &release.gates);
    let of_calls = bound
        .calls
        .iter()
        .map(|entry| &sites.calls[entry.call.index()].unwind_gates);
    let sets = of_sites
        .chain(released)
        .chain(of_calls)
        .map(|gates| gate_set(gates));
    let distinct: BTreeSet<_> = sets.filter(|set| *set != abi::GateSet::default()).collect();
    distinct.into_iter().collect()
}

/// Gates beyond those that a set can name are left out: from them a site does not unwind.
fn gate_set(gates: &[GateId]) -> abi::GateSet {
    let mut set = abi::GateSet::default();
    for gate in gates {
        if let Some(word) = set.gates.get_mut(gate.index() / 64) {
            *word |= 1 << (gate.index() % 64);
        }
    }
    set
}

/// Rows of the globals for symbols that operands are relative to, plus one. No legal set names
/// these rows: they only give an address.
pub(crate) fn symbol_rows<'a>(
    used: impl Iterator<Item = &'a Location>,
    globals: &mut Vec<GlobalBinding>,
) -> Result<BTreeMap<Location, u16>, Vec<Diagnostic>> {
    let used: BTreeSet<&Location> = used.collect();
    let mut rows = BTreeMap::new();
    for location in used {
        // The loader compares a name with the kernel's symbols: only one that starts here has one.
        let symbol = if location.symbol_offset == 0 {
            location.symbol.clone()
        } else {
            String::new()
        };
        globals.push(GlobalBinding {
            image: location.image,
            symbol,
            location: location.clone(),
            size: 0,
        });
        let Ok(row) = u16::try_from(globals.len()) else {
            let message = "more than 65,535 globals and operand symbols";
            return Err(vec![Diagnostic::error(Code::PolicyTooLarge, message)]);
        };
        rows.insert(location.clone(), row);
    }
    Ok(rows)
}

fn site_rows(
    bound: &Bound,
    sites: &Sites,
    refers: &References,
) -> Result<Vec<(Shape, abi::Site)>, Vec<Diagnostic>> {
    let ranges = covers::ranges(bound, sites);
    let leaders = covers::leaders(bound);
    let mut errors = Vec::new();
    let mut rows = Vec::new();
    for entry in &bound.sites {
        let site = sites.site(entry.site);
        let range = ranges.get(&entry.site);
        let row = Shape::of(site).and_then(|shape| {
            let row = site_row(site, entry.legal as u32, entry.action)?;
            let row = range.map_or(row, |range| range.of(&row));
            let leads = leaders.contains(&entry.site);
            Ok((
                shape,
                abi::Site {
                    length: row.length | if leads { abi::LENGTH_LEADER } else { 0 },
                    symbol: refers.symbol(site),
                    gates: refers.gate_set(&site.unwind_gates),
                    release: site.release.as_ref().map_or(0, release),
                    release_gates: site
                        .release
                        .as_ref()
                        .map_or(0, |release| refers.gate_set(&release.gates)),
                    ..row
                },
            ))
        });
        match row {
            Ok(row) => rows.push(row),
            Err(why) => errors.push(impossible(site, why)),
        }
    }
    if errors.is_empty() {
        Ok(rows)
    } else {
        Err(errors)
    }
}

/// The distinct operand shapes of all rows.
fn shapes(
    sites: &[(Shape, abi::Site)],
    calls: &CallRows,
) -> Result<BTreeSet<Shape>, Vec<Diagnostic>> {
    let of_calls = calls.rows.iter().map(|(shape, _)| *shape);
    let distinct: BTreeSet<Shape> = sites.iter().map(|(s, _)| *s).chain(of_calls).collect();
    if distinct.len() > MAX_SHAPES {
        let message = format!("{} operand shapes, more than {MAX_SHAPES}", distinct.len());
        let error = Diagnostic::error(Code::PolicyTooLarge, message);
        return Err(vec![error.help("split the compartment")]);
    }
    Ok(distinct)
}

/// Rows with the number of their shape.
fn numbered<R>(
    rows: Vec<(Shape, R)>,
    shapes: &BTreeSet<Shape>,
    with: impl Fn(R, u16) -> R,
) -> Vec<R> {
    let numbers: BTreeMap<Shape, u16> = shapes.iter().copied().zip(0..).collect();
    rows.into_iter()
        .map(|(shape, row)| with(row, numbers[&shape]))
        .collect()
}

pub(crate) fn impossible(site: &Site, why: &str) -> Diagnostic {
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

/// The row of a site, but for its shape and what is in other tables.
pub(crate) fn site_row(
    site: &Site,
    legal: u32,
    action: abi::Action,
) -> Result<abi::Site, &'static str> {
    let (length, factor) = match site.length {
        Length::Constant(bytes) => (abi::LengthKind::Constant, bytes),
        Length::Register(Register::Cx, factor) => (abi::LengthKind::Cx, factor),
        Length::Register(Register::Dx, factor) => (abi::LengthKind::Dx, factor),
        Length::Register(Register::Si, factor) => (abi::LengthKind::Si, factor),
        Length::Register(..) => return Err("its length is in a register that no row can name"),
    };
    Ok(abi::Site {
        displacement: site.operand.displacement,
        legal,
        size: factor,
        frame_size: site.frame_size.unwrap_or(0),
        shape: 0,
        length: length as u8,
        flags: site_flags(site),
        insn_len: site.instruction_length,
        action: action as u8,
        symbol: 0,
        gates: 0,
        saved: site.guarded.saved,
        canary: site.guarded.canary,
        pointer: pointer(site),
        release: 0,
        release_gates: 0,
        pad: [0; 4],
    })
}

/// Both counts are below 16: the analysis does not count that far.
fn release(release: &Release) -> u8 {
    release.rcu.min(15) | release.bottom_halves.min(15) << 4
}

/// The register for the same-object rule, as `otf_abi.h` numbers them.
fn pointer(site: &Site) -> u8 {
    let number = site.same_object.and_then(Register::dwarf_number);
    let number = number.and_then(|number| u8::try_from(number).ok());
    number.map_or(0, |number| abi::POINTER_AX + number)
}

fn site_flags(site: &Site) -> u8 {
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    let callee = site.callee.as_deref().unwrap_or("");
    flag(site.kind == SiteKind::Free, abi::SITE_FREE)
        | flag(site.tail, abi::SITE_TAIL)
        | flag(site.operand.per_cpu, abi::SITE_PERCPU)
        | flag(returns_destination(callee), abi::SITE_RETURNS_DI)
        | flag(returns_rest(callee), abi::SITE_RETURNS_LENGTH)
        | flag(site.frame_size.is_some(), abi::SITE_FRAME)
        | flag(site.on_skip == OnSkip::SetZero, abi::SITE_SKIP_ZF)
        | flag(site.on_skip == OnSkip::ClearCarry, abi::SITE_SKIP_CF)
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

fn probes(
    bound: &Bound,
    sites: &Sites,
    provenance: &Provenance,
    entries: &Entries<'_>,
    flow: [&Vec<Probe>; 2],
) -> Vec<Probe> {
    // Attached first, the guard runs them last: they end a hit.
    let mut probes = if bound.private_heap {
        heap::probes(sites)
    } else {
        Vec::new()
    };
    probes.extend(provenance.probes.iter().cloned());
    probes.extend(entries.probes.iter().cloned());
    probes.extend(gate_probes(sites));
    probes.extend(bound.sites.iter().zip(0..).map(|(entry, cookie)| Probe {
        program: Program::Site,
        location: sites.site(entry.site).location.clone(),
        cookie,
        room: None,
    }));
    probes.extend(flow.into_iter().flatten().cloned());
    with_rooms(probes, sites)
}

/// Which of them can be jumps. Calls that go to a private heap cannot: the guard has a breakpoint there.
fn with_rooms(mut probes: Vec<Probe>, sites: &Sites) -> Vec<Probe> {
    let heap = |probe: &&Probe| probe.program == Program::PrivateHeap;
    let sent: BTreeSet<Location> = probes
        .iter()
        .filter(heap)
        .map(|probe| probe.location.clone())
        .collect();
    for probe in &mut probes {
        if !sent.contains(&probe.location) {
            probe.room = sites.room(&probe.location);
        }
    }
    probes
}

/// Probes at the gates, by place.
pub(crate) fn gate_probes(sites: &Sites) -> Vec<Probe> {
    let mut gates: Vec<Probe> = sites
        .gate_probes
        .iter()
        .map(|gate| Probe {
            program: Program::Gate,
            location: gate.location.clone(),
            cookie: u64::from(gate.gate.0),
            room: None,
        })
        .collect();
    gates.sort_by(|a, b| (&a.location, a.cookie).cmp(&(&b.location, b.cookie)));
    gates
}

fn plan_site(entry: &BoundSite, bound: &Bound, sites: &Sites) -> PlanSite {
    let site = sites.site(entry.site);
    PlanSite {
        location: site.location.clone(),
        text: site.text.clone(),
        chain: site.chain.clone(),
        legal: words::describe(&bound.legal_sets[entry.legal].set, &sites.analysis),
        quick: None,
    }
}

pub(crate) fn plan_gate(gate: &otf_artifact::analysis::Gate) -> PlanGate {
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
