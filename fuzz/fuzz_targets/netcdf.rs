//! The fuzz target that runs [`edp_parsers::netcdf_here`].
#![no_main]

use std::sync::Once;

static QUIET: Once = Once::new();

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // A panic in the bindings of the libraries gives an answer in the helper process; only what ends a process counts
    // here.
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let _ = std::panic::catch_unwind(|| edp_parsers::netcdf_here(input));
});
