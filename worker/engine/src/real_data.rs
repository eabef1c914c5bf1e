//! The directory of the real data with which tests compare. They are not part of this repository; `make conformance`
//! runs the tests.
#![allow(clippy::expect_used)]

use std::path::{Path, PathBuf};

/// Returns a path below the directory of the real data. A test that needs them fails if they are missing.
pub(crate) fn real_data(path: &str) -> PathBuf {
    let root = std::env::var_os("EDP_REAL_DATA").expect("EDP_REAL_DATA names the folder of the real data");
    Path::new(&root).join(path)
}
