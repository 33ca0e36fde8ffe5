//! ELF notes as sysfs shows them: the build-id.

use std::fmt::Write as _;

const NT_GNU_BUILD_ID: u32 = 3;

/// The GNU build-id (hex) among the notes, if there is one.
pub fn build_id(mut raw: &[u8]) -> Option<String> {
    while let (Some(name_len), Some(desc_len), Some(kind)) =
        (word(raw, 0), word(raw, 4), word(raw, 8))
    {
        let name = raw.get(12..12usize.checked_add(name_len as usize)?)?;
        let start = 12usize.checked_add(aligned(name_len)?)?;
        let desc = raw.get(start..start.checked_add(desc_len as usize)?)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" && !desc.is_empty() {
            return Some(hex(desc));
        }
        raw = raw.get(start.checked_add(aligned(desc_len)?)?..)?;
    }
    None
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn word(raw: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(raw.get(at..at + 4)?.try_into().ok()?))
}

fn aligned(len: u32) -> Option<usize> {
    (len as usize).checked_next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
        let mut raw = Vec::new();
        raw.extend((name.len() as u32).to_le_bytes());
        raw.extend((desc.len() as u32).to_le_bytes());
        raw.extend(kind.to_le_bytes());
        for part in [name, desc] {
            raw.extend(part);
            raw.resize(raw.len().next_multiple_of(4), 0);
        }
        raw
    }

    #[test]
    fn finds_the_build_id_behind_other_notes() {
        let mut raw = note(b"Xen\0", 6, &[1, 2, 3]);
        raw.extend(note(b"Linux\0", 3, b"not a build-id"));
        raw.extend(note(b"GNU\0", 3, &[0xde, 0xad, 0x01]));
        assert_eq!(build_id(&raw).as_deref(), Some("dead01"));
        assert_eq!(build_id(&note(b"GNU\0", 1, &[1])), None);
        assert_eq!(build_id(&raw[..raw.len() - 4]), None, "truncated");
    }

    proptest! {
        #[test]
        fn never_panics(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = build_id(&raw);
        }
        #[test]
        fn any_id_is_found(id in proptest::collection::vec(any::<u8>(), 1..40), before in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut raw = note(b"CORE\0", 9, &before);
            raw.extend(note(b"GNU\0", 3, &id));
            prop_assert_eq!(build_id(&raw), Some(hex(&id)));
        }
    }
}
