//! The fuzz target that runs [`edp_parsers::encoder`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| edp_parsers::encoder(input));
