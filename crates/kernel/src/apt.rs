//! The distribution's archive, through apt of this machine as an ordinary client.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, UNIX_EPOCH},
};

use otf_artifact::diagnostic::{Code, Diagnostic};
use serde::{Deserialize, Serialize};

use crate::{
    cache::{hash_file, io_error, key},
    command::{last_words, not_started, output},
    progress::Meter,
};

/// How often the size of a growing download is looked at.
const POLL: Duration = Duration::from_millis(200);

/// One version of a package, as the archive describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Package name.
    pub name: String,
    /// Exact version.
    pub version: String,
    /// SHA-256 of the package file, hex.
    pub sha256: String,
    /// Bytes of the package file.
    pub size: u64,
}

/// Where packages come from; tests have one of their own.
pub trait Archive {
    /// Names what the archive knows at the moment: as long as it is the same, so are the answers.
    /// `None` where that is not known.
    fn state(&self) -> Option<String> {
        None
    }
    /// Names of packages that start so.
    fn names(&self, prefix: &str) -> Result<Vec<String>, Diagnostic>;
    /// Every version of these packages that can be fetched; a name without one is left out.
    fn records(&self, names: &[String]) -> Result<Vec<Record>, Diagnostic>;
    /// Fetches a package file into a folder and checks its hash.
    fn download(&self, record: &Record, into: &Path) -> Result<PathBuf, Diagnostic>;
}

/// apt.
#[derive(Clone, Copy, Debug, Default)]
pub struct Apt;

/// What decides apt's answers: its package lists and where they come from.
const APT_FILES: [&str; 3] = ["/var/lib/apt/lists", "/etc/apt", "/etc/apt/sources.list.d"];

impl Archive for Apt {
    fn state(&self) -> Option<String> {
        let mut parts = Vec::new();
        for folder in APT_FILES {
            // A folder that does not exist decides nothing.
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let entry = entry.ok()?;
                let metadata = entry.metadata().ok()?;
                let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
                parts.push(format!(
                    "{} {} {}",
                    entry.path().display(),
                    metadata.len(),
                    modified.as_nanos()
                ));
            }
        }
        parts.sort();
        Some(key(parts))
    }

    fn names(&self, prefix: &str) -> Result<Vec<String>, Diagnostic> {
        let output = output(Command::new("apt-cache").args(["pkgnames", prefix]), "apt")?;
        Ok(String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned)
            .collect())
    }

    fn records(&self, names: &[String]) -> Result<Vec<Record>, Diagnostic> {
        // It fails when one name is unknown, and still describes the others.
        let output = output(
            Command::new("apt-cache").arg("show").arg("--").args(names),
            "apt",
        )?;
        Ok(parse_records(&String::from_utf8_lossy(&output.stdout)))
    }

    fn download(&self, record: &Record, into: &Path) -> Result<PathBuf, Diagnostic> {
        let spec = format!("{}={}", record.name, record.version);
        let mut command = Command::new("apt-get");
        // The sandbox user could not write into a private cache.
        command
            .args(["-o", "APT::Sandbox::User=root", "-q", "download", &spec])
            .current_dir(into)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|e| not_started(&command, "apt", &e))?;
        let mut meter = Meter::new(format!("fetching {}", record.name), record.size);
        // apt's few lines of output fit into the pipes, so that it never waits for a reader.
        while child
            .try_wait()
            .map_err(|e| io_error("wait for apt-get in", into, &e))?
            .is_none()
        {
            meter.at(folder_size(into));
            thread::sleep(POLL);
        }
        let output = child
            .wait_with_output()
            .map_err(|e| io_error("wait for apt-get in", into, &e))?;
        if !output.status.success() {
            return Err(failed(&spec, &last_words(&output)));
        }
        let package = fs::read_dir(into)
            .map_err(|e| io_error("read", into, &e))?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|e| e == "deb"))
            .ok_or_else(|| {
                Diagnostic::error(
                    Code::FetchFailed,
                    format!("apt-get download {spec} left no package file"),
                )
            })?;
        let sha256 = hash_file(&package)?;
        if sha256 == record.sha256 {
            Ok(package)
        } else {
            Err(Diagnostic::error(
                Code::FetchFailed,
                format!(
                    "{spec} has SHA-256 {sha256}, the archive says {}",
                    record.sha256
                ),
            ))
        }
    }
}

/// What apt's words mean.
fn failed(spec: &str, words: &str) -> Diagnostic {
    let gone = [
        "Unable to locate",
        "was not found",
        "404",
        "no installation candidate",
    ]
    .iter()
    .any(|sign| words.contains(sign));
    if gone {
        Diagnostic::error(
            Code::PackageGone,
            format!("{spec} cannot be fetched any more:\n{words}"),
        )
        .help("update the package lists (`apt-get update`) and run the command again")
    } else {
        Diagnostic::error(
            Code::FetchFailed,
            format!("apt-get download {spec}:\n{words}"),
        )
        .help("check the network, then run the command again: what is complete is kept")
    }
}

fn folder_size(folder: &Path) -> u64 {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// Reads the paragraphs of `apt-cache show`; one that cannot be fetched (no hash) is left out.
fn parse_records(text: &str) -> Vec<Record> {
    text.split("\n\n")
        .filter_map(|paragraph| {
            let field = |name: &str| {
                paragraph
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            field("Filename")?;
            Some(Record {
                name: field("Package")?.to_owned(),
                version: field("Version")?.to_owned(),
                sha256: field("SHA256")?.to_owned(),
                size: field("Size")?.parse().ok()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs() {
        let text = "Package: a\nVersion: 1-2\nDescription: x\n Version: 9\nFilename: pool/a.deb\n\
                    Size: 12\nSHA256: 00ff\n\nPackage: installed\nStatus: install ok installed\nVersion: 3\n\n";
        assert_eq!(
            parse_records(text),
            [Record {
                name: "a".into(),
                version: "1-2".into(),
                sha256: "00ff".into(),
                size: 12
            }]
        );
        assert!(parse_records("").is_empty());
    }

    #[test]
    fn gone_is_not_a_network_failure() {
        assert_eq!(
            failed("a=1", "E: Version '1' for 'a' was not found").code,
            Code::PackageGone
        );
        assert_eq!(
            failed("a=1", "Could not resolve 'x'").code,
            Code::FetchFailed
        );
    }
}
