//! Geometry of heap places: where a write lands whose distance from another one is known.

use otf_artifact::analysis::{Dimension, HeapPlace};

/// A write relative to a checked range.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    /// Bytes of the checked range.
    pub length: u64,
    /// From the range's start to the first byte of the write.
    pub start: i64,
    /// To the byte behind its last one.
    pub end: i64,
}

/// Last place in an element at which a range of so many bytes may start.
fn last_start(place: &HeapPlace, length: u64) -> i128 {
    let within = i128::from(place.size) - i128::from(length);
    let stride = place.dimensions.last().map(|d| i128::from(d.stride) - 1);
    stride.map_or(within, |stride| within.min(stride))
}

/// From the first element to the last one; `None` when only the object's end bounds them.
fn span(dimensions: &[Dimension]) -> Option<i128> {
    let step =
        |d: &Dimension| (d.count > 0).then(|| i128::from(d.stride) * i128::from(d.count - 1));
    dimensions.iter().map(step).sum()
}

/// The lowest byte of the object that the write can begin at.
pub fn first_byte(place: &HeapPlace, shift: &Shift) -> i128 {
    i128::from(place.offset) + i128::from(shift.start)
}

/// How much of the object the write can need.
pub fn last_byte(place: &HeapPlace, shift: &Shift) -> Option<u64> {
    if place.size >= HeapPlace::TO_END {
        return None;
    }
    let last = i128::from(place.offset)
        + span(&place.dimensions)?
        + last_start(place, shift.length)
        + i128::from(shift.end);
    u64::try_from(last).ok()
}

/// Whether the write lies in `target` wherever the checked range lies in `place`.
pub fn lands(place: &HeapPlace, shift: &Shift, target: &HeapPlace) -> bool {
    if place.dimensions.len() > 2 || target.dimensions.len() > 2 {
        return false;
    }
    let moved = i128::from(place.offset) - i128::from(target.offset);
    let last = last_start(place, shift.length);
    let fits = |last: i128| {
        moved + i128::from(shift.start) >= 0
            && moved + last + i128::from(shift.end) <= i128::from(target.size)
    };
    if target.dimensions == place.dimensions {
        return keeps_elements(target) && fits(last);
    }
    target.dimensions.is_empty() && span(&place.dimensions).is_some_and(|span| fits(last + span))
}

/// What lies in an element counts for that element alone.
fn keeps_elements(place: &HeapPlace) -> bool {
    let inner = |d: &Dimension| d.stride > 0 && place.size <= d.stride;
    match place.dimensions.as_slice() {
        [] => true,
        [one] => inner(one),
        [outer, last] => {
            let all = last.stride.checked_mul(last.count);
            inner(last) && last.count > 0 && all.is_some_and(|all| all <= outer.stride)
        }
        _ => false,
    }
}

/// Whether a write at this offset of an object lies in the place.
pub fn holds(place: &HeapPlace, offset: u64, length: u64) -> bool {
    let Some(mut rest) = offset.checked_sub(place.offset) else {
        return false;
    };
    if place.dimensions.len() > 2 {
        return false;
    }
    for dimension in &place.dimensions {
        let Some(n) = rest.checked_div(dimension.stride) else {
            return false;
        };
        if dimension.count > 0 && n >= dimension.count {
            return false;
        }
        rest -= n * dimension.stride;
    }
    rest.checked_add(length)
        .is_some_and(|end| end <= place.size)
}
