//! `status`: what is loaded, whether it still works, and everything that could fail open.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use libbpf_rs::query::{LinkInfo, LinkTypeInfo, PerfEventType};
use libbpf_rs::{MapCore, MapFlags};
use otf_artifact::{
    abi::{Action, Counter, Phase, SiteCount},
    bundle::{Plan, PlanSite, Program},
    diagnostic::Diagnostic,
};
use serde::Serialize;

use crate::alarm::{self, Seen};
use crate::attach::program_name;
use crate::bind::{self, label};
use crate::control;
use crate::event::Hex;
use crate::guard_heap::{self, Heap};
use crate::host::{Host, kprobes};
use crate::meta::Meta;
use crate::object::{self, kernel_refused};
use crate::pins::Folder;
use crate::verify::Signer;
use crate::{guard, guard_probes, pod, sys, time};

/// Sites that are listed: those with most violations, then those with most hits.
const TOP: usize = 10;

/// State of one compartment.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Name.
    pub compartment: String,
    /// Kernel profile.
    pub kernel: String,
    /// Who owns the probes.
    pub owner: &'static str,
    /// Action at load.
    pub action: Action,
    /// Phase.
    pub phase: Phase,
    /// UTC, RFC 3339.
    pub loaded: String,
    /// SHA-256 of the bundle.
    pub bundle: String,
    /// Who signed it.
    pub signer: Signer,
    /// Probes by program: planned and attached.
    pub probes: BTreeMap<&'static str, Attached>,
    /// Places whose probes are a jump, not a breakpoint.
    pub jumps: usize,
    /// Sites with a probe, and all of them.
    pub sites_probed: u64,
    /// Memory-writing instructions, proven and unprobable ones included.
    pub sites: u64,
    /// Sites that cannot be probed: they are not checked.
    pub unprobable: u64,
    /// What is not checked under this action, to keep the policy's budgets.
    pub left_to_audit: Vec<Left>,
    /// Checks that are made under audit though the budgets have no room for them.
    pub over_budget: usize,
    /// Slab caches that were not there when the policy was loaded, as a module makes them: an object of any
    /// cache is taken for one of theirs.
    pub absent_caches: Vec<String>,
    /// Indirect calls.
    pub calls: Calls,
    /// Counters by name.
    pub counters: BTreeMap<Counter, u64>,
    /// Runs of a program that the kernel left out because another one ran on that CPU.
    pub recursion_misses: BTreeMap<String, u64>,
    /// Hits of probes that the kernel could not handle.
    pub missed_hits: u64,
    /// The private heap, if the policy has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_heap: Option<Heap>,
    /// Quarantined instances.
    pub quarantined: Vec<Quarantined>,
    /// Sites with most violations and hits.
    pub top_sites: Vec<TopSite>,
    /// What is wrong now; empty when all is well.
    pub alarms: Vec<String>,
}

/// How many indirect calls are checked, and how well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// In the code.
    pub all: u64,
    /// With a probe.
    pub probed: u64,
    /// Of these: not every legal target is known, any function is accepted.
    pub weak: u64,
}

/// A write, free or call that is left to audit.
#[derive(Clone, Debug, Serialize)]
pub struct Left {
    /// `symbol+0xoffset [image]`.
    pub symbol: String,
    /// `file:line` of the innermost frame.
    pub place: String,
    /// Whose budget has no room for it.
    pub operation: String,
    /// What it would cost, and what it is worth.
    pub why: String,
}

/// How many of the planned probes are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Attached {
    /// In the plan.
    pub planned: usize,
    /// Pinned.
    pub attached: usize,
}

/// An instance that every gate refuses.
#[derive(Clone, Debug, Serialize)]
pub struct Quarantined {
    /// Its address: the argument of `otf-load release`.
    pub instance: Hex,
    /// Type of it, as the gate knows it.
    pub instance_type: Option<String>,
    /// Gate through which the bad write came.
    pub gate: String,
    /// Site of the bad write.
    pub site: String,
    /// UTC, RFC 3339.
    pub since: String,
    /// Entries refused since.
    pub refused: u64,
}

/// What one site has seen.
#[derive(Clone, Debug, Serialize)]
pub struct TopSite {
    /// `symbol+0xoffset [image]`.
    pub symbol: String,
    /// `file:line` of the innermost frame.
    pub place: String,
    /// Checks.
    pub hits: u64,
    /// Violations.
    pub violations: u64,
    /// Objects without provenance.
    pub unknown: u64,
}

/// Reads everything about a loaded compartment.
pub fn status(folder: &Folder, host: &Host) -> Result<Status, Diagnostic> {
    let meta = Meta::read(folder)?;
    let state = object::state(&folder.map("otf_state")?)?;
    let mut counters = counters(folder)?;
    let counts = site_counts(folder, &meta, host)?;
    if meta.plan.recording.is_none() {
        add_sums(&mut counters, &meta.plan, &counts);
    }
    let recursion_misses = recursion_misses(folder)?;
    let links = links(folder, &meta, host)?;
    let mut probes: BTreeMap<&'static str, Attached> = BTreeMap::new();
    for probe in &meta.plan.probes {
        probes
            .entry(program_name(probe.program))
            .or_default()
            .planned += 1;
    }
    for (name, count) in &mut probes {
        count.attached = links.by_program.get(*name).copied().unwrap_or(0);
    }
    let seen = Seen {
        meta: &meta,
        running_action: state.action,
        probes: &probes,
        link_addresses: &links.addresses,
        missed_hits: links.missed,
        counters: &counters,
        recursion_misses: &recursion_misses,
        kernel_list: kprobes::read(host),
        guard_loaded: guard::loaded(host),
        frees_followed: meta.plan.recording.is_some()
            || meta
                .guarded
                .as_ref()
                .is_none_or(|name| guard_probes::follows_frees(host, name)),
    };
    let coverage = &meta.manifest.coverage;
    let left_out = |left: u64| {
        if meta.action == Action::Audit {
            0
        } else {
            left
        }
    };
    Ok(Status {
        compartment: meta.manifest.compartment.clone(),
        kernel: meta.manifest.kernel.clone(),
        owner: if meta.guarded.is_some() {
            "guard"
        } else {
            "perf"
        },
        action: meta.action,
        phase: Phase::from_raw(state.phase.into()).unwrap_or(Phase::Transition),
        loaded: time::rfc3339(meta.loaded.saturating_mul(1_000_000_000)),
        bundle: meta.bundle.clone(),
        jumps: links.jumps,
        signer: meta.signer.clone(),
        sites_probed: coverage.probed.saturating_sub(
            match meta.action {
                Action::Deny => coverage.covered_always,
                Action::Audit | Action::Kill => coverage.covered,
            } + writes_left(&meta),
        ),
        left_to_audit: left_to_audit(&meta),
        over_budget: match meta.action {
            Action::Audit => meta.plan.left_to_audit.len(),
            Action::Kill | Action::Deny => 0,
        },
        sites: coverage.sites,
        unprobable: coverage.unprobable,
        absent_caches: if meta.plan.recording.is_some() {
            Vec::new()
        } else {
            object::absent_caches(&folder.map("otf_caches")?, &meta.plan)?
        },
        calls: Calls {
            all: coverage.calls,
            probed: coverage
                .calls_probed
                .saturating_sub(left_out(coverage.calls_left_to_audit)),
            weak: coverage
                .calls_weak
                .saturating_sub(left_out(coverage.calls_weak_left_to_audit)),
        },
        missed_hits: links.missed,
        private_heap: private_heap(&meta, host),
        quarantined: quarantined(folder, &meta)?,
        top_sites: top_sites(&meta, &counts),
        alarms: alarm::alarms(&seen, host),
        probes,
        counters,
        recursion_misses,
    })
}

/// Writes without a probe for a budget's sake; rows of writes come first.
fn writes_left(meta: &Meta) -> u64 {
    let writes = meta.manifest.coverage.probed;
    let left = meta.plan.left_under(meta.action);
    left.filter(|left| u64::from(left.row) < writes).count() as u64
}

fn left_to_audit(meta: &Meta) -> Vec<Left> {
    let left = meta.plan.left_under(meta.action);
    let named = left.filter_map(|left| {
        let site = meta.plan.checked_at(left.row)?;
        Some(Left {
            symbol: label(&meta.plan, &site.location),
            place: place_of(site),
            operation: left.operation.clone(),
            why: left.why.clone(),
        })
    });
    named.collect()
}

fn place_of(site: &PlanSite) -> String {
    let frame = site.chain.first();
    frame.map_or_else(String::new, |f| format!("{}:{}", f.file, f.line))
}

/// The heap that this compartment's allocations come from.
fn private_heap(meta: &Meta, host: &Host) -> Option<Heap> {
    meta.plan.private_heap.as_ref()?;
    let mut heaps = guard_heap::heaps(host).into_iter();
    heaps.find(|heap| heap.compartment == meta.manifest.compartment)
}

fn counters(folder: &Folder) -> Result<BTreeMap<Counter, u64>, Diagnostic> {
    let map = folder.map("otf_counters")?;
    let mut counters = BTreeMap::new();
    for counter in Counter::ALL {
        let per_cpu = map
            .lookup_percpu(&(*counter as u32).to_ne_bytes(), MapFlags::ANY)
            .map_err(|e| kernel_refused("otf_counters", &e))?;
        let sum = per_cpu
            .unwrap_or_default()
            .iter()
            .filter_map(|raw| Some(u64::from_ne_bytes(raw.as_slice().try_into().ok()?)))
            .sum();
        counters.insert(*counter, sum);
    }
    Ok(counters)
}

/// Runs that the kernel left out, by program.
pub fn recursion_misses(folder: &Folder) -> Result<BTreeMap<String, u64>, Diagnostic> {
    let mut misses = BTreeMap::new();
    for name in Folder::pins(&folder.programs())? {
        let count = sys::open_pin(&folder.programs().join(&name))
            .and_then(|fd| sys::recursion_misses(fd.as_fd()))
            .map_err(|e| kernel_refused(&name, &e))?;
        misses.insert(name, count);
    }
    Ok(misses)
}

/// The probes that the pinned links hold.
#[derive(Default)]
pub struct Links {
    by_program: BTreeMap<String, usize>,
    /// Those that are kprobes.
    addresses: Vec<u64>,
    /// Places where the guard has put a jump.
    jumps: usize,
    /// Hits that the kernel could not handle.
    pub missed: u64,
}

/// Opens every pinned link and asks the kernel about it, or the guard about its sets.
pub fn links(folder: &Folder, meta: &Meta, host: &Host) -> Result<Links, Diagnostic> {
    let mut links = Links::default();
    if let Some(set) = &meta.guarded {
        let guarded = guard_probes::list(host, set);
        for probe in &meta.plan.probes {
            let address = bind::address_at(&meta.plan, &meta.bases, &probe.location);
            if address.is_some_and(|a| guarded.contains_key(&a)) {
                let name = program_name(probe.program).to_owned();
                *links.by_program.entry(name).or_default() += 1;
            }
        }
        for (address, owned) in guarded {
            links.missed += owned.missed;
            if owned.jump {
                links.jumps += 1;
            } else {
                links.addresses.push(address);
            }
        }
    }
    for name in Folder::pins(&folder.links())? {
        let info = sys::open_pin(&folder.links().join(&name))
            .map_err(|e| kernel_refused(&name, &e))
            .and_then(|fd| LinkInfo::from_fd(fd.as_fd()).map_err(|e| kernel_refused(&name, &e)))?;
        let program = name.split_once('_').map_or(name.as_str(), |(_, p)| p);
        *links.by_program.entry(program.to_owned()).or_default() += 1;
        if let LinkTypeInfo::PerfEvent(event) = info.info
            && let PerfEventType::Kprobe { addr, missed, .. } = event.event_type
        {
            links.addresses.push(addr);
            links.missed += missed;
        }
    }
    Ok(links)
}

fn quarantined(folder: &Folder, meta: &Meta) -> Result<Vec<Quarantined>, Diagnostic> {
    let (now, since_boot) = sys::clocks();
    let boot = now.saturating_sub(since_boot);
    let plan = &meta.plan;
    let row = |(instance, entry): (u64, otf_artifact::abi::Quarantine)| {
        let gate = plan.gates.get(entry.gate as usize);
        Quarantined {
            instance: Hex(instance),
            instance_type: gate.and_then(|g| g.instance_type.clone()),
            gate: gate.map_or_else(|| "?".into(), |g| g.function.clone()),
            site: plan
                .checked_at(entry.site)
                .map_or_else(|| "?".into(), |s| label(plan, &s.location)),
            since: time::rfc3339(boot.saturating_add(entry.time)),
            refused: entry.refused,
        }
    };
    Ok(control::quarantined(folder)?.into_iter().map(row).collect())
}

/// What is counted for each row that is checked, as of [`Plan::checked`], by the programs and by the
/// guard.
pub fn site_counts(
    folder: &Folder,
    meta: &Meta,
    host: &Host,
) -> Result<Vec<SiteCount>, Diagnostic> {
    let mut counts = program_counts(folder, &meta.plan)?;
    let Some(set) = &meta.guarded else {
        return Ok(counts);
    };
    let guarded = guard_probes::list(host, set);
    for probe in &meta.plan.probes {
        let row = usize::try_from(probe.cookie).unwrap_or(usize::MAX);
        if probe.program == Program::Site
            && let Some(count) = counts.get_mut(row)
            && let Some(at) = bind::address_at(&meta.plan, &meta.bases, &probe.location)
            && let Some(owned) = guarded.get(&at)
        {
            count.hits += owned.quick;
        }
    }
    Ok(counts)
}

fn program_counts(folder: &Folder, plan: &Plan) -> Result<Vec<SiteCount>, Diagnostic> {
    let map = folder.map("otf_site_counts")?;
    (0u32..)
        .take(plan.checked().count())
        .map(|row| {
            let raw = map
                .lookup(&row.to_ne_bytes(), MapFlags::ANY)
                .map_err(|e| kernel_refused("otf_site_counts", &e))?;
            Ok(raw.as_deref().and_then(pod::read).unwrap_or_default())
        })
        .collect()
}

/// Counters that are sums of what is counted for each row: the programs do not count twice.
fn add_sums(counters: &mut BTreeMap<Counter, u64>, plan: &Plan, counts: &[SiteCount]) {
    let mut rest = counts;
    for (counter, rows) in [
        (Counter::Checks, plan.sites.len()),
        (Counter::Calls, plan.calls.len()),
        (Counter::Returns, plan.returns.len()),
    ] {
        let (these, others) = rest.split_at(rows.min(rest.len()));
        rest = others;
        counters.insert(counter, these.iter().map(|c| c.hits).sum());
    }
}

fn top_sites(meta: &Meta, counts: &[SiteCount]) -> Vec<TopSite> {
    let mut sites: Vec<TopSite> = meta
        .plan
        .checked()
        .zip(counts)
        .filter(|(_, count)| count.hits > 0)
        .map(|(site, count)| TopSite {
            symbol: label(&meta.plan, &site.location),
            place: place_of(site),
            hits: count.hits,
            violations: count.violations,
            unknown: count.unknown,
        })
        .collect();
    sites.sort_by_key(|s| std::cmp::Reverse((s.violations, s.hits)));
    sites.truncate(TOP);
    sites
}
