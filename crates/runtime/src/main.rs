//! otf-load: verify, load, watch and unload bundles.

fn main() {}
