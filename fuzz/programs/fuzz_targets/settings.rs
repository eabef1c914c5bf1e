//! The fuzz target that runs [`edp_tests::parsers::settings`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| edp_tests::parsers::settings(input));
