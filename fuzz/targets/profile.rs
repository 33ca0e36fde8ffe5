//! Kernel profiles, compartments and overlays as people edit them.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use otf_kernel::inputs;

fuzz_target!(|text: &str| {
    let root = tempfile::tempdir().expect("a folder for the files");
    let kernel = root.path().join("kernels/k");
    for (folder, file) in [
        (kernel.clone(), "kernel.yaml"),
        (kernel.join("compartments"), "c.yaml"),
        (kernel.join("overlays/o"), "overlay.yaml"),
    ] {
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(file), text).expect("a file");
    }
    let _ = inputs::profile(root.path(), "k");
    let _ = inputs::compartment(root.path(), "k", "c");
    let _ = inputs::overlay(root.path(), "k", "o");
});
