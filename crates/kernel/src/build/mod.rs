//! Kernels that are built here: source, fragment and compiler in, image, modules and bitcode out.

mod collect;
mod fragment;
mod make;
mod tree;

pub use collect::{BOOT_IMAGE, BuiltImage, Contents, LOADABLE, recorded};
pub use make::{FragmentFile, NAMES, Recipe, use_wrapper};
pub use tree::OUT;

/// The list of commands, relative to the product.
pub const COMMANDS: &str = "out/commands.json";
