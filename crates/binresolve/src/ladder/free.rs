//! What a call that frees an object may free.
//!
//! Compilers merge equal calls at the ends of different paths into one, under the line of any of
//! them. So the line only has to be known: what counts are all such calls of the functions that the
//! machine function is made of.

use std::collections::BTreeSet;

use otf_artifact::{analysis::Function, ids::LegalSetId};

use super::{Access, Caller, Climb, Ladder};

impl<'a> Ladder<'a> {
    /// Legal sets of the freed argument of all calls of `callee`; `None` when the source has none at
    /// the place, or what one of them frees is not known.
    pub fn bind_free(
        &self,
        access: &Access<'_>,
        callee: &str,
        argument: usize,
    ) -> Option<BTreeSet<LegalSetId>> {
        // Whether something moved it does not matter: what is freed has to be the start of an object.
        let climb = Climb::new(access);
        let line = access.chain.first()?.place.line;
        let mut sets = BTreeSet::new();
        let mut placed = false;
        let mut add = |function: &'a Function, caller: Option<usize>| -> Option<()> {
            for call in function.calls.iter().filter(|c| c.callee == callee) {
                placed |= caller == Some(0) && call.line == line;
                let target = call.arguments.get(argument).copied().flatten()?;
                let handed = caller.map_or(Caller::Arguments(&[]), Caller::Step);
                sets.extend(self.resolve(target, &handed, &climb));
            }
            Some(())
        };
        for (level, step) in access.chain.iter().enumerate() {
            for function in self.functions(step) {
                add(function, Some(level))?;
            }
        }
        for name in access.inlined {
            for (_, function) in self.named(name) {
                add(function, None)?;
            }
        }
        (placed && !sets.is_empty()).then_some(sets)
    }
}
