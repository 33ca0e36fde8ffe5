//! policy.yaml as people edit it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(policy) = otf_policygen::parse(text, "policy.yaml") {
        let written = otf_policygen::to_yaml(&policy);
        assert!(otf_policygen::parse(&written, "written.yaml").is_ok());
    }
});
