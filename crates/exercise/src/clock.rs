//! How long the processor was busy: its time without what it idled away.
//!
//! The scheduler adds up how long tasks ran (`/proc/schedstat`, nanoseconds); it adds a stretch when a task leaves the
//! processor. So a short sleep comes before each reading, and only what a reading itself costs is not seen.

use std::{fs, io, thread, time::Duration};

/// Nanoseconds for which tasks ran on the processor, the caller up to its last sleep included.
pub fn busy() -> io::Result<u64> {
    thread::sleep(Duration::from_micros(1));
    running(&fs::read_to_string("/proc/schedstat")?)
        .ok_or_else(|| io::Error::other("/proc/schedstat has no line of a processor"))
}

/// Sum over processors of the seventh field: time spent running by tasks.
fn running(text: &str) -> Option<u64> {
    text.lines()
        .filter(|line| line.starts_with("cpu"))
        .map(|line| line.split_ascii_whitespace().nth(7)?.parse().ok())
        .try_fold(None, |sum: Option<u64>, one: Option<u64>| {
            one.map(|one| Some(sum.unwrap_or(0) + one))
        })
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seventh_field_of_each_processor_is_added() {
        let text = "version 16\ntimestamp 1\ncpu0 1 0 3 4 5 6 700 8 9\ndomain0 1 7\ncpu1 1 0 3 4 5 6 30 8 9\n";
        assert_eq!(running(text), Some(730));
        assert_eq!(running("version 16\n"), None);
        assert_eq!(running("cpu0 1 2\n"), None);
    }
}
