//! Whether one row's verdict implies another's, over the rows that the programs read.
//!
//! For each way in which the first check can pass (a class of memory, a place of its legal set) the
//! second one must pass as well, wherever in that memory the address lies.

use otf_artifact::{abi, analysis::StackRule};

use crate::tables::Tables;

/// A checked write and another one at a distance.
#[derive(Clone, Copy, Debug)]
pub struct Writes {
    /// Row of the check, with the range that it looks at.
    pub leader: abi::Site,
    /// Row of the other one.
    pub site: abi::Site,
    /// From the start of the checked range to the other write.
    pub distance: i64,
    /// The stack pointer is another one.
    pub stack_moved: bool,
}

/// Whether the other check passes whenever the first one does.
pub fn implied(tables: &Tables, writes: &Writes) -> bool {
    let Writes {
        leader,
        site,
        distance,
        ..
    } = *writes;
    let (Some(from), Some(to)) = (legal(tables, &leader), legal(tables, &site)) else {
        return false;
    };
    if !constant(&leader) || !constant(&site) {
        return false;
    }
    let inside = distance >= 0 && distance + i64::from(site.size) <= i64::from(leader.size);
    let has = |row: &abi::Legal, flag: u8| row.flags & flag != 0;
    for flag in [
        abi::LEGAL_ANY_HEAP,
        abi::LEGAL_ANY_GLOBAL,
        abi::LEGAL_PERCPU,
        abi::LEGAL_USER,
    ] {
        if has(from, flag) && !(inside && has(to, flag)) {
            return false;
        }
    }
    if from.globals > 0 && !(inside && globals_implied(tables, from, to)) {
        return false;
    }
    let stacks = from.stack > 0 || from.passed > 0;
    if stacks && !(inside && stack_implied(writes, tables, from, to)) {
        return false;
    }
    let any = has(to, abi::LEGAL_ANY_HEAP);
    if from.places > 0 && to.places == 0 && !any {
        return false;
    }
    let targets = places(tables, to);
    places(tables, from).iter().all(|place| {
        let shape = Landing {
            place,
            range: u64::from(leader.size),
            start: i128::from(distance),
            end: i128::from(distance) + i128::from(site.size),
        };
        place.size < shape.range
            || (shape.in_bounds(tables, inside)
                && (any && shape.lowest() >= 0 || targets.iter().any(|target| shape.lands(target))))
    })
}

fn legal<'t>(tables: &'t Tables, site: &abi::Site) -> Option<&'t abi::Legal> {
    tables.legals.get(site.legal as usize)
}

fn rows<T>(table: &[T], first: u32, count: u32) -> &[T] {
    let first = first as usize;
    table.get(first..first + count as usize).unwrap_or_default()
}

fn places<'t>(tables: &'t Tables, legal: &abi::Legal) -> &'t [abi::Place] {
    rows(&tables.places, legal.first_place, legal.places)
}

fn globals_implied(tables: &Tables, from: &abi::Legal, to: &abi::Legal) -> bool {
    let globals = |legal: &abi::Legal| rows(&tables.global_rows, legal.first_global, legal.globals);
    to.flags & abi::LEGAL_ANY_GLOBAL != 0
        || globals(from).iter().all(|row| globals(to).contains(row))
}

/// On a stack the same bytes are legal under the same rule, from the same frame.
fn stack_implied(writes: &Writes, tables: &Tables, from: &abi::Legal, to: &abi::Legal) -> bool {
    let frame = |row: &abi::Site| {
        let known = row.flags & abi::SITE_FRAME;
        (known, row.frame_size, row.saved, row.canary)
    };
    let passed = |legal: &abi::Legal| rows(&tables.passed, legal.first_passed, legal.passed.into());
    let any = to.stack == StackRule::Any as u8;
    let rules = if passed(from) == passed(to) {
        from.otherwise <= to.otherwise && (from.stack == to.stack || any)
    } else {
        any && passed(from)
            .iter()
            .all(|object| passed(to).contains(object))
    };
    !writes.stack_moved && frame(&writes.leader) == frame(&writes.site) && rules
}

/// A write at a distance from a range that lies in a place.
struct Landing<'p> {
    place: &'p abi::Place,
    range: u64,
    start: i128,
    end: i128,
}

impl Landing<'_> {
    /// Lowest first byte of the range in the object.
    fn lowest(&self) -> i128 {
        i128::from(self.place.offset) + self.start
    }

    /// From the start of an element: the last first byte of the range.
    fn last(&self) -> i128 {
        let room = i128::from(self.place.size - self.range);
        // Behind a stride the next element begins.
        self.strides()
            .last()
            .map_or(room, |(stride, _)| room.min(i128::from(*stride) - 1))
    }

    fn strides(&self) -> Vec<(u64, u64)> {
        strides(self.place)
    }

    /// From the first element to the last, if they are counted.
    fn spread(&self) -> Option<i128> {
        let strides = self.strides();
        let counted = strides.iter().all(|(_, count)| *count > 0);
        let each = strides
            .iter()
            .map(|(stride, count)| i128::from(*stride) * (i128::from(*count) - 1));
        counted.then(|| each.sum())
    }

    /// Whether the object holds the write: it lies in what was checked, or every object that the
    /// place admits is large enough.
    fn in_bounds(&self, tables: &Tables, inside: bool) -> bool {
        if inside {
            return true;
        }
        if self.place.size >= u64::from(u32::MAX) {
            return false;
        }
        let Some(spread) = self.spread() else {
            return false;
        };
        let needs = i128::from(self.place.offset) + spread + self.last() + self.end;
        let recorded = (0..64 * abi::ALLOC_WORDS)
            .filter(|bit| self.place.allocations[bit / 64] >> (bit % 64) & 1 == 1)
            .all(|bit| {
                tables.allocs.get(bit).is_some_and(|row| {
                    let measured = row.size == 0 && row.size_arg == 0xff;
                    measured || needs <= i128::from(row.size)
                })
            });
        recorded && needs <= i128::from(self.place.object_min)
    }

    fn lands(&self, target: &abi::Place) -> bool {
        let shift = i128::from(self.place.offset) - i128::from(target.offset) + self.start;
        let behind = i128::from(self.place.offset) - i128::from(target.offset) + self.end;
        let room = i128::from(target.size);
        let elements = if strides(target) == self.strides() {
            separate(target) && behind + self.last() <= room
        } else {
            let spread = self.spread();
            strides(target).is_empty()
                && spread.is_some_and(|spread| behind + self.last() + spread <= room)
        };
        shift >= 0 && elements && admits(self.place, target)
    }
}

fn strides(place: &abi::Place) -> Vec<(u64, u64)> {
    let all = place.stride.iter().copied().zip(place.count);
    all.filter(|(stride, _)| *stride > 0).collect()
}

/// Whether no two elements share a byte, so that a write in one is in no other.
fn separate(place: &abi::Place) -> bool {
    match strides(place).as_slice() {
        [] => true,
        [(stride, _)] => place.size <= *stride,
        [(outer, _), (inner, count)] => {
            *count > 0
                && place.size <= *inner
                && inner.checked_mul(*count).is_some_and(|all| all <= *outer)
        }
        _ => false,
    }
}

/// Whether a place takes every object that another one takes.
fn admits(place: &abi::Place, target: &abi::Place) -> bool {
    let dedicated = |cache: u32| cache < abi::CACHE_NONE;
    let cache = place.cache == target.cache
        || (target.cache == abi::CACHE_ANY && dedicated(place.cache))
        || (target.cache == abi::CACHE_GENERAL && place.cache == abi::CACHE_NONE);
    let none = [0; abi::ALLOC_WORDS];
    let allocations = target.allocations == none
        || (place.allocations != none
            && place
                .allocations
                .iter()
                .zip(target.allocations)
                .all(|(a, b)| a & !b == 0));
    let most =
        target.object_max == 0 || (place.object_max > 0 && place.object_max <= target.object_max);
    cache && allocations && most && target.object_min <= place.object_min
}

/// Whether a row writes a number of bytes that it names itself.
fn constant(row: &abi::Site) -> bool {
    row.length & !abi::LENGTH_LEADER == abi::LengthKind::Constant as u8
}

/// An object that a call has just returned.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    /// Its bytes.
    pub room: u64,
    /// Allocation row of its record, if there is one.
    pub recorded: Option<u64>,
    /// Row of its cache, or `CACHE_GENERAL`, or `CACHE_NONE`; `None` if it may be any.
    pub cache: Option<u32>,
}

/// Whether a write is legal in an object that was just allocated.
pub fn fresh(tables: &Tables, site: &abi::Site, object: &Fresh, distance: u64) -> bool {
    let Some(legal) = legal(tables, site) else {
        return false;
    };
    let Fresh { room, .. } = *object;
    let length = u64::from(site.size);
    let within = distance.checked_add(length).is_some_and(|end| end <= room);
    let constant = constant(site);
    let named = |place: &abi::Place| {
        if place.allocations == [0; abi::ALLOC_WORDS] {
            // Without provenance the cache decides, whatever the record says.
            return object.cache.is_some_and(|cache| takes(place, cache));
        }
        object
            .recorded
            .filter(|row| *row < 64 * abi::ALLOC_WORDS as u64)
            .is_some_and(|row| place.allocations[row as usize / 64] >> (row % 64) & 1 == 1)
    };
    let holds = |place: &abi::Place| {
        let mut rest = distance.checked_sub(place.offset);
        for (stride, count) in strides(place) {
            rest = rest.filter(|rest| count == 0 || rest / stride < count);
            rest = rest.map(|rest| rest % stride);
        }
        named(place)
            && place.object_min <= room
            && (place.object_max == 0 || place.object_max == room)
            && rest.is_some_and(|rest| rest + length <= place.size)
    };
    let any = legal.flags & abi::LEGAL_ANY_HEAP != 0;
    constant && within && (any || places(tables, legal).iter().any(holds))
}

/// Whether a place takes the objects of a cache.
fn takes(place: &abi::Place, cache: u32) -> bool {
    match cache {
        // Large ones have no cache.
        abi::CACHE_GENERAL => place.cache == abi::CACHE_GENERAL,
        abi::CACHE_NONE => [abi::CACHE_GENERAL, abi::CACHE_NONE].contains(&place.cache),
        dedicated => [dedicated, abi::CACHE_ANY].contains(&place.cache),
    }
}

#[cfg(test)]
mod tests;
