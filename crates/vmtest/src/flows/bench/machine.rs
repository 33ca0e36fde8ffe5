//! The machine that measures.

use std::{fs, time::Duration};

use otf_artifact::diagnostic::{Code, Diagnostic};
use otf_vmtest::{
    guest::Guest,
    log::Source,
    modules::ModuleTree,
    vm::{Accel, Outcome, Vm, Writes},
    watch::Trouble,
};
use serde_json::Value;

use super::{
    BenchRuntime, failed,
    kept::{Run, Seen, Step},
};
use crate::flows::{
    record::{DISK_MODULES, ENTER, drive},
    target::signature_of,
};

/// What the machine does.
pub const BENCH: &str = include_str!("../../../guest/bench.sh");
/// The operations.
pub const OPERATIONS: &str = include_str!("../../../guest/operations.sh");
/// Without fast string instructions: under emulation each byte of `rep movsb` counts as an instruction, and copies would make
/// every request look dearer, so that the policy looked cheaper, than it is.
pub const CPU: &str = "max,erms=off,fsrm=off";

/// Boots it, and takes over what it says.
pub fn run(options: &BenchRuntime, run: &Run, operations: &[&str]) -> Result<Seen, Diagnostic> {
    let target = &run.targets[0];
    let mut vm = Vm::new(target.kernel(), guest(options, run, operations)?.build());
    vm.drives = vec![
        drive(&options.root_image, Writes::Dropped),
        drive(&options.modules_image, Writes::Refused),
    ];
    vm.accel = Accel::Icount { shift: 0 };
    CPU.clone_into(&mut vm.cpu);
    vm.memory = 3072;
    // A nanosecond is an instruction: the counter's rate is known, and no other clock is to be asked.
    "tsc_early_khz=1000000 tsc=reliable".clone_into(&mut vm.append);
    vm.time_limit = Duration::from_secs(options.time_limit);
    vm.stop_on = Trouble::Panic;
    let outcome = vm.run()?;
    let log = run.file.with_extension("log");
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).map_err(|e| failed("create", folder, &e))?;
    }
    fs::write(&log, outcome.log.render()).map_err(|e| failed("write", &log, &e))?;
    Ok(seen(&outcome))
}

fn guest(options: &BenchRuntime, run: &Run, operations: &[&str]) -> Result<Guest, Diagnostic> {
    let tree = ModuleTree::open(&run.targets[0].stock_modules()?)?;
    let wanted: Vec<&str> = DISK_MODULES.into_iter().filter(|m| tree.has(m)).collect();
    let mut guest = Guest::new()?;
    guest.modules(&tree.modules(&wanted)?, &[]);
    guest.copy(&options.setting.load, "/bin/otf-load")?;
    guest.copy(&options.setting.key, "/otf/key.pub")?;
    guest.copy(&options.exercise, "/otf/otf-exercise")?;
    let mut names = Vec::new();
    for (target, bundle) in run.targets.iter().zip(&run.bundles) {
        let name = &target.lock.compartment;
        guest.copy(bundle, &format!("/otf/bundles/{name}.otf"))?;
        let signature = format!("/otf/bundles/{name}.otf.minisig");
        guest.copy(&signature_of(bundle), &signature)?;
        names.push(name.as_str());
    }
    let mut modules: Vec<&str> = Vec::new();
    for target in run.targets.iter().take(names.len()) {
        modules.extend(target.lock.loadable.iter().map(|m| m.name.as_str()));
    }
    let settings = format!(
        "bundles='{}'\nmodules='{}'\noperations='{}'\naction='{}'\n",
        names.join(" "),
        modules.join(" "),
        operations.join(" "),
        run.scheme.action(),
    );
    guest.file("/otf/settings", settings.as_bytes());
    guest.script("/otf/enter.sh", ENTER);
    guest.script("/otf/bench.sh", BENCH);
    guest.script("/otf/operations.sh", OPERATIONS);
    guest.step("bench", &["/bin/sh", "/otf/enter.sh", "bench.sh"])?;
    Ok(guest)
}

fn seen(outcome: &Outcome) -> Seen {
    let mut seen = Seen::default();
    for line in outcome.log.of(Source::Test) {
        if let Err(error) = take(line, &mut seen) {
            seen.failures.push(format!("{} ({line})", error.message));
        }
    }
    let failed = outcome.report.tests.iter().filter(|test| !test.passed);
    seen.failures.extend(failed.map(ToString::to_string));
    let troubles = outcome.troubles.iter();
    seen.failures
        .extend(troubles.map(|(trouble, line)| format!("{trouble:?}: {line}")));
    if outcome.verdict == otf_vmtest::vm::Verdict::TimedOut {
        let seconds = outcome.elapsed.as_secs();
        seen.failures
            .push(format!("the machine did not end within {seconds} s"));
    }
    seen
}

/// Takes over a line, if it is one of ours.
fn take(line: &str, seen: &mut Seen) -> Result<(), Diagnostic> {
    let broken = || Diagnostic::error(Code::Environment, "a line of the guest makes no sense");
    let Some((mark, rest)) = line.split_once(' ') else {
        return Ok(());
    };
    let words: Vec<&str> = rest.split(' ').collect();
    let number = |place: usize| words.get(place).and_then(|w| w.parse::<u64>().ok());
    match mark {
        "OTF-BENCH" => {
            let measured = serde_json::from_str(rest).map_err(|_| broken())?;
            seen.measured.push(measured);
        }
        "OTF-BENCH-FAILED" => {
            let (operation, reason) = rest.split_once(' ').ok_or_else(broken)?;
            let reason = reason.trim().to_owned();
            seen.failed.insert(operation.to_owned(), reason);
        }
        "OTF-MEMORY" => seen.memory = serde_json::from_str(rest).map_err(|_| broken())?,
        "OTF-PROBES" => {
            let loaded = seen.loaded.entry(words[0].to_owned()).or_default();
            loaded.probes = number(1).ok_or_else(broken)?;
        }
        "OTF-WATCH" => {
            let json: Value = serde_json::from_str(rest).map_err(|_| broken())?;
            let name = json.get("name").and_then(Value::as_str);
            let (step, compartment) = name.and_then(|n| n.split_once('.')).ok_or_else(broken)?;
            let took: Step = serde_json::from_value(json.clone()).map_err(|_| broken())?;
            let loaded = seen.loaded.entry(compartment.to_owned()).or_default();
            loaded.steps.insert(step.to_owned(), took);
        }
        "OTF-STATUS" => {
            let (_, json) = rest.split_once(' ').ok_or_else(broken)?;
            let status: Value = serde_json::from_str(json).map_err(|_| broken())?;
            let all = status.as_array().ok_or_else(broken)?;
            for one in all {
                let violations = one.pointer("/counters/violations").and_then(Value::as_u64);
                seen.violations += violations.ok_or_else(broken)?;
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_guest() {
        let mut seen = Seen::default();
        for line in [
            "OTF-STEP bench",
            r#"OTF-BENCH {"operation":"pipe","count":2,"busy":[10, 11],"hits":{"otf_site":4}}"#,
            "OTF-BENCH-FAILED qfq Error: no such thing",
            r#"OTF-MEMORY {"map_bytes":1,"program_bytes":2}"#,
            "OTF-PROBES sched 20",
            r#"OTF-WATCH {"name":"load.sched","elapsed":1000,"busy":600,"stall":3}"#,
            r#"OTF-STATUS bench [{"counters":{"violations":3}}]"#,
        ] {
            take(line, &mut seen).unwrap();
        }
        assert_eq!(seen.measured[0].hits["otf_site"], 4);
        assert_eq!(seen.failed["qfq"], "Error: no such thing");
        assert_eq!(seen.loaded["sched"].probes, 20);
        assert_eq!(seen.loaded["sched"].steps["load"].busy, 600);
        assert_eq!((seen.violations, seen.memory["map_bytes"]), (3, 1));
        assert!(take("OTF-BENCH {", &mut seen).is_err());
        assert!(take("OTF-PROBES sched many", &mut seen).is_err());
    }
}
