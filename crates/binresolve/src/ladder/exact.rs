//! The first rung where an exact map says which write of the source an instruction is.

use std::collections::BTreeMap;

use otf_artifact::{
    analysis::WriteKind,
    exact::{Exact, SourceWrite},
    sites::Precision,
};

use super::{Access, Binding, Caller, Climb, Found, Ladder, Sets};

impl Ladder<'_> {
    /// What may be written by a write that was put together from several, of which `part`, if that
    /// is known, is one: those at its line, where they are as many bytes in all (`a = b = NULL`); else
    /// all of the function, as the others may stand anywhere in it.
    pub fn bind_merged(
        &self,
        access: &Access<'_>,
        part: Option<(&SourceWrite, u64)>,
    ) -> Option<Binding> {
        let climb = Climb::new(access);
        let whole_line = part.and_then(|(part, bytes)| self.merged_line(&climb, part, bytes));
        let mut bound = whole_line.or_else(|| self.by_function(&climb))?;
        bound.strays = climb.strays.get();
        Some(bound)
    }

    fn merged_line(&self, climb: &Climb<'_>, part: &SourceWrite, bytes: u64) -> Option<Binding> {
        let step = climb.chain.first()?;
        if step.function != part.function || bytes == 0 {
            return None;
        }
        let functions = self.functions(step);
        let writes = functions.iter().flat_map(|function| &function.writes);
        let mut found = Found::default();
        // An inline function holds what each of its files has: every place as often as there are
        // files. One that stands there more often is several writes, as a macro makes them.
        let mut times: BTreeMap<_, usize> = BTreeMap::new();
        for write in writes.clone() {
            let place = (write.line, write.column, write.kind, write.size);
            *times.entry(place).or_default() += 1;
        }
        let once = *times.values().min()?;
        let mut total = 0;
        for ((line, _, _, size), count) in &times {
            if *line == part.line {
                if *size == 0 || *count % once != 0 {
                    return None;
                }
                total += size * (*count / once) as u64;
            }
        }
        if total != bytes {
            return None;
        }
        for write in writes.filter(|write| write.line == part.line) {
            found.add(write, self.resolve(write.target, &Caller::Step(0), climb));
        }
        Some(Binding {
            sets: found.sets,
            precision: Precision::Line,
            strays: false,
        })
    }

    /// What the source may write by this write of it; if the analysis has several at its place
    /// that cannot be told apart, by all of these. Else why the other rungs have to say.
    pub fn bind_exact(&self, access: &Access<'_>, source: &SourceWrite) -> Result<Binding, Exact> {
        let step = access.chain.first().ok_or(Exact::OtherFunction)?;
        if step.function != source.function {
            return Err(Exact::OtherFunction);
        }
        let climb = Climb::new(access);
        let mut found = Found::default();
        let mut given = true;
        for function in self.functions(step) {
            let same = function.writes.iter().filter(|w| {
                (w.line, w.column, w.kind, w.size)
                    == (source.line, source.column, source.kind, source.size)
            });
            for write in same {
                given &= self.is_given(write.target, &climb, 0);
                found.add(write, self.resolve(write.target, &Caller::Step(0), &climb));
            }
        }
        if found.writes == 0 || !access.on_stack && !given && self.are_variables(&found.sets) {
            return Err(Exact::Variable);
        }
        let precision = if found.sets.len() == 1 {
            Precision::Instruction
        } else {
            Precision::Line
        };
        // Nothing but this write: not a piece of it, not merged with another.
        let whole = source.kind == WriteKind::Store && access.size == Some(source.size);
        let field = found.field.filter(|_| whole && found.sets.len() == 1);
        Ok(Binding {
            sets: field.map_or(found.sets, |(_, set)| Sets::from([set])),
            precision,
            strays: climb.strays.get(),
        })
    }
}
