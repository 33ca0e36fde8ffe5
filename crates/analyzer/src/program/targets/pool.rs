//! Functions whose address is taken, by signature: what a pointer of which nothing else is known
//! may lead to.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap as HashMap;

use crate::{
    program::{
        Program,
        targets::graph::{Callee, callee},
    },
    signature::agree,
};

/// Functions whose address is taken.
pub(super) struct Pool<'a> {
    pub(super) taken: BTreeSet<Callee<'a>>,
    by_signature: BTreeMap<&'a str, BTreeSet<Callee<'a>>>,
    memo: HashMap<&'a str, BTreeSet<Callee<'a>>>,
}

impl<'a> Pool<'a> {
    pub(super) fn new(program: &Program<'a>) -> Self {
        let mut taken = BTreeSet::new();
        let mut signatures: HashMap<Callee<'a>, &'a str> = HashMap::default();
        for (file, (_, facts)) in program.files.iter().enumerate() {
            for reference in &facts.references {
                taken.insert(callee(program, file, &reference.function));
            }
            for (symbol, signature) in &facts.slots.signatures {
                let of = callee(program, file, facts.slots.name(*symbol));
                // What the file says that defines it counts.
                let own = matches!(of, Callee::Known(at) if at.file == file);
                let signature = facts.slots.name(*signature);
                if own {
                    signatures.insert(of, signature);
                } else {
                    signatures.entry(of).or_insert(signature);
                }
            }
        }
        let mut by_signature: BTreeMap<&str, BTreeSet<Callee<'_>>> = BTreeMap::new();
        for function in &taken {
            let signature = signatures.get(function).copied().unwrap_or("?");
            by_signature.entry(signature).or_default().insert(*function);
        }
        Self {
            taken,
            by_signature,
            memo: HashMap::default(),
        }
    }

    /// Functions that a call of this signature may reach.
    pub(super) fn matching(&mut self, signature: &'a str) -> &BTreeSet<Callee<'a>> {
        let by_signature = &self.by_signature;
        self.memo.entry(signature).or_insert_with(|| {
            by_signature
                .iter()
                .filter(|(function, _)| agree(signature, function))
                .flat_map(|(_, functions)| functions)
                .copied()
                .collect()
        })
    }
}
