//! Metadata nodes: types and variables as the source declares them.

use compact_str::CompactString;

use crate::bitcode::{Module, Value};

/// Classes of nodes that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Basic,
    Derived,
    Composite,
    Subroutine,
    Subprogram,
    Subrange,
    File,
    Unit,
    Local,
    GlobalVariable,
    GlobalExpression,
    Text,
    List,
    Value,
    Other,
}

/// A node as it is stored; what its class does not have is [`super::NONE`] or 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) class: Class,
    pub(super) tag: u16,
    pub(super) line: u32,
    pub(super) name: u32,
    pub(super) file: u32,
    /// Base type; type of a variable or subprogram; directory; count of a subrange; what a global
    /// expression is of; what a value is; length of a list.
    pub(super) base: u32,
    /// List of elements or of retained types; begin of a list.
    pub(super) elements: u32,
    /// Bits; begin of a text.
    pub(super) size: u64,
    /// Bits; length of a text.
    pub(super) offset: u64,
}

/// A metadata node.
#[derive(Clone, Copy)]
pub(crate) struct Meta<'m> {
    module: &'m Module,
    row: u32,
}

impl<'m> Meta<'m> {
    pub(super) fn some(module: &'m Module, row: u32) -> Option<Self> {
        ((row as usize) < module.nodes.len()).then_some(Self { module, row })
    }

    fn data(self) -> &'m Row {
        // Rows are checked where a handle is made.
        &self.module.nodes[self.row as usize]
    }

    /// Identity inside one module, for maps.
    pub(crate) fn key(self) -> usize {
        self.row as usize
    }

    /// Class of the node.
    pub(crate) fn class(self) -> Class {
        self.data().class
    }

    /// DWARF tag of a type.
    pub(crate) fn tag(self) -> u16 {
        self.data().tag
    }

    /// Size in bits of a type.
    pub(crate) fn bits(self) -> u64 {
        self.data().size
    }

    /// Offset in bits of a member.
    pub(crate) fn offset(self) -> u64 {
        self.data().offset
    }

    /// Line of a type or subprogram.
    pub(crate) fn line(self) -> u32 {
        self.data().line
    }

    /// The base type, or what else a node is of: the type of a variable or subprogram, the count of
    /// a subrange, the list of a subroutine's types.
    pub(crate) fn base(self) -> Option<Self> {
        Self::some(self.module, self.data().base)
    }

    /// The file that a node is declared in.
    pub(crate) fn file(self) -> Option<Self> {
        Self::some(self.module, self.data().file)
    }

    /// Members, subranges; retained types of a unit.
    pub(crate) fn elements(self) -> impl Iterator<Item = Self> {
        let list = Self::some(self.module, self.data().elements);
        list.into_iter().flat_map(|list| list.items().flatten())
    }

    /// Nodes of a list.
    pub(crate) fn items(self) -> impl ExactSizeIterator<Item = Option<Self>> {
        let (module, data) = (self.module, self.data());
        let rows = match data.class {
            Class::List => data.elements as usize..(data.elements + data.base) as usize,
            _ => 0..0,
        };
        let rows = module.lists.get(rows).unwrap_or_default();
        rows.iter().map(move |row| Self::some(module, *row))
    }

    fn text(self) -> &'m [u8] {
        let data = self.data();
        let start = data.size as usize;
        match data.class {
            Class::Text => self.module.text.get(start..start + data.offset as usize),
            _ => None,
        }
        .unwrap_or_default()
    }

    fn name_bytes(self) -> &'m [u8] {
        Self::some(self.module, self.data().name).map_or(&[], Self::text)
    }

    /// Name of a type, variable or subprogram.
    pub(crate) fn name(self) -> CompactString {
        let name = self.name_bytes();
        str::from_utf8(name)
            .map_or_else(|_| CompactString::from_utf8_lossy(name), CompactString::new)
    }

    /// Directory and name of a file.
    pub(crate) fn path(self) -> (String, String) {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let directory = self.base().map_or(&[][..], Self::text);
        (text(directory), text(self.name_bytes()))
    }

    /// The constant that a node stands for.
    pub(crate) fn integer(self) -> Option<i64> {
        let data = self.data();
        (data.class == Class::Value)
            .then(|| Value::some(self.module, data.base))
            .flatten()?
            .integer()
    }
}
