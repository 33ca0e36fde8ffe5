//! The commands: arguments in, results out, nothing printed that is not asked for.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use otf_artifact::{
    Artifact,
    abi::{Action, Counter},
    diagnostic::{Code, Diagnostic},
    profile::Operation,
};

use crate::cli::{BundleArgs, Cli, Command, Format};
use crate::control::{self, Which};
use crate::guard_heap::{self, Heap};
use crate::guard_probes;
use crate::host::{self, Host};
use crate::load::Wish;
use crate::meta::Meta;
use crate::pins::Pins;
use crate::profile;
use crate::record;
use crate::render::{self, Output};
use crate::status::{self, Status};
use crate::verify::{self, Verified};
use crate::{ability, events, load, unload};

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All is well.
    Fine,
    /// It did what was asked, and found something.
    Findings,
}

/// Why it did not end well.
#[derive(Debug)]
pub enum Failure {
    /// The command cannot do what was asked: all findings, the decisive one first.
    Refused(Vec<Diagnostic>),
    /// The output is gone.
    Output(io::Error),
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Refused(vec![diagnostic])
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

type Result = std::result::Result<End, Failure>;

/// Runs a command.
pub fn run(cli: &Cli) -> Result {
    let context = Context {
        host: Host {
            sys: cli.sysfs.clone(),
            proc: cli.procfs.clone(),
        },
        pins: Pins::new(&cli.bpffs),
        out: Output::new(cli.format),
        format: cli.format,
    };
    match &cli.command {
        Command::Verify { bundle, host } => context.verify(bundle, *host),
        Command::Probe { action } => context.probe(action.map(Into::into)),
        Command::Load {
            bundle,
            action,
            guard,
            breakpoints,
            replace,
            dry_run,
        } => {
            let wish = Wish {
                action: action.map(Into::into),
                guard: *guard,
                replace: *replace,
                breakpoints: *breakpoints,
            };
            context.load(bundle, wish, *dry_run)
        }
        Command::Status { compartment, check } => context.status(compartment.as_deref(), *check),
        Command::Events {
            compartment,
            follow,
        } => context.events(compartment.as_deref(), *follow),
        Command::Recording {
            compartment,
            output,
        } => context.recording(compartment.as_deref(), output.as_deref()),
        Command::Profile {
            compartment,
            since,
            operation,
            count,
            instructions,
            output,
        } => {
            let operation = operation
                .clone()
                .zip(*count)
                .map(|(name, count)| Operation {
                    name,
                    count,
                    instructions: *instructions,
                });
            let since = since.as_deref();
            context.profile(compartment.as_deref(), since, operation, output.as_deref())
        }
        Command::Phase { phase, compartment } => {
            context.phase((*phase).into(), compartment.as_deref())
        }
        Command::Release {
            first,
            compartment,
            all,
        } => context.release(first.as_deref(), compartment.as_deref(), *all),
        Command::Unload {
            compartment,
            all,
            force,
        } => context.unload(compartment.as_deref(), *all, *force),
    }
}

struct Context {
    host: Host,
    pins: Pins,
    out: Output,
    format: Format,
}

impl Context {
    fn verify(&self, args: &BundleArgs, with_host: bool) -> Result {
        let verified = open(args)?;
        let facts = with_host.then(|| ability::facts(&self.host));
        self.out.write(&render::Report::new(&verified, facts))?;
        let mismatches = if with_host {
            verify::mismatches(&verified.bundle, &self.host)
        } else {
            Vec::new()
        };
        if mismatches.is_empty() {
            Ok(End::Fine)
        } else {
            Err(Failure::Refused(mismatches))
        }
    }

    fn probe(&self, action: Option<Action>) -> Result {
        let facts = ability::facts(&self.host);
        let refused = action.map(|action| ability::require(action, &facts));
        self.out.write(&render::Facts::new(facts))?;
        refused.unwrap_or(Ok(()))?;
        Ok(End::Fine)
    }

    fn load(&self, args: &BundleArgs, wish: Wish, dry_run: bool) -> Result {
        let verified = open(args)?;
        let prepared = load::prepare(&verified, wish, &self.host)?;
        if dry_run {
            self.out.write(&prepared.summary(true))?;
            return Ok(End::Fine);
        }
        if !self.host.is_live() {
            return Err(Diagnostic::error(
                Code::Usage,
                "only --dry-run works on a snapshot of another machine",
            )
            .into());
        }
        self.pins.create()?;
        let _lock = Pins::lock()?;
        self.clean()?;
        let mut progress = render::Progress::new("attached");
        let loaded = prepared.load(&self.pins, &self.host, &mut |done, all| {
            progress.show(done, all);
        });
        progress.end();
        self.out.write(&loaded?)?;
        Ok(End::Fine)
    }

    fn status(&self, compartment: Option<&str>, check: bool) -> Result {
        let names = match compartment {
            Some(name) => vec![self.pins.choose(Some(name))?],
            None => self.pins.loaded()?,
        };
        let mut all = Vec::new();
        for name in &names {
            all.push(status::status(&self.pins.folder(name), &self.host)?);
        }
        let found = all.is_empty() || all.iter().any(has_findings);
        self.out.write(&render::Statuses {
            loaded: all,
            retired: self.retired_heaps(),
            kept_jumps: guard_probes::kept_jumps(&self.host),
        })?;
        Ok(if check && found {
            End::Findings
        } else {
            End::Fine
        })
    }

    fn events(&self, compartment: Option<&str>, follow: bool) -> Result {
        let name = self.pins.choose(compartment)?;
        let _lock = Pins::lock_events(&name)?;
        let folder = self.pins.folder(&name);
        let mut meta = Meta::read(&folder)?;
        let mut out = io::stdout().lock();
        let mut write = |event: &_| {
            if self.format == Format::Text {
                write!(out, "{}", render::EventText(event))?;
            } else {
                serde_json::to_writer(&mut out, event)?;
                out.write_all(b"\n")?;
            }
            out.flush()
        };
        let drained = loop {
            let drained = events::drain(&folder, &meta, &self.host, follow, &mut write)?;
            // Somebody who follows goes on with the bundle that has taken this one's place.
            match Meta::read(&folder) {
                Ok(now) if follow && drained.is_clean() && !now.is_same_load(&meta) => meta = now,
                _ => break drained,
            }
        };
        if let Some(failure) = drained.failure {
            return Err(failure.into());
        }
        if drained.unreadable > 0 {
            let message = format!(
                "{} events have a format that this release does not know",
                drained.unreadable
            );
            return Err(Diagnostic::error(Code::BadArtifact, message)
                .help("read them with the otf-load that has loaded the bundle")
                .into());
        }
        Ok(End::Fine)
    }

    fn recording(&self, compartment: Option<&str>, output: Option<&Path>) -> Result {
        let name = self.pins.choose(compartment)?;
        let recording = record::read(&self.pins.folder(&name), &self.host)?;
        match output {
            Some(path) => {
                let mut file = BufWriter::new(File::create(path)?);
                recording.write(&mut file)?;
                file.flush()?;
            }
            None => recording.write(&mut io::stdout().lock())?,
        }
        Ok(End::Fine)
    }

    fn profile(
        &self,
        compartment: Option<&str>,
        since: Option<&Path>,
        operation: Option<Operation>,
        output: Option<&Path>,
    ) -> Result {
        let name = self.pins.choose(compartment)?;
        let earlier = match since {
            Some(path) => Some((std::fs::read(path)?, path.display().to_string())),
            None => None,
        };
        let earlier = earlier.as_ref().map(|(b, n)| (b.as_slice(), n.as_str()));
        let profile = profile::read(&self.pins.folder(&name), &self.host, operation, earlier)?;
        match output {
            Some(path) => {
                let mut file = BufWriter::new(File::create(path)?);
                profile.write(&mut file)?;
                file.flush()?;
            }
            None => profile.write(&mut io::stdout().lock())?,
        }
        Ok(End::Fine)
    }

    fn phase(&self, phase: otf_artifact::abi::Phase, compartment: Option<&str>) -> Result {
        let _lock = Pins::lock()?;
        let compartment = self.pins.choose(compartment)?;
        let before = control::set_phase(&self.pins.folder(&compartment), phase)?;
        self.out.write(&render::PhaseSet {
            compartment,
            before,
            phase,
        })?;
        Ok(End::Fine)
    }

    fn release(&self, first: Option<&str>, second: Option<&str>, all: bool) -> Result {
        let (which, compartment) = if all {
            if second.is_some() {
                let message = "either an instance or --all";
                return Err(Diagnostic::error(Code::Usage, message).into());
            }
            (Which::All, first)
        } else {
            let text = first.unwrap_or_default();
            let address = host::parse_hex(text).ok_or_else(|| {
                Diagnostic::error(Code::Usage, format!("`{text}` is no address"))
                    .help("give it as `otf-load status` shows it, 0xffff…")
            })?;
            (Which::Instance(address), second)
        };
        let _lock = Pins::lock()?;
        let compartment = self.pins.choose(compartment)?;
        let released = control::release(&self.pins.folder(&compartment), which)?;
        self.out
            .write(&render::Released::new(compartment, &released))?;
        Ok(End::Fine)
    }

    fn unload(&self, compartment: Option<&str>, all: bool, force: bool) -> Result {
        let _lock = Pins::lock()?;
        let cleaned = self.clean()?;
        let names = match (all, compartment) {
            (true, _) => self.pins.loaded()?,
            // What was asked for may just have been cleaned up.
            (false, None) if cleaned > 0 && self.pins.loaded()?.is_empty() => Vec::new(),
            (false, name) => vec![self.pins.choose(name)?],
        };
        if !force {
            for name in &names {
                control::none_quarantined(name, &self.pins.folder(name))?;
            }
        }
        for name in &names {
            let mut progress = render::Progress::new("detached");
            let done = unload::unload(name, &self.pins, &self.host, &mut |done, all| {
                progress.show(done, all);
            });
            progress.end();
            done?;
        }
        self.out.write(&render::Unloaded {
            names,
            retired: self.retired_heaps(),
            kept_jumps: guard_probes::kept_jumps(&self.host),
        })?;
        Ok(End::Fine)
    }

    /// Private heaps that wait for their last object.
    fn retired_heaps(&self) -> Vec<Heap> {
        let mut heaps = guard_heap::heaps(&self.host);
        heaps.retain(|heap| heap.retired);
        heaps
    }

    /// Under the lock: removes what killed commands have left.
    fn clean(&self) -> std::result::Result<usize, Diagnostic> {
        unload::clean(&self.pins, &self.host)
    }
}

fn open(args: &BundleArgs) -> std::result::Result<Verified, Diagnostic> {
    verify::verify(&args.bundle, args.signature.as_deref(), &args.key)
}

fn has_findings(status: &Status) -> bool {
    let violations = status.counters.get(&Counter::Violations).copied();
    !status.alarms.is_empty() || !status.quarantined.is_empty() || violations.unwrap_or(0) > 0
}
