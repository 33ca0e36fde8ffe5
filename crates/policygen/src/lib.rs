//! Sites to `policy.yaml`, `policy.yaml` to a signed bundle.
//!
//! [`generate`] writes down what the analysis found. A person may edit it. [`compile`] binds its
//! names to rows ([`bind`]), makes tables and a plan of probes ([`tables`]), leaves to audit what a
//! budget has no room for, checks them ([`check`]), validates every claim that a site needs no check ([`recheck`]), links them with the C check library and emits one BPF object ([`codegen`]). The
//! contents are packed by `otf-bundle` and signed by [`sign`].

mod address;
pub mod bind;
mod bind_calls;
mod bind_legal;
mod budget;
mod calls;
pub mod check;
pub mod codegen;
mod compile;
mod cost;
mod covers;
mod extent;
mod frequency;
mod generate;
mod heap;
mod inspect;
mod legal_rows;
mod naive;
mod names;
mod passed;
pub mod policy;
mod provenance;
mod quick;
mod recheck;
mod record;
mod returns;
pub mod rows;
mod shape;
mod sign;
pub mod tables;
mod words;
mod yaml_text;

pub use bind_calls::BoundCall;
pub use bind_legal::BoundLegal;
pub use compile::{Inputs, compile};
pub use cost::{Cost, PlaceCost, cost};
pub use extent::Extent;
pub use generate::generate;
pub use inspect::{coverage, inspect, inspect_bundle};
pub use naive::{Naive, naive};
pub use policy::{Policy, parse, schema};
pub use recheck::{ImageBytes, check as recheck};
pub use record::{RecordInputs, record};
pub use shape::Shape;
pub use sign::{KeyFiles, new_key, sign};
pub use words::{describe, items};
pub use yaml_text::to_yaml;
