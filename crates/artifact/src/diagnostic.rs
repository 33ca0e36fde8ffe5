//! Diagnostics as data: a stable code, a place in the user's file or the kernel source, a way out.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The command cannot do what was asked.
    Error,
    /// The result stands, but is weaker than it could be.
    Warning,
}

macro_rules! codes {
    ($($name:ident = $number:literal, $title:literal, $explain:literal;)*) => {
        /// Stable codes. A number is never given to another meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $(#[doc = $title] $name = $number,)*
        }
        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Code] = &[$(Code::$name),*];
            /// What it means, in one line.
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }
            /// Why it happens and what to do, for `otf explain`.
            pub fn explain(self) -> &'static str {
                match self { $(Code::$name => $explain,)* }
            }
        }
    };
}

codes! {
    Usage = 1, "the command line cannot be understood", "Run the command with --help.";
    Environment = 2, "the machine lacks something", "Install what the message names; as root, `make setup` installs every package that is needed.";
    BadArtifact = 3, "a file between two stages cannot be read", "The file was truncated, edited by hand into something else, or written by another release. Make it again with the stage that writes it.";
    BadYaml = 4, "a YAML file of the user cannot be understood", "The message names line and column, and the fields or values that exist there. `docs/schema/` holds the JSON schemas that an editor can check against.";
    UnknownKernel = 10, "no such kernel profile", "A kernel profile is a folder kernels/NAME with a kernel.yaml.";
    UnknownCompartment = 11, "no such compartment", "A compartment is a file kernels/NAME/compartments/COMPARTMENT.yaml.";
    UnknownOverlay = 12, "no such overlay", "An overlay is a folder kernels/NAME/overlays/OVERLAY with an overlay.yaml.";
    PackageGone = 13, "a package of the kernel profile is not in the archive", "The archive replaces old kernels by new ones. Update the package lists, or point the profile at a package that exists. Products of a package that was fetched before stay usable in the cache.";
    FetchFailed = 14, "a download failed", "Check the network and the package lists, then run the command again: what is complete is kept.";
    CacheCorrupt = 15, "a cached file does not have the hash that was recorded for it", "Remove the file; it is fetched or built again.";
    PatchFailed = 16, "an overlay does not apply to this source", "The kernel source has changed under the overlay: bring its patch up to date.";
    BuildFailed = 17, "a compiler or kbuild step failed", "The message ends with the compiler's own words.";
    MissingModule = 18, "the kernel has no such module", "Check the compartment's `modules`: names are those of lsmod, without .ko.";
    BadConfiguration = 19, "the configuration of a kernel that is built cannot be had", "A line of the fragment is no option, occurs twice, or asks for something that Kconfig dropped: usually an option that it depends on is missing. The message names the line.";
    BadBitcode = 20, "a bitcode file cannot be read", "The analyzer reads bitcode of the LLVM version that it was built with; make it again.";
    LayoutMismatch = 21, "bitcode and machine image disagree about a type", "The source or the configuration is not that of the image. Legal sets would be wrong, so nothing is produced.";
    PartialScope = 22, "the scope may not hold everything about a type", "Legal sets that depend on the type are wider than they could be, or rest on the allocations that the scope shows. Add the files that allocate it to the profile's scope, and name the type under `complete` when the scope holds all of them.";
    BadImage = 30, "an ELF or DWARF file cannot be read", "The image is truncated or has no debug information.";
    BuildIdMismatch = 31, "two files belong to different builds", "Image, debug information and running kernel must carry the same build-id. Analyze the kernel that is running.";
    InvariantBroken = 32, "a stage broke its own promise", "This is a bug in OTF. Nothing was written; please report it with the command and the message.";
    Admitted = 33, "the machine code writes something that the source analysis did not list", "The instruction's operand is fixed, so the write is real: it was added to what is legal there. Usually the two compilers attribute the write to different lines.";
    Unbound = 34, "something of the source has no place in the images", "A gate that was inlined everywhere, or a variable of an image that was not given. It is not noted or not recognised at run time.";
    Undecodable = 35, "bytes in a text section are no instruction", "They lie between instructions and are not checked. Data in a text section looks so.";
    OutsideLegalSet = 36, "a recording saw something outside its legal set", "A write or a call of the running kernel is not in the set that the analysis found. If the kernel works as it should, the analysis is too narrow there: `otf explain SITE --dir DIR` shows the set and its chain.";
    NoExactMap = 37, "code of a kernel that is built here has no exact map", "Compiled again from the same bitcode it is other code than the image has, or it could not be compiled again. Its sites are bound by their lines, as those of a stock kernel are. A compiler of another version than the one that built the kernel is the usual reason.";
    PolicyInvalid = 40, "the policy contradicts itself or the sites", "The message names the line of policy.yaml and what exists instead.";
    PolicyTooLarge = 41, "the policy exceeds a limit of the enforcement", "The message names the limit. Split the compartment.";
    CompileFailed = 42, "LLVM could not emit the BPF object", "This is a bug in OTF unless the check library was edited.";
    KeyProblem = 43, "the signing or verifying key cannot be used", "Give a minisign key pair; `otf key new` makes one.";
    CoverWrong = 44, "a site is said to need no check, but it does", "The claim (`covered` at the site in policy.yaml) does not hold: the covering check does not stand before the site on every path, or allows more than the site may write. Remove `covered` to have the site checked; a claim that nobody edited is a bug in OTF.";
    BudgetProfile = 45, "a budget of the policy cannot be reckoned", "`max_overhead` needs a profile of its operation, from a bundle of this compartment on this kernel, and prices. Load a bundle with `--action audit --guard`, set `kernel.bpf_stats_enabled`, do the operation, and write it with `otf-load profile --operation NAME --count N --instructions M`; `make bench-runtime` measures prices.";
    BudgetTooSmall = 46, "a budget of the policy cannot be kept", "More is asked for than may be left out: gates, notes of allocations and frees, and checks that others rely on always stay. No bundle was made. Raise the budget to what the message names, or take code that the operation does not need out of the compartment.";
    LeftToAudit = 47, "a budget of the policy leaves checks to audit", "Under deny and kill nothing looks at these writes, frees or calls; under audit they are checked. `otf inspect DIR` and `otf-load status` list them, `otf explain SITE --dir DIR` says why. A larger budget leaves fewer.";
    BudgetPartial = 48, "a budget does not know all that an operation costs", "The profile lacks something: runs of programs that take notes (record it with `--guard` and `sysctl kernel.bpf_stats_enabled=1`); places that have a check now and had none then, as those that a budget left out of a load under deny (record under audit); or counts of places that are covered under audit alone, which are estimated (a load under deny of a policy without budgets has them). What it does not know comes on top of the budget.";
    BadBundle = 50, "the bundle is not complete and unchanged", "A byte was changed or is missing. Fetch the bundle again from where it was signed.";
    BadSignature = 51, "the signature is missing, or is not by the given key", "Check that the key is the one of the team that signed the bundle, and that BUNDLE.minisig lies beside the bundle.";
    WrongKernel = 52, "the bundle is for another kernel", "The build-id of the running kernel or module is not the one that the bundle was made for. Make a bundle for this kernel.";
    ActionRefused = 53, "this host cannot honour the action", "The message names what is missing. An action is never weakened in silence: choose another one, or provide what is missing.";
    AlreadyLoaded = 54, "the compartment is already loaded", "Unload it first: `otf-load unload COMPARTMENT`.";
    NotLoaded = 55, "the compartment is not loaded", "`otf-load status` lists what is loaded.";
    ModuleNotLoaded = 56, "a module of the compartment is not in the kernel", "Load the module first; addresses are bound when the policy is loaded.";
    KernelRefused = 57, "the kernel refused a program, a map or a probe", "The message carries the kernel's own words. Nothing stays loaded.";
    Busy = 58, "somebody else is working on this compartment", "Another otf-load holds the lock; try again when it has ended.";
    Quarantined = 59, "instances are in quarantine", "A refused call was left half done, and its instance must not be entered again. Delete the instance, release it knowingly, or unload with --force.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OTF{:04}", *self as u16)
    }
}

impl std::str::FromStr for Code {
    type Err = ();
    /// Reads `OTF0123`.
    fn from_str(s: &str) -> Result<Self, ()> {
        Code::ALL
            .iter()
            .copied()
            .find(|c| c.to_string() == s)
            .ok_or(())
    }
}

/// One finding. Rendered by the commands, never printed by a library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The stable code.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What happened.
    pub message: String,
    /// File of the user or of the kernel source, when there is one.
    pub file: Option<String>,
    /// Line, from 1; 0 where only the file is known.
    pub line: u32,
    /// Column, from 1; 0 where unknown.
    pub column: u32,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            file: None,
            line: 0,
            column: 0,
            help: None,
        }
    }

    /// A warning without a place.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, message)
        }
    }

    /// Adds the place; 0 for an unknown line or column.
    #[must_use]
    pub fn at(mut self, file: impl Into<String>, line: u32, column: u32) -> Self {
        self.file = Some(file.into());
        self.line = line;
        self.column = column;
        self
    }

    /// Adds the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    /// `error[OTF0040]: message` + ` --> file:line:column` + `help: …`, the last two on lines of their own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}[{}]: {}", self.code, self.message)?;
        if let Some(file) = &self.file {
            write!(f, "\n  --> {file}")?;
            if self.line > 0 {
                write!(f, ":{}", self.line)?;
                if self.column > 0 {
                    write!(f, ":{}", self.column)?;
                }
            }
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}
