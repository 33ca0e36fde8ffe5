//! The initramfs: a cpio archive in the `newc` format, the same bytes for the same content.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use flate2::{Compression, GzBuilder};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
/// Bytes of an entry's header.
const HEADER: usize = 110;
const TRAILER: &str = "TRAILER!!!";
/// The format has eight hex digits for a size.
const MAX_SIZE: usize = u32::MAX as usize;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Directory,
    File { bytes: Vec<u8>, executable: bool },
    Symlink(String),
}

/// Files, directories and links of a guest's root; parents are added by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// An archive with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file that is not executable; replaces what had the path.
    pub fn file(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.insert(
            path,
            Entry::File {
                bytes,
                executable: false,
            },
        );
    }

    /// Adds a program or script; replaces what had the path.
    pub fn program(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.insert(
            path,
            Entry::File {
                bytes,
                executable: true,
            },
        );
    }

    /// Adds an empty directory.
    pub fn directory(&mut self, path: &str) {
        self.insert(path, Entry::Directory);
    }

    /// Adds a symbolic link; replaces what had the path.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.insert(path, Entry::Symlink(target.to_owned()));
    }

    /// Paths in the archive without the leading `/`, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    fn insert(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/');
        let slashes = path.match_indices('/').map(|(at, _)| at);
        for end in slashes.filter(|&end| end > 0) {
            self.entries
                .entry(path[..end].to_owned())
                .or_insert(Entry::Directory);
        }
        if !path.is_empty() {
            self.entries.insert(path.to_owned(), entry);
        }
    }

    /// Writes the archive, uncompressed.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for (number, (path, entry)) in self.entries.iter().enumerate() {
            let (mode, bytes): (u32, &[u8]) = match entry {
                Entry::Directory => (DIRECTORY | 0o755, &[]),
                Entry::File {
                    bytes,
                    executable: true,
                } => (REGULAR | 0o755, bytes),
                Entry::File { bytes, .. } => (REGULAR | 0o644, bytes),
                Entry::Symlink(target) => (SYMLINK | 0o777, target.as_bytes()),
            };
            // Inode numbers only have to differ: equal ones would make hard links.
            write_entry(out, number as u32 + 1, mode, path, bytes)?;
        }
        write_entry(out, 0, 0, TRAILER, &[])
    }

    /// The archive as the kernel takes it, gzip-compressed without a time stamp.
    pub fn to_gzip(&self) -> io::Result<Vec<u8>> {
        let mut encoder = GzBuilder::new().write(Vec::new(), Compression::fast());
        self.write(&mut encoder)?;
        encoder.finish()
    }
}

fn write_entry(
    out: &mut dyn Write,
    inode: u32,
    mode: u32,
    path: &str,
    bytes: &[u8],
) -> io::Result<()> {
    if bytes.len() > MAX_SIZE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{path} is too large for an initramfs"),
        ));
    }
    let name_size = path.len() + 1;
    let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
    write!(out, "070701{inode:08x}{mode:08x}")?;
    // uid, gid, links, mtime, size, device (2), device of a node (2), name size, checksum
    write!(
        out,
        "{0:08x}{0:08x}{links:08x}{0:08x}{1:08x}{0:08x}{0:08x}{0:08x}{0:08x}{name_size:08x}{0:08x}",
        0,
        bytes.len()
    )?;
    out.write_all(path.as_bytes())?;
    pad(out, HEADER + name_size, 1)?;
    out.write_all(bytes)?;
    pad(out, bytes.len(), 0)
}

/// Writes `least` zero bytes and as many as lead from `length` to a multiple of 4.
fn pad(out: &mut dyn Write, length: usize, least: usize) -> io::Result<()> {
    out.write_all(&[0; 4][..least + length.wrapping_neg() % 4])
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    /// An independent reader of the format: (path, mode, content) per entry.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        let total = bytes.len();
        loop {
            let field = |n: usize| {
                let digits = std::str::from_utf8(&bytes[6 + 8 * n..14 + 8 * n]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            assert_eq!(&bytes[..6], b"070701");
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = std::str::from_utf8(&bytes[110..110 + name_size - 1]).unwrap();
            assert_eq!(bytes[110 + name_size - 1], 0);
            if name == TRAILER {
                return entries;
            }
            let start = (110 + name_size).next_multiple_of(4);
            entries.push((name.to_owned(), mode, bytes[start..start + size].to_vec()));
            bytes = &bytes[(start + size).next_multiple_of(4)..];
            assert_eq!((total - bytes.len()) % 4, 0);
        }
    }

    fn written(archive: &Archive) -> Vec<u8> {
        let mut bytes = Vec::new();
        archive.write(&mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(
            files in prop::collection::btree_map("[a-z]{1,5}/[a-z]{1,9}", prop::collection::vec(any::<u8>(), 0..99), 0..9),
        ) {
            let mut archive = Archive::new();
            for (path, bytes) in &files {
                archive.file(path, bytes.clone());
            }
            let entries = read(&written(&archive));
            let read_back: BTreeMap<_, _> = entries
                .iter()
                .filter(|(_, mode, _)| mode & REGULAR == REGULAR)
                .map(|(path, _, bytes)| (path.clone(), bytes.clone()))
                .collect();
            prop_assert_eq!(read_back, files);
            // Each parent comes before what lies in it.
            for (at, (path, ..)) in entries.iter().enumerate() {
                if let Some((parent, _)) = path.rsplit_once('/') {
                    prop_assert!(entries[..at].iter().any(|(p, mode, _)| p == parent && mode & DIRECTORY == DIRECTORY));
                }
            }
        }
    }

    #[test]
    fn busybox_agrees() {
        let mut archive = Archive::new();
        archive.program("/bin/tool", "#!/bin/sh\n");
        archive.symlink("/bin/link", "tool");
        archive.directory("/empty");
        let mut child = Command::new("busybox")
            .args(["cpio", "-t", "-v"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("busybox is installed");
        child
            .stdin
            .take()
            .unwrap()
            .write_all(&written(&archive))
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let listing = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = listing.lines().collect();
        assert_eq!(lines.len(), 4, "{listing}");
        assert!(lines[0].starts_with("drwxr-xr-x") && lines[0].ends_with(" bin"));
        assert!(lines[1].starts_with("lrwxrwxrwx") && lines[1].ends_with(" bin/link -> tool"));
        assert!(lines[2].starts_with("-rwxr-xr-x") && lines[2].ends_with(" bin/tool"));
        assert!(lines[3].starts_with("drwxr-xr-x") && lines[3].ends_with(" empty"));
    }

    #[test]
    fn the_order_of_additions_does_not_matter() {
        let (mut one, mut other) = (Archive::new(), Archive::new());
        one.file("/a/b", "1");
        one.file("c", "2");
        other.file("c", "2");
        other.directory("/a/");
        other.file("a/b", "1");
        assert_eq!(one.to_gzip().unwrap(), other.to_gzip().unwrap());
    }
}
