//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use otf_artifact::abi;

/// Verify, load, watch and unload OTF bundles.
///
/// Exit codes: 0 fine, 1 findings, 2 refused or impossible, 101 a bug, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "otf-load", version)]
pub struct Cli {
    /// Folder of the pins, in a BPF file system.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/sys/fs/bpf/otf"
    )]
    pub bpffs: PathBuf,
    /// How results and errors are written.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub format: Format,
    /// Where sysfs is (a snapshot of another machine with `verify --host`).
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "DIR",
        default_value = "/sys"
    )]
    pub sysfs: PathBuf,
    /// Where procfs is.
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "DIR",
        default_value = "/proc"
    )]
    pub procfs: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON value.
    Json,
    /// One JSON value per line.
    Ndjson,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a bundle without running it: who signed, for which kernel, what is inside.
    Verify {
        #[command(flatten)]
        bundle: BundleArgs,
        /// Also check whether it fits this host, and which actions this host can honour.
        #[arg(long)]
        host: bool,
    },
    /// Show what this host supports, per action, with reasons.
    Probe {
        /// Fail when this action cannot be honoured.
        #[arg(long, value_enum)]
        action: Option<Action>,
    },
    /// Verify a bundle and enforce it, all or nothing.
    Load {
        #[command(flatten)]
        bundle: BundleArgs,
        /// What to do about violations; the bundle says it otherwise.
        #[arg(long, value_enum)]
        action: Option<Action>,
        /// Let the guard own the probes, as with *deny*: faster, and no hit is left out while
        /// another BPF program runs.
        #[arg(long)]
        guard: bool,
        /// Let the guard probe by breakpoints alone, not by jumps: dearer, but it changes no more
        /// than a byte of code at each place.
        #[arg(long)]
        breakpoints: bool,
        /// Take the place of a loaded bundle of the same compartment, with no moment without
        /// either. Quarantines and records of objects are taken over.
        #[arg(long)]
        replace: bool,
        /// Check everything, down to the address of each probe, but change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what is loaded, whether it still works, and what could fail open.
    Status {
        /// Compartment; all of them otherwise.
        compartment: Option<String>,
        /// Exit with 1 on alarms, violations or quarantined instances.
        #[arg(long)]
        check: bool,
    },
    /// Show violations and unknown objects.
    Events {
        /// Compartment; may be left out when only one is loaded.
        compartment: Option<String>,
        /// Go on until interrupted or unloaded.
        #[arg(long, short)]
        follow: bool,
    },
    /// Write down what a bundle that records has seen so far, for `otf judge`.
    Recording {
        /// Compartment; may be left out when only one is loaded.
        compartment: Option<String>,
        /// File for the recording; the standard output otherwise.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Write down how often each checked place was reached, for `otf cost` and for budgets of a policy.
    Profile {
        /// Compartment; may be left out when only one is loaded.
        compartment: Option<String>,
        /// An earlier profile of the same load, whose counts are taken off.
        #[arg(long, value_name = "FILE")]
        since: Option<PathBuf>,
        /// Operation that was done meanwhile, as `max_overhead` of a policy names it.
        #[arg(long, value_name = "NAME", requires = "count")]
        operation: Option<String>,
        /// How often it was done.
        #[arg(long, requires = "operation")]
        count: Option<u64>,
        /// Instructions that one takes without a policy, to give budgets in percent.
        #[arg(long, requires = "operation")]
        instructions: Option<u64>,
        /// File for the profile; the standard output otherwise.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Switch the phase.
    Phase {
        /// In `working`, an object without provenance is a violation.
        #[arg(value_enum)]
        phase: Phase,
        /// Compartment; may be left out when only one is loaded.
        compartment: Option<String>,
    },
    /// End a quarantine.
    Release {
        /// Address of the instance, as `status` shows it; left out with --all.
        #[arg(value_name = "INSTANCE", required_unless_present = "all")]
        first: Option<String>,
        /// Compartment; may be left out when only one is loaded.
        compartment: Option<String>,
        /// Every instance.
        #[arg(long)]
        all: bool,
    },
    /// Detach and remove, and put the host back as it was.
    Unload {
        /// Compartment; may be left out when only one is loaded.
        compartment: Option<String>,
        /// Everything that is loaded.
        #[arg(long, conflicts_with = "compartment")]
        all: bool,
        /// Even while instances are quarantined: they are entered again, half done as they are.
        #[arg(long)]
        force: bool,
    },
}

/// Which bundle, and whom to trust.
#[derive(Args, Debug)]
pub struct BundleArgs {
    /// The bundle, NAME.otf.
    pub bundle: PathBuf,
    /// Public key of the team that signs bundles (minisign).
    #[arg(long, value_name = "PUB")]
    pub key: PathBuf,
    /// Signature; BUNDLE.minisig otherwise.
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
}

/// What to do about a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// Report it.
    Audit,
    /// Report it and kill the task; the write happens.
    Kill,
    /// Prevent the write, end the call at its gate, quarantine the instance.
    Deny,
}

impl From<Action> for abi::Action {
    fn from(action: Action) -> Self {
        match action {
            Action::Audit => Self::Audit,
            Action::Kill => Self::Kill,
            Action::Deny => Self::Deny,
        }
    }
}

/// Phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// Objects from before the load have no provenance: they are only reported.
    Transition,
    /// An object without provenance is a violation.
    Working,
}

impl From<Phase> for abi::Phase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Transition => Self::Transition,
            Phase::Working => Self::Working,
        }
    }
}
