//! The judgement: figures, and everything that was seen outside its legal set.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    analysis::LegalSet,
    ids::{CallSiteId, SiteId},
    recording::{CallPair, CodePlace, Pair, Recording, SeenObject},
    sites::Sites,
};
use serde::Serialize;

use crate::{
    allocations::Allocations,
    calls,
    rules::{Context, Legal},
};

/// Why a write is outside its legal set, as the check would say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// No object of this class is legal.
    Class,
    /// Beyond the stack frames that are legal, or below the stack pointer.
    Stack,
    /// Another global.
    Global,
    /// No legal container has such a place.
    Layout,
    /// Leaves the object, or what was requested of it.
    Bounds,
    /// The place fits, but the object came from another call.
    Provenance,
    /// Nothing that can be written lies there.
    Address,
    /// The recording names a row that the sites do not have.
    Row,
}

impl Why {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Class => "no object of this class is legal here",
            Self::Stack => "outside the stack frames that are legal here",
            Self::Global => "another global",
            Self::Layout => "no legal container has such a place",
            Self::Bounds => "leaves the object",
            Self::Provenance => "the object is from another allocation site",
            Self::Address => "no object lies there",
            Self::Row => "no such row in sites.json",
        }
    }
}

/// A write outside its legal set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outside {
    /// What was seen.
    pub pair: Pair,
    /// What was wrong with it.
    pub why: Why,
    /// The call chain that allocated the object, where it is known.
    pub allocated_at: Vec<CodePlace>,
}

/// A call that led outside its target set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutsideTarget {
    /// What was seen.
    pub pair: CallPair,
}

/// What recordings say about the legal sets of one compartment.
///
/// A pair is a site and an object as the kernel knows it: stack, a global, per-CPU or user memory,
/// a cache and the call that allocated from it. It is outside if any of the writes seen is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// Sites of the compartment.
    pub sites: usize,
    /// Sites that some recording watched.
    pub attached_sites: usize,
    /// Sites that wrote something while they were watched.
    pub executed_sites: usize,
    /// Distinct pairs of site and object.
    pub pairs_seen: usize,
    /// Those that are outside the legal set.
    pub pairs_outside: usize,
    /// Those that only a wide rule admits.
    pub pairs_wide: usize,
    /// Those whose object is older than the recording: judged by layout alone.
    pub pairs_older: usize,
    /// Distinct writes: pairs told apart by offset and length.
    pub writes_seen: usize,
    /// Indirect calls of the compartment.
    pub calls: usize,
    /// Those that were executed while they were watched.
    pub executed_calls: usize,
    /// Distinct pairs of call and target.
    pub targets_seen: usize,
    /// Those outside the target set.
    pub targets_outside: usize,
    /// Those that only an unknown flow admits.
    pub targets_wide: usize,
    /// What recordings lost, by reason.
    pub lost: BTreeMap<String, u64>,
    /// Every write that is outside, sorted by site.
    pub outside: Vec<Outside>,
    /// Every call that led outside, sorted by call.
    pub outside_targets: Vec<OutsideTarget>,
}

/// Judges recordings of these sites.
pub fn judge(sites: &Sites, recordings: &[Recording]) -> Judgement {
    let allocations = Allocations::new(sites);
    let mut tally = Tally::default();
    let mut judgement = Judgement {
        sites: sites.sites.len(),
        calls: sites.calls.len(),
        ..Judgement::default()
    };
    for recording in recordings {
        tally.attached.extend(recording.attached.iter().copied());
        for (reason, count) in &recording.lost {
            *judgement.lost.entry(reason.clone()).or_default() += count;
        }
        let context = Context {
            sites,
            recording,
            allocations: &allocations,
        };
        for pair in &recording.pairs {
            tally.write(&context, pair, &mut judgement.outside);
        }
        for pair in &recording.calls {
            tally.call(sites, pair, &mut judgement.outside_targets);
        }
    }
    judgement.outside.sort_by(|a, b| a.pair.cmp(&b.pair));
    judgement
        .outside_targets
        .sort_by(|a, b| a.pair.cmp(&b.pair));
    tally.figures(&mut judgement);
    judgement
}

/// Worse is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Named,
    Older,
    Wide,
    Outside,
}

impl From<Option<Legal>> for Grade {
    fn from(legal: Option<Legal>) -> Self {
        match legal {
            Some(Legal::Named) => Self::Named,
            Some(Legal::Older) => Self::Older,
            Some(Legal::Wide) => Self::Wide,
            None => Self::Outside,
        }
    }
}

#[derive(Default)]
struct Tally {
    attached: BTreeSet<SiteId>,
    pairs: BTreeMap<(SiteId, String), Grade>,
    writes: BTreeSet<(SiteId, String, u64, u64)>,
    targets: BTreeMap<(CallSiteId, String), Grade>,
}

impl Tally {
    fn write(&mut self, context: &Context<'_>, pair: &Pair, outside: &mut Vec<Outside>) {
        let verdict = match legal_set(context.sites, pair.site) {
            Some(set) => context.verdict(set, pair),
            None => Err(Why::Row),
        };
        let object = identity(context, &pair.object);
        let grade = Grade::from(verdict.ok());
        let worst = self
            .pairs
            .entry((pair.site, object.clone()))
            .or_insert(grade);
        *worst = grade.max(*worst);
        self.writes
            .insert((pair.site, object, pair.offset, pair.length));
        if let Err(why) = verdict {
            outside.push(Outside {
                pair: pair.clone(),
                why,
                allocated_at: seen(context, &pair.object)
                    .map_or_else(Vec::new, |seen| seen.chain.clone()),
            });
        }
    }

    fn call(&mut self, sites: &Sites, pair: &CallPair, outside: &mut Vec<OutsideTarget>) {
        let set = sites.calls.get(pair.call.index());
        let set = set.and_then(|call| sites.target_sets.get(call.targets.index()));
        let legal = set.and_then(|set| calls::legal(sites, set, &pair.target));
        if legal.is_none() {
            outside.push(OutsideTarget { pair: pair.clone() });
        }
        let target = format!("{}:{}", pair.target.image, pair.target.symbol);
        self.targets.insert((pair.call, target), legal.into());
    }

    fn figures(&self, judgement: &mut Judgement) {
        let graded = |grade| self.pairs.values().filter(|g| **g == grade).count();
        let executed: BTreeSet<_> = self.pairs.keys().map(|(site, _)| site).collect();
        judgement.attached_sites = self.attached.len();
        judgement.executed_sites = executed.len();
        judgement.pairs_seen = self.pairs.len();
        judgement.pairs_outside = graded(Grade::Outside);
        judgement.pairs_wide = graded(Grade::Wide);
        judgement.pairs_older = graded(Grade::Older);
        judgement.writes_seen = self.writes.len();
        let graded = |grade| self.targets.values().filter(|g| **g == grade).count();
        let executed: BTreeSet<_> = self.targets.keys().map(|(call, _)| call).collect();
        judgement.executed_calls = executed.len();
        judgement.targets_seen = self.targets.len();
        judgement.targets_outside = graded(Grade::Outside);
        judgement.targets_wide = graded(Grade::Wide);
    }
}

fn legal_set(sites: &Sites, site: SiteId) -> Option<&LegalSet> {
    let site = sites.sites.get(site.index())?;
    sites.legal_sets.get(site.legal.index())
}

fn seen<'a>(
    context: &'a Context<'_>,
    object: &SeenObject,
) -> Option<&'a otf_artifact::recording::SeenAllocation> {
    let id = match object {
        SeenObject::Slab { allocated_at, .. }
        | SeenObject::Pages { allocated_at, .. }
        | SeenObject::Vmalloc { allocated_at, .. } => *allocated_at,
        _ => None,
    }?;
    context.recording.allocations.get(id.index())
}

/// What an object is called across recordings.
fn identity(context: &Context<'_>, object: &SeenObject) -> String {
    let call = seen(context, object)
        .and_then(|seen| context.allocations.name_of(seen))
        .map_or("older", |place| &place.symbol);
    match object {
        SeenObject::Stack { .. } => "stack".into(),
        SeenObject::Global(place) => {
            let symbol = place.symbol.split_once('+').map_or("", |(name, _)| name);
            format!("{}:{symbol}", place.image)
        }
        SeenObject::PerCpu => "per-CPU".into(),
        SeenObject::User => "user".into(),
        SeenObject::Slab { cache, .. } => format!("{cache} from {call}"),
        SeenObject::Kfence => "KFENCE".into(),
        SeenObject::Pages { .. } => format!("pages from {call}"),
        SeenObject::Vmalloc { .. } => format!("vmalloc from {call}"),
        SeenObject::PageStruct => "struct page".into(),
        SeenObject::Other => "other".into(),
    }
}
