//! Types of a translation unit: a table of rows that refer to each other, and what lies where.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Row of [`Types`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TypeId(pub u32);

/// The type table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Types(pub Vec<Type>);

/// A type; typedefs and qualifiers are stripped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Type {
    /// `struct qfq_group`, `unsigned int`; empty for pointers, arrays and functions.
    pub name: CompactString,
    /// Bytes; 0 for functions and incomplete types.
    pub size: u64,
    /// What it is made of.
    pub shape: Shape,
    /// Of a structure or union that its file defines: the same for every file that defines it
    /// alike, and another one otherwise (see [`Types::seal`]); 0 for everything else.
    pub identity: u64,
}

/// What a type is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// Number or enumeration.
    Scalar,
    /// Pointer; `None` for `void *`.
    Pointer(Option<TypeId>),
    /// Array; count 0 for a flexible one. Dimensions of the source are multiplied.
    Array {
        /// Element.
        element: TypeId,
        /// Bytes between elements.
        stride: u64,
        /// Elements.
        count: u64,
    },
    /// Function; `None` for `void`.
    Function {
        /// Return type.
        result: Option<TypeId>,
        /// Parameters, a variadic tail left out.
        parameters: Vec<Option<TypeId>>,
    },
    /// Structure or union.
    Record {
        /// File that defines it, relative to the kernel tree; empty when only declared.
        file: String,
        /// Members in order of declaration; none when only declared, or when the facts were read
        /// without what they do not mention (see [`Type::is_opaque`]).
        members: Vec<Member>,
    },
}

/// A member of a structure or union.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// Name, empty for an anonymous structure or union.
    pub name: CompactString,
    /// Bytes from the record's start (for a bit field, of the byte that holds its first bit).
    pub offset: u64,
    /// Type.
    pub ty: TypeId,
}

impl Type {
    /// Mark in the name of a structure that the source does not name.
    pub(crate) const ANONYMOUS: &'static str = " at line ";

    /// Whether the source does not name the type.
    pub fn is_anonymous(&self) -> bool {
        self.name.contains(Self::ANONYMOUS)
    }

    /// Whether this is a structure that is defined, but whose members were left out: another file
    /// has them under the same identity.
    pub fn is_opaque(&self) -> bool {
        self.identity != 0
            && self.size > 0
            && matches!(&self.shape, Shape::Record { members, .. } if members.is_empty())
    }

    /// The same type without what it is made of.
    pub(crate) fn opaque(&self) -> Self {
        let shape = match &self.shape {
            Shape::Record { file, .. } => Shape::Record {
                file: file.clone(),
                members: Vec::new(),
            },
            other => other.clone(),
        };
        Self {
            name: self.name.clone(),
            shape,
            ..*self
        }
    }
}

impl Types {
    /// Row of `void`, for places in memory without a type.
    pub const VOID: TypeId = TypeId(0);

    /// A table that holds `void` only.
    pub(crate) fn new() -> Self {
        Self(vec![Type {
            name: "void".into(),
            size: 1,
            shape: Shape::Scalar,
            identity: 0,
        }])
    }

    /// Computes [`Type::identity`] of every row: XXH3 over name, defining file and size, and for
    /// every member its name, offset, and the name, size, element and count of its type.
    pub(crate) fn seal(&mut self) {
        let identities: Vec<u64> = self.0.iter().map(|ty| self.identity(ty)).collect();
        for (ty, identity) in self.0.iter_mut().zip(identities) {
            ty.identity = identity;
        }
    }

    fn identity(&self, ty: &Type) -> u64 {
        let Shape::Record { file, members } = &ty.shape else {
            return 0;
        };
        if file.is_empty() {
            return 0;
        }
        let mut bytes = Vec::with_capacity(64 + 48 * members.len());
        let text = |bytes: &mut Vec<u8>, text: &str| {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        };
        text(&mut bytes, &ty.name);
        text(&mut bytes, file);
        bytes.extend(ty.size.to_le_bytes());
        for member in members {
            let inner = self.get(member.ty);
            text(&mut bytes, &member.name);
            text(&mut bytes, &inner.name);
            bytes.extend(member.offset.to_le_bytes());
            bytes.extend(inner.size.to_le_bytes());
            if let Shape::Array { element, count, .. } = inner.shape {
                text(&mut bytes, &self.get(element).name);
                bytes.extend(count.to_le_bytes());
            }
        }
        // 0 stands for no identity.
        xxh3_64(&bytes).max(1)
    }

    /// The type in a row.
    pub fn get(&self, id: TypeId) -> &Type {
        &self.0[id.0 as usize]
    }

    /// Whether the type is a structure or union.
    pub fn is_record(&self, id: TypeId) -> bool {
        matches!(self.get(id).shape, Shape::Record { .. })
    }

    /// What a pointer type points to.
    pub fn pointee(&self, id: TypeId) -> Option<TypeId> {
        match self.get(id).shape {
            Shape::Pointer(to) => to,
            _ => None,
        }
    }

    /// Types that lie at an offset of a type, outermost first, the type itself at offset 0
    /// included. In a union every member counts.
    pub fn at(&self, id: TypeId, offset: u64) -> Vec<TypeId> {
        let mut found = Vec::new();
        self.descend(id, offset, 0, &mut found);
        found
    }

    fn descend(&self, id: TypeId, offset: u64, depth: u32, found: &mut Vec<TypeId>) {
        if offset == 0 && !found.contains(&id) {
            found.push(id);
        }
        if depth > 24 {
            return;
        }
        let ty = self.get(id);
        match &ty.shape {
            Shape::Array {
                element, stride, ..
            } if *stride > 0 => self.descend(*element, offset % stride, depth + 1, found),
            Shape::Record { members, .. } => {
                for member in members {
                    let inner = self.get(member.ty);
                    let open_ended = matches!(inner.shape, Shape::Array { count: 0, .. });
                    if offset >= member.offset
                        && (offset < member.offset + inner.size.max(1) || open_ended)
                    {
                        self.descend(member.ty, offset - member.offset, depth + 1, found);
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether `inner` lies at an offset of `outer`; with an unknown offset, anywhere in it.
    pub fn contains(&self, outer: TypeId, offset: Option<i64>, inner: TypeId) -> bool {
        match offset {
            Some(offset) => u64::try_from(offset).is_ok_and(|o| self.at(outer, o).contains(&inner)),
            None => self.holds(outer, inner, 0),
        }
    }

    fn holds(&self, outer: TypeId, inner: TypeId, depth: u32) -> bool {
        outer == inner
            || depth < 24
                && match &self.get(outer).shape {
                    Shape::Array { element, .. } => self.holds(*element, inner, depth + 1),
                    Shape::Record { members, .. } => {
                        members.iter().any(|m| self.holds(m.ty, inner, depth + 1))
                    }
                    _ => false,
                }
    }
}
