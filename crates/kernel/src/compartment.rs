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
    /// Modules, named as in lsmod, or patterns (`sch_*`) of modules that the kernel has. Empty for
    /// code of `vmlinux`.
    #[serde(default)]
    pub modules: Vec<Placed<String>>,
    /// Confined source in these modules and in `vmlinux`: files or directories of the kernel tree. Of
    /// a directory, the files that the images really contain. Without it, every file of the modules.
    #[serde(default)]
    pub confined: Vec<Placed<String>>,
    /// Files that are read but not confined, beside those of the profile's `scope`.
    #[serde(default)]
    pub scope: Vec<Placed<String>>,
    /// Modules that `scope` may name files of, beside those of the profile.
    #[serde(default)]
    pub scope_modules: Vec<Placed<String>>,
    /// Overlay without which the compartment's source does not exist.
    #[serde(default)]
    pub overlay: Option<Placed<String>>,
    /// Further compiler flags for the bitcode of the confined files; not for a kernel that is built.
    #[serde(default)]
    pub flags: Vec<String>,
}
