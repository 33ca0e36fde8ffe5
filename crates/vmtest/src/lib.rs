//! Boots a kernel in QEMU and runs tests in it.
//!
//! [`guest::Guest`] builds an initramfs, [`vm::Vm`] runs it, [`vm::Outcome`] says what happened.
//! The guest needs neither disk nor network; its init is part of this crate.

pub mod archive;
mod error;
pub mod guest;
pub mod log;
pub mod modules;
pub mod program;
pub mod report;
pub mod vm;
pub mod watch;
