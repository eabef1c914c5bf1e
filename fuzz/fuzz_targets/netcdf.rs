//! [`edp_parsers::netcdf_here`]
#![no_main]

use std::sync::Once;

static QUIET: Once = Once::new();

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // A panic of the libraries' wrapper is an answer, which the helper process gives; only what ends a process counts.
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let _ = std::panic::catch_unwind(|| edp_parsers::netcdf_here(input));
});
