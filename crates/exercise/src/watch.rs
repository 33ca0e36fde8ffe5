//! A command, and how long the machine stood still meanwhile: a task of the highest priority sleeps a millisecond at a time.

use std::{
    io,
    process::{Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use crate::clock;

/// How long the watcher sleeps.
const NAP: Duration = Duration::from_millis(1);

/// What a command took.
struct Watched {
    status: ExitStatus,
    elapsed: Duration,
    busy: u64,
    /// Longest time from the end of a nap to the watcher's next step.
    stall: Duration,
}

/// Runs the command; the JSON object. Its failure is an error.
pub fn watch(name: &str, program: &str, arguments: &[&str]) -> io::Result<String> {
    let watched = run(Command::new(program).args(arguments))?;
    if !watched.status.success() {
        return Err(io::Error::other(watched.status.to_string()));
    }
    Ok(format!(
        "{{\"name\":\"{name}\",\"elapsed\":{},\"busy\":{},\"stall\":{}}}",
        watched.elapsed.as_nanos(),
        watched.busy,
        watched.stall.as_nanos()
    ))
}

fn run(command: &mut Command) -> io::Result<Watched> {
    let busy = clock::busy()?;
    let start = Instant::now();
    // The command inherits nothing of the priority: it is raised after the start.
    let mut child = command.spawn()?;
    raise_priority()?;
    let mut stall = Duration::ZERO;
    let status = loop {
        let before = Instant::now();
        thread::sleep(NAP);
        stall = stall.max(before.elapsed().saturating_sub(NAP));
        if let Some(status) = child.try_wait()? {
            break status;
        }
    };
    Ok(Watched {
        status,
        elapsed: start.elapsed(),
        busy: clock::busy()?.saturating_sub(busy),
        stall,
    })
}

fn raise_priority() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 99 };
    // SAFETY: the parameters live during the call.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
