//! Kernels that are built here: source, fragment and compiler in, image, modules and bitcode out.

mod collect;
mod fragment;
mod make;
mod tree;

pub use collect::{BOOT_IMAGE, BuiltImage, Contents, LOADABLE};
pub use make::{Recipe, suffix};
pub use tree::OUT;

/// The list of commands, relative to the product.
pub const COMMANDS: &str = "out/commands.json";
