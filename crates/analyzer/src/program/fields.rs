//! The one field that a write of the source changes, as a narrower legal set.
//!
//! Valid only for a machine store that is known to be exactly this write: compilers merge and widen
//! stores, so the resolver takes it at the first rung and at equal size only (docs/decisions/0005).

use otf_artifact::analysis::{Dimension, HeapPlace, LegalSet, WriteKind};

use crate::{
    facts::{View, WriteFacts},
    program::{FunctionRef, Program, RecordId},
    types::{Shape, TypeId, Types},
};

/// Bytes of a structure that a write may change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Field {
    pub(crate) record: RecordId,
    pub(crate) offset: u64,
    /// Arrays of the structure that the field is an element of, outermost first.
    pub(crate) dimensions: Vec<Dimension>,
    pub(crate) size: u64,
}

/// The field that a plain store writes through a pointer of known type; `None` where it can be
/// several, or lies in members that overlap as arrays of different shape.
pub(crate) fn field(program: &Program<'_>, at: FunctionRef, write: &WriteFacts) -> Option<Field> {
    if !matches!(write.kind, WriteKind::Store | WriteKind::Atomic) || write.size == 0 {
        return None;
    }
    let mut paths = write.pointer.iter();
    let (Some(path), None) = (paths.next(), paths.next()) else {
        return None;
    };
    let View { ty, offset } = path.view?;
    let offset = u64::try_from(offset?).ok()?;
    let types = &program.files[at.file].1.types;
    if !types.is_record(ty) || offset.checked_add(write.size)? > types.get(ty).size {
        return None;
    }
    let (offset, dimensions) = arrays(types, ty, offset, 0)?;
    Some(Field {
        record: program.record(at.file, ty)?,
        offset,
        dimensions,
        size: write.size,
    })
}

/// Arrays on the way to an offset, with the offset of their first element.
fn arrays(types: &Types, ty: TypeId, offset: u64, depth: u32) -> Option<(u64, Vec<Dimension>)> {
    if depth > 24 {
        return None;
    }
    match &types.get(ty).shape {
        Shape::Array { stride: 0, .. } => None,
        Shape::Array {
            element,
            stride,
            count,
        } => {
            let (inner, mut dimensions) = arrays(types, *element, offset % stride, depth + 1)?;
            dimensions.insert(
                0,
                Dimension {
                    stride: *stride,
                    count: *count,
                },
            );
            Some((inner, dimensions))
        }
        Shape::Record { members, .. } => {
            let mut ways = members
                .iter()
                .filter(|m| {
                    let size = types.get(m.ty).size.max(1);
                    (m.offset..m.offset + size).contains(&offset)
                })
                .map(|m| {
                    let (inner, dimensions) = arrays(types, m.ty, offset - m.offset, depth + 1)?;
                    Some((m.offset + inner, dimensions))
                });
            let first = ways.next()??;
            ways.all(|way| way.as_ref() == Some(&first))
                .then_some(first)
        }
        _ => Some((offset, Vec::new())),
    }
}

/// The set with every place of the structure narrowed to the field; `None` when nothing changes.
pub(crate) fn narrow(
    set: &LegalSet,
    field: &Field,
    target: otf_artifact::ids::ObjectTypeId,
    record_size: u64,
) -> Option<LegalSet> {
    let place = |place: &HeapPlace| {
        let whole = place.size == record_size || place.size == HeapPlace::TO_END;
        if place.target != target || !whole || place.dimensions.len() + field.dimensions.len() > 2 {
            return place.clone();
        }
        let mut dimensions = place.dimensions.clone();
        dimensions.extend(&field.dimensions);
        HeapPlace {
            offset: place.offset + field.offset,
            dimensions,
            size: field.size,
            ..place.clone()
        }
    };
    let mut heap: Vec<HeapPlace> = set.heap.iter().map(place).collect();
    heap.sort();
    heap.dedup();
    (heap != set.heap).then(|| LegalSet {
        heap,
        ..set.clone()
    })
}
