//! Facts about the machine, read below two roots so that tests (and snapshots of other machines) can stand in.

pub mod expedite;
pub mod kallsyms;
pub mod kprobes;
pub mod notes;
pub mod sysctl;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use otf_artifact::diagnostic::{Code, Diagnostic};

/// Where sysfs and procfs are.
#[derive(Clone, Debug)]
pub struct Host {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
}

impl Host {
    /// Whether these are the roots of the running kernel, so that system calls agree with them.
    pub fn is_live(&self) -> bool {
        self.sys == Path::new("/sys") && self.proc == Path::new("/proc")
    }

    /// `uname -r`.
    pub fn release(&self) -> Result<String, Diagnostic> {
        text(&self.proc.join("sys/kernel/osrelease"))
    }

    /// Build-id of the running kernel, hex.
    pub fn kernel_build_id(&self) -> Result<String, Diagnostic> {
        build_id(&self.sys.join("kernel/notes"), "the kernel")
    }

    /// Build-id of a loaded module, hex.
    pub fn module_build_id(&self, module: &str) -> Result<String, Diagnostic> {
        let path = self.module(module).join("notes/.note.gnu.build-id");
        build_id(&path, module)
    }

    /// Whether a module is loaded. A driver that is built in has a folder too, but no `initstate`.
    pub fn module_loaded(&self, module: &str) -> bool {
        fs::read_to_string(self.module(module).join("initstate")).is_ok_and(|s| s.trim() == "live")
    }

    /// Address of a section of a loaded module.
    pub fn section(&self, module: &str, section: &str) -> Result<u64, Diagnostic> {
        let path = self.module(module).join("sections").join(section);
        let text = text(&path)?;
        match parse_hex(&text) {
            Some(0) => Err(hidden(&path)),
            Some(address) => Ok(address),
            None => Err(unreadable(&path, &format!("`{text}` is no address"))),
        }
    }

    /// The perf PMU type of kprobes.
    pub fn kprobe_pmu(&self) -> Result<u32, Diagnostic> {
        let path = self.sys.join("bus/event_source/devices/kprobe/type");
        let text = text(&path)?;
        text.parse()
            .map_err(|_| unreadable(&path, &format!("`{text}` is no number")))
    }

    /// Name of the slab cache that `/sys/kernel/slab/NAME` stands for: an alias is a symbolic link.
    pub fn slab_alias(&self, cache: &str) -> Option<String> {
        if cache.contains('/') {
            return None;
        }
        let target = fs::read_link(self.sys.join("kernel/slab").join(cache)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// First line of a file below sysfs, if there is one.
    pub fn sys_line(&self, path: &str) -> Option<String> {
        first_line(&self.sys.join(path)).ok()
    }

    /// First line of a file below procfs, if there is one.
    pub fn proc_line(&self, path: &str) -> Option<String> {
        first_line(&self.proc.join(path)).ok()
    }

    fn module(&self, module: &str) -> PathBuf {
        self.sys.join("module").join(module)
    }
}

fn text(path: &Path) -> Result<String, Diagnostic> {
    first_line(path).map_err(|e| unreadable(path, &e.to_string()))
}

fn build_id(path: &Path, of: &str) -> Result<String, Diagnostic> {
    let raw = fs::read(path).map_err(|e| unreadable(path, &e.to_string()))?;
    notes::build_id(&raw).ok_or_else(|| unreadable(path, &format!("no build-id of {of} in it")))
}

/// Reads `0xffff…` or `ffff…`.
pub fn parse_hex(text: &str) -> Option<u64> {
    let digits = text.trim();
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    // from_str_radix takes a sign, which no address has
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// Addresses read as zero.
pub fn hidden(path: &Path) -> Diagnostic {
    Diagnostic::error(
        Code::Environment,
        format!("{} hides addresses from this user", path.display()),
    )
    .help("run as root, with kernel.kptr_restrict at 0 or 1")
}

fn first_line(path: &Path) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn unreadable(path: &Path, why: &str) -> Diagnostic {
    Diagnostic::error(
        Code::Environment,
        format!("{} cannot be used: {why}", path.display()),
    )
    .help("run as root on a kernel with sysfs and procfs mounted (`otf-load probe` tells more)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::symlink;

    fn fixture() -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        let host = Host {
            sys: root.path().join("sys"),
            proc: root.path().join("proc"),
        };
        let sections = host.sys.join("module/sch_qfq/sections");
        fs::create_dir_all(&sections).unwrap();
        fs::write(host.sys.join("module/sch_qfq/initstate"), "live\n").unwrap();
        fs::write(sections.join(".text"), "0xffffffffc0a51000\n").unwrap();
        fs::write(sections.join(".data"), "0x0000000000000000\n").unwrap();
        fs::create_dir_all(host.sys.join("module/tcp_cubic")).unwrap();
        fs::create_dir_all(host.sys.join("kernel/slab")).unwrap();
        symlink(":0000064", host.sys.join("kernel/slab/pid_2")).unwrap();
        (root, host)
    }

    #[test]
    fn modules_and_sections() {
        let (_root, host) = fixture();
        assert!(host.module_loaded("sch_qfq"));
        assert!(!host.module_loaded("tcp_cubic"), "built in");
        assert_eq!(host.section("sch_qfq", ".text"), Ok(0xffff_ffff_c0a5_1000));
        let refused = host.section("sch_qfq", ".data").unwrap_err();
        assert!(refused.message.contains("hides addresses"), "{refused}");
        assert_eq!(
            host.section("sch_qfq", ".bss").unwrap_err().code,
            Code::Environment
        );
        assert_eq!(host.slab_alias("pid_2").as_deref(), Some(":0000064"));
        assert_eq!(host.slab_alias("nothing"), None);
        assert!(!host.is_live());
    }

    proptest! {
        #[test]
        fn hex_as_the_kernel_prints_it(n: u64) {
            prop_assert_eq!(parse_hex(&format!("0x{n:016x}")), Some(n));
            prop_assert_eq!(parse_hex(&format!("{n:x}\n")), Some(n));
            prop_assert_eq!(parse_hex(&format!("+{n:x}")), None);
        }
        #[test]
        fn hex_never_panics(s in ".{0,30}") { let _ = parse_hex(&s); }
    }
}
