//! A translation unit as tables.

use std::ops::Range;

use crate::bitcode::{Meta, Value, attributes::Attributes, kind, layout::Types, node};

/// A translation unit.
#[derive(Debug, Default)]
pub(crate) struct Module {
    pub(super) types: Types,
    pub(super) attributes: Attributes,
    pub(super) values: Vec<kind::Row>,
    /// Rows of values.
    pub(super) operands: Vec<u32>,
    pub(super) globals: Vec<Global>,
    pub(super) functions: Vec<Function>,
    pub(super) aliases: Vec<Alias>,
    pub(super) declares: Vec<Declare>,
    /// Constraints and text of inline assembly.
    pub(super) assemblies: Vec<(String, String)>,
    pub(super) sections: Vec<String>,
    /// Symbols, one after the other.
    pub(super) names: Vec<u8>,
    /// Constant strings, one after the other.
    pub(super) bytes: Vec<u8>,
    pub(super) nodes: Vec<node::Row>,
    /// Rows of nodes that lists are made of.
    pub(super) lists: Vec<u32>,
    /// Strings of metadata, one after the other.
    pub(super) text: Vec<u8>,
    pub(super) units: Vec<u32>,
    pub(super) assembly: String,
}

/// Begin and length in [`Module::names`].
pub(super) type Name = (usize, usize);

/// A global variable.
#[derive(Debug)]
pub(super) struct Global {
    pub(super) name: Name,
    pub(super) value: u32,
    pub(super) ty: u32,
    pub(super) constant: bool,
    pub(super) internal: bool,
    pub(super) initializer: u32,
    /// From 1; 0 for none.
    pub(super) section: u32,
    /// Its node.
    pub(super) expression: u32,
}

/// A function.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: Name,
    pub(super) value: u32,
    pub(super) ty: u32,
    pub(super) declaration: bool,
    pub(super) internal: bool,
    pub(super) attributes: u32,
    pub(super) subprogram: u32,
    pub(super) parameters: Range<u32>,
    pub(super) instructions: Range<u32>,
    pub(super) declares: Range<usize>,
}

/// Another name of something.
#[derive(Debug)]
pub(super) struct Alias {
    pub(super) name: Name,
    pub(super) value: u32,
    pub(super) aliasee: u32,
}

/// Where a variable lives.
#[derive(Debug)]
pub(super) struct Declare {
    /// The instruction that comes next.
    pub(super) before: u32,
    pub(super) home: u32,
    pub(super) variable: u32,
}

impl Module {
    fn all(&self, rows: impl Iterator<Item = u32>) -> impl Iterator<Item = Value<'_>> {
        rows.filter_map(|row| Value::some(self, row))
    }

    /// Functions, declarations included.
    pub(crate) fn functions(&self) -> impl Iterator<Item = Value<'_>> {
        self.all(self.functions.iter().map(|f| f.value))
    }

    /// Global variables, declarations included.
    pub(crate) fn globals(&self) -> impl Iterator<Item = Value<'_>> {
        self.all(self.globals.iter().map(|g| g.value))
    }

    /// Aliases.
    pub(crate) fn aliases(&self) -> impl Iterator<Item = Value<'_>> {
        self.all(self.aliases.iter().map(|a| a.value))
    }

    /// Module-level assembly.
    pub(crate) fn assembly(&self) -> &str {
        &self.assembly
    }

    /// Compile units.
    pub(crate) fn compile_units(&self) -> impl Iterator<Item = Meta<'_>> {
        self.units.iter().filter_map(|row| Meta::some(self, *row))
    }
}
