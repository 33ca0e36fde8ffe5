//! Runs one kernel with one initramfs in QEMU until it powers off, or until it must be stopped.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use otf_artifact::diagnostic::{Code, Diagnostic};

use crate::{
    archive::Archive,
    error,
    log::{Line, Log, Source},
    program,
    report::Report,
    watch::{self, Trouble},
};

/// How long the kernel may go on to describe its trouble before QEMU is stopped.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How the guest's processor is emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// As fast as emulation goes.
    Tcg,
    /// All CPUs in turns in one thread: for runs in which the kernel patches its text all the time.
    /// With a thread for each an `Oops: int3` came twice out of the kernel's own patching, of a
    /// tracepoint and of a static key far from any probe: a CPU met a breakpoint that the
    /// kernel had taken out and had waited for all CPUs to see gone.
    RoundRobin,
    /// Guest time counts instructions, 2^shift ns each: the same on every run; one CPU only.
    Icount {
        /// Binary logarithm of the nanoseconds per instruction.
        shift: u8,
    },
}

/// A disk of the machine: a raw image.
#[derive(Clone, Debug)]
pub struct Drive {
    /// The image.
    pub file: PathBuf,
    /// What becomes of what the guest writes.
    pub writes: Writes,
}

/// What becomes of a guest's writes to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// They are kept.
    Kept,
    /// They are gone when the machine ends.
    Dropped,
    /// There can be none.
    Refused,
}

impl Drive {
    /// QEMU's words for it. A comma in a value is doubled.
    fn option(&self) -> String {
        let file = self.file.display().to_string().replace(',', ",,");
        let writes = match self.writes {
            Writes::Kept => "cache=unsafe",
            Writes::Dropped => "snapshot=on",
            Writes::Refused => "readonly=on",
        };
        format!("file={file},if=virtio,format=raw,{writes}")
    }
}

/// A machine to run.
#[derive(Clone, Debug)]
pub struct Vm {
    /// Boot image (`vmlinuz`).
    pub kernel: PathBuf,
    /// Root of the guest; see [`crate::guest::Guest`].
    pub initramfs: Archive,
    /// Disks: `/dev/vda`, `/dev/vdb`, … in this order, for a guest that has virtio's drivers.
    pub drives: Vec<Drive>,
    /// Words added to the kernel's command line.
    pub append: String,
    /// CPUs.
    pub smp: u32,
    /// MiB.
    pub memory: u32,
    /// Wall time after which QEMU is stopped.
    pub time_limit: Duration,
    /// How it is emulated.
    pub accel: Accel,
    /// Processor, as QEMU names it.
    pub cpu: String,
    /// The least severe trouble that ends the run. A run that shows an attack without protection
    /// may say [`Trouble::Panic`].
    pub stop_on: Trouble,
}

impl Vm {
    /// One CPU, 1 GiB, two minutes, ends at the first oops or stall.
    pub fn new(kernel: impl Into<PathBuf>, initramfs: Archive) -> Self {
        Self {
            kernel: kernel.into(),
            initramfs,
            drives: Vec::new(),
            append: String::new(),
            smp: 1,
            memory: 1024,
            time_limit: Duration::from_mins(2),
            accel: Accel::Tcg,
            cpu: "max".to_owned(),
            stop_on: Trouble::Stall,
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The guest came to its end and every test passed.
    Passed,
    /// The guest came to its end; this many tests failed.
    Failed(usize),
    /// The kernel was in trouble: the line that told.
    Crashed(Trouble, String),
    /// Stopped at the time limit.
    TimedOut,
    /// QEMU ended without a verdict of the guest, or test lines were lost.
    Incomplete(String),
}

/// What a run showed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub verdict: Verdict,
    /// What the guest reported.
    pub report: Report,
    /// Every sign of trouble, also those that did not end the run.
    pub troubles: Vec<(Trouble, String)>,
    /// All that was said.
    pub log: Log,
    /// Wall time.
    pub elapsed: Duration,
}

impl Outcome {
    /// Whether every test passed and the kernel never complained.
    pub fn is_clean(&self) -> bool {
        self.verdict == Verdict::Passed && self.troubles.is_empty()
    }
}

/// Ends QEMU when it goes out of scope, however that happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has already ended in the ordinary case; then both calls say so, and nothing is lost.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

enum Ended {
    ByItself(ExitStatus),
    Trouble(Trouble, String),
    TimedOut,
}

impl Vm {
    /// Boots the machine and returns what it showed. An error means that it could not be started.
    pub fn run(&self) -> Result<Outcome, Diagnostic> {
        let folder = tempfile::tempdir().map_err(|e| {
            Diagnostic::error(Code::Environment, format!("no temporary folder: {e}"))
        })?;
        let initrd = folder.path().join("initrd");
        let packed = self
            .initramfs
            .to_gzip()
            .map_err(|e| error::file("pack", &initrd, &e))?;
        fs::write(&initrd, packed).map_err(|e| error::file("write", &initrd, &e))?;

        let mut command = self.command()?;
        command.arg("-initrd").arg(&initrd);
        tracing::debug!(?command, "starting QEMU");
        let start = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| Diagnostic::error(Code::Environment, format!("cannot start QEMU: {e}")))?;
        let (sender, lines) = channel();
        if let Some(out) = child.stdout.take() {
            read_lines(out, Source::Kernel, start, sender.clone());
        }
        if let Some(err) = child.stderr.take() {
            read_lines(err, Source::Test, start, sender);
        }
        let mut watched = Watched {
            stop_on: self.stop_on,
            deadline: start + self.time_limit,
            log: Log::default(),
            report: Report::default(),
            troubles: Vec::new(),
            fatal: None,
        };
        let ended = watched.follow(&lines, Running(child))?;
        Ok(watched.outcome(ended, start.elapsed()))
    }

    fn command(&self) -> Result<Command, Diagnostic> {
        let qemu = program::find("qemu-system-x86_64", "qemu-system-x86")?;
        let mut command = Command::new(qemu);
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(["-no-reboot", "-machine", "q35", "-cpu", &self.cpu]);
        // The kernel's console and the tests' console are apart: no line of one breaks the other.
        command.args(["-serial", "stdio", "-serial", "file:/proc/self/fd/2"]);
        command.args(["-m", &self.memory.to_string()]);
        match self.accel {
            Accel::Tcg => {
                command.args(["-accel", "tcg,thread=multi", "-smp", &self.smp.to_string()]);
            }
            Accel::RoundRobin => {
                command.args(["-accel", "tcg,thread=single", "-smp", &self.smp.to_string()]);
            }
            Accel::Icount { shift } => {
                command.args(["-accel", "tcg,thread=single", "-smp", "1"]);
                command.args(["-icount", &format!("shift={shift},sleep=off")]);
            }
        }
        for drive in &self.drives {
            command.args(["-drive", &drive.option()]);
        }
        command.arg("-kernel").arg(&self.kernel);
        // Level 5 lets warnings through. A busy host lets the timer's test fail: the kernel would panic.
        let append = format!(
            "console=ttyS0 panic=-1 quiet loglevel=5 no_timer_check {}",
            self.append
        );
        command.args(["-append", append.trim_end()]);
        Ok(command)
    }
}

/// Sends lines from a thread of its own, which ends with the stream.
fn read_lines(
    stream: impl Read + Send + 'static,
    source: Source,
    start: Instant,
    lines: Sender<Line>,
) {
    thread::spawn(move || {
        for bytes in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&bytes);
            let text = text.trim_end_matches('\r').to_owned();
            let at = start.elapsed();
            if lines.send(Line { source, at, text }).is_err() {
                break;
            }
        }
    });
}

struct Watched {
    stop_on: Trouble,
    deadline: Instant,
    log: Log,
    report: Report,
    troubles: Vec<(Trouble, String)>,
    fatal: Option<(Trouble, String)>,
}

impl Watched {
    /// Reads until QEMU closes its streams, or stops it.
    fn follow(&mut self, lines: &Receiver<Line>, mut qemu: Running) -> Result<Ended, Diagnostic> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) => self.take(line),
                Err(RecvTimeoutError::Timeout) => {
                    return Ok(match self.fatal.take() {
                        Some((trouble, line)) => Ended::Trouble(trouble, line),
                        None => Ended::TimedOut,
                    });
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Some((trouble, line)) = self.fatal.take() {
            return Ok(Ended::Trouble(trouble, line));
        }
        let status = qemu.0.wait().map_err(|e| {
            Diagnostic::error(Code::Environment, format!("cannot wait for QEMU: {e}"))
        })?;
        Ok(Ended::ByItself(status))
    }

    fn take(&mut self, line: Line) {
        match line.source {
            Source::Test => {
                self.report.note(&line.text);
            }
            Source::Kernel => {
                if let Some(trouble) = watch::trouble(&line.text) {
                    self.troubles.push((trouble, line.text.clone()));
                    if trouble >= self.stop_on && self.fatal.is_none() {
                        self.fatal = Some((trouble, line.text.clone()));
                        self.deadline = self.deadline.min(Instant::now() + LAST_WORDS);
                    }
                }
            }
        }
        tracing::debug!(source = ?line.source, "{}", line.text);
        self.log.lines.push(line);
    }

    fn outcome(self, ended: Ended, elapsed: Duration) -> Outcome {
        let verdict = match ended {
            Ended::Trouble(trouble, line) => Verdict::Crashed(trouble, line),
            Ended::TimedOut => Verdict::TimedOut,
            Ended::ByItself(status) => self.verdict(status),
        };
        Outcome {
            verdict,
            report: self.report,
            troubles: self.troubles,
            log: self.log,
            elapsed,
        }
    }

    fn verdict(&self, status: ExitStatus) -> Verdict {
        let counted = self.report.counted();
        match self.report.verdict {
            None => {
                Verdict::Incomplete(format!("no verdict of the guest, QEMU ended with {status}"))
            }
            Some(said) if said != counted => Verdict::Incomplete(format!(
                "the guest counted {} passed and {} failed tests, {} and {} arrived",
                said.0, said.1, counted.0, counted.1
            )),
            Some((_, 0)) => Verdict::Passed,
            Some((_, failed)) => Verdict::Failed(failed),
        }
    }
}
