//! The root of a guest: our init, busybox, programs, modules, and the plan that init works off.

use std::{fs, path::Path};

use otf_artifact::diagnostic::{Code, Diagnostic};

use crate::{archive::Archive, error, modules::Module, program};

/// `guest/init.rs`, compiled statically by the build script.
static INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/otf-guest-init"));
/// Shell functions that scripts read with `. /otf/lib.sh`.
static SCRIPT_LIBRARY: &str = include_str!("../guest/lib.sh");

/// Builds the initramfs of a [`crate::vm::Vm`].
#[derive(Clone, Debug)]
pub struct Guest {
    archive: Archive,
    plan: String,
}

impl Guest {
    /// Init, a shell and busybox: enough for shell scripts. The shell is dash, because busybox's own
    /// prefers its applets to programs of the same name, `tc` and `ip` among them.
    pub fn new() -> Result<Self, Diagnostic> {
        let mut guest = Self {
            archive: Archive::new(),
            plan: String::new(),
        };
        guest.archive.program("/init", INIT);
        guest.archive.file("/otf/lib.sh", SCRIPT_LIBRARY.as_bytes());
        guest.program("busybox", "busybox-static")?;
        guest.program("dash", "dash")?;
        guest.archive.symlink("/bin/sh", "dash");
        Ok(guest)
    }

    /// Adds a program of the host with its libraries; `package` is what a person installs to get it.
    pub fn program(&mut self, name: &str, package: &str) -> Result<(), Diagnostic> {
        let host = program::find(name, package)?;
        program::add(&mut self.archive, name, &host)
    }

    /// Adds `tc`, `ip` and `ping`.
    pub fn network_tools(&mut self) -> Result<(), Diagnostic> {
        self.program("tc", "iproute2")?;
        self.program("ip", "iproute2")?;
        self.program("ping", "iputils-ping")
    }

    /// Adds a file of the host at a path of the guest, as a program (with its libraries, if it has
    /// any, already there).
    pub fn copy(&mut self, host: &Path, path: &str) -> Result<(), Diagnostic> {
        let bytes = fs::read(host).map_err(|e| error::file("read", host, &e))?;
        self.archive.program(path, bytes);
        Ok(())
    }

    /// Adds all files of a folder of the host, not of its subfolders, to a folder of the guest.
    pub fn copy_folder(&mut self, host: &Path, folder: &str) -> Result<(), Diagnostic> {
        for entry in fs::read_dir(host).map_err(|e| error::file("list", host, &e))? {
            let entry = entry.map_err(|e| error::file("list", host, &e))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(error::file("use", &entry.path(), &"its name is not UTF-8"));
            };
            if entry.path().is_file() {
                self.copy(&entry.path(), &format!("{folder}/{name}"))?;
            }
        }
        Ok(())
    }

    /// Adds a file that is not executable.
    pub fn file(&mut self, path: &str, bytes: &[u8]) {
        self.archive.file(path, bytes);
    }

    /// Adds a script.
    pub fn script(&mut self, path: &str, text: &str) {
        self.archive.program(path, text);
    }

    /// Adds modules as `/otf/modules/NAME.ko` and the list `/otf/modules/order`, so that the shell
    /// function `load_modules` loads `first` in this order; `later` are there to be loaded by hand.
    pub fn modules(&mut self, first: &[Module], later: &[Module]) {
        let mut order = String::new();
        for Module { name, .. } in first {
            order.push_str(name);
            order.push('\n');
        }
        for Module { name, bytes } in later.iter().chain(first) {
            self.archive
                .file(&format!("/otf/modules/{name}.ko"), bytes.clone());
        }
        self.archive.file("/otf/modules/order", order);
    }

    /// Adds a step to the plan; neither name nor words may hold tabs or line ends.
    pub fn step(&mut self, name: &str, command: &[&str]) -> Result<(), Diagnostic> {
        let line = std::iter::once(name)
            .chain(command.iter().copied())
            .collect::<Vec<_>>();
        if name.contains(' ') || line.iter().any(|word| word.contains(['\t', '\n'])) {
            return Err(Diagnostic::error(
                Code::Usage,
                format!(
                    "`{name}`: a step of a guest cannot hold tabs or line ends, its name no spaces"
                ),
            ));
        }
        self.plan.push_str(&line.join("\t"));
        self.plan.push('\n');
        Ok(())
    }

    /// The finished root.
    pub fn build(mut self) -> Archive {
        self.archive.file("/otf/plan", self.plan);
        self.archive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_is_a_static_program() {
        let mut archive = Archive::new();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), INIT).unwrap();
        program::add(&mut archive, "init", file.path()).unwrap();
        let files: Vec<&str> = archive.paths().filter(|p| *p != "bin").collect();
        assert_eq!(files, ["bin/init"], "init needs shared libraries");
    }

    #[test]
    fn a_step_that_would_break_the_plan_is_refused() {
        let mut guest = Guest::new().unwrap();
        guest.step("fine", &["/bin/true", "a b"]).unwrap();
        for (name, word) in [("a b", "x"), ("a", "x\ny"), ("a\t", "x")] {
            assert_eq!(guest.step(name, &[word]).unwrap_err().code, Code::Usage);
        }
        assert_eq!(guest.plan, "fine\t/bin/true\ta b\n");
    }
}
