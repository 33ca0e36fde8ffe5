//! Reading IR types, with where their parts lie on x86-64.

use std::ops::Range;

use compact_str::CompactString;

use crate::bitcode::{Error, NONE, stream::Entry, stream::Reader};

/// The layout that sizes here are right for.
pub(super) const X86_64: &str =
    "e-m:e-p270:32:32-p271:32:32-p272:64:64-i64:64-i128:128-f80:128-n8:16:32:64-S128";

/// Address spaces of 32-bit pointers.
const SHORT_POINTERS: Range<u32> = 270..272;

const NUMBER_OF_TYPES: u32 = 1;
const VOID: u32 = 2;
const FLOAT: u32 = 3;
const DOUBLE: u32 = 4;
const OPAQUE: u32 = 6;
const INTEGER: u32 = 7;
const HALF: u32 = 10;
const ARRAY: u32 = 11;
const VECTOR: u32 = 12;
const X86_FP80: u32 = 13;
const FP128: u32 = 14;
const STRUCT_ANON: u32 = 18;
const STRUCT_NAME: u32 = 19;
const STRUCT_NAMED: u32 = 20;
const FUNCTION: u32 = 21;
const BFLOAT: u32 = 23;
const OPAQUE_POINTER: u32 = 25;
/// Types without a size that nothing asks about: label, metadata, token and others of machines.
const OTHERS: &[u32] = &[5, 16, 17, 22, 24, 26];

/// What a type is.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    Void,
    Integer(u32),
    /// Address space.
    Pointer(u32),
    /// Of this many bits.
    Float(u32),
    Array {
        element: u32,
    },
    Vector {
        count: u64,
        element: u32,
    },
    /// Rows of [`Types::parts`].
    Struct {
        name: Option<CompactString>,
        fields: Range<u32>,
    },
    /// Rows of [`Types::parts`], the result first.
    Function {
        variadic: bool,
        parts: Range<u32>,
    },
    Other,
}

#[derive(Clone, Debug)]
pub(super) struct Row {
    shape: Shape,
    /// Bytes from one element of an array to the next; `None` without a size.
    pub(super) size: Option<u64>,
    align: u64,
}

/// Types of a module.
#[derive(Debug, Default)]
pub(super) struct Types {
    pub(super) rows: Vec<Row>,
    /// Types of fields and parameters, with the offset of the former.
    pub(super) parts: Vec<(u32, u64)>,
}

impl Types {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let mut types = Self::default();
        let mut name = None;
        loop {
            match reader.next()? {
                Entry::End => return Ok(types),
                Entry::Block(_) => reader.skip()?,
                Entry::Record(NUMBER_OF_TYPES) => {}
                Entry::Record(STRUCT_NAME) => {
                    name = Some(CompactString::from_utf8_lossy(&reader.text(0)));
                }
                Entry::Record(code) => types.row(reader, code, &mut name)?,
            }
        }
    }

    fn row(
        &mut self,
        reader: &Reader<'_>,
        code: u32,
        name: &mut Option<CompactString>,
    ) -> Result<(), Error> {
        let shape = match code {
            VOID => Shape::Void,
            INTEGER => Shape::Integer(reader.row(0)?),
            OPAQUE_POINTER => Shape::Pointer(reader.row(0)?),
            HALF | BFLOAT => Shape::Float(16),
            FLOAT => Shape::Float(32),
            DOUBLE => Shape::Float(64),
            X86_FP80 => Shape::Float(80),
            FP128 => Shape::Float(128),
            ARRAY => {
                let element = self.known(reader.row(1)?)?;
                let count = reader.get(0)?;
                let Row { size, align, .. } = self.rows[element as usize];
                let size = size.and_then(|size| size.checked_mul(count));
                let shape = Shape::Array { element };
                self.rows.push(Row { shape, size, align });
                return Ok(());
            }
            VECTOR => Shape::Vector {
                count: reader.get(0)?,
                element: self.known(reader.row(1)?)?,
            },
            STRUCT_ANON | STRUCT_NAMED => {
                let packed = reader.get(0)? != 0;
                let name = name.take().filter(|_| code == STRUCT_NAMED);
                return self.structure(reader, name, packed);
            }
            OPAQUE => Shape::Struct {
                name: name.take(),
                fields: 0..0,
            },
            FUNCTION => {
                let first = self.parts.len() as u32;
                for at in 1..reader.record.len() {
                    let ty = self.known(reader.row(at)?)?;
                    self.parts.push((ty, 0));
                }
                if reader.record.len() < 2 {
                    return Err(Error::ShortRecord);
                }
                Shape::Function {
                    variadic: reader.get(0)? != 0,
                    parts: first..self.parts.len() as u32,
                }
            }
            code if OTHERS.contains(&code) => Shape::Other,
            code => return Err(Error::Unknown("a type", code.into())),
        };
        self.add(shape);
        Ok(())
    }

    fn structure(
        &mut self,
        reader: &Reader<'_>,
        name: Option<CompactString>,
        packed: bool,
    ) -> Result<(), Error> {
        let first = self.parts.len() as u32;
        let (mut end, mut widest) = (Some(0u64), 1);
        for at in 1..reader.record.len() {
            let ty = self.known(reader.row(at)?)?;
            let Row { size, align, .. } = self.rows[ty as usize];
            let align = if packed { 1 } else { align };
            let start = end.and_then(|end| end.checked_next_multiple_of(align));
            self.parts.push((ty, start.unwrap_or(0)));
            end = start.and_then(|start| start.checked_add(size?));
            widest = widest.max(align);
        }
        self.rows.push(Row {
            shape: Shape::Struct {
                name,
                fields: first..self.parts.len() as u32,
            },
            size: end.and_then(|end| end.checked_next_multiple_of(widest)),
            align: widest,
        });
        Ok(())
    }

    /// A type that was read already: those that a type is made of come before it.
    fn known(&self, ty: u32) -> Result<u32, Error> {
        if (ty as usize) < self.rows.len() {
            Ok(ty)
        } else {
            Err(Error::NoSuch("a type"))
        }
    }

    fn add(&mut self, shape: Shape) -> u32 {
        let (bytes, align) = match &shape {
            Shape::Integer(bits) => {
                let bytes = u64::from(*bits).div_ceil(8).max(1);
                (Some(bytes), bytes.next_power_of_two().min(16))
            }
            Shape::Pointer(space) if SHORT_POINTERS.contains(space) => (Some(4), 4),
            Shape::Pointer(_) => (Some(8), 8),
            Shape::Float(bits) => {
                let bytes = u64::from(*bits) / 8;
                (Some(bytes), bytes.next_power_of_two())
            }
            Shape::Vector { count, element } => {
                let bytes = count.checked_mul(self.bits(*element));
                let bytes = bytes.map_or(0, |bits| bits.div_ceil(8));
                (Some(bytes), bytes.checked_next_power_of_two().unwrap_or(1))
            }
            _ => (None, 1),
        };
        self.rows.push(Row {
            size: bytes.and_then(|bytes| bytes.checked_next_multiple_of(align)),
            shape,
            align,
        });
        self.rows.len() as u32 - 1
    }

    /// Bits of an element of a vector.
    fn bits(&self, ty: u32) -> u64 {
        match self.rows.get(ty as usize) {
            Some(Row {
                shape: Shape::Integer(bits) | Shape::Float(bits),
                ..
            }) => (*bits).into(),
            Some(row) => row.size.unwrap_or(0) * 8,
            None => 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn shape(&self, ty: u32) -> &Shape {
        self.rows
            .get(ty as usize)
            .map_or(&Shape::Other, |r| &r.shape)
    }

    /// The row of a type that instructions make without naming it.
    pub(super) fn find(&mut self, wanted: &Shape) -> u32 {
        let same = |row: &Row| match (&row.shape, wanted) {
            (Shape::Integer(a), Shape::Integer(b)) | (Shape::Pointer(a), Shape::Pointer(b)) => {
                a == b
            }
            (Shape::Other, Shape::Other) => true,
            _ => false,
        };
        match self.rows.iter().position(same) {
            Some(row) => row as u32,
            None => self.add(wanted.clone()),
        }
    }

    /// A structure of these fields, for results of compare-and-exchange.
    pub(super) fn pair(&mut self, first: u32, second: u32) -> u32 {
        let start = self.parts.len() as u32;
        self.parts.extend([(first, 0), (second, 0)]);
        self.rows.push(Row {
            shape: Shape::Struct {
                name: None,
                fields: start..start + 2,
            },
            size: None,
            align: 1,
        });
        self.rows.len() as u32 - 1
    }

    /// Result, parameters and whether more may follow, of a function type.
    pub(super) fn function(&self, ty: u32) -> Result<(u32, Range<u32>, bool), Error> {
        match self.shape(ty) {
            Shape::Function { variadic, parts } => {
                let result = self.part(parts.start);
                Ok((result, parts.start + 1..parts.end, *variadic))
            }
            _ => Err(Error::Malformed("the type of a function")),
        }
    }

    /// A row of fields and parameters.
    pub(super) fn part(&self, row: u32) -> u32 {
        self.parts.get(row as usize).map_or(NONE, |part| part.0)
    }

    /// The type at an index of an aggregate.
    pub(super) fn inside(&self, ty: u32, index: u64) -> Result<u32, Error> {
        match self.shape(ty) {
            Shape::Array { element } => Ok(*element),
            Shape::Struct { fields, .. } if index < fields.len() as u64 => {
                Ok(self.part(fields.start + index as u32))
            }
            _ => Err(Error::Malformed("an index of an aggregate")),
        }
    }
}
