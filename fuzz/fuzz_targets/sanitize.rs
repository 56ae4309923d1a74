#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mirrorgate_fuzz::sanitize::run(bytes));
