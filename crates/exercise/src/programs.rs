//! Pinned BPF programs and maps: how often a program ran, and how much memory all of them take.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::Path,
};

/// Where bundles are pinned.
pub const BPFFS: &str = "/sys/fs/bpf/otf";
/// Whether the kernel counts runs.
const COUNTING: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// What the guard says about each of its probes.
const PROBES: &str = "/proc/otf_guard";
/// In place of a program's name: checks that slots of the guard have decided.
const SLOT: &str = "otf_slot";
/// `BPF_OBJ_GET` of `bpf(2)`.
const OBJ_GET: libc::c_long = 7;

/// A pinned program.
pub struct Loaded {
    name: String,
    fd: OwnedFd,
}

/// Counts runs of programs while it lives.
pub struct Counting(());

impl Counting {
    /// Starts to count.
    pub fn new() -> io::Result<Self> {
        fs::write(COUNTING, "1")?;
        Ok(Self(()))
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        // It was written to a moment ago; a process that ends cannot complain anyway.
        let _ = fs::write(COUNTING, "0");
    }
}

/// All pinned programs below a folder; none when there is no such folder.
pub fn loaded(folder: &str) -> io::Result<Vec<Loaded>> {
    let mut found = Vec::new();
    walk(Path::new(folder), &mut |path, fd, info| {
        if info.contains("prog_type:") {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            found.push(Loaded {
                name: name.into_owned(),
                fd,
            });
        }
    })?;
    Ok(found)
}

/// How often each program ran since it was loaded, while runs were counted; programs of one name together. With them, as
/// [`SLOT`], the checks that needed none.
pub fn runs(loaded: &[Loaded]) -> io::Result<BTreeMap<String, u64>> {
    let mut runs = BTreeMap::new();
    if !loaded.is_empty() && Path::new(PROBES).exists() {
        runs.insert(SLOT.to_owned(), decided(&fs::read_to_string(PROBES)?));
    }
    for program in loaded {
        *runs.entry(program.name.clone()).or_default() += field(&info(&program.fd)?, "run_cnt:");
    }
    Ok(runs)
}

/// The checks without a program: the last number of a line about a jump.
fn decided(probes: &str) -> u64 {
    let of = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            [_, _, _, "jump", checks] => checks.parse().unwrap_or(0),
            _ => 0,
        }
    };
    probes.lines().map(of).sum()
}

/// Bytes of pinned maps and programs, as a JSON object.
pub fn memory(folder: &str) -> io::Result<String> {
    let (mut maps, mut programs) = (0, 0);
    walk(Path::new(folder), &mut |_, _, info| {
        if info.contains("map_type:") {
            maps += field(info, "memlock:");
        } else if info.contains("prog_type:") {
            programs += field(info, "memlock:");
        }
    })?;
    Ok(format!(
        "{{\"map_bytes\":{maps},\"program_bytes\":{programs}}}"
    ))
}

/// Opens every pin below a folder. Links are not opened: there are thousands, and they are neither.
fn walk(folder: &Path, see: &mut dyn FnMut(&Path, OwnedFd, &str)) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "links") {
                walk(&path, see)?;
            }
            continue;
        }
        let fd = open(&path)?;
        let info = info(&fd)?;
        see(&path, fd, &info);
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Default)]
    struct ObjGet {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attribute = ObjGet {
        pathname: path.as_ptr() as u64,
        ..ObjGet::default()
    };
    // SAFETY: the attribute and the path live until the call returns, and its size is told.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            OBJ_GET,
            &raw const attribute,
            size_of::<ObjGet>(),
        )
    };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn info(fd: &OwnedFd) -> io::Result<String> {
    fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
}

/// A number of a `fdinfo`; 0 when it has no such line.
fn field(info: &str, name: &str) -> u64 {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_fdinfo() {
        let info = "pos:\t0\nprog_type:\t2\nmemlock:\t4096\nrun_cnt:\t17\n";
        assert_eq!(field(info, "run_cnt:"), 17);
        assert_eq!(field(info, "memlock:"), 4096);
        assert_eq!(field(info, "recursion_misses:"), 0);
    }

    #[test]
    fn checks_of_jumps_are_added() {
        let probes = "q.1 ffff 0 jump 20\nq.1 fffe 3 breakpoint\nr.2 fffd 1 jump 3\nq.1 frees\n";
        assert_eq!(decided(probes), 23);
    }

    #[test]
    fn a_host_without_bundles_has_no_programs() {
        assert!(loaded("/does/not/exist").unwrap().is_empty());
        assert_eq!(
            memory("/does/not/exist").unwrap(),
            r#"{"map_bytes":0,"program_bytes":0}"#
        );
    }
}
