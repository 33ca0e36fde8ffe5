//! The one field that a write of the source changes, as a narrower legal set.
//!
//! Valid only for a machine store that is known to be exactly this write: compilers merge and widen
//! stores, so the resolver takes it at the first rung and at equal size only (docs/decisions/0005).

use otf_artifact::{
    analysis::{HeapPlace, LegalSet, WriteKind},
    ids::ObjectTypeId,
};

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
    pub(crate) size: u64,
}

/// The field that a plain store writes through a pointer of known type; `None` where it can be
/// several, or an element of an array.
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
    // Of an array any element may be meant, and a merged store may lie across two: not narrowed.
    if in_array(types, ty, offset, 0) {
        return None;
    }
    Some(Field {
        record: program.record(at.file, ty)?,
        offset,
        size: write.size,
    })
}

/// Whether an element of an array lies at the offset, or may: members of a union overlap.
fn in_array(types: &Types, ty: TypeId, offset: u64, depth: u32) -> bool {
    match &types.get(ty).shape {
        Shape::Array { .. } => true,
        Shape::Record { members, .. } => {
            depth > 24
                || members.iter().any(|m| {
                    let size = types.get(m.ty).size.max(1);
                    (m.offset..m.offset + size).contains(&offset)
                        && in_array(types, m.ty, offset - m.offset, depth + 1)
                })
        }
        _ => false,
    }
}

/// The set with every place of the structure narrowed to the field; `None` when nothing changes.
///
/// GCC merges stores to neighbouring fields and splits the result anew, without regard to where
/// fields begin: a piece that carries this write's line overlaps the field, but need not be it. So
/// the place reaches as far to both sides as a piece of this size can.
///
/// A place without an end is one object of an `open_ended` structure, or a run of elements of any
/// other: of those, each has the field.
pub(crate) fn narrow(
    set: &LegalSet,
    field: &Field,
    target: ObjectTypeId,
    record_size: u64,
    open_ended: bool,
) -> Option<LegalSet> {
    let start = field.offset.saturating_sub(field.size - 1);
    let end = record_size.min(field.offset + 2 * field.size - 1);
    let place = |place: &HeapPlace| {
        let whole = place.size == record_size || open_ended && place.size == HeapPlace::TO_END;
        if place.target != target || !whole {
            return place.clone();
        }
        HeapPlace {
            offset: place.offset + start,
            size: end - start,
            // What holds the field is long enough for it.
            object_min: place.object_min.max(place.offset + end),
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
