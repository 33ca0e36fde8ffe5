//! Places in source.

use serde::{Deserialize, Serialize};

/// A function of the source and a line in it, one step of an inlining chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// Function name as in the source (no `.constprop.0` and the like).
    pub function: String,
    /// File relative to the kernel source tree, `net/sched/sch_qfq.c`.
    pub file: String,
    /// Line, from 1; 0 when DWARF gives none.
    pub line: u32,
    /// Column, from 1; 0 when unknown.
    pub column: u32,
}
