#![no_main]

#[allow(dead_code, reason = "each target borrows one property of the suite's")]
#[path = "../../tests/it/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::saved(bytes));
