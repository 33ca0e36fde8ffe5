//! Arguments of `otf`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// On-the-fly compartmentalization of the Linux kernel: the offline half.
#[derive(Debug, Parser)]
#[command(name = "otf", version, propagate_version = true)]
pub struct Cli {
    /// How errors and answers are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// No progress.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where `make bench-runtime` writes what a hit costs.
pub const PRICES: &str = "out/bench/prices.json";

/// Output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What a load does about a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// Reports it.
    Audit,
    /// Ends the task.
    Kill,
    /// Prevents the write.
    Deny,
}

impl From<Action> for otf_artifact::abi::Action {
    fn from(action: Action) -> Self {
        match action {
            Action::Audit => Self::Audit,
            Action::Kill => Self::Kill,
            Action::Deny => Self::Deny,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs every stage for one compartment and ends with the path of a signed bundle.
    Analyze(Analyze),
    /// Facts of one bitcode file: pure, so that any build farm can run it.
    Facts(Facts),
    /// Makes sites.json again from kernel.lock.yaml and analysis.json.
    Resolve(Directory),
    /// Makes the bundle again from sites.json and policy.yaml (after editing it).
    Compile(Compile),
    /// Whether everything that recordings have seen is legal.
    Judge(Judge),
    /// What is covered, and how precisely.
    Inspect(Inspect),
    /// What a compartment costs per operation, from a profile (`otf-load profile`) and measured prices.
    Cost(Cost),
    /// Explains a diagnostic code (OTF0031) or a site of a compartment.
    Explain(Explain),
    /// What changed between two analyses: another kernel version, changed source. Ends with 1 when
    /// something did.
    Diff(Diff),
    /// Writes the report of `make eval-analysis` from what was analyzed and recorded.
    EvalReport(EvalReport),
    /// Writes the report of `make test-benign` from what came out of the machines.
    BenignReport(BenignReport),
    /// Measures the analysis of a kernel: time and memory of every stage.
    Bench(Bench),
    /// One measured phase.
    #[command(hide = true)]
    BenchPhase(BenchPhase),
    /// Makes a key pair for signing.
    Key(Key),
    /// Writes the JSON schemas of every YAML file that people edit.
    Schema(Directory),
}

/// `otf analyze`
#[derive(Debug, Args)]
pub struct Analyze {
    /// Kernel profile: a folder under kernels/.
    #[arg(long, default_value = "debian-6.12")]
    pub kernel: String,
    /// Compartment: a file under kernels/KERNEL/compartments/. That of the overlay's attack if
    /// it has one, else `sch_qfq`.
    #[arg(long)]
    pub compartment: Option<String>,
    /// Overlay to apply: a folder under kernels/KERNEL/overlays/.
    #[arg(long)]
    pub overlay: Option<String>,
    /// Folder that holds kernels/ and crates/runtime/guard/.
    #[arg(long, default_value = ".")]
    pub root: PathBuf,
    /// Where artifacts go; the stages write below OUT/KERNEL/COMPARTMENT[@OVERLAY].
    #[arg(long, default_value = "out")]
    pub out: PathBuf,
    /// The policy wants a private heap: what the compartment allocates comes from caches of its own.
    #[arg(long)]
    pub private_heap: bool,
    /// Secret key; without it a development key in the cache is used, and made if need be.
    #[arg(long, env = "OTF_SIGNING_KEY")]
    pub key: Option<PathBuf>,
}

/// `otf facts`
#[derive(Debug, Args)]
pub struct Facts {
    /// Bitcode.
    pub bitcode: PathBuf,
    /// Source file relative to the kernel tree, as facts name it; without it the bitcode's name.
    #[arg(long)]
    pub source: Option<String>,
    /// Where the facts go.
    #[arg(short)]
    pub output: PathBuf,
}

/// A folder.
#[derive(Debug, Args)]
pub struct Directory {
    /// The folder.
    pub dir: PathBuf,
}

/// `otf compile`
#[derive(Debug, Args)]
pub struct Compile {
    /// Folder of the compartment: OUT/KERNEL/COMPARTMENT.
    pub dir: PathBuf,
    /// Another policy than DIR/policy.yaml.
    #[arg(long)]
    pub policy: Option<PathBuf>,
    /// Make a bundle that records what every site writes, for `otf judge`, and checks nothing.
    #[arg(long, conflicts_with = "policy")]
    pub record: bool,
    /// Make a bundle with a probe for every store, eliminating nothing: what `make bench-runtime` compares with.
    #[arg(long, conflicts_with_all = ["policy", "record"])]
    pub naive: bool,
    /// What a hit costs, as `make bench-runtime` measured it, for the policy's budgets.
    #[arg(long, default_value = PRICES)]
    pub prices: PathBuf,
    /// Where the bundle goes; DIR/COMPARTMENT.otf, DIR/COMPARTMENT.record.otf or DIR/COMPARTMENT.naive.otf otherwise.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Secret key; without it a development key in the cache is used, and made if need be.
    #[arg(long, env = "OTF_SIGNING_KEY")]
    pub key: Option<PathBuf>,
}

/// `otf cost`
#[derive(Debug, Args)]
pub struct Cost {
    /// Folder of the compartment: OUT/KERNEL/COMPARTMENT.
    pub dir: PathBuf,
    /// How often places are reached, as `otf-load profile` wrote it.
    #[arg(long)]
    pub profile: PathBuf,
    /// How many operations the profile covers; what it says itself otherwise, or 1.
    #[arg(long)]
    pub operations: Option<u64>,
    /// Of a load with this action; the bundle's own otherwise.
    #[arg(long, value_enum)]
    pub action: Option<Action>,
    /// Another bundle than DIR/COMPARTMENT.otf.
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// What a hit costs, as `make bench-runtime` measured it.
    #[arg(long, default_value = PRICES)]
    pub prices: PathBuf,
    /// How many places are listed.
    #[arg(long, default_value_t = 20)]
    pub top: usize,
}

/// `otf judge`
#[derive(Debug, Args)]
pub struct Judge {
    /// Folder of the compartment: OUT/KERNEL/COMPARTMENT.
    pub dir: PathBuf,
    /// Recordings that `otf-load recording` wrote, of the sites in that folder.
    #[arg(required = true)]
    pub recordings: Vec<PathBuf>,
}

/// `otf benign-report`
#[derive(Debug, Args)]
pub struct BenignReport {
    /// KERNEL/COMPARTMENT.
    #[arg(required = true)]
    pub cases: Vec<String>,
    /// What came out of the machines: RUNS/KERNEL/COMPARTMENT.{without,deny}/.
    #[arg(long, default_value = "out/eval")]
    pub runs: PathBuf,
    /// Report for programs.
    #[arg(long, default_value = "out/eval/benign.json")]
    pub json: PathBuf,
    /// Report for people.
    #[arg(long, default_value = "docs/evaluation/benign.md")]
    pub markdown: PathBuf,
}

/// `otf eval-report`
#[derive(Debug, Args)]
pub struct EvalReport {
    /// KERNEL/COMPARTMENT=RUN, where RUN is the compartment whose run was recorded.
    #[arg(required = true)]
    pub cases: Vec<String>,
    /// Products of the analyses.
    #[arg(long, default_value = "out")]
    pub out: PathBuf,
    /// What came out of the machines: RUNS/KERNEL/RUN/.
    #[arg(long, default_value = "out/eval")]
    pub runs: PathBuf,
    /// Results of the workloads without a bundle: EXPECTED/KERNEL/RUN.tsv.
    #[arg(long, default_value = "eval/expected")]
    pub expected: PathBuf,
    /// First part of the Markdown.
    #[arg(long, default_value = "eval/introduction.md")]
    pub introduction: PathBuf,
    /// Where the entries go.
    #[arg(long, default_value = "out/eval/analysis.json")]
    pub json: PathBuf,
    /// Where the tables go.
    #[arg(long, default_value = "docs/evaluation/analysis.md")]
    pub markdown: PathBuf,
}

/// `otf bench`
#[derive(Debug, Args)]
pub struct Bench {
    /// Folder of a compartment that was analyzed: OUT/KERNEL/COMPARTMENT.
    pub dir: PathBuf,
    /// Folder of a compartment for the cost of resolving.
    #[arg(long)]
    pub resolve: Option<PathBuf>,
    /// Where the figures go.
    #[arg(short, long, default_value = "out/bench/analysis.json")]
    pub output: PathBuf,
}

/// `otf bench-phase`
#[derive(Debug, Args)]
pub struct BenchPhase {
    /// Which.
    #[arg(value_enum)]
    pub phase: Phase,
    /// Folder of the compartment.
    pub dir: PathBuf,
    /// How many files of the lock, evenly spread.
    #[arg(long)]
    pub files: usize,
    /// Where facts are kept.
    #[arg(long)]
    pub facts: PathBuf,
    /// Folder that holds kernels/.
    #[arg(long, default_value = ".")]
    pub root: PathBuf,
}

/// Phases that are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// Reading bitcode and nothing more.
    Walk,
    /// Facts of files, none of them in the cache.
    Facts,
    /// Facts of files, all of them in the cache.
    Load,
    /// The whole-program step, facts in memory.
    Program,
    /// Facts in the cache but those of one confined file, and the whole-program step.
    Incremental,
    /// Machine code and DWARF.
    Resolve,
    /// Targets of the calls of all files, facts in the cache; prints how many there are.
    Targets,
}

impl Phase {
    /// As the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Walk => "walk",
            Self::Facts => "facts",
            Self::Load => "load",
            Self::Program => "program",
            Self::Incremental => "incremental",
            Self::Resolve => "resolve",
            Self::Targets => "targets",
        }
    }
}

/// `otf inspect`
#[derive(Debug, Args)]
pub struct Inspect {
    /// Folder of the compartment: OUT/KERNEL/COMPARTMENT.
    pub dir: PathBuf,
}

/// `otf explain`
#[derive(Debug, Args)]
pub struct Explain {
    /// A code (`OTF0031`), or a site as events show it (`qfq_schedule_agg+0x55`).
    pub what: String,
    /// Folder of the compartment, for a site.
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// `otf diff`
#[derive(Debug, Args)]
pub struct Diff {
    /// Folder of the compartment before: OUT/KERNEL/COMPARTMENT.
    pub before: PathBuf,
    /// The same after.
    pub after: PathBuf,
}

/// `otf key`
#[derive(Debug, Args)]
pub struct Key {
    /// File for the secret key; the public key goes beside it with the ending .pub.
    pub secret: PathBuf,
}
