//! `otf-vmtest record`: ordinary use of a compartment on a whole Debian in the machine, while a recording bundle notes
//! what its sites write. The guest hands its files out as a tar archive on a raw disk.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use clap::Args;
use otf_artifact::diagnostic::{Code, Diagnostic};
use otf_vmtest::{
    guest::Guest,
    modules::ModuleTree,
    vm::{Accel, Drive, Outcome, Vm, Writes},
    watch::Trouble,
};

use super::{
    ending,
    target::{Setting, Target, signature_of},
};

/// First steps of the machine: from the initramfs to the root on the disk.
pub(super) const ENTER: &str = include_str!("../../guest/enter.sh");
/// What the machine does there.
const RECORD: &str = include_str!("../../guest/record.sh");
/// What it takes to read a disk; a kernel that has one of them built in has no such module.
pub(super) const DISK_MODULES: [&str; 4] = ["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"];
/// Bytes of the disk that the guest's files come out on; only what is written takes space.
const OUTPUT_SIZE: u64 = 1 << 30;
/// Attaching thousands of probes and detaching them takes its time under emulation.
const AROUND: Duration = Duration::from_mins(25);

/// `otf-vmtest record`
#[derive(Args)]
pub struct Record {
    #[command(flatten)]
    setting: Setting,
    /// Folder under OUT: the compartment.
    #[arg(long)]
    compartment: String,
    /// Workload: NAME.sh in the folder of workloads.
    #[arg(long)]
    workload: String,
    /// Folder with the workloads.
    #[arg(long, default_value = "eval/workloads")]
    workloads: PathBuf,
    /// Root file system (ext4), as `eval/root.sh` makes it.
    #[arg(long)]
    root_image: PathBuf,
    /// The kernel's modules (ext4), as `eval/modules.sh` makes it.
    #[arg(long)]
    modules_image: PathBuf,
    /// Folder for the results: recording.json, results.tsv, machine.log, ….
    #[arg(long)]
    to: PathBuf,
    /// Seconds for the workload; what does not fit is not run, and listed so.
    #[arg(long, default_value_t = 600)]
    budget: u64,
    /// Tasks to run, by their names; all by default.
    #[arg(long, default_value = "")]
    only: String,
    /// CPUs.
    #[arg(long, default_value_t = 2)]
    smp: u32,
    /// MiB of memory.
    #[arg(long, default_value_t = 3072)]
    memory: u32,
    /// What the workload runs under.
    #[arg(long, value_enum, default_value_t = Mode::Record)]
    mode: Mode,
}

/// What a workload runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// The recording bundle.
    Record,
    /// No bundle: that gives the results to expect.
    Without,
    /// The compartment's bundle, with *deny*.
    Deny,
}

impl Mode {
    /// The word that `record.sh` knows, and the file that must come out.
    fn word_and_result(self) -> (&'static str, &'static str) {
        match self {
            Self::Record => ("record", "recording.json"),
            Self::Without => ("without", "results.tsv"),
            Self::Deny => ("deny", "status.json"),
        }
    }
}

/// Runs the workload; whether the machine came to its end, and what was asked for out of it.
pub fn run(options: &Record) -> Result<bool, Diagnostic> {
    let target = Target::open(&options.setting, &options.compartment)?;
    fs::create_dir_all(&options.to).map_err(|e| failed("create", &options.to, &e))?;
    let scratch = tempfile::tempdir()
        .map_err(|e| Diagnostic::error(Code::Environment, format!("no temporary folder: {e}")))?;
    let output = scratch.path().join("output");
    File::create(&output)
        .and_then(|file| file.set_len(OUTPUT_SIZE))
        .map_err(|e| failed("create", &output, &e))?;

    let mut vm = Vm::new(target.kernel(), guest(options, &target)?.build());
    vm.drives = vec![
        drive(&options.root_image, Writes::Dropped),
        drive(&options.modules_image, Writes::Refused),
        drive(&output, Writes::Kept),
    ];
    vm.append = format!("tsc_early_khz={}", tick_rate());
    vm.smp = options.smp;
    vm.accel = Accel::RoundRobin;
    vm.memory = options.memory;
    vm.time_limit = Duration::from_secs(options.budget) + AROUND;
    // A stall under emulation is slowness; what the kernel says is kept in the log.
    vm.stop_on = Trouble::Panic;
    let outcome = vm.run()?;
    let log = options.to.join("machine.log");
    fs::write(&log, outcome.log.render()).map_err(|e| failed("write", &log, &e))?;
    let came_out = unpack(&output, &options.to)?;
    print(&outcome, came_out);
    Ok(came_out && options.to.join(options.mode.word_and_result().1).is_file())
}

/// Ticks of the processor's counter per millisecond. The emulated counter is that of the host; a guest that measures its rate
/// on a busy host may be wrong by a factor, and then all its limits of time are.
fn tick_rate() -> u128 {
    // SAFETY: every x86-64 processor has the instruction.
    let ticks = || unsafe { std::arch::x86_64::_rdtsc() };
    let (clock, before) = (Instant::now(), ticks());
    std::thread::sleep(Duration::from_millis(200));
    let (after, elapsed) = (ticks(), clock.elapsed());
    u128::from(after - before) * 1_000_000 / elapsed.as_nanos()
}

/// A disk of the machine.
pub(super) fn drive(file: &Path, writes: Writes) -> Drive {
    Drive {
        file: file.to_owned(),
        writes,
    }
}

fn guest(options: &Record, target: &Target) -> Result<Guest, Diagnostic> {
    let tree = ModuleTree::open(&target.stock_modules()?)?;
    let wanted: Vec<&str> = DISK_MODULES.into_iter().filter(|m| tree.has(m)).collect();
    let mut guest = Guest::new()?;
    guest.modules(&tree.modules(&wanted)?, &[]);
    guest.copy(&options.setting.load, "/bin/otf-load")?;
    guest.copy(&options.setting.key, "/otf/key.pub")?;
    let bundle = match options.mode {
        Mode::Record => Some(recording_bundle(&options.setting.out, &options.compartment)),
        Mode::Without => None,
        Mode::Deny => Some(target.bundle.clone()),
    };
    if let Some(bundle) = bundle {
        guest.copy(&bundle, "/otf/bundle.otf")?;
        guest.copy(&signature_of(&bundle), "/otf/bundle.otf.minisig")?;
    }
    guest.copy_folder(&options.workloads, "/otf/workloads")?;
    guest.script("/otf/enter.sh", ENTER);
    guest.script("/otf/record.sh", RECORD);
    guest.file("/otf/settings", settings(options, target).as_bytes());
    guest.step("record", &["/bin/sh", "/otf/enter.sh", "record.sh"])?;
    Ok(guest)
}

/// `otf compile --record` leaves it beside the policy's bundle.
fn recording_bundle(out: &Path, compartment: &str) -> PathBuf {
    out.join(compartment)
        .join(format!("{compartment}.record.otf"))
}

/// Shell assignments that `record.sh` reads.
fn settings(options: &Record, target: &Target) -> String {
    let modules: Vec<&str> = target
        .lock
        .loadable
        .iter()
        .map(|m| m.name.as_str())
        .collect();
    format!(
        "compartment='{}'\nworkload='{}'\nbudget={}\nmode={}\nmodules='{}'\nonly='{}'\n",
        options.compartment,
        options.workload,
        options.budget,
        options.mode.word_and_result().0,
        modules.join(" "),
        options.only,
    )
}

/// Unpacks the guest's archive; `false` when the guest did not come to writing one.
fn unpack(disk: &Path, to: &Path) -> Result<bool, Diagnostic> {
    let status = Command::new("tar")
        .args(["--extract", "--no-same-owner", "--file"])
        .arg(disk)
        .arg("--directory")
        .arg(to)
        .status()
        .map_err(|e| Diagnostic::error(Code::Environment, format!("cannot run tar: {e}")))?;
    Ok(status.success() && to.join("results.tsv").is_file())
}

fn failed(what: &str, path: &Path, why: &dyn std::fmt::Display) -> Diagnostic {
    Diagnostic::error(
        Code::Environment,
        format!("cannot {what} {}: {why}", path.display()),
    )
}

fn print(outcome: &Outcome, came_out: bool) {
    for line in outcome.log.of(otf_vmtest::log::Source::Test) {
        println!("{line}");
    }
    for (trouble, line) in &outcome.troubles {
        println!("{trouble:?}: {line}");
    }
    let seconds = outcome.elapsed.as_secs_f32();
    let files = if came_out { "" } else { ", no results" };
    println!("{}{files} ({seconds:.1} s)", ending(&outcome.verdict));
}
