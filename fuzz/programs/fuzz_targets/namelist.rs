//! The fuzz target that runs [`edp_tests::parsers::namelist`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| edp_tests::parsers::namelist(input));
