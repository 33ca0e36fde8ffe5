//! Where a type holds function pointers.

use crate::{
    signature::function_type,
    types::{Member, Shape, TypeId, Types},
};

/// Depth of nesting that is followed.
const DEPTH: u32 = 24;

/// A function pointer found in a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Bytes from the start of the type that was searched, array indices taken as 0.
    pub(super) offset: u64,
    /// Innermost structure with a name, and the way from there.
    pub(super) record: TypeId,
    pub(super) member: String,
    /// Structure around it, and the member that it is.
    pub(super) outer: Option<(TypeId, String)>,
    /// Bytes from the start of `record`.
    inner: u64,
    /// The function type.
    pub(super) function: TypeId,
}

/// Remembers which types hold function pointers.
#[derive(Default)]
pub(super) struct Layout {
    holds: Vec<Option<bool>>,
}

impl Layout {
    /// Whether a type has a function pointer in it.
    pub(super) fn holds(&mut self, types: &Types, ty: TypeId) -> bool {
        self.holds.resize(types.0.len(), None);
        self.search(types, ty)
    }

    fn search(&mut self, types: &Types, ty: TypeId) -> bool {
        if let Some(known) = self.holds[ty.0 as usize] {
            return known;
        }
        // Sound types do not hold themselves; damaged ones must not hang the search.
        self.holds[ty.0 as usize] = Some(false);
        let found = match &types.get(ty).shape {
            Shape::Pointer(_) => function_type(types, ty).is_some(),
            Shape::Array { element, .. } => self.search(types, *element),
            Shape::Record { members, .. } => members.iter().any(|m| self.search(types, m.ty)),
            _ => false,
        };
        self.holds[ty.0 as usize] = Some(found);
        found
    }

    /// Function pointers at an offset of a type, in every member of a union; all of them without
    /// an offset. Two at the same bytes of the same structure are one.
    pub(super) fn find(&mut self, types: &Types, ty: TypeId, offset: Option<u64>) -> Vec<Found> {
        let mut found = Vec::new();
        if self.holds(types, ty) {
            let mut walk = Walk {
                layout: self,
                types,
                found: &mut found,
            };
            walk.descend(ty, offset, &At::start(ty), 0);
        }
        found
    }
}

/// Where a walk has come to.
#[derive(Clone)]
struct At<'t> {
    record: TypeId,
    way: Vec<&'t str>,
    outer: Option<(TypeId, String)>,
    inner: u64,
    offset: u64,
}

impl At<'_> {
    fn start(record: TypeId) -> Self {
        Self {
            record,
            way: Vec::new(),
            outer: None,
            inner: 0,
            offset: 0,
        }
    }
}

struct Walk<'a, 't> {
    layout: &'a mut Layout,
    types: &'t Types,
    found: &'a mut Vec<Found>,
}

impl<'t> Walk<'_, 't> {
    fn descend(&mut self, ty: TypeId, offset: Option<u64>, at: &At<'t>, depth: u32) {
        if depth > DEPTH || !self.layout.search(self.types, ty) {
            return;
        }
        match &self.types.get(ty).shape {
            Shape::Pointer(Some(function)) if offset.is_none_or(|o| o == 0) => {
                self.hit(*function, at);
            }
            Shape::Array {
                element, stride, ..
            } if *stride > 0 => {
                self.descend(*element, offset.map(|o| o % stride), at, depth + 1);
            }
            Shape::Record { members, .. } => {
                let mut here = at.clone();
                if !self.types.get(ty).is_anonymous() && (depth > 0 || at.record != ty) {
                    if !at.way.is_empty() {
                        here.outer = Some((at.record, at.way.join(".")));
                    }
                    here.record = ty;
                    here.way.clear();
                    here.inner = 0;
                }
                for member in members {
                    self.member(member, offset, &here, depth);
                }
            }
            _ => {}
        }
    }

    fn member(&mut self, member: &'t Member, offset: Option<u64>, at: &At<'t>, depth: u32) {
        let inner = self.types.get(member.ty);
        let open = matches!(inner.shape, Shape::Array { count: 0, .. });
        let rest = match offset {
            None => None,
            Some(o) if o >= member.offset && (open || o < member.offset + inner.size.max(1)) => {
                Some(o - member.offset)
            }
            Some(_) => return,
        };
        let mut next = at.clone();
        if !member.name.is_empty() {
            next.way.push(&member.name);
        }
        next.inner += member.offset;
        next.offset += member.offset;
        self.descend(member.ty, rest, &next, depth + 1);
    }

    fn hit(&mut self, function: TypeId, at: &At<'t>) {
        if at.way.is_empty() {
            return;
        }
        let same = |f: &Found| {
            f.record == at.record
                && f.inner == at.inner
                && f.offset == at.offset
                && f.outer.as_ref().map(|o| o.0) == at.outer.as_ref().map(|o| o.0)
        };
        if !self.found.iter().any(same) {
            self.found.push(Found {
                offset: at.offset,
                record: at.record,
                member: at.way.join("."),
                outer: at.outer.clone(),
                inner: at.inner,
                function,
            });
        }
    }
}
