//! Why a site that could be probed needs no probe of its own.
//!
//! Made by the resolver, carried by policy and plan, validated for every bundle by the compiler of
//! policies against the machine code.

use serde::{Deserialize, Serialize};

use crate::{ids::SiteId, sites::Location};

/// The loads in which a site goes without its probe.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Under {
    /// Whatever the action.
    #[default]
    Always,
    /// Under audit and kill. Under deny the covering check may leave out its own instruction only,
    /// and execution would come here.
    NotDeny,
}

/// What covers a site.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cover {
    /// The check of another site, which on every path stands before, on the same address but for a
    /// distance, with nothing between that could free an object.
    Check {
        /// The other site; it is not covered itself.
        by: SiteId,
        /// Bytes from the address that the other site writes to the one that this site writes.
        distance: i64,
        /// When.
        under: Under,
        /// The other site checks the bytes of this one beside its own, as one range. Otherwise its
        /// verdict on its own bytes implies that on these.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        joined: bool,
    },
    /// The object was just allocated: its size and allocation site are known.
    Fresh {
        /// The call, on every path, with nothing between that could free the object.
        call: Location,
        /// Bytes from the object's start.
        distance: u64,
    },
    /// The check would allow every address: per-CPU memory has no bounds.
    AnyAddress,
}

impl Cover {
    /// When the site goes without its probe.
    pub fn under(&self) -> Under {
        match self {
            Self::Check { under, .. } => *under,
            Self::Fresh { .. } | Self::AnyAddress => Under::Always,
        }
    }
}
