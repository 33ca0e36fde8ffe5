//! Invariants of tables and plan. Each finding is a bug of this crate, so all of them are
//! [`Code::InvariantBroken`]:
//!
//! - every checked site has exactly one row and one probe, in the order of the sites;
//! - rows refer only to rows that exist, and keep the limits of `otf_abi.h`;
//! - every legal set allows something;
//! - what is left to audit has a row and a probe, once, and is no return;
//! - every checked call has a row and a probe, and a set of targets that names one or is weak;
//! - every cookie names a row, and no program is attached twice to one place.

use std::collections::BTreeSet;

use otf_artifact::{
    abi,
    bundle::{Plan, Program},
    diagnostic::{Code, Diagnostic},
    sites::{Coverage, Sites},
};

use crate::{calls, tables::Tables};

/// Checks the invariants; gives all that are broken.
pub fn check(tables: &Tables, plan: &Plan, sites: &Sites) -> Vec<Diagnostic> {
    let mut broken = Broken(Vec::new());
    check_sites(tables, plan, sites, &mut broken);
    check_calls(tables, plan, sites, &mut broken);
    check_legals(tables, plan, &mut broken);
    check_passed(tables, plan, &mut broken);
    check_places(tables, plan, &mut broken);
    check_probes(tables, plan, &mut broken);
    check_left(plan, &mut broken);
    broken.0
}

struct Broken(Vec<Diagnostic>);

impl Broken {
    fn unless(&mut self, holds: bool, message: impl FnOnce() -> String) {
        if !holds {
            self.0
                .push(Diagnostic::error(Code::InvariantBroken, message()));
        }
    }
}

fn check_sites(tables: &Tables, plan: &Plan, sites: &Sites, broken: &mut Broken) {
    let expected = sites.all().filter(|s| s.coverage == Coverage::Probe);
    let rows = plan.sites.iter().map(|site| &site.location);
    broken.unless(rows.eq(expected.map(|site| &site.location)), || {
        "the rows are not the checked sites, one by one".into()
    });
    broken.unless(tables.sites.len() == plan.sites.len(), || {
        format!(
            "{} site rows, {} in the plan",
            tables.sites.len(),
            plan.sites.len()
        )
    });
    let rows = || plan.covered.iter().map(|cover| cover.site);
    let known = |row: u32| (row as usize) < tables.sites.len();
    let holds = rows().is_sorted_by(|a, b| a < b)
        && plan
            .covered
            .iter()
            .all(|cover| known(cover.site) && cover.by.is_none_or(known));
    broken.unless(holds, || {
        "a site is covered twice, or by one without a row".into()
    });
    for (row, site) in tables.sites.iter().enumerate() {
        broken.unless((site.legal as usize) < tables.legals.len(), || {
            format!("site row {row} names legal row {}", site.legal)
        });
        broken.unless(usize::from(site.shape) < tables.shapes.len(), || {
            format!("site row {row} names shape {}", site.shape)
        });
        broken.unless(site.insn_len > 0 && site.size > 0, || {
            format!("site row {row} has no instruction or writes nothing")
        });
        broken.unless(usize::from(site.symbol) <= plan.globals.len(), || {
            format!("site row {row} names symbol {}", site.symbol)
        });
        broken.unless(usize::from(site.gates) <= tables.gate_sets.len(), || {
            format!("site row {row} names gate set {}", site.gates)
        });
        let known = abi::Action::from_raw(site.action.into()).is_some()
            && abi::LengthKind::from_raw((site.length & !abi::LENGTH_LEADER).into()).is_some();
        broken.unless(known, || {
            format!("site row {row} has an unknown action or length")
        });
    }
}

fn check_calls(tables: &Tables, plan: &Plan, sites: &Sites, broken: &mut Broken) {
    let expected = sites.calls.iter().filter(|call| calls::is_checked(call));
    let rows = plan.calls.iter().map(|call| &call.location);
    broken.unless(rows.eq(expected.map(|call| &call.location)), || {
        "the rows are not the checked calls, one by one".into()
    });
    broken.unless(tables.calls.len() == plan.calls.len(), || {
        "calls differ from the plan".into()
    });
    let named: BTreeSet<u32> = plan.targets.iter().map(|target| target.set).collect();
    for (row, call) in tables.calls.iter().enumerate() {
        let weak = call.flags & abi::CALL_WEAK != 0;
        broken.unless(weak || named.contains(&call.targets), || {
            format!("call row {row} may lead nowhere")
        });
        broken.unless(usize::from(call.shape) < tables.shapes.len(), || {
            format!("call row {row} names shape {}", call.shape)
        });
        broken.unless(usize::from(call.gates) <= tables.gate_sets.len(), || {
            format!("call row {row} names gate set {}", call.gates)
        });
        let known = abi::Action::from_raw(call.action.into()).is_some();
        broken.unless(call.insn_len > 0 && known, || {
            format!("call row {row} has no instruction or an unknown action")
        });
    }
    broken.unless(plan.targets.is_sorted_by(|a, b| a < b), || {
        "the targets are not sorted and unique".into()
    });
    broken.unless(tables.returns.len() == plan.returns.len(), || {
        "returns differ from the plan".into()
    });
    for (row, each) in tables.returns.iter().enumerate() {
        broken.unless((each.gate as usize) < tables.gates.len(), || {
            format!("return row {row} names gate {}", each.gate)
        });
    }
}

fn check_left(plan: &Plan, broken: &mut Broken) {
    let rows = || plan.left_to_audit.iter().map(|left| left.row);
    let may_be_left = plan.sites.len() + plan.calls.len();
    let holds = rows().is_sorted_by(|a, b| a < b) && rows().all(|row| (row as usize) < may_be_left);
    broken.unless(holds, || {
        "something is left to audit twice, or has no row, or must stay".into()
    });
}

fn check_legals(tables: &Tables, plan: &Plan, broken: &mut Broken) {
    for (row, legal) in tables.legals.iter().enumerate() {
        let end = |first: u32, count: u32| first as usize + count as usize;
        broken.unless(
            end(legal.first_place, legal.places) <= tables.places.len(),
            || format!("legal row {row} names places beyond the last"),
        );
        broken.unless(
            end(legal.first_passed, legal.passed.into()) <= tables.passed.len(),
            || format!("legal row {row} names objects on stacks beyond the last"),
        );
        broken.unless(
            end(legal.first_global, legal.globals) <= tables.global_rows.len(),
            || format!("legal row {row} names globals beyond the last"),
        );
        let within =
            legal.places as usize <= abi::MAX_PLACES && legal.globals as usize <= abi::MAX_GLOBALS;
        broken.unless(within, || format!("legal row {row} exceeds a limit"));
        let something = legal.stack != 0
            || legal.passed > 0
            || legal.flags != 0
            || legal.places > 0
            || legal.globals > 0;
        broken.unless(something, || format!("legal row {row} allows nothing"));
    }
    for (row, global) in tables.global_rows.iter().enumerate() {
        broken.unless((*global as usize) < plan.globals.len(), || {
            format!("row {row} of the globals names range {global}")
        });
    }
}

fn check_passed(tables: &Tables, plan: &Plan, broken: &mut Broken) {
    for (row, object) in tables.passed.iter().enumerate() {
        let known = (object.function as usize) < plan.entries.len()
            && (object.argument as usize) < abi::ARGUMENTS
            && object.size > 0;
        broken.unless(known, || format!("no entry notes object row {row}"));
    }
}

fn check_places(tables: &Tables, plan: &Plan, broken: &mut Broken) {
    let special = [abi::CACHE_GENERAL, abi::CACHE_ANY, abi::CACHE_NONE];
    for (row, place) in tables.places.iter().enumerate() {
        broken.unless(place.size > 0, || format!("place row {row} holds no byte"));
        let cache = special.contains(&place.cache) || (place.cache as usize) < plan.caches.len();
        broken.unless(cache, || {
            format!("place row {row} names cache {}", place.cache)
        });
        let dimensions = place
            .stride
            .iter()
            .zip(place.count)
            .all(|(s, count)| *s > 0 || count == 0);
        broken.unless(dimensions, || {
            format!("place row {row} counts elements without a stride")
        });
        let bits = (0..64 * abi::ALLOC_WORDS)
            .filter(|bit| place.allocations[bit / 64] >> (bit % 64) & 1 == 1);
        broken.unless(
            bits.max().is_none_or(|last| last < tables.allocs.len()),
            || format!("place row {row} names an allocation row beyond the last"),
        );
    }
}

fn check_probes(tables: &Tables, plan: &Plan, broken: &mut Broken) {
    broken.unless(tables.gates.len() == plan.gates.len(), || {
        "gates differ from the plan".into()
    });
    broken.unless(tables.allocs.len() == plan.allocations.len(), || {
        "allocations differ from the plan".into()
    });
    let mut seen = BTreeSet::new();
    let mut site_cookies = BTreeSet::new();
    let mut flow_cookies = BTreeSet::new();
    for probe in &plan.probes {
        let rows = match probe.program {
            Program::AllocationCall | Program::AllocationReturn => tables.allocs.len(),
            Program::Gate => tables.gates.len(),
            Program::Site => tables.sites.len(),
            Program::Call => tables.calls.len(),
            Program::Entry => plan.entries.len(),
            Program::Return => tables.returns.len(),
            Program::FreeBulk => 0,
            Program::PrivateHeap => usize::from(plan.private_heap.is_some()),
        };
        broken.unless(probe.cookie < rows as u64, || {
            format!("a probe at {:?} names row {}", probe.location, probe.cookie)
        });
        broken.unless(probe.location.image.index() < plan.images.len(), || {
            format!("a probe at {:?} lies in no image", probe.location)
        });
        broken.unless(seen.insert((probe.program, &probe.location)), || {
            format!("two probes of one program at {:?}", probe.location)
        });
        if probe.program == Program::Site {
            site_cookies.insert(probe.cookie);
        }
        if matches!(probe.program, Program::Call | Program::Return) {
            flow_cookies.insert((probe.program, probe.cookie));
        }
    }
    broken.unless(
        flow_cookies.len() == tables.calls.len() + tables.returns.len(),
        || "a row of calls or returns has no probe".into(),
    );
    broken.unless(site_cookies.len() == tables.sites.len(), || {
        format!(
            "{} of {} site rows have a probe",
            site_cookies.len(),
            tables.sites.len()
        )
    });
}
