//! `load`: all or nothing. Whatever fails, the host is as before.

use std::collections::BTreeMap;

use otf_artifact::{
    FORMAT_VERSION,
    abi::Action,
    bundle::Plan,
    diagnostic::{Code, Diagnostic},
};
use serde::Serialize;

use crate::ability;
use crate::attach::{self, Refused};
use crate::bind::{self, Binding};
use crate::carry::{self, Side};
use crate::event::Event;
use crate::events;
use crate::guard;
use crate::guard_heap;
use crate::guard_probes;
use crate::host::{
    Host,
    expedite::{self, Expedited},
    sysctl,
};
use crate::meta::{Changes, Meta};
use crate::object;
use crate::pins::{Folder, Pins};
use crate::record;
use crate::sys;
use crate::unload;
use crate::verify::{self, Verified};

/// What a load did, or would do.
#[derive(Clone, Debug, Serialize)]
pub struct Loaded {
    /// Compartment.
    pub compartment: String,
    /// `uname -r` of the bundle.
    pub release: String,
    /// Action.
    pub action: Action,
    /// Who signed.
    pub signer: verify::Signer,
    /// Probes attached.
    pub probes: usize,
    /// Probes of a recording that lie in code that is not there, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
    /// Sites in the table, those without a probe included.
    pub sites: usize,
    /// Of these: sites without a probe, for something else covers them under this action.
    pub covered: usize,
    /// Writes, frees and calls that are not checked under this action, to keep the policy's budgets.
    pub left_to_audit: usize,
    /// Nothing was attached.
    pub dry_run: bool,
    /// Events of the bundle that was replaced, which nobody had read: they go with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<Event>,
}

/// What the operator wants of a load.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Action instead of the bundle's own.
    pub action: Option<Action>,
    /// The guard owns the probes whatever the action is.
    pub guard: bool,
    /// A loaded bundle of the compartment is replaced.
    pub replace: bool,
    /// The guard probes by breakpoints alone.
    pub breakpoints: bool,
}

/// What is known before anything is changed.
pub struct Prepared<'a> {
    verified: &'a Verified,
    action: Action,
    guarded: bool,
    replace: bool,
    breakpoints: bool,
    /// The bundle's plan without the probes that this action does not need.
    plan: Plan,
    binding: Binding,
    pmu: u32,
}

/// Checks the bundle against this host: build-ids, modules, the action, every address.
pub fn prepare<'a>(
    verified: &'a Verified,
    wish: Wish,
    host: &Host,
) -> Result<Prepared<'a>, Diagnostic> {
    let bundle = &verified.bundle;
    let action = wish.action.unwrap_or(bundle.plan.default_action);
    if bundle.plan.recording.is_some() && action != Action::Audit {
        let message = format!("the bundle records: it cannot {}", action.text());
        return Err(Diagnostic::error(Code::Usage, message).help("leave --action out"));
    }
    if let Some(first) = verify::mismatches(bundle, host).into_iter().next() {
        return Err(first);
    }
    let facts = ability::facts(host);
    ability::require(action, &facts)?;
    let guarded = wish.guard || action == Action::Deny;
    if guarded {
        // What deny needs is what the guard needs.
        ability::require(Action::Deny, &facts)?;
        guard::check(host, &bundle.guard)?;
    }
    let plan = bundle.plan.for_action(action);
    if plan.private_heap.is_some() && !guarded {
        let message = "the policy wants a private heap, which only the guard can give";
        return Err(Diagnostic::error(Code::ActionRefused, message).help(
            "load with --guard or --action deny, or compile the policy with `private_heap: false`",
        ));
    }
    Ok(Prepared {
        verified,
        action,
        guarded,
        replace: wish.replace,
        breakpoints: wish.breakpoints,
        binding: bind::bind(&plan, host)?,
        plan,
        pmu: host.kprobe_pmu()?,
    })
}

/// Events that nobody has read. Somebody who follows them reads the last ones too.
fn unread(name: &str, folder: &Folder, meta: &Meta, host: &Host) -> Result<Vec<Event>, Diagnostic> {
    let mut events = Vec::new();
    if meta.plan.recording.is_some() {
        return Ok(events);
    }
    let Ok(_lock) = Pins::lock_events(name) else {
        return Ok(events);
    };
    events::drain(folder, meta, host, false, &mut |event| {
        events.push(event.clone());
        Ok(())
    })?;
    Ok(events)
}

impl Prepared<'_> {
    /// What a load would do.
    pub fn summary(&self, dry_run: bool) -> Loaded {
        let bundle = &self.verified.bundle;
        let left_to_audit = bundle.plan.left_under(self.action).count();
        Loaded {
            compartment: bundle.manifest.compartment.clone(),
            release: bundle.manifest.release.clone(),
            action: self.action,
            signer: self.verified.signer.clone(),
            probes: self.binding.probes.len(),
            left_out: self.binding.left_out.clone(),
            sites: bundle.plan.sites.len(),
            covered: bundle.plan.probes.len() - self.plan.probes.len() - left_to_audit,
            left_to_audit,
            dry_run,
            unread: Vec::new(),
        }
    }

    /// Loads, attaches and pins. The caller holds the lock and has cleaned up leftovers.
    pub fn load(
        &self,
        pins: &Pins,
        host: &Host,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Loaded, Diagnostic> {
        let name = &self.verified.bundle.manifest.compartment;
        let current = pins.folder(name);
        let old = if !pins.loaded()?.contains(name) {
            None
        } else if self.replace {
            Some(Meta::read(&current)?)
        } else {
            return Err(Diagnostic::error(
                Code::AlreadyLoaded,
                format!("{name} is already loaded"),
            )
            .help(format!("otf-load unload {name}, or load with --replace")));
        };
        let old = old.as_ref().map(|meta| Side {
            folder: &current,
            meta,
        });
        let staging = pins.incomplete(name);
        let built = self.build(pins, host, &staging, old, progress);
        let built = built.and_then(|()| match old {
            None => staging.rename(&current),
            Some(_) => staging.exchange(&current),
        });
        if let Err(error) = built {
            // The first error is the one that matters; what cannot be undone now is tried again
            // by the next command.
            return Err(
                match unload::discard(&staging, pins, host, &mut |_, _| ()) {
                    Ok(()) => error,
                    Err(undo) => Diagnostic {
                        message: format!("{}; undoing it failed: {}", error.message, undo.message),
                        ..error
                    },
                },
            );
        }
        let mut loaded = self.summary(false);
        if let Some(old) = old {
            loaded.unread = unread(name, &staging, old.meta, host)?;
            // It goes on beside the new one until it is gone; the next command tries again.
            unload::discard(&staging, pins, host, &mut |_, _| ())?;
        }
        Ok(loaded)
    }

    fn build(
        &self,
        pins: &Pins,
        host: &Host,
        staging: &Folder,
        old: Option<Side<'_>>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(), Diagnostic> {
        let bundle = &self.verified.bundle;
        let mut opened = object::open(&bundle.object, &bundle.plan, self.action)?;
        object::choose_hooks(&mut opened, host)?;
        sys::raise_file_limit();
        staging.create()?;
        let changes = self.changes(pins, host)?;
        let meta = self.meta(changes, expedite::current(host));
        // First of all, so that whoever cleans up after a killed load knows what to restore.
        meta.pin(staging)?;
        if self.guarded && sysctl::get(host, sysctl::OPTIMIZATION).is_some() {
            sysctl::set(host, sysctl::OPTIMIZATION, "0")?;
        }
        if self.guarded {
            guard::insert(host, &bundle.guard)?;
        }
        let object = object::load(opened)?;
        object::fill(&object, &bundle.plan, &self.binding, host)?;
        object::pin(&object, &staging.maps(), &staging.programs())?;
        let links = staging.links();
        let _expedited = Expedited::new(host);
        let mut attached = record::Attached::new(&bundle.plan, &self.binding);
        let refused = &mut |what: Refused<'_>, error| attached.without(what, error);
        let mut probes = self.binding.probes.clone();
        if self.guarded && bundle.plan.recording.is_none() {
            probes.push(bind::free_bulk(host, object::has_endbr(&object)?)?);
        }
        attach::attach(
            &object,
            &probes,
            self.pmu,
            meta.guarded.as_deref().map(|name| attach::Guarded {
                name,
                heap: &bundle.manifest.compartment,
                lenient: bundle.plan.recording.is_some(),
                breakpoints: self.breakpoints,
            }),
            &links,
            progress,
            refused,
        )?;
        // Where no call goes there the guard makes no heap.
        if self
            .plan
            .private_heap
            .as_ref()
            .is_some_and(|heap| heap.private > 0)
        {
            guard_heap::keep_pages(host, &bundle.manifest.compartment)?;
        }
        attached.pin(staging)?;
        let new = Side {
            folder: staging,
            meta: &meta,
        };
        let old =
            old.filter(|old| old.meta.plan.recording.is_none() && bundle.plan.recording.is_none());
        if let Some(old) = old {
            carry::objects(&object, old, new)?;
            // Programs that have begun before it keep no verdicts on what they saw.
            sys::grace_period();
        }
        object::arm(&object, self.action)?;
        old.map_or(Ok(()), |old| carry::quarantines(&object, old, new))
    }

    /// What this load changes on the host, or what an earlier one has changed for it.
    fn changes(&self, pins: &Pins, host: &Host) -> Result<Changes, Diagnostic> {
        let mut changes = Changes {
            optimization_before: sysctl::get(host, sysctl::OPTIMIZATION).filter(|_| self.guarded),
            // Who holds a heap was inserted for it.
            guard_inserted: self.guarded
                && (!guard::loaded(host)
                    || !guard_heap::heaps(host).is_empty()
                    || guard_probes::kept_jumps(host) > 0),
        };
        for name in pins.loaded()? {
            let other = Meta::read(&pins.folder(&name))?;
            if self.guarded && other.guarded.is_some() {
                changes = other.changes;
            }
        }
        Ok(changes)
    }

    fn meta(&self, changes: Changes, expedited_before: Option<String>) -> Meta {
        let bundle = &self.verified.bundle;
        let now = sys::clocks().0;
        let name = &bundle.manifest.compartment;
        Meta {
            version: FORMAT_VERSION,
            bundle: self.verified.sha256.clone(),
            signer: self.verified.signer.clone(),
            action: self.action,
            loaded: now / 1_000_000_000,
            guarded: self.guarded.then(|| guard_probes::set_name(name, now)),
            changes,
            expedited_before,
            bases: self.binding.bases.clone(),
            manifest: bundle.manifest.clone(),
            plan: self.plan.clone(),
        }
    }
}
