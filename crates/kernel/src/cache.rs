//! The cache: products are folders that appear complete or not at all, named by what went into them.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    kernel::CachedFile,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Age at which work in progress is nobody's any more.
const ABANDONED: Duration = Duration::from_hours(24);

/// `$OTF_CACHE`. Several commands may use it at once: work happens in `tmp/` and is moved into place.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// What was known of a file when it was hashed, so that large files are not hashed in every run.
#[derive(Serialize, Deserialize)]
struct Recorded {
    size: u64,
    modified_ns: u64,
    sha256: String,
}

impl Cache {
    /// Opens or makes the cache.
    pub fn open(root: &Path) -> Result<Self, Diagnostic> {
        fs::create_dir_all(root.join("tmp")).map_err(|e| io_error("make", root, &e))?;
        let root = root
            .canonicalize()
            .map_err(|e| io_error("find", root, &e))?;
        // kbuild and the compilers' prefix maps take these characters for separators.
        if root
            .to_str()
            .is_none_or(|s| s.contains(|c: char| c.is_whitespace() || "=:'\"$#".contains(c)))
        {
            return Err(Diagnostic::error(
                Code::Environment,
                format!("{} cannot be the cache: kbuild needs a path without spaces, quotes, `=`, `:`, `$` and `#`", root.display()),
            )
            .help("set OTF_CACHE to another folder"));
        }
        let cache = Self { root };
        cache.remove_abandoned();
        Ok(cache)
    }

    /// Removes work of commands that were killed. Failure does no harm: it is only space.
    fn remove_abandoned(&self) {
        for entry in fs::read_dir(self.path("tmp"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let age = entry.metadata().and_then(|m| m.modified()).ok();
            if age
                .and_then(|t| t.elapsed().ok())
                .is_some_and(|age| age > ABANDONED)
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// The absolute path of something in the cache.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A folder for work in progress, removed when dropped.
    pub fn scratch(&self) -> Result<TempDir, Diagnostic> {
        let tmp = self.path("tmp");
        tempfile::tempdir_in(&tmp).map_err(|e| io_error("make a folder in", &tmp, &e))
    }

    /// Makes the product with `build` (called with an empty folder) unless it is there.
    pub fn product(
        &self,
        relative: &str,
        build: impl FnOnce(&Path) -> Result<(), Diagnostic>,
    ) -> Result<PathBuf, Diagnostic> {
        let path = self.path(relative);
        if !path.exists() {
            let scratch = self.scratch()?;
            let work = scratch.path().join("product");
            fs::create_dir(&work).map_err(|e| io_error("make", &work, &e))?;
            build(&work)?;
            self.publish(relative, &work)?;
        }
        Ok(path)
    }

    /// Moves finished work (below [`Self::scratch`]) to where the product belongs.
    pub fn publish(&self, relative: &str, work: &Path) -> Result<(), Diagnostic> {
        let path = self.path(relative);
        let records = self.path(&format!("hashes/{relative}"));
        if records.exists() {
            fs::remove_dir_all(&records).map_err(|e| io_error("remove", &records, &e))?;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|e| io_error("make", parent, &e))?;
        }
        match fs::rename(work, &path) {
            // Another command was faster; its product is as good.
            Err(_) if path.is_dir() => Ok(()),
            result => result.map_err(|e| io_error("make", &path, &e)),
        }
    }

    /// The lock's entry of a file of a product. A file that is not as it was hashed first is
    /// [`Code::CacheCorrupt`].
    pub fn locked(&self, product: &str, file: &str) -> Result<CachedFile, Diagnostic> {
        let relative = format!("{product}/{file}");
        let path = self.path(&relative);
        let corrupt = |why: &str| {
            Diagnostic::error(Code::CacheCorrupt, format!("{} {why}", path.display())).help(
                format!(
                    "remove {}; the next run makes it again",
                    self.path(product).display()
                ),
            )
        };
        let metadata = fs::metadata(&path).map_err(|e| corrupt(&format!("is gone: {e}")))?;
        let modified_ns = metadata
            .modified()
            .ok()
            .and_then(|t| t.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |d| d.as_nanos() as u64);
        let record = self.path(&format!("hashes/{relative}.json"));
        let recorded: Option<Recorded> = fs::read(&record)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let sha256 = match &recorded {
            Some(r) if r.size == metadata.len() && r.modified_ns == modified_ns => r.sha256.clone(),
            _ => {
                let sha256 = hash_file(&path)?;
                if recorded.is_some_and(|r| r.sha256 != sha256) {
                    return Err(corrupt("has changed since it was made"));
                }
                let fresh = Recorded {
                    size: metadata.len(),
                    modified_ns,
                    sha256: sha256.clone(),
                };
                self.write_json(&record, &fresh)?;
                sha256
            }
        };
        Ok(CachedFile {
            path: relative,
            sha256,
        })
    }

    /// Writes a small JSON file so that readers see the old or the new one.
    pub fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), Diagnostic> {
        let scratch = self.scratch()?;
        let new = scratch.path().join("new");
        let write = || -> io::Result<()> {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&new, serde_json::to_vec_pretty(value)?)?;
            fs::rename(&new, path)
        };
        write().map_err(|e| io_error("write", path, &e))
    }
}

/// SHA-256 of a file, hex.
pub fn hash_file(path: &Path) -> Result<String, Diagnostic> {
    let mut file = File::open(path).map_err(|e| io_error("read", path, &e))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file
            .read(&mut buffer)
            .map_err(|e| io_error("read", path, &e))?;
        if n == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..n]);
    }
}

/// A name for a product made from these inputs: 16 hex digits, different whenever a part is.
pub fn key<S: AsRef<[u8]>>(parts: impl IntoIterator<Item = S>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex(&hasher.finalize()[..8])
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut s, b| {
        // Writing to a string cannot fail.
        let _ = write!(s, "{b:02x}");
        s
    })
}

/// An operation on a file of this machine failed.
pub fn io_error(verb: &str, path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::error(
        Code::Environment,
        format!("cannot {verb} {}: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_build_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let failed = cache.product("a/b", |work| {
            fs::write(work.join("x"), "half").unwrap();
            Err(Diagnostic::error(Code::BuildFailed, "no"))
        });
        assert_eq!(failed.unwrap_err().code, Code::BuildFailed);
        assert!(!cache.path("a").exists());
        assert_eq!(fs::read_dir(cache.path("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_changed_file_is_noticed_and_a_new_product_is_not_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let make = |content: &str| {
            cache
                .product("a/b", |work| {
                    fs::write(work.join("x"), content).unwrap();
                    Ok(())
                })
                .unwrap()
        };
        let path = make("one");
        let first = cache.locked("a/b", "x").unwrap();
        assert_eq!(first, cache.locked("a/b", "x").unwrap());
        fs::write(path.join("x"), "two!").unwrap();
        assert_eq!(
            cache.locked("a/b", "x").unwrap_err().code,
            Code::CacheCorrupt
        );
        fs::remove_dir_all(&path).unwrap();
        make("three");
        assert_ne!(cache.locked("a/b", "x").unwrap().sha256, first.sha256);
        fs::remove_file(path.join("x")).unwrap();
        assert_eq!(
            cache.locked("a/b", "x").unwrap_err().code,
            Code::CacheCorrupt
        );
    }

    #[test]
    fn keys_keep_parts_apart() {
        assert_ne!(key(["ab", "c"]), key(["a", "bc"]));
        assert_eq!(key(["ab", "c"]), key(["ab", "c"]));
    }

    #[test]
    fn a_path_that_kbuild_cannot_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = Cache::open(&dir.path().join("a b")).unwrap_err();
        assert_eq!(error.code, Code::Environment);
    }
}
