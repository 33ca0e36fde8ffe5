//! Progress of long steps, as `tracing` events with target `otf::progress`.

use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

use tracing::info;

/// At most one event per this time.
const EVERY: Duration = Duration::from_secs(2);

/// Reports how far one step is.
pub struct Meter {
    what: String,
    total: u64,
    last: Instant,
}

impl Meter {
    /// A step of `total` bytes.
    pub fn new(what: impl Into<String>, total: u64) -> Self {
        Self {
            what: what.into(),
            total,
            last: Instant::now(),
        }
    }

    /// So many bytes are done.
    pub fn at(&mut self, done: u64) {
        if self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            let percent = done.saturating_mul(100) / self.total.max(1);
            info!(target: "otf::progress", "{}: {percent} %", self.what);
        }
    }
}

/// Reports how many things of one step are done, where nobody knows how many there will be.
pub struct Counter {
    what: String,
    things: &'static str,
    done: u64,
    last: Instant,
}

impl Counter {
    /// `what` is the step, `things` what is counted.
    pub fn new(what: impl Into<String>, things: &'static str) -> Self {
        Self {
            what: what.into(),
            things,
            done: 0,
            last: Instant::now(),
        }
    }

    /// One more is done.
    pub fn one(&mut self) {
        self.done += 1;
        if self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            info!(target: "otf::progress", "{}: {} {}", self.what, self.done, self.things);
        }
    }
}

/// A reader that reports how much of it was read.
pub struct Metered<R> {
    inner: R,
    meter: Meter,
    done: u64,
}

impl<R> Metered<R> {
    /// Reports through `meter`.
    pub fn new(inner: R, meter: Meter) -> Self {
        Self {
            inner,
            meter,
            done: 0,
        }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.done += n as u64;
        self.meter.at(self.done);
        Ok(n)
    }
}
