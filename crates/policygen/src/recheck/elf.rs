//! What the validation of claims reads of an ELF file: code, symbols, relocations, and the tables
//! that say where the kernel changes code or jumps by itself.

use std::collections::BTreeMap;

use object::{
    Object, ObjectKind, ObjectSection, ObjectSymbol, RelocationTarget, SectionFlags, SectionKind,
    elf::SHF_EXECINSTR,
};

/// Distance between the addresses given to two sections of a module.
const SPACE: u64 = 1 << 32;

/// A loaded section.
pub struct Section<'d> {
    pub name: String,
    pub address: u64,
    pub executable: bool,
    data: &'d [u8],
}

impl Section<'_> {
    pub fn end(&self) -> u64 {
        self.address + self.data.len() as u64
    }
}

/// What the loader adds to a field.
#[derive(Clone, Debug)]
pub struct Relocation {
    pub symbol: String,
    pub address: Option<u64>,
    pub addend: i64,
}

pub struct Elf<'d> {
    pub build_id: String,
    pub sections: Vec<Section<'d>>,
    /// Symbols in code, one for each address.
    pub symbols: BTreeMap<u64, String>,
    /// `_text` of a linked image.
    pub origin: Option<u64>,
    /// Symbols around tables of a linked image.
    bounds: BTreeMap<String, u64>,
    thunks: BTreeMap<u64, String>,
    relocations: BTreeMap<u64, Relocation>,
}

/// `[start, end)`.
type Range = (u64, u64);

impl<'d> Elf<'d> {
    pub fn read(bytes: &'d [u8]) -> Result<Self, String> {
        let file = object::File::parse(bytes).map_err(|e| e.to_string())?;
        let module = file.kind() == ObjectKind::Relocatable;
        let mut elf = Self {
            build_id: file.build_id().ok().flatten().map(hex).unwrap_or_default(),
            sections: Vec::new(),
            symbols: BTreeMap::new(),
            origin: None,
            bounds: BTreeMap::new(),
            thunks: BTreeMap::new(),
            relocations: BTreeMap::new(),
        };
        let mut bases = BTreeMap::new();
        for section in file.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else {
                continue;
            };
            let name = section.name().unwrap_or_default();
            if section.kind() == SectionKind::Metadata || name.starts_with(".debug") {
                continue;
            }
            let index = section.index().0;
            let address = if module {
                SPACE * (index as u64 + 1)
            } else {
                section.address()
            };
            bases.insert(index, address);
            elf.sections.push(Section {
                name: name.to_owned(),
                address,
                executable: sh_flags.contains(SHF_EXECINSTR),
                data: section.data().unwrap_or_default(),
            });
        }
        elf.read_symbols(&file, module, &bases);
        if module {
            elf.read_relocations(&file, &bases);
        } else {
            let origin = elf.bounds.get("_text").copied();
            elf.origin = Some(origin.ok_or("no symbol _text")?);
        }
        Ok(elf)
    }

    fn read_symbols(
        &mut self,
        file: &object::File<'d>,
        module: bool,
        bases: &BTreeMap<usize, u64>,
    ) {
        for symbol in file.symbols() {
            let (Some(section), Ok(name)) = (symbol.section_index(), symbol.name()) else {
                continue;
            };
            let base = if module {
                bases.get(&section.0)
            } else {
                Some(&0)
            };
            let Some(address) = base.map(|base| base + symbol.address()) else {
                continue;
            };
            if name == "_text"
                || name.starts_with("__start_")
                || name.starts_with("__stop_")
                || name.starts_with("__alt_instructions")
            {
                self.bounds.insert(name.to_owned(), address);
            }
            if name.starts_with("__x86_indirect_") {
                self.thunks.insert(address, name.to_owned());
            }
            let kinds = [object::SymbolKind::Section, object::SymbolKind::File];
            let code = self
                .sections
                .iter()
                .any(|s| s.executable && (s.address..s.end()).contains(&address));
            if code && !name.is_empty() && !kinds.contains(&symbol.kind()) {
                let known = self
                    .symbols
                    .entry(address)
                    .or_insert_with(|| name.to_owned());
                // Of several names the one that sorts first.
                if name < known.as_str() {
                    name.clone_into(known);
                }
            }
        }
    }

    fn read_relocations(&mut self, file: &object::File<'d>, bases: &BTreeMap<usize, u64>) {
        for section in file.sections() {
            let Some(base) = bases.get(&section.index().0) else {
                continue;
            };
            for (offset, relocation) in section.relocations() {
                let RelocationTarget::Symbol(index) = relocation.target() else {
                    continue;
                };
                let Ok(symbol) = file.symbol_by_index(index) else {
                    continue;
                };
                let address = symbol
                    .section_index()
                    .and_then(|section| bases.get(&section.0))
                    .map(|base| base + symbol.address());
                let target = Relocation {
                    symbol: symbol.name().unwrap_or_default().to_owned(),
                    address,
                    addend: relocation.addend(),
                };
                self.relocations.insert(base + offset, target);
            }
        }
    }

    /// Bytes at addresses of one section.
    pub fn bytes(&self, start: u64, end: u64) -> Option<&'d [u8]> {
        let section = self
            .sections
            .iter()
            .find(|s| s.address <= start && end <= s.end())?;
        let from = usize::try_from(start - section.address).ok()?;
        let to = usize::try_from(end - section.address).ok()?;
        section.data.get(from..to)
    }

    /// The relocation of the field at an address.
    pub fn relocation(&self, address: u64) -> Option<&Relocation> {
        self.relocations.get(&address)
    }

    /// Whether a branch leads to a thunk that jumps to the address in a register.
    pub fn is_jump_thunk(&self, target: Option<u64>, branch: &iced_x86::Instruction) -> bool {
        let Some(target) = target else { return false };
        match self.relocation(branch.next_ip() - 4) {
            Some(relocation) => relocation.symbol.starts_with("__x86_indirect_"),
            None => self.thunks.contains_key(&target),
        }
    }

    /// Jumps that are patched in: from where to where.
    pub fn jump_labels(&self) -> Result<Vec<Range>, String> {
        let table = self.table(
            "__jump_table",
            "__start___jump_table",
            "__stop___jump_table",
        );
        self.pairs(table, &[16], |_| true)
            .map(|pairs| pairs.into_iter().map(|(_, from, to)| (from, to)).collect())
    }

    /// Where faults continue.
    pub fn fixups(&self) -> Result<Vec<u64>, String> {
        let table = self.table("__ex_table", "__start___ex_table", "__stop___ex_table");
        self.pairs(table, &[12], |_| true)
            .map(|pairs| pairs.into_iter().map(|(_, _, to)| to).collect())
    }

    /// Code that is replaced, and by what.
    pub fn alternatives(&self) -> Result<Vec<(Range, Range)>, String> {
        let table = self.table(
            ".altinstructions",
            "__alt_instructions",
            "__alt_instructions_end",
        );
        let code = |address: u64| {
            let mut sections = self.sections.iter();
            sections.any(|s| s.executable && (s.address..=s.end()).contains(&address))
        };
        // 14 bytes since 6.3; what does not lead to code was cut at the wrong length.
        let pairs = self.pairs(table, &[14, 12], code)?;
        let lengths = |end: u64| {
            let bytes = self.bytes(end - 2, end)?;
            Some((u64::from(bytes[0]), u64::from(bytes[1])))
        };
        let ranges = pairs.into_iter().map(|(end, from, to)| {
            let (old, new) = lengths(end).ok_or("a cut table of alternatives")?;
            Ok(((from, from + old), (to, to + new)))
        });
        ranges.collect()
    }

    fn table(&self, section: &str, first: &str, last: &str) -> Option<Range> {
        if self.origin.is_some() {
            return Some((*self.bounds.get(first)?, *self.bounds.get(last)?));
        }
        let section = self.sections.iter().find(|s| s.name == section)?;
        Some((section.address, section.end()))
    }

    /// Two pointers, each a distance from its own field, at the start of entries that have one of
    /// these lengths; with the end of each entry.
    fn pairs(
        &self,
        table: Option<Range>,
        lengths: &[u64],
        plausible: impl Fn(u64) -> bool,
    ) -> Result<Vec<(u64, u64, u64)>, String> {
        let Some((start, end)) = table else {
            return Ok(Vec::new());
        };
        let read = |length: u64| {
            let count = (end - start) / length;
            let entry = |row| {
                let at = start + row * length;
                Some((at + length, self.pointer(at)?, self.pointer(at + 4)?))
            };
            (0..count).map(entry).collect::<Option<Vec<_>>>()
        };
        for length in lengths {
            if (end - start) % length == 0
                && let Some(pairs) = read(*length)
                && pairs.iter().all(|(_, a, b)| plausible(*a) && plausible(*b))
            {
                return Ok(pairs);
            }
        }
        Err(format!("a table at {start:#x} has an unknown layout"))
    }

    fn pointer(&self, field: u64) -> Option<u64> {
        if self.origin.is_none() {
            let relocation = self.relocation(field)?;
            return Some(relocation.address?.wrapping_add_signed(relocation.addend));
        }
        let bytes: [u8; 4] = self.bytes(field, field + 4)?.try_into().ok()?;
        Some(field.wrapping_add_signed(i64::from(i32::from_le_bytes(bytes))))
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
