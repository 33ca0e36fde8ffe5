//! Confined files of a real `vmlinux` against an independent disassembler.
mod common;

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::ids::ImageId;
use otf_binresolve::{
    ImageInput,
    dwarf::{Sections, paths::Paths},
    extent::Confinement,
    image::Image,
    resolve,
};
use otf_testkit::objdump;

#[test]
fn every_write_of_ipv6_is_a_site() {
    let Some(products) = otf_testkit::products() else {
        return;
    };
    let path = products.file(&products.lock("sch_qfq").vmlinux.file);
    let bytes = std::fs::read(&path).unwrap();
    let image = Image::parse("vmlinux", ImageId(0), &bytes).unwrap();
    let origin = image.symbol("_text").unwrap().address;
    let sections = Sections::load(&image).unwrap();
    let units = sections.index(&Paths::default()).unwrap();
    let ranges = units.ranges(|file| file.starts_with("net/ipv6/")).unwrap();
    let files: BTreeSet<String> = ranges.iter().map(|unit| unit.name.clone()).collect();
    assert!(files.len() > 40, "{}", files.len());
    let input = ImageInput {
        name: "vmlinux",
        file: "vmlinux",
        bytes: &bytes,
        confined: Confinement::Files(&files),
        exact: &[],
    };
    let sites = resolve(&common::empty_analysis(), &[input]).unwrap();
    let mut expected = BTreeMap::new();
    for (start, end) in ranges.into_iter().flat_map(|unit| unit.ranges) {
        for ((_, address), text) in objdump::writes_between(&path, start, end) {
            expected.insert(address.wrapping_sub(origin), text);
        }
    }
    let found: BTreeMap<u64, &str> = common::stores(&sites)
        .filter(|site| !site.location.section.starts_with(".altinstr"))
        .map(|site| (site.location.offset, site.text.as_str()))
        .collect();
    let missing: Vec<_> = expected
        .iter()
        .filter(|(k, _)| !found.contains_key(*k))
        .collect();
    let surplus: Vec<_> = found
        .iter()
        .filter(|(k, _)| !expected.contains_key(*k))
        .collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing: {missing:#?}\nsurplus: {surplus:#?}"
    );
    assert!(found.len() > 9000, "{}", found.len());
    assert!(sites.calls.len() > 150 && sites.returns.len() > 1000);
}
