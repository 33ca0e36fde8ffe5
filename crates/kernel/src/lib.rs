//! Turns a kernel profile into image, debug information, modules, guard and bitcode.
//!
//! [`resolve()`] is the first stage of the pipeline: `kernels/NAME/*.yaml` and the distribution's
//! archive in, a [`KernelLock`](otf_artifact::kernel::KernelLock) with the hash of every product
//! out. Products live in the cache; a second run needs no network. Long steps report through `tracing`.

mod apt;
mod bitcode;
mod build;
mod cache;
pub mod codegen;
mod command;
pub mod compartment;
mod deb;
mod elf;
mod images;
mod includes;
pub mod inputs;
mod kbuild;
mod kernel;
pub mod lineage;
mod listing;
mod modules;
pub mod overlay;
mod packages;
pub mod profile;
mod progress;
mod resolve;
mod scope;
mod trees;
mod units;
mod version;

pub use apt::{Apt, Archive, Record};
pub use inputs::schemas;
pub use resolve::{Request, resolve, resolve_from};
