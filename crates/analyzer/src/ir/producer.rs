//! Which LLVM wrote a bitcode file: the identification block at its beginning.
//!
//! Formats after "LLVM Bitcode File Format", sections *Bitstream* and `IDENTIFICATION_BLOCK`.

/// Bits of a byte sequence, lowest first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn fixed(&mut self, width: usize) -> Option<u32> {
        let mut value = 0;
        for bit in 0..width {
            let byte = self.bytes.get(self.at / 8)?;
            value |= u32::from(byte >> (self.at % 8) & 1) << bit;
            self.at += 1;
        }
        Some(value)
    }

    /// Variable width: chunks of `width` bits whose highest says that more follow.
    fn variable(&mut self, width: usize) -> Option<u32> {
        let more = 1 << (width - 1);
        let mut value = 0;
        for chunk in 0..6 {
            let bits = self.fixed(width)?;
            value |= (bits & (more - 1)).checked_shl((chunk * (width - 1)) as u32)?;
            if bits & more == 0 {
                return Some(value);
            }
        }
        None
    }
}

const ENTER_BLOCK: u32 = 1;
const DEFINE_ABBREVIATION: u32 = 2;
const FIRST_ABBREVIATION: u32 = 4;
const IDENTIFICATION: u32 = 13;
/// Kinds of operands of an abbreviation.
const ARRAY: u32 = 3;
const CHAR6: u32 = 4;
const FIXED: u32 = 1;
const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._";
/// Longer than any name of a producer.
const LONGEST: u32 = 64;

/// Producer as the file names it, `LLVM19.1.7`; `None` where the block is not of the usual form.
pub(super) fn producer(bitcode: &[u8]) -> Option<String> {
    let mut bits = Bits {
        bytes: bitcode,
        at: 32,
    };
    let header = [bits.fixed(2)?, bits.variable(8)?];
    if header != [ENTER_BLOCK, IDENTIFICATION] {
        return None;
    }
    let width = bits.variable(4)? as usize;
    // To the next word, and over the block's length.
    bits.at = bits.at.next_multiple_of(32) + 32;
    if bits.fixed(width)? != DEFINE_ABBREVIATION || bits.variable(5)? != 3 {
        return None;
    }
    // The record's code as a literal, an array, and what it is of.
    let literal = bits.fixed(1)? == 1 && bits.variable(8)? > 0;
    let array = bits.fixed(1)? == 0 && bits.fixed(3)? == ARRAY && bits.fixed(1)? == 0;
    if !literal || !array {
        return None;
    }
    let letter = match bits.fixed(3)? {
        CHAR6 => 6,
        FIXED => bits.variable(5)? as usize,
        _ => return None,
    };
    if bits.fixed(width)? != FIRST_ABBREVIATION || !(6..=8).contains(&letter) {
        return None;
    }
    let length = bits.variable(6)?;
    (0..length.min(LONGEST))
        .map(|_| {
            let value = bits.fixed(letter)?;
            Some(match letter {
                6 => char::from(LETTERS[value as usize]),
                _ => char::from(value as u8),
            })
        })
        .collect()
}

/// Release of an LLVM producer, `19` of `LLVM19.1.7`.
pub(super) fn release(producer: &str) -> Option<u32> {
    let digits = producer.strip_prefix("LLVM")?;
    digits
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::{producer, release};

    #[test]
    fn releases_are_read_from_names() {
        assert_eq!(release("LLVM19.1.7"), Some(19));
        assert_eq!(release("LLVM20.0.0git"), Some(20));
        assert_eq!(release("Rust"), None);
    }

    #[test]
    fn what_is_not_the_block_has_no_producer() {
        for cut in 0..40 {
            assert_eq!(producer(&vec![0xff; cut]), None);
            assert_eq!(producer(&vec![0; cut]), None);
        }
    }
}
