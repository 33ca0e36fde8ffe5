//! ELF images with their DWARF and kernel tables: an error that blames the image, or sites that
//! pass the checker.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otf_artifact::{analysis::Analysis, diagnostic::Code};
use otf_binresolve::{ImageInput, extent::Confinement, resolve};

/// An analysis of a compartment that writes nothing.
const ANALYSIS: &[u8] = include_bytes!("../seeds/analysis.json");

fuzz_target!(|bytes: &[u8]| {
    let analysis: Analysis =
        otf_artifact::Artifact::read(ANALYSIS, "analysis.json").expect("the seed can be read");
    let input = ImageInput {
        name: "test",
        file: "test.ko",
        bytes,
        confined: Confinement::Whole,
        exact: &[],
    };
    if let Err(problems) = resolve(&analysis, &[input]) {
        assert!(!problems.is_empty());
        let ours = problems.iter().find(|p| p.code == Code::InvariantBroken);
        assert!(ours.is_none(), "{ours:?}");
    }
});
