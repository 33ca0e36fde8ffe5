//! The pins in bpffs, which are all the state there is: `BPFFS/COMPARTMENT/{maps,programs,links,meta}`.
//!
//! A folder that is being made or taken away is called `COMPARTMENT~`; only a renamed, complete one
//! counts as loaded. Names cannot contain a dot in bpffs.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libbpf_rs::MapHandle;
use otf_artifact::diagnostic::{Code, Diagnostic};

use crate::sys;

/// Where the lock of all commands that change something is.
const LOCK: &str = "/run/otf-load.lock";
/// How long a command waits for another one.
const PATIENCE: Duration = Duration::from_secs(5);
/// Ends the name of an incomplete folder.
const INCOMPLETE: char = '~';

/// The folder of all compartments.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

/// One compartment's folder, complete or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Pins {
    /// The pins below this folder of a BPF file system.
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// Makes the folder if its parent is in a BPF file system.
    pub fn create(&self) -> Result<(), Diagnostic> {
        let parent = self.root.parent().unwrap_or(Path::new("/"));
        let existing = if self.root.exists() {
            &self.root
        } else {
            parent
        };
        if !sys::is_bpffs(existing).unwrap_or(false) {
            return Err(Diagnostic::error(
                Code::Environment,
                format!("{} is not in a BPF file system", self.root.display()),
            )
            .help("mount -t bpf bpf /sys/fs/bpf, or name another place with --bpffs"));
        }
        match fs::create_dir(&self.root) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                Err(failed("make", &self.root, &e))
            }
            _ => Ok(()),
        }
    }

    /// Takes the lock of all commands that change something.
    pub fn lock() -> Result<File, Diagnostic> {
        lock_file(Path::new(LOCK), PATIENCE)
    }

    /// Takes the lock of those who read a compartment's events.
    pub fn lock_events(name: &str) -> Result<File, Diagnostic> {
        lock_file(
            &PathBuf::from(format!("/run/otf-load.events.{name}.lock")),
            Duration::ZERO,
        )
    }

    /// Names of the loaded compartments, sorted.
    pub fn loaded(&self) -> Result<Vec<String>, Diagnostic> {
        Ok(self
            .names()?
            .into_iter()
            .filter(|n| !n.ends_with(INCOMPLETE))
            .collect())
    }

    /// What killed commands have left behind.
    pub fn leftovers(&self) -> Result<Vec<Folder>, Diagnostic> {
        let names = self.names()?;
        Ok(names
            .iter()
            .filter(|n| n.ends_with(INCOMPLETE))
            .map(|n| Folder(self.root.join(n)))
            .collect())
    }

    /// The folder of a loaded compartment.
    pub fn folder(&self, name: &str) -> Folder {
        Folder(self.root.join(name))
    }

    /// The folder of a compartment that is being made or taken away.
    pub fn incomplete(&self, name: &str) -> Folder {
        Folder(self.root.join(format!("{name}{INCOMPLETE}")))
    }

    /// The compartment that a command means: the named one, or the only one.
    pub fn choose(&self, name: Option<&str>) -> Result<String, Diagnostic> {
        let loaded = self.loaded()?;
        let not_loaded = |message: String| {
            Diagnostic::error(Code::NotLoaded, message)
                .help("`otf-load status` lists what is loaded")
        };
        match (name, loaded.as_slice()) {
            (Some(name), _) if loaded.iter().any(|n| n == name) => Ok(name.to_owned()),
            (Some(name), _) => Err(not_loaded(format!("{name} is not loaded"))),
            (None, [only]) => Ok(only.clone()),
            (None, []) => Err(not_loaded("nothing is loaded".into())),
            (None, several) => Err(Diagnostic::error(
                Code::Usage,
                format!("which compartment? Loaded are: {}", several.join(", ")),
            )
            .help("name one")),
        }
    }

    fn names(&self) -> Result<Vec<String>, Diagnostic> {
        entries(&self.root).map_err(|e| failed("read", &self.root, &e))
    }
}

impl Folder {
    /// Makes the folder with its parts.
    pub fn create(&self) -> Result<(), Diagnostic> {
        for path in [&self.0, &self.maps(), &self.programs(), &self.links()] {
            fs::create_dir(path).map_err(|e| failed("make", path, &e))?;
        }
        Ok(())
    }

    /// Pinned maps.
    pub fn maps(&self) -> PathBuf {
        self.0.join("maps")
    }

    /// Pinned programs.
    pub fn programs(&self) -> PathBuf {
        self.0.join("programs")
    }

    /// Pinned links, by order of attachment.
    pub fn links(&self) -> PathBuf {
        self.0.join("links")
    }

    /// The map with what was loaded, by whom and when.
    pub fn meta(&self) -> PathBuf {
        self.0.join("meta")
    }

    /// The map with what a recording attached; goes with the maps.
    pub fn attached(&self) -> PathBuf {
        self.maps().join("attached")
    }

    /// Gives the folder its other name.
    pub fn rename(&self, to: &Folder) -> Result<(), Diagnostic> {
        fs::rename(&self.0, &to.0).map_err(|e| failed("rename", &self.0, &e))
    }

    /// Swaps two folders in one step: there is no moment without either.
    pub fn exchange(&self, other: &Folder) -> Result<(), Diagnostic> {
        sys::exchange(&self.0, &other.0).map_err(|e| failed("exchange", &self.0, &e))
    }

    /// Opens a pinned map.
    pub fn map(&self, name: &str) -> Result<MapHandle, Diagnostic> {
        MapHandle::from_pinned_path(self.maps().join(name)).map_err(|e| {
            Diagnostic::error(
                Code::NotLoaded,
                format!("map {name} of {} cannot be opened: {e}", self.0.display()),
            )
            .help("run as root; if pins were removed by hand, unload and load again")
        })
    }

    /// Names of the pins in a part, sorted.
    pub fn pins(part: &Path) -> Result<Vec<String>, Diagnostic> {
        entries(part).map_err(|e| failed("read", part, &e))
    }

    /// Detaches in reverse order and lets go of programs and maps. What is already gone is no
    /// error, so that it can be run again after it was killed.
    pub fn detach(&self, progress: &mut dyn FnMut(usize, usize)) -> Result<(), Diagnostic> {
        let links = Self::pins(&self.links())?;
        for (done, name) in links.iter().rev().enumerate() {
            let path = self.links().join(name);
            // Unlinking alone frees the link later, from a work queue; closing the last
            // descriptor detaches before it returns.
            let open = sys::open_pin(&path);
            fs::remove_file(&path).map_err(|e| failed("remove", &path, &e))?;
            drop(open);
            progress(done + 1, links.len());
        }
        for part in [self.programs(), self.maps()] {
            for name in Self::pins(&part)? {
                let path = part.join(name);
                fs::remove_file(&path).map_err(|e| failed("remove", &path, &e))?;
            }
        }
        Ok(())
    }

    /// Removes what [`Folder::detach`] has left: the metadata, which says what else to undo.
    pub fn remove(&self) -> Result<(), Diagnostic> {
        for part in [self.links(), self.programs(), self.maps()] {
            gone(fs::remove_dir(&part)).map_err(|e| failed("remove", &part, &e))?;
        }
        gone(fs::remove_file(self.meta())).map_err(|e| failed("remove", &self.meta(), &e))?;
        gone(fs::remove_dir(&self.0)).map_err(|e| failed("remove", &self.0, &e))
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Sorted names in a folder; none when there is no folder.
fn entries(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
        Ok(entries) => {
            for entry in entries {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    Ok(names)
}

fn lock_file(path: &Path, patience: Duration) -> Result<File, Diagnostic> {
    let until = Instant::now() + patience;
    loop {
        match sys::try_lock(path) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) if Instant::now() < until && !sys::interrupted() => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(None) => {
                return Err(
                    Diagnostic::error(Code::Busy, format!("{} is held", path.display()))
                        .help("try again when the other otf-load has ended"),
                );
            }
            Err(e) => return Err(failed("lock", path, &e)),
        }
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::error(
        Code::Environment,
        format!("cannot {what} {}: {error}", path.display()),
    )
    .help("run as root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_compartment_need_not_be_named() {
        let root = tempfile::tempdir().unwrap();
        let pins = Pins::new(root.path());
        assert_eq!(pins.choose(None).unwrap_err().code, Code::NotLoaded);
        pins.incomplete("a").create().unwrap();
        assert_eq!(pins.loaded().unwrap(), Vec::<String>::new());
        assert_eq!(pins.leftovers().unwrap(), [pins.incomplete("a")]);
        pins.incomplete("a").rename(&pins.folder("a")).unwrap();
        assert_eq!(pins.choose(None).unwrap(), "a");
        assert_eq!(pins.choose(Some("b")).unwrap_err().code, Code::NotLoaded);
        pins.folder("b").create().unwrap();
        assert_eq!(pins.choose(None).unwrap_err().code, Code::Usage);
        assert_eq!(pins.choose(Some("b")).unwrap(), "b");
        for _again in 0..2 {
            pins.folder("a").detach(&mut |_, _| ()).unwrap();
            pins.folder("a").remove().unwrap();
        }
        assert_eq!(pins.loaded().unwrap(), ["b"]);
    }

    #[test]
    fn an_ordinary_folder_is_no_bpffs() {
        let root = tempfile::tempdir().unwrap();
        let refused = Pins::new(&root.path().join("otf")).create().unwrap_err();
        assert_eq!(refused.code, Code::Environment);
        assert!(!root.path().join("otf").exists());
    }

    #[test]
    fn a_held_lock_is_busy() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let held = lock_file(&path, Duration::ZERO).unwrap();
        assert_eq!(
            lock_file(&path, Duration::ZERO).unwrap_err().code,
            Code::Busy
        );
        drop(held);
        lock_file(&path, Duration::ZERO).unwrap();
    }
}
