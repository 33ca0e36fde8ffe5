//! Where in an object a type may lie.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::analysis::{Dimension, HeapPlace};

use crate::program::{Program, RecordId};

/// A type in a container, without the question where the container is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Placement {
    pub(crate) container: RecordId,
    pub(crate) offset: u64,
    /// At most two, outermost first.
    pub(crate) dimensions: Vec<Dimension>,
    pub(crate) size: u64,
    /// Bytes that the container has at least.
    pub(crate) minimum: u64,
    /// Where in these bytes the type begins is not known.
    pub(crate) loose: bool,
}

/// A type in memory that another type declares as something else: `Qdisc.privdata`, `sk_buff.cb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Area {
    pub(crate) container: RecordId,
    pub(crate) offset: u64,
    pub(crate) inner: RecordId,
}

/// A step outwards: the holder, the offset in it, how often, and bytes that it needs for this.
struct Holder {
    outer: RecordId,
    offset: u64,
    dimension: Option<Dimension>,
    needs: u64,
    /// Bytes that the holder has for it, where the type reaches beyond the holder: the head of a
    /// list that is seen as one of its elements.
    clip: Option<u64>,
    /// Where in the holder is not known: anywhere up to the object's end.
    loose: bool,
}

/// Answers where types lie.
pub(crate) struct Layout {
    holders: BTreeMap<RecordId, Vec<Holder>>,
    private: BTreeSet<RecordId>,
}

/// Nests of containers deeper than this are not met.
const DEPTH: usize = 12;

impl Layout {
    /// `areas` have a place in their container, `loose` types (container, inner) have none.
    pub(crate) fn new(
        program: &Program<'_>,
        areas: &BTreeSet<Area>,
        loose: &BTreeSet<(RecordId, RecordId)>,
    ) -> Self {
        let mut holders: BTreeMap<RecordId, Vec<Holder>> = BTreeMap::new();
        for (outer, parts) in program.parts.iter().enumerate() {
            for part in parts {
                holders.entry(part.inner).or_default().push(Holder {
                    outer: RecordId(outer),
                    offset: part.offset,
                    dimension: part.dimension,
                    needs: 0,
                    clip: None,
                    loose: false,
                });
            }
        }
        let mut private = BTreeSet::new();
        for area in areas {
            let size = program.records[area.inner.0].size;
            let room = program.records[area.container.0].size;
            let known = holders.entry(area.inner).or_default();
            let holder = |needs, clip| Holder {
                outer: area.container,
                offset: area.offset,
                dimension: None,
                needs,
                clip,
                loose: false,
            };
            known.push(holder(area.offset + size, None));
            if area.offset + size > room {
                if area.offset < room {
                    known.push(holder(0, Some(room - area.offset)));
                } else {
                    private.insert(area.container);
                }
            }
        }
        for (container, inner) in loose {
            holders.entry(*inner).or_default().push(Holder {
                outer: *container,
                offset: 0,
                dimension: None,
                needs: 0,
                clip: None,
                loose: true,
            });
        }
        Self { holders, private }
    }

    /// Whether objects of this type have bytes behind the declared ones.
    pub(crate) fn is_open_ended(&self, program: &Program<'_>, record: RecordId) -> bool {
        program.open_ended[record.0] || self.private.contains(&record)
    }

    /// All places of a type, the type itself included.
    pub(crate) fn placements(
        &self,
        program: &Program<'_>,
        record: RecordId,
    ) -> BTreeSet<Placement> {
        let size = program.records[record.0].size.max(1);
        let whole = if self.is_open_ended(program, record) {
            HeapPlace::TO_END
        } else {
            size
        };
        let mut found = BTreeSet::new();
        let start = Placement {
            container: record,
            offset: 0,
            dimensions: Vec::new(),
            size: whole,
            minimum: size,
            loose: false,
        };
        self.outwards(program, &start, &mut vec![record], &mut found);
        found
    }

    fn outwards(
        &self,
        program: &Program<'_>,
        at: &Placement,
        chain: &mut Vec<RecordId>,
        found: &mut BTreeSet<Placement>,
    ) {
        found.insert(reduce(at.clone()));
        if chain.len() > DEPTH {
            return;
        }
        for holder in self.holders.get(&at.container).into_iter().flatten() {
            if chain.contains(&holder.outer) {
                continue;
            }
            let cut = match holder.clip {
                Some(clip) => clipped(program, at, holder, clip),
                None => holder.loose.then(|| anywhere(program, holder.outer)),
            };
            if holder.clip.is_some() || holder.loose {
                if let Some(next) = cut {
                    chain.push(holder.outer);
                    self.outwards(program, &next, chain, found);
                    chain.pop();
                }
                continue;
            }
            let mut dimensions: Vec<Dimension> = holder.dimension.into_iter().collect();
            dimensions.extend(&at.dimensions);
            let open_ended = at.size == HeapPlace::TO_END;
            // What begins in the last element may reach beyond the array.
            let last = holder
                .dimension
                .map_or(0, |d| d.stride * d.count.saturating_sub(1));
            let inner = program.records[at.container.0].size;
            let behind = if inner > at.offset {
                inner - at.offset
            } else {
                program.records[chain[0].0].size.max(1)
            };
            let next = Placement {
                container: holder.outer,
                offset: at.offset + holder.offset,
                // In an array, or before other members, what is open-ended ends with its type.
                size: if open_ended && !dimensions.is_empty() {
                    behind
                } else {
                    at.size
                },
                dimensions,
                minimum: program.records[holder.outer.0]
                    .size
                    .max(holder.needs)
                    .max(holder.offset + last + at.minimum),
                loose: at.loose,
            };
            chain.push(holder.outer);
            self.outwards(program, &next, chain, found);
            chain.pop();
        }
    }
}

/// The part of a placement that a holder has room for.
fn clipped(program: &Program<'_>, at: &Placement, holder: &Holder, clip: u64) -> Option<Placement> {
    let size = clip.checked_sub(at.offset).filter(|s| *s > 0)?;
    Some(Placement {
        container: holder.outer,
        offset: holder.offset + at.offset,
        dimensions: Vec::new(),
        size: if at.dimensions.is_empty() {
            size.min(at.size)
        } else {
            size
        },
        minimum: program.records[holder.outer.0].size,
        loose: at.loose,
    })
}

/// All of an object.
fn anywhere(program: &Program<'_>, container: RecordId) -> Placement {
    Placement {
        container,
        offset: 0,
        dimensions: Vec::new(),
        size: HeapPlace::TO_END,
        minimum: program.records[container.0].size,
        loose: true,
    }
}

/// Drops arrays of one element, then turns the innermost dimensions into a longer element until
/// two are left.
pub(crate) fn reduce(mut place: Placement) -> Placement {
    place.dimensions.retain(|d| d.count != 1 && d.stride > 0);
    while place.dimensions.len() > 2 {
        if let Some(last) = place.dimensions.pop() {
            place.size = extent(last, place.size);
        }
    }
    place
}

/// Bytes from the first element's start to the last one's end.
fn extent(dimension: Dimension, size: u64) -> u64 {
    if dimension.count == 0 || size == HeapPlace::TO_END {
        HeapPlace::TO_END
    } else {
        dimension.stride * (dimension.count - 1) + size
    }
}

/// The place of a run of elements: what a bulk write to an array may cover.
pub(crate) fn run(mut place: Placement) -> Placement {
    while let Some(last) = place.dimensions.pop() {
        place.size = extent(last, place.size);
    }
    place
}
