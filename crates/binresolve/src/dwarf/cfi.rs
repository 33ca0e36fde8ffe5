//! Frame sizes, and where registers are saved, from call frame information.

use std::collections::BTreeSet;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, DebugFrame, EndianSlice, LittleEndian, RegisterRule,
    UnwindContext, UnwindSection, X86_64,
};

/// Registers that a callee keeps, and has to save.
const MOST_SAVED: u8 = 6;

/// Distance from the stack pointer to the return address' slot, by address range.
#[derive(Debug, Default)]
pub struct FrameTable {
    /// (start, end, bytes, saved registers), sorted; ranges without a rule on the stack pointer are
    /// left out.
    rows: Vec<(u64, u64, u32, u8)>,
    /// Ranges that could not be read.
    pub unreadable: usize,
}

impl FrameTable {
    /// Evaluates the frame descriptions of a `.debug_frame` section whose first address `wanted`
    /// accepts.
    pub fn build(section: &[u8], wanted: impl Fn(u64) -> bool) -> Self {
        let mut table = Self::default();
        let mut frames = DebugFrame::from(EndianSlice::new(section, LittleEndian));
        frames.set_address_size(8);
        let bases = BaseAddresses::default();
        let mut entries = frames.entries(&bases);
        loop {
            match entries.next() {
                Ok(None) => break,
                Ok(Some(CieOrFde::Cie(_))) => {}
                Ok(Some(CieOrFde::Fde(partial))) => {
                    let parsed = partial.parse(DebugFrame::cie_from_offset);
                    let added = parsed.and_then(|fde| {
                        if wanted(fde.initial_address()) {
                            table.add(&frames, &bases, &fde)
                        } else {
                            Ok(())
                        }
                    });
                    if added.is_err() {
                        table.unreadable += 1;
                    }
                }
                Err(_) => {
                    table.unreadable += 1;
                    break;
                }
            }
        }
        table.rows.sort_unstable();
        table
    }

    fn add(
        &mut self,
        frames: &DebugFrame<EndianSlice<'_, LittleEndian>>,
        bases: &BaseAddresses,
        fde: &gimli::FrameDescriptionEntry<EndianSlice<'_, LittleEndian>>,
    ) -> Result<(), gimli::Error> {
        let mut context = UnwindContext::new();
        let mut rows = fde.rows(frames, bases, &mut context)?;
        while let Some(row) = rows.next_row()? {
            let CfaRule::RegisterAndOffset { register, offset } = *row.cfa() else {
                continue;
            };
            // The canonical frame address lies just above the return address.
            let distance = offset.checked_sub(8).and_then(|d| u32::try_from(d).ok());
            if let (true, Some(distance)) = (register == X86_64::RSP, distance)
                && row.start_address() < row.end_address()
            {
                let slots: BTreeSet<i64> = row
                    .registers()
                    .filter_map(|(_, rule)| match rule {
                        RegisterRule::Offset(offset) => Some(*offset),
                        _ => None,
                    })
                    .collect();
                // From the one below the return address on, without a gap.
                let saved =
                    (1..=MOST_SAVED).take_while(|n| slots.contains(&(-8 - 8 * i64::from(*n))));
                self.rows.push((
                    row.start_address(),
                    row.end_address(),
                    distance,
                    saved.count() as u8,
                ));
            }
        }
        Ok(())
    }

    /// Bytes from the stack pointer before the instruction at `address` to the return address;
    /// `None` when the frame is not described relative to the stack pointer.
    pub fn size(&self, address: u64) -> Option<u32> {
        self.row(address).map(|(size, _)| size)
    }

    /// Registers of the caller that are saved directly below the return address before the
    /// instruction at `address`.
    pub fn saved(&self, address: u64) -> u8 {
        self.row(address).map_or(0, |(_, saved)| saved)
    }

    fn row(&self, address: u64) -> Option<(u32, u8)> {
        let end = self.rows.partition_point(|(start, ..)| *start <= address);
        let (_, stop, size, saved) = *self.rows[..end].last()?;
        (address < stop).then_some((size, saved))
    }
}
