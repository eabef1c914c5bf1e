//! The bytes of the demo's granules in each mode. A change of them is a change of the output version: see
//! `edp_protocol::recipe::output_version`.
#![allow(clippy::unwrap_used, clippy::panic)]

use edp_protocol::recipe::output_version;
use edp_tests::{Fixture, coordinator, expect, files};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Number of cells along the side of a tile: a small grid that has every kind of granule.
const SIZE: usize = 6;

/// The same for a grid whose chunks are large enough for the encoder of shuffled planes.
const LARGE: usize = 45;

/// Returns the path of the digests of a mode. The file has a line with the output version, and then lines as
/// `sha256sum` writes them.
fn record(mode: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{mode}.sha256"))
}

/// Makes all granules of the demo in a mode, and compares their digests with the record. With `EDP_GOLDEN=update` in
/// the environment it writes the record.
fn compare(mode: &str, size: usize, name: &str) {
    let version = output_version(mode.parse().unwrap());
    let fixture = Fixture::new(size);
    let out = fixture.path("out");
    let list = fixture.plan(&out, "tasks.json", &["--compatibility", mode]);
    expect(coordinator().arg("run").arg(&list), 0);
    let mut found = format!("# output version {version}\n");
    for (name, digest) in files(&out) {
        writeln!(found, "{}  {name}", digest.as_str()).unwrap();
    }
    let record = record(name);
    if std::env::var_os("EDP_GOLDEN").is_some_and(|value| value == "update") {
        fs::write(&record, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(&record).unwrap();
    if found == expected {
        return;
    }
    let differs: Vec<&str> = found.lines().filter(|line| !expected.lines().any(|other| other == *line)).collect();
    panic!(
        "{mode}: {} granules are not those of {}: raise the output version if that is meant, and then run this test \
         with EDP_GOLDEN=update:\n{}",
        differs.len(),
        record.display(),
        differs.join("\n")
    );
}

#[test]
#[cfg_attr(not(feature = "static"), ignore = "bytes are fixed for the bundled libraries only")]
fn granules_of_mode_corrected_are_the_recorded_ones() {
    compare("corrected", SIZE, "corrected");
}

#[test]
#[cfg_attr(not(feature = "static"), ignore = "bytes are fixed for the bundled libraries only")]
fn large_granules_of_mode_corrected_are_the_recorded_ones() {
    compare("corrected", LARGE, "corrected-large");
}

#[test]
#[cfg_attr(not(feature = "static"), ignore = "bytes are fixed for the bundled libraries only")]
fn granules_of_mode_edp_2024_are_the_recorded_ones() {
    compare("edp-2024", SIZE, "edp-2024");
}

#[test]
#[cfg_attr(not(feature = "static"), ignore = "bytes are fixed for the bundled libraries only")]
fn granules_of_mode_edp_2026_are_the_recorded_ones() {
    compare("edp-2026", SIZE, "edp-2026");
}
