//! Reader of the bitcode that clang of LLVM 19 writes: one translation unit as flat tables.
//!
//! LLVM's own reader builds an IR that can be changed, with use lists and unique metadata; most of
//! making facts went into building it and taking it down (docs/decisions/0019). This one keeps what
//! facts are made of: values by number with their operands, IR types with their layout, the debug
//! information of types and variables. What it does not know it refuses.
//!
//! Handles ([`Value`], [`Type`], [`Meta`]) borrow from the [`Module`]. Numbers of values and of
//! metadata that belong to one function only are given anew for the whole module.

mod attributes;
mod constants;
mod function;
mod instruction;
mod kind;
mod layout;
mod loader;
mod metadata;
mod module;
mod node;
mod stream;
mod types;
mod value;

#[cfg(test)]
mod tests;

use std::fmt;

pub(crate) use {
    kind::{Kind, Opcode, Passing},
    loader::{is_known, producer},
    module::Module,
    node::{Class, Meta},
    types::Type,
    value::Value,
};

/// A row that is not there.
const NONE: u32 = u32::MAX;

/// Why bitcode cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// Of another kind.
    NoMagic,
    /// Of another release.
    Producer(String),
    /// For another machine.
    Layout(String),
    /// Variables are told by calls of intrinsics, as before LLVM 19.
    DebugCalls,
    /// It ends too early.
    TooShort,
    /// A record has fewer numbers than its kind.
    ShortRecord,
    /// A number refers to nothing.
    NoSuch(&'static str),
    /// Broken in another way.
    Malformed(&'static str),
    /// Of a kind that is not known here.
    Unknown(&'static str, u64),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMagic => f.write_str("it does not begin with the magic of LLVM bitcode"),
            Self::Producer(name) => write!(f, "{name} wrote it"),
            Self::Layout(text) => write!(f, "it is for another machine, with the layout {text}"),
            Self::DebugCalls => f.write_str("its debug information is in calls, not in records"),
            Self::TooShort => f.write_str("it ends too early"),
            Self::ShortRecord => f.write_str("a record is too short"),
            Self::NoSuch(what) => write!(f, "it refers to {what} that does not exist"),
            Self::Malformed(what) => write!(f, "it is damaged at {what}"),
            Self::Unknown(what, code) => write!(f, "{what} of the unknown kind {code}"),
        }
    }
}
