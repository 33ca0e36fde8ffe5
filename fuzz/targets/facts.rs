//! Files of facts that were damaged: an error, or facts. Rows in a file whose hashes are right are trusted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otf_analyzer::format::{Depth, EXTRACTOR, decode};
use xxhash_rust::xxh3::xxh3_64;

/// A file whose header is right for these sections, so that the fuzzer gets behind it.
fn file(bytes: &[u8]) -> Vec<u8> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut file = b"OTFFACTS".to_vec();
    file.extend(EXTRACTOR.as_bytes());
    file.extend([b'0'; 64]);
    for section in [first, second] {
        file.extend((section.len() as u64).to_le_bytes());
        file.extend(xxh3_64(section).to_le_bytes());
    }
    file.extend(bytes);
    file
}

fuzz_target!(|bytes: &[u8]| {
    let _ = decode(bytes, Depth::Full, "raw.facts");
    let _ = decode(&file(bytes), Depth::Mentioned, "fuzzed.facts");
});
