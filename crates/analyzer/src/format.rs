//! The file of facts: a header and two sections, each decoded alone.
//!
//! | bytes | |
//! |---|---|
//! | 8 | magic `OTFFACTS` |
//! | 16 | [`EXTRACTOR`], hexadecimal |
//! | 64 | SHA-256 of the bitcode, hexadecimal |
//! | 2 × 16 | length and XXH3 of each section |
//!
//! then the sections, in postcard: the facts with the types that they mention; types that they do
//! not mention, empty where these were not kept. Numbers of the header are little-endian.

use std::ops::Range;

use otf_artifact::diagnostic::{Code, Diagnostic};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    facts::{Facts, Type, TypeId},
    prune::sort_types,
    validate::validate,
};

/// Fingerprint of the extractor's sources, 16 hexadecimal digits: facts of another extractor are
/// made again.
pub const EXTRACTOR: &str = env!("OTF_EXTRACTOR");

const MAGIC: &[u8; 8] = b"OTFFACTS";
const SECTIONS: usize = 2;
/// Bytes that most sections fit in.
const ROOM: usize = 1 << 17;
const HEADER: usize = 8 + 16 + 64 + 16 * SECTIONS;

/// How much of a file of facts is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Of types only what the facts mention: enough when the whole program is read.
    Mentioned,
    /// With every type of every header too: what a file declares may hold a type that it uses,
    /// which matters where the files that would say so are not read.
    Full,
}

/// Types that facts do not mention.
#[derive(Serialize, Deserialize)]
struct Unmentioned {
    /// Rows that the first section has without members.
    whole: Vec<(TypeId, Type)>,
    /// Rows after those of the first section.
    more: Vec<Type>,
}

impl Unmentioned {
    /// Adds them to facts that have only what they mention.
    fn complete(self, facts: &mut Facts) {
        for (id, ty) in self.whole {
            if let Some(row) = facts.types.0.get_mut(id.0 as usize) {
                *row = ty;
            }
        }
        facts.types.0.extend(self.more);
    }
}

/// The file of these facts, kept so deep, and what [`decode`] would read from it; `bitcode` is the
/// SHA-256 of what they were read from, in hexadecimal.
pub fn encode(
    mut facts: Facts,
    bitcode: &str,
    depth: Depth,
) -> Result<(Vec<u8>, Facts), Diagnostic> {
    let (kept, opaque) = sort_types(&mut facts);
    let more = facts.types.0.split_off(kept);
    let mut whole = Vec::with_capacity(opaque.len());
    for id in opaque {
        let row = &mut facts.types.0[id.0 as usize];
        let left = row.opaque();
        whole.push((id, std::mem::replace(row, left)));
    }
    facts.types.0.shrink_to_fit();
    let unmentioned = (depth == Depth::Full).then_some(Unmentioned { whole, more });
    let sections = [
        postcard::to_extend(&facts, Vec::with_capacity(ROOM)),
        match &unmentioned {
            Some(unmentioned) => postcard::to_extend(unmentioned, Vec::with_capacity(ROOM)),
            None => Ok(Vec::new()),
        },
    ];
    let mut bytes = vec![0; HEADER];
    let mut header = Vec::with_capacity(HEADER);
    header.extend(MAGIC);
    header.extend(EXTRACTOR.as_bytes());
    let mut hash = [b'0'; 64];
    let length = bitcode.len().min(hash.len());
    hash[..length].copy_from_slice(&bitcode.as_bytes()[..length]);
    header.extend(hash);
    for section in sections {
        let section = section.map_err(|e| {
            Diagnostic::error(
                Code::InvariantBroken,
                format!("facts of {} cannot be written: {e}", facts.source),
            )
        })?;
        header.extend((section.len() as u64).to_le_bytes());
        header.extend(xxh3_64(&section).to_le_bytes());
        bytes.extend(section);
    }
    bytes[..HEADER].copy_from_slice(&header);
    if let Some(unmentioned) = unmentioned {
        unmentioned.complete(&mut facts);
    }
    Ok((bytes, facts))
}

/// Reads a file of facts; `name` is for messages. Errors: another version, not what [`encode`]
/// wrote or not that deep, or a row that does not exist.
pub fn decode(bytes: &[u8], depth: Depth, name: &str) -> Result<Facts, Diagnostic> {
    let sections = header(bytes, name)?.sections;
    let mut facts: Facts = section(bytes, &sections[0], name)?;
    if depth == Depth::Full {
        if sections[1].0.is_empty() {
            return Err(bad(name, "types that it does not mention were not kept"));
        }
        section::<Unmentioned>(bytes, &sections[1], name)?.complete(&mut facts);
    }
    validate(&facts).map_err(|message| bad(name, message))?;
    Ok(facts)
}

/// What the header of a file of facts says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// SHA-256 of the bitcode, hexadecimal.
    pub bitcode: String,
    sections: [(Range<usize>, u64); SECTIONS],
}

/// Reads the header; errors as for [`decode`].
pub fn header(bytes: &[u8], name: &str) -> Result<Header, Diagnostic> {
    let mut rest = bytes;
    if take(&mut rest).as_ref() != Some(MAGIC) {
        return Err(bad(name, "it does not begin with the magic of facts"));
    }
    let version: Option<[u8; 16]> = take(&mut rest);
    if version.as_ref().map(<[u8; 16]>::as_slice) != Some(EXTRACTOR.as_bytes()) {
        return Err(bad(name, "another version of the extractor made it"));
    }
    let cut = || bad(name, "it is truncated");
    let bitcode: [u8; 64] = take(&mut rest).ok_or_else(cut)?;
    let mut at = HEADER;
    let mut sections = [const { (0..0, 0) }; SECTIONS];
    for section in &mut sections {
        let length = take(&mut rest).map(u64::from_le_bytes).ok_or_else(cut)?;
        let hash = take(&mut rest).map(u64::from_le_bytes).ok_or_else(cut)?;
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| at.checked_add(length))
            .filter(|end| *end <= bytes.len())
            .ok_or_else(cut)?;
        *section = (at..end, hash);
        at = end;
    }
    if at != bytes.len() {
        return Err(bad(name, "something follows its end"));
    }
    let bitcode = String::from_utf8_lossy(&bitcode).into_owned();
    Ok(Header { bitcode, sections })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*first)
}

fn section<T: DeserializeOwned>(
    bytes: &[u8],
    (range, hash): &(Range<usize>, u64),
    name: &str,
) -> Result<T, Diagnostic> {
    let section = &bytes[range.clone()];
    if xxh3_64(section) != *hash {
        return Err(bad(name, "a part of it was changed"));
    }
    postcard::from_bytes(section).map_err(|e| bad(name, &e.to_string()))
}

fn bad(name: &str, message: &str) -> Diagnostic {
    Diagnostic::error(
        Code::BadArtifact,
        format!("the facts of {name} cannot be read: {message}"),
    )
    .help("make them again: `otf facts`, or remove them from the cache")
}
