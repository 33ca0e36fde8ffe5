//! Types of a translation unit from its debug information.

use compact_str::{CompactString, format_compact};
use rustc_hash::FxHashMap as HashMap;

use crate::{
    bitcode::{Class, Meta},
    facts::{Member, Shape, Type, TypeId, Types},
};

const TAG_ARRAY: u16 = 0x01;
const TAG_ENUMERATION: u16 = 0x04;
const TAG_MEMBER: u16 = 0x0d;
const TAG_POINTER: u16 = 0x0f;
const TAG_STRUCTURE: u16 = 0x13;
const TAG_TYPEDEF: u16 = 0x16;
const TAG_UNION: u16 = 0x17;

/// Typedefs and qualifiers of a type: more are a circle, in a damaged file.
const CHAIN: u32 = 1000;

/// Makes paths of source files relative to the kernel tree.
pub(crate) struct Files {
    root: String,
    names: HashMap<usize, String>,
}

impl Files {
    /// `unit` is the path that the compiler was given for `source`.
    pub(crate) fn new(unit: &str, source: &str) -> Self {
        Self {
            root: unit.strip_suffix(source).unwrap_or_default().to_owned(),
            names: HashMap::default(),
        }
    }

    /// Path of a file node; generated headers outside the tree begin at `include/` or `arch/`.
    pub(crate) fn name(&mut self, file: Option<Meta<'_>>) -> String {
        let Some(file) = file.filter(|f| f.class() == Class::File) else {
            return String::new();
        };
        let root = &self.root;
        self.names
            .entry(file.key())
            .or_insert_with(|| {
                let path = join(&file.path());
                let path = path.strip_prefix("./").unwrap_or(&path);
                // Compiled with its prefix mapped away: already relative to the tree.
                if !path.starts_with('/') {
                    return path.to_owned();
                }
                if let Some(inside) = path
                    .strip_prefix(root.as_str())
                    .filter(|_| !root.is_empty())
                {
                    return inside.to_owned();
                }
                ["/arch/", "/include/"]
                    .iter()
                    .find_map(|mark| path.find(mark).map(|at| path[at + 1..].to_owned()))
                    .unwrap_or_else(|| path.rsplit('/').next().unwrap_or_default().to_owned())
            })
            .clone()
    }
}

fn concat(parts: &[&str]) -> CompactString {
    let mut whole = CompactString::with_capacity(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        whole.push_str(part);
    }
    whole
}

/// Directory and file name as one path without `.` and `..`.
pub(crate) fn join((directory, name): &(String, String)) -> String {
    let path = if name.starts_with('/') {
        name.clone()
    } else {
        format!("{directory}/{name}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Bytes of a type node behind typedefs and qualifiers.
fn size_of(node: Option<Meta<'_>>) -> u64 {
    let mut at = node;
    for _ in 0..CHAIN {
        let Some(node) = at else { break };
        let bits = node.bits();
        if bits > 0 {
            return bits / 8;
        }
        if node.class() != Class::Derived {
            return 0;
        }
        at = node.base();
    }
    0
}

/// Reads type nodes into the table, each once.
pub(crate) struct TypeReader<'m> {
    pub(crate) files: Files,
    ids: HashMap<usize, Option<TypeId>>,
    /// Structures by their name in the IR, `struct.qfq_group`.
    pub(crate) by_ir_name: HashMap<CompactString, TypeId>,
    pub(crate) types: Types,
    /// Rows to fill, with the last typedef on the way to each.
    pending: Vec<(TypeId, Meta<'m>, Option<Meta<'m>>)>,
}

impl<'m> TypeReader<'m> {
    pub(crate) fn new(files: Files) -> Self {
        Self {
            files,
            ids: HashMap::default(),
            by_ir_name: HashMap::default(),
            types: Types::new(),
            pending: Vec::new(),
        }
    }

    /// The row of a type node with everything it reaches; `None` for `void`.
    pub(crate) fn read(&mut self, node: Option<Meta<'m>>) -> Option<TypeId> {
        let id = self.reserve(node?);
        while let Some((id, node, alias)) = self.pending.pop() {
            let ty = self.build(node, alias);
            self.types.0[id.0 as usize] = ty;
        }
        id
    }

    /// Gives a node a row, to be filled later: types refer to each other in circles.
    fn reserve(&mut self, node: Meta<'m>) -> Option<TypeId> {
        if let Some(id) = self.ids.get(&node.key()) {
            return *id;
        }
        let mut at = node;
        let mut alias = None;
        // Typedefs and qualifiers: the last typedef names an anonymous structure.
        let mut left = CHAIN;
        while at.class() == Class::Derived && at.tag() != TAG_POINTER && at.tag() != TAG_MEMBER {
            if at.tag() == TAG_TYPEDEF {
                alias = Some(at);
            }
            left -= 1;
            if let Some(base) = at.base().filter(|_| left > 0) {
                at = base;
            } else {
                self.ids.insert(node.key(), None);
                return None;
            }
        }
        let id = if let Some(id) = self.ids.get(&at.key()) {
            *id
        } else {
            let id = TypeId(self.types.0.len() as u32);
            self.types.0.push(Type {
                name: CompactString::default(),
                size: 0,
                shape: Shape::Scalar,
                identity: 0,
            });
            self.pending.push((id, at, alias));
            Some(id)
        };
        self.ids.insert(at.key(), id);
        self.ids.insert(node.key(), id);
        id
    }

    fn base(&mut self, node: Meta<'m>) -> Option<TypeId> {
        let base = node.base()?;
        self.reserve(base)
    }

    fn build(&mut self, node: Meta<'m>, alias: Option<Meta<'m>>) -> Type {
        let size = node.bits() / 8;
        let scalar = |name| Type {
            name,
            size,
            shape: Shape::Scalar,
            identity: 0,
        };
        match (node.class(), node.tag()) {
            (Class::Derived, TAG_POINTER) => Type {
                name: CompactString::default(),
                size: 8,
                shape: Shape::Pointer(self.base(node)),
                identity: 0,
            },
            (Class::Composite, TAG_ENUMERATION) => {
                let base = node.base();
                scalar(base.map_or_else(|| "unsigned int".into(), Meta::name))
            }
            (Class::Composite, TAG_ARRAY) => self.array(node, size),
            (Class::Composite, tag @ (TAG_STRUCTURE | TAG_UNION)) => {
                let keyword = if tag == TAG_UNION { "union" } else { "struct" };
                let name = node.name();
                let alias = alias.filter(|_| name.is_empty());
                let alias = alias.map_or_else(CompactString::default, Meta::name);
                self.record(node, keyword, &name, &alias, size)
            }
            (Class::Subroutine, _) => self.function(node),
            _ => scalar(node.name()),
        }
    }

    fn array(&mut self, node: Meta<'m>, size: u64) -> Type {
        let count = node
            .elements()
            .filter(|e| e.class() == Class::Subrange)
            .map(|range| {
                let count = range.base().and_then(Meta::integer);
                count.unwrap_or(0).max(0) as u64
            })
            .product::<u64>();
        let Some(element) = self.base(node) else {
            return Type {
                name: CompactString::default(),
                size,
                shape: Shape::Scalar,
                identity: 0,
            };
        };
        // The element's own row may not be filled yet: its size is in its node.
        let stride = size_of(node.base());
        Type {
            name: CompactString::default(),
            size: stride * count,
            shape: Shape::Array {
                element,
                stride,
                count,
            },
            identity: 0,
        }
    }

    fn record(
        &mut self,
        node: Meta<'m>,
        keyword: &str,
        name: &str,
        alias: &str,
        size: u64,
    ) -> Type {
        let file_node = node.file();
        let elements: Vec<Meta<'m>> = node.elements().collect();
        let file = if size == 0 && elements.is_empty() {
            String::new()
        } else {
            self.files.name(file_node)
        };
        let mut members = Vec::with_capacity(elements.len());
        for element in elements {
            if element.class() != Class::Derived || element.tag() != TAG_MEMBER {
                continue;
            }
            if let Some(ty) = self.base(element) {
                members.push(Member {
                    name: element.name(),
                    offset: element.offset() / 8,
                    ty,
                });
            }
        }
        let called = if name.is_empty() { alias } else { name };
        if !called.is_empty() && !file.is_empty() {
            let id = self.ids.get(&node.key()).copied().flatten();
            if let Some(id) = id {
                let name = concat(&[keyword, ".", called]);
                self.by_ir_name.insert(name, id);
            }
        }
        Type {
            name: if called.is_empty() {
                format_compact!("{keyword}{}{}", Type::ANONYMOUS, node.line())
            } else if name.is_empty() {
                called.into()
            } else {
                concat(&[keyword, " ", called])
            },
            size,
            shape: Shape::Record { file, members },
            identity: 0,
        }
    }

    fn function(&mut self, node: Meta<'m>) -> Type {
        let types: Vec<Option<Meta<'m>>> = node.base().into_iter().flat_map(Meta::items).collect();
        let mut rows = types
            .iter()
            .map(|t| t.and_then(|t| self.reserve(t)))
            .collect::<Vec<_>>();
        let result = if rows.is_empty() {
            None
        } else {
            rows.remove(0)
        };
        // A variadic tail is a null at the end.
        if types.len() > 1 && types.last().is_some_and(Option::is_none) {
            rows.pop();
        }
        Type {
            name: CompactString::default(),
            size: 0,
            shape: Shape::Function {
                result,
                parameters: rows,
            },
            identity: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::join;

    #[test]
    fn paths_are_joined_and_cleaned() {
        let join = |d: &str, n: &str| join(&(d.into(), n.into()));
        assert_eq!(join("/k/src", "./include/a.h"), "/k/src/include/a.h");
        assert_eq!(join("/k/src", "../b.h"), "/k/b.h");
        assert_eq!(join("/k", "/abs/c.h"), "/abs/c.h");
    }
}
