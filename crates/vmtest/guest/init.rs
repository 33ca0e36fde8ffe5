//! The guest's first process: mounts what tests need, runs the plan, prints one verdict, powers off.
//!
//! The plan is `/otf/plan`, one step per line: a name, then the words of a command, separated by
//! tabs. A step passes when its command exits with 0. What a step prints goes to the test console
//! (the second serial port), where the kernel does not write; lines `OTF-TEST name PASS|FAIL reason`
//! in it count as tests of their own. No crates: this file is compiled alone, statically.
#![expect(
    clippy::print_stdout,
    reason = "standard output is the protocol with the host"
)]

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    os::{
        fd::AsRawFd,
        raw::{c_char, c_int, c_ulong, c_void},
    },
    process::{Command, Stdio},
};

unsafe extern "C" {
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn reboot(command: c_int) -> c_int;
    fn sync();
    fn dup2(from: c_int, to: c_int) -> c_int;
}

/// `RB_POWER_OFF` of `reboot(2)`.
const POWER_OFF: c_int = 0x4321_fedc;
/// Where scripts write; the host reads it.
const CONSOLE: &str = "/dev/ttyS1";

/// File systems in mounting order; those that the kernel lacks are skipped, and steps notice.
const MOUNTS: &[(&str, &str)] = &[
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
    ("debugfs", "/sys/kernel/debug"),
    ("tracefs", "/sys/kernel/tracing"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
];

/// How many tests went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    pass: u32,
    fail: u32,
}

impl Tally {
    fn add(&mut self, passed: bool) {
        if passed {
            self.pass += 1;
        } else {
            self.fail += 1;
        }
    }

    /// Counts a marked line; any other line is left alone.
    fn note(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("OTF-TEST") {
            match (words.next(), words.next()) {
                (Some(_), Some("PASS")) => self.add(true),
                (Some(_), Some("FAIL")) => self.add(false),
                _ => {}
            }
        }
    }
}

fn mount_one(kind: &str, target: &str) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let (kind, target) = (CString::new(kind)?, CString::new(target)?);
    // SAFETY: the strings end in NUL and outlive the call; no data is passed.
    let done = unsafe {
        mount(
            kind.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            0,
            std::ptr::null(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes standard output and error the test console.
fn open_console() -> io::Result<()> {
    let console = OpenOptions::new().read(true).write(true).open(CONSOLE)?;
    for standard in [1, 2] {
        // SAFETY: both descriptors are open; the copies live as long as the process.
        if unsafe { dup2(console.as_raw_fd(), standard) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Runs one step, copies what it prints to the console, and says why it failed, if it did.
fn run(words: &[&str], tally: &mut Tally) -> Result<(), String> {
    let [program, arguments @ ..] = words else {
        return Err("the step has no command".to_owned());
    };
    let (reader, writer) = io::pipe().map_err(|e| format!("pipe: {e}"))?;
    let errors = writer.try_clone().map_err(|e| format!("pipe: {e}"))?;
    // The command value holds the writing ends: it must be gone before the pipe can end.
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(errors)
        .spawn()
        .map_err(|e| format!("cannot run {program}: {e}"))?;
    let mut out = io::stdout().lock();
    for line in BufReader::new(reader).split(b'\n') {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        tally.note(&line);
        // A console that cannot be written to leaves no way to complain.
        let _ = writeln!(out, "{line}");
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(e) => Err(format!("wait: {e}")),
    }
}

fn run_plan(plan: &str) -> Tally {
    let mut tally = Tally::default();
    for line in plan.lines().filter(|l| !l.is_empty()) {
        let words: Vec<&str> = line.split('\t').collect();
        let (name, command) = (words[0], &words[1..]);
        println!("OTF-STEP {name}");
        let result = run(command, &mut tally);
        tally.add(result.is_ok());
        match result {
            Ok(()) => println!("OTF-TEST {name} PASS"),
            Err(reason) => println!("OTF-TEST {name} FAIL {reason}"),
        }
    }
    tally
}

/// Installs the names of busybox in /bin; programs that are already there win.
fn install_busybox() -> io::Result<()> {
    let names = Command::new("/bin/busybox").arg("--list").output()?;
    for name in String::from_utf8_lossy(&names.stdout).lines() {
        let link = format!("/bin/{name}");
        if fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink("busybox", &link)?;
        }
    }
    Ok(())
}

fn prepare() -> Vec<String> {
    let mut problems = Vec::new();
    for (kind, target) in MOUNTS {
        if let Err(e) = mount_one(kind, target) {
            problems.push(format!("OTF-NOTE no {kind} on {target}: {e}"));
        }
    }
    if let Err(e) = open_console() {
        problems.push(format!("OTF-NOTE no {CONSOLE}: {e}"));
    }
    if let Err(e) = install_busybox() {
        problems.push(format!("OTF-NOTE busybox: {e}"));
    }
    problems
}

fn main() {
    if std::process::id() != 1 {
        eprintln!("this is the first process of a test machine; it powers the machine off");
        std::process::exit(2);
    }
    for problem in prepare() {
        println!("{problem}");
    }
    // SAFETY: no other thread exists yet.
    unsafe {
        std::env::set_var("PATH", "/bin:/sbin:/usr/bin:/usr/sbin");
        std::env::set_var("HOME", "/tmp");
    }
    println!("OTF-UP");
    let tally = match fs::read_to_string("/otf/plan") {
        Ok(plan) => run_plan(&plan),
        Err(e) => {
            println!("OTF-TEST plan FAIL {e}");
            Tally { pass: 0, fail: 1 }
        }
    };
    println!("OTF-VERDICT pass={} fail={}", tally.pass, tally.fail);
    drain();
    // SAFETY: both take no pointers; nothing of this process is needed afterwards.
    unsafe {
        sync();
        reboot(POWER_OFF);
    }
}

/// Waits until the console has sent everything.
fn drain() {
    let _ = io::stdout().flush();
    if let Ok(console) = File::open(CONSOLE) {
        unsafe extern "C" {
            fn tcdrain(fd: c_int) -> c_int;
        }
        // SAFETY: the descriptor is open during the call.
        unsafe { tcdrain(console.as_raw_fd()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marked_lines_count() {
        let mut tally = Tally::default();
        for line in [
            "OTF-TEST a PASS",
            "OTF-TEST b FAIL for a reason",
            " OTF-TEST c PASS",
            "OTF-TEST PASS",
            "OTF-TESTS d PASS",
            "something OTF-TEST e PASS",
        ] {
            tally.note(line);
        }
        assert_eq!(tally, Tally { pass: 2, fail: 1 });
    }

    #[test]
    fn a_step_reports_how_its_command_ended() {
        let mut tally = Tally::default();
        assert_eq!(run(&["true"], &mut tally), Ok(()));
        assert!(run(&["sh", "-c", "exit 3"], &mut tally).is_err_and(|e| e.contains('3')));
        assert!(run(&["/does/not/exist"], &mut tally).is_err());
        assert!(run(&[], &mut tally).is_err());
        assert_eq!(run(&["echo", "OTF-TEST inner PASS"], &mut tally), Ok(()));
        assert_eq!(tally, Tally { pass: 1, fail: 0 });
    }
}
