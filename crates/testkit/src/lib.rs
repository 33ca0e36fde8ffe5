//! What tests of several crates share: the products of `make bundles`, and an independent disassembler.
//!
//! A test on real kernels either runs or fails: where the products are missing it says how to get
//! them. Only `OTF_TEST_PACKAGES=0`, for machines without the distribution's archive, leaves it out.

pub mod objdump;
mod products;

pub use products::{Products, cache, packages_wanted, products, repository};
