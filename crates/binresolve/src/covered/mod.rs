//! Sites that need no probe of their own, because another check or a proof covers them.
//!
//! - The check of a site that stands before on every path ([`flow`]), on the same address but for a
//!   constant distance, with no call between (nothing that could free the object), and whose verdict
//!   implies that on this site ([`implied`]). Or the check that, by covering the bytes of both as one
//!   range, decides both.
//! - An allocation on every path, of known size: the object is what the record made there would say.
//! - A per-CPU operand whose legal set allows all of per-CPU memory.
//!
//! Who covers others is not covered itself ([`choose`]).

pub mod choose;
pub mod facts;
pub mod flow;
pub mod implied;
pub mod reach;

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    analysis::{Analysis, LegalSet},
    covered::Cover,
    ids::SiteId,
    sites::{AllocationProbe, Coverage, GlobalSymbol, Location, Register, Site, SiteKind},
};

use self::{
    choose::{Candidate, Choice},
    facts::{Address, Origin},
    flow::{Paths, Sources},
    implied::{Pair, Verdicts, bytes},
};
use crate::{allocation::Allocations, confined::Confined, globals::Globals};

/// What the claims are made from.
pub struct Tables<'a> {
    /// The analysis.
    pub analysis: &'a Analysis,
    /// Legal sets, unions included.
    pub sets: &'a [LegalSet],
    /// Where allocations are recorded.
    pub allocations: &'a [AllocationProbe],
    /// Ranges of globals.
    pub globals: &'a [GlobalSymbol],
}

impl<'a> Tables<'a> {
    /// What the resolver has found.
    pub fn new(
        analysis: &'a Analysis,
        sets: &'a [LegalSet],
        allocations: &'a Allocations,
        globals: &'a Globals,
    ) -> Self {
        Self {
            analysis,
            sets,
            allocations: &allocations.probes,
            globals: &globals.symbols,
        }
    }
}

/// Finds what covers each of the sites, which are sorted: a site's place is its row.
pub fn cover(images: &[Confined<'_>], sites: &mut [Site], tables: &Tables<'_>) {
    let verdicts = Verdicts::new(
        tables.analysis,
        tables.sets,
        tables.allocations,
        tables.globals,
    );
    let mut covers: BTreeMap<usize, Cover> = BTreeMap::new();
    for (row, site) in sites.iter().enumerate() {
        let store = site.kind == SiteKind::Store && site.coverage == Coverage::Probe;
        if store && verdicts.allows_all(site) {
            covers.insert(row, Cover::AnyAddress);
        }
    }
    for confined in images {
        let image = Covering::new(confined, sites, tables, &verdicts);
        let fresh = image.fresh();
        covers.extend(image.checks(&fresh));
        covers.extend(fresh);
    }
    for (row, cover) in covers {
        sites[row].covered = Some(cover);
    }
}

/// The sites of one image and the facts before them.
struct Covering<'a> {
    sites: &'a [Site],
    verdicts: &'a Verdicts<'a>,
    allocations: &'a [AllocationProbe],
    confined: &'a Confined<'a>,
    paths: Paths<'a>,
    /// Row of the instruction of each site that may cover or be covered.
    rows: BTreeMap<SiteId, usize>,
    facts: BTreeMap<usize, facts::Facts>,
}

impl<'a> Covering<'a> {
    fn new(
        confined: &'a Confined<'a>,
        sites: &'a [Site],
        tables: &Tables<'a>,
        verdicts: &'a Verdicts<'a>,
    ) -> Self {
        let mut rows = BTreeMap::new();
        let mut sources = Sources::new();
        for (id, site) in sites.iter().enumerate().filter(|(_, site)| may_cover(site)) {
            let Some(row) = row_of(confined, &site.location) else {
                continue;
            };
            rows.insert(SiteId::from(id), row);
            if let Some(address) = Address::of(&site.operand) {
                let origin = Origin::Site(SiteId::from(id));
                sources.entry(row).or_default().push((origin, address));
            }
        }
        let calls = tables.allocations.iter();
        let calls: BTreeSet<usize> = calls
            .filter_map(|probe| row_of(confined, &probe.call))
            .collect();
        for row in calls {
            let returned = Address {
                base: Register::Ax,
                index: None,
                displacement: 0,
            };
            let found = sources.entry(row).or_default();
            found.push((Origin::Call(row), returned));
        }
        let paths = Paths::new(confined);
        let facts = paths.facts(&sources, &rows.values().copied().collect());
        Self {
            sites,
            verdicts,
            allocations: tables.allocations,
            confined,
            paths,
            rows,
            facts,
        }
    }

    /// What is known at each site: where from, how far, and whether the stack pointer moved since.
    fn known(&self) -> impl Iterator<Item = (SiteId, Origin, i64, bool)> {
        self.rows.iter().flat_map(|(id, row)| {
            let own = Address::of(&self.sites[id.index()].operand);
            let facts = self.facts.get(row).into_iter().flat_map(|f| &f.0);
            facts.filter_map(move |((origin, address), moved)| {
                Some((*id, *origin, address.distance(&own?)?, *moved))
            })
        })
    }

    fn fresh(&self) -> BTreeMap<usize, Cover> {
        let mut covers = BTreeMap::new();
        for (id, origin, distance, _) in self.known() {
            let (Origin::Call(row), Ok(distance)) = (origin, u64::try_from(distance)) else {
                continue;
            };
            let here = |probe: &&AllocationProbe| row_of(self.confined, &probe.call) == Some(row);
            let probes: Vec<_> = self.allocations.iter().filter(here).collect();
            let made_by: Vec<_> = probes.iter().map(|probe| probe.allocation).collect();
            let Some(room) = probes.first().and_then(|first| first.size) else {
                continue;
            };
            let plain = |p: &&AllocationProbe| p.size == Some(room) && !p.returns_page;
            let site = &self.sites[id.index()];
            if probes.iter().all(plain) && self.verdicts.fresh(site, distance, room, &made_by) {
                let call = probes[0].call.clone();
                covers.insert(id.index(), Cover::Fresh { call, distance });
            }
        }
        covers
    }

    fn checks(&self, done: &BTreeMap<usize, Cover>) -> BTreeMap<usize, Cover> {
        let mut choice = Choice::default();
        for (id, origin, distance, stack_moved) in self.known() {
            let Origin::Site(by) = origin else { continue };
            let pair = self.pair(by, id, distance, stack_moved);
            let free = |id: SiteId| !done.contains_key(&id.index());
            // Another site's check does not know which object this one's pointer leads to.
            let pointed = pair.site.same_object.is_some() && pair.leader.same_object.is_none();
            if by == id || !free(by) || !free(id) || pointed {
                continue;
            }
            let implied = self.verdicts.implied(&pair);
            // Variables of a frame have one base, and saved registers between them.
            let base = pair.leader.operand.base;
            let in_frame =
                base.is_none_or(|base| self.confined.held.is_in_frame(self.rows[&by], base));
            let joined = !implied
                && !in_frame
                && self.verdicts.may_join(&pair)
                && self.paths.always_leads(self.rows[&by], self.rows[&id]);
            let candidate = Candidate {
                by,
                distance,
                stack_moved,
                joined,
            };
            choice.know(id, candidate, implied || joined);
        }
        choice.settle(self.sites, |by, id, candidate, checked| {
            self.verdicts.implied(&Pair {
                checked,
                ..self.pair(by, id, candidate.distance, candidate.stack_moved)
            })
        })
    }

    fn pair(&self, by: SiteId, id: SiteId, distance: i64, stack_moved: bool) -> Pair<'a> {
        let leader = &self.sites[by.index()];
        Pair {
            leader,
            checked: (0, bytes(leader).unwrap_or(0)),
            site: &self.sites[id.index()],
            distance,
            stack_moved,
        }
    }
}

fn may_cover(site: &Site) -> bool {
    site.kind == SiteKind::Store
        && site.coverage == Coverage::Probe
        && site.operand_symbol.is_none()
        && bytes(site).is_some()
        && Address::of(&site.operand).is_some()
}

fn row_of(confined: &Confined<'_>, at: &Location) -> Option<usize> {
    if at.image != confined.image.id {
        return None;
    }
    confined.code.row(confined.image.address(at)?)
}
