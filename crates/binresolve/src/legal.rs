//! The table of legal sets: the analysis' rows, and unions behind them.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    analysis::{LegalSet, StackRule},
    ids::LegalSetId,
};

/// Legal sets by row, each stored once.
pub struct LegalSets {
    sets: Vec<LegalSet>,
    rows: BTreeMap<LegalSet, LegalSetId>,
    unions: BTreeMap<BTreeSet<LegalSetId>, LegalSetId>,
}

impl LegalSets {
    /// Starts with the rows of an analysis.
    pub fn new(sets: &[LegalSet]) -> Self {
        let mut rows = BTreeMap::new();
        for (row, set) in sets.iter().enumerate() {
            rows.entry(set.clone())
                .or_insert_with(|| LegalSetId::from(row));
        }
        Self {
            sets: sets.to_vec(),
            rows,
            unions: BTreeMap::new(),
        }
    }

    /// The set in a row.
    pub fn get(&self, id: LegalSetId) -> &LegalSet {
        &self.sets[id.index()]
    }

    /// Whether the row exists: ids come from a file.
    pub fn contains(&self, id: LegalSetId) -> bool {
        id.index() < self.sets.len()
    }

    /// The row of this set, a new one if need be.
    pub fn intern(&mut self, set: LegalSet) -> LegalSetId {
        if let Some(id) = self.rows.get(&set) {
            return *id;
        }
        let id = LegalSetId::from(self.sets.len());
        self.sets.push(set.clone());
        self.rows.insert(set, id);
        id
    }

    /// The row of the union of sets; `None` of no sets or of sets that allow nothing.
    pub fn union(&mut self, ids: &BTreeSet<LegalSetId>) -> Option<LegalSetId> {
        if let Some(id) = self.unions.get(ids) {
            return Some(*id);
        }
        let mut sets = ids.iter().map(|id| self.get(*id));
        let mut union = sets.next()?.clone();
        for set in sets {
            join(&mut union, set);
        }
        if union.is_empty() {
            return None;
        }
        let id = self.intern(union);
        self.unions.insert(ids.clone(), id);
        Some(id)
    }

    /// The row of a set that is changed by `change`.
    pub fn with(&mut self, id: LegalSetId, change: impl FnOnce(&mut LegalSet)) -> LegalSetId {
        let mut set = self.get(id).clone();
        change(&mut set);
        self.intern(set)
    }

    /// All rows.
    pub fn into_rows(self) -> Vec<LegalSet> {
        self.sets
    }
}

/// Adds to a sorted list.
pub fn insert_sorted<T: Ord>(list: &mut Vec<T>, item: T) {
    if let Err(row) = list.binary_search(&item) {
        list.insert(row, item);
    }
}

/// Whether the set allows variables of the compartment's own frames, and nothing else.
pub fn only_stack(set: &LegalSet) -> bool {
    let LegalSet {
        types: _,
        stack,
        passed,
        globals,
        heap,
        any_heap,
        any_global,
        per_cpu,
        user,
    } = set;
    (*stack != StackRule::None || !passed.is_empty())
        && *stack != StackRule::Any
        && globals.is_empty()
        && heap.is_empty()
        && any_heap.is_none()
        && any_global.is_none()
        && !per_cpu
        && !user
}

fn join(into: &mut LegalSet, from: &LegalSet) {
    merge(&mut into.types, &from.types);
    merge(&mut into.globals, &from.globals);
    merge(&mut into.heap, &from.heap);
    merge(&mut into.passed, &from.passed);
    into.stack = into.stack.max(from.stack);
    into.any_heap = first(into.any_heap.take(), from.any_heap.as_ref());
    into.any_global = first(into.any_global.take(), from.any_global.as_ref());
    into.per_cpu |= from.per_cpu;
    into.user |= from.user;
}

/// Instead of the objects that were passed the rule that holds without them.
pub fn forget_passed(set: &mut LegalSet) {
    set.stack = set.stack_without_notes();
    set.passed.clear();
}

/// Of two reasons the one that sorts first: the order of joining must not show.
fn first(a: Option<String>, b: Option<&String>) -> Option<String> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b.clone())),
        (a, b) => a.or_else(|| b.cloned()),
    }
}

fn merge<T: Ord + Clone>(into: &mut Vec<T>, from: &[T]) {
    into.extend_from_slice(from);
    into.sort_unstable();
    into.dedup();
}

#[cfg(test)]
mod tests {
    use otf_artifact::{
        analysis::StackRule,
        ids::{GlobalId, ObjectTypeId},
    };

    use super::*;

    #[test]
    fn union_allows_what_either_allows() {
        let a = LegalSet {
            stack: StackRule::Own,
            globals: vec![GlobalId(3)],
            types: vec![ObjectTypeId(1)],
            ..LegalSet::default()
        };
        let b = LegalSet {
            globals: vec![GlobalId(1), GlobalId(3)],
            any_heap: Some("why".into()),
            ..LegalSet::default()
        };
        let mut sets = LegalSets::new(&[a.clone(), b, LegalSet::default()]);
        let both = BTreeSet::from([LegalSetId(0), LegalSetId(1)]);
        let id = sets.union(&both).unwrap();
        assert_eq!(sets.union(&both), Some(id));
        let union = sets.get(id);
        assert_eq!(union.globals, [GlobalId(1), GlobalId(3)]);
        assert_eq!(union.stack, StackRule::Own);
        assert_eq!(union.any_heap.as_deref(), Some("why"));
        assert_eq!(
            sets.union(&BTreeSet::from([LegalSetId(0)])),
            Some(LegalSetId(0))
        );
        assert_eq!(sets.union(&BTreeSet::from([LegalSetId(2)])), None);
        assert_eq!(sets.intern(a), LegalSetId(0));
        assert_eq!(sets.into_rows().len(), 4);
    }
}
