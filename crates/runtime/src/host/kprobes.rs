//! `/sys/kernel/debug/kprobes`: what the kernel itself says about the probes it has.

use std::collections::BTreeMap;
use std::fs;

use super::{Host, parse_hex};

/// State of the kprobes at one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The module with the code was removed.
    pub gone: bool,
    /// Disarmed by hand.
    pub disabled: bool,
    /// Turned into a jump: deny does not work there.
    pub optimized: bool,
}

/// The kernel's list of kprobes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// `false` when all kprobes are switched off.
    pub enabled: bool,
    /// By address.
    pub probes: BTreeMap<u64, Flags>,
}

/// Reads the list; `None` without debugfs or with hidden addresses.
pub fn read(host: &Host) -> Option<List> {
    let folder = host.sys.join("kernel/debug/kprobes");
    let list = fs::read_to_string(folder.join("list")).ok()?;
    let enabled = fs::read_to_string(folder.join("enabled")).ok()?;
    parse(&list, &enabled)
}

fn parse(list: &str, enabled: &str) -> Option<List> {
    let mut probes = BTreeMap::new();
    for line in list.lines() {
        // ADDRESS KIND SYMBOL+OFFSET [MODULE] [FLAGS]...
        let Some(address) = line.split_ascii_whitespace().next().and_then(parse_hex) else {
            continue;
        };
        if address == 0 {
            return None;
        }
        let has = |flag| line.contains(flag);
        let flags = Flags {
            gone: has("[GONE]"),
            disabled: has("[DISABLED]"),
            optimized: has("[OPTIMIZED]"),
        };
        // Several probes share an address: it is as good as its best one, but optimised if any is.
        probes
            .entry(address)
            .and_modify(|old: &mut Flags| {
                old.gone &= flags.gone;
                old.disabled &= flags.disabled;
                old.optimized |= flags.optimized;
            })
            .or_insert(flags);
    }
    Some(List {
        enabled: enabled.trim() == "1",
        probes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn flags_are_read() {
        let list = parse(
            "ffffffffc0a51055  k  qfq_schedule_agg+0x55  [sch_qfq] [GONE]\n\
             ffffffff81234567  k  do_thing+0x7    [OPTIMIZED]\n\
             ffffffff81234600  k  entry+0x0    [DISABLED][FTRACE]\n\
             ffffffff81234600  k  entry+0x0    [FTRACE]\n",
            "1\n",
        )
        .unwrap();
        assert!(list.enabled);
        assert!(list.probes[&0xffff_ffff_c0a5_1055].gone);
        assert!(list.probes[&0xffff_ffff_8123_4567].optimized);
        assert_eq!(
            list.probes[&0xffff_ffff_8123_4600],
            Flags::default(),
            "one of two is armed"
        );
        assert!(!parse("", "0\n").unwrap().enabled);
        assert_eq!(parse("0000000000000000  k  x+0x0\n", "1"), None);
    }

    proptest! {
        #[test]
        fn never_panics(list in ".{0,200}", enabled in ".{0,3}") { let _ = parse(&list, &enabled); }
    }
}
