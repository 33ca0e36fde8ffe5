//! Machine calls that obtain the objects of the analysis' allocation sites.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{FlowControl, Instruction};
use otf_artifact::{
    allocators::{self, Allocator},
    analysis::{AllocationSite, Analysis, Family},
    ids::AllocationSiteId,
    sites::{AllocationProbe, Untracked},
};

use rayon::prelude::*;

use crate::{
    confined::Confined,
    decode::{Instructions, destination},
    dwarf::{DebugInfo, Sections, Step, Unit, paths::Paths},
    image::{Image, Problem},
    tables::Tables,
};

/// Where provenance is recorded, and where it is not.
#[derive(Default)]
pub struct Allocations {
    /// Sorted by place of the call.
    pub probes: Vec<AllocationProbe>,
    /// Sorted by allocation.
    pub untracked: Vec<Untracked>,
}

/// A machine call of an allocator.
struct MachineCall {
    address: u64,
    next: u64,
    /// A jump: the allocator returns to the caller of this function.
    tail: bool,
    callee: String,
    allocator: Option<&'static Allocator>,
    chain: Vec<Step>,
    refusal: Option<String>,
}

impl Allocations {
    /// Finds the calls for every allocation site.
    pub fn bind(
        analysis: &Analysis,
        confined: &[Confined<'_>],
        others: &[Image<'_>],
        paths: &Paths,
    ) -> Result<Self, Problem> {
        let mut result = Self::default();
        let known = Known::new(analysis);
        for image in confined {
            let mut calls = known.calls(&image.image, &image.code, &image.debug, &image.tables);
            let loaded: BTreeSet<&str> = image.debug.units().iter().map(Unit::name).collect();
            calls.extend(known.calls_of_files(&image.image, &image.tables, paths, &loaded)?);
            calls.sort_by_key(|call| call.address);
            result.assign(analysis, &image.image, &calls);
        }
        for image in others
            .iter()
            .filter(|image| known.images.contains(image.name.as_str()))
        {
            let tables = Tables::read(image)?;
            let calls = known.calls_of_files(image, &tables, paths, &BTreeSet::new())?;
            result.assign(analysis, image, &calls);
        }
        let images: BTreeSet<&str> = confined
            .iter()
            .map(|c| c.image.name.as_str())
            .chain(others.iter().map(|image| image.name.as_str()))
            .collect();
        for (row, site) in analysis.allocation_sites.iter().enumerate() {
            if !images.contains(site.image.as_str()) {
                result.give_up(row, format!("the image {} was not given", site.image));
            }
        }
        let key = |probe: &AllocationProbe| {
            let call = &probe.call;
            (
                call.image,
                call.section.clone(),
                call.offset,
                probe.allocation,
            )
        };
        result.probes.sort_by_cached_key(key);
        result.untracked.sort_by_key(|u| u.allocation);
        Ok(result)
    }

    fn assign(&mut self, analysis: &Analysis, image: &Image<'_>, calls: &[MachineCall]) {
        let mut taken = vec![false; calls.len()];
        let mut open: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut by_function: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (row, call) in calls.iter().enumerate() {
            let functions: BTreeSet<&str> = call
                .chain
                .iter()
                .map(|step| step.function.as_str())
                .collect();
            for function in functions {
                by_function.entry(function).or_default().push(row);
            }
        }
        for (row, site) in analysis.allocation_sites.iter().enumerate() {
            if site.image != image.name {
                continue;
            }
            if site.family == Family::PerCpu {
                let reason = "per-CPU memory is recognised by its range";
                self.give_up(row, reason.to_owned());
                continue;
            }
            let near = by_function.get(site.function.as_str());
            let near = near.map_or(&[][..], Vec::as_slice);
            let at = |exact: bool| {
                let fits = |row: &&usize| calls[**row].fits(site, |step| step.is_in(site, exact));
                near.iter().filter(fits).copied().collect::<Vec<usize>>()
            };
            let here = at(true);
            if here.is_empty() {
                open.push((row, at(false)));
            }
            for call in here {
                taken[call] = true;
                self.probe(row, site, image, &calls[call]);
            }
        }
        // Compilers may disagree about the line. Where one site and some calls of a function are
        // left, they belong together.
        let rivalry = |row: usize| {
            let site = &analysis.allocation_sites[row];
            (&site.file, &site.function, site.family)
        };
        let mut rivals: BTreeMap<_, usize> = BTreeMap::new();
        for (row, _) in &open {
            *rivals.entry(rivalry(*row)).or_default() += 1;
        }
        for (row, mut rest) in open {
            let site = &analysis.allocation_sites[row];
            rest.retain(|call| !taken[*call]);
            if rest.is_empty() || rivals[&rivalry(row)] > 1 {
                let reason = "no machine call of an allocator stands at this line";
                self.give_up(row, reason.to_owned());
                continue;
            }
            for call in rest {
                self.probe(row, site, image, &calls[call]);
            }
        }
    }

    fn probe(&mut self, row: usize, site: &AllocationSite, image: &Image<'_>, call: &MachineCall) {
        let call_at = image.location(call.address);
        let place = format!("{}+{:#x}", call_at.symbol, call_at.symbol_offset);
        if call.tail {
            return self.give_up(row, format!("tail call at {place}: nothing follows it"));
        }
        if let Some(refusal) = &call.refusal {
            return self.give_up(
                row,
                format!("the call at {place} cannot be probed: {refusal}"),
            );
        }
        let machine = call.allocator;
        let from_site = machine.is_none();
        self.probes.push(AllocationProbe {
            allocation: AllocationSiteId::from(row),
            call: call_at,
            after: image.location(call.next),
            callee: call.callee.clone(),
            size: site.size.or(machine.and_then(|m| m.size)),
            size_argument: machine
                .and_then(|m| m.size_argument)
                .or(site.size_argument.filter(|_| from_site)),
            count_argument: machine
                .and_then(|m| m.count_argument)
                .or(site.count_argument.filter(|_| from_site)),
            is_order: machine.map_or(site.family == Family::Pages, |m| m.is_order),
            returns_page: machine.is_some_and(|m| m.returns_page),
        });
    }

    fn give_up(&mut self, row: usize, reason: String) {
        self.untracked.push(Untracked {
            allocation: AllocationSiteId::from(row),
            reason,
        });
    }
}

impl MachineCall {
    fn fits(&self, site: &AllocationSite, is_in: impl Fn(&Step) -> bool) -> bool {
        let same_kind = match self.allocator {
            Some(allocator) => allocator.family == site.family,
            None => false,
        };
        (same_kind || self.callee == site.callee) && self.chain.iter().any(is_in)
    }
}

impl Step {
    /// Whether the step is in the function of the site and, if `exact`, at its line.
    fn is_in(&self, site: &AllocationSite, exact: bool) -> bool {
        self.function == site.function
            && (self.defined_in == site.file || self.place.file == site.file)
            && (!exact || self.place.line == site.line)
    }
}

/// What of an analysis decides which machine calls count.
struct Known<'a> {
    callees: BTreeSet<&'a str>,
    images: BTreeSet<&'a str>,
    /// (image, file) of every site.
    files: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Known<'a> {
    fn new(analysis: &'a Analysis) -> Self {
        let sites = || analysis.allocation_sites.iter();
        Self {
            callees: sites()
                .map(|s| s.callee.as_str())
                .filter(|callee| !callee.is_empty())
                .collect(),
            images: sites().map(|s| s.image.as_str()).collect(),
            files: sites()
                .map(|s| (s.image.as_str(), s.file.as_str()))
                .collect(),
        }
    }

    /// Calls in the files of an image that hold sites: of a large image only those are read.
    fn calls_of_files(
        &self,
        image: &Image<'_>,
        tables: &Tables,
        paths: &Paths,
        loaded: &BTreeSet<&str>,
    ) -> Result<Vec<MachineCall>, Problem> {
        let wanted = |file: &str| {
            self.files.contains(&(image.name.as_str(), file)) && !loaded.contains(file)
        };
        let sections = Sections::load(image)?;
        let debug = sections
            .index(paths)
            .and_then(|index| index.read(paths, wanted));
        let debug = debug.map_err(|e| format!("debug information of {}: {e}", image.name))?;
        let ranges: Vec<(u64, u64)> = debug
            .units()
            .iter()
            .flat_map(|unit| unit.ranges.clone())
            .collect();
        let code = Instructions::decode(image, &ranges);
        Ok(self.calls(image, &code, &debug, tables))
    }

    fn calls(
        &self,
        image: &Image<'_>,
        code: &Instructions,
        debug: &DebugInfo,
        tables: &Tables,
    ) -> Vec<MachineCall> {
        let call = |instruction: &Instruction| {
            let tail = match instruction.flow_control() {
                FlowControl::Call => false,
                FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => true,
                _ => return None,
            };
            let target = destination(image, instruction)?;
            let allocator = allocators::find(target.symbol);
            if allocator.is_none() && !self.callees.contains(target.symbol) {
                return None;
            }
            let (address, next) = (instruction.ip(), instruction.next_ip());
            Some(MachineCall {
                address,
                next,
                tail,
                callee: target.symbol.to_owned(),
                allocator,
                chain: debug.origin(address).map(|o| o.chain).unwrap_or_default(),
                refusal: tables
                    .refusal(image, address, next)
                    .or_else(|| tables.refusal(image, next, next + 1)),
            })
        };
        code.all.par_iter().filter_map(call).collect()
    }
}
