//! Everything that is known about an image of the compartment before the join.

use std::collections::BTreeMap;

use iced_x86::{FlowControl, InstructionInfoFactory};
use otf_artifact::{
    freers::{self, Freer},
    range_writers::{self, RangeLength},
    sites::{Guarded, Length, SiteKind, TextSection},
};

use crate::{
    canary,
    decode::{Instructions, destination},
    dwarf::{DebugInfo, Sections, cfi::FrameTable, paths::Paths},
    extent::{Confinement, Extent},
    held::{HeldAnalysis, Input},
    image::{Image, Problem},
    operand::{MemoryWrite, at_register, writes},
    tables::Tables,
};

/// A range-writing call whose length is known only afterwards is given this many bytes.
const UNKNOWN_LENGTH: u32 = 1;

/// An image of the compartment, decoded.
pub struct Confined<'d> {
    /// Its sections and symbols.
    pub image: Image<'d>,
    /// Where its confined code lies.
    pub extent: Extent,
    /// The instructions of that code.
    pub code: Instructions,
    /// Its patch tables.
    pub tables: Tables,
    /// Its debug information.
    pub debug: DebugInfo,
    /// Its frame sizes.
    pub frames: FrameTable,
    /// Where functions keep the stack protector's value: words below the return address, by the
    /// address of the function.
    pub canaries: BTreeMap<u64, u8>,
    /// Writes of memory and calls that write ranges, by instruction row.
    pub writes: BTreeMap<usize, Vec<MemoryWrite>>,
    /// What may be held where.
    pub held: HeldAnalysis,
}

impl<'d> Confined<'d> {
    /// Decodes and analyses the confined code of an image.
    ///
    /// # Errors
    /// When debug information or tables cannot be read, or contradict the image.
    pub fn load(
        image: Image<'d>,
        paths: &Paths,
        confinement: Confinement<'_>,
    ) -> Result<Self, Problem> {
        let tables = Tables::read(&image)?;
        let sections = Sections::load(&image)?;
        let bad = |e: gimli::Error| format!("debug information of {}: {e}", image.name);
        let index = sections.index(paths).map_err(bad)?;
        let (extent, debug) = match confinement {
            Confinement::Files(files) => (
                Extent::of_files(&image, &tables, &index, files)?,
                index.read(paths, |name| files.contains(name)),
            ),
            Confinement::Whole | Confinement::Outside => {
                (Extent::whole(&image), index.read(paths, |_| true))
            }
        };
        let debug = debug.map_err(bad)?;
        let code = Instructions::decode(&image, &extent.all());
        let writes = all_writes(&image, &code);
        let held = HeldAnalysis::run(&Input {
            image: &image,
            code: &code,
            tables: &tables,
            writes: &writes,
        });
        let frames = sections.frames(|address| extent.holds(address));
        Ok(Self {
            canaries: canary::find(&image, &code, &frames),
            frames,
            image,
            extent,
            code,
            tables,
            debug,
            writes,
            held,
        })
    }

    /// What of its frame the function around an instruction no longer writes.
    pub fn guarded(&self, address: u64) -> Guarded {
        let function = self.image.symbol_at(address).map(|s| s.address);
        let canary = function.and_then(|f| self.canaries.get(&f));
        Guarded {
            saved: self.frames.saved(address),
            canary: canary.copied().unwrap_or(0),
        }
    }

    /// Ranges of the confined code, for the artifact.
    pub fn text(&self) -> Vec<TextSection> {
        let sections = self.extent.sections(&self.image);
        let mut text: Vec<TextSection> = sections
            .into_iter()
            .map(|(name, start, end)| TextSection {
                name: name.to_owned(),
                offset: self.image.location(start).offset,
                size: end - start,
            })
            .collect();
        text.sort();
        text
    }
}

fn all_writes(image: &Image<'_>, code: &Instructions) -> BTreeMap<usize, Vec<MemoryWrite>> {
    let mut factory = InstructionInfoFactory::new();
    let mut result = BTreeMap::new();
    for (row, instruction) in code.all.iter().enumerate() {
        let Some(section) = image.section_at(instruction.ip()) else {
            continue;
        };
        let mut found = writes(image, section, &mut factory, instruction);
        if let Some(target) = destination(image, instruction) {
            let conditional = instruction.flow_control() == FlowControl::ConditionalBranch;
            if !conditional {
                found.extend(bulk_call(target.symbol));
            }
            found.extend(freers::find(target.symbol).map(|freer| free_call(freer, conditional)));
        }
        if !found.is_empty() {
            result.insert(row, found);
        }
    }
    result
}

/// One byte at the start of what is freed.
fn free_call(freer: Freer, conditional: bool) -> MemoryWrite {
    MemoryWrite {
        kind: SiteKind::Free,
        operand: at_register(freer.register()),
        length: Length::Constant(1),
        referent: None,
        inexpressible: conditional
            .then_some("a conditional jump: the register counts only when it is taken"),
    }
}

fn bulk_call(symbol: &str) -> Option<MemoryWrite> {
    let writer = range_writers::find(symbol)?;
    let (length, inexpressible) = match writer.length {
        RangeLength::Constant(bytes) => (Length::Constant(bytes), None),
        RangeLength::Register(register, factor) => (Length::Register(register, factor), None),
        RangeLength::Unknown => (
            Length::Constant(UNKNOWN_LENGTH),
            Some("length known only after the call"),
        ),
    };
    Some(MemoryWrite {
        kind: SiteKind::BulkCall,
        operand: at_register(writer.destination),
        length,
        referent: None,
        inexpressible,
    })
}
