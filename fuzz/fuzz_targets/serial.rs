#![no_main]

#[path = "../../tests/it/fuzzed.rs"]
#[allow(dead_code, reason = "each target calls one of them")]
mod fuzzed;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzed::serial(bytes));
