//! Reading metadata: strings, lists, types, variables.

use crate::bitcode::{
    Error, NONE,
    kind::Kind,
    loader::Loader,
    node::{Class, Row},
    stream::{Entry, Lengths},
};

const VALUE: u32 = 2;
const NODE: u32 = 3;
const NAME: u32 = 4;
const DISTINCT_NODE: u32 = 5;
const KIND: u32 = 6;
const NAMED_NODE: u32 = 10;
const ATTACHMENT: u32 = 11;
const SUBRANGE: u32 = 13;
const BASIC_TYPE: u32 = 15;
const FILE: u32 = 16;
const DERIVED_TYPE: u32 = 17;
const COMPOSITE_TYPE: u32 = 18;
const SUBROUTINE_TYPE: u32 = 19;
const COMPILE_UNIT: u32 = 20;
const SUBPROGRAM: u32 = 21;
const GLOBAL_VARIABLE: u32 = 27;
const LOCAL_VARIABLE: u32 = 28;
const STRINGS: u32 = 35;
const GLOBAL_ATTACHMENT: u32 = 36;
const GLOBAL_EXPRESSION: u32 = 37;
const INDEX_OFFSET: u32 = 38;
const INDEX: u32 = 39;
/// Nodes that are numbered and not looked into: locations, enumerators, blocks, expressions and so on.
const OTHERS: &[u32] = &[
    7, 12, 14, 22, 23, 24, 25, 26, 29, 30, 31, 32, 33, 34, 40, 41, 44, 45, 46, 47,
];

/// Kind of the attachment that is debug information.
const DEBUG: u64 = 0;
const UNITS: &[u8] = b"llvm.dbg.cu";

const EMPTY: Row = Row {
    class: Class::Other,
    tag: 0,
    line: 0,
    name: NONE,
    file: NONE,
    base: NONE,
    elements: NONE,
    size: 0,
    offset: 0,
};

impl Loader<'_> {
    /// Reads a block of metadata, of the module or of a function.
    pub(super) fn metadata(&mut self) -> Result<(), Error> {
        let mut name = Vec::new();
        loop {
            let code = match self.reader.next()? {
                Entry::End => return Ok(()),
                Entry::Block(_) => {
                    self.reader.skip()?;
                    continue;
                }
                Entry::Record(code) => code,
            };
            match code {
                STRINGS => self.strings()?,
                NODE | DISTINCT_NODE => {
                    let first = self.module.lists.len() as u32;
                    for at in 0..self.reader.record.len() {
                        let row = self.node(at)?;
                        self.module.lists.push(row);
                    }
                    self.module.nodes.push(Row {
                        class: Class::List,
                        base: self.reader.record.len() as u32,
                        elements: first,
                        ..EMPTY
                    });
                }
                NAME => name = self.reader.text(0),
                NAMED_NODE => {
                    if name == UNITS {
                        for at in 0..self.reader.record.len() {
                            self.module.units.push(self.reader.row(at)?);
                        }
                    }
                }
                GLOBAL_ATTACHMENT => self.global_attachment()?,
                KIND | INDEX_OFFSET | INDEX => {}
                code => {
                    let row = self.described(code)?;
                    self.module.nodes.push(row);
                }
            }
        }
    }

    /// A node that is neither text nor a list.
    fn described(&self, code: u32) -> Result<Row, Error> {
        let reader = &self.reader;
        let node = |at| self.node(at);
        let line = |at| reader.get(at).map(|line| line as u32);
        Ok(match code {
            DERIVED_TYPE | COMPOSITE_TYPE => Row {
                tag: reader.get(1)? as u16,
                name: node(2)?,
                file: node(3)?,
                line: line(4)?,
                base: node(6)?,
                size: reader.get(7)?,
                offset: reader.get(9)?,
                elements: if code == COMPOSITE_TYPE {
                    node(11)?
                } else {
                    NONE
                },
                class: if code == COMPOSITE_TYPE {
                    Class::Composite
                } else {
                    Class::Derived
                },
            },
            BASIC_TYPE => Row {
                class: Class::Basic,
                tag: reader.get(1)? as u16,
                name: node(2)?,
                size: reader.get(3)?,
                ..EMPTY
            },
            SUBROUTINE_TYPE => Row {
                class: Class::Subroutine,
                base: node(2)?,
                ..EMPTY
            },
            LOCAL_VARIABLE => Row {
                class: Class::Local,
                name: node(2)?,
                file: node(3)?,
                line: line(4)?,
                base: node(5)?,
                ..EMPTY
            },
            GLOBAL_VARIABLE => Row {
                class: Class::GlobalVariable,
                name: node(2)?,
                file: node(4)?,
                line: line(5)?,
                base: node(6)?,
                ..EMPTY
            },
            GLOBAL_EXPRESSION => Row {
                class: Class::GlobalExpression,
                base: node(1)?,
                ..EMPTY
            },
            SUBPROGRAM => Row {
                class: Class::Subprogram,
                name: node(2)?,
                file: node(4)?,
                line: line(5)?,
                base: node(6)?,
                ..EMPTY
            },
            SUBRANGE => {
                // Before the second version bounds were numbers in the record.
                if reader.get(0)? >> 1 != 2 {
                    return Err(Error::Unknown("a subrange", reader.get(0)? >> 1));
                }
                Row {
                    class: Class::Subrange,
                    base: node(1)?,
                    ..EMPTY
                }
            }
            FILE => Row {
                class: Class::File,
                name: node(1)?,
                base: node(2)?,
                ..EMPTY
            },
            COMPILE_UNIT => Row {
                class: Class::Unit,
                file: node(2)?,
                elements: node(10)?,
                ..EMPTY
            },
            VALUE => Row {
                class: Class::Value,
                base: reader.row(1)?,
                ..EMPTY
            },
            code if OTHERS.contains(&code) => EMPTY,
            code => return Err(Error::Unknown("metadata", code.into())),
        })
    }

    /// The node that a number of the record refers to, where 0 stands for none.
    fn node(&self, at: usize) -> Result<u32, Error> {
        match self.reader.row(at)?.checked_sub(1) {
            None => Ok(NONE),
            Some(number) => Ok(self.node_row(number)),
        }
    }

    /// The row of a node by its number, which may be of the module or of the function.
    pub(super) fn node_row(&self, number: u32) -> u32 {
        match number.checked_sub(self.module_nodes) {
            Some(own) => self.function_nodes.saturating_add(own),
            None => number,
        }
    }

    fn strings(&mut self) -> Result<(), Error> {
        let (count, start) = (self.reader.get(0)?, self.reader.row(1)? as usize);
        let blob = self.reader.blob;
        let (lengths, texts) = blob.split_at_checked(start).ok_or(Error::ShortRecord)?;
        if count > lengths.len() as u64 * 8 {
            return Err(Error::ShortRecord);
        }
        let mut lengths = Lengths::new(lengths);
        let mut at = 0usize;
        for _ in 0..count {
            let length = lengths.next()?;
            let end = at.saturating_add(length);
            if end > texts.len() {
                return Err(Error::ShortRecord);
            }
            self.module.nodes.push(Row {
                class: Class::Text,
                size: (self.module.text.len() + at) as u64,
                offset: length as u64,
                ..EMPTY
            });
            at = end;
        }
        self.module.text.extend(texts);
        Ok(())
    }

    fn global_attachment(&mut self) -> Result<(), Error> {
        let value = self.reader.row(0)? as usize;
        let value = self.module.values.get(value);
        let value = *value.ok_or(Error::NoSuch("a global"))?;
        for at in (1..self.reader.record.len()).step_by(2) {
            let node = self.node_row(self.reader.row(at + 1)?);
            if self.reader.get(at)? != DEBUG {
                continue;
            }
            let row = value.more[0] as usize;
            if value.kind == Kind::Function {
                self.module.functions[row].subprogram = node;
            } else if value.kind == Kind::Global {
                let first = &mut self.module.globals[row].expression;
                // A variable that was split has one for each part.
                if *first == NONE {
                    *first = node;
                }
            }
        }
        Ok(())
    }

    /// Reads what is attached to a function; what is attached to its instructions is left out.
    pub(super) fn attachments(&mut self, function: usize) -> Result<(), Error> {
        loop {
            match self.reader.next()? {
                Entry::End => return Ok(()),
                Entry::Block(_) => self.reader.skip()?,
                Entry::Record(ATTACHMENT) if self.reader.record.len().is_multiple_of(2) => {
                    for at in (0..self.reader.record.len()).step_by(2) {
                        let node = self.node_row(self.reader.row(at + 1)?);
                        if self.reader.get(at)? == DEBUG {
                            self.module.functions[function].subprogram = node;
                        }
                    }
                }
                Entry::Record(_) => {}
            }
        }
    }
}
