//! Tables in an image that say which code the kernel rewrites, and where probes cannot go.

use std::collections::BTreeSet;

use crate::image::{Image, Problem, Section};

/// Code that the kernel replaces at boot (or when the module is loaded) on some processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alternative {
    /// The code that is replaced: `[start, end)`.
    pub original: (u64, u64),
    /// What it is replaced with.
    pub replacement: (u64, u64),
}

/// What the tables of an image say.
#[derive(Debug, Default)]
pub struct Tables {
    /// Calls of `__fentry__`.
    ftrace: BTreeSet<u64>,
    /// Bytes that belong to a patching mechanism: (start, end, which), sorted; all short.
    reserved: Vec<(u64, u64, &'static str)>,
    /// Ranges of code where the kernel refuses probes.
    unprobed: Vec<(u64, u64)>,
    /// Functions on the kprobe blacklist.
    blacklist: BTreeSet<u64>,
    /// Alternatives, sorted.
    pub alternatives: Vec<Alternative>,
    /// Jump labels: (code, target), sorted.
    pub jump_labels: Vec<(u64, u64)>,
    /// Exception table: (instruction, fix-up), sorted.
    pub fixups: Vec<(u64, u64)>,
}

/// Bytes of `struct jump_entry`.
const JUMP_ENTRY: u64 = 16;
/// Longest instruction that a jump label or static call can become.
const PATCH_LENGTH: u64 = 5;
/// Bytes of `struct static_call_site`.
const STATIC_CALL_SITE: u64 = 8;
/// Bytes of a short jump.
const SHORT_JUMP: u64 = 2;
/// Bytes of `ud2`.
const BUG_LENGTH: u64 = 2;
/// Bytes of `struct exception_table_entry`.
const EXCEPTION_ENTRY: u64 = 12;
/// Code of a linked image where the kernel refuses probes, by its first and last symbol.
const UNPROBED: [(&str, &str); 4] = [
    ("__noinstr_text_start", "__noinstr_text_end"),
    ("__entry_text_start", "__entry_text_end"),
    ("__kprobes_text_start", "__kprobes_text_end"),
    ("__cpuidle_text_start", "__cpuidle_text_end"),
];

/// Where a table lies: its section in a module, between two symbols in a linked image.
struct Table<'i, 'd> {
    image: &'i Image<'d>,
    section: &'i Section<'d>,
    start: u64,
    size: u64,
}

impl<'i, 'd> Table<'i, 'd> {
    fn find(image: &'i Image<'d>, section: &str, symbols: (&str, &str)) -> Option<Self> {
        if image.relocatable() {
            let section = image.section(section)?;
            return Some(Self {
                image,
                section,
                start: 0,
                size: section.data.len() as u64,
            });
        }
        let (first, last) = (image.symbol(symbols.0)?, image.symbol(symbols.1)?);
        let section = image.section_at(first.address)?;
        Some(Self {
            image,
            section,
            start: first.address - section.base,
            size: last.address.checked_sub(first.address)?,
        })
    }

    /// The pointers of `width` bytes at `field` in each entry of `entry` bytes.
    fn pointers(&self, entry: u64, field: u64, width: u64) -> impl Iterator<Item = Option<u64>> {
        (0..self.size / entry).map(move |row| {
            let offset = self.start + row * entry + field;
            self.image.table_pointer(self.section, offset, width)
        })
    }

    /// A byte of the table.
    fn byte(&self, offset: u64) -> Option<u8> {
        let offset = usize::try_from(self.start + offset).ok()?;
        self.section.data.get(offset).copied()
    }

    /// Pairs of pointers, 4 bytes each, at the start of each entry.
    fn pairs(&self, entry: u64) -> impl Iterator<Item = (u64, u64)> {
        self.pointers(entry, 0, 4)
            .zip(self.pointers(entry, 4, 4))
            .filter_map(|(a, b)| a.zip(b))
    }
}

impl Tables {
    /// Reads the tables of an image.
    pub fn read(image: &Image<'_>) -> Result<Self, Problem> {
        let mut tables = Self::default();
        let table = |section, first, last| Table::find(image, section, (first, last));
        if let Some(t) = table("__mcount_loc", "__start_mcount_loc", "__stop_mcount_loc") {
            tables.ftrace.extend(t.pointers(8, 0, 8).flatten());
        }
        if let Some(t) = table(
            "_kprobe_blacklist",
            "__start_kprobe_blacklist",
            "__stop_kprobe_blacklist",
        ) {
            tables.blacklist.extend(t.pointers(8, 0, 8).flatten());
        }
        if let Some(t) = table(
            "__jump_table",
            "__start___jump_table",
            "__stop___jump_table",
        ) {
            tables.jump_labels.extend(t.pairs(JUMP_ENTRY));
        }
        if let Some(t) = table("__ex_table", "__start___ex_table", "__stop___ex_table") {
            tables.fixups.extend(t.pairs(EXCEPTION_ENTRY));
        }
        if let Some(t) = table(
            ".static_call_sites",
            "__start_static_call_sites",
            "__stop_static_call_sites",
        ) {
            let sites = t.pointers(STATIC_CALL_SITE, 0, 4).flatten();
            tables.reserve(sites, PATCH_LENGTH, "a static call is patched here");
        }
        if let Some(t) = table(
            ".altinstructions",
            "__alt_instructions",
            "__alt_instructions_end",
        ) {
            tables.read_alternatives(&t)?;
        }
        if let Some(t) = table("__bug_table", "__start___bug_table", "__stop___bug_table") {
            let bugs = bug_addresses(&t)?;
            tables.reserve(bugs.into_iter(), BUG_LENGTH, "a BUG or WARN lies here");
        }
        let labels: Vec<(u64, u64)> = tables
            .jump_labels
            .iter()
            .map(|(code, _)| (*code, jump_label_length(image, *code)))
            .collect();
        for (code, length) in labels {
            let why = "a jump label is patched here";
            tables.reserve(std::iter::once(code), length, why);
        }
        for (first, last) in UNPROBED {
            if let (Some(first), Some(last)) = (image.symbol(first), image.symbol(last)) {
                tables.unprobed.push((first.address, last.address));
            }
        }
        tables.reserved.sort_unstable();
        tables.jump_labels.sort_unstable();
        tables.fixups.sort_unstable();
        tables.alternatives.sort_unstable();
        Ok(tables)
    }

    fn reserve(&mut self, starts: impl Iterator<Item = u64>, length: u64, why: &'static str) {
        let ranges = starts.map(|start| (start, start.saturating_add(length), why));
        self.reserved.extend(ranges);
    }

    /// `struct alt_instr` is 12 bytes up to 6.2 and 14 after: the size whose pointers all lead to
    /// code is the right one.
    fn read_alternatives(&mut self, table: &Table<'_, '_>) -> Result<(), Problem> {
        let code = |pointer: Option<u64>| {
            let section = pointer.and_then(|address| table.image.section_at(address));
            section.is_some_and(|s| s.executable)
        };
        let entry = [14, 12].into_iter().find(|entry| {
            table.size.is_multiple_of(*entry)
                && table.pointers(*entry, 0, 4).all(code)
                && table
                    .pointers(*entry, 4, 4)
                    .zip(0..)
                    .all(|(replacement, row)| {
                        // An empty replacement may point to the end of its section.
                        code(replacement) || table.byte(row * entry + entry - 1) == Some(0)
                    })
        });
        let Some(entry) = entry else {
            return Err("the entries of .altinstructions have an unknown layout".into());
        };
        let originals = table.pointers(entry, 0, 4);
        let replacements = table.pointers(entry, 4, 4);
        for ((original, replacement), row) in originals.zip(replacements).zip(0..) {
            let Some((original, replacement)) = original.zip(replacement) else {
                continue;
            };
            let length = |back| table.byte(row * entry + entry - back).map(u64::from);
            if let (Some(length), Some(new_length)) = (length(2), length(1)) {
                self.alternatives.push(Alternative {
                    original: (original, original.saturating_add(length)),
                    replacement: (replacement, replacement.saturating_add(new_length)),
                });
            }
        }
        Ok(())
    }

    /// Why the kernel would refuse a probe on the instruction `[address, end)`, if it would.
    pub fn refusal(&self, image: &Image<'_>, address: u64, end: u64) -> Option<String> {
        let section = image.section_at(address).map_or("", |s| s.name);
        if section.starts_with(".init.text") {
            return Some("freed after boot: it has run when a policy can be loaded".into());
        }
        if section.starts_with(".exit.text") && !image.relocatable() {
            return Some("freed after boot: nothing unloads what is built in".into());
        }
        if [
            ".noinstr.text",
            ".entry.text",
            ".kprobes.text",
            ".cpuidle.text",
        ]
        .contains(&section)
        {
            return Some(format!("code in {section} must not be probed"));
        }
        if is_prefixed_call(image, address, end) {
            return Some("a call with a prefix: after a probe on it the kernel returns into the middle of the instruction".into());
        }
        let meets = |start: u64, stop: u64| start < end && address < stop;
        if self.unprobed.iter().any(|(s, e)| meets(*s, *e)) {
            return Some("noinstr code".into());
        }
        let near = self
            .reserved
            .partition_point(|(start, ..)| start.saturating_add(PATCH_LENGTH) <= address);
        let reserved = self.reserved[near..]
            .iter()
            .take_while(|(start, ..)| *start < end)
            .find(|(start, stop, _)| meets(*start, *stop));
        if let Some((_, _, why)) = reserved {
            return Some((*why).into());
        }
        let symbol = image.symbol_at(address);
        if let Some(symbol) = symbol
            && self.blacklist.contains(&symbol.address)
        {
            return Some(format!("{} is on the kprobe blacklist", symbol.name));
        }
        self.notrace(image, address)
    }

    /// Whether the kernel may rewrite bytes of `[start, end)`, or looks up what lies there by address.
    pub fn is_rewritten(&self, start: u64, end: u64) -> bool {
        let meets = |from: u64, to: u64| from < end && start < to;
        let near = |longest: u64| start.saturating_sub(longest);
        let reserved = self.reserved.partition_point(|r| r.0 < near(PATCH_LENGTH));
        let fixup = self.fixups.partition_point(|(at, _)| *at < start);
        // The lengths of alternatives are bytes.
        let alternative = self
            .alternatives
            .partition_point(|a| a.original.0 < near(256));
        self.reserved[reserved..]
            .iter()
            .take_while(|r| r.0 < end)
            .any(|r| meets(r.0, r.1))
            || self.fixups.get(fixup).is_some_and(|(at, _)| *at < end)
            || self.alternatives[alternative..]
                .iter()
                .take_while(|a| a.original.0 < end)
                .any(|a| meets(a.original.0, a.original.1))
            || self.traced(near(PATCH_LENGTH - 1), end)
    }

    /// `trace_kprobe` refuses functions that ftrace cannot see (`within_notrace_func`).
    fn notrace(&self, image: &Image<'_>, address: u64) -> Option<String> {
        let (name, start, end) = kallsyms_range(image, address)?;
        if self.traced(start, end) {
            return None;
        }
        // A part of a function is judged by the function that it was split from.
        if let Some((whole, _)) = name.split_once('.')
            && let Some(symbol) = image.symbol(whole)
        {
            let range = kallsyms_range(image, symbol.address);
            if range.is_some_and(|(_, start, end)| self.traced(start, end)) {
                return None;
            }
        }
        Some(format!("{name} has no ftrace site (notrace)"))
    }

    /// The ftrace site at the entry of a function, behind its `endbr64` if it has one.
    pub fn ftrace_site(&self, entry: u64) -> Option<u64> {
        self.ftrace.range(entry..entry + 8).next().copied()
    }

    fn traced(&self, start: u64, end: u64) -> bool {
        self.ftrace.range(start..end).next().is_some()
    }
}

/// A jump label is a jump or a nop of two or five bytes; patching keeps its length.
fn jump_label_length(image: &Image<'_>, code: u64) -> u64 {
    let first = image.section_at(code).and_then(|section| {
        let offset = usize::try_from(code - section.base).ok()?;
        section.data.get(offset)
    });
    match first {
        Some(0xeb | 0x66) => SHORT_JUMP,
        _ => PATCH_LENGTH,
    }
}

/// The symbol that the running kernel finds for an address, and its range: up to the next symbol.
fn kallsyms_range<'i>(image: &'i Image<'_>, address: u64) -> Option<(&'i str, u64, u64)> {
    let section = image.section_at(address)?;
    let named = |name: &str| !name.starts_with(['.', '$']) && !name.starts_with("L0");
    let end = image.symbols.partition_point(|s| s.address <= address);
    let before = image.symbols[..end]
        .iter()
        .rev()
        .take_while(|s| s.address >= section.base)
        .find(|s| named(s.name));
    let next = image.symbols[end..]
        .iter()
        .find(|s| named(s.name))
        .map_or(u64::MAX, |s| s.address)
        .min(section.base + section.size);
    before.map(|symbol| (symbol.name, symbol.address, next))
}

/// `struct bug_entry` starts with a pointer to the instruction. What follows depends on the
/// configuration: file and line, flags. The size whose first pointers all lead to code is the right
/// one; of a module it is told by the relocations.
fn bug_addresses(table: &Table<'_, '_>) -> Result<Vec<u64>, Problem> {
    let image = table.image;
    let code = |address: &u64| image.section_at(*address).is_some_and(|s| s.executable);
    if image.relocatable() {
        return Ok((0..table.size)
            .step_by(4)
            .filter_map(|offset| table.section.relocation(table.start + offset)?.address())
            .filter(code)
            .collect());
    }
    let fits = [12, 8].into_iter().find(|entry| {
        table.size.is_multiple_of(*entry)
            && table
                .pointers(*entry, 0, 4)
                .all(|bug| bug.is_some_and(|a| code(&a)))
    });
    let entry = fits.ok_or("the entries of __bug_table have an unknown layout")?;
    Ok(table.pointers(entry, 0, 4).flatten().collect())
}

/// Whether `[address, end)` is a direct call with prefixes (`cs call`, which pads calls of thunks
/// of `r8` to `r15`). The kernel emulates a probed call, and takes it to be five bytes long
/// (`int3_emulate_call`).
fn is_prefixed_call(image: &Image<'_>, address: u64, end: u64) -> bool {
    /// Bytes of `call rel32`.
    const CALL: usize = 5;
    let bytes = image.section_at(address).and_then(|section| {
        let from = usize::try_from(address - section.base).ok()?;
        let to = usize::try_from(end.checked_sub(section.base)?).ok()?;
        section.data.get(from..to)
    });
    let Some((prefixes, call)) = bytes.and_then(|b| b.split_at_checked(b.len().checked_sub(CALL)?))
    else {
        return false;
    };
    let is_prefix = |byte: &u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    call[0] == 0xe8 && !prefixes.is_empty() && prefixes.iter().all(is_prefix)
}
