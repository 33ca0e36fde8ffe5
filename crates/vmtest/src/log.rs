//! What a guest and QEMU said, in the order in which it arrived.

use std::{fmt::Write, time::Duration};

use crate::watch;

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The kernel, on the first serial port.
    Kernel,
    /// The steps of the plan, on the second serial port, and QEMU's own complaints.
    Test,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Who said it.
    pub source: Source,
    /// Since QEMU was started.
    pub at: Duration,
    /// Without the line end.
    pub text: String,
}

/// The whole log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// In order of arrival.
    pub lines: Vec<Line>,
}

/// Lines before the first sign of trouble that are worth reading.
const BEFORE: usize = 20;
/// Lines after it.
const AFTER: usize = 40;

impl Log {
    /// Lines of one source.
    pub fn of(&self, source: Source) -> impl Iterator<Item = &str> {
        self.lines
            .iter()
            .filter(move |line| line.source == source)
            .map(|line| line.text.as_str())
    }

    /// The whole log for people: seconds, `k` or `t` for the source, text.
    pub fn render(&self) -> String {
        render(&self.lines)
    }

    /// What a person reads first: around the first sign of trouble or the first failed test,
    /// else the end.
    pub fn relevant(&self) -> String {
        let sign = self.lines.iter().position(|line| match line.source {
            Source::Kernel => watch::trouble(&line.text).is_some(),
            Source::Test => line.text.starts_with("OTF-TEST ") && line.text.contains(" FAIL"),
        });
        let center = sign.unwrap_or(self.lines.len());
        let start = center.saturating_sub(BEFORE);
        let end = (center + AFTER).min(self.lines.len());
        render(&self.lines[start..end])
    }
}

fn render(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        let source = match line.source {
            Source::Kernel => 'k',
            Source::Test => 't',
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:7.2} {source} {}", line.at.as_secs_f32(), line.text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[(Source, &str)]) -> Log {
        let lines = lines.iter().map(|&(source, text)| Line {
            source,
            at: Duration::ZERO,
            text: text.to_owned(),
        });
        Log {
            lines: lines.collect(),
        }
    }

    #[test]
    fn the_relevant_part_is_around_the_first_failure() {
        let mut lines = vec![(Source::Test, "early"); 100];
        lines.push((Source::Test, "OTF-TEST x FAIL because"));
        lines.extend(vec![(Source::Test, "late"); 100]);
        let relevant = log(&lines).relevant();
        assert_eq!(relevant.matches("early").count(), BEFORE);
        assert_eq!(relevant.matches("late").count(), AFTER - 1);
        assert!(relevant.contains("FAIL because"));
    }

    #[test]
    fn without_failure_the_end_is_relevant() {
        let mut lines = vec![(Source::Kernel, "boot"); 100];
        lines.push((Source::Kernel, "the end"));
        assert!(log(&lines).relevant().ends_with("k the end\n"));
    }
}
