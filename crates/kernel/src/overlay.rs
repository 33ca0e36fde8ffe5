//! `kernels/NAME/overlays/OVERLAY/overlay.yaml`: changed or new modules for an unchanged kernel, for tests.

use otf_artifact::yaml::Placed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An overlay: what is changed in the source, which modules are built from it, and how it is exercised.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// Modules built from the changed source.
    pub modules: Vec<OverlayModule>,
    /// Patch against the kernel tree (`-p1`), beside this file.
    #[serde(default)]
    pub patch: Option<Placed<String>>,
    /// Folder beside this file whose files are laid over the kernel tree, after the patch.
    #[serde(default)]
    pub files: Option<Placed<String>>,
    /// Test modules that show damage: names of `kernels/NAME/oracles/ORACLE.c`.
    #[serde(default)]
    pub oracles: Vec<Placed<String>>,
    /// Stock modules that the scripts need, named as in lsmod; what these depend on comes by itself.
    #[serde(default)]
    pub needs: Vec<Placed<String>>,
    /// Script that makes the module write where it must not, beside this file.
    #[serde(default)]
    pub trigger: Option<Placed<String>>,
    /// Kinds of illegal writes: the arguments that the trigger understands.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Script of ordinary use, which must never be reported, beside this file.
    #[serde(default)]
    pub ordinary: Option<Placed<String>>,
    /// The bug that the overlay brings back, for the attack corpus. Its trigger has the commands
    /// `setup`, `attack`, `harm` (ends with 0 when harm was done, and says which) and `alive` (ends
    /// with 0 when the service works for others).
    #[serde(default)]
    pub attack: Option<Attack>,
}

/// A fixed bug that is brought back to be attacked.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attack {
    /// What the bug is known as.
    pub bug: String,
    /// What goes wrong in memory.
    pub kind: AttackKind,
    /// Compartment that is confined when it is attacked.
    pub compartment: Placed<String>,
    /// Words of the kernel's command line that make the harm visible in the run without a policy.
    #[serde(default)]
    pub options: String,
    /// All objects that matter are made after the policy is loaded: it goes to the working phase
    /// before the set-up.
    #[serde(default)]
    pub working: bool,
    /// Why the policy does not stop it, where that is known.
    #[serde(default)]
    pub unstopped: Option<String>,
    /// A policy with a private heap stops it all the same.
    #[serde(default)]
    pub stopped_by_private_heap: bool,
}

/// What goes wrong in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[expect(missing_docs, reason = "the words are those of the field")]
pub enum AttackKind {
    #[serde(rename = "slab overflow by store")]
    SlabStore,
    #[serde(rename = "slab overflow by copy")]
    SlabCopy,
    #[serde(rename = "page overflow")]
    PageOverflow,
    #[serde(rename = "out-of-bounds index")]
    Index,
    #[serde(rename = "stack overflow")]
    Stack,
    #[serde(rename = "use after free")]
    UseAfterFree,
    #[serde(rename = "double free")]
    DoubleFree,
    #[serde(rename = "type confusion")]
    TypeConfusion,
    #[serde(rename = "bad function pointer")]
    FunctionPointer,
}

/// A module that is built from the overlay's source.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OverlayModule {
    /// Name as in lsmod.
    pub name: Placed<String>,
    /// Directory of the kernel tree that it is built in. Of the stock source, the files directly in
    /// it and the patched ones are there, nothing else.
    pub directory: Placed<String>,
    /// Kbuild lines, `obj-m := …`.
    pub kbuild: String,
}
