//! Reading a translation unit, from the outermost level in.

use crate::bitcode::{
    Error, NONE,
    kind::{Kind, Row},
    layout::{Shape, Types, X86_64},
    module::{Alias, Function, Global, Module, Name},
    stream::{Entry, Reader},
};

const IDENTIFICATION_BLOCK: u32 = 13;
const MODULE_BLOCK: u32 = 8;
const STRING_TABLE_BLOCK: u32 = 23;
const ATTRIBUTES_BLOCK: u32 = 9;
const ATTRIBUTE_GROUPS_BLOCK: u32 = 10;
pub(super) const CONSTANTS_BLOCK: u32 = 11;
const FUNCTION_BLOCK: u32 = 12;
pub(super) const METADATA_BLOCK: u32 = 15;
const TYPES_BLOCK: u32 = 17;

const VERSION: u32 = 1;
const DATA_LAYOUT: u32 = 3;
const ASSEMBLY: u32 = 4;
const SECTION: u32 = 5;
const GLOBAL: u32 = 7;
const FUNCTION: u32 = 8;
const ALIAS: u32 = 14;
const RESOLVER: u32 = 18;

/// Names in a table of their own, operands relative to the instruction.
const RELATIVE: u64 = 2;
/// Release of LLVM whose bitcode this is.
const RELEASE: u32 = 19;
const INTERNAL: u64 = 3;
const PRIVATE: u64 = 9;

/// The name of the compiler that wrote a file, `LLVM19.1.7`; `None` where it does not say so.
pub(crate) fn producer(bitcode: &[u8]) -> Option<String> {
    const STRING: u32 = 1;
    let mut reader = Reader::new(bitcode);
    let Ok(Entry::Block(IDENTIFICATION_BLOCK)) = reader.next() else {
        return None;
    };
    reader.enter(IDENTIFICATION_BLOCK).ok()?;
    let Ok(Entry::Record(STRING)) = reader.next() else {
        return None;
    };
    String::from_utf8(reader.text(0)).ok()
}

/// Whether a producer is one whose bitcode is read.
pub(crate) fn is_known(producer: &str) -> bool {
    release(producer) == Some(RELEASE)
}

/// Release of an LLVM producer, `19` of `LLVM19.1.7`.
fn release(producer: &str) -> Option<u32> {
    let digits = producer.strip_prefix("LLVM")?;
    let digits = digits.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

impl Module {
    /// Reads bitcode.
    pub(crate) fn parse(bitcode: &[u8]) -> Result<Self, Error> {
        if !bitcode.starts_with(b"BC\xC0\xDE") {
            return Err(Error::NoMagic);
        }
        let producer = producer(bitcode).ok_or(Error::TooShort)?;
        if !is_known(&producer) {
            return Err(Error::Producer(producer));
        }
        let mut loader = Loader {
            reader: Reader::new(bitcode),
            module: Self::default(),
            module_values: u32::MAX,
            module_nodes: u32::MAX,
            function_nodes: 0,
            local: Vec::new(),
            bodies: 0,
        };
        let mut found = false;
        while !loader.reader.at_end() {
            let Entry::Block(id) = loader.reader.next()? else {
                return Err(Error::Malformed("the outermost level"));
            };
            match id {
                MODULE_BLOCK if !found => {
                    loader.reader.enter(id)?;
                    loader.module()?;
                    found = true;
                }
                STRING_TABLE_BLOCK => {
                    loader.reader.enter(id)?;
                    loader.names()?;
                }
                _ => loader.reader.skip()?,
            }
        }
        if !found {
            return Err(Error::TooShort);
        }
        loader.finish()
    }
}

/// A module on the way.
pub(super) struct Loader<'b> {
    pub(super) reader: Reader<'b>,
    pub(super) module: Module,
    /// Numbers below are those of the module, others those of the function at hand.
    pub(super) module_values: u32,
    pub(super) module_nodes: u32,
    /// Row of the function's first node.
    pub(super) function_nodes: u32,
    /// Rows of the function's values.
    pub(super) local: Vec<u32>,
    /// Functions before the one whose body comes next.
    pub(super) bodies: usize,
}

impl Loader<'_> {
    fn module(&mut self) -> Result<(), Error> {
        loop {
            match self.reader.next()? {
                Entry::End => return Ok(()),
                Entry::Block(id) => self.block(id)?,
                Entry::Record(code) => self.declared(code)?,
            }
        }
    }

    fn block(&mut self, id: u32) -> Result<(), Error> {
        let known = [
            ATTRIBUTES_BLOCK,
            ATTRIBUTE_GROUPS_BLOCK,
            CONSTANTS_BLOCK,
            FUNCTION_BLOCK,
            METADATA_BLOCK,
            TYPES_BLOCK,
        ];
        if !known.contains(&id) {
            return self.reader.skip();
        }
        self.reader.enter(id)?;
        match id {
            ATTRIBUTES_BLOCK => self.module.attributes.lists(&mut self.reader),
            ATTRIBUTE_GROUPS_BLOCK => self.module.attributes.groups(&mut self.reader),
            CONSTANTS_BLOCK => self.constants(false),
            METADATA_BLOCK => self.metadata(),
            TYPES_BLOCK => {
                self.module.types = Types::read(&mut self.reader)?;
                Ok(())
            }
            _ => {
                // All that is the module's comes before the first function.
                if self.module_values == u32::MAX {
                    self.module_values = self.module.values.len() as u32;
                    self.module_nodes = self.module.nodes.len() as u32;
                }
                self.function()
            }
        }
    }

    fn declared(&mut self, code: u32) -> Result<(), Error> {
        match code {
            VERSION if self.reader.get(0)? != RELATIVE => {
                Err(Error::Unknown("a module", self.reader.get(0)?))
            }
            DATA_LAYOUT => {
                let text = String::from_utf8_lossy(&self.reader.text(0)).into_owned();
                if text == X86_64 {
                    Ok(())
                } else {
                    Err(Error::Layout(text))
                }
            }
            ASSEMBLY => {
                self.module.assembly = String::from_utf8_lossy(&self.reader.text(0)).into_owned();
                Ok(())
            }
            SECTION => {
                let name = String::from_utf8_lossy(&self.reader.text(0)).into_owned();
                self.module.sections.push(name);
                Ok(())
            }
            GLOBAL => self.global(),
            FUNCTION => self.function_head(),
            ALIAS | RESOLVER => self.alias(code),
            _ => Ok(()),
        }
    }

    fn name(&self) -> Result<Name, Error> {
        Ok((self.reader.row(0)? as usize, self.reader.row(1)? as usize))
    }

    fn pointer(&mut self, space: u32) -> u32 {
        self.module.types.find(&Shape::Pointer(space))
    }

    fn value(&mut self, kind: Kind, ty: u32, row: usize) -> u32 {
        let value = Row::new(kind, ty, [row as u32, 0]);
        self.module.values.push(value);
        self.module.values.len() as u32 - 1
    }

    fn global(&mut self) -> Result<(), Error> {
        const EXPLICIT_TYPE: u64 = 2;
        let reader = &self.reader;
        let flags = reader.get(3)?;
        if flags & EXPLICIT_TYPE == 0 {
            return Err(Error::Malformed("the type of a global"));
        }
        let linkage = reader.get(5)?;
        let mut global = Global {
            name: self.name()?,
            value: 0,
            ty: reader.row(2)?,
            constant: flags & 1 != 0,
            internal: matches!(linkage, INTERNAL | PRIVATE),
            initializer: reader.row(4)?.checked_sub(1).unwrap_or(NONE),
            section: reader.row(7)?,
            expression: NONE,
        };
        let ty = self.pointer((flags >> 2) as u32);
        global.value = self.value(Kind::Global, ty, self.module.globals.len());
        self.module.globals.push(global);
        Ok(())
    }

    fn function_head(&mut self) -> Result<(), Error> {
        let reader = &self.reader;
        let linkage = reader.get(5)?;
        let ty = reader.row(2)?;
        self.module.types.function(ty)?;
        let mut function = Function {
            name: self.name()?,
            value: 0,
            ty,
            declaration: reader.get(4)? != 0,
            internal: matches!(linkage, INTERNAL | PRIVATE),
            attributes: self.module.attributes.row(reader.row(6)?)?,
            subprogram: NONE,
            parameters: 0..0,
            instructions: 0..0,
            declares: 0..0,
        };
        let ty = self.pointer(0);
        function.value = self.value(Kind::Function, ty, self.module.functions.len());
        self.module.functions.push(function);
        Ok(())
    }

    fn alias(&mut self, code: u32) -> Result<(), Error> {
        let name = self.name()?;
        let (space, aliasee) = (self.reader.row(3)?, self.reader.row(4)?);
        let ty = self.pointer(space);
        if code == RESOLVER {
            self.value(Kind::Other, ty, 0);
            return Ok(());
        }
        let value = self.value(Kind::Alias, ty, self.module.aliases.len());
        self.module.aliases.push(Alias {
            name,
            value,
            aliasee,
        });
        Ok(())
    }

    fn names(&mut self) -> Result<(), Error> {
        loop {
            match self.reader.next()? {
                Entry::End => return Ok(()),
                Entry::Block(_) => self.reader.skip()?,
                Entry::Record(_) => self.module.names = self.reader.blob.to_vec(),
            }
        }
    }

    /// Checks what could not be checked on the way.
    fn finish(self) -> Result<Module, Error> {
        let module = self.module;
        let mut functions = module.functions.iter();
        if functions.any(|f| !f.declaration && f.instructions.is_empty()) {
            return Err(Error::NoSuch("the body of a function"));
        }
        let names = (module.functions.iter().map(|f| f.name))
            .chain(module.globals.iter().map(|g| g.name))
            .chain(module.aliases.iter().map(|a| a.name));
        for (start, length) in names {
            let name = module.names.get(start..start.saturating_add(length));
            if name
                .ok_or(Error::NoSuch("a name"))?
                .starts_with(b"llvm.dbg.")
            {
                return Err(Error::DebugCalls);
            }
        }
        let known = |row: u32| row == NONE || (row as usize) < module.values.len();
        let initializers = module.globals.iter().map(|g| g.initializer);
        let aliasees = module.aliases.iter().map(|a| a.aliasee);
        let operands = module.operands.iter().copied();
        if !initializers.chain(aliasees).chain(operands).all(known) {
            return Err(Error::NoSuch("a value"));
        }
        if !module.constants_end() {
            return Err(Error::Malformed("a constant that is a part of itself"));
        }
        Ok(module)
    }
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
