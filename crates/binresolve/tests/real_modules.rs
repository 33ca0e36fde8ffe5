//! Real kernel modules against an independent disassembler.
//!
//! Every module that a lock names: the compartments' own with code and DWARF, and modules as they
//! are shipped.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are not marked as tests"
)]

mod common;

use std::{collections::BTreeSet, path::Path, time::Instant};

use otf_artifact::{
    ids::ImageId,
    sites::{Coverage, Site, Unwind},
};
use otf_binresolve::{confined::Confined, dwarf::paths::Paths, extent::Confinement, image::Image};

#[test]
fn every_write_of_real_modules_is_a_site() {
    let Some(products) = otf_testkit::products() else {
        return;
    };
    let mut files = BTreeSet::new();
    for lock in products.locks() {
        let own = lock.modules.iter().map(|module| &module.file);
        let shipped = lock.loadable.iter().chain(&lock.support).map(|m| &m.file);
        files.extend(own.chain(shipped).map(|file| products.file(file)));
    }
    for file in &files {
        let start = Instant::now();
        let sites = common::resolve_file(&common::empty_analysis(), file);
        eprintln!(
            "{}: {} sites in {:?}",
            file.display(),
            sites.sites.len(),
            start.elapsed()
        );
        common::assert_same_writes(&sites, file);
        assert_frames_agree(file);
        let count = |f: &dyn Fn(&Site) -> bool| sites.sites.iter().filter(|s| f(s)).count();
        let probed = count(&|s| s.coverage == Coverage::Probe);
        let safe = count(&|s| s.unwind == Unwind::Safe);
        let placed = count(&|s| s.chain[0].line > 0);
        eprintln!("  probed {probed}, safe to unwind {safe}, with a line {placed}");
        assert!(probed > 0);
        // A module as it is shipped has no DWARF: then no site has a place.
        assert!(placed == 0 || placed * 100 > sites.sites.len() * 95);
    }
}

/// Two ways to a frame's size: counting stack instructions never finds more than the compiler's
/// own call frame information says.
fn assert_frames_agree(file: &Path) {
    let bytes = std::fs::read(file).unwrap();
    let file = file.display();
    let image = Image::parse("test", ImageId(0), &bytes).unwrap();
    let confined = Confined::load(image, &Paths::default(), Confinement::Whole).unwrap();
    let (mut described, mut same) = (0, 0);
    for (row, instruction) in confined.code.all.iter().enumerate() {
        if let Some(exact) = confined.frames.size(instruction.ip()) {
            let least = confined.held.least_frame(row);
            assert!(
                least <= exact,
                "{file} {:#x}: {least} > {exact}",
                instruction.ip()
            );
            described += 1;
            same += u32::from(least == exact);
        }
    }
    assert!(same * 10 >= described * 9, "{file}: {same} of {described}");
}
