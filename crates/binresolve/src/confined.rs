//! Everything that is known about an image of the compartment before the join.

use std::collections::BTreeMap;

use iced_x86::{FlowControl, InstructionInfoFactory};
use otf_artifact::{
    range_writers::{self, RangeLength},
    sites::{Length, SiteKind},
};

use crate::{
    decode::{Instructions, destination},
    dwarf::{DebugInfo, Sections, cfi::FrameTable, paths::Paths},
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
    /// Its instructions.
    pub code: Instructions,
    /// Its patch tables.
    pub tables: Tables,
    /// Its debug information.
    pub debug: DebugInfo,
    /// Its frame sizes.
    pub frames: FrameTable,
    /// Writes of memory and calls that write ranges, by instruction row.
    pub writes: BTreeMap<usize, Vec<MemoryWrite>>,
    /// What may be held where.
    pub held: HeldAnalysis,
}

impl<'d> Confined<'d> {
    /// Decodes and analyses an image.
    pub fn load(image: Image<'d>, paths: &Paths) -> Result<Self, Problem> {
        let sections = Sections::load(&image)?;
        let debug = sections
            .units(paths, &|_| true)
            .map_err(|e| format!("debug information: {e}"))?;
        let code = Instructions::decode(&image);
        let tables = Tables::read(&image)?;
        let writes = all_writes(&image, &code);
        let held = HeldAnalysis::run(&Input {
            image: &image,
            code: &code,
            tables: &tables,
            writes: &writes,
        });
        Ok(Self {
            frames: sections.frames(),
            image,
            code,
            tables,
            debug,
            writes,
            held,
        })
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
        if instruction.flow_control() != FlowControl::ConditionalBranch
            && let Some(target) = destination(image, instruction)
        {
            found.extend(bulk_call(target.symbol));
        }
        if !found.is_empty() {
            result.insert(row, found);
        }
    }
    result
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
