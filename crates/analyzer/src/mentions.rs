//! Every type that facts mention, for keeping those and renumbering them.
//!
//! Each structure is taken apart completely, so that a new field cannot be forgotten here.

use crate::facts::{
    Argument, CallFacts, Facts, Flow, FunctionFacts, GlobalFacts, Holder, Path, Pointer, Reference,
    Root, Source, TypeId, Use, Variable, View, WriteFacts,
};

/// Something that mentions types.
pub(crate) trait Mentions {
    /// Calls `visit` for every mention. What is sorted stays sorted when `visit` keeps the order.
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId));
}

impl<T: Mentions> Mentions for Option<T> {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        if let Some(inner) = self {
            inner.mentions(visit);
        }
    }
}

impl<T: Mentions> Mentions for Vec<T> {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        for inner in self {
            inner.mentions(visit);
        }
    }
}

impl Mentions for Pointer {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        self.for_each_mut(|path| path.mentions(visit));
    }
}

impl<A: Mentions, T: Mentions> Mentions for (A, T) {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        self.0.mentions(visit);
        self.1.mentions(visit);
    }
}

impl Mentions for TypeId {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        visit(self);
    }
}

impl Mentions for Path {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        let Self { root, view, .. } = self;
        root.mentions(visit);
        if let Some(View { ty, offset: _ }) = view {
            visit(ty);
        }
    }
}

impl Mentions for Root {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        match self {
            Self::Memory(Source::Member(holder)) => holder.mentions(visit),
            Self::Memory(Source::Somewhere | Source::Global(_))
            | Self::Local
            | Self::Parameter(_)
            | Self::Result
            | Self::Global(_)
            | Self::Call(_)
            | Self::Constant
            | Self::PerCpu
            | Self::Unknown => {}
        }
    }
}

impl Mentions for Holder {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        let Self { record, offset: _ } = self;
        visit(record);
    }
}

impl Mentions for Variable {
    fn mentions(&mut self, _: &mut impl FnMut(&mut TypeId)) {
        let Self {
            global: _,
            offset: _,
        } = self;
    }
}

impl Mentions for Flow {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        let Self { from, to } = self;
        from.mentions(visit);
        visit(to);
    }
}

impl Mentions for Argument {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        let Self {
            pointer,
            integer: _,
            text: _,
            is_pointer: _,
        } = self;
        pointer.mentions(visit);
    }
}

impl Mentions for WriteFacts {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        let Self {
            line: _,
            column: _,
            kind: _,
            size: _,
            pointer,
            user: _,
        } = self;
        pointer.mentions(visit);
    }
}

impl Mentions for CallFacts {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        let Self {
            line: _,
            column: _,
            callee: _,
            arguments,
        } = self;
        arguments.mentions(visit);
    }
}

impl Mentions for FunctionFacts {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        let Self {
            symbol: _,
            name: _,
            file: _,
            line: _,
            internal: _,
            parameters,
            result,
            locals,
            writes,
            calls,
            returns,
            flows,
            stored,
            kept,
        } = self;
        parameters.mentions(visit);
        result.mentions(visit);
        locals.mentions(visit);
        writes.mentions(visit);
        calls.mentions(visit);
        returns.mentions(visit);
        flows.mentions(visit);
        stored.mentions(visit);
        kept.mentions(visit);
    }
}

impl Mentions for GlobalFacts {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        let Self {
            symbol: _,
            ty,
            file: _,
            size: _,
            constant: _,
            per_cpu: _,
            defined: _,
            internal: _,
        } = self;
        ty.mentions(visit);
    }
}

impl Mentions for Reference {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        let Self { function: _, by } = self;
        match by {
            Use::Member(ty, _) => visit(ty),
            Use::Argument(_) | Use::Stored | Use::Initcall | Use::Exitcall => {}
        }
    }
}

impl Mentions for Facts {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        let Self {
            source: _,
            types: _,
            functions,
            globals,
            references,
            exports: _,
            // Function pointers are told apart by name.
            slots: _,
        } = self;
        functions.mentions(visit);
        globals.mentions(visit);
        references.mentions(visit);
    }
}
