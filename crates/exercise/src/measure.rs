//! Rounds of an operation.

use std::{collections::BTreeMap, fmt::Write as _, io};

use crate::{clock, programs};

/// Something that can be repeated.
pub trait Operation {
    /// Runs it so many times.
    fn run(&mut self, count: u64) -> io::Result<()>;

    /// A smaller count whose run is taken off, with all that is no part of the operation: starting a program, or at least
    /// the measuring itself.
    fn less(&self) -> u64 {
        0
    }

    /// Puts things back before a run; not measured.
    fn before(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What one run took.
struct Taken {
    busy: u64,
    hits: BTreeMap<String, u64>,
}

impl Taken {
    fn without(mut self, other: &Self) -> Self {
        self.busy = self.busy.saturating_sub(other.busy);
        for (program, hits) in &mut self.hits {
            *hits = hits.saturating_sub(other.hits.get(program).copied().unwrap_or(0));
        }
        self
    }
}

/// Warms up, measures each round, counts hits in one more; the JSON object.
pub fn measure(
    name: &str,
    count: u64,
    rounds: u32,
    operation: &mut dyn Operation,
) -> io::Result<String> {
    let warm_up = match operation.less() {
        0 => count.div_ceil(4),
        less => less,
    };
    operation.before()?;
    operation.run(warm_up)?;
    let mut busy = Vec::new();
    for _ in 0..rounds {
        busy.push(round(operation, count, &[])?.busy);
    }
    let loaded = programs::loaded(programs::BPFFS)?;
    let counting = programs::Counting::new()?;
    let hits = round(operation, count, &loaded)?.hits;
    drop(counting);
    Ok(line(name, count, &busy, &hits))
}

fn round(
    operation: &mut dyn Operation,
    count: u64,
    loaded: &[programs::Loaded],
) -> io::Result<Taken> {
    let less = operation.less();
    let few = once(operation, less, loaded)?;
    Ok(once(operation, less + count, loaded)?.without(&few))
}

fn once(
    operation: &mut dyn Operation,
    count: u64,
    loaded: &[programs::Loaded],
) -> io::Result<Taken> {
    operation.before()?;
    let hits_before = programs::runs(loaded)?;
    let busy_before = clock::busy()?;
    operation.run(count)?;
    let busy = clock::busy()? - busy_before;
    let mut hits = programs::runs(loaded)?;
    for (program, runs) in &mut hits {
        *runs -= hits_before.get(program).copied().unwrap_or(0);
    }
    Ok(Taken { busy, hits })
}

fn line(name: &str, count: u64, busy: &[u64], hits: &BTreeMap<String, u64>) -> String {
    let mut line =
        format!("{{\"operation\":\"{name}\",\"count\":{count},\"busy\":{busy:?},\"hits\":{{");
    let mut comma = "";
    for (program, runs) in hits.iter().filter(|(_, runs)| **runs > 0) {
        // Writing to a string cannot fail.
        let _ = write!(line, "{comma}\"{program}\":{runs}");
        comma = ",";
    }
    line.push_str("}}");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fewer_repetitions_take_is_taken_off() {
        let more = Taken {
            busy: 100,
            hits: BTreeMap::from([("otf_site".to_owned(), 50), ("otf_call".to_owned(), 3)]),
        };
        let few = Taken {
            busy: 40,
            hits: BTreeMap::from([("otf_site".to_owned(), 20)]),
        };
        let taken = more.without(&few);
        assert_eq!(taken.busy, 60);
        let line = line("x", 2, &[60, 61], &taken.hits);
        assert_eq!(
            line,
            r#"{"operation":"x","count":2,"busy":[60, 61],"hits":{"otf_call":3,"otf_site":30}}"#
        );
    }
}
