//! The text form of every result.

use std::fmt::{Display, Formatter, Result};

use otf_artifact::abi::Counter;

use super::{EventText, Facts, PhaseSet, Released, Report, Statuses, Unloaded};
use crate::guard_heap::Heap;
use crate::load::Loaded;
use crate::status::Status;

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let manifest = self.manifest;
        let coverage = &manifest.coverage;
        writeln!(f, "good signature by key {}", self.signer.key_id)?;
        writeln!(f, "  bundle       {}", self.bundle)?;
        writeln!(
            f,
            "  compartment  {} of {}",
            manifest.compartment, manifest.kernel
        )?;
        writeln!(f, "  kernel       {}", manifest.release)?;
        for (image, id) in &manifest.build_ids {
            writeln!(f, "               {image} {id}")?;
        }
        writeln!(
            f,
            "  sites        {}: {} probed, {} proven, {} unprobable",
            coverage.sites, coverage.probed, coverage.proven, coverage.unprobable
        )?;
        let rungs: Vec<String> = coverage
            .by_precision
            .iter()
            .map(|(rung, n)| format!("{n} by {rung}"))
            .collect();
        writeln!(
            f,
            "  calls        {}: {} probed, {} of these weak; {} frees, {} returns",
            coverage.calls,
            coverage.calls_probed,
            coverage.calls_weak,
            coverage.frees,
            coverage.returns_probed
        )?;
        writeln!(f, "  precision    {}", rungs.join(", "))?;
        if coverage.left_to_audit > 0 {
            writeln!(
                f,
                "  budget       {} checks are left to audit: not made under deny and kill",
                coverage.left_to_audit
            )?;
        }
        writeln!(
            f,
            "  probes       {} ({} gates), action {}",
            self.probes,
            self.gates,
            self.default_action.text()
        )?;
        self.host.as_ref().map_or(Ok(()), |host| host.fmt(f))
    }
}

impl Display for Facts {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for ability in &self.actions {
            let verdict = ability.why.as_deref().unwrap_or("can be honoured");
            writeln!(f, "{:<6} {verdict}", ability.action.text())?;
        }
        for fact in &self.facts {
            let mark = if fact.hinders.is_empty() { ' ' } else { '!' };
            writeln!(f, "{mark} {:<28} {}", fact.name, fact.value)?;
        }
        Ok(())
    }
}

impl Display for Loaded {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let verb = if self.dry_run {
            "would be loaded"
        } else {
            "is loaded"
        };
        writeln!(
            f,
            "{} {verb}: action {}, {} probes for {} sites ({} covered otherwise), signed by {}",
            self.compartment,
            self.action.text(),
            self.probes,
            self.sites,
            self.covered,
            self.signer.key_id
        )?;
        if self.left_to_audit > 0 {
            writeln!(
                f,
                "NOT CHECKED under {}: {} writes, frees and calls, left to audit to keep the policy's budget",
                self.action.text(),
                self.left_to_audit
            )?;
        }
        if !self.unread.is_empty() {
            writeln!(f, "events of the replaced bundle that nobody had read:")?;
        }
        let mut unread = self.unread.iter();
        unread.try_for_each(|event| write!(f, "{}", EventText(event)))
    }
}

impl Display for Statuses {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.loaded.is_empty() {
            writeln!(f, "nothing is loaded")?;
        }
        self.loaded.iter().try_for_each(|status| one(status, f))?;
        self.retired.iter().try_for_each(|heap| retired(heap, f))?;
        kept(self.kept_jumps, f)
    }
}

fn retired(heap: &Heap, f: &mut Formatter<'_>) -> Result {
    writeln!(
        f,
        "the private heap of {} is retired: it goes when its objects are freed, up to {} of {} bytes; otf_guard stays as long",
        heap.compartment, heap.objects, heap.bytes
    )
}

fn kept(jumps: usize, f: &mut Formatter<'_>) -> Result {
    if jumps == 0 {
        return Ok(());
    }
    writeln!(
        f,
        "{jumps} jumps stay in the kernel's code, checking nothing, for somebody else's kprobe is on them; \
         otf_guard stays as long: remove the kprobe, then run `otf-load unload --all`"
    )
}

fn private_heap(heap: &Heap, f: &mut Formatter<'_>) -> Result {
    write!(
        f,
        "  private heap: up to {} objects of {} bytes, {} allocations served",
        heap.objects, heap.bytes, heap.served
    )?;
    for (why, count) in &heap.general {
        write!(f, ", {count} not ({why})")?;
    }
    writeln!(f)
}

/// Places that are spelled out; JSON has all of them.
const LEFT: usize = 20;

fn budget(status: &Status, f: &mut Formatter<'_>) -> Result {
    if status.over_budget > 0 {
        writeln!(
            f,
            "  budget: not kept, under audit {} checks are made that deny and kill leave out",
            status.over_budget
        )?;
    }
    let left = &status.left_to_audit;
    if left.is_empty() {
        return Ok(());
    }
    writeln!(
        f,
        "  NOT CHECKED: {} writes, frees and calls, left to audit to keep the policy's budget",
        left.len()
    )?;
    for place in left.iter().take(LEFT) {
        writeln!(
            f,
            "    {} ({}) for {}: {}",
            place.symbol, place.place, place.operation, place.why
        )?;
    }
    if left.len() > LEFT {
        writeln!(f, "    and {} more: --format json", left.len() - LEFT)?;
    }
    Ok(())
}

fn one(status: &Status, f: &mut Formatter<'_>) -> Result {
    writeln!(
        f,
        "{} of {}: action {}, phase {}, since {}, signed by {}",
        status.compartment,
        status.kernel,
        status.action.text(),
        status.phase.text(),
        status.loaded,
        status.signer.key_id
    )?;
    for alarm in &status.alarms {
        writeln!(f, "  ALARM: {alarm}")?;
    }
    writeln!(
        f,
        "  sites: {}, {} of them with a probe, {} unprobable; {} places with a jump",
        status.sites, status.sites_probed, status.unprobable, status.jumps
    )?;
    budget(status, f)?;
    if !status.absent_caches.is_empty() {
        writeln!(
            f,
            "  caches: {} were not there at load, any cache is taken for them: {}",
            status.absent_caches.len(),
            status.absent_caches.join(", ")
        )?;
    }
    let calls = status.calls;
    writeln!(
        f,
        "  calls: {}, {} of them with a probe, {} of these may lead to any function",
        calls.all, calls.probed, calls.weak
    )?;
    for (program, count) in &status.probes {
        writeln!(
            f,
            "  {program}: {} of {} attached",
            count.attached, count.planned
        )?;
    }
    if let Some(heap) = &status.private_heap {
        private_heap(heap, f)?;
    }
    for counter in Counter::ALL {
        let count = status.counters.get(counter).copied().unwrap_or(0);
        if count > 0 || matches!(counter, Counter::Checks | Counter::Violations) {
            writeln!(f, "  {}: {count}", counter.text())?;
        }
    }
    for q in &status.quarantined {
        writeln!(
            f,
            "  quarantined: {}{} since {}, write at {}, gate {}, {} entries refused",
            q.instance,
            q.instance_type
                .as_ref()
                .map_or_else(String::new, |t| format!(" ({t})")),
            q.since,
            q.site,
            q.gate,
            q.refused
        )?;
    }
    for site in &status.top_sites {
        writeln!(
            f,
            "  site {} ({}): {} checks, {} violations, {} unknown",
            site.symbol, site.place, site.hits, site.violations, site.unknown
        )?;
    }
    Ok(())
}

impl Display for PhaseSet {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(
            f,
            "{}: {} (was {})",
            self.compartment,
            self.phase.text(),
            self.before.text()
        )
    }
}

impl Display for Released {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.released.is_empty() {
            return writeln!(f, "{}: nothing was quarantined", self.compartment);
        }
        self.released
            .iter()
            .try_for_each(|i| writeln!(f, "{}: {i} released", self.compartment))
    }
}

impl Display for Unloaded {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.names.is_empty() {
            writeln!(f, "nothing was loaded")?;
        }
        for name in &self.names {
            writeln!(f, "{name} is unloaded")?;
        }
        self.retired.iter().try_for_each(|heap| retired(heap, f))?;
        kept(self.kept_jumps, f)
    }
}

impl Display for EventText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let e = self.0;
        let task = &e.task;
        let verdict = if e.reason == "unknown" && e.phase == "transition" {
            "unknown"
        } else {
            "violation"
        };
        writeln!(
            f,
            "{} {verdict} in {}: {}; {}",
            e.time, e.compartment, e.reason_text, e.done_text
        )?;
        if task.in_interrupt {
            writeln!(f, "  task: softirq or interrupt on CPU {}", task.cpu)?;
        } else {
            writeln!(
                f,
                "  task: {} (pid {}, tid {}) on CPU {}",
                task.comm, task.pid, task.tid, task.cpu
            )?;
        }
        writeln!(f, "  site: {}: {}", e.site.symbol, e.site.instruction)?;
        for (depth, frame) in e.site.chain.iter().enumerate() {
            let how = if depth == 0 { "at" } else { "inlined into" };
            writeln!(
                f,
                "    {how} {}:{} in {}",
                frame.file, frame.line, frame.function
            )?;
        }
        match &e.target {
            Some(target) => writeln!(f, "  leads to: {} ({target})", e.address)?,
            None => writeln!(
                f,
                "  write: {} bytes to {} ({})",
                e.length, e.address, e.class
            )?,
        }
        if let Some(o) = &e.object {
            write!(f, "  object: {} bytes from {}", o.size, o.start)?;
            if let Some(cache) = &o.cache {
                write!(f, ", cache {cache}")?;
            }
            writeln!(f, ", write begins at offset {}", o.offset)?;
            let allocation = o.allocation.as_deref().unwrap_or("not recorded");
            writeln!(f, "    allocated by: {allocation}")?;
        }
        writeln!(f, "  legal: {}", e.legal)?;
        match (&e.gate, e.instance) {
            (Some(gate), Some(instance)) => {
                writeln!(f, "  gate: {gate}, instance {instance}")
            }
            (Some(gate), None) => writeln!(f, "  gate: {gate}"),
            _ => writeln!(f, "  gate: none was noted"),
        }
    }
}
