//! Sysctls that enforcement depends on.

use std::fs;

use otf_artifact::diagnostic::{Code, Diagnostic};

use super::Host;

/// Jump-optimised probes ignore that a program has changed the instruction pointer.
pub const OPTIMIZATION: &str = "debug.kprobes-optimization";
/// Whether the kernel counts runs of BPF programs.
pub const COUNT_RUNS: &str = "kernel.bpf_stats_enabled";
/// With ftrace switched off, probes at function entries do not fire.
pub const FTRACE: &str = "kernel.ftrace_enabled";

/// Value of a sysctl; `None` when the kernel does not have it.
pub fn get(host: &Host, name: &str) -> Option<String> {
    host.proc_line(&path(name))
}

/// Sets a sysctl.
pub fn set(host: &Host, name: &str, value: &str) -> Result<(), Diagnostic> {
    fs::write(host.proc.join(path(name)), value).map_err(|e| {
        Diagnostic::error(
            Code::Environment,
            format!("sysctl {name} cannot be set to {value}: {e}"),
        )
        .help("run as root")
    })
}

fn path(name: &str) -> String {
    format!("sys/{}", name.replace('.', "/"))
}
