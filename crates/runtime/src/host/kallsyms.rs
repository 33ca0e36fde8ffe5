//! `/proc/kallsyms`: the kernel's base and the addresses of its globals, and of what sysfs does not
//! say of modules.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use otf_artifact::diagnostic::{Code, Diagnostic};

use super::{Host, hidden, parse_hex};

/// Name of the symbol at the start of the kernel image.
pub const BASE: &str = "_text";

/// The addresses of some symbols; a static name may have several. A module's symbol is called
/// `NAME [MODULE]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols(BTreeMap<String, Vec<u64>>);

impl Symbols {
    /// Addresses of a symbol, in the order of the file.
    pub fn addresses(&self, name: &str) -> &[u64] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

/// How [`Symbols`] calls a module's symbol.
pub fn of_module(module: &str, name: &str) -> String {
    format!("{name} [{module}]")
}

/// Reads the wanted symbols and the base of vmlinux.
pub fn read(host: &Host, wanted: &BTreeSet<String>) -> Result<(u64, Symbols), Diagnostic> {
    let path = host.proc.join("kallsyms");
    let unusable = |why: String| {
        Diagnostic::error(Code::Environment, format!("{}: {why}", path.display()))
            .help("the kernel needs CONFIG_KALLSYMS, and procfs must be mounted")
    };
    let file = File::open(&path).map_err(|e| unusable(e.to_string()))?;
    let symbols = parse(file, wanted).map_err(|e| unusable(e.to_string()))?;
    match symbols.addresses(BASE) {
        [] => Err(unusable(format!("has no symbol {BASE}"))),
        [0, ..] => Err(hidden(&path)),
        [base, ..] => Ok((*base, symbols)),
    }
}

/// Picks the wanted symbols (and [`BASE`]).
pub fn parse(text: impl Read, wanted: &BTreeSet<String>) -> std::io::Result<Symbols> {
    let mut symbols = Symbols::default();
    let mut reader = BufReader::with_capacity(1 << 16, text);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if let Some((address, name)) = std::str::from_utf8(&line).ok().and_then(parse_line)
            && (name == BASE || wanted.contains(&*name))
        {
            symbols
                .0
                .entry(name.into_owned())
                .or_default()
                .push(address);
        }
        line.clear();
    }
    Ok(symbols)
}

/// `ADDRESS TYPE NAME`; a module's line goes on with `[MODULE]`.
fn parse_line(line: &str) -> Option<(u64, Cow<'_, str>)> {
    let mut words = line.split_ascii_whitespace();
    let address = parse_hex(words.next()?)?;
    let _kind = words.next()?;
    let name = words.next()?;
    match words.next() {
        None => Some((address, name.into())),
        Some(module) => {
            let module = module.strip_prefix('[')?.strip_suffix(']')?;
            Some((address, of_module(module, name).into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str = "0000000000000000 A fixed_percpu_data\nffffffff81000000 T _text\n\
        ffffffff82a00000 d noop_qdisc\nffffffff82a00100 d twice\nffffffff82a00200 d twice\n\
        ffffffffc0a51000 t qfq_enqueue\t[sch_qfq]\nffffffffc0a52000 d twice\t[sch_qfq]\n";

    #[test]
    fn picks_symbols_of_vmlinux() {
        let wanted = ["twice", "qfq_enqueue", "noop_qdisc"];
        let wanted = BTreeSet::from(wanted.map(String::from));
        let symbols = parse(SAMPLE.as_bytes(), &wanted).unwrap();
        assert_eq!(symbols.addresses(BASE), [0xffff_ffff_8100_0000]);
        assert_eq!(
            symbols.addresses("twice"),
            [0xffff_ffff_82a0_0100, 0xffff_ffff_82a0_0200]
        );
        assert!(
            symbols.addresses("qfq_enqueue").is_empty(),
            "a symbol of a module is none of vmlinux"
        );
        let wanted = BTreeSet::from([of_module("sch_qfq", "twice")]);
        let symbols = parse(SAMPLE.as_bytes(), &wanted).unwrap();
        assert_eq!(
            symbols.addresses("twice [sch_qfq]"),
            [0xffff_ffff_c0a5_2000]
        );
        assert!(symbols.addresses("fixed_percpu_data").is_empty());
    }

    #[test]
    fn hidden_addresses_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let host = Host {
            sys: root.path().into(),
            proc: root.path().into(),
        };
        std::fs::write(root.path().join("kallsyms"), "0000000000000000 T _text\n").unwrap();
        let refused = read(&host, &BTreeSet::new()).unwrap_err();
        assert_eq!(refused.code, Code::Environment);
        assert!(refused.message.contains("hides addresses"), "{refused}");
        std::fs::write(root.path().join("kallsyms"), "ffffffff81000000 T start\n").unwrap();
        assert!(
            read(&host, &BTreeSet::new())
                .unwrap_err()
                .message
                .contains("no symbol _text")
        );
    }

    proptest! {
        #[test]
        fn never_panics(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(raw.as_slice(), &BTreeSet::new()).unwrap();
        }
        #[test]
        fn every_line_of_vmlinux_is_read(address: u64, name in "[a-z_][a-z0-9_.]{0,30}") {
            let line = format!("{address:016x} t {name}\n");
            prop_assert_eq!(parse_line(&line), Some((address, name.as_str().into())));
            let module = format!("{address:016x} t {name}\t[m]\n");
            prop_assert_eq!(parse_line(&module), Some((address, of_module("m", &name).into())));
        }
    }
}
