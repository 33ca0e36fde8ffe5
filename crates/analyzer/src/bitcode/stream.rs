//! The bitstream container: blocks, abbreviations and records.
//!
//! After "LLVM Bitcode File Format", section *Bitstream*. Every read is checked against the end of
//! the block, so that damaged input is an error and nothing else.

use rustc_hash::FxHashMap as HashMap;

use crate::bitcode::Error;

const END_BLOCK: u64 = 0;
const ENTER_BLOCK: u64 = 1;
const DEFINE_ABBREVIATION: u64 = 2;
const UNABBREVIATED: u64 = 3;
const FIRST_ABBREVIATION: u64 = 4;

/// The block that holds abbreviations of other blocks, and its record that names one.
const BLOCK_INFO: u32 = 0;
const SET_BLOCK: u32 = 1;

/// Widest number.
const WORD: u32 = 64;
/// Bits that one unaligned load always has.
const AT_ONCE: u32 = 57;
const CHAR6: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._";

/// How a field of an abbreviated record is written.
#[derive(Clone, Copy)]
enum Field {
    Literal(u64),
    Fixed(u32),
    Variable(u32),
    Array,
    Char6,
    Blob,
}

/// Fields of an abbreviation, as rows of the reader's.
type Abbreviation = (u32, u32);

/// What comes next in a block.
pub(super) enum Entry {
    /// A block, to be entered or skipped.
    Block(u32),
    /// A record, whose numbers are in [`Reader::record`].
    Record(u32),
    /// The end of the block.
    End,
}

/// What a block is returned to.
struct Outer {
    width: u32,
    end: usize,
    abbreviations: Vec<Abbreviation>,
}

/// A place in a bitstream.
pub(super) struct Reader<'b> {
    bytes: &'b [u8],
    /// In bits, as all places here.
    at: usize,
    end: usize,
    width: u32,
    fields: Vec<Field>,
    abbreviations: Vec<Abbreviation>,
    known: HashMap<u32, Vec<Abbreviation>>,
    outer: Vec<Outer>,
    /// Numbers of the last record.
    pub(super) record: Vec<u64>,
    /// Bytes at the end of the last record.
    pub(super) blob: &'b [u8],
}

impl<'b> Reader<'b> {
    /// The outermost level, after the magic.
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self {
            bytes,
            at: 32,
            end: bytes.len() * 8,
            width: 2,
            fields: Vec::new(),
            abbreviations: Vec::new(),
            known: HashMap::default(),
            outer: Vec::new(),
            record: Vec::new(),
            blob: &[],
        }
    }

    /// Whether nothing but the filling of the last word is left.
    pub(super) fn at_end(&self) -> bool {
        self.end.saturating_sub(self.at) < 32
    }

    #[inline]
    fn fixed(&mut self, width: u32) -> Result<u64, Error> {
        let next = self.at + width as usize;
        if next > self.end || width > WORD {
            return Err(Error::TooShort);
        }
        let byte = self.at / 8;
        let value = match self.bytes.get(byte..byte + 8) {
            Some(bytes) if width <= AT_ONCE => {
                let mut word = [0; 8];
                word.copy_from_slice(bytes);
                u64::from_le_bytes(word) >> (self.at % 8)
            }
            _ => self.slowly(width),
        };
        self.at = next;
        Ok(if width == WORD {
            value
        } else {
            value & ((1 << width) - 1)
        })
    }

    /// Where a load would reach over the end, or would be too small.
    #[cold]
    fn slowly(&self, width: u32) -> u64 {
        (0..width as usize).fold(0, |value, bit| {
            let at = self.at + bit;
            let byte = self.bytes.get(at / 8).copied().unwrap_or(0);
            value | u64::from(byte >> (at % 8) & 1) << bit
        })
    }

    #[inline]
    fn variable(&mut self, width: u32) -> Result<u64, Error> {
        if !(2..=32).contains(&width) {
            return Err(Error::Malformed("the width of a number"));
        }
        let more = 1 << (width - 1);
        let mut chunk = self.fixed(width)?;
        let mut value = chunk & (more - 1);
        let mut shift = width - 1;
        while chunk & more != 0 {
            chunk = self.fixed(width)?;
            if shift >= WORD {
                return Err(Error::Malformed("a number that is too long"));
            }
            value |= (chunk & (more - 1)) << shift;
            shift += width - 1;
        }
        Ok(value)
    }

    fn align(&mut self) {
        self.at = self.at.next_multiple_of(32);
    }

    /// The next block or record; abbreviations are noted on the way.
    pub(super) fn next(&mut self) -> Result<Entry, Error> {
        loop {
            match self.fixed(self.width)? {
                END_BLOCK => {
                    self.leave()?;
                    return Ok(Entry::End);
                }
                ENTER_BLOCK => {
                    let id = self.variable(8)? as u32;
                    if id != BLOCK_INFO {
                        return Ok(Entry::Block(id));
                    }
                    self.block_info()?;
                }
                DEFINE_ABBREVIATION => {
                    let new = self.define()?;
                    self.abbreviations.push(new);
                }
                UNABBREVIATED => return self.plain().map(Entry::Record),
                id => {
                    let row = (id - FIRST_ABBREVIATION) as usize;
                    let fields = self.abbreviations.get(row).copied();
                    let fields = fields.ok_or(Error::Malformed("an unknown abbreviation"))?;
                    return self.abbreviated(fields).map(Entry::Record);
                }
            }
        }
    }

    /// Enters the block that was just found.
    pub(super) fn enter(&mut self, id: u32) -> Result<(), Error> {
        let (width, end) = self.head()?;
        if !(2..=32).contains(&width) {
            return Err(Error::Malformed("the width of a block"));
        }
        let abbreviations = self.known.get(&id).cloned().unwrap_or_default();
        self.outer.push(Outer {
            width: std::mem::replace(&mut self.width, width),
            end: std::mem::replace(&mut self.end, end),
            abbreviations: std::mem::replace(&mut self.abbreviations, abbreviations),
        });
        Ok(())
    }

    /// Passes over the block that was just found.
    pub(super) fn skip(&mut self) -> Result<(), Error> {
        self.at = self.head()?.1;
        Ok(())
    }

    /// The width of a block's identifiers, and its end.
    fn head(&mut self) -> Result<(u32, usize), Error> {
        let width = self.variable(4)? as u32;
        self.align();
        let words = self.fixed(32)? as usize;
        let end = self.at + words * 32;
        if end > self.end {
            return Err(Error::TooShort);
        }
        Ok((width, end))
    }

    fn leave(&mut self) -> Result<(), Error> {
        let outer = self.outer.pop();
        let outer = outer.ok_or(Error::Malformed("an end without a block"))?;
        self.at = self.end;
        (self.width, self.end) = (outer.width, outer.end);
        self.abbreviations = outer.abbreviations;
        Ok(())
    }

    fn block_info(&mut self) -> Result<(), Error> {
        self.enter(BLOCK_INFO)?;
        let mut of = None;
        loop {
            match self.fixed(self.width)? {
                END_BLOCK => return self.leave(),
                DEFINE_ABBREVIATION => {
                    let new = self.define()?;
                    let of = of.ok_or(Error::Malformed("an abbreviation of no block"))?;
                    self.known.entry(of).or_default().push(new);
                }
                UNABBREVIATED => {
                    if self.plain()? == SET_BLOCK {
                        of = self.record.first().map(|id| *id as u32);
                    }
                }
                _ => return Err(Error::Malformed("a block of abbreviations")),
            }
        }
    }

    fn define(&mut self) -> Result<Abbreviation, Error> {
        let first = self.fields.len() as u32;
        let count = self.variable(5)? as u32;
        for _ in 0..count {
            let field = if self.fixed(1)? == 1 {
                Field::Literal(self.variable(8)?)
            } else {
                match self.fixed(3)? {
                    1 => match self.variable(5)? as u32 {
                        0 => Field::Literal(0),
                        width => Field::Fixed(width),
                    },
                    2 => match self.variable(5)? as u32 {
                        0 => Field::Literal(0),
                        width => Field::Variable(width),
                    },
                    3 => Field::Array,
                    4 => Field::Char6,
                    5 => Field::Blob,
                    _ => return Err(Error::Malformed("a field of an abbreviation")),
                }
            };
            self.fields.push(field);
        }
        Ok((first, count))
    }

    fn plain(&mut self) -> Result<u32, Error> {
        let code = self.variable(6)? as u32;
        let count = self.variable(6)? as usize;
        self.room(count)?;
        self.record.clear();
        self.blob = &[];
        for _ in 0..count {
            let value = self.variable(6)?;
            self.record.push(value);
        }
        Ok(code)
    }

    /// Refuses counts that the rest of the block cannot hold.
    fn room(&self, count: usize) -> Result<(), Error> {
        if count > self.end.saturating_sub(self.at) {
            return Err(Error::TooShort);
        }
        Ok(())
    }

    fn abbreviated(&mut self, (first, count): Abbreviation) -> Result<u32, Error> {
        self.record.clear();
        self.blob = &[];
        let (mut row, end) = (first as usize, (first + count) as usize);
        let code = self.fields[..end].get(row).copied();
        let code = self.scalar(code.ok_or(Error::Malformed("a record without a code"))?)? as u32;
        row += 1;
        while row < end {
            match self.fields[row] {
                Field::Array => {
                    let element = self.fields[..end].get(row + 1).copied();
                    let element = element.ok_or(Error::Malformed("an array of nothing"))?;
                    let count = self.variable(6)? as usize;
                    self.room(count)?;
                    for _ in 0..count {
                        let value = self.scalar(element)?;
                        self.record.push(value);
                    }
                    row += 1;
                }
                Field::Blob => {
                    let length = self.variable(6)? as usize;
                    self.align();
                    let start = self.at / 8;
                    let blob = self.bytes.get(start..start.saturating_add(length));
                    self.blob = blob.ok_or(Error::TooShort)?;
                    self.at += length * 8;
                    self.align();
                    if self.at > self.end {
                        return Err(Error::TooShort);
                    }
                }
                field => {
                    let value = self.scalar(field)?;
                    self.record.push(value);
                }
            }
            row += 1;
        }
        Ok(code)
    }

    #[inline]
    fn scalar(&mut self, field: Field) -> Result<u64, Error> {
        match field {
            Field::Literal(value) => Ok(value),
            Field::Fixed(width) => self.fixed(width),
            Field::Variable(width) => self.variable(width),
            Field::Char6 => Ok(u64::from(CHAR6[self.fixed(6)? as usize])),
            Field::Array | Field::Blob => Err(Error::Malformed("an array of arrays")),
        }
    }

    /// Number `index` of the record.
    pub(super) fn get(&self, index: usize) -> Result<u64, Error> {
        self.record.get(index).copied().ok_or(Error::ShortRecord)
    }

    /// The same as a row of something.
    pub(super) fn row(&self, index: usize) -> Result<u32, Error> {
        let value = self.get(index)?;
        u32::try_from(value).map_err(|_| Error::Malformed("a number that is too large"))
    }

    /// Numbers from `index` on as text.
    pub(super) fn text(&self, from: usize) -> Vec<u8> {
        let rest = self.record.get(from..).unwrap_or_default();
        rest.iter().map(|byte| *byte as u8).collect()
    }
}

/// Lengths at the beginning of a blob of strings.
pub(super) struct Lengths<'b>(Reader<'b>);

impl<'b> Lengths<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        let mut reader = Reader::new(bytes);
        reader.at = 0;
        Self(reader)
    }

    pub(super) fn next(&mut self) -> Result<usize, Error> {
        Ok(self.0.variable(6)? as usize)
    }
}
