//! Validates, for every bundle, each claim that a site needs no check: from the bytes of the images,
//! the places of the sites and the rows that the programs will read. Nothing here is shared with how
//! the claims were made, which goes forward over the resolver's control flow graph and looks at the
//! analysis' legal sets.

mod code;
mod depth;
mod elf;
pub mod paths;
pub mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    abi,
    analysis::Family,
    bundle::{Plan, Program},
    covered::Under,
    diagnostic::{Code as Kind, Diagnostic},
    ids::{ImageId, SiteId},
    sites::{AllocationProbe, Coverage, Site, SiteKind, Sites, Unwind},
};

use self::{
    code::Code,
    paths::{Expression, Goal, walk},
    verdict::{Fresh, Writes, fresh, implied},
};
use crate::{
    bind::{Bound, BoundCover, BoundSite},
    covers::{self, Range},
    names,
    tables::Tables,
};

/// An image's name and bytes.
pub type ImageBytes<'a> = (&'a str, &'a [u8]);

/// Every claim that does not hold.
pub fn check(
    bound: &Bound,
    tables: &Tables,
    plan: &Plan,
    sites: &Sites,
    images: &[ImageBytes<'_>],
) -> Vec<Diagnostic> {
    let claims: Vec<&BoundSite> = bound.sites.iter().filter(|s| s.covered.is_some()).collect();
    let names = names::sites(sites);
    let mut wrong = Vec::new();
    let wanted: BTreeSet<ImageId> = claims
        .iter()
        .filter(|claim| claim.covered != Some(BoundCover::AnyAddress))
        .map(|claim| sites.site(claim.site).location.image)
        .collect();
    let mut codes = BTreeMap::new();
    for id in wanted {
        let image = &sites.images[id.index()];
        let bytes = images.iter().find(|(name, _)| *name == image.name);
        let read = match bytes {
            Some((_, bytes)) => Code::read(image, bytes),
            None => Err(format!("the image {} is not there to look at", image.name)),
        };
        match read {
            Ok(code) => drop(codes.insert(id, code)),
            Err(why) => wrong.push(diagnostic(
                format!("claims of coverage cannot be validated: {why}"),
                sites.sites.iter().find(|s| s.location.image == id),
            )),
        }
    }
    if !wrong.is_empty() {
        return wrong;
    }
    let checker = Checker {
        bound,
        tables,
        plan,
        sites,
        codes,
        ranges: covers::ranges(bound, sites),
        calls: names::allocation_calls(sites),
    };
    for claim in claims {
        if let Err(why) = checker.check(claim) {
            let name = names.of(claim.site.index());
            let message = format!("site `{name}` is said to need no check, but {why}");
            wrong.push(diagnostic(message, Some(sites.site(claim.site))));
        }
    }
    wrong
}

fn diagnostic(message: String, site: Option<&Site>) -> Diagnostic {
    let error = Diagnostic::error(Kind::CoverWrong, message)
        .help("remove `covered` of this site from the policy to have it checked");
    match site.and_then(|site| site.chain.first()) {
        Some(frame) => error.at(frame.file.clone(), frame.line, frame.column),
        None => error,
    }
}

struct Checker<'a> {
    bound: &'a Bound,
    tables: &'a Tables,
    plan: &'a Plan,
    sites: &'a Sites,
    codes: BTreeMap<ImageId, Code>,
    ranges: BTreeMap<SiteId, Range>,
    calls: Vec<otf_artifact::sites::Location>,
}

impl Checker<'_> {
    fn check(&self, claim: &BoundSite) -> Result<(), String> {
        let site = self.sites.site(claim.site);
        if site.kind != SiteKind::Store || site.coverage != Coverage::Probe {
            return Err("it is no store that could be checked".into());
        }
        let always = claim.covered.map(BoundCover::under) == Some(Under::Always);
        if always && self.is_left(claim.site) {
            return Err("it is left to audit".into());
        }
        match claim.covered {
            None => Ok(()),
            Some(BoundCover::AnyAddress) => self.any_address(claim, site),
            Some(BoundCover::Fresh { call, distance }) => self.fresh(claim, site, call, distance),
            Some(BoundCover::Check {
                by,
                distance,
                under,
                joined: _,
            }) => self.checked(claim, by, distance, under),
        }
    }

    fn row(&self, site: SiteId) -> Option<(&BoundSite, &abi::Site)> {
        let sites = &self.bound.sites;
        let row = sites.binary_search_by_key(&site, |entry| entry.site).ok()?;
        Some((&sites[row], self.tables.sites.get(row)?))
    }

    /// Whether a load under deny or kill has no probe at a site, to keep a budget.
    fn is_left(&self, site: SiteId) -> bool {
        let sites = &self.bound.sites;
        let row = sites.binary_search_by_key(&site, |entry| entry.site).ok();
        let mut left = self.plan.left_to_audit.iter();
        left.any(|left| Some(left.row as usize) == row)
    }

    fn any_address(&self, claim: &BoundSite, site: &Site) -> Result<(), String> {
        let legal = &self.tables.legals[claim.legal];
        if site.operand.per_cpu && legal.flags & abi::LEGAL_PERCPU != 0 {
            return Ok(());
        }
        Err("its check would refuse some addresses".into())
    }

    fn fresh(
        &self,
        claim: &BoundSite,
        site: &Site,
        call: usize,
        distance: i64,
    ) -> Result<(), String> {
        let at = self.calls.get(call).ok_or("there is no such call")?;
        let here = |probe: &&AllocationProbe| probe.call == *at;
        let probes: Vec<_> = self.sites.allocation_probes.iter().filter(here).collect();
        let objects = probes.iter().all(|p| !p.returns_page && !p.is_order);
        if probes.is_empty() || !objects {
            return Err("the call does not return an object of known size".into());
        }
        let room = probes[0].size;
        let same = probes.iter().all(|p| p.size == room);
        let room = room.filter(|_| same);
        let room = room.ok_or("the call does not return an object of known size")?;
        let (_, row) = self.row(claim.site).ok_or("it has no row")?;
        let code = &self.codes[&site.location.image];
        if at.image != site.location.image {
            return Err("the call is in another image".into());
        }
        let recorded = self.plan.probes.iter();
        let recorded = recorded
            .filter(|p| p.program == Program::AllocationCall && p.location == *at)
            .map(|p| p.cookie)
            .next();
        let start = u64::try_from(distance).map_err(|_| "it lies before the object")?;
        let object = Fresh {
            room,
            recorded,
            cache: self.cache(&probes),
        };
        if !fresh(self.tables, row, &object, start) {
            return Err("the object of that call is not legal for it".into());
        }
        let (from, address) = place(code, site)?;
        let call = code.address(at).ok_or("the call is nowhere")?;
        let goal = Goal::Behind(call, Expression::returned(0));
        walk(code, from, address, distance, goal).map(drop)
    }

    /// Where the object of a call lies that may be several allocations: row of its cache, or
    /// `CACHE_*`; `None` if that is not known, or not the same of all.
    fn cache(&self, probes: &[&AllocationProbe]) -> Option<u32> {
        let all = &self.sites.analysis.allocation_sites;
        let mut caches = probes.iter().map(|probe| {
            let site = all.get(probe.allocation.index())?;
            match (site.family, &site.cache) {
                (Family::Kmalloc | Family::Kvmalloc, _) => Some(abi::CACHE_GENERAL),
                (Family::Vmalloc, _) => Some(abi::CACHE_NONE),
                (Family::Slab, Some(name)) => {
                    let row = self.plan.caches.iter().position(|cache| cache == name);
                    row.and_then(|row| u32::try_from(row).ok())
                }
                _ => None,
            }
        });
        let first = caches.next()??;
        caches.all(|cache| cache == Some(first)).then_some(first)
    }

    fn checked(
        &self,
        claim: &BoundSite,
        by: SiteId,
        distance: i64,
        under: Under,
    ) -> Result<(), String> {
        let site = self.sites.site(claim.site);
        let (_, row) = self.row(claim.site).ok_or("it has no row")?;
        let (leader, leader_row) = self
            .row(by)
            .ok_or("the site that should cover it has no check")?;
        let leading = self.sites.site(by);
        if by == claim.site || leader.covered.is_some() {
            return Err("the site that should cover it is not checked itself".into());
        }
        if self.is_left(by) {
            return Err("the site that should cover it is left to audit".into());
        }
        if leading.kind != SiteKind::Store || leading.location.image != site.location.image {
            return Err("the site that should cover it is no store of the same image".into());
        }
        if leading.operand_symbol.is_some() || site.operand_symbol.is_some() {
            return Err("a symbol goes into its address".into());
        }
        if site.same_object.is_some() && leading.same_object.is_none() {
            return Err(
                "the site that should cover it does not look at which object its pointer leads to"
                    .into(),
            );
        }
        if leader.action < claim.action {
            return Err("the site that should cover it has a milder action".into());
        }
        if self.is_left(claim.site) && leader_row.length & abi::LENGTH_LEADER == 0 {
            return Err("it is left to audit under deny, and the site that should cover it would not say that it did not prevent it".into());
        }
        let unwinds = leading.unwind == Unwind::Safe && !leading.unwind_gates.is_empty();
        if under == Under::Always && claim.action == abi::Action::Deny && !unwinds {
            return Err("under deny the site that should cover it may be left out alone, and execution come here".into());
        }
        let code = &self.codes[&site.location.image];
        let (from, address) = place(code, site)?;
        let (before, checked) = place(code, leading)?;
        let goal = Goal::Before(before, checked);
        let walked = walk(code, from, address, distance, goal)?;
        let first = self.ranges.get(&by).map_or(0, |range| range.start);
        let writes = Writes {
            leader: *leader_row,
            site: *row,
            distance: distance
                .checked_sub(first)
                .ok_or("a distance out of range")?,
            stack_moved: walked.stack_moved,
        };
        if implied(self.tables, &writes) {
            Ok(())
        } else {
            Err("the check that should cover it allows more".into())
        }
    }
}

/// Where a site is, and the address that it writes.
fn place(code: &Code, site: &Site) -> Result<(u64, Expression), String> {
    let at = code
        .address(&site.location)
        .ok_or("it is nowhere in the image")?;
    let instruction = code
        .instructions
        .get(&at)
        .ok_or("no instruction is there")?;
    let address = Expression::of(&site.operand).ok_or("its address is no sum of registers")?;
    let known = instruction.len() == usize::from(site.instruction_length)
        && !code.is_rewritten(instruction)
        && !code.displaced.contains(&at)
        && Expression::written(instruction, site.length) == Some(address);
    if known && !code.is_unsure(at) {
        Ok((at, address))
    } else {
        Err("the instruction is not certain".into())
    }
}
