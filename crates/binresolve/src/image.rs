//! One ELF image: sections at distinct addresses, symbols, relocations.
//!
//! A module is a relocatable file whose sections all start at address 0. Every allocated section
//! gets an address of its own here, so that an address names one place in the image; `vmlinux`
//! keeps the addresses that it was linked at.

use std::collections::{BTreeMap, BTreeSet};

use object::{
    Object, ObjectKind, ObjectSection, ObjectSymbol, RelocationKind, RelocationTarget,
    SectionFlags, SymbolKind,
};
use otf_artifact::{ids::ImageId, sites::Location};

/// First address given to a section of a relocatable file, and the gap between two sections.
const FIRST_BASE: u64 = 0x10_0000;
const BASE_ALIGN: u64 = 0x1_0000;
/// A relocatable file's sections stay below this, so that 32-bit address forms can hold them.
const LAST_BASE: u64 = 0x7000_0000;

/// Why an ELF file was refused.
pub type Problem = String;

/// A section that the kernel loads.
#[derive(Debug)]
pub struct Section<'d> {
    /// Name.
    pub name: &'d str,
    /// Address of its first byte.
    pub base: u64,
    /// Bytes; empty for `.bss` and the like.
    pub data: &'d [u8],
    /// Bytes in memory.
    pub size: u64,
    /// Holds instructions.
    pub executable: bool,
    /// Relocations by offset.
    relocations: BTreeMap<u64, Relocation<'d>>,
}

impl Section<'_> {
    /// The relocation whose field starts at this offset.
    pub fn relocation(&self, offset: u64) -> Option<&Relocation<'_>> {
        self.relocations.get(&offset)
    }

    /// Whether the address lies in the section.
    pub fn holds(&self, address: u64) -> bool {
        address >= self.base && address - self.base < self.size
    }
}

/// What a relocated field refers to.
#[derive(Clone, Debug)]
pub struct Relocation<'d> {
    /// Name of the symbol; empty for a section's own symbol.
    pub symbol: &'d str,
    /// Its address where this image defines it.
    pub base: Option<u64>,
    /// Number that is added.
    pub addend: i64,
}

impl Relocation<'_> {
    /// Symbol and addend as an address, where this image defines the symbol.
    pub fn address(&self) -> Option<u64> {
        self.base.map(|base| base.wrapping_add_signed(self.addend))
    }
}

/// A named place in the image.
#[derive(Clone, Copy, Debug)]
pub struct Symbol<'d> {
    /// Name.
    pub name: &'d str,
    /// Address.
    pub address: u64,
    /// Bytes, 0 when not recorded.
    pub size: u64,
    /// Row of [`Image::sections`].
    pub section: usize,
    /// A function.
    pub function: bool,
    /// A variable.
    pub variable: bool,
    /// Visible to other files.
    pub global: bool,
}

/// An ELF image.
pub struct Image<'d> {
    /// `vmlinux` or a module name.
    pub name: String,
    /// Row that its locations name.
    pub id: ImageId,
    /// GNU build-id, hex.
    pub build_id: String,
    /// Sections that are loaded, in file order.
    pub sections: Vec<Section<'d>>,
    /// Symbols defined here, sorted by address.
    pub symbols: Vec<Symbol<'d>>,
    /// The parsed file, for its debug sections.
    pub file: object::File<'d>,
    /// New addresses of sections by ELF section index; empty for a linked file.
    pub bases: BTreeMap<usize, u64>,
    /// Rows of `symbols`, sorted by name and address.
    sorted: Vec<u32>,
    origin: Option<u64>,
}

impl<'d> Image<'d> {
    /// Reads headers, symbols and (for a module) relocations.
    pub fn parse(name: &str, id: ImageId, bytes: &'d [u8]) -> Result<Self, Problem> {
        let file = object::File::parse(bytes).map_err(|e| e.to_string())?;
        if file.architecture() != object::Architecture::X86_64
            || file.format() != object::BinaryFormat::Elf
        {
            return Err("not an ELF file for x86-64".into());
        }
        let relocatable = file.kind() == ObjectKind::Relocatable;
        let build_id = file
            .build_id()
            .map_err(|e| e.to_string())?
            .map(hex)
            .unwrap_or_default();
        let (mut sections, rows, bases) = load_sections(&file, relocatable)?;
        let symbols = load_symbols(&file, &sections, &rows, relocatable);
        if relocatable {
            load_relocations(&file, &mut sections, &rows, &bases)?;
        }
        let count = u32::try_from(symbols.len()).map_err(|e| e.to_string())?;
        let mut sorted: Vec<u32> = (0..count).collect();
        sorted.sort_by_key(|row| symbols[*row as usize].name);
        let mut image = Self {
            name: name.to_owned(),
            id,
            build_id,
            sections,
            symbols,
            file,
            bases,
            sorted,
            origin: None,
        };
        if !relocatable {
            let text = image
                .symbol("_text")
                .ok_or("a linked image without the symbol _text")?
                .address;
            // Places are distances from it, as the running kernel's `_text` is where code starts.
            let below = |s: &&Section<'_>| s.executable && s.size > 0 && s.base < text;
            if let Some(section) = image.sections.iter().find(below) {
                return Err(format!(
                    "code of {} lies below the symbol _text",
                    section.name
                ));
            }
            image.origin = Some(text);
        }
        Ok(image)
    }

    /// A module, as opposed to a linked `vmlinux`.
    pub fn relocatable(&self) -> bool {
        self.origin.is_none()
    }

    /// The symbol of this name; a global one is preferred, then the lowest address.
    pub fn symbol(&self, name: &str) -> Option<&Symbol<'d>> {
        let rows = self.named(name);
        let global = rows.iter().find(|row| self.symbols[**row as usize].global);
        let row = global.or(rows.first())?;
        Some(&self.symbols[*row as usize])
    }

    /// All symbols of this name: files have static functions of one name.
    pub fn symbols_named(&self, name: &str) -> impl Iterator<Item = &Symbol<'d>> {
        self.named(name)
            .iter()
            .map(|row| &self.symbols[*row as usize])
    }

    fn named(&self, name: &str) -> &[u32] {
        let of = |row: &u32| self.symbols[*row as usize].name;
        let from = self.sorted.partition_point(|row| of(row) < name);
        let to = self.sorted.partition_point(|row| of(row) <= name);
        &self.sorted[from..to]
    }

    /// Symbols whose address lies in `[start, end)`.
    pub fn symbols_in(&self, start: u64, end: u64) -> &[Symbol<'d>] {
        let from = self.symbols.partition_point(|s| s.address < start);
        let to = self.symbols.partition_point(|s| s.address < end);
        &self.symbols[from..to.max(from)]
    }

    /// The address of a place in the code of this image: the reverse of [`Self::location`].
    pub fn address(&self, location: &Location) -> Option<u64> {
        match self.origin {
            Some(origin) => Some(origin.wrapping_add(location.offset)),
            None => Some(self.section(&location.section)?.base + location.offset),
        }
    }

    /// The section that holds the address.
    pub fn section_at(&self, address: u64) -> Option<&Section<'d>> {
        self.sections.iter().find(|s| s.holds(address))
    }

    /// The section of this name.
    pub fn section(&self, name: &str) -> Option<&Section<'d>> {
        self.sections.iter().find(|s| s.name == name)
    }

    /// The function or variable that covers the address; the innermost when they overlap.
    pub fn symbol_at(&self, address: u64) -> Option<&Symbol<'d>> {
        let end = self.symbols.partition_point(|s| s.address <= address);
        // Few symbols overlap: a short look back finds the one that covers the address.
        let near = self.symbols[..end].iter().rev().take(64);
        near.filter(|s| s.function || s.variable)
            .find(|s| address - s.address < s.size.max(1))
    }

    /// The place of an address as artifacts name it.
    pub fn location(&self, address: u64) -> Location {
        let section = self.section_at(address);
        let (name, start) = section.map_or(("", 0), |s| (s.name, s.base));
        let per_cpu = name.starts_with(".data..percpu");
        let offset = match self.origin {
            Some(origin) if !per_cpu => address.wrapping_sub(origin),
            _ => address.wrapping_sub(start),
        };
        let symbol = self.symbol_at(address);
        Location {
            image: self.id,
            section: name.to_owned(),
            offset,
            symbol: symbol.map_or_else(String::new, |s| s.name.to_owned()),
            symbol_offset: symbol.map_or(0, |s| address - s.address),
        }
    }

    /// What a pointer in a kernel table refers to: an 8-byte address, or (4 bytes) a distance
    /// from the field itself.
    pub fn table_pointer(&self, section: &Section<'_>, offset: u64, width: u64) -> Option<u64> {
        if let Some(relocation) = section.relocation(offset) {
            return relocation.address();
        }
        if self.relocatable() {
            return None;
        }
        let start = usize::try_from(offset).ok()?;
        let field = section
            .data
            .get(start..start.checked_add(width as usize)?)?;
        match *field {
            [a, b, c, d] => {
                let distance = i32::from_le_bytes([a, b, c, d]);
                Some((section.base + offset).wrapping_add_signed(distance.into()))
            }
            _ => field.try_into().ok().map(u64::from_le_bytes),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write;
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

type Loaded<'d> = (
    Vec<Section<'d>>,
    BTreeMap<usize, usize>,
    BTreeMap<usize, u64>,
);

fn load_sections<'d>(file: &object::File<'d>, relocatable: bool) -> Result<Loaded<'d>, Problem> {
    let mut sections = Vec::new();
    let mut rows = BTreeMap::new();
    let mut bases = BTreeMap::new();
    let mut next = FIRST_BASE;
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else {
            continue;
        };
        if !sh_flags.contains(object::elf::SHF_ALLOC) {
            continue;
        }
        let name = section.name_bytes().map_err(|e| e.to_string())?;
        let name = std::str::from_utf8(name).map_err(|e| e.to_string())?;
        let index = section.index().0;
        let base = if relocatable {
            let base = next;
            next = base
                .checked_add(section.size())
                .and_then(|end| end.checked_next_multiple_of(BASE_ALIGN))
                .map(|end| end + BASE_ALIGN)
                .filter(|end| *end < LAST_BASE)
                .ok_or_else(|| format!("section {name} is too large"))?;
            bases.insert(index, base);
            base
        } else {
            section.address()
        };
        base.checked_add(section.size())
            .ok_or_else(|| format!("section {name} wraps around"))?;
        rows.insert(index, sections.len());
        let data = section.data().map_err(|e| format!("{name}: {e}"))?;
        let executable = sh_flags.contains(object::elf::SHF_EXECINSTR);
        if executable && (data.len() as u64) < section.size() {
            return Err(format!(
                "section {name} has no bytes in this file, which holds debug information alone"
            ));
        }
        sections.push(Section {
            name,
            base,
            data,
            size: section.size(),
            executable,
            relocations: BTreeMap::new(),
        });
    }
    let mut names = BTreeSet::new();
    let mut code = sections.iter().filter(|s| s.executable && s.size > 0);
    // Places are named by section and offset.
    if let Some(twice) = code.find(|s| !names.insert(s.name)) {
        return Err(format!("two sections of code are called {}", twice.name));
    }
    let mut by_base: Vec<&Section<'_>> = sections.iter().filter(|s| s.size > 0).collect();
    by_base.sort_by_key(|s| s.base);
    let code_twice = |pair: &&[&Section<'_>]| {
        pair[0].base + pair[0].size > pair[1].base && (pair[0].executable || pair[1].executable)
    };
    if let Some(pair) = by_base.windows(2).find(code_twice) {
        return Err(format!("{} and {} overlap", pair[0].name, pair[1].name));
    }
    Ok((sections, rows, bases))
}

fn load_symbols<'d>(
    file: &object::File<'d>,
    sections: &[Section<'d>],
    rows: &BTreeMap<usize, usize>,
    relocatable: bool,
) -> Vec<Symbol<'d>> {
    let mut symbols: Vec<Symbol<'d>> = file
        .symbols()
        .filter_map(|symbol| {
            let row = *rows.get(&symbol.section_index()?.0)?;
            let name = std::str::from_utf8(symbol.name_bytes().ok()?).ok()?;
            if name.is_empty() || symbol.kind() == SymbolKind::Section {
                return None;
            }
            let base = if relocatable { sections[row].base } else { 0 };
            let address = base.checked_add(symbol.address())?;
            address.checked_add(symbol.size())?;
            Some(Symbol {
                name,
                address,
                size: symbol.size(),
                section: row,
                function: symbol.kind() == SymbolKind::Text && sections[row].executable,
                variable: symbol.kind() == SymbolKind::Data,
                global: symbol.is_global(),
            })
        })
        .collect();
    symbols.sort_by(|a, b| {
        (a.address, a.size, a.global, b.name).cmp(&(b.address, b.size, b.global, a.name))
    });
    symbols
}

fn load_relocations<'d>(
    file: &object::File<'d>,
    sections: &mut [Section<'d>],
    rows: &BTreeMap<usize, usize>,
    bases: &BTreeMap<usize, u64>,
) -> Result<(), Problem> {
    for section in file.sections() {
        let Some(row) = rows.get(&section.index().0) else {
            continue;
        };
        for (offset, relocation) in section.relocations() {
            let plain = matches!(
                relocation.kind(),
                RelocationKind::Absolute | RelocationKind::Relative | RelocationKind::PltRelative
            );
            if !plain {
                continue;
            }
            let RelocationTarget::Symbol(index) = relocation.target() else {
                continue;
            };
            let symbol = file.symbol_by_index(index).map_err(|e| e.to_string())?;
            let base = symbol
                .section_index()
                .and_then(|s| bases.get(&s.0))
                .map(|base| base.wrapping_add(symbol.address()));
            let name = match symbol.kind() {
                SymbolKind::Section => "",
                _ => std::str::from_utf8(symbol.name_bytes().map_err(|e| e.to_string())?)
                    .map_err(|e| e.to_string())?,
            };
            sections[*row].relocations.insert(
                offset,
                Relocation {
                    symbol: name,
                    base,
                    addend: relocation.addend(),
                },
            );
        }
    }
    Ok(())
}
