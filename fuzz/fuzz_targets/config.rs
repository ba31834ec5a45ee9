#![no_main]

#[allow(dead_code, reason = "each target borrows one property of the suite's")]
#[path = "../../tests/it/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|text: &str| properties::config(text));
