//! Scripts of a developer in a machine.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use otf_artifact::diagnostic::Diagnostic;
use otf_vmtest::{
    guest::Guest,
    log::Source,
    modules::ModuleTree,
    vm::{Accel, Outcome, Verdict, Vm},
};

use crate::flows::{
    ending,
    target::{Setting, Target},
};

/// The script and the machine.
#[derive(Args)]
struct Machine {
    /// The script; it finds shell functions in `/otf/lib.sh`, modules in `/otf/modules`.
    script: PathBuf,
    /// Its arguments.
    arguments: Vec<String>,
    /// Files or folders of the host to have in `/otf`.
    #[arg(long = "with", value_name = "PATH")]
    with: Vec<PathBuf>,
    /// CPUs.
    #[arg(long, default_value_t = 1)]
    smp: u32,
    /// MiB of memory.
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    /// Seconds after which the machine is stopped.
    #[arg(long, default_value_t = 600)]
    time_limit: u64,
    /// Guest time counts instructions, 2^SHIFT ns each.
    #[arg(long, value_name = "SHIFT")]
    icount: Option<u8>,
    /// Words for the kernel's command line.
    #[arg(long, default_value = "")]
    append: String,
    /// Print the kernel's messages too, with times.
    #[arg(long)]
    all: bool,
}

/// `otf-vmtest shell`
#[derive(Args)]
pub struct Shell {
    #[command(flatten)]
    machine: Machine,
    /// Boot image.
    #[arg(long)]
    kernel: PathBuf,
    /// `lib/modules/RELEASE` of that kernel.
    #[arg(long)]
    modules_from: Option<PathBuf>,
    /// Modules that the script loads with `load_modules`, what they depend on included.
    #[arg(long = "module", value_name = "NAME")]
    modules: Vec<String>,
    /// Further `.ko` files, which go before modules of the same name.
    #[arg(long = "ko", value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// `otf-vmtest run`
#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    setting: Setting,
    /// Folder under OUT/KERNEL: COMPARTMENT or COMPARTMENT@OVERLAY.
    #[arg(long)]
    target: String,
    /// Overlay whose scripts are in `/otf/overlay`; that of the target otherwise.
    #[arg(long)]
    overlay: Option<String>,
    #[command(flatten)]
    machine: Machine,
}

/// Runs a script with any kernel; whether all tests passed.
pub fn shell(options: &Shell) -> Result<bool, Diagnostic> {
    let mut tree = match &options.modules_from {
        Some(folder) => ModuleTree::open(folder)?,
        None => ModuleTree::default(),
    };
    let mut later = Vec::new();
    for file in &options.files {
        later.push(tree.replace(file)?);
    }
    let mut guest = Guest::new()?;
    guest.network_tools()?;
    let names: Vec<&str> = options.modules.iter().map(String::as_str).collect();
    let later: Vec<&str> = later.iter().map(String::as_str).collect();
    guest.modules(&tree.modules(&names)?, &tree.modules(&later)?);
    boot(&options.machine, guest, &options.kernel)
}

/// Runs a script in the machine of a compartment; whether all tests passed.
pub fn run(options: &Run) -> Result<bool, Diagnostic> {
    let target = Target::open(&options.setting, &options.target)?;
    let overlay = options.overlay.as_ref().or(target.lock.overlay.as_ref());
    let guest = target.guest(overlay.map(String::as_str))?;
    boot(&options.machine, guest, &target.kernel())
}

fn boot(machine: &Machine, mut guest: Guest, kernel: &Path) -> Result<bool, Diagnostic> {
    for path in &machine.with {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            guest.copy_folder(path, &format!("/otf/{name}"))?;
        } else {
            guest.copy(path, &format!("/otf/{name}"))?;
        }
    }
    guest.copy(&machine.script, "/otf/script")?;
    let mut command = vec!["/bin/sh", "/otf/script"];
    command.extend(machine.arguments.iter().map(String::as_str));
    guest.step("script", &command)?;

    let mut vm = Vm::new(kernel, guest.build());
    vm.smp = machine.smp;
    vm.memory = machine.memory;
    vm.time_limit = Duration::from_secs(machine.time_limit);
    vm.append.clone_from(&machine.append);
    if let Some(shift) = machine.icount {
        vm.accel = Accel::Icount { shift };
    }
    let outcome = vm.run()?;
    print(&outcome, machine.all);
    Ok(outcome.verdict == Verdict::Passed)
}

fn print(outcome: &Outcome, all: bool) {
    if all {
        print!("{}", outcome.log.render());
    } else {
        for line in outcome.log.of(Source::Test) {
            println!("{line}");
        }
    }
    for (trouble, line) in &outcome.troubles {
        println!("{trouble:?}: {line}");
    }
    let seconds = outcome.elapsed.as_secs_f32();
    println!("{} ({seconds:.1} s)", ending(&outcome.verdict));
}
