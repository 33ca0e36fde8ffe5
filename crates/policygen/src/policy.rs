//! The model of `policy.yaml`: names instead of row numbers, so that a person can read and edit it.

use otf_artifact::{
    abi::Action,
    analysis::{Dimension, StackRule},
    covered::Under,
    diagnostic::Diagnostic,
    yaml::{self, Placed},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::extent::Extent;

/// A whole policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// File it was read from, for messages.
    #[serde(skip)]
    pub file: String,
    /// Format version; 1.
    pub version: Placed<u32>,
    /// Kernel profile that the sites belong to.
    pub kernel: Placed<String>,
    /// Compartment, with `@overlay` when one was applied.
    pub compartment: Placed<String>,
    /// What `otf-load load` does about a violation when it is not told otherwise.
    pub default_action: Action,
    /// Whether the returns of gates are checked: one more probe for each of them.
    #[serde(default)]
    pub returns: bool,
    /// Whether what the compartment obtains from general caches (kmalloc) comes from caches of its
    /// own: loads only with the guard.
    #[serde(default)]
    pub private_heap: bool,
    /// What a load under deny or kill may add to operations. To keep it the compiler leaves checks to
    /// audit, and says which.
    #[serde(default)]
    pub max_overhead: Vec<BudgetRule>,
    /// Entries of the compartment: where a denied call returns to, and with what.
    pub gates: Vec<GateRule>,
    /// Calls that obtain heap objects, named for use in `allocated_at`.
    pub allocation_sites: Vec<AllocationRule>,
    /// What may be written, named for use in `sites`.
    pub legal_sets: Vec<LegalRule>,
    /// Where indirect calls may lead, named for use in `calls` of `sites`.
    #[serde(default)]
    pub target_sets: Vec<TargetRule>,
    /// Every checked instruction, by source function.
    pub sites: Vec<FunctionRule>,
    /// Comments beside `private_heap`: what it would be made of; not read back.
    #[serde(skip)]
    pub heap_note: Vec<String>,
    /// Comments at the end: which instructions are not checked, and why; not read back.
    #[serde(skip)]
    pub unchecked: Vec<String>,
}

/// What a load under deny or kill may add to one operation: exactly one of `percent` and `instructions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetRule {
    /// The operation, as its profile names it.
    pub operation: Placed<String>,
    /// File that `otf-load profile --operation` wrote; a path from the folder of this file.
    pub profile: Placed<String>,
    /// Of what the operation takes without a policy.
    #[serde(default)]
    pub percent: Option<Placed<f64>>,
    /// Instructions in one operation.
    #[serde(default)]
    pub instructions: Option<Placed<u64>>,
}

/// A function of the compartment that others can call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GateRule {
    /// Function name.
    pub function: Placed<String>,
    /// File that defines it, relative to the kernel source.
    pub file: Placed<String>,
    /// How others reach it.
    #[serde(default)]
    pub reached_by: Vec<String>,
    /// On whose behalf it is entered; without it a violation quarantines nothing.
    #[serde(default)]
    pub instance: Option<Instance>,
    /// What a denied or refused call returns.
    pub refusal: RefusalRule,
}

/// The object that is quarantined after a denied call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Argument of the gate that points to it, from 0; at most 5.
    pub argument: Placed<u8>,
    /// Its type, for the reader of events.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
}

/// A return value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefusalRule {
    /// The value.
    pub value: i64,
    /// How the source would spell it.
    pub name: String,
}

/// A call that obtains a heap object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllocationRule {
    /// Name in this file, `A0`.
    pub id: Placed<String>,
    /// `FILE:LINE:COLUMN` of the call.
    pub at: Placed<String>,
    /// Source function that contains the call.
    pub function: String,
    /// Allocator that is called.
    pub calls: String,
    /// What a comment says beside it; not read back.
    #[serde(skip)]
    pub note: String,
}

/// What a site may write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LegalRule {
    /// Name in this file, `L0`.
    pub id: Placed<String>,
    /// Types of what is written, for the reader of events.
    #[serde(default)]
    pub types: Vec<Placed<String>>,
    /// Where on stacks: `none`, `own` (frame of the function), `compartment` (frames since the
    /// gate) or `any`.
    #[serde(default)]
    pub stack: StackRule,
    /// Objects on stacks that are legal beside that rule.
    #[serde(default)]
    pub passed: Vec<PassedRule>,
    /// Global variables, each `IMAGE:SYMBOL`.
    #[serde(default)]
    pub globals: Vec<Placed<String>>,
    /// Places in heap objects.
    #[serde(default)]
    pub heap: Vec<HeapRule>,
    /// Any heap object within its bounds; the text says why.
    #[serde(default)]
    pub any_heap: Option<String>,
    /// Any global that is not read-only; the text says why.
    #[serde(default)]
    pub any_global: Option<String>,
    /// Per-CPU memory.
    #[serde(default)]
    pub per_cpu: bool,
    /// User memory, through the user-access functions.
    #[serde(default)]
    pub user: bool,
}

/// An object on a stack that a function was handed by pointer and that nobody may write beyond.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PassedRule {
    /// `FILE:FUNCTION(PARAMETER)`, parameters from 0.
    pub to: Placed<String>,
    /// Bytes from where the parameter points.
    pub size: Placed<u64>,
    /// The stack rule where the function's entry was not noted.
    pub otherwise: StackRule,
}

/// A place in a heap object: `offset`, then per dimension a multiple of its stride, then up to `size` bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeapRule {
    /// Type that is written.
    #[serde(rename = "type")]
    pub target: Placed<String>,
    /// Type of the whole object, when it is another one.
    #[serde(rename = "in", default)]
    pub container: Option<Placed<String>>,
    /// Bytes from the object's start to the first element.
    #[serde(default)]
    pub offset: Placed<u64>,
    /// At most two, outermost first; `count: 0` for as many as the object holds.
    #[serde(default)]
    pub dimensions: Vec<Dimension>,
    /// Bytes that may be written from the element's start, or `end`: up to the object's end.
    pub size: Placed<Extent>,
    /// Least number of bytes that the object is requested with.
    #[serde(default)]
    pub object_min: u64,
    /// Requested bytes, when they are always the same.
    #[serde(default)]
    pub object_size: Option<Placed<u64>>,
    /// Ids of the allocation sites that can produce the object.
    pub allocated_at: Vec<Placed<String>>,
}

/// The sites that come from one source function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionRule {
    /// Source function; for inlined code the one that was inlined.
    pub function: String,
    /// Its writes, and its calls that free objects.
    #[serde(default)]
    pub writes: Vec<SiteRule>,
    /// Its indirect calls and jumps.
    #[serde(default)]
    pub calls: Vec<CallRule>,
}

/// Where indirect calls may lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetRule {
    /// Name in this file, `T0`.
    pub id: Placed<String>,
    /// Functions, each `IMAGE:SYMBOL`.
    #[serde(default)]
    pub targets: Vec<Placed<String>>,
    /// Besides them any function that can be called indirectly; the text says why. A target that
    /// is in no image of the compartment has the same effect.
    #[serde(default)]
    pub any: Option<String>,
    /// What a comment says beside it; not read back.
    #[serde(skip)]
    pub note: String,
}

/// A checked indirect call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallRule {
    /// `IMAGE SYMBOL+0xOFFSET`, or `IMAGE SECTION+0xOFFSET` where the symbol is not unique.
    pub at: Placed<String>,
    /// `FILE:LINE` of the call.
    pub source: Placed<String>,
    /// Id of where it may lead.
    pub targets: Placed<String>,
    /// Most severe action here, whatever the load asks for; without it there is no limit.
    #[serde(default)]
    pub action: Option<Action>,
    /// The instruction, in a comment; not read back.
    #[serde(skip)]
    pub note: String,
}

/// A checked instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteRule {
    /// `IMAGE SYMBOL+0xOFFSET`, or `IMAGE SECTION+0xOFFSET` where the symbol is not unique.
    pub at: Placed<String>,
    /// `FILE:LINE` of the write.
    pub source: Placed<String>,
    /// Id of what it may write.
    pub legal: Placed<String>,
    /// Most severe action here, whatever the load asks for; without it there is no limit.
    #[serde(default)]
    pub action: Option<Action>,
    /// Why it needs no probe of its own; remove it to have one. It is validated against the machine
    /// code and the legal sets.
    #[serde(default)]
    pub covered: Option<CoverRule>,
    /// The instruction, in a comment; not read back.
    #[serde(skip)]
    pub note: String,
}

/// What covers a site: exactly one of `check_of`, `fresh_from` and `any_address`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CoverRule {
    /// The check of this site, named as in `at`, which stands before on every path.
    #[serde(default)]
    pub check_of: Option<Placed<String>>,
    /// The object comes from this call, `IMAGE SYMBOL+0xOFFSET`, on every path.
    #[serde(default)]
    pub fresh_from: Option<Placed<String>>,
    /// The check would allow every address of per-CPU memory.
    #[serde(default)]
    pub any_address: bool,
    /// Bytes from the address that the other site writes, or from the object's start.
    #[serde(default)]
    pub distance: i64,
    /// When it goes without its probe.
    #[serde(default)]
    pub under: Under,
    /// The other site checks these bytes beside its own, as one range.
    #[serde(default)]
    pub joined: bool,
}

/// Reads a policy; `file` is only for messages. Whether it fits the sites is found by
/// [`crate::compile`] and [`crate::bind::bind`].
///
/// # Errors
/// [`otf_artifact::diagnostic::Code::BadYaml`] with line, column and a suggestion.
pub fn parse(text: &str, file: &str) -> Result<Policy, Diagnostic> {
    let mut policy: Policy = yaml::parse(text, file)?;
    file.clone_into(&mut policy.file);
    Ok(policy)
}

/// JSON schema of the file, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Policy).to_value()
}
