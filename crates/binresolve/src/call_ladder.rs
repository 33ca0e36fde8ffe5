//! The precision ladder of indirect calls: from the place of an instruction to where it may lead.
//!
//! The rungs are those of writes ([`crate::ladder`]). Where no indirect call of the source is found
//! in any function of the chain, nothing is known: that is for the caller to say.

use std::collections::BTreeSet;

use otf_artifact::{analysis::IndirectCall, ids::TargetSetId, sites::Precision};

use crate::{
    dwarf::Step,
    ladder::{Access, CALL_DEPTH, Ladder, at_place},
};

/// Where the source may lead, and how that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallBinding {
    /// Target sets to be united; never empty.
    pub sets: BTreeSet<TargetSetId>,
    /// Rung.
    pub precision: Precision,
}

impl Ladder<'_> {
    /// Climbs from the narrowest rung; `None` when the source has no indirect call in the functions
    /// of the chain.
    pub fn bind_call(&self, access: &Access<'_>) -> Option<CallBinding> {
        self.call_by_line(access)
            .or_else(|| self.call_by_function(access))
    }

    fn call_by_line(&self, access: &Access<'_>) -> Option<CallBinding> {
        if access.chain.first()?.place.line == 0 {
            return None;
        }
        for (level, step) in access.chain.iter().enumerate() {
            let here = self.indirect_at(step, access.columns);
            if let Some(binding) = united(&here, level == 0) {
                return Some(binding);
            }
            let mut below = Vec::new();
            let mut seen = BTreeSet::new();
            for function in self.functions(step) {
                for call in function.calls.iter().filter(|c| c.line == step.place.line) {
                    self.indirect_below(&call.callee, CALL_DEPTH, None, &mut seen, &mut below);
                }
            }
            if let Some(binding) = united(&below, false) {
                return Some(binding);
            }
        }
        None
    }

    fn call_by_function(&self, access: &Access<'_>) -> Option<CallBinding> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        for step in access.chain {
            for function in self.functions(step) {
                found.extend(&function.indirect_calls);
                for call in &function.calls {
                    let inlined = access.inlined.contains(&call.callee);
                    if inlined || call.line == step.place.line {
                        let only = Some(access.inlined);
                        self.indirect_below(&call.callee, CALL_DEPTH, only, &mut seen, &mut found);
                    }
                }
            }
        }
        united(&found, false).map(|binding| CallBinding {
            precision: Precision::Function,
            ..binding
        })
    }

    fn indirect_at(&self, step: &Step, columns: bool) -> Vec<&IndirectCall> {
        let mut found = Vec::new();
        for function in self.functions(step) {
            let calls: &[IndirectCall] = &function.indirect_calls;
            found.extend(at_place(
                calls,
                |c| (c.line, c.column),
                &step.place,
                columns,
            ));
        }
        found
    }

    /// Indirect calls of a callee and of what it calls: of everything, or of what is inlined.
    fn indirect_below<'s>(
        &'s self,
        callee: &str,
        depth: usize,
        only: Option<&BTreeSet<String>>,
        seen: &mut BTreeSet<(usize, usize)>,
        found: &mut Vec<&'s IndirectCall>,
    ) {
        for (row, function) in self.named(callee) {
            if !seen.insert((row, depth)) {
                continue;
            }
            found.extend(&function.indirect_calls);
            let Some(depth) = depth.checked_sub(1) else {
                continue;
            };
            for call in &function.calls {
                if only.is_none_or(|inlined| inlined.contains(&call.callee)) {
                    self.indirect_below(&call.callee, depth, only, seen, found);
                }
            }
        }
    }
}

fn united(calls: &[&IndirectCall], narrow: bool) -> Option<CallBinding> {
    let sets: BTreeSet<TargetSetId> = calls.iter().map(|call| call.targets).collect();
    let precision = if narrow && calls.len() == 1 {
        Precision::Instruction
    } else {
        Precision::Line
    };
    (!sets.is_empty()).then_some(CallBinding { sets, precision })
}
