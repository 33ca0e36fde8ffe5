//! The attack corpus: fixed bugs that overlays bring back, each attacked without a policy, under *audit* and under *deny*.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use otf_artifact::diagnostic::{Code, Diagnostic};
use otf_kernel::{
    inputs,
    overlay::{Attack, AttackKind},
};
use otf_vmtest::{
    log::{Log, Source},
    vm::{Accel, Outcome, Verdict, Vm},
    watch::Trouble,
};
use serde::{Deserialize, Serialize};

use super::{
    aftermath, attack_heap, attack_table,
    checks::Checks,
    ending,
    observed::{self, Event},
    sections,
    target::{Setting, Target},
};

const SCRIPT: &str = include_str!("../../guest/attack.sh");
/// The step of the guest in which the attack is made.
const STEP: &str = "attack";
/// Loading thousands of probes under emulation takes minutes.
const TIME_LIMIT: Duration = Duration::from_mins(12);

/// MiB: kmemleak keeps a record of each object.
const MEMORY_WITH_CHECKS: u32 = 2048;

/// `otf-vmtest attacks`
#[derive(Args)]
pub struct Attacks {
    #[command(flatten)]
    setting: Setting,
    /// Overlays to attack; all that bring a bug back by default.
    #[arg(long = "only", value_name = "OVERLAY")]
    only: Vec<String>,
    /// Program that sends what no ordinary tool would, linked statically.
    #[arg(long)]
    program: Option<PathBuf>,
    /// CPUs.
    #[arg(long, default_value_t = 1)]
    pub(super) smp: u32,
    /// Only *deny*, on a kernel that checks itself: what that has to report afterwards. A table of its own,
    /// behind the others.
    #[arg(long)]
    aftermath: bool,
    /// Only *deny*, by policies with a private heap (`otf analyze --private-heap`). A table of its own,
    /// behind the others.
    #[arg(long, conflicts_with = "aftermath")]
    private_heap: bool,
    /// Table for programs.
    #[arg(
        long,
        default_value = "out/eval/attacks.json",
        default_value_ifs([
            ("aftermath", "true", "out/eval/aftermath.json"),
            ("private_heap", "true", "out/eval/attacks-heap.json"),
        ])
    )]
    json: PathBuf,
    /// Tables for people.
    #[arg(long, default_value = "docs/evaluation/attacks.md")]
    table: PathBuf,
}

/// One bug, and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What the bug is known as.
    pub bug: String,
    /// What goes wrong in memory.
    pub kind: AttackKind,
    /// Harm that was seen without a policy; empty: none.
    pub harm_without: String,
    /// Whether a violation was reported.
    pub detected: bool,
    /// Whether under *deny* no harm was done, and no violation was let through.
    pub prevented: bool,
    /// Whether the service worked for others after *deny*.
    pub alive: bool,
    /// The first violation; or why there is none.
    pub note: String,
    /// Rules that refuse some write of the attack, each taken alone.
    #[serde(default)]
    pub rules: Vec<String>,
    /// What is confined.
    pub compartment: String,
    /// CPUs of the machine.
    pub cpus: u32,
}

/// Attacks everything, or some; the tables are written after each bug, and keep the rows of others
/// from before. Gives the table.
pub fn run(options: &Attacks, checks: &mut Checks) -> Result<String, Diagnostic> {
    let kernel = file_name(&options.setting.out);
    let mut text = String::new();
    for (name, attack) in corpus(&options.setting.root, &kernel, &options.only)? {
        let before = fs::read_to_string(&options.json).unwrap_or_default();
        let tables = fs::read_to_string(&options.table).unwrap_or_default();
        let json = if options.aftermath {
            let row = aftermath::row(options, &name, &attack, checks)?;
            let rows = attack_table::with(&before, row);
            text = sections::replaced(&tables, &aftermath::markdown(&kernel, &rows));
            attack_table::json(&rows)?
        } else if options.private_heap {
            let row = attack_heap::row(options, &name, &attack, checks)?;
            let rows = attack_table::with(&before, row);
            text = sections::replaced(&tables, &attack_heap::markdown(&kernel, &rows));
            attack_table::json(&rows)?
        } else {
            let row = attacked(options, &name, &attack, checks)?;
            let rows = attack_table::with(&before, row);
            text = sections::kept(&tables, attack_table::markdown(&kernel, &rows));
            attack_table::json(&rows)?
        };
        write(&options.json, &json)?;
        write(&options.table, &text)?;
    }
    Ok(text)
}

/// Overlays with an attack, by name.
fn corpus(root: &Path, kernel: &str, only: &[String]) -> Result<Vec<(String, Attack)>, Diagnostic> {
    let mut found = Vec::new();
    for name in inputs::overlays(root, kernel) {
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        if let Some(attack) = inputs::overlay(root, kernel, &name)?.attack {
            found.push((name, attack));
        }
    }
    match only
        .iter()
        .find(|o| found.iter().all(|(name, _)| name != *o))
    {
        Some(missing) => Err(Diagnostic::error(
            Code::UnknownOverlay,
            format!("no overlay {missing} of {kernel} has an `attack`"),
        )),
        None => Ok(found),
    }
}

/// A machine in which the bug is attacked.
pub(super) fn boot(
    options: &Attacks,
    name: &str,
    attack: &Attack,
    action: &str,
) -> Result<Outcome, Diagnostic> {
    let folder = format!("{}@{name}", attack.compartment.value);
    let target = Target::open(&options.setting, &folder)?;
    let mut guest = target.guest(Some(name))?;
    if let Some(program) = &options.program {
        guest.copy(program, "/bin/otf-attack")?;
    }
    guest.script("/otf/attack.sh", SCRIPT);
    let mut step = vec!["/bin/sh", "/otf/attack.sh", action];
    if attack.working && action != "without" {
        step.push("working");
    }
    if options.aftermath {
        step.push("aftermath");
    }
    guest.step(STEP, &step)?;
    let mut vm = Vm::new(target.kernel(), guest.build());
    vm.time_limit = TIME_LIMIT;
    vm.smp = options.smp;
    match action {
        // An oops is harm enough.
        "without" => {
            vm.stop_on = Trouble::Oops;
            vm.append.clone_from(&attack.options);
        }
        // What was reported is told after it.
        "audit" => vm.stop_on = Trouble::Panic,
        _ => {}
    }
    if options.aftermath {
        vm.memory = MEMORY_WITH_CHECKS;
        vm.accel = Accel::RoundRobin;
    }
    vm.run()
}

/// What became of an attack under *deny*.
pub(super) struct Denied {
    /// What was reported.
    pub events: Vec<Event>,
    /// Whether no harm was done, and no violation was let through.
    pub prevented: bool,
    /// Whether the service worked for others afterwards.
    pub alive: bool,
    /// What speaks against that.
    pub flaw: Option<String>,
}

impl Denied {
    /// Judges a run.
    pub fn judge(outcome: &Outcome, checks: &mut Checks) -> Self {
        prepared(outcome, checks);
        let events = observed::violations(&outcome.report, "attack", checks);
        let ended = matches!(outcome.verdict, Verdict::Passed | Verdict::Failed(_));
        let harm = harm(outcome);
        let flaw = if let Some(harm) = &harm {
            Some(format!("under deny: {harm}"))
        } else if !ended {
            Some(format!("under deny: {}", ending(&outcome.verdict)))
        } else {
            said(&outcome.log, "dead").map(|dead| format!("afterwards: {dead}"))
        };
        Self {
            prevented: harm.is_none()
                && ended
                && !events.is_empty()
                && events.iter().all(|e| e.prevented),
            alive: ended && said(&outcome.log, "alive").is_some(),
            events,
            flaw,
        }
    }
}

/// What *deny* made of one bug.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Denial {
    /// What the bug is known as.
    pub bug: String,
    /// What goes wrong in memory.
    pub kind: AttackKind,
    /// What is confined.
    pub compartment: String,
    /// CPUs of the machine.
    pub cpus: u32,
    /// Whether no harm was done, and no violation was let through.
    pub prevented: bool,
    /// Whether the service worked for others afterwards.
    pub alive: bool,
    /// The first violation, and what went wrong.
    pub note: String,
}

impl Denial {
    /// Of this attack.
    pub(super) fn new(options: &Attacks, attack: &Attack, denied: &Denied) -> Self {
        let first = denied.events.first();
        let note = first.map_or_else(|| "no violation".to_owned(), |e| e.text.clone());
        Self {
            bug: attack.bug.clone(),
            kind: attack.kind,
            compartment: attack.compartment.value.clone(),
            cpus: options.smp,
            prevented: denied.prevented,
            alive: denied.alive,
            note: match &denied.flaw {
                Some(flaw) => format!("{note}; {flaw}"),
                None => note,
            },
        }
    }

    /// For a table.
    pub fn prevented_word(&self) -> &'static str {
        if self.prevented {
            "prevented"
        } else {
            "**not prevented**"
        }
    }

    /// For a table.
    pub fn alive_word(&self) -> &'static str {
        if self.alive { "alive" } else { "**not alive**" }
    }
}

fn attacked(
    options: &Attacks,
    name: &str,
    attack: &Attack,
    checks: &mut Checks,
) -> Result<Row, Diagnostic> {
    checks.section(&format!("attack.{name}.without"));
    let without = boot(options, name, attack, "without")?;
    let harm = harm(&without);
    prepared(&without, checks);
    checks.add(
        "harm_is_real",
        harm.is_some(),
        harm.clone().unwrap_or_default(),
    );

    checks.section(&format!("attack.{name}.audit"));
    let audit = boot(options, name, attack, "audit")?;
    prepared(&audit, checks);
    let reported = observed::violations(&audit.report, "attack", checks);

    checks.section(&format!("attack.{name}.deny"));
    let deny = boot(options, name, attack, "deny")?;
    let denied = Denied::judge(&deny, checks);
    let first = denied.events.first().or(reported.first());
    let mut note = first.map_or_else(|| "no violation".to_owned(), |e| e.text.clone());
    if let Some(reason) = &attack.unstopped {
        note = format!("{reason} ({note})");
    } else if let Some(flaw) = &denied.flaw {
        note = format!("{note}; {flaw}");
    }
    let stopped = denied.prevented && denied.alive;
    checks.add(
        if attack.unstopped.is_some() {
            "is_not_stopped_as_told"
        } else {
            "is_stopped"
        },
        stopped == attack.unstopped.is_none(),
        &note,
    );
    if !stopped {
        checks
            .logs
            .push(format!("{name} deny:\n{}", deny.log.relevant()));
    }
    Ok(Row {
        bug: attack.bug.clone(),
        kind: attack.kind,
        harm_without: harm.unwrap_or_default(),
        // A machine that died of the attack did not live to say what it reported.
        detected: !reported.is_empty() || !denied.events.is_empty(),
        prevented: denied.prevented,
        alive: denied.alive,
        note,
        rules: reported
            .iter()
            .chain(&denied.events)
            .flat_map(|event| event.rules.iter().cloned())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        compartment: attack.compartment.value.clone(),
        cpus: options.smp,
    })
}

/// Ordinary use worked before the attack, and violated nothing.
fn prepared(outcome: &Outcome, checks: &mut Checks) {
    // What an oops killed does not say more than the oops.
    let survived = |name: &str| name != STEP || outcome.troubles.is_empty();
    for test in outcome.report.tests.iter().filter(|t| survived(&t.name)) {
        checks.add(&test.name, test.passed, &test.reason);
    }
    let early = observed::violations(&outcome.report, "ordinary.before", checks);
    let seen = early.first().map_or("none", |e| &e.text);
    checks.add("no_violation_before", early.is_empty(), seen);
}

/// What the attack did: what the trigger found changed, else what the kernel complained about.
fn harm(outcome: &Outcome) -> Option<String> {
    let kernel = outcome.troubles.iter().max_by_key(|(trouble, _)| *trouble);
    let kernel = kernel.map(|(_, line)| without_time(line).to_owned());
    let hung = matches!(outcome.verdict, Verdict::TimedOut).then(|| "the machine hangs".to_owned());
    said(&outcome.log, "harm").or(kernel).or(hung)
}

/// The text behind `OTF-SAID WORD`.
fn said(log: &Log, word: &str) -> Option<String> {
    all_said(log, word).next()
}

/// The texts behind all of them.
pub(super) fn all_said(log: &Log, word: &str) -> impl Iterator<Item = String> {
    log.of(Source::Test).filter_map(move |text| {
        let rest = text.strip_prefix("OTF-SAID ")?.strip_prefix(word)?;
        (rest.is_empty() || rest.starts_with(' ')).then(|| rest.trim().to_owned())
    })
}

/// A line of the kernel's log without `[   12.3]`.
pub(super) fn without_time(line: &str) -> &str {
    line.split_once("] ").map_or(line, |(_, text)| text)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn write(path: &Path, text: &str) -> Result<(), Diagnostic> {
    let failed = |e: std::io::Error| {
        Diagnostic::error(
            Code::Environment,
            format!("cannot write {}: {e}", path.display()),
        )
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}

#[cfg(test)]
mod tests {
    use otf_vmtest::log::Line;

    use super::*;

    fn log(lines: &[&str]) -> Log {
        let line = |text: &&str| Line {
            source: Source::Test,
            at: Duration::ZERO,
            text: (*text).to_owned(),
        };
        Log {
            lines: lines.iter().map(line).collect(),
        }
    }

    #[test]
    fn what_the_guest_said_is_found_by_its_word() {
        let log = log(&[
            "OTF-SAID harmless",
            "OTF-SAID harm 8 bytes",
            "OTF-SAID alive",
        ]);
        assert_eq!(said(&log, "harm").as_deref(), Some("8 bytes"));
        assert_eq!(said(&log, "alive").as_deref(), Some(""));
        assert_eq!(said(&log, "dead"), None);
    }

    #[test]
    fn a_bug_that_no_overlay_has_is_told() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let refused = corpus(root, "debian-6.12", &["broken".to_owned()]).unwrap_err();
        assert_eq!(refused.code, Code::UnknownOverlay);
    }
}
