//! Where things lie: the cache, the folder of a compartment, reading and writing whole files.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use otf_artifact::{
    Artifact,
    diagnostic::{Code, Diagnostic},
    kernel::KernelLock,
};

use otf_bundle::Bundle;

use crate::{
    pipeline,
    render::{self, Failure},
};

/// `$OTF_CACHE`, or `~/.cache/otf`.
pub fn cache() -> Result<PathBuf, Failure> {
    if let Some(dir) = std::env::var_os("OTF_CACHE").filter(|d| !d.is_empty()) {
        return Ok(dir.into());
    }
    std::env::var_os("HOME")
        .map(|home| Path::new(&home).join(".cache/otf"))
        .ok_or_else(|| {
            Diagnostic::error(Code::Environment, "neither OTF_CACHE nor HOME is set")
                .help("set OTF_CACHE to a folder")
                .into()
        })
}

/// The folder of a compartment.
pub fn compartment(out: &Path, kernel: &str, compartment: &str, overlay: Option<&str>) -> PathBuf {
    let name = overlay.map_or_else(|| compartment.to_owned(), |o| format!("{compartment}@{o}"));
    out.join(kernel).join(name)
}

fn trouble(path: &Path, doing: &str, e: &io::Error) -> Failure {
    Diagnostic::error(Code::Environment, format!("cannot {doing}: {e}"))
        .at(path.display().to_string(), 0, 0)
        .into()
}

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|e| trouble(path, "read", &e))
}

/// Maps a large file that nobody changes while it is read.
pub fn map(path: &Path) -> Result<memmap2::Mmap, Failure> {
    let file = fs::File::open(path).map_err(|e| trouble(path, "open", &e))?;
    // SAFETY: files in the cache are written once, through a rename, and never changed in place.
    unsafe { memmap2::Mmap::map(&file) }.map_err(|e| trouble(path, "map", &e))
}

/// Writes a whole file, or nothing: through a neighbour and a rename.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_mode(path, bytes, 0o644)
}

/// The same, for the owner's eyes only.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_mode(path, bytes, 0o600)
}

fn write_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|e| trouble(parent, "make the folder", &e))?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut open = fs::OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(mode);
    open.open(&new)
        .and_then(|mut f| io::Write::write_all(&mut f, bytes))
        .and_then(|()| fs::rename(&new, path))
        .map_err(|e| trouble(path, "write", &e))
}

/// A folder inside another one, that goes when it is dropped.
pub fn scratch(parent: &Path) -> Result<tempfile::TempDir, Failure> {
    fs::create_dir_all(parent)
        .and_then(|()| tempfile::tempdir_in(parent))
        .map_err(|e| trouble(parent, "make a folder in", &e))
}

/// Reads an artifact.
pub fn read_artifact<A: Artifact>(path: &Path) -> Result<A, Failure> {
    Ok(A::read(&read(path)?, &path.display().to_string())?)
}

/// Writes an artifact.
pub fn write_artifact<A: Artifact>(path: &Path, artifact: &A) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    artifact
        .write(&mut bytes)
        .map_err(|e| trouble(path, "write", &e))?;
    write(path, &bytes)?;
    Ok(bytes)
}

/// Reads a bundle; its signature is the loader's business.
pub fn read_bundle(path: &Path) -> Result<Bundle, Failure> {
    otf_bundle::unpack(&read(path)?).map_err(|error| {
        let place = path.display().to_string();
        match error.file {
            None => error.at(place, 0, 0).into(),
            Some(_) => error.into(),
        }
    })
}

/// The bundle of a compartment's folder, if there is one that was made from these very sites.
pub fn bundle_of(dir: &Path, compartment: &str) -> Result<Option<Bundle>, Failure> {
    let path = pipeline::bundle_path(dir, compartment);
    if !path.exists() {
        return Ok(None);
    }
    let bundle = read_bundle(&path)?;
    let sites = otf_bundle::sha256(&read(&dir.join(pipeline::SITES))?);
    Ok((bundle.manifest.inputs.get(pipeline::SITES) == Some(&sites)).then_some(bundle))
}

/// Reads `kernel.lock.yaml`.
pub fn read_lock(path: &Path) -> Result<KernelLock, Failure> {
    let bytes = read(path)?;
    Ok(otf_artifact::yaml::parse(
        &String::from_utf8_lossy(&bytes),
        &path.display().to_string(),
    )?)
}

/// Writes `kernel.lock.yaml`.
pub fn write_lock(path: &Path, lock: &KernelLock) -> Result<Vec<u8>, Failure> {
    let text = serde_saphyr::to_string(lock).map_err(|e| {
        Diagnostic::error(
            Code::InvariantBroken,
            format!("the lock cannot be written as YAML: {e}"),
        )
    })?;
    write(path, text.as_bytes())?;
    Ok(text.into_bytes())
}

/// `otf schema DIR`: the schemas of every YAML file that people edit.
pub fn schemas(dir: &Path) -> Result<(), Failure> {
    let kernel = otf_kernel::schemas()
        .into_iter()
        .map(|(name, schema)| (name, schema.to_value()));
    let all = kernel.chain([("policy", otf_policygen::schema())]);
    for (name, schema) in all {
        let path = dir.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&schema)
            .map_err(|e| Diagnostic::error(Code::InvariantBroken, format!("schema {name}: {e}")))?;
        write(&path, format!("{text}\n").as_bytes())?;
        render::line(&path.display().to_string())?;
    }
    Ok(())
}
