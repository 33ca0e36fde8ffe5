//! What makes a loaded policy weaker than it looks. Pure: facts in, sentences out.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::abi::{Action, Counter};

use crate::bind::VMLINUX;
use crate::host::{Host, kprobes, sysctl};
use crate::meta::Meta;
use crate::status::Attached;

/// Counters that stay zero while everything is checked and acted upon.
const MUST_BE_ZERO: [Counter; 8] = [
    Counter::EventsLost,
    Counter::RecordsLost,
    Counter::FramesLost,
    Counter::NotesLost,
    Counter::DenyFailed,
    Counter::KillImpossible,
    Counter::BadCookie,
    Counter::QuarantineFull,
];

/// Name of a program that takes what another one is left out of ends so.
const TWIN: &str = "_twin";

/// What `status` has found out.
pub struct Seen<'a> {
    /// What was loaded.
    pub meta: &'a Meta,
    /// The action in the map.
    pub running_action: u32,
    /// By program.
    pub probes: &'a BTreeMap<&'static str, Attached>,
    /// Addresses of the pinned links.
    pub link_addresses: &'a [u64],
    /// Sum over the links.
    pub missed_hits: u64,
    /// By counter.
    pub counters: &'a BTreeMap<Counter, u64>,
    /// By program.
    pub recursion_misses: &'a BTreeMap<String, u64>,
    /// The kernel's own list, if it can be read.
    pub kernel_list: Option<kprobes::List>,
    /// Whether the guard is in the kernel.
    pub guard_loaded: bool,
    /// Whether the guard, or perf, follows frees.
    pub frees_followed: bool,
}

/// Everything that is wrong, most serious first.
pub fn alarms(seen: &Seen<'_>, host: &Host) -> Vec<String> {
    let mut alarms = Vec::new();
    if seen.running_action != seen.meta.action as u32 {
        alarms.push(format!(
            "the action in force is not {}",
            seen.meta.action.text()
        ));
    }
    for (program, count) in seen.probes {
        if count.attached < count.planned {
            alarms.push(format!(
                "{} of {} probes of {program} are gone",
                count.planned - count.attached,
                count.planned
            ));
        }
    }
    modules(seen, host, &mut alarms);
    switches(seen, host, &mut alarms);
    if let Some(list) = &seen.kernel_list {
        armed(seen, list, &mut alarms);
    }
    for counter in MUST_BE_ZERO {
        let count = seen.counters.get(&counter).copied().unwrap_or(0);
        if count > 0 {
            alarms.push(format!("{}: {count}", counter.text()));
        }
    }
    for (program, count) in seen.recursion_misses {
        // A twin does what the first one was left out of: lost is at most what both missed.
        let lost = match twin_of(seen.recursion_misses, program) {
            Some(other) => *count.min(other),
            None => *count,
        };
        if lost > 0 && !program.ends_with(TWIN) {
            alarms.push(format!(
                "{program} was left out {lost} times while another BPF program ran"
            ));
        }
    }
    if seen.missed_hits > 0 {
        alarms.push(format!(
            "the kernel missed {} hits of probes",
            seen.missed_hits
        ));
    }
    alarms
}

/// How often the twin of a program was left out, if it has one.
fn twin_of<'m>(misses: &'m BTreeMap<String, u64>, program: &str) -> Option<&'m u64> {
    misses.get(&format!("{program}{TWIN}"))
}

/// A module that was removed, or loaded again elsewhere, runs unchecked.
fn modules(seen: &Seen<'_>, host: &Host, alarms: &mut Vec<String>) {
    for (key, base) in &seen.meta.bases {
        let Some((image, section)) = key.split_once(' ').filter(|(i, _)| *i != VMLINUX) else {
            continue;
        };
        if !host.module_loaded(image) {
            alarms.push(format!("module {image} was removed"));
        } else if host.section(image, section).is_ok_and(|now| now != *base) {
            alarms.push(format!(
                "module {image} was loaded again: its {section} has moved and is not checked"
            ));
        }
    }
    alarms.dedup();
}

fn switches(seen: &Seen<'_>, host: &Host, alarms: &mut Vec<String>) {
    if seen.meta.guarded.is_some() {
        if sysctl::get(host, sysctl::OPTIMIZATION).is_some_and(|v| v != "0") {
            alarms.push(format!(
                "{} was switched on again: writes at optimised probes cannot be prevented",
                sysctl::OPTIMIZATION
            ));
        }
        if !seen.guard_loaded {
            alarms.push("otf_guard was removed".into());
        } else if !seen.frees_followed {
            alarms.push(
                "the guard does not follow frees any more: records of freed objects stay".into(),
            );
        }
    }
    if sysctl::get(host, sysctl::FTRACE).is_some_and(|v| v == "0") {
        alarms.push(format!(
            "{} is 0: probes at function entries do not fire",
            sysctl::FTRACE
        ));
    }
}

fn armed(seen: &Seen<'_>, list: &kprobes::List, alarms: &mut Vec<String>) {
    if !list.enabled {
        alarms.push("kprobes are switched off (/sys/kernel/debug/kprobes/enabled)".into());
    }
    let addresses: BTreeSet<u64> = seen
        .link_addresses
        .iter()
        .copied()
        .filter(|a| *a != 0)
        .collect();
    let count = |test: fn(&kprobes::Flags) -> bool| {
        addresses
            .iter()
            .filter(|a| list.probes.get(a).is_some_and(test))
            .count()
    };
    let optimized = if seen.meta.action == Action::Deny {
        count(|f| f.optimized)
    } else {
        0
    };
    for (found, what) in [
        (
            addresses.len() - count(|_| true),
            "are not in the kernel's list",
        ),
        (count(|f| f.gone), "are gone: their module was removed"),
        (count(|f| f.disabled), "are disabled"),
        (optimized, "are optimised: writes there cannot be prevented"),
    ] {
        if found > 0 {
            alarms.push(format!("{found} probes {what}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::fs;

    fn check(change: impl FnOnce(&mut Seen<'_>, &testing::Machine)) -> Vec<String> {
        let machine = testing::Machine::new();
        fs::write(
            machine.host.proc.join("sys/debug/kprobes-optimization"),
            "0\n",
        )
        .unwrap();
        let meta = testing::meta();
        let probes = BTreeMap::from([(
            "otf_site",
            Attached {
                planned: 1,
                attached: 1,
            },
        )]);
        let mut seen = Seen {
            meta: &meta,
            running_action: Action::Deny as u32,
            probes: &probes,
            link_addresses: &[1, 2],
            missed_hits: 0,
            counters: &BTreeMap::from([(Counter::Checks, 5)]),
            recursion_misses: &BTreeMap::from([("otf_site".into(), 0)]),
            kernel_list: Some(kprobes::List {
                enabled: true,
                probes: BTreeMap::from([
                    (1, kprobes::Flags::default()),
                    (2, kprobes::Flags::default()),
                ]),
            }),
            guard_loaded: true,
            frees_followed: true,
        };
        change(&mut seen, &machine);
        alarms(&seen, &machine.host)
    }

    #[test]
    fn all_is_well() {
        assert_eq!(check(|_, _| ()), Vec::<String>::new());
    }

    #[test]
    fn each_way_to_fail_open_has_its_alarm() {
        let gone = check(|seen, _| {
            let list = seen.kernel_list.as_mut().unwrap();
            list.probes.get_mut(&1).unwrap().gone = true;
        });
        assert_eq!(gone, ["1 probes are gone: their module was removed"]);
        let lost = check(|seen, _| {
            seen.kernel_list.as_mut().unwrap().probes.remove(&2);
        });
        assert_eq!(lost, ["1 probes are not in the kernel's list"]);
        let off = check(|seen, _| seen.kernel_list.as_mut().unwrap().enabled = false);
        assert_eq!(off.len(), 1);
        let sysctl = check(|_, machine| {
            fs::write(
                machine.host.proc.join("sys/debug/kprobes-optimization"),
                "1\n",
            )
            .unwrap();
        });
        assert!(sysctl[0].contains("switched on again"), "{sysctl:?}");
        let action = check(|seen, _| seen.running_action = 0);
        assert_eq!(action, ["the action in force is not deny"]);
        let missed = check(|seen, _| seen.missed_hits = 3);
        assert_eq!(missed, ["the kernel missed 3 hits of probes"]);
        let guard = check(|seen, _| seen.guard_loaded = false);
        assert_eq!(guard, ["otf_guard was removed"]);
    }

    #[test]
    fn a_module_that_moved_is_noticed() {
        let moved = check(|_, machine| {
            let section = machine.host.sys.join("module/sch_qfq/sections/.text");
            fs::write(section, "0xffffffffc0bb0000\n").unwrap();
        });
        assert!(moved[0].contains("loaded again"), "{moved:?}");
        let removed = check(|_, machine| {
            fs::remove_dir_all(machine.host.sys.join("module/sch_qfq")).unwrap();
        });
        assert_eq!(removed, ["module sch_qfq was removed"]);
    }
}
