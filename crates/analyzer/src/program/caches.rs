//! Names of dedicated slab caches, by the variable that holds the cache.

use std::collections::HashMap;

use crate::{
    facts::{Path, Root, Variable},
    program::{FunctionRef, origins::Search},
    tables::CACHE_MAKERS,
};

/// A variable with static storage: symbol and offset where others see it, else file, row and
/// offset.
pub(super) type StaticVariable<'a> = (Option<&'a str>, usize, usize, u32);

impl<'a> Search<'_, 'a> {
    pub(super) fn variable(&self, file: usize, variable: Variable) -> StaticVariable<'a> {
        let global = self.program.files[file]
            .1
            .globals
            .get(variable.global as usize);
        let (file, row) = self.program.definition(file, variable.global as usize);
        // A variable that no file defines is the same in all that declare it.
        let symbol = global.filter(|g| !g.internal).map(|g| g.symbol.as_str());
        match symbol {
            Some(symbol) => (Some(symbol), 0, 0, variable.offset),
            None => (None, file, row, variable.offset),
        }
    }

    /// Every cache that is made and kept in a variable with static storage.
    pub(super) fn name_caches(&self) -> HashMap<StaticVariable<'a>, Option<String>> {
        let mut names: HashMap<StaticVariable<'a>, Option<String>> = HashMap::new();
        for function in self.program.functions() {
            for (variable, path) in &self.program.function(function).stored {
                let Some(name) = self.cache_name(function, *path, 0) else {
                    continue;
                };
                names
                    .entry(self.variable(function.file, *variable))
                    .and_modify(|known| {
                        if known.as_ref() != Some(&name) {
                            *known = None;
                        }
                    })
                    .or_insert(Some(name.clone()));
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
