//! Addresses of the running kernel → places in images.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    recording::CodePlace,
};

use crate::bind::VMLINUX;
use crate::host::{Host, kallsyms::BASE, parse_hex};

/// Symbols with addresses, sorted, and section starts of modules.
#[derive(Debug, Default)]
pub struct Names {
    base: u64,
    symbols: Vec<Symbol>,
    /// Starts of sections by module, sorted by address.
    sections: BTreeMap<String, Vec<(u64, String)>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Symbol {
    address: u64,
    name: String,
    image: String,
}

impl Names {
    /// Reads kallsyms and the sections of every loaded module.
    pub fn read(host: &Host) -> Result<Self, Diagnostic> {
        let path = host.proc.join("kallsyms");
        let unusable = |e: std::io::Error| {
            Diagnostic::error(Code::Environment, format!("{}: {e}", path.display()))
                .help("the kernel needs CONFIG_KALLSYMS, and procfs must be mounted")
        };
        let symbols = File::open(&path).and_then(parse).map_err(unusable)?;
        let base = symbols
            .iter()
            .find(|s| s.name == BASE && s.image == VMLINUX);
        let base = base.map_or(0, |s| s.address);
        let mut sections: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
        for symbol in symbols.iter().filter(|s| s.image != VMLINUX) {
            if !sections.contains_key(&symbol.image) {
                sections.insert(symbol.image.clone(), host.sections(&symbol.image));
            }
        }
        Ok(Self {
            base,
            symbols,
            sections,
        })
    }

    /// Where an address lies.
    pub fn place(&self, address: u64) -> CodePlace {
        let Some(symbol) = self.symbol(address) else {
            return CodePlace {
                image: String::new(),
                offset: address,
                section: String::new(),
                symbol: String::new(),
            };
        };
        let name = format!("{}+{:#x}", symbol.name, address - symbol.address);
        let sections = self
            .sections
            .get(&symbol.image)
            .map_or(&[][..], Vec::as_slice);
        let section = sections
            .iter()
            .rev()
            .find(|(start, _)| *start <= address)
            .map(|(start, name)| (*start, name.clone()));
        let (start, section) = section.unwrap_or((self.base, String::new()));
        CodePlace {
            image: symbol.image.clone(),
            offset: address.wrapping_sub(start),
            section,
            symbol: name,
        }
    }

    /// `symbol+0xoffset [image]`, `?` where no symbol is near.
    pub fn label(&self, address: u64) -> String {
        let place = self.place(address);
        if place.symbol.is_empty() {
            return "?".into();
        }
        format!("{} [{}]", place.symbol, place.image)
    }

    /// Bytes from the start of the symbol that an address lies in.
    pub fn offset(&self, address: u64) -> u64 {
        self.symbol(address).map_or(0, |s| address - s.address)
    }

    /// The last symbol that starts at or below an address.
    fn symbol(&self, address: u64) -> Option<&Symbol> {
        let after = self.symbols.partition_point(|s| s.address <= address);
        self.symbols.get(after.checked_sub(1)?)
    }
}

/// Every symbol with an address in the kernel's half, by address.
fn parse(text: impl Read) -> std::io::Result<Vec<Symbol>> {
    let mut symbols = Vec::new();
    for line in BufReader::with_capacity(1 << 16, text).split(b'\n') {
        let line = line?;
        let parsed = std::str::from_utf8(&line).ok().and_then(parse_line);
        symbols.extend(parsed.filter(|symbol| symbol.address >= 1 << 63));
    }
    symbols.sort();
    Ok(symbols)
}

/// `ADDRESS TYPE NAME`, then `[MODULE]` for what is not in vmlinux.
fn parse_line(line: &str) -> Option<Symbol> {
    let mut words = line.split_ascii_whitespace();
    let address = parse_hex(words.next()?)?;
    let _kind = words.next()?;
    let name = words.next()?.to_owned();
    let image = words
        .next()
        .map_or(VMLINUX, |word| word.trim_matches(['[', ']']));
    Some(Symbol {
        address,
        name,
        image: image.to_owned(),
    })
}

impl Host {
    /// Sections of a loaded module by address; none for what has no folder (BPF programs).
    fn sections(&self, module: &str) -> Vec<(u64, String)> {
        let folder = self.sys.join("module").join(module).join("sections");
        let mut found: Vec<(u64, String)> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let address = parse_hex(&fs::read_to_string(entry.path()).ok()?)?;
                Some((address, entry.file_name().into_string().ok()?))
            })
            .collect();
        found.sort();
        found
    }

    /// All names of slab caches, given as name and folder: those whose folder is an alias of it.
    pub fn cache_names(
        &self,
        caches: impl Iterator<Item = (String, String)>,
    ) -> BTreeMap<String, Vec<String>> {
        let mut aliases: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for entry in fs::read_dir(self.sys.join("kernel/slab"))
            .into_iter()
            .flatten()
            .flatten()
        {
            if let Some(name) = entry.file_name().to_str()
                && let Some(folder) = self.slab_alias(name)
            {
                aliases.entry(folder).or_default().push(name.to_owned());
            }
        }
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, folder) in caches {
            let all = names.entry(name.clone()).or_default();
            all.push(name);
            all.extend(aliases.get(&folder).into_iter().flatten().cloned());
            all.sort();
            all.dedup();
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str = "0000000000000000 A fixed_percpu_data\nffffffff81000000 T _text\n\
        ffffffff82a00000 d noop_qdisc\nffffffffc0a51000 t qfq_enqueue\t[sch_qfq]\n\
        ffffffffc0b00000 t bpf_prog_1\t[bpf]\n";

    fn names() -> Names {
        Names {
            base: 0xffff_ffff_8100_0000,
            symbols: parse(SAMPLE.as_bytes()).unwrap(),
            sections: BTreeMap::from([(
                "sch_qfq".to_owned(),
                vec![(0xffff_ffff_c0a5_0000, ".text".to_owned())],
            )]),
        }
    }

    #[test]
    fn addresses_become_places() {
        let names = names();
        let place = names.place(0xffff_ffff_82a0_0010);
        assert_eq!((place.image.as_str(), place.offset), (VMLINUX, 0x1a0_0010));
        assert_eq!(place.symbol, "noop_qdisc+0x10");
        assert_eq!(names.offset(0xffff_ffff_82a0_0010), 0x10);
        let place = names.place(0xffff_ffff_c0a5_1005);
        assert_eq!(
            (place.image.as_str(), place.section.as_str(), place.offset),
            ("sch_qfq", ".text", 0x1005)
        );
        assert_eq!(names.place(0x1000).image, "", "no symbol");
        assert_eq!(names.label(0x1000), "?");
        assert_eq!(
            names.label(0xffff_ffff_c0a5_1005),
            "qfq_enqueue+0x5 [sch_qfq]"
        );
    }

    proptest! {
        #[test]
        fn never_panics(raw in proptest::collection::vec(any::<u8>(), 0..300), address: u64) {
            let names = Names { symbols: parse(raw.as_slice()).unwrap(), ..Names::default() };
            names.place(address);
            names.offset(address);
        }
    }
}
