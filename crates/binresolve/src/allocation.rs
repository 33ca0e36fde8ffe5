//! Machine calls that obtain the objects of the analysis' allocation sites.

use iced_x86::FlowControl;
use otf_artifact::{
    allocators::{self, Allocator},
    analysis::{AllocationSite, Analysis, Family},
    ids::AllocationSiteId,
    sites::{AllocationProbe, Untracked},
};

use crate::{
    confined::Confined,
    decode::{Instructions, destination},
    dwarf::{DebugInfo, Sections, Step, paths::Paths},
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
        for image in confined {
            let calls = machine_calls(
                &image.image,
                &image.code,
                &image.debug,
                &image.tables,
                analysis,
            );
            result.assign(analysis, &image.image, &calls);
        }
        for image in others {
            let wanted = |file: &str| {
                analysis
                    .allocation_sites
                    .iter()
                    .any(|site| site.image == image.name && site.file == file)
            };
            if !analysis
                .allocation_sites
                .iter()
                .any(|s| s.image == image.name)
            {
                continue;
            }
            // Of a large image only the files that hold the calls are read.
            let debug = Sections::load(image)?
                .units(paths, &wanted)
                .map_err(|e| format!("debug information of {}: {e}", image.name))?;
            let ranges = debug.units().iter().flat_map(|unit| unit.ranges.clone());
            let code = Instructions::decode_ranges(image, ranges);
            let tables = Tables::read(image)?;
            let calls = machine_calls(image, &code, &debug, &tables, analysis);
            result.assign(analysis, image, &calls);
        }
        let images: Vec<&str> = confined
            .iter()
            .map(|c| c.image.name.as_str())
            .chain(others.iter().map(|image| image.name.as_str()))
            .collect();
        for (row, site) in analysis.allocation_sites.iter().enumerate() {
            if !images.contains(&site.image.as_str()) {
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
        result.probes.sort_by_key(key);
        result.untracked.sort_by_key(|u| u.allocation);
        Ok(result)
    }

    fn assign(&mut self, analysis: &Analysis, image: &Image<'_>, calls: &[MachineCall]) {
        let mut taken = vec![false; calls.len()];
        let mut open = Vec::new();
        for (row, site) in analysis.allocation_sites.iter().enumerate() {
            if site.image != image.name {
                continue;
            }
            if site.family == Family::PerCpu {
                let reason = "per-CPU memory is recognised by its range";
                self.give_up(row, reason.to_owned());
                continue;
            }
            let at = |exact: bool| {
                let fits = |call: &MachineCall| call.fits(site, |step| step.is_in(site, exact));
                calls
                    .iter()
                    .enumerate()
                    .filter(|(_, c)| fits(c))
                    .map(|(i, _)| i)
                    .collect::<Vec<_>>()
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
        for (row, mut rest) in open.clone() {
            let site = &analysis.allocation_sites[row];
            rest.retain(|call| !taken[*call]);
            let rivals = open.iter().filter(|(other, _)| {
                let other = &analysis.allocation_sites[*other];
                (&other.file, &other.function, other.family)
                    == (&site.file, &site.function, site.family)
            });
            if rest.is_empty() || rivals.count() > 1 {
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

fn machine_calls(
    image: &Image<'_>,
    code: &Instructions,
    debug: &DebugInfo,
    tables: &Tables,
    analysis: &Analysis,
) -> Vec<MachineCall> {
    let mut calls = Vec::new();
    for instruction in &code.all {
        let tail = match instruction.flow_control() {
            FlowControl::Call => false,
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => true,
            _ => continue,
        };
        let Some(target) = destination(image, instruction) else {
            continue;
        };
        let allocator = allocators::find(target.symbol);
        let named = || {
            let sites = &analysis.allocation_sites;
            !target.symbol.is_empty() && sites.iter().any(|s| s.callee == target.symbol)
        };
        if allocator.is_none() && !named() {
            continue;
        }
        let (address, next) = (instruction.ip(), instruction.next_ip());
        calls.push(MachineCall {
            address,
            next,
            tail,
            callee: target.symbol.to_owned(),
            allocator,
            chain: debug.origin(address).map(|o| o.chain).unwrap_or_default(),
            refusal: tables
                .refusal(image, address, next)
                .or_else(|| tables.refusal(image, next, next + 1)),
        });
    }
    calls
}
