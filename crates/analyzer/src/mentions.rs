//! Every type that facts mention, for keeping those and renumbering them.
//!
//! Each structure is taken apart completely, so that a new field cannot be forgotten here.

use std::collections::BTreeSet;

use crate::facts::{
    Argument, CallFacts, Facts, Flow, FunctionFacts, GlobalFacts, Path, Reference, TypeId, Use,
    View, WriteFacts,
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

impl<T: Mentions + Ord> Mentions for BTreeSet<T> {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
        *self = std::mem::take(self)
            .into_iter()
            .map(|mut inner| {
                inner.mentions(visit);
                inner
            })
            .collect();
    }
}

impl<A, T: Mentions> Mentions for (A, T) {
    fn mentions(&mut self, visit: &mut impl FnMut(&mut TypeId)) {
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
        let Self { root: _, view } = self;
        if let Some(View { ty, offset: _ }) = view {
            visit(ty);
        }
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
        } = self;
        parameters.mentions(visit);
        result.mentions(visit);
        locals.mentions(visit);
        writes.mentions(visit);
        calls.mentions(visit);
        returns.mentions(visit);
        flows.mentions(visit);
        stored.mentions(visit);
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
