//! Map values and events as bytes: the structures of the ABI hold no padding and no invalid bit patterns.

use std::mem::{MaybeUninit, size_of};

use otf_artifact::{abi, recorder};

use crate::{guard_frees, guard_probes};

/// A structure that is nothing but its bytes.
///
/// # Safety
/// `repr(C)`, every bit pattern is valid, and there is no padding between or after the fields.
pub unsafe trait Pod: Copy {}

/// Asserts at compile time that the fields fill the structure: no padding.
macro_rules! pod {
    ($($home:ident::$name:ident = $size:expr;)*) => {$(
        const _: () = assert!(size_of::<$home::$name>() == $size);
        // SAFETY: integers and arrays of them in repr(C), and the sum of their sizes is the size.
        unsafe impl Pod for $home::$name {}
    )*};
}

pod! {
    abi::State = 4 + 4 + 6 * 8 + 4 + 4 + abi::MAX_TEXTS * 16;
    abi::Range = 16;
    abi::Object = 24;
    abi::Quarantine = 32;
    abi::SiteCount = 24;
    abi::Target = 16;
    abi::Cache = 8 + 4 + 4 + 56 + 56;
    abi::Event = 7 * 8 + 6 * 4 + 8 + 16 + 32;
    recorder::Chain = recorder::CHAIN * 8 + 8;
    recorder::ChainUse = 4 * 8 + 2 * 4;
    recorder::Seen = 3 * 8 + 2 * 4 + 8;
    recorder::SeenUse = 3 * 8;
    recorder::Called = 8 + 2 * 4;
    guard_probes::ProbeRow = 2 * 8 + 2 * 4 + 2 + 2 + 4 + 6 * 4 + 8;
    guard_probes::Value = 64 + 192;
    guard_frees::Value = 64 + 128;
}

// SAFETY: an integer.
unsafe impl Pod for u64 {}

/// Reads a structure from the front of `bytes`; `None` when they are too few.
pub fn read<T: Pod>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: source and target are valid for the size, and every bit pattern is a T.
    Some(unsafe {
        value
            .as_mut_ptr()
            .cast::<u8>()
            .copy_from_nonoverlapping(bytes.as_ptr(), size_of::<T>());
        value.assume_init()
    })
}

/// The bytes of a structure.
pub fn bytes<T: Pod>(value: &T) -> &[u8] {
    // SAFETY: no padding, so every byte is initialised; the lifetime is that of the value.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// Text up to the first NUL, with what is not UTF-8 replaced.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(start: u64, end: u64, tail in proptest::collection::vec(any::<u8>(), 0..9)) {
            let range = abi::Range { start, end };
            let mut raw = bytes(&range).to_vec();
            prop_assert_eq!(read::<abi::Range>(&raw[..15]), None);
            raw.extend(tail);
            prop_assert_eq!(read::<abi::Range>(&raw), Some(range));
        }

        #[test]
        fn text_never_panics_and_stops_at_nul(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(!text(&raw).contains('\0'));
        }
    }
}
