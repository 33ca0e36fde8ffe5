//! IR types.

use compact_str::CompactString;

use crate::bitcode::{Module, layout::Shape};

/// An IR type.
#[derive(Clone, Copy)]
pub(crate) struct Type<'m> {
    pub(super) module: &'m Module,
    pub(super) row: u32,
}

impl<'m> Type<'m> {
    fn shape(self) -> &'m Shape {
        self.module.types.shape(self.row)
    }

    pub(crate) fn is_pointer(self) -> bool {
        matches!(self.shape(), Shape::Pointer(_))
    }

    /// Pointer into a segment (`__seg_gs`): per-CPU memory.
    pub(crate) fn is_segment(self) -> bool {
        matches!(self.shape(), Shape::Pointer(space) if *space != 0)
    }

    pub(crate) fn is_struct(self) -> bool {
        matches!(self.shape(), Shape::Struct { .. })
    }

    pub(crate) fn is_array(self) -> bool {
        matches!(self.shape(), Shape::Array { .. })
    }

    /// Bits of an integer type, 0 for another.
    pub(crate) fn width(self) -> u32 {
        match self.shape() {
            Shape::Integer(bits) => *bits,
            _ => 0,
        }
    }

    /// Name of a structure type, `struct.qfq_group`; `None` for a literal one.
    pub(crate) fn struct_name(self) -> Option<&'m CompactString> {
        match self.shape() {
            Shape::Struct { name, .. } => name.as_ref(),
            _ => None,
        }
    }

    fn part(self, field: u32) -> Option<(u32, u64)> {
        let Shape::Struct { fields, .. } = self.shape() else {
            return None;
        };
        let row = fields.start.checked_add(field)?;
        (row < fields.end)
            .then(|| self.module.types.parts.get(row as usize).copied())
            .flatten()
    }

    pub(crate) fn field(self, index: u32) -> Option<Self> {
        self.part(index).map(|(row, _)| Self { row, ..self })
    }

    /// Byte offset of a field of a structure type.
    pub(crate) fn field_offset(self, index: u32) -> u64 {
        self.part(index).map_or(0, |(_, offset)| offset)
    }

    /// Element of an array type.
    pub(crate) fn element(self) -> Option<Self> {
        match self.shape() {
            Shape::Array { element } => Some(Self {
                row: *element,
                ..self
            }),
            _ => None,
        }
    }

    /// Bytes between elements of an array of this type; 0 for one without a size.
    pub(crate) fn size(self) -> u64 {
        let row = self.module.types.rows.get(self.row as usize);
        row.and_then(|row| row.size).unwrap_or(0)
    }
}
