//! Reading bodies of functions.

use crate::bitcode::{
    Error, NONE,
    kind::{Kind, Row},
    loader::{CONSTANTS_BLOCK, Loader, METADATA_BLOCK},
    module::Declare,
    node::Class,
    stream::Entry,
};

const ATTACHMENT_BLOCK: u32 = 16;

const DECLARE_BLOCKS: u32 = 1;
const SAME_PLACE: u32 = 33;
const PLACE: u32 = 35;
const BUNDLE: u32 = 55;
const BLOCK_ADDRESS_USERS: u32 = 60;
const DECLARE: u32 = 62;
/// Where values of variables are, labels: not for unoptimised code or not of use.
const OTHER_DEBUG: &[u32] = &[61, 63, 64, 65];

impl Loader<'_> {
    /// Reads the body of the next function that has one.
    pub(super) fn function(&mut self) -> Result<(), Error> {
        let rest = self.module.functions.get(self.bodies..).unwrap_or_default();
        let next = rest.iter().position(|f| !f.declaration);
        let function = self.bodies + next.ok_or(Error::NoSuch("the head of a function"))?;
        self.bodies = function + 1;

        self.local.clear();
        self.function_nodes = self.module.nodes.len() as u32;
        let operands = self.module.operands.len();
        let declares = self.module.declares.len();
        let (_, parameters, _) = self
            .module
            .types
            .function(self.module.functions[function].ty)?;
        let first = self.module.values.len() as u32;
        for part in parameters {
            let ty = self.module.types.part(part);
            self.local.push(self.module.values.len() as u32);
            self.module
                .values
                .push(Row::new(Kind::Argument, ty, [0; 2]));
        }
        self.module.functions[function].parameters = first..self.module.values.len() as u32;
        self.body(function)?;
        self.number(operands, declares)?;
        self.module.functions[function].declares = declares..self.module.declares.len();
        Ok(())
    }

    fn body(&mut self, function: usize) -> Result<(), Error> {
        let mut start = None;
        let mut place = (0, 0);
        loop {
            match self.reader.next()? {
                Entry::End => break,
                Entry::Block(id @ CONSTANTS_BLOCK) if start.is_none() => {
                    self.reader.enter(id)?;
                    self.constants(true)?;
                }
                Entry::Block(id @ METADATA_BLOCK) => {
                    self.reader.enter(id)?;
                    self.metadata()?;
                }
                Entry::Block(id @ ATTACHMENT_BLOCK) => {
                    self.reader.enter(id)?;
                    self.attachments(function)?;
                }
                Entry::Block(_) => self.reader.skip()?,
                Entry::Record(DECLARE_BLOCKS | BUNDLE | BLOCK_ADDRESS_USERS) => {}
                Entry::Record(code @ (PLACE | SAME_PLACE)) => {
                    if code == PLACE {
                        place = (self.reader.get(0)? as u32, self.reader.get(1)? as u32);
                    }
                    if let Some(last) = self.module.values.last_mut() {
                        (last.line, last.column) = place;
                    }
                }
                Entry::Record(DECLARE) => self.declare()?,
                Entry::Record(code) if OTHER_DEBUG.contains(&code) => {}
                Entry::Record(code) => {
                    start.get_or_insert(self.module.values.len() as u32);
                    self.instruction(code)?;
                }
            }
        }
        let end = self.module.values.len() as u32;
        self.module.functions[function].instructions = start.unwrap_or(end)..end;
        Ok(())
    }

    /// Gives operands that have numbers of the function their rows: what comes later is known now.
    fn number(&mut self, operands: usize, declares: usize) -> Result<(), Error> {
        let (module, local) = (self.module_values, &self.local);
        let row = |number: u32| match number.checked_sub(module) {
            _ if number == NONE => Ok(NONE),
            None => Ok(number),
            Some(own) => local
                .get(own as usize)
                .copied()
                .ok_or(Error::NoSuch("a value")),
        };
        for operand in &mut self.module.operands[operands..] {
            *operand = row(*operand)?;
        }
        let own = self.module.nodes.get_mut(self.function_nodes as usize..);
        for node in own.unwrap_or_default() {
            if node.class == Class::Value {
                node.base = row(node.base)?;
            }
        }
        for declare in &mut self.module.declares[declares..] {
            // The node of a home may have come after the record.
            let home = self.module.nodes.get(declare.home as usize);
            let home = home.filter(|node| node.class == Class::Value);
            declare.home = home.map_or(NONE, |node| node.base);
        }
        Ok(())
    }

    /// A variable's home; the record comes after the instruction that it belongs before.
    fn declare(&mut self) -> Result<(), Error> {
        let node = |at| Ok(self.node_row(self.reader.row(at)?));
        let declare = Declare {
            before: (self.module.values.len() as u32).saturating_sub(1),
            variable: node(1)?,
            home: node(3)?,
        };
        self.module.declares.push(declare);
        Ok(())
    }
}
