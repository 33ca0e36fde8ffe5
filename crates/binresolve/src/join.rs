//! Sites of one image: each write of the machine code with its place, legal set and coverage.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Formatter, Instruction, IntelFormatter};
use otf_artifact::{
    analysis::{Analysis, LegalSet, StackRule},
    diagnostic::{Code, Diagnostic},
    ids::{GateId, GlobalId, ImageId, LegalSetId},
    places::Frame,
    sites::{
        Coverage, GateProbe, Length, Location, Precision, Register, Site, SiteKind, Unwind,
    },
};

use crate::{
    confined::Confined,
    decode::destination,
    dwarf::{Origin, Step},
    globals::Globals,
    held::{FromGate, HeldAnalysis},
    image::Image,
    ladder::{Access, Binding, Ladder},
    legal::{LegalSets, insert_sorted},
    operand::{MemoryWrite, Referent},
    rewrite::{Rewrites, Rewriting},
};

/// What the join reads and fills.
pub struct Join<'j, 'd> {
    /// The source side.
    pub analysis: &'j Analysis,
    /// Its index.
    pub ladder: &'j Ladder<'j>,
    /// Globals by address.
    pub globals: &'j Globals,
    /// Images that are not confined, for the symbols they define.
    pub others: &'j [Image<'d>],
    /// Entries of the gates.
    pub gates: &'j [GateProbe],
    /// Legal sets; grows by unions.
    pub legal: LegalSets,
    /// What was widened.
    pub diagnostics: Vec<Diagnostic>,
}

/// A symbol in an operand without registers.
struct StaticTarget {
    name: String,
    global: Option<GlobalId>,
    /// Bytes of the symbol, and how far into it the write starts.
    size: Option<u64>,
    offset: i64,
}

impl Join<'_, '_> {
    /// All sites of an image.
    pub fn sites(&mut self, confined: &Confined<'_>) -> Vec<Site> {
        let rewrites = Rewrites::new(&confined.code, &confined.tables, &confined.writes);
        let gates = self.from_gates(confined);
        let mut sites = Vec::new();
        for (row, writes) in &confined.writes {
            let rewriting = rewrites.of(*row);
            for write in writes {
                let mut site = self.site(confined, *row, write, rewriting);
                if site.unwind != Unwind::Safe {
                    site.unwind_gates = free_gates(&confined.held, &gates, *row);
                }
                sites.push(site);
            }
        }
        sites
    }

    /// What is held after entering through each gate of this image, by gate.
    fn from_gates(&self, confined: &Confined<'_>) -> Vec<(GateId, FromGate)> {
        let mut gates: Vec<(GateId, FromGate)> = self
            .gates
            .iter()
            .filter(|probe| probe.location.image == confined.image.id)
            .filter_map(|probe| {
                let section = confined.image.section(&probe.location.section)?;
                let row = confined.code.row(section.base + probe.location.offset)?;
                Some((probe.gate, confined.held.from_gate(row)))
            })
            .collect();
        gates.sort_by_key(|(gate, _)| *gate);
        gates
    }

    fn site(
        &mut self,
        confined: &Confined<'_>,
        row: usize,
        write: &MemoryWrite,
        rewriting: Rewriting,
    ) -> Site {
        let image = &confined.image;
        let instruction = &confined.code.all[row];
        // A template has the place of the code that it replaces.
        let home = match rewriting {
            Rewriting::Template { home, .. } => home,
            _ => instruction.ip(),
        };
        let instruction_length = match rewriting {
            Rewriting::Agreed(length) => length,
            _ => instruction.len() as u8,
        };
        let frame_size = confined.frames.size(home);
        let target = static_target(self, image, write);
        let own_frame = is_own_frame(write, frame_size);
        let origin = confined.debug.origin(home);
        let (legal, precision) = if own_frame {
            // The operand alone says what is written.
            let own = LegalSet {
                stack: StackRule::Own,
                ..LegalSet::default()
            };
            (self.legal.intern(own), Precision::Instruction)
        } else {
            self.legal_set(confined, instruction, write, origin.as_ref(), target.as_ref())
        };
        let callee = (write.kind == SiteKind::BulkCall)
            .then(|| destination(image, instruction).map(|d| d.symbol.to_owned()))
            .flatten();
        let coverage = coverage(confined, instruction, write, rewriting, own_frame, target);
        let operand_symbol = write
            .referent
            .as_ref()
            .filter(|_| !matches!(coverage, Coverage::Proven(_)))
            .and_then(|referent| self.place(image, referent));
        let probe_without_symbol =
            coverage == Coverage::Probe && write.referent.is_some() && operand_symbol.is_none();
        Site {
            location: image.location(instruction.ip()),
            kind: write.kind,
            text: text(instruction, callee.as_deref(), write),
            instruction_length,
            operand: write.operand,
            operand_symbol,
            length: write.length,
            callee,
            chain: frames(image, home, origin),
            precision,
            legal,
            coverage: if probe_without_symbol {
                Coverage::Unprobable("the operand's symbol is in no image that was given".into())
            } else {
                coverage
            },
            frame_size,
            unwind: confined.held.unwind(row),
            unwind_gates: Vec::new(),
        }
    }

    /// Climbs the ladder, then adds what the operand alone proves.
    fn legal_set(
        &mut self,
        confined: &Confined<'_>,
        instruction: &Instruction,
        write: &MemoryWrite,
        origin: Option<&Origin>,
        target: Option<&StaticTarget>,
    ) -> (LegalSetId, Precision) {
        let bound = origin.and_then(|origin| {
            let inlined = confined.debug.inlined_beside(instruction.ip());
            self.ladder.bind(&Access {
                chain: &origin.chain,
                columns: origin.clang,
                size: match write.length {
                    Length::Constant(bytes) if write.kind != SiteKind::BulkCall => {
                        Some(u64::from(bytes))
                    }
                    _ => None,
                },
                locked: instruction.has_lock_prefix(),
                inlined: &inlined,
            })
        });
        let bound = bound.and_then(|Binding { sets, precision }| {
            self.legal.union(&sets).map(|id| (id, precision))
        });
        let (mut legal, precision) =
            bound.unwrap_or((self.analysis.compartment_set, Precision::Compartment));
        if write.operand.base == Some(Register::Sp)
            && self.legal.get(legal).stack < StackRule::Own
        {
            legal = self.legal.with(legal, |set| set.stack = StackRule::Own);
        }
        if let Some(target) = target {
            legal = self.admit(legal, write, target, origin);
        }
        (legal, precision)
    }

    /// A fixed operand cannot be corrupted: what it names is really written there.
    fn admit(
        &mut self,
        legal: LegalSetId,
        write: &MemoryWrite,
        target: &StaticTarget,
        origin: Option<&Origin>,
    ) -> LegalSetId {
        let set = self.legal.get(legal);
        let known = match (target.global, write.operand.per_cpu) {
            (Some(global), _) => set.globals.binary_search(&global).is_ok(),
            (None, per_cpu) => per_cpu && set.per_cpu,
        };
        if known || set.any_global.is_some() && !write.operand.per_cpu {
            return legal;
        }
        let place = origin.and_then(|o| o.chain.first()).map(|s| &s.place);
        let message = format!("the machine code writes {} here", target.name);
        let mut diagnostic = Diagnostic::warning(Code::Admitted, message);
        if let Some(place) = place {
            diagnostic = diagnostic.at(place.file.clone(), place.line, place.column);
        }
        self.diagnostics.push(diagnostic);
        match (target.global, write.operand.per_cpu) {
            (Some(global), _) => {
                let add = |set: &mut LegalSet| insert_sorted(&mut set.globals, global);
                self.legal.with(legal, add)
            }
            (None, true) => self.legal.with(legal, |set| set.per_cpu = true),
            // No row to add: the site is proven, nothing looks its set up.
            (None, false) => legal,
        }
    }

    /// Where a symbol in an operand lies.
    fn place(&self, image: &Image<'_>, referent: &Referent) -> Option<Location> {
        match referent {
            Referent::Here(address) => {
                let mut location = image.location(*address);
                if location.section.is_empty() {
                    location = self.nearest(image, *address)?;
                }
                Some(location)
            }
            Referent::Elsewhere(name, offset) => self.others.iter().find_map(|other| {
                let symbol = other.symbol(name)?;
                Some(other.location(symbol.address.wrapping_add_signed(*offset)))
            }),
        }
    }

    /// An address just outside a section (`array - 8`): the section's start and a distance.
    fn nearest(&self, image: &Image<'_>, address: u64) -> Option<Location> {
        let section = image
            .sections
            .iter()
            .min_by_key(|s| s.base.abs_diff(address).min((s.base + s.size).abs_diff(address)))?;
        Some(Location {
            image: image.id,
            section: section.name.to_owned(),
            offset: address.wrapping_sub(section.base),
            symbol: String::new(),
            symbol_offset: 0,
        })
    }
}

/// Gates from which nothing is held here; all entries of a gate that lead here must agree.
fn free_gates(held: &HeldAnalysis, gates: &[(GateId, FromGate)], row: usize) -> Vec<GateId> {
    let mut free = BTreeMap::new();
    for (gate, from) in gates {
        if let Some(now) = held.is_free(from, row) {
            free.entry(*gate).and_modify(|all| *all &= now).or_insert(now);
        }
    }
    let gates = free.into_iter().filter(|(_, free)| *free);
    gates.map(|(gate, _)| gate).collect()
}

fn static_target(
    join: &Join<'_, '_>,
    image: &Image<'_>,
    write: &MemoryWrite,
) -> Option<StaticTarget> {
    if !write.is_static() {
        return None;
    }
    match write.referent.as_ref() {
        Some(Referent::Here(address)) => {
            let symbol = image.symbol_at(*address).filter(|s| !s.function)?;
            Some(StaticTarget {
                name: symbol.name.to_owned(),
                global: join.globals.at(image.id, symbol.address),
                size: Some(symbol.size),
                offset: (*address - symbol.address) as i64,
            })
        }
        Some(Referent::Elsewhere(name, offset)) => {
            let defined = join
                .others
                .iter()
                .find_map(|other| other.symbol(name).map(|s| (other.id, s)));
            let by_address = |(id, symbol): (ImageId, &crate::image::Symbol<'_>)| {
                join.globals.at(id, symbol.address)
            };
            Some(StaticTarget {
                name: name.clone(),
                global: defined.and_then(by_address).or_else(|| join.globals.named(name)),
                size: defined.map(|(_, s)| s.size).filter(|size| *size > 0),
                offset: *offset,
            })
        }
        None if write.operand.per_cpu => Some(StaticTarget {
            name: format!("per-CPU offset {:#x}", write.operand.displacement),
            global: None,
            size: None,
            offset: 0,
        }),
        None => None,
    }
}

fn is_own_frame(write: &MemoryWrite, frame_size: Option<u32>) -> bool {
    let operand = &write.operand;
    let (Some(frame), Length::Constant(bytes)) = (frame_size, write.length) else {
        return false;
    };
    write.kind == SiteKind::Store
        && operand.base == Some(Register::Sp)
        && operand.index.is_none()
        && !operand.per_cpu
        && write.inexpressible.is_none()
        && operand.displacement >= 0
        && operand.displacement + i64::from(bytes) <= i64::from(frame)
}

fn coverage(
    confined: &Confined<'_>,
    instruction: &Instruction,
    write: &MemoryWrite,
    rewriting: Rewriting,
    own_frame: bool,
    target: Option<StaticTarget>,
) -> Coverage {
    if own_frame {
        return Coverage::Proven("own frame".into());
    }
    if let Some(target) = target.filter(|t| t.contains(write)) {
        let what = if write.operand.per_cpu { "per-CPU" } else { "global" };
        return Coverage::Proven(format!("{what} {}", target.name));
    }
    if let Some(reason) = write.inexpressible {
        return Coverage::Unprobable(reason.into());
    }
    let image = &confined.image;
    match rewriting {
        Rewriting::Differs => Coverage::Unprobable("code is rewritten at boot".into()),
        Rewriting::Template { home, checked } => {
            let home = image.location(home);
            let home = format!("{}+{:#x}", home.section, home.offset);
            if checked {
                Coverage::Proven(format!("template: only its copy at {home} runs, it is probed"))
            } else {
                Coverage::Unprobable(format!("template that is copied to {home} at boot"))
            }
        }
        Rewriting::None | Rewriting::Agreed(_) => confined
            .tables
            .refusal(image, instruction.ip(), instruction.next_ip())
            .map_or(Coverage::Probe, Coverage::Unprobable),
    }
}

impl StaticTarget {
    /// The write stays within the symbol, as far as its size is known.
    fn contains(&self, write: &MemoryWrite) -> bool {
        let Length::Constant(bytes) = write.length else {
            return false;
        };
        let end = self.offset.saturating_add(i64::from(bytes));
        self.offset >= 0 && self.size.is_none_or(|size| end as u64 <= size)
    }
}

fn frames(image: &Image<'_>, address: u64, origin: Option<Origin>) -> Vec<Frame> {
    let frame = |step: Step| Frame {
        function: step.function,
        file: step.place.file,
        line: step.place.line,
        column: step.place.column,
    };
    match origin {
        Some(origin) => origin.chain.into_iter().map(frame).collect(),
        None => vec![Frame {
            function: image.symbol_at(address).map_or_else(String::new, |s| {
                s.name.split('.').next().unwrap_or(s.name).to_owned()
            }),
            file: String::new(),
            line: 0,
            column: 0,
        }],
    }
}

fn text(instruction: &Instruction, callee: Option<&str>, write: &MemoryWrite) -> String {
    if let Some(callee) = callee {
        let verb = if instruction.is_jmp_short_or_near() {
            "jmp"
        } else {
            "call"
        };
        return format!("{verb} {callee}");
    }
    let mut text = String::new();
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_rip_relative_addresses(true);
    options.set_space_after_operand_separator(true);
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    formatter.format(instruction, &mut text);
    if let Some(Referent::Elsewhere(name, offset)) = &write.referent {
        text.push_str(&format!("  # {name}{offset:+#x}"));
    }
    text
}

/// Sorts and removes repeated findings.
pub fn tidy(diagnostics: &mut Vec<Diagnostic>) {
    let key = |d: &Diagnostic| {
        (
            d.code,
            d.file.clone(),
            d.line,
            d.column,
            d.message.clone(),
        )
    };
    diagnostics.sort_by_key(key);
    let mut seen = BTreeSet::new();
    diagnostics.retain(|d| seen.insert(key(d)));
}
