//! Reading constants, of the module or of a function.

use std::ops::Range;

use crate::bitcode::{
    Error, Module, NONE,
    instruction::{binary, cast},
    kind::{Kind, Opcode, Row},
    layout::Shape,
    loader::Loader,
    stream::Entry,
};

const SET_TYPE: u32 = 1;
const NULL: u32 = 2;
const UNDEFINED: u32 = 3;
const INTEGER: u32 = 4;
const WIDE_INTEGER: u32 = 5;
const FLOAT: u32 = 6;
const AGGREGATE: u32 = 7;
const STRING: u32 = 8;
const C_STRING: u32 = 9;
const BINARY: u32 = 10;
const CAST: u32 = 11;
const BLOCK_ADDRESS: u32 = 21;
const DATA: u32 = 22;
const POISON: u32 = 26;
const LOCAL_EQUIVALENT: u32 = 27;
const UNCHECKED: u32 = 29;
const ASSEMBLY: u32 = 30;
const GEP: u32 = 32;

impl Loader<'_> {
    /// Reads a block of constants; those of a function get numbers of the function.
    pub(super) fn constants(&mut self, of_function: bool) -> Result<(), Error> {
        let mut ty = NONE;
        loop {
            match self.reader.next()? {
                Entry::End => return Ok(()),
                Entry::Block(_) => self.reader.skip()?,
                Entry::Record(SET_TYPE) => {
                    ty = self.reader.row(0)?;
                    if ty as usize >= self.module.types.len() {
                        return Err(Error::NoSuch("a type"));
                    }
                }
                Entry::Record(code) => {
                    let first = self.module.operands.len();
                    let mut row = self.constant(code, ty)?;
                    row.first = first as u32;
                    row.count = (self.module.operands.len() - first) as u32;
                    if of_function {
                        self.local.push(self.module.values.len() as u32);
                    }
                    self.module.values.push(row);
                }
            }
        }
    }

    fn constant(&mut self, code: u32, ty: u32) -> Result<Row, Error> {
        let mut more = [0; 2];
        let kind = match code {
            // Zero of an integer is one, that of a float is nothing to us.
            NULL => match self.module.types.shape(ty) {
                Shape::Integer(_) => Kind::Integer,
                Shape::Float(_) => Kind::Other,
                _ => Kind::Null,
            },
            UNDEFINED | POISON => Kind::Null,
            INTEGER => {
                let value = signed(self.reader.get(0)?) as u64;
                more = [value as u32, (value >> 32) as u32];
                Kind::Integer
            }
            WIDE_INTEGER => Kind::Integer,
            FLOAT | BLOCK_ADDRESS | LOCAL_EQUIVALENT | UNCHECKED => Kind::Other,
            AGGREGATE => {
                self.refer(0, self.reader.record.len(), 1)?;
                match self.module.types.shape(ty) {
                    Shape::Array { .. } | Shape::Struct { .. } => Kind::Aggregate,
                    _ => Kind::Other,
                }
            }
            STRING | C_STRING => {
                let bytes = &mut self.module.bytes;
                let start = bytes.len();
                bytes.extend(self.reader.record.iter().map(|byte| *byte as u8));
                if code == C_STRING {
                    bytes.push(0);
                }
                more = [start as u32, (bytes.len() - start) as u32];
                Kind::Data
            }
            DATA => match self.module.types.shape(ty) {
                Shape::Array { .. } => Kind::Data,
                _ => Kind::Other,
            },
            BINARY => {
                self.refer(1, 3, 1)?;
                Kind::Expression(binary(self.reader.get(0)?))
            }
            CAST => {
                self.refer(2, 3, 1)?;
                Kind::Expression(cast(self.reader.get(0)?))
            }
            GEP => {
                // Each operand has its type before it.
                self.refer(3, self.reader.record.len(), 2)?;
                more = [self.reader.row(0)?, 0];
                Kind::Expression(Opcode::GetElementPtr)
            }
            ASSEMBLY => {
                let length = self.reader.row(2)? as usize;
                let constraints = self.reader.row(3 + length)? as usize;
                let text = |from: usize, length: usize| {
                    let bytes = self.reader.record.get(from..from + length);
                    let bytes: Vec<u8> = bytes?.iter().map(|byte| *byte as u8).collect();
                    Some(String::from_utf8_lossy(&bytes).into_owned())
                };
                let known = text(4 + length, constraints).zip(text(3, length));
                more = [self.module.assemblies.len() as u32, 0];
                self.module
                    .assemblies
                    .push(known.ok_or(Error::ShortRecord)?);
                Kind::Assembly
            }
            code => return Err(Error::Unknown("a constant", code.into())),
        };
        Ok(Row::new(kind, ty, more))
    }

    /// Notes numbers of values as operands: some of the record's.
    fn refer(&mut self, from: usize, to: usize, step: usize) -> Result<(), Error> {
        for at in (from..to).step_by(step) {
            let number = self.reader.row(at)?;
            self.module.operands.push(number);
        }
        Ok(())
    }
}

impl Module {
    /// Whether no constant is a part of itself: those who walk one come to an end.
    pub(super) fn constants_end(&self) -> bool {
        let is_inner = |row: u32| {
            let value = self.values.get(row as usize)?;
            let constant = matches!(
                value.kind,
                Kind::Expression(_) | Kind::Aggregate | Kind::Other
            );
            (constant && value.count > 0).then_some(value.first..value.first + value.count)
        };
        let mut seen = vec![false; self.values.len()];
        // Operands that are left, of each constant on the way.
        let mut way: Vec<(u32, Range<u32>)> = Vec::new();
        let mut on_way = vec![false; self.values.len()];
        for start in 0..self.values.len() as u32 {
            let mut next = Some(start);
            loop {
                if let Some(row) = next.take()
                    && let Some(operands) = is_inner(row)
                    && !std::mem::replace(&mut seen[row as usize], true)
                {
                    on_way[row as usize] = true;
                    way.push((row, operands));
                }
                let Some((row, rest)) = way.last_mut() else {
                    break;
                };
                let Some(operand) = rest.next() else {
                    on_way[*row as usize] = false;
                    way.pop();
                    continue;
                };
                next = self.operands.get(operand as usize).copied();
                if next.is_some_and(|row| on_way.get(row as usize) == Some(&true)) {
                    return false;
                }
            }
        }
        true
    }
}

/// A number with its sign in the lowest bit.
pub(super) fn signed(value: u64) -> i64 {
    match (value & 1, value >> 1) {
        (0, magnitude) => magnitude as i64,
        // There is no negative zero: it stands for the smallest number.
        (_, 0) => i64::MIN,
        (_, magnitude) => -(magnitude as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::signed;

    #[test]
    fn signs_are_in_the_lowest_bit() {
        assert_eq!([0, 2, 3, 5].map(signed), [0, 1, -1, -2]);
        assert_eq!(signed(1), i64::MIN);
    }
}
