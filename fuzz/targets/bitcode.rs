//! Bitcode that was damaged: an error, or facts of something else.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = otf_analyzer::facts(bytes, "fuzzed.c");
});
