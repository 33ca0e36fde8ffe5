//! What the guest says about its tests: marked lines and one verdict line.

use std::fmt;

/// `OTF-TEST name PASS|FAIL reason`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestLine {
    /// Name, without spaces.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// Why, where the test says it.
    pub reason: String,
}

impl fmt::Display for TestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed { "PASS" } else { "FAIL" };
        write!(f, "OTF-TEST {} {verdict}", self.name)?;
        if self.reason.is_empty() {
            Ok(())
        } else {
            write!(f, " {}", self.reason)
        }
    }
}

/// `OTF-EVENT label json` or `OTF-STATUS label json`: what `otf-load` said at a place in the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Where in the script.
    pub label: String,
    /// One JSON value.
    pub json: String,
}

/// All that the guest reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Tests in the order of their lines.
    pub tests: Vec<TestLine>,
    /// Events of a loaded policy, in order.
    pub events: Vec<Observation>,
    /// States of a loaded policy, in order.
    pub states: Vec<Observation>,
    /// `OTF-VERDICT pass=N fail=M`, once the guest has come to its end.
    pub verdict: Option<(usize, usize)>,
}

impl Report {
    /// Takes note of a line of the test console; whether it was a marked one.
    pub fn note(&mut self, line: &str) -> bool {
        if let Some(test) = parse_test(line) {
            self.tests.push(test);
        } else if let Some(verdict) = parse_verdict(line) {
            self.verdict = Some(verdict);
        } else if let Some(event) = parse_observation(line, "OTF-EVENT ") {
            self.events.push(event);
        } else if let Some(state) = parse_observation(line, "OTF-STATUS ") {
            self.states.push(state);
        } else {
            return false;
        }
        true
    }

    /// How many tests passed and failed, counted from their lines.
    pub fn counted(&self) -> (usize, usize) {
        let passed = self.tests.iter().filter(|t| t.passed).count();
        (passed, self.tests.len() - passed)
    }

    /// The test with this name; the last one, should the name have been used again.
    pub fn test(&self, name: &str) -> Option<&TestLine> {
        self.tests.iter().rev().find(|t| t.name == name)
    }
}

fn parse_test(line: &str) -> Option<TestLine> {
    let mut words = line.strip_prefix("OTF-TEST ")?.splitn(3, ' ');
    let name = words.next().filter(|name| !name.is_empty())?.to_owned();
    let passed = match words.next()? {
        "PASS" => true,
        "FAIL" => false,
        _ => return None,
    };
    let reason = words.next().unwrap_or_default().trim().to_owned();
    Some(TestLine {
        name,
        passed,
        reason,
    })
}

fn parse_observation(line: &str, mark: &str) -> Option<Observation> {
    let (label, json) = line.strip_prefix(mark)?.split_once(' ')?;
    Some(Observation {
        label: label.to_owned(),
        json: json.to_owned(),
    })
}

fn parse_verdict(line: &str) -> Option<(usize, usize)> {
    let (pass, fail) = line
        .strip_prefix("OTF-VERDICT pass=")?
        .split_once(" fail=")?;
    Some((pass.parse().ok()?, fail.trim_end().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn test_line() -> impl Strategy<Value = TestLine> {
        (
            "[!-~]{1,12}",
            any::<bool>(),
            "([!-~]{1,8}( [!-~]{1,8}){0,4})?",
        )
            .prop_map(|(name, passed, reason)| TestLine {
                name,
                passed,
                reason,
            })
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(tests in prop::collection::vec(test_line(), 0..20), noise in "[a-z ]{0,20}") {
            let mut report = Report::default();
            for test in &tests {
                prop_assert!(!report.note(&noise));
                prop_assert!(report.note(&test.to_string()));
            }
            let (pass, fail) = report.counted();
            let verdict = format!("OTF-VERDICT pass={pass} fail={fail}");
            prop_assert!(report.note(&verdict));
            prop_assert_eq!(&report.tests, &tests);
            prop_assert_eq!(report.verdict, Some((pass, fail)));
            prop_assert_eq!(pass + fail, tests.len());
        }

        #[test]
        fn no_line_is_too_strange(line in any::<String>(), tail in "[ -~]{0,30}") {
            let mut report = Report::default();
            report.note(&line);
            report.note(&format!("OTF-TEST {tail}"));
            report.note(&format!("OTF-VERDICT {tail}"));
            prop_assert!(report.tests.len() <= 2);
        }
    }

    #[test]
    fn observations_keep_their_label() {
        let mut report = Report::default();
        assert!(report.note(r#"OTF-EVENT attack.1 {"a": "b c"}"#));
        assert!(report.note("OTF-STATUS end {}"));
        assert_eq!(report.events[0].label, "attack.1");
        assert_eq!(report.events[0].json, r#"{"a": "b c"}"#);
        assert_eq!(report.states[0].label, "end");
    }

    #[test]
    fn half_a_line_is_no_test() {
        for line in [
            "OTF-TEST",
            "OTF-TEST name",
            "OTF-TEST name PASSED",
            " OTF-TEST name PASS",
            "OTF-VERDICT pass=1",
            "OTF-VERDICT pass=1 fail=x",
        ] {
            assert!(!Report::default().note(line), "{line}");
        }
    }
}
