//! Which actions this host can honour, and what each one lacks.

use std::env::consts::ARCH;

use libbpf_rs::{MapType, ProgramType};
use otf_artifact::{
    abi::Action,
    diagnostic::{Code, Diagnostic},
    kernel::{GUARD_SINCE, version},
};
use serde::Serialize;

use crate::guard;
use crate::host::{Host, sysctl};

/// One fact about the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub value: String,
    /// Actions that need something else; empty when it is as it should be.
    pub hinders: Vec<Action>,
}

/// Everything that matters, in a fixed order.
pub fn facts(host: &Host) -> Vec<Fact> {
    let mut facts = vec![
        arch(),
        release(host),
        present(
            host,
            "kernel type information",
            "kernel/btf/vmlinux",
            "CONFIG_DEBUG_INFO_BTF",
        ),
        present(
            host,
            "kprobes by address",
            "bus/event_source/devices/kprobe/type",
            "CONFIG_KPROBE_EVENTS",
        ),
        lockdown(host),
        signatures(host),
        guard_state(host),
        optimization(host),
        ftrace(host),
        taint(host),
    ];
    if host.is_live() {
        facts.extend([
            program_type("kprobe programs", ProgramType::Kprobe),
            program_type("set-up programs", ProgramType::Syscall),
            map_type("ring buffer", MapType::RingBuf),
        ]);
    }
    facts
}

/// Refuses an action that this host cannot honour. A load calls it before it changes anything.
pub fn require(action: Action, facts: &[Fact]) -> Result<(), Diagnostic> {
    let missing: Vec<String> = facts
        .iter()
        .filter(|f| f.hinders.contains(&action))
        .map(|f| format!("{}: {}", f.name, f.value))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Diagnostic::error(
        Code::ActionRefused,
        format!(
            "{} cannot be honoured here: {}",
            action.text(),
            missing.join("; ")
        ),
    )
    .help("choose another --action, or provide what is missing (`otf-load probe`)"))
}

fn fact(name: &'static str, value: impl Into<String>, hinders: &[Action]) -> Fact {
    Fact {
        name,
        value: value.into(),
        hinders: hinders.to_vec(),
    }
}

fn arch() -> Fact {
    let hinders = if ARCH == "x86_64" { &[] } else { Action::ALL };
    fact("architecture", ARCH, hinders)
}

fn release(host: &Host) -> Fact {
    let release = host.release().unwrap_or_default();
    match version(&release) {
        Some(version) if version >= GUARD_SINCE => fact("kernel", release, &[]),
        Some(version) if version >= (5, 15) => fact(
            "kernel",
            format!("{release}, kfuncs from kprobes need 6.10"),
            &[Action::Deny],
        ),
        _ => fact(
            "kernel",
            format!("{release}, attach cookies need 5.15"),
            Action::ALL,
        ),
    }
}

fn present(host: &Host, name: &'static str, path: &str, config: &str) -> Fact {
    if host.sys.join(path).exists() {
        fact(name, "present", &[])
    } else {
        fact(name, format!("missing ({config})"), Action::ALL)
    }
}

fn lockdown(host: &Host) -> Fact {
    let line = host
        .sys_line("kernel/security/lockdown")
        .unwrap_or_else(|| "[none]".into());
    let mode = line
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("none", |(mode, _)| mode);
    let hinders: &[Action] = match mode {
        "none" => &[],
        // unsigned modules are refused
        "integrity" => &[Action::Deny],
        // kprobes and reads of kernel memory by BPF are refused
        _ => Action::ALL,
    };
    fact("kernel lockdown", mode, hinders)
}

fn signatures(host: &Host) -> Fact {
    let enforced = host
        .sys_line("module/module/parameters/sig_enforce")
        .is_some_and(|v| v == "Y");
    match (enforced, guard::loaded(host)) {
        (false, _) => fact("module signatures", "not enforced", &[]),
        (true, true) => fact("module signatures", "enforced, the guard is loaded", &[]),
        (true, false) => fact(
            "module signatures",
            "enforced: the guard must be signed and loaded first",
            &[Action::Deny],
        ),
    }
}

fn guard_state(host: &Host) -> Fact {
    let value = if guard::loaded(host) {
        "loaded"
    } else {
        "not loaded (a load with --action deny inserts it)"
    };
    fact("otf_guard", value, &[])
}

fn optimization(host: &Host) -> Fact {
    let value = match sysctl::get(host, sysctl::OPTIMIZATION) {
        None => "not built in, which is fine".into(),
        Some(v) if v == "0" => "off".into(),
        Some(v) => format!("{v} (a load with --action deny sets it to 0 until it is unloaded)"),
    };
    fact(sysctl::OPTIMIZATION, value, &[])
}

fn ftrace(host: &Host) -> Fact {
    match sysctl::get(host, sysctl::FTRACE) {
        Some(v) if v == "0" => fact(
            sysctl::FTRACE,
            "0: probes at function entries would not fire",
            Action::ALL,
        ),
        Some(v) => fact(sysctl::FTRACE, v, &[]),
        None => fact(sysctl::FTRACE, "not built in", &[]),
    }
}

fn taint(host: &Host) -> Fact {
    let value = host
        .proc_line("sys/kernel/tainted")
        .unwrap_or_else(|| "?".into());
    fact("taint", value, &[])
}

fn program_type(name: &'static str, kind: ProgramType) -> Fact {
    supported(name, kind.is_supported())
}

fn map_type(name: &'static str, kind: MapType) -> Fact {
    supported(name, kind.is_supported())
}

fn supported(name: &'static str, answer: libbpf_rs::Result<bool>) -> Fact {
    match answer {
        Ok(true) => fact(name, "supported", &[]),
        Ok(false) => fact(name, "not supported", Action::ALL),
        Err(e) => fact(name, format!("cannot be tried: {e}"), Action::ALL),
    }
}

/// `6.12.117+deb12-amd64` → (6, 12).
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Machine;
    use std::fs;

    #[test]
    fn a_stock_kernel_honours_every_action() {
        let machine = Machine::new();
        let facts = facts(&machine.host);
        for action in Action::ALL {
            assert_eq!(require(*action, &facts), Ok(()), "{facts:#?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let machine = Machine::new();
        let lockdown = machine.host.sys.join("kernel/security/lockdown");
        fs::create_dir_all(lockdown.parent().unwrap()).unwrap();
        fs::write(lockdown, "none [integrity] confidentiality\n").unwrap();
        let found = facts(&machine.host);
        let refused = require(Action::Deny, &found).unwrap_err();
        assert_eq!(refused.code, Code::ActionRefused);
        assert!(
            refused.message.contains("kernel lockdown: integrity"),
            "{refused}"
        );
        assert_eq!(require(Action::Kill, &found), Ok(()));
        fs::write(machine.host.proc.join("sys/kernel/ftrace_enabled"), "0\n").unwrap();
        assert!(require(Action::Audit, &facts(&machine.host)).is_err());
    }
}
