//! The tar layer: fixed members, fixed headers.

use std::io::{Cursor, Read};

use otf_artifact::{bundle::MEMBERS, diagnostic::Diagnostic};
use tar::{Builder, EntryType, Header};

use crate::bad;

/// Writes the members; owner, times and everything else that differs between machines is zero.
pub(crate) fn write<'a>(
    members: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<Vec<u8>, Diagnostic> {
    let failed = |e: std::io::Error| bad(format!("cannot be packed: {e}"));
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        builder
            .append_data(&mut header, name, bytes)
            .map_err(failed)?;
    }
    builder.into_inner().map_err(failed)
}

/// Reads the members; refuses any archive that [`write`] would have written differently.
pub(crate) fn read(bytes: &[u8]) -> Result<[Vec<u8>; MEMBERS.len()], Diagnostic> {
    let broken = |e: std::io::Error| bad(format!("not a bundle: {e}"));
    let mut archive = tar::Archive::new(Cursor::new(bytes));
    let mut members: [Vec<u8>; MEMBERS.len()] = Default::default();
    let mut names = MEMBERS.iter().zip(&mut members);
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let found = entry.path_bytes().into_owned();
        let Some((name, member)) = names.next() else {
            return Err(bad(format!("holds more than {} members", MEMBERS.len())));
        };
        if found != name.as_bytes() {
            let found = String::from_utf8_lossy(&found);
            return Err(bad(format!("member {name} expected, {found} found")));
        }
        entry.read_to_end(member).map_err(broken)?;
    }
    if let Some((name, _)) = names.next() {
        return Err(bad(format!("member {name} is missing")));
    }
    let again = write(
        MEMBERS
            .iter()
            .copied()
            .zip(members.iter().map(Vec::as_slice)),
    )?;
    if again != bytes {
        return Err(bad("the archive holds more than its members"));
    }
    Ok(members)
}
