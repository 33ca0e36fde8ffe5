//! The layout rule: whether a place in a heap object has room for a write. The same arithmetic as
//! `otf_place_fits` of the check library.

use otf_artifact::analysis::HeapPlace;

/// A write into an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// Bytes from the object's start.
    pub offset: u64,
    /// Bytes written.
    pub length: u64,
    /// Usable bytes of the object.
    pub size: u64,
    /// Its size is that of a `kmalloc` cache: up to the next power of two above what was requested.
    pub padded: bool,
}

impl Write {
    /// Whether it stays in the object.
    pub(crate) fn is_inside(self) -> bool {
        self.offset < self.size && self.length <= self.size - self.offset
    }

    /// Whether the place has room for it.
    pub(crate) fn fits(self, place: &HeapPlace) -> bool {
        if self.size < place.object_min {
            return false;
        }
        // The largest padding is less than the next power of two; small objects share a cache.
        if let Some(most) = place.object_size.filter(|most| *most > 0)
            && self.padded
            && self.size > 64
            && self.size >= most.saturating_mul(2)
        {
            return false;
        }
        let Some(mut offset) = self.offset.checked_sub(place.offset) else {
            return false;
        };
        for dimension in &place.dimensions {
            let Some(element) = offset.checked_div(dimension.stride) else {
                continue;
            };
            if dimension.count > 0 && element >= dimension.count {
                return false;
            }
            offset %= dimension.stride;
        }
        offset < place.size && self.length <= place.size - offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use otf_artifact::{
        analysis::Dimension,
        ids::{AllocationSiteId, ObjectTypeId},
    };
    use proptest::prelude::*;

    fn place(offset: u64, dimensions: Vec<(u64, u64)>, size: u64) -> HeapPlace {
        let dimensions = dimensions.into_iter();
        HeapPlace {
            target: ObjectTypeId(0),
            container: ObjectTypeId(0),
            offset,
            dimensions: dimensions
                .map(|(stride, count)| Dimension { stride, count })
                .collect(),
            size,
            allocation_sites: vec![AllocationSiteId(0)],
            object_min: 0,
            object_size: None,
        }
    }

    /// By trying every element.
    fn naive(write: Write, place: &HeapPlace) -> bool {
        let starts = |bases: Vec<u64>, d: &Dimension| -> Vec<u64> {
            let many = if d.count == 0 { 300 } else { d.count };
            bases
                .iter()
                .flat_map(|base| (0..many).map(move |i| base + i * d.stride))
                .collect()
        };
        let bases = place.dimensions.iter().fold(vec![place.offset], starts);
        bases
            .iter()
            .any(|base| write.offset >= *base && write.offset + write.length <= base + place.size)
    }

    proptest! {
        #[test]
        fn agrees_with_trying_every_element(
            start in 0u64..40, outer in 1u64..5, inner in 1u64..5, size in 1u64..9, pad in 0u64..9,
            flexible: bool, dimensions in 0usize..3, offset in 0u64..200, length in 1u64..12,
        ) {
            // Elements do not overlap: a stride is at least what it holds.
            let stride = size + pad;
            let shapes = [(stride * inner + pad, if flexible { 0 } else { outer }), (stride, inner)];
            let place = place(start, shapes[2 - dimensions..].to_vec(), size);
            let write = Write { offset, length, size: 4096, padded: false };
            prop_assert_eq!(write.fits(&place), naive(write, &place));
        }
    }

    #[test]
    fn the_object_must_be_of_a_size_that_the_place_has() {
        let mut place = place(0, vec![], 8);
        place.object_min = 100;
        let write = |size| Write {
            offset: 0,
            length: 8,
            size,
            padded: true,
        };
        assert!(!write(96).fits(&place));
        place.object_size = Some(100);
        assert!(write(128).fits(&place));
        assert!(
            !write(256).fits(&place),
            "kmalloc-256 never holds 100 bytes"
        );
        let dedicated = Write {
            padded: false,
            ..write(256)
        };
        assert!(dedicated.fits(&place));
    }
}
