//! `kernels/NAME/compartments/COMPARTMENT.yaml`: which code is untrusted.

use otf_artifact::yaml::Placed;
use schemars::JsonSchema;
use serde::Deserialize;

/// A compartment.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compartment {
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// Modules, named as in lsmod. Empty for code of `vmlinux`.
    #[serde(default)]
    pub modules: Vec<Placed<String>>,
    /// Confined source: files or directories of the kernel tree. Of a directory, the files that the
    /// images really contain.
    pub confined: Vec<Placed<String>>,
    /// Overlay without which the compartment's source does not exist.
    #[serde(default)]
    pub overlay: Option<Placed<String>>,
    /// Further compiler flags for the bitcode of the confined files.
    #[serde(default)]
    pub flags: Vec<String>,
}
