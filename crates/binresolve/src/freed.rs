//! The legal set of a call that frees an object.

use iced_x86::Instruction;
use otf_artifact::{analysis::LegalSet, freers, ids::LegalSetId, sites::Precision};

use crate::{confined::Confined, decode::destination, dwarf::Origin, join::Join, ladder::Access};

/// Why a free may free any heap object.
const UNKNOWN: &str = "what is freed is not known";

impl Join<'_, '_> {
    /// Heap objects that the source frees in the function; any where that is not known.
    pub(crate) fn freed(
        &mut self,
        confined: &Confined<'_>,
        instruction: &Instruction,
        origin: Option<&Origin>,
    ) -> (LegalSetId, Precision) {
        let callee = destination(&confined.image, instruction).map_or("", |d| d.symbol);
        let sets = origin
            .zip(freers::find(callee))
            .and_then(|(origin, freer)| {
                let inlined = confined.debug.inlined_beside(instruction.ip());
                let access = Access {
                    chain: &origin.chain,
                    columns: origin.clang,
                    size: None,
                    locked: false,
                    on_stack: false,
                    inlined: &inlined,
                };
                self.ladder.bind_free(&access, callee, freer.argument)
            });
        let union = sets.and_then(|sets| self.legal.union(&sets));
        let (heap, precision) = match union.map(|id| self.legal.get(id)) {
            Some(set) => (
                LegalSet {
                    types: set.types.clone(),
                    heap: set.heap.clone(),
                    any_heap: set.any_heap.clone(),
                    ..LegalSet::default()
                },
                Precision::Function,
            ),
            None => (LegalSet::default(), Precision::Compartment),
        };
        // A type without a byte has places, but none that an object could be told by.
        let known = heap.any_heap.is_some() || heap.heap.iter().any(|place| place.size > 0);
        let set = if known {
            heap
        } else {
            LegalSet {
                any_heap: Some(UNKNOWN.into()),
                ..LegalSet::default()
            }
        };
        (self.legal.intern(set), precision)
    }
}
