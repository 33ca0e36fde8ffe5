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
    /// Profile which this one is like: everything but description and packages (of a kernel that is
    /// built: `fragment`) is as there, and its compartments, overlays and oracles are this one's too.
    #[serde(default)]
    pub like: Option<Placed<String>>,
    /// With `like`: options that come over those of that kernel, a file beside this one.
    #[serde(default)]
    pub fragment: Option<Placed<String>>,
    /// Packages of the distribution, for a kernel that is taken as it is.
    #[serde(default)]
    pub archive: Option<Archive>,
    /// How bitcode is made of a kernel that is taken as it is.
    #[serde(default)]
    pub bitcode: Option<BitcodeRecipe>,
    /// How the kernel is built, for one that is not taken as it is. Its bitcode is that of the build.
    #[serde(default)]
    pub build: Option<Build>,
    /// Source files that are read for allocation sites, types and flows, but not confined. Files or
    /// directories of the kernel tree; `**` is every file of the images.
    #[serde(default)]
    pub scope: Vec<Placed<String>>,
    /// Modules outside the compartment whose files `scope` may name: names of lsmod, or patterns
    /// (`nf_*`). Of a kernel that is built, `scope: ["**"]` takes every module.
    #[serde(default)]
    pub scope_modules: Vec<Placed<String>>,
    /// What a gate returns when it refuses, by `OPS_TYPE.FIELD`, where the return type does not say it.
    #[serde(default)]
    pub refusals: BTreeMap<String, Refusal>,
    /// Types of headers (`struct Qdisc`) of which `scope` holds every allocation and every variable:
    /// writes through them are confined to these. A wrong entry breaks a healthy kernel.
    #[serde(default)]
    pub complete: Vec<String>,
}

impl Profile {
    /// Whether there is nothing but what may stand beside `like`.
    pub(crate) fn says_no_more_than_like(&self) -> bool {
        let lists = [&self.scope, &self.scope_modules];
        self.bitcode.is_none()
            && self.build.is_none()
            && lists.iter().all(|list| list.is_empty())
            && self.refusals.is_empty()
            && self.complete.is_empty()
    }
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

/// A kernel that is built with clang, and of whose files the bitcode is kept.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Profile of a stock kernel; its source package is built, in the version that it stands for.
    pub source_of: Placed<String>,
    /// Command, found by `PATH`: `clang-19`. Linker and tools are those of the same LLVM, which must
    /// be the one that the analyzer reads.
    pub compiler: Placed<String>,
    /// Target of make that the configuration starts from.
    pub base: BaseConfiguration,
    /// Options over that, a file beside this one. Each must survive Kconfig.
    pub fragment: Placed<String>,
}

/// What a configuration starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BaseConfiguration {
    /// Everything off that can be off.
    AllNoConfig,
    /// The architecture's defaults.
    DefConfig,
}

impl BaseConfiguration {
    /// The target's name.
    pub fn target(self) -> &'static str {
        match self {
            Self::AllNoConfig => "allnoconfig",
            Self::DefConfig => "defconfig",
        }
    }
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
