//! Reads Debian packages as streams: `ar` members, xz, tar. Nothing is unpacked that is not wanted.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    thread,
};

use liblzma::{
    read::XzDecoder,
    stream::{MtStreamBuilder, Stream},
};
use otf_artifact::diagnostic::{Code, Diagnostic};
use tar::Entry;

use crate::progress::{Meter, Metered};

/// Bytes of an `ar` member's header.
const MEMBER_HEADER: usize = 60;
/// Buffer in front of the decoder.
const BUFFER: usize = 1 << 18;
/// Bytes that parallel decoding may take.
const DECODER_MEMORY: u64 = 1 << 30;

/// Whether [`walk`] goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// To the next entry.
    On,
    /// Everything that was wanted was seen.
    Done,
}

/// An entry of the package's file system tree while it streams by.
pub type Member<'a, 'r> = Entry<'a, Box<dyn Read + 'r>>;

/// Calls `visit` with every entry of `data.tar.xz` (path without `./`), in the package's order.
pub fn walk(
    package: &Path,
    what: &str,
    mut visit: impl FnMut(&Path, &mut Member<'_, '_>) -> io::Result<Walk>,
) -> Result<(), Diagnostic> {
    let bad = |e: &io::Error| {
        Diagnostic::error(
            Code::CacheCorrupt,
            format!("{} cannot be read: {e}", package.display()),
        )
        .help(format!(
            "remove {}; the next run fetches it again",
            package.display()
        ))
    };
    let file = File::open(package).map_err(|e| bad(&e))?;
    let data = data_member(BufReader::with_capacity(BUFFER, file)).map_err(|e| bad(&e))?;
    let total = data.limit();
    let metered = Metered::new(data, Meter::new(what, total));
    entries(metered, &mut visit).map_err(|e| bad(&e))
}

/// Unpacks the entries that `place` gives a destination below `into`.
pub fn unpack(
    package: &Path,
    what: &str,
    into: &Path,
    place: impl Fn(&Path) -> Option<PathBuf>,
) -> Result<(), Diagnostic> {
    walk(package, what, |path, entry| {
        if let Some(relative) = place(path) {
            unpack_entry(entry, &relative, into)?;
        }
        Ok(Walk::On)
    })
}

/// Unpacks a `.tar.xz` that is itself an entry.
pub fn unpack_nested(archive: &mut Member<'_, '_>, into: &Path) -> io::Result<()> {
    entries(archive, &mut |path, entry| {
        unpack_entry(entry, path, into)?;
        Ok(Walk::On)
    })
}

/// Writes one entry to `into/relative`. Symbolic links are made, never followed; entries that are
/// neither file, folder nor link do not occur in the packages that are read.
fn unpack_entry(entry: &mut Member<'_, '_>, relative: &Path, into: &Path) -> io::Result<()> {
    let target = into.join(relative);
    if entry.header().entry_type().is_dir() {
        return std::fs::create_dir_all(&target);
    }
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
        let real = parent.canonicalize()?;
        if !real.starts_with(into.canonicalize()?) {
            return Err(io::Error::other(format!(
                "{} leads out of the archive",
                relative.display()
            )));
        }
    }
    entry.set_preserve_permissions(false);
    entry.unpack(&target).map(|_| ())
}

fn entries(
    compressed: impl Read,
    visit: &mut dyn FnMut(&Path, &mut Member<'_, '_>) -> io::Result<Walk>,
) -> io::Result<()> {
    let decoder: Box<dyn Read + '_> = Box::new(BufReader::with_capacity(
        BUFFER,
        XzDecoder::new_stream(BufReader::with_capacity(BUFFER, compressed), decoder()?),
    ));
    let mut archive = tar::Archive::new(decoder);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let path: PathBuf = path
            .components()
            .filter(|c| !matches!(c, std::path::Component::CurDir))
            .collect();
        let plain = path
            .components()
            .all(|c| matches!(c, std::path::Component::Normal(_)));
        if !plain {
            return Err(io::Error::other(format!(
                "{} leads out of the archive",
                path.display()
            )));
        }
        if visit(&path, &mut entry)? == Walk::Done {
            return Ok(());
        }
    }
    // What follows the last entry carries the checksums.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map(|_| ())
}

/// Decodes independent blocks in parallel, as far as that needs no more memory than the limit.
fn decoder() -> io::Result<Stream> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    Ok(MtStreamBuilder::new()
        .threads(threads as u32)
        .memlimit_threading(DECODER_MEMORY)
        .memlimit_stop(u64::MAX)
        .decoder()?)
}

/// Positions an `ar` archive at the content of `data.tar.xz`.
fn data_member<R: Read>(mut archive: R) -> io::Result<io::Take<R>> {
    let mut magic = [0; 8];
    archive.read_exact(&mut magic)?;
    if &magic != b"!<arch>\n" {
        return Err(io::Error::other("not a Debian package"));
    }
    loop {
        let mut header = [0; MEMBER_HEADER];
        archive.read_exact(&mut header).map_err(|e| {
            io::Error::other(format!("the package has no member data.tar.xz ({e})"))
        })?;
        let field = |range: std::ops::Range<usize>| {
            std::str::from_utf8(&header[range])
                .map(str::trim_end)
                .map_err(io::Error::other)
        };
        let size: u64 = field(48..58)?.parse().map_err(io::Error::other)?;
        match field(0..16)?.trim_end_matches('/') {
            "data.tar.xz" => return Ok(archive.take(size)),
            name if name.starts_with("data.tar") => {
                return Err(io::Error::other(format!(
                    "{name}: only xz compression is read"
                )));
            }
            // Members start at even offsets.
            _ => io::copy(&mut archive.by_ref().take(size + size % 2), &mut io::sink())?,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, process::Command};

    use super::*;

    /// A package with two files and a link.
    fn package(dir: &Path) -> PathBuf {
        let tree = dir.join("tree");
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        fs::create_dir_all(tree.join("usr/lib/debug")).unwrap();
        fs::write(
            tree.join("DEBIAN/control"),
            "Package: t\nVersion: 1\nArchitecture: all\nMaintainer: t <t@t>\nDescription: t\n",
        )
        .unwrap();
        fs::write(tree.join("usr/lib/debug/a"), "first").unwrap();
        fs::write(tree.join("usr/lib/debug/b"), vec![7; 100_000]).unwrap();
        symlink("debug/a", tree.join("usr/lib/l")).unwrap();
        let deb = dir.join("t.deb");
        let status = Command::new("dpkg-deb")
            .args(["-Zxz", "--root-owner-group", "-b"])
            .args([&tree, &deb])
            .output()
            .unwrap();
        assert!(status.status.success(), "{status:?}");
        deb
    }

    #[test]
    fn streams_only_what_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let deb = package(dir.path());
        let mut seen = Vec::new();
        walk(&deb, "t", |path, entry| {
            if path == Path::new("usr/lib/debug/a") {
                let mut text = String::new();
                entry.read_to_string(&mut text)?;
                seen.push(text);
                return Ok(Walk::Done);
            }
            Ok(Walk::On)
        })
        .unwrap();
        assert_eq!(seen, ["first"]);
    }

    #[test]
    fn unpacks_with_links() {
        let dir = tempfile::tempdir().unwrap();
        let deb = package(dir.path());
        let into = dir.path().join("out");
        fs::create_dir(&into).unwrap();
        unpack(&deb, "t", &into, |p| {
            p.strip_prefix("usr/lib").ok().map(Path::to_owned)
        })
        .unwrap();
        assert_eq!(fs::read_to_string(into.join("l")).unwrap(), "first");
        assert_eq!(fs::metadata(into.join("debug/b")).unwrap().len(), 100_000);
    }

    #[test]
    fn broken_packages_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let deb = package(dir.path());
        let whole = fs::read(&deb).unwrap();
        for (bytes, says) in [
            (&b"hello"[..], "fill whole buffer"),
            (&b"hello, world"[..], "not a Debian package"),
            (&whole[..whole.len() - 30], "cannot be read"),
            (&whole[..70], "no member data.tar.xz"),
        ] {
            fs::write(&deb, bytes).unwrap();
            let error = walk(&deb, "t", |_, _| Ok(Walk::On)).unwrap_err();
            assert_eq!(error.code, Code::CacheCorrupt);
            assert!(error.message.contains(says), "{error}");
        }
    }
}
