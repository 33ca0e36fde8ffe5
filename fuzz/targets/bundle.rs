//! Archives that somebody else packed: an error, or a bundle that packs to the same meaning.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(bundle) = otf_bundle::unpack(bytes) {
        let packed = otf_bundle::pack(&bundle).expect("what was unpacked can be packed");
        assert!(otf_bundle::unpack(&packed).is_ok());
    }
});
