//! Builds external modules against the headers, the same bytes whatever folder they are built in.

use std::{
    collections::BTreeSet,
    fs, io,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use otf_artifact::diagnostic::{Code, Diagnostic};

use crate::{
    build,
    cache::io_error,
    command::{self, run},
    trees::{self, Headers},
};

/// Builds what the `Kbuild` files in these directories of `tree` describe. `tree` mirrors the kernel
/// tree, and DWARF names files relative to it. Each `.ko` ends beside its source.
pub fn build(
    headers: &Headers,
    tree: &Path,
    directories: &BTreeSet<String>,
) -> Result<(), Diagnostic> {
    let entries: Vec<String> = directories.iter().map(|dir| format!("{dir}/")).collect();
    let top = format!("obj-m += {}\n", entries.join(" "));
    let kbuild = tree.join("Kbuild");
    fs::write(&kbuild, top).map_err(|e| io_error("write", &kbuild, &e))?;
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let mut make = Command::new("make");
    make.arg("-C")
        .arg(&headers.flavour)
        .arg(format!("-j{jobs}"))
        .arg("modules")
        .stdin(Stdio::null());
    let prefix_maps = if let Some(compiler) = &headers.built_with {
        // Relative names, as in the build of the kernel itself. Of two maps that fit, clang
        // takes the later one.
        let tree = trees::relative(&headers.flavour, tree);
        make.arg(format!("M={tree}"));
        build::use_wrapper(&mut make, &headers.common, compiler);
        vec![
            build::NAMES.to_owned(),
            format!("-ffile-prefix-map={tree}/="),
        ]
    } else {
        make.arg(format!("M={}", tree.display()));
        vec![
            format!("-ffile-prefix-map={}/=", tree.display()),
            format!("-ffile-prefix-map={}/=", headers.common.display()),
            format!("-ffile-prefix-map={}=.", headers.flavour.display()),
        ]
    }
    .join(" ");
    make.arg(format!("KCFLAGS={prefix_maps}"))
        .arg(format!("KAFLAGS={prefix_maps}"));
    reproducible(&mut make);
    let output = command::output(&mut make, "make")?;
    if output.status.success() {
        return Ok(());
    }
    let directories: Vec<&str> = directories.iter().map(String::as_str).collect();
    Err(Diagnostic::error(
        Code::BuildFailed,
        format!(
            "kbuild of {} failed:\n{}",
            directories.join(", "),
            command::last_words(&output)
        ),
    )
    .help("the build needs the packages gcc-12, make, binutils, dwarves, libelf1"))
}

/// The environment in which kbuild makes the same bytes again.
pub fn reproducible(make: &mut Command) {
    // With a time stamp set, kbuild avoids what would differ between two builds.
    make.env("KBUILD_BUILD_TIMESTAMP", "1970-01-01")
        .env("KBUILD_BUILD_VERSION", "1")
        .env("KBUILD_BUILD_USER", "otf")
        .env("KBUILD_BUILD_HOST", "otf")
        // Variables of an outer make would reach the kernel's.
        .env_remove("MAKEFLAGS")
        .env_remove("MFLAGS")
        .env_remove("MAKELEVEL")
        .env_remove("MAKEOVERRIDES");
}

/// Copies an object without its DWARF; symbols, BTF and the build-id stay.
pub fn strip(from: &Path, to: &Path) -> Result<(), Diagnostic> {
    run(
        Command::new("strip")
            .arg("--strip-debug")
            .arg("-o")
            .arg(to)
            .arg(from),
        "binutils",
        Code::BuildFailed,
        "strip",
    )
    .map(|_| ())
}

/// Copies the files that are directly in a folder.
pub fn copy_files(from: &Path, to: &Path) -> Result<(), Diagnostic> {
    let copy = || -> io::Result<()> {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
        }
        Ok(())
    };
    copy().map_err(|e| io_error("copy", from, &e))
}

/// Every file below a folder, as sorted paths relative to it.
pub fn files_below(folder: &Path) -> Result<Vec<String>, Diagnostic> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        let listing = fs::read_dir(&current).map_err(|e| io_error("read", &current, &e))?;
        for entry in listing {
            let path = entry.map_err(|e| io_error("read", &current, &e))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(relative) = path.strip_prefix(folder).ok().and_then(Path::to_str) {
                files.push(relative.to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}
