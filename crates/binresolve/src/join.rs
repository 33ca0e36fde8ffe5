//! Sites of one image: each write of the machine code with its place, legal set and coverage.

use std::{collections::BTreeSet, fmt::Write};

use iced_x86::{FlowControl, Formatter, Instruction, IntelFormatter, Mnemonic};
use otf_artifact::{
    analysis::{Analysis, LegalSet, StackRule},
    diagnostic::{Code, Diagnostic},
    exact::Exact,
    ids::{GateId, GlobalId, LegalSetId},
    places::Frame,
    sites::{
        Coverage, GateProbe, Guarded, Length, Location, OnSkip, Precision, Register, Site, SiteKind,
    },
};

use crate::{
    confined::Confined,
    coverage::{StaticTarget, coverage, is_own_frame},
    decode::destination,
    dwarf::{Origin, Step},
    exact::ask::{Asked, Said},
    globals::Globals,
    held::FromGate,
    image::Image,
    ladder::{Access, Ladder},
    legal::{LegalSets, forget_passed, insert_sorted},
    operand::{MemoryWrite, Referent},
    rewrite::{Rewrites, Rewriting},
    same_object::SameObject,
    unwinding::Unwinding,
};

/// What is known about an instruction's place and operand.
struct Found<'f> {
    origin: Option<&'f Origin>,
    target: Option<&'f StaticTarget>,
}

/// What the join reads and fills.
pub struct Join<'j, 'd> {
    /// The source side.
    pub analysis: &'j Analysis,
    /// Its index.
    pub ladder: &'j Ladder<'j>,
    /// Globals by address.
    pub globals: &'j Globals,
    /// All images, for the symbols they define.
    pub images: Vec<&'j Image<'d>>,
    /// Entries of the gates.
    pub gates: &'j [GateProbe],
    /// Legal sets; grows by unions.
    pub legal: LegalSets,
    /// What was widened.
    pub diagnostics: Vec<Diagnostic>,
}

impl Join<'_, '_> {
    /// All sites of an image.
    pub fn sites(
        &mut self,
        confined: &Confined<'_>,
        asked: &Asked<'_>,
        gates: &[(GateId, FromGate)],
    ) -> Vec<Site> {
        let rewrites = Rewrites::new(&confined.code, &confined.tables, &confined.writes);
        let same_object = SameObject::new(confined);
        let mut sites = Vec::new();
        for (row, writes) in &confined.writes {
            let rewriting = rewrites.of(*row);
            for write in writes {
                let mut site = self.site(confined, asked, *row, write, rewriting);
                let unwinding = Unwinding::of(&confined.held, gates, *row);
                site.unwind_gates = unwinding.free();
                site.release = unwinding.release();
                if matches!(rewriting, Rewriting::None) {
                    site.same_object = same_object.register(*row, write);
                }
                sites.push(site);
            }
        }
        sites
    }

    /// What is held after entering through each gate of this image, by gate.
    pub fn gates_of(&self, confined: &Confined<'_>) -> Vec<(GateId, FromGate)> {
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

    /// The compiler clears variables of the frame (`-ftrivial-auto-var-init`) where the source has
    /// no write, under the line of whatever comes next.
    fn own_frame_too(&mut self, legal: LegalSetId) -> LegalSetId {
        self.legal
            .with(legal, |set| set.stack = set.stack.max(StackRule::Own))
    }

    fn site(
        &mut self,
        confined: &Confined<'_>,
        asked: &Asked<'_>,
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
        let target = StaticTarget::find(image, &self.images, self.globals, write);
        // In code that is rewritten other variants may move the stack pointer.
        let least = match rewriting {
            Rewriting::None => confined.held.least_frame(row),
            _ => 0,
        };
        let own_frame = is_own_frame(write, frame_size.unwrap_or(0).max(least));
        let origin = confined.debug.origin(home);
        let mut exact = None;
        let (legal, precision) = if own_frame {
            // The operand alone says what is written.
            let own = LegalSet {
                stack: StackRule::Own,
                ..LegalSet::default()
            };
            (self.legal.intern(own), Precision::Instruction)
        } else if write.kind == SiteKind::Free {
            self.freed(confined, instruction, origin.as_ref())
        } else {
            let said = match rewriting {
                // The map is of the code that the compiler made.
                Rewriting::None => asked.write(confined, row, write),
                _ => None,
            };
            let place = Found {
                origin: origin.as_ref(),
                target: target.as_ref(),
            };
            let (legal, precision, outcome) = self.legal_set(confined, row, write, &place, said);
            exact = outcome;
            (legal, precision)
        };
        let calls = matches!(write.kind, SiteKind::BulkCall | SiteKind::Free);
        let callee = calls
            .then(|| destination(image, instruction).map(|d| d.symbol.to_owned()))
            .flatten();
        let clears = instruction.is_string_instruction()
            || callee
                .as_deref()
                .is_some_and(|name| name.contains("memset"));
        // With a frame pointer a register is spilt through it, under the line of what needs the register.
        let operand = &write.operand;
        let spills = frame_size.is_none()
            && operand.base == Some(Register::Bp)
            && operand.index.is_none()
            && operand.displacement < 0;
        let legal = if clears || spills {
            self.own_frame_too(legal)
        } else {
            legal
        };
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
            same_object: None,
            length: write.length,
            callee,
            chain: frames(image, home, origin),
            precision,
            exact,
            legal,
            coverage: if probe_without_symbol {
                Coverage::Unprobable("the operand's symbol is in no image that was given".into())
            } else {
                coverage
            },
            covered: None,
            frame_size,
            guarded: frame_size.map_or_else(Guarded::default, |_| confined.guarded(home)),
            unwind: confined.held.unwind(row),
            unwind_gates: Vec::new(),
            release: None,
            on_skip: on_skip(&confined.code.all[row]),
            tail: calls && instruction.flow_control() == FlowControl::UnconditionalBranch,
        }
    }

    /// Climbs the ladder, then adds what the operand alone proves. Also tells what the exact map said.
    fn legal_set(
        &mut self,
        confined: &Confined<'_>,
        row: usize,
        write: &MemoryWrite,
        place: &Found<'_>,
        said: Option<Result<Said<'_>, Exact>>,
    ) -> (LegalSetId, Precision, Option<Exact>) {
        let Found { origin, target } = *place;
        let instruction = &confined.code.all[row];
        let base = write.operand.base;
        let in_frame = base.is_some_and(|base| confined.held.is_in_frame(row, base));
        let mut exact = said.map(|said| match said {
            Ok(Said::Is(_)) => Exact::OtherFunction,
            Ok(Said::Part(..)) => Exact::Merged,
            Err(why) => why,
        });
        let bound = origin.and_then(|origin| {
            let inlined = confined.debug.inlined_beside(instruction.ip());
            let access = Access {
                chain: &origin.chain,
                columns: origin.clang,
                size: match write.length {
                    Length::Constant(bytes) if write.kind != SiteKind::BulkCall => {
                        Some(u64::from(bytes))
                    }
                    _ => None,
                },
                locked: instruction.has_lock_prefix(),
                on_stack: in_frame,
                inlined: &inlined,
            };
            if let Some(Ok(Said::Is(source))) = said {
                match self.ladder.bind_exact(&access, source) {
                    Ok(binding) => {
                        exact = Some(Exact::Bound);
                        return Some(binding);
                    }
                    Err(why) => exact = Some(why),
                }
            }
            // Whatever the line says: what was merged, or took a neighbour's place, may stand elsewhere.
            // A fixed operand says itself where.
            match (said.filter(|_| target.is_none()), exact) {
                (Some(Ok(Said::Part(part, bytes))), _) => {
                    self.ladder.bind_merged(&access, Some((part, bytes)))
                }
                (Some(_), Some(Exact::Unlike | Exact::NoWrite)) => {
                    self.ladder.bind_merged(&access, None)
                }
                _ => self.ladder.bind(&access),
            }
        });
        let bound = bound.and_then(|bound| {
            let id = self.legal.union(&bound.sets)?;
            let id = if bound.strays {
                self.legal.with(id, forget_passed)
            } else {
                id
            };
            Some((id, bound.precision))
        });
        let (mut legal, precision) =
            bound.unwrap_or((self.analysis.compartment_set, Precision::Compartment));
        if write.operand.base == Some(Register::Sp) && self.legal.get(legal).stack < StackRule::Own
        {
            legal = self.legal.with(legal, |set| set.stack = StackRule::Own);
        }
        if let Some(target) = target {
            legal = self.admit(legal, write, target, origin);
        }
        (legal, precision, exact)
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
        let allowed = |global: &GlobalId| set.globals.binary_search(global).is_ok();
        let known = if target.globals.is_empty() {
            write.operand.per_cpu && set.per_cpu
        } else {
            target.globals.iter().any(allowed)
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
        match (target.globals.first(), write.operand.per_cpu) {
            (Some(global), _) => {
                let add = |set: &mut LegalSet| insert_sorted(&mut set.globals, *global);
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
                    location = Self::nearest(image, *address)?;
                }
                Some(location)
            }
            Referent::Elsewhere(name, offset) => self.images.iter().find_map(|other| {
                let symbol = other.symbol(name)?;
                Some(other.location(symbol.address.wrapping_add_signed(*offset)))
            }),
        }
    }

    /// An address just outside a section (`array - 8`): the section's start and a distance.
    fn nearest(image: &Image<'_>, address: u64) -> Option<Location> {
        let section = image.sections.iter().min_by_key(|s| {
            s.base
                .abs_diff(address)
                .min((s.base + s.size).abs_diff(address))
        })?;
        Some(Location {
            image: image.id,
            section: section.name.to_owned(),
            offset: address.wrapping_sub(section.base),
            symbol: String::new(),
            symbol_offset: 0,
        })
    }
}

/// The inlining chain as artifacts have it; of code without one, the symbol.
pub fn frames(image: &Image<'_>, address: u64, origin: Option<Origin>) -> Vec<Frame> {
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

fn text(instruction: &Instruction, callee: Option<&str>, written: &MemoryWrite) -> String {
    let mut text = text_of(instruction, callee);
    if callee.is_none()
        && let Some(Referent::Elsewhere(name, offset)) = &written.referent
    {
        // Writing to a String cannot fail.
        let _ = write!(text, "  # {name}{offset:+#x}");
    }
    text
}

/// An instruction for people; one that leads to a symbol by that.
pub fn text_of(instruction: &Instruction, callee: Option<&str>) -> String {
    if let Some(callee) = callee {
        let verb = match instruction.flow_control() {
            FlowControl::Call => "call",
            FlowControl::ConditionalBranch => "jcc",
            _ => "jmp",
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
    text
}

/// Sorts and removes repeated findings.
pub fn tidy(diagnostics: &mut Vec<Diagnostic>) {
    let key = |d: &Diagnostic| (d.code, d.file.clone(), d.line, d.column, d.message.clone());
    diagnostics.sort_by_key(key);
    let mut seen = BTreeSet::new();
    diagnostics.retain(|d| seen.insert(key(d)));
}

/// Loops retry a compare-and-exchange until it succeeds, and a test-and-set until the bit was clear.
fn on_skip(instruction: &Instruction) -> OnSkip {
    match instruction.mnemonic() {
        Mnemonic::Cmpxchg | Mnemonic::Cmpxchg8b | Mnemonic::Cmpxchg16b => OnSkip::SetZero,
        Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc => OnSkip::ClearCarry,
        _ => OnSkip::Nothing,
    }
}
