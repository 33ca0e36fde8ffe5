//! Recordings: what was attached, what the maps have counted, and both as an artifact.

mod maps;
pub mod names;

use std::collections::BTreeMap;

use otf_artifact::{
    FORMAT_VERSION,
    abi::{Cache, Class},
    bundle::{Plan, Program},
    diagnostic::{Code, Diagnostic},
    ids::{CallSiteId, SeenAllocationId, SiteId},
    recorder::{self, Chain, ChainUse, Seen, SeenUse},
    recording::{CallPair, Pair, Recording, SeenAllocation, SeenObject, Side},
};
use serde::{Deserialize, Serialize};

use crate::attach::Refused;
use crate::bind::Binding;
use crate::blob;
use crate::host::Host;
use crate::meta::Meta;
use crate::pins::Folder;
use crate::{pod, status};
use names::Names;

/// What a recording was attached to; pinned beside its maps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Attached {
    sites: Vec<SiteId>,
    calls: Vec<CallSiteId>,
    /// Probes that are missing, by reason.
    missing: BTreeMap<String, u64>,
    /// Whether the bundle records at all.
    #[serde(skip)]
    records: bool,
    #[serde(skip)]
    plan: Option<otf_artifact::bundle::RecordingPlan>,
}

impl Attached {
    /// Everything that the binding has a probe for.
    pub fn new(plan: &Plan, binding: &Binding) -> Self {
        let Some(rows) = &plan.recording else {
            return Self::default();
        };
        let mut attached = Self {
            missing: rows
                .left_out
                .iter()
                .chain(&binding.left_out)
                .map(|(why, count)| (why.clone(), *count))
                .collect(),
            records: true,
            plan: Some(rows.clone()),
            ..Self::default()
        };
        for probe in &binding.probes {
            let row = probe.cookie as usize;
            match probe.program {
                Program::Site => attached.sites.extend(rows.sites.get(row)),
                Program::Call => attached.calls.extend(rows.calls.get(row)),
                _ => {}
            }
        }
        attached
    }

    /// Notes what the kernel refused. Only a recording goes on without it.
    pub fn without(&mut self, what: Refused<'_>, error: Diagnostic) -> Result<(), Diagnostic> {
        let Some(rows) = self.plan.as_ref().filter(|_| self.records) else {
            return Err(error);
        };
        match what {
            Refused::Hook(name) => {
                *self
                    .missing
                    .entry(format!("{name} has no place in this kernel"))
                    .or_default() += 1;
            }
            Refused::Probe(probe) => {
                let row = probe.cookie as usize;
                match probe.program {
                    Program::Site => {
                        let id = rows.sites.get(row).copied();
                        self.sites.retain(|site| Some(*site) != id);
                    }
                    Program::Call => {
                        let id = rows.calls.get(row).copied();
                        self.calls.retain(|call| Some(*call) != id);
                    }
                    _ => {}
                }
                let why = format!("the kernel refused {}", probe.label);
                *self.missing.entry(why).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Pins it, if the bundle records.
    pub fn pin(&self, folder: &Folder) -> Result<(), Diagnostic> {
        if self.records {
            blob::pin("otf_attached", self, &folder.attached())
        } else {
            Ok(())
        }
    }
}

/// Reads the maps of a loaded recording, which goes on.
pub fn read(folder: &Folder, host: &Host) -> Result<Recording, Diagnostic> {
    let meta = Meta::read(folder)?;
    if meta.plan.recording.is_none() {
        let message = format!("{} checks, it does not record", meta.manifest.compartment);
        return Err(Diagnostic::error(Code::NotLoaded, message)
            .help("`otf compile DIR --record` makes a bundle that records"));
    }
    let attached: Attached = blob::read(&folder.attached())?;
    let names = Names::read(host)?;
    let rows = meta.plan.recording.clone().unwrap_or_default();
    let state = crate::object::state(&folder.map("otf_state")?)?;
    let caches: BTreeMap<u64, Cache> =
        maps::entries::<u64, Cache>(&folder.map("otf_seen_caches")?)?
            .into_iter()
            .collect();
    let chains: Vec<(Chain, ChainUse)> = maps::entries(&folder.map("otf_chains")?)?;
    let (allocations, by_chain) = allocations(&chains, &caches, &names);
    let reader = Reader {
        names: &names,
        caches: &caches,
        by_chain: &by_chain,
        page_structs: state.vmemmap..state.kernel_map,
    };
    let seen: Vec<(Seen, SeenUse)> = maps::entries(&folder.map("otf_seen")?)?;
    let mut pairs: Vec<Pair> = seen
        .iter()
        .filter_map(|(key, used)| {
            let site = rows.sites.get(key.site as usize)?;
            Some(reader.pair(*site, key, used))
        })
        .collect();
    pairs.sort();
    let called: Vec<(recorder::Called, u64)> = maps::entries(&folder.map("otf_called")?)?;
    let mut calls: Vec<CallPair> = called
        .iter()
        .filter_map(|(key, count)| {
            Some(CallPair {
                call: *rows.calls.get(key.call as usize)?,
                target: names.place(key.target),
                count: *count,
            })
        })
        .collect();
    calls.sort();
    let hash = |of: &str| meta.manifest.inputs.get(of).cloned().unwrap_or_default();
    let mut recording = Recording {
        version: FORMAT_VERSION,
        release: meta.manifest.release.clone(),
        compartment: meta.manifest.compartment.clone(),
        sites: hash("sites.json"),
        places: hash("places"),
        attached: attached.sites,
        attached_calls: attached.calls,
        not_attached: attached.missing,
        caches: host.cache_names(caches.values().map(|c| {
            let (name, unique) = (pod::text(&c.name), pod::text(&c.unique));
            (name, unique)
        })),
        pairs,
        calls,
        allocations,
        lost: lost(folder, &meta, host)?,
    };
    recording.attached.sort_unstable();
    recording.attached_calls.sort_unstable();
    Ok(recording)
}

/// What the maps, the kernel's own counters of programs and those of probes say was lost.
fn lost(folder: &Folder, meta: &Meta, host: &Host) -> Result<BTreeMap<String, u64>, Diagnostic> {
    let mut lost = BTreeMap::new();
    let map = folder.map("otf_lost")?;
    for (row, name) in recorder::LOST.iter().enumerate() {
        let count = maps::sum(&map, row as u32)?;
        if count > 0 {
            lost.insert((*name).to_owned(), count);
        }
    }
    let recursions = status::recursion_misses(folder)?;
    for (program, count) in &recursions {
        // A twin takes what the first one was left out of: lost is at most what both missed.
        let twin = recursions.get(&format!("{program}_twin"));
        let count = twin.map_or(*count, |other| *count.min(other));
        if count > 0 && !program.ends_with("_twin") {
            lost.insert(format!("{program}: another program ran"), count);
        }
    }
    let missed = status::links(folder, meta, host)?.missed;
    if missed > 0 {
        lost.insert(
            "hits of probes that the kernel could not handle".into(),
            missed,
        );
    }
    Ok(lost)
}

/// The allocations, sorted, and the row of each chain.
fn allocations(
    chains: &[(Chain, ChainUse)],
    caches: &BTreeMap<u64, Cache>,
    names: &Names,
) -> (Vec<SeenAllocation>, BTreeMap<u32, SeenAllocationId>) {
    let mut rows: Vec<(SeenAllocation, u32)> = chains
        .iter()
        .map(|(chain, used)| {
            let frames = chain.frame.iter().take_while(|frame| **frame != 0);
            let row = SeenAllocation {
                chain: frames.map(|frame| names.place(*frame)).collect(),
                cache: caches
                    .get(&used.cache)
                    .map_or_else(String::new, |cache| pod::text(&cache.name)),
                given: chain.given,
                requested: (used.least, used.most),
                count: used.count,
            };
            (row, used.id)
        })
        .collect();
    rows.sort();
    let ids = rows
        .iter()
        .enumerate()
        .map(|(row, (_, id))| (*id, SeenAllocationId::from(row)))
        .collect();
    (rows.into_iter().map(|(row, _)| row).collect(), ids)
}

struct Reader<'a> {
    names: &'a Names,
    caches: &'a BTreeMap<u64, Cache>,
    by_chain: &'a BTreeMap<u32, SeenAllocationId>,
    page_structs: std::ops::Range<u64>,
}

impl Reader<'_> {
    fn pair(&self, site: SiteId, key: &Seen, used: &SeenUse) -> Pair {
        let object = self.object(key);
        let requested = match &object {
            SeenObject::Slab { allocated_at, .. } => allocated_at.is_some(),
            _ => false,
        };
        let offset = match &object {
            SeenObject::Global(_) => self.names.offset(key.object),
            _ => key.offset,
        };
        Pair {
            site,
            object,
            offset,
            length: used.length,
            rest: requested.then_some(used.rest),
            count: used.count,
        }
    }

    fn object(&self, key: &Seen) -> SeenObject {
        let has = |flag: u8| key.flags & flag != 0;
        let allocated_at = self.by_chain.get(&key.chain).copied();
        let object_size = has(recorder::SEEN_BOUNDED).then_some(key.size);
        match Class::from_raw(key.class.into()) {
            Some(Class::User) => SeenObject::User,
            Some(Class::Stack) => SeenObject::Stack {
                alive: !has(recorder::SEEN_DEAD),
                frame: side(has(recorder::SEEN_IN_FRAME), has(recorder::SEEN_NO_FRAME)),
                gate: side(has(recorder::SEEN_IN_GATE), has(recorder::SEEN_NO_GATE)),
            },
            Some(Class::Global) => SeenObject::Global(self.names.place(key.object)),
            Some(Class::PerCpu) => SeenObject::PerCpu,
            Some(Class::Slab) if has(recorder::SEEN_KFENCE) => SeenObject::Kfence,
            Some(Class::Slab) => SeenObject::Slab {
                cache: self
                    .caches
                    .get(&key.object)
                    .map_or_else(String::new, |cache| pod::text(&cache.name)),
                object_size: key.size,
                general: has(recorder::SEEN_GENERAL),
                allocated_at,
            },
            Some(Class::Pages) => SeenObject::Pages {
                object_size,
                allocated_at,
            },
            Some(Class::Vmalloc) => SeenObject::Vmalloc {
                object_size,
                allocated_at,
            },
            Some(Class::Other) if self.page_structs.contains(&key.object) => SeenObject::PageStruct,
            _ => SeenObject::Other,
        }
    }
}

fn side(within: bool, unknown: bool) -> Side {
    match (within, unknown) {
        (_, true) => Side::Unknown,
        (true, _) => Side::Within,
        (false, _) => Side::Beyond,
    }
}
