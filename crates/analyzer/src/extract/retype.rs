//! What happens to a path when the pointer is used with another type.

use std::collections::BTreeSet;

use crate::{
    extract::paths::{Resolver, start, strayed},
    facts::{Flow, Path, Reach, Root, Shape, Source, TypeId, View},
};

impl Resolver<'_, '_> {
    /// What the pointer members at a place point to.
    pub(crate) fn pointers_at(&self, view: Option<View>) -> BTreeSet<Option<TypeId>> {
        let Some(View {
            ty,
            offset: Some(offset),
        }) = view
        else {
            return BTreeSet::new();
        };
        let Ok(offset) = u64::try_from(offset) else {
            return BTreeSet::new();
        };
        let types = &self.unit.types;
        types
            .at(ty, offset)
            .into_iter()
            .filter_map(|id| match types.get(id).shape {
                Shape::Pointer(to) => Some(to),
                _ => None,
            })
            .collect()
    }

    /// The path of a pointer that is used as a pointer to `to` from here on.
    pub(crate) fn retype(&self, path: Path, to: TypeId) -> Path {
        let types = &self.unit.types;
        let target = start(Some(to));
        if !types.is_record(to) {
            self.note(path, to);
            return Path {
                view: path.view.or(target),
                ..path
            };
        }
        let untyped = path
            .view
            .is_none_or(|v| !types.is_record(v.ty) && v.offset == Some(0));
        if let Some(view) = path.view {
            let size = types.get(to).size.max(1) as i64;
            if view.ty == to && view.offset.is_some_and(|o| o % size == 0) {
                let reach = match view.offset {
                    Some(0) => path.reach,
                    _ => strayed(path),
                };
                return Path {
                    view: target,
                    reach,
                    ..path
                };
            }
            if types.contains(view.ty, view.offset, to) {
                return path;
            }
        }
        self.note(path, to);
        let root = match path.root {
            Root::Unknown => Root::Memory(Source::Somewhere),
            root @ (Root::Local | Root::Global(_) | Root::Constant | Root::PerCpu) => root,
            root if untyped => root,
            _ => Root::Memory(Source::Somewhere),
        };
        let reach = match root {
            Root::Parameter(_) => path.reach,
            _ => Reach::Object,
        };
        Path {
            root,
            reach,
            view: target,
        }
    }

    /// Whether a pointer leads to what a pointer type says; to something without a structure
    /// everything without one does.
    pub(crate) fn fits(&self, path: Path, kind: Option<TypeId>) -> bool {
        let types = &self.unit.types;
        match (path.view, kind.filter(|k| types.is_record(*k))) {
            (Some(view), Some(kind)) => types.contains(view.ty, view.offset, kind),
            (Some(view), None) => !types.is_record(view.ty),
            (None, kind) => kind.is_none(),
        }
    }

    /// Notes that a pointer is used as a pointer to `to` where it does not lead to one.
    pub(crate) fn note(&self, from: Path, to: TypeId) {
        let types = &self.unit.types;
        let evidence = match from.root {
            Root::Constant | Root::Unknown | Root::Result | Root::PerCpu => false,
            Root::Call(_) | Root::Parameter(_) | Root::Memory(Source::Member(_)) => true,
            _ => from.view.is_some(),
        };
        let received = matches!(
            from.root,
            Root::Call(_) | Root::Parameter(_) | Root::Memory(Source::Member(_))
        ) && from.view.is_none();
        if evidence
            && (types.is_record(to) || received)
            && !from
                .view
                .is_some_and(|v| types.contains(v.ty, v.offset, to))
        {
            self.flows.borrow_mut().insert(Flow { from, to });
        }
    }
}
