//! Names of dedicated slab caches, by the variable or member that holds the cache.

use std::collections::hash_map::Entry;

use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

use crate::{
    facts::{Path, Root, Source, Variable},
    program::{FunctionRef, RecordId, origins::Search},
    tables::CACHE_MAKERS,
};

/// What holds a slab cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Keeper<'a> {
    /// A variable that other files see: symbol and offset.
    Symbol(&'a str, u32),
    /// A variable of one file: file, row and offset.
    Static(usize, usize, u32),
    /// A member of a structure, for all objects of its type.
    Member(RecordId, u32),
}

impl<'a> Search<'_, 'a> {
    pub(super) fn variable(&self, file: usize, variable: Variable) -> Keeper<'a> {
        let global = self.program.files[file]
            .1
            .globals
            .get(variable.global as usize);
        let (file, row) = self.program.definition(file, variable.global as usize);
        // A variable that no file defines is the same in all that declare it.
        let symbol = global.filter(|g| !g.internal).map(|g| g.symbol.as_str());
        match symbol {
            Some(symbol) => Keeper::Symbol(symbol, variable.offset),
            None => Keeper::Static(file, row, variable.offset),
        }
    }

    /// The variable or member that a pointer was loaded from.
    pub(super) fn keeper(&self, file: usize, source: Source) -> Option<Keeper<'a>> {
        match source {
            Source::Somewhere => None,
            Source::Global(variable) => Some(self.variable(file, variable)),
            Source::Member(holder) => Some(Keeper::Member(
                self.program.record(file, holder.record)?,
                holder.offset,
            )),
        }
    }

    /// The name of the cache in everything that holds caches; `None` when it may be another one:
    /// a wrong name would be worse than none.
    pub(super) fn name_caches(&self) -> HashMap<Keeper<'a>, Option<String>> {
        let mut names: HashMap<Keeper<'a>, Option<String>> = HashMap::default();
        let mut copies: Vec<(Keeper<'a>, Keeper<'a>)> = Vec::new();
        for function in self.program.functions() {
            let facts = self.program.function(function);
            let variables = facts.stored.iter().map(|(variable, path)| {
                let keeper = self.variable(function.file, *variable);
                (Some(keeper), *path)
            });
            let members = facts
                .kept
                .iter()
                .map(|(holder, path)| (self.keeper(function.file, Source::Member(*holder)), *path));
            for (to, path) in variables.chain(members) {
                let Some(to) = to else { continue };
                if let Root::Memory(source) = path.root
                    && let Some(from) = self.keeper(function.file, source)
                {
                    copies.push((to, from));
                    continue;
                }
                add(&mut names, to, self.cache_name(function, path, 0));
            }
        }
        let receivers: HashSet<Keeper<'a>> = copies.iter().map(|(to, _)| *to).collect();
        for (to, from) in &copies {
            if !names.contains_key(from) && !receivers.contains(from) {
                add(&mut names, *to, None);
            }
        }
        let mut changed = true;
        while changed {
            changed = false;
            for (to, from) in &copies {
                if let Some(name) = names.get(from).cloned() {
                    changed |= add(&mut names, *to, name);
                }
            }
        }
        names
    }

    /// Name given to the function that made a cache, through wrappers.
    fn cache_name(&self, function: FunctionRef, path: Path, depth: u32) -> Option<String> {
        let Root::Call(call) = path.root else {
            return None;
        };
        let facts = self.program.function(function);
        let call = &facts.calls[call as usize];
        let symbol = call.callee.as_deref()?;
        if let Some((_, name)) = CACHE_MAKERS.iter().find(|(maker, _)| *maker == symbol) {
            return call.arguments.get(usize::from(*name))?.text.clone();
        }
        let callee = self.program.callee(function.file, symbol)?;
        let inner = self.program.function(callee);
        let maker = inner.returns.iter().find_map(|path| {
            let Root::Call(row) = path.root else {
                return None;
            };
            let made = &inner.calls[row as usize];
            let name = CACHE_MAKERS
                .iter()
                .find(|(maker, _)| Some(*maker) == made.callee.as_deref())?;
            made.arguments.get(usize::from(name.1))
        });
        if let Some(argument) = maker {
            return argument.text.clone().or_else(|| {
                argument.pointer.iter().find_map(|p| match p.root {
                    Root::Parameter(i) => call.arguments.get(usize::from(i))?.text.clone(),
                    _ => None,
                })
            });
        }
        if depth > 4 {
            return None;
        }
        inner
            .returns
            .iter()
            .find_map(|p| self.cache_name(callee, *p, depth + 1))
    }
}

/// Joins a name with what is known; says whether that changed.
fn add<'a>(
    names: &mut HashMap<Keeper<'a>, Option<String>>,
    to: Keeper<'a>,
    name: Option<String>,
) -> bool {
    match names.entry(to) {
        Entry::Vacant(entry) => {
            entry.insert(name);
            true
        }
        Entry::Occupied(mut entry) => {
            let clash = entry.get().is_some() && *entry.get() != name;
            if clash {
                entry.insert(None);
            }
            clash
        }
    }
}
