//! Results as text for people or JSON for programs.

mod text;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use otf_artifact::{
    abi::{Action, Phase},
    diagnostic::{Diagnostic, Severity},
};
use serde::{Serialize, Serializer, ser::SerializeSeq as _};

use crate::ability::{self, Fact};
use crate::cli::Format;
use crate::event::{Event, Hex};
use crate::guard_heap::Heap;
use crate::status::Status;
use crate::verify::{Signer, Verified};

/// Writes results to the standard output.
#[derive(Clone, Copy, Debug)]
pub struct Output(Format);

impl Output {
    /// Output in a format.
    pub fn new(format: Format) -> Self {
        Self(format)
    }

    /// Writes one result.
    pub fn write(self, result: &(impl Display + Serialize)) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match self.0 {
            Format::Text => write!(out, "{result}")?,
            Format::Json => {
                serde_json::to_writer_pretty(&mut out, result)?;
                out.write_all(b"\n")?;
            }
            Format::Ndjson => {
                serde_json::to_writer(&mut out, result)?;
                out.write_all(b"\n")?;
            }
        }
        out.flush()
    }
}

/// Writes diagnostics to the standard error: text, or one JSON value per line.
pub fn report(diagnostics: &[Diagnostic], format: Format) {
    for diagnostic in diagnostics {
        let json = (format != Format::Text)
            .then(|| serde_json::to_string(&JsonDiagnostic::from(diagnostic)).ok())
            .flatten();
        eprintln!("{}", json.unwrap_or_else(|| diagnostic.to_string()));
    }
}

#[derive(Serialize)]
struct JsonDiagnostic<'a> {
    /// `OTF0123`.
    code: String,
    title: &'static str,
    severity: Severity,
    message: &'a str,
    file: Option<&'a str>,
    line: u32,
    column: u32,
    help: Option<&'a str>,
}

impl<'a> From<&'a Diagnostic> for JsonDiagnostic<'a> {
    fn from(diagnostic: &'a Diagnostic) -> Self {
        Self {
            code: diagnostic.code.to_string(),
            title: diagnostic.code.title(),
            severity: diagnostic.severity,
            message: &diagnostic.message,
            file: diagnostic.file.as_deref(),
            line: diagnostic.line,
            column: diagnostic.column,
            help: diagnostic.help.as_deref(),
        }
    }
}

/// A line on a terminal that counts.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    last: Instant,
    shown: bool,
}

impl Progress {
    /// Counts what is `attached` or `detached`.
    pub fn new(what: &'static str) -> Self {
        Self {
            what,
            last: Instant::now(),
            shown: false,
        }
    }

    /// Shows how far it is; only where somebody watches.
    pub fn show(&mut self, done: usize, all: usize) {
        // A serial console is a terminal too, and slow.
        let due = done == all || self.last.elapsed() > Duration::from_millis(200);
        if due && io::stderr().is_terminal() {
            self.last = Instant::now();
            eprint!("\r{done} of {all} probes {}", self.what);
            self.shown = true;
        }
    }

    /// Takes the line away.
    pub fn end(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

/// Result of `verify`.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// SHA-256 of the file.
    pub bundle: &'a str,
    /// Who signed.
    pub signer: &'a Signer,
    /// Manifest.
    pub manifest: &'a otf_artifact::bundle::Manifest,
    /// Action of a load that names none.
    pub default_action: Action,
    /// Probes that a load attaches.
    pub probes: usize,
    /// Entries through which the compartment is reached.
    pub gates: usize,
    /// This host, when it was asked for.
    pub host: Option<Facts>,
}

impl<'a> Report<'a> {
    /// Report on a good bundle.
    pub fn new(verified: &'a Verified, facts: Option<Vec<Fact>>) -> Self {
        let bundle = &verified.bundle;
        Self {
            bundle: &verified.sha256,
            signer: &verified.signer,
            manifest: &bundle.manifest,
            default_action: bundle.plan.default_action,
            probes: bundle.plan.probes.len(),
            gates: bundle.plan.gates.len(),
            host: facts.map(Facts::new),
        }
    }
}

/// Result of `probe`.
#[derive(Debug, Serialize)]
pub struct Facts {
    /// What each action lacks here.
    pub actions: Vec<Ability>,
    /// What was looked at.
    pub facts: Vec<Fact>,
}

/// Whether an action can be honoured.
#[derive(Debug, Serialize)]
pub struct Ability {
    /// Action.
    pub action: Action,
    /// Whether a load would accept it.
    pub honoured: bool,
    /// Why not.
    pub why: Option<String>,
}

impl Facts {
    /// What follows from the facts.
    pub fn new(facts: Vec<Fact>) -> Self {
        let ability = |action: &Action| {
            let refused = ability::require(*action, &facts).err();
            Ability {
                action: *action,
                honoured: refused.is_none(),
                why: refused.map(|d| d.message),
            }
        };
        Self {
            actions: Action::ALL.iter().map(ability).collect(),
            facts,
        }
    }
}

/// Result of `status`: as JSON an array of the loaded compartments, then of what is left of others.
#[derive(Debug)]
pub struct Statuses {
    /// What is loaded.
    pub loaded: Vec<Status>,
    /// Private heaps of what was loaded and still has objects.
    pub retired: Vec<Heap>,
    /// Jumps that somebody else's kprobe keeps.
    pub kept_jumps: usize,
}

impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut array = serializer.serialize_seq(Some(
            self.loaded.len() + self.retired.len() + usize::from(self.kept_jumps > 0),
        ))?;
        for status in &self.loaded {
            array.serialize_element(status)?;
        }
        for heap in &self.retired {
            array.serialize_element(&Retired { retired_heap: heap })?;
        }
        if self.kept_jumps > 0 {
            let kept_jumps = self.kept_jumps;
            array.serialize_element(&Kept { kept_jumps })?;
        }
        array.end()
    }
}

#[derive(Serialize)]
struct Retired<'a> {
    retired_heap: &'a Heap,
}

#[derive(Serialize)]
struct Kept {
    kept_jumps: usize,
}

/// Result of `phase`.
#[derive(Debug, Serialize)]
pub struct PhaseSet {
    /// Compartment.
    pub compartment: String,
    /// Phase until now.
    pub before: Phase,
    /// Phase from now on.
    pub phase: Phase,
}

/// Result of `release`.
#[derive(Debug, Serialize)]
pub struct Released {
    /// Compartment.
    pub compartment: String,
    /// Instances that the gates let in again.
    pub released: Vec<Hex>,
}

impl Released {
    /// These instances of a compartment.
    pub fn new(compartment: String, released: &[u64]) -> Self {
        Self {
            compartment,
            released: released.iter().copied().map(Hex).collect(),
        }
    }
}

/// Result of `unload`.
#[derive(Debug, Serialize)]
pub struct Unloaded {
    /// Compartments.
    #[serde(rename = "unloaded")]
    pub names: Vec<String>,
    /// Private heaps that stay until their last object is freed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<Heap>,
    /// Jumps that somebody else's kprobe keeps.
    pub kept_jumps: usize,
}

/// An event for people.
#[derive(Debug)]
pub struct EventText<'a>(pub &'a Event);
