//! The folder that a kernel is built in: links to the source, and the output folder below it.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use otf_artifact::diagnostic::Diagnostic;

use crate::cache::io_error;

/// Output folder, below the links to the source. kbuild then names the source `..`, so that no
/// absolute path gets into bitcode and debug information.
pub const OUT: &str = "out";
/// Steps from a product's folder up to the cache, the same as from the folder that it is built in.
const UP: &str = "../../..";

/// Makes a tree in `work` that reads like the source (relative to the cache) and has an output folder.
/// What is there already stays.
pub fn link(work: &Path, cache: &Path, source: &str) -> Result<(), Diagnostic> {
    let out = work.join(OUT);
    fs::create_dir_all(&out).map_err(|e| io_error("make", &out, &e))?;
    let top = cache.join(source);
    let listing = fs::read_dir(&top).map_err(|e| io_error("read", &top, &e))?;
    for entry in listing {
        let name = entry.map_err(|e| io_error("read", &top, &e))?.file_name();
        let target = Path::new(UP).join(source).join(&name);
        let link = work.join(&name);
        match symlink(&target, &link) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                return Err(io_error("make", &link, &e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Every file below a folder, relative to it, sorted. Links are not followed: the output folder has
/// one to the source.
pub fn files(folder: &Path) -> Result<Vec<String>, Diagnostic> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        let listing = fs::read_dir(&current).map_err(|e| io_error("read", &current, &e))?;
        for entry in listing {
            let entry = entry.map_err(|e| io_error("read", &current, &e))?;
            let kind = entry
                .file_type()
                .map_err(|e| io_error("read", &current, &e))?;
            let path = entry.path();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file()
                && let Some(relative) = path.strip_prefix(folder).ok().and_then(Path::to_str)
            {
                files.push(relative.to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_work_where_the_product_is_built_and_where_it_ends() {
        let cache = tempfile::tempdir().unwrap();
        let source = "source/p/linux";
        fs::create_dir_all(cache.path().join(source).join("net")).unwrap();
        fs::write(cache.path().join(source).join("net/a.c"), "x").unwrap();
        fs::write(cache.path().join(source).join("Makefile"), "y").unwrap();
        let work = cache.path().join("tmp/t/product");
        fs::create_dir_all(&work).unwrap();
        link(&work, cache.path(), source).unwrap();
        link(&work, cache.path(), source).unwrap();
        assert_eq!(fs::read_to_string(work.join("net/a.c")).unwrap(), "x");
        fs::create_dir_all(cache.path().join("built/k")).unwrap();
        let product = cache.path().join("built/k/0");
        fs::rename(&work, &product).unwrap();
        assert_eq!(fs::read_to_string(product.join("net/a.c")).unwrap(), "x");
        assert_eq!(files(&product).unwrap(), Vec::<String>::new());
        fs::write(product.join("out/b"), "z").unwrap();
        assert_eq!(files(&product).unwrap(), ["out/b"]);
    }
}
