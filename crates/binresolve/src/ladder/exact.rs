//! The first rung where an exact map says which write of the source an instruction is.

use otf_artifact::{
    analysis::WriteKind,
    exact::{Exact, SourceWrite},
    sites::Precision,
};

use super::{Access, Binding, Caller, Climb, Found, Ladder, Sets};

impl Ladder<'_> {
    /// The function rung: for a write that is known to be put together from several, none of which
    /// may be at its line.
    pub fn bind_merged(&self, access: &Access<'_>) -> Option<Binding> {
        let climb = Climb::new(access);
        let mut bound = self.by_function(&climb)?;
        bound.strays = climb.strays.get();
        Some(bound)
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
