//! One event of the ring buffer → what a person or a program wants to know about it.

use otf_artifact::{
    abi::{self, Class, Done, Phase, Reason},
    places::Frame,
};
use serde::Serialize;

use crate::bind::label;
use crate::meta::Meta;
use crate::{pod, time};

/// The row that means "none".
const NONE: u32 = u32::MAX;

/// Names of the rules of `enum otf_rule`.
const RULES: [(u8, &str); 3] = [
    (abi::RULE_LAYOUT, "layout"),
    (abi::RULE_PROVENANCE, "provenance"),
    (abi::RULE_SAME_OBJECT, "same object"),
];

/// An event with everything looked up; one NDJSON line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// UTC, RFC 3339 with nanoseconds.
    pub time: String,
    /// Compartment.
    pub compartment: String,
    /// What was found.
    pub reason: &'static str,
    /// In words.
    pub reason_text: &'static str,
    /// What was done about it.
    pub done: &'static str,
    /// In words.
    pub done_text: &'static str,
    /// Whether the write did not happen.
    pub prevented: bool,
    /// `transition` or `working`.
    pub phase: &'static str,
    /// Who ran the code.
    pub task: Task,
    /// Which instruction.
    pub site: Site,
    /// First byte that was to be written or freed; of a call or return, where it was to lead.
    pub address: Hex,
    /// The function there, of a call or return: `symbol+0xoffset [image]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Bytes.
    pub length: u64,
    /// Where the address lies.
    pub class: &'static str,
    /// The heap object there, if one is known.
    pub object: Option<Object>,
    /// Which rules for heap objects refuse it, each taken alone: `layout`, `provenance`,
    /// `same object`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<&'static str>,
    /// What the instruction may write.
    pub legal: String,
    /// The gate through which the compartment was entered.
    pub gate: Option<String>,
    /// On whose behalf.
    pub instance: Option<Hex>,
}

/// Who ran the code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Task {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Name of the thread.
    pub comm: String,
    /// CPU.
    pub cpu: u32,
    /// The work was not done for this task: it was merely interrupted.
    pub in_interrupt: bool,
}

/// Which instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Site {
    /// Row in the table of sites.
    pub row: u32,
    /// `symbol+0xoffset [image]`.
    pub symbol: String,
    /// Disassembled.
    pub instruction: String,
    /// Address at run time.
    pub ip: Hex,
    /// Of the innermost frame.
    pub file: String,
    /// Of the innermost frame.
    pub line: u32,
    /// Inlining chain, innermost first.
    pub chain: Vec<Frame>,
}

/// A heap object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Object {
    /// First byte.
    pub start: Hex,
    /// Bytes.
    pub size: u64,
    /// Where in it the write was to begin.
    pub offset: i64,
    /// Slab cache.
    pub cache: Option<String>,
    /// Where it was allocated, if that was recorded.
    pub allocation: Option<String>,
}

/// An address; `0x…` in JSON, where a number would lose digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hex(pub u64);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::fmt::Display for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Reads an event and looks its rows up. `None` for bytes of another format.
///
/// `boot` is the wall clock at boot, in nanoseconds; `name_of` says what code lies at an address.
pub fn decode(
    raw: &[u8],
    meta: &Meta,
    boot: u64,
    name_of: &dyn Fn(u64) -> String,
) -> Option<Event> {
    let raw: abi::Event = pod::read(raw)?;
    let reason = Reason::from_raw(raw.reason.into())?;
    let done = Done::from_raw(raw.done.into())?;
    let class = Class::from_raw(raw.class.into())?;
    let phase = Phase::from_raw(raw.phase.into())?;
    let plan = &meta.plan;
    let site = plan.checked_at(raw.site);
    let place = site.and_then(|s| s.chain.first());
    let cache = pod::text(&raw.cache);
    Some(Event {
        time: time::rfc3339(boot.saturating_add(raw.time)),
        compartment: meta.manifest.compartment.clone(),
        reason: reason_name(reason),
        reason_text: reason.text(),
        done: done_name(done),
        done_text: done.text(),
        prevented: matches!(done, Done::Unwound | Done::Skipped | Done::SkippedOnly),
        phase: phase.text(),
        task: Task {
            pid: raw.pid,
            tid: raw.tid,
            comm: pod::text(&raw.comm),
            cpu: raw.cpu,
            in_interrupt: raw.in_interrupt != 0,
        },
        site: Site {
            row: raw.site,
            symbol: site.map_or_else(|| "?".into(), |s| label(plan, &s.location)),
            instruction: site.map_or_else(String::new, |s| s.text.clone()),
            ip: Hex(raw.ip),
            file: place.map_or_else(String::new, |p| p.file.clone()),
            line: place.map_or(0, |p| p.line),
            chain: site.map_or_else(Vec::new, |s| s.chain.clone()),
        },
        address: Hex(raw.address),
        target: matches!(reason, Reason::BadTarget | Reason::BadReturn)
            .then(|| name_of(raw.address)),
        length: raw.length,
        class: class.text(),
        object: (raw.object != 0).then(|| Object {
            start: Hex(raw.object),
            size: raw.object_size,
            offset: raw.address.wrapping_sub(raw.object) as i64,
            cache: (!cache.is_empty()).then_some(cache),
            allocation: (raw.alloc != NONE)
                .then(|| plan.allocations.get(raw.alloc as usize).cloned())
                .flatten(),
        }),
        rules: RULES
            .iter()
            .filter(|(bit, _)| raw.rules & bit != 0)
            .map(|(_, name)| *name)
            .collect(),
        legal: site.map_or_else(String::new, |s| s.legal.clone()),
        gate: (raw.gate != NONE)
            .then(|| {
                plan.gates
                    .get(raw.gate as usize)
                    .map(|g| g.function.clone())
            })
            .flatten(),
        instance: (raw.instance != 0).then_some(Hex(raw.instance)),
    })
}

/// Stable names for programs; the texts may change.
fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Ok => "ok",
        Reason::Unknown => "unknown",
        Reason::BadClass => "bad_class",
        Reason::BadGlobal => "bad_global",
        Reason::BadStack => "bad_stack",
        Reason::BadLayout => "bad_layout",
        Reason::BadBounds => "bad_bounds",
        Reason::BadProvenance => "bad_provenance",
        Reason::Freed => "freed",
        Reason::BadAddress => "bad_address",
        Reason::BadTarget => "bad_target",
        Reason::BadReturn => "bad_return",
        Reason::BadFree => "bad_free",
        Reason::OtherObject => "other_object",
    }
}

fn done_name(done: Done) -> &'static str {
    match done {
        Done::Reported => "reported",
        Done::Killed => "killed",
        Done::KillImpossible => "kill_impossible",
        Done::Unwound => "unwound",
        Done::Skipped => "skipped",
        Done::SkippedOnly => "skipped_only",
        Done::DenyFailed => "deny_failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    fn nowhere(_: u64) -> String {
        "?".into()
    }

    #[test]
    fn calls_say_where_they_lead() {
        let mut raw = testing::event();
        (raw.reason, raw.site) = (Reason::BadTarget as u8, 1);
        let event = decode(pod::bytes(&raw), &testing::meta(), 0, &|a| {
            format!("at {a:#x}")
        });
        let event = event.unwrap();
        assert_eq!(event.reason, "bad_target");
        assert_eq!(event.target.as_deref(), Some("at 0xffff888004201ff0"));
        assert_eq!(event.site.instruction, "call __x86_indirect_thunk_rax");
        assert_eq!(event.legal, "call of vmlinux:pfifo_enqueue");
    }

    #[test]
    fn every_row_is_looked_up() {
        let raw = testing::event();
        let event = decode(pod::bytes(&raw), &testing::meta(), 1_000_000_000, &nowhere).unwrap();
        assert_eq!(event.time, "1970-01-01T00:00:03.000000005Z");
        assert_eq!((event.reason, event.done), ("bad_layout", "unwound"));
        assert_eq!(event.rules, ["layout"]);
        assert!(event.prevented);
        assert_eq!(event.site.symbol, "qfq_schedule_agg+0x55 [sch_qfq]");
        assert_eq!(
            (event.site.file.as_str(), event.site.line),
            ("net/sched/sch_qfq.c", 1300)
        );
        assert_eq!(event.gate.as_deref(), Some("qfq_enqueue"));
        let object = event.object.unwrap();
        assert_eq!(
            (object.offset, object.cache.as_deref()),
            (8192 - 16, Some("kmalloc-8k"))
        );
        assert_eq!(
            object.allocation.as_deref(),
            Some("qdisc_alloc, net/sched/sch_generic.c:952")
        );
    }

    #[test]
    fn rows_that_do_not_exist_are_no_panic() {
        let mut raw = testing::event();
        (raw.site, raw.gate, raw.alloc, raw.object) = (99, NONE, 99, 0);
        let event = decode(pod::bytes(&raw), &testing::meta(), 0, &nowhere).unwrap();
        assert_eq!(event.site.symbol, "?");
        assert_eq!((event.gate, event.object), (None, None));
    }

    proptest! {
        #[test]
        fn never_panics(raw in proptest::collection::vec(any::<u8>(), 0..200), boot: u64) {
            let _ = decode(&raw, &testing::meta(), boot, &nowhere);
        }
    }
}
