//! Values: constants, globals, functions, instructions.

use crate::bitcode::{
    Kind, Meta, Module, NONE, Opcode, Passing, Type,
    attributes::Attribute,
    kind::Row,
    layout::Shape,
    module::{Alias, Function, Global},
};

/// A value of a module.
#[derive(Clone, Copy)]
pub(crate) struct Value<'m> {
    module: &'m Module,
    row: u32,
}

impl<'m> Value<'m> {
    pub(super) fn some(module: &'m Module, row: u32) -> Option<Self> {
        ((row as usize) < module.values.len()).then_some(Self { module, row })
    }

    fn data(self) -> &'m Row {
        // Rows are checked where a value is made.
        &self.module.values[self.row as usize]
    }

    fn of_type(self, row: u32) -> Type<'m> {
        Type {
            module: self.module,
            row,
        }
    }

    /// Identity inside one module, for maps.
    pub(crate) fn key(self) -> usize {
        self.row as usize
    }

    pub(crate) fn kind(self) -> Kind {
        self.data().kind
    }

    pub(crate) fn ty(self) -> Type<'m> {
        self.of_type(self.data().ty)
    }

    /// Operands of the source's order; blocks and bundles are none, what is called is the last.
    pub(crate) fn operand(self, index: u32) -> Option<Self> {
        let data = self.data();
        if index >= data.count {
            return None;
        }
        let row = *self.module.operands.get((data.first + index) as usize)?;
        Self::some(self.module, row)
    }

    pub(crate) fn operand_count(self) -> u32 {
        self.data().count
    }

    fn operands(self) -> &'m [u32] {
        let data = self.data();
        let rows = data.first as usize..(data.first + data.count) as usize;
        self.module.operands.get(rows).unwrap_or_default()
    }

    fn symbol(self) -> &'m [u8] {
        let name = match self.kind() {
            Kind::Function => self.function().map(|f| f.name),
            Kind::Global => self.global().map(|g| g.name),
            Kind::Alias => self.alias().map(|a| a.name),
            _ => None,
        };
        let Some((start, length)) = name else {
            return &[];
        };
        let end = start.saturating_add(length);
        self.module.names.get(start..end).unwrap_or_default()
    }

    /// Symbol.
    pub(crate) fn name(self) -> String {
        String::from_utf8_lossy(self.symbol()).into_owned()
    }

    /// Whether the symbol is one of those that begin so.
    pub(crate) fn begins(self, prefix: &str) -> bool {
        self.symbol().starts_with(prefix.as_bytes())
    }

    /// Value of an integer constant.
    pub(crate) fn integer(self) -> Option<i64> {
        let width = self.ty().width();
        if self.kind() != Kind::Integer || !(1..=64).contains(&width) {
            return None;
        }
        let [low, high] = self.data().more;
        let value = (u64::from(high) << 32 | u64::from(low)) as i64;
        let unused = 64 - width;
        Some(value << unused >> unused)
    }

    /// Text of a constant array of bytes, or of the constant a global is initialised with.
    pub(crate) fn string(self) -> Option<String> {
        let data = if self.kind() == Kind::Global {
            self.initializer()?
        } else {
            self
        };
        let bytes = data.ty().element().is_some_and(|e| e.width() == 8);
        if data.kind() != Kind::Data || !bytes {
            return None;
        }
        let [start, length] = data.data().more.map(|n| n as usize);
        let bytes = self.module.bytes.get(start..start + length)?;
        let text = String::from_utf8_lossy(bytes);
        Some(text.trim_end_matches('\0').to_owned())
    }

    // Functions.

    fn function(self) -> Option<&'m Function> {
        let data = self.data();
        (data.kind == Kind::Function)
            .then(|| self.module.functions.get(data.more[0] as usize))
            .flatten()
    }

    pub(crate) fn is_declaration(self) -> bool {
        match self.kind() {
            Kind::Function => self.function().is_none_or(|f| f.declaration),
            _ => self.global().is_none_or(|g| g.initializer == NONE),
        }
    }

    /// Whether no other file can name it.
    pub(crate) fn is_internal(self) -> bool {
        match self.kind() {
            Kind::Function => self.function().is_some_and(|f| f.internal),
            _ => self.global().is_some_and(|g| g.internal),
        }
    }

    pub(crate) fn subprogram(self) -> Option<Meta<'m>> {
        Meta::some(self.module, self.function()?.subprogram)
    }

    pub(crate) fn parameter_count(self) -> u32 {
        let ty = self
            .function()
            .and_then(|f| self.module.types.function(f.ty).ok());
        ty.map_or(0, |(_, parameters, _)| parameters.len() as u32)
    }

    /// Parameters of a function with a body.
    pub(crate) fn parameters(self) -> impl ExactSizeIterator<Item = Value<'m>> {
        let module = self.module;
        let rows = self.function().map_or(0..0, |f| f.parameters.clone());
        rows.map(move |row| Value { module, row })
    }

    /// How a parameter of a function is passed.
    pub(crate) fn passing(self, index: u32) -> Passing {
        let list = self.function().map_or(NONE, |f| f.attributes);
        let has = |attribute| self.module.attributes.has(list, index, attribute);
        if has(Attribute::ByValue) {
            Passing::Copy
        } else if has(Attribute::StructResult) {
            Passing::Result
        } else {
            Passing::Plain
        }
    }

    /// Instructions of a function, in order.
    pub(crate) fn instructions(self) -> Vec<Value<'m>> {
        let module = self.module;
        let rows = self.function().map_or(0..0, |f| f.instructions.clone());
        rows.map(|row| Value { module, row }).collect()
    }

    /// Where variables of a function live, in order: the number of instructions before, the home
    /// and the variable.
    pub(crate) fn declares(self) -> impl Iterator<Item = (usize, Value<'m>, Meta<'m>)> {
        let module = self.module;
        let function = self.function();
        let start = function.map_or(0, |f| f.instructions.start);
        let rows = function.map_or(0..0, |f| f.declares.clone());
        let declares = module.declares.get(rows).unwrap_or_default();
        declares.iter().filter_map(move |d| {
            let home = Self::some(module, d.home)?;
            let variable = Meta::some(module, d.variable)?;
            Some((d.before.saturating_sub(start) as usize, home, variable))
        })
    }

    // Global variables.

    fn global(self) -> Option<&'m Global> {
        let data = self.data();
        (data.kind == Kind::Global)
            .then(|| self.module.globals.get(data.more[0] as usize))
            .flatten()
    }

    fn alias(self) -> Option<&'m Alias> {
        let data = self.data();
        (data.kind == Kind::Alias)
            .then(|| self.module.aliases.get(data.more[0] as usize))
            .flatten()
    }

    pub(crate) fn initializer(self) -> Option<Self> {
        Self::some(self.module, self.global()?.initializer)
    }

    pub(crate) fn is_constant(self) -> bool {
        self.global().is_some_and(|g| g.constant)
    }

    pub(crate) fn section(self) -> &'m str {
        let row = self.global().map_or(0, |g| g.section as usize);
        let names = &self.module.sections;
        let name = row.checked_sub(1).and_then(|row| names.get(row));
        name.map_or("", String::as_str)
    }

    pub(crate) fn value_type(self) -> Type<'m> {
        self.of_type(self.global().map_or(NONE, |g| g.ty))
    }

    /// The node of a global variable.
    pub(crate) fn variable(self) -> Option<Meta<'m>> {
        Meta::some(self.module, self.global()?.expression)?.base()
    }

    pub(crate) fn aliasee(self) -> Option<Self> {
        Self::some(self.module, self.alias()?.aliasee)
    }

    // Instructions.

    /// Line and column, 0 without a debug location.
    pub(crate) fn place(self) -> (u32, u32) {
        let data = self.data();
        (data.line, data.column)
    }

    fn is_call(self) -> bool {
        matches!(
            self.kind(),
            Kind::Instruction(Opcode::Call | Opcode::CallBr)
        )
    }

    /// What a call calls.
    pub(crate) fn callee(self) -> Option<Self> {
        let last = self.operand_count().checked_sub(1)?;
        self.is_call().then(|| self.operand(last)).flatten()
    }

    pub(crate) fn argument_count(self) -> u32 {
        if self.is_call() {
            self.operand_count().saturating_sub(1)
        } else {
            0
        }
    }

    /// Whether a call passes a variable number of arguments.
    pub(crate) fn is_variadic_call(self) -> bool {
        let ty = self.module.types.shape(self.data().more[0]);
        matches!(ty, Shape::Function { variadic: true, .. })
    }

    /// Whether argument `index` (from 0) of a call to inline assembly is a memory operand.
    pub(crate) fn is_memory_operand(self, index: u32) -> bool {
        let list = self.data().more[1];
        let attributes = &self.module.attributes;
        self.is_call() && attributes.has(list, index, Attribute::ElementType)
    }

    /// Incoming values of a phi.
    pub(crate) fn incoming(self) -> impl Iterator<Item = Self> {
        let module = self.module;
        self.operands()
            .iter()
            .filter_map(move |row| Self::some(module, *row))
    }

    /// The type that an `alloca` makes room for.
    pub(crate) fn allocated_type(self) -> Type<'m> {
        self.of_type(self.data().more[0])
    }

    /// Element type that a GEP (instruction or constant) counts in.
    pub(crate) fn gep_source(self) -> Type<'m> {
        self.of_type(self.data().more[0])
    }

    /// Constraints and text of inline assembly.
    pub(crate) fn assembly(self) -> (&'m str, &'m str) {
        let row = self.data().more[0] as usize;
        let known = (self.kind() == Kind::Assembly).then(|| self.module.assemblies.get(row));
        known
            .flatten()
            .map_or(("", ""), |(constraints, text)| (constraints, text))
    }
}
