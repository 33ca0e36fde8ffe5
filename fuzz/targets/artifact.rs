//! Artifacts as another stage may find them: an error, or a value that is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otf_artifact::{Artifact, analysis::Analysis, recording::Recording, sites::Sites};

fn round_trip<A: Artifact + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(value) = A::read(bytes, "artifact.json") {
        let mut written = Vec::new();
        value.write(&mut written).expect("a vector takes all bytes");
        assert_eq!(A::read(&written, "written").as_ref(), Ok(&value));
    }
}

fuzz_target!(|bytes: &[u8]| {
    round_trip::<Analysis>(bytes);
    round_trip::<Sites>(bytes);
    round_trip::<Recording>(bytes);
});
