//! What `otf-load events` and `otf-load status` said, as far as flows judge it.

use otf_vmtest::report::{Observation, Report};
use serde_json::Value;

use super::checks::Checks;

/// An event of a loaded policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Only reported in the transition phase: the object has no provenance, but fits.
    pub unknown: bool,
    /// Stable name of what was done.
    pub done: String,
    /// Whether the write did not happen.
    pub prevented: bool,
    /// File and line of every frame of the inlining chain, innermost first.
    pub places: Vec<(String, u64)>,
    /// Rules that refuse it, each taken alone: those for heap objects, or what else it is.
    pub rules: Vec<String>,
    /// For people: place, instruction, what was found, what was done.
    pub text: String,
}

impl Event {
    fn parse(json: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(json).ok()?;
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        let file = text("/site/file")?;
        let line = value.pointer("/site/line")?.as_u64()?;
        let chain = value.pointer("/site/chain")?.as_array()?.iter();
        let places = chain.map(|frame| {
            let file = frame.get("file")?.as_str()?.to_owned();
            Some((file, frame.get("line")?.as_u64()?))
        });
        let reason = text("/reason")?;
        let phase = text("/phase")?;
        let mut rules: Vec<String> = value
            .get("rules")
            .and_then(Value::as_array)
            .map(|rules| {
                rules
                    .iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect()
            })
            .unwrap_or_default();
        if rules.is_empty() {
            rules.push(match reason {
                "bad_target" => "calls".to_owned(),
                "bad_return" => "returns".to_owned(),
                "bad_free" => "frees".to_owned(),
                _ => text("/class")?.to_owned(),
            });
        }
        Some(Self {
            rules,
            unknown: reason == "unknown" && phase == "transition",
            done: text("/done")?.to_owned(),
            prevented: value.pointer("/prevented")?.as_bool()?,
            text: format!(
                "{file}:{line} `{}`: {}; {}",
                text("/site/instruction").unwrap_or_default(),
                text("/reason_text").unwrap_or(reason),
                text("/done_text").unwrap_or_default(),
            ),
            places: places.collect::<Option<_>>()?,
        })
    }

    /// Whether the event names a line of this file.
    pub fn names(&self, file: &str) -> bool {
        self.places.iter().any(|(f, line)| f == file && *line > 0)
    }
}

/// Violations (not unknown objects) that were observed at a label. A line that is no event is a
/// failed check.
pub fn violations(report: &Report, label: &str, checks: &mut Checks) -> Vec<Event> {
    let mut events = Vec::new();
    for Observation { json, .. } in report.events.iter().filter(|e| e.label == label) {
        match Event::parse(json) {
            Some(event) => events.push(event),
            None => checks.add(
                format!("{label}.event"),
                false,
                format!("not understood: {json}"),
            ),
        }
    }
    events.retain(|event| !event.unknown);
    events
}

/// Ordinary use, whose labels begin with `ordinary`, violates nothing.
pub fn ordinary_is_legal(report: &Report, checks: &mut Checks) {
    let mut labels: Vec<&str> = report
        .states
        .iter()
        .map(|state| state.label.as_str())
        .filter(|label| label.starts_with("ordinary"))
        .collect();
    labels.dedup();
    checks.add(
        "ordinary_use_was_observed",
        !labels.is_empty(),
        labels.len().to_string(),
    );
    for label in labels {
        let found = violations(report, label, checks);
        let seen = found.first().map_or_else(
            || "0 violations".to_owned(),
            |first| format!("{} violations, {}", found.len(), first.text),
        );
        checks.add(format!("{label}.no_violation"), found.is_empty(), seen);
    }
}

/// Nothing failed open in any observed state, as far as the policy counts it.
pub fn nothing_failed_open(report: &Report, checks: &mut Checks) {
    for name in ["deny_failed", "events_lost", "bad_cookie", "frames_lost"] {
        let pointer = format!("/counters/{name}");
        let counts: Option<Vec<u64>> = report
            .states
            .iter()
            .map(|state| {
                let value: Value = serde_json::from_str(&state.json).ok()?;
                let state = value
                    .as_array()
                    .and_then(|all| all.first())
                    .unwrap_or(&value);
                state.pointer(&pointer)?.as_u64()
            })
            .collect();
        match counts {
            Some(counts) if !counts.is_empty() => {
                let most = counts.iter().max().copied().unwrap_or_default();
                checks.add(format!("counter.{name}"), most == 0, most.to_string());
            }
            _ => checks.add(
                format!("counter.{name}"),
                false,
                "otf-load status does not say it",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"reason":"bad_layout","reason_text":"no such place","done":"unwound",
        "done_text":"prevented","prevented":true,"phase":"transition","class":"slab",
        "site":{"file":"net/sched/sch_qfq.c","line":1300,"instruction":"mov [rbx],r12",
        "chain":[{"file":"net/sched/sch_qfq.c","line":1300}]}}"#;

    fn report(events: &[(&str, &str)]) -> Report {
        let mut report = Report::default();
        for (label, json) in events {
            assert!(report.note(&format!("OTF-EVENT {label} {}", json.replace('\n', " "))));
            assert!(report.note(&format!("OTF-STATUS {label} {{}}")));
        }
        report
    }

    #[test]
    fn an_event_is_understood() {
        let mut checks = Checks::default();
        let found = violations(&report(&[("a", EVENT), ("b", EVENT)]), "a", &mut checks);
        assert_eq!(found.len(), 1);
        assert!(found[0].prevented && found[0].names("net/sched/sch_qfq.c"));
        assert!(!found[0].names("net/sched/sch_htb.c"));
        assert!(checks.list.is_empty());
    }

    #[test]
    fn unknown_objects_are_violations_in_the_working_phase_only() {
        let transition = EVENT.replace("bad_layout", "unknown");
        let working = transition.replace("transition", "working");
        let report = report(&[("a", &transition), ("b", &working)]);
        let mut checks = Checks::default();
        assert!(violations(&report, "a", &mut checks).is_empty());
        assert_eq!(violations(&report, "b", &mut checks).len(), 1);
    }

    #[test]
    fn ordinary_use_that_violates_or_was_not_seen_fails() {
        let mut checks = Checks::default();
        ordinary_is_legal(&report(&[("ordinary.x", EVENT)]), &mut checks);
        assert_eq!(checks.failed(), 1);
        let mut checks = Checks::default();
        ordinary_is_legal(&report(&[("attack", EVENT)]), &mut checks);
        assert_eq!(checks.failed(), 1);
        let mut checks = Checks::default();
        violations(&report(&[("a", "{}")]), "a", &mut checks);
        assert_eq!(checks.failed(), 1);
    }

    #[test]
    fn a_counter_that_is_missing_or_not_zero_fails() {
        let judge = |json: &str| {
            let mut report = Report::default();
            report.note(&format!("OTF-STATUS end {json}"));
            let mut checks = Checks::default();
            nothing_failed_open(&report, &mut checks);
            checks.failed()
        };
        let zero =
            r#"{"counters":{"deny_failed":0,"events_lost":0,"bad_cookie":0,"frames_lost":0}}"#;
        assert_eq!(judge(zero), 0);
        assert_eq!(judge(&format!("[{zero}]")), 0);
        assert_eq!(judge(&zero.replace("lost\":0", "lost\":3")), 2);
        assert_eq!(judge("{}"), 4);
    }
}
