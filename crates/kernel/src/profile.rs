//! `kernels/NAME/kernel.yaml`: where the parts of one kernel come from, and how it is compiled to bitcode.

use std::collections::BTreeMap;

use otf_artifact::{analysis, yaml::Placed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kernel profile.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// Packages of the distribution.
    pub archive: Archive,
    /// How bitcode is made.
    pub bitcode: BitcodeRecipe,
    /// Source files of `vmlinux` or of a compartment's modules that are read for allocation sites,
    /// types and flows, but not confined. Files or directories of the kernel tree.
    #[serde(default)]
    pub scope: Vec<Placed<String>>,
    /// What a gate returns when it refuses, by `OPS_TYPE.FIELD`, where the return type does not say it.
    #[serde(default)]
    pub refusals: BTreeMap<String, Refusal>,
    /// Types of headers (`struct Qdisc`) of which `scope` holds every allocation and every variable:
    /// writes through them are confined to these. A wrong entry breaks a healthy kernel.
    #[serde(default)]
    pub complete: Vec<String>,
}

/// Packages of a distribution. In names, `{release}` stands for `uname -r` and `{base}` for that
/// without `-FLAVOUR`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Kind of archive.
    pub kind: ArchiveKind,
    /// Name of the image's package, `linux-image-` and the release; one `*` stands for a run of
    /// characters without `-`. The newest complete version is taken.
    pub image: Placed<String>,
    /// Last part of the release.
    pub flavour: Placed<String>,
    /// Packages that together make the tree that external modules are built against.
    pub headers: Vec<String>,
    /// Package with the source tree.
    pub source: String,
    /// Package with the debug files of `vmlinux` and the modules.
    pub debug: String,
}

/// Kinds of archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArchiveKind {
    /// Debian packages, through apt of this machine.
    Debian,
}

/// How a source file becomes bitcode. In flags, `{source}` is the source tree, `{common}` and
/// `{headers}` the common and the flavour's tree of the headers packages.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BitcodeRecipe {
    /// Command, found by `PATH`; its LLVM must be the one that the analyzer reads.
    pub compiler: String,
    /// Flags for every file.
    pub flags: Vec<String>,
    /// Further flags for files of modules.
    #[serde(default)]
    pub module_flags: Vec<String>,
}

/// What a gate gives back when it refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Value for the return register.
    pub value: i64,
    /// How the source would spell it.
    pub name: String,
}

impl From<Refusal> for analysis::Refusal {
    fn from(refusal: Refusal) -> Self {
        Self {
            value: refusal.value,
            name: refusal.name,
        }
    }
}
