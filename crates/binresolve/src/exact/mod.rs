//! The exact map: machine code that names the write of the source that it was made of.
//!
//! [`read`] takes it off the object of a shadow, a file's bitcode compiled again with a mark on
//! every instruction. [`link`] finds the code of the map in an image, which it must equal.

pub mod ask;
pub mod link;
mod object;

pub use object::read;
