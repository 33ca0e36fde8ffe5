//! Bitcode to facts, facts to object types, allocation sites, gates and legal sets.
//!
//! [`facts`] reads one translation unit and needs nothing else, so that files can be read in
//! parallel and their facts cached. [`analyze`] works on facts alone.
//!
//! Two assumptions about C carry the result. A pointer in memory has the type that the memory is
//! declared with; where the source casts, the cast is followed and counts as evidence that the
//! object may lie there. Pointer arithmetic stays in the object it began in. An access that breaks
//! one of them is what a violation is.

mod assembly;
mod bitcode;
pub mod check;
mod extract;
pub mod facts;
pub mod format;
mod ir;
mod mentions;
mod pointer;
mod program;
mod prune;
pub mod shadow;
mod signature;
pub mod slots;
pub mod tables;
pub mod types;
mod validate;

pub use extract::{facts, walk};
pub use program::{
    FileMeta, Request,
    analyze::analyze,
    targets::{Counts, count_targets},
};
