//! Recordings judged against legal sets: soundness as a measurement.
//!
//! [`judge`] asks of everything that a compartment was seen to write or call on a running kernel
//! whether its legal set admits it, by the rules that the check applies in the kernel.

mod allocations;
mod calls;
mod judgement;
mod layout;
pub mod report;
mod rules;

pub use judgement::{Judgement, Outside, OutsideTarget, Why, judge};
