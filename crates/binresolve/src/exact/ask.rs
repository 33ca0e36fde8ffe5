//! What an image's exact maps say about a machine write, and whether it can be believed.

use std::collections::BTreeMap;

use iced_x86::Instruction;
use otf_artifact::{
    analysis::WriteKind,
    exact::{Exact, ExactMap, Mapped, SourceWrite},
    sites::{Length, Register, SiteKind},
};

use crate::{
    confined::Confined,
    exact::link::{Linked, Origin},
    operand::MemoryWrite,
};

/// A write of the source in one copy of an inlined function.
type Copy = ((usize, u32), Option<(usize, usize)>);

/// Which write of the source a machine write was made of.
#[derive(Clone, Copy)]
pub enum Said<'m> {
    /// This one.
    Is(&'m SourceWrite),
    /// This one and others, together so many bytes (0 when not constant).
    Part(&'m SourceWrite, u64),
}

/// The maps of an image, and how far apart the pieces of its bulk writes lie.
pub struct Asked<'m> {
    linked: Linked<'m>,
    spans: BTreeMap<Copy, (i64, i64)>,
}

impl<'m> Asked<'m> {
    /// Finds the code of the maps in an image.
    pub fn new(confined: &Confined<'_>, maps: &'m [ExactMap]) -> Self {
        let mut asked = Self {
            linked: Linked::new(&confined.image, &confined.debug, maps),
            spans: BTreeMap::new(),
        };
        for (row, writes) in &confined.writes {
            for write in writes {
                let address = confined.code.all[*row].ip();
                if let Some((copy, start, end)) = asked.piece(confined, address, write) {
                    let span = asked.spans.entry(copy).or_insert((start, end));
                    *span = (span.0.min(start), span.1.max(end));
                }
            }
        }
        asked
    }

    /// Functions whose code is another than that of the map: file and symbol, sorted.
    pub fn other_code(&self) -> &[(&'m str, &'m str)] {
        &self.linked.other_code
    }

    /// The write of the source that a machine write was made of, or why that is not known; `None`
    /// where no map was given.
    pub fn write(
        &self,
        confined: &Confined<'_>,
        row: usize,
        write: &MemoryWrite,
    ) -> Option<Result<Said<'m>, Exact>> {
        let instruction = &confined.code.all[row];
        let hit = self.linked.at(instruction.ip())?;
        Some(match hit.origin {
            None => Err(Exact::OtherCode),
            Some(origin) if is_stale(confined, row, hit.since, origin) => Err(Exact::Locked),
            Some(Origin::No(mapped)) => Err(match mapped {
                Mapped::Remade => Exact::Remade,
                Mapped::Other => Exact::NoWrite,
                Mapped::Nothing | Mapped::Write(_) | Mapped::Merged { .. } => Exact::Nothing,
            }),
            Some(Origin::Merged(source, bytes)) => Ok(Said::Part(source, bytes)),
            Some(Origin::Write(source, _)) if !is_like(source, write) => Err(Exact::Unlike),
            Some(Origin::Write(..)) if self.is_spread(confined, instruction, write) => {
                Err(Exact::Spread)
            }
            Some(Origin::Write(source, _)) => Ok(Said::Is(source)),
        })
    }

    /// A piece of a bulk write: which, and from where to where its displacement goes.
    fn piece(
        &self,
        confined: &Confined<'_>,
        address: u64,
        write: &MemoryWrite,
    ) -> Option<(Copy, i64, i64)> {
        let Some(Origin::Write(source, id)) = self.linked.at(address)?.origin else {
            return None;
        };
        let (Length::Constant(bytes), SiteKind::Store) = (write.length, write.kind) else {
            return None;
        };
        let counted = source.kind == WriteKind::Bulk && source.size > 0;
        if !counted || write.operand.base == Some(Register::Sp) {
            return None;
        }
        let start = write.operand.displacement;
        let end = start.saturating_add(bytes.into());
        Some(((id, confined.debug.copy_at(address)), start, end))
    }

    /// Whether the pieces of a bulk write lie further apart than the write is long: the code
    /// generator merged one of them with a neighbour, or a loop was unrolled.
    fn is_spread(
        &self,
        confined: &Confined<'_>,
        instruction: &Instruction,
        write: &MemoryWrite,
    ) -> bool {
        let Some((copy, ..)) = self.piece(confined, instruction.ip(), write) else {
            return false;
        };
        let Some(Origin::Write(source, _)) =
            self.linked.at(instruction.ip()).and_then(|hit| hit.origin)
        else {
            return false;
        };
        let span = self.spans.get(&copy);
        span.is_some_and(|(start, end)| end.abs_diff(*start) > source.size)
    }
}

/// Whether a mark that holds since an address is that of something else: a locked instruction was
/// made of assembly or of an atomic.
fn is_stale(confined: &Confined<'_>, row: usize, since: u64, origin: Origin<'_>) -> bool {
    let may_lock = |source: &SourceWrite| matches!(source.kind, WriteKind::Atomic | WriteKind::Asm);
    if matches!(origin, Origin::Write(source, _) if may_lock(source)) {
        return false;
    }
    let code = &confined.code.all;
    let first = code.partition_point(|instruction| instruction.ip() < since);
    let marked = code.get(first..=row);
    marked.is_none_or(|marked| marked.iter().any(Instruction::has_lock_prefix))
}

/// Whether a machine write can be (a piece of) a write of the source.
fn is_like(source: &SourceWrite, write: &MemoryWrite) -> bool {
    let fits = match write.length {
        Length::Constant(bytes) if write.kind != SiteKind::BulkCall => {
            source.size == 0 || u64::from(bytes) <= source.size
        }
        _ => true,
    };
    fits && match write.kind {
        SiteKind::Store | SiteKind::BitString => true,
        SiteKind::RepString => matches!(source.kind, WriteKind::Bulk | WriteKind::Asm),
        SiteKind::BulkCall => source.kind == WriteKind::Bulk,
        SiteKind::Free => false,
    }
}
