//! Real kernel modules against an independent disassembler.
//!
//! `OTF_TEST_IMAGES` names ELF files (separated by `:`) with code and DWARF; without it there is
//! nothing to read and the test says so.

mod common;

use std::{path::Path, time::Instant};

use otf_artifact::sites::{Coverage, Precision, Unwind};

#[test]
fn every_write_of_real_modules_is_a_site() {
    let Ok(files) = std::env::var("OTF_TEST_IMAGES") else {
        eprintln!("OTF_TEST_IMAGES is not set: no real module was read");
        return;
    };
    for file in files.split(':') {
        let start = Instant::now();
        let sites = common::resolve_file(&common::empty_analysis(), Path::new(file));
        eprintln!("{file}: {} sites in {:?}", sites.sites.len(), start.elapsed());
        common::assert_same_writes(&sites, Path::new(file));
        let count = |f: &dyn Fn(&otf_artifact::sites::Site) -> bool| {
            sites.sites.iter().filter(|s| f(s)).count()
        };
        let probed = count(&|s| s.coverage == Coverage::Probe);
        let safe = count(&|s| s.unwind == Unwind::Safe);
        let placed = count(&|s| s.chain[0].line > 0);
        eprintln!("  probed {probed}, safe to unwind {safe}, with a line {placed}");
        assert!(probed > 0 && placed * 100 > sites.sites.len() * 95);
        assert!(sites.sites.iter().all(|s| s.precision == Precision::Compartment
            || s.coverage == Coverage::Proven("own frame".into())));
        if std::env::var_os("OTF_TEST_DUMP").is_some() {
            for s in &sites.sites {
                eprintln!(
                    "  {}+{:#x} {}+{:#x} {:?} `{}` {:?} {:?} {:?} {:?} frame {:?} at {}",
                    s.location.section, s.location.offset, s.location.symbol,
                    s.location.symbol_offset, s.kind, s.text, s.length, s.operand_symbol, s.coverage, s.unwind, s.frame_size,
                    s.chain.iter().map(|f| format!("{} {}:{}", f.function, f.file, f.line)).collect::<Vec<_>>().join(" < "),
                );
            }
            for d in &sites.diagnostics { eprintln!("{d}"); }
        }
    }
}
