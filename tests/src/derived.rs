//! Derived variables in the demo: a sum, a difference and anomalies, declared in its groupings.

use edp_engine::mds::compact;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Number of months of the period of the anomalies: February and March 1992.
pub const MONTHS: usize = 2;

/// Declares derived variables in all groupings of a metadata directory: `SUM` (SSH and SSHIBC), `LESS` (SSHNOIBC minus
/// SSH) and `SSHAnoma` in the dataset of the sea surface, and the 3-D `THETAAnoma` in that of temperature.
///
/// # Panics
/// Panics if the directory has no such groupings.
pub fn declare(metadata: &Path) {
    let mut changed = 0;
    for entry in fs::read_dir(metadata).expect("a directory").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if !name.contains("groupings") || name.contains("1D") {
            continue;
        }
        let mut groupings: Value = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("JSON");
        for grouping in groupings.as_array_mut().expect("a list") {
            let period = |of: &str| json!({"anomaly": {"of": of, "from": "1992-02-01", "to": "1992-03-31"}});
            let (fields, rules) = match grouping["filename"].as_str() {
                Some("SEA_SURFACE_HEIGHT") => (
                    "SUM, LESS, SSHAnoma",
                    json!({
                        "SUM": {"sum": ["SSH", "SSHIBC"]},
                        "LESS": {"difference": ["SSHNOIBC", "SSH"]},
                        "SSHAnoma": period("SSH"),
                    }),
                ),
                Some("OCEAN_TEMPERATURE_SALINITY") => ("THETAAnoma", json!({"THETAAnoma": period("THETA")})),
                _ => continue,
            };
            let known = grouping["fields"].as_str().expect("a text").to_owned();
            grouping["fields"] = format!("{known}, {fields}").into();
            grouping["field_rules"] = rules;
            changed += 1;
        }
        fs::write(&path, serde_json::to_vec_pretty(&groupings).expect("JSON")).expect("room for a file");
    }
    assert!(changed >= 2, "{changed} groupings");
}

/// Returns the values of a `.data` file of single precision, of all levels, each level tile by tile.
///
/// # Panics
/// Panics if the file cannot be read.
pub fn record(path: &Path, n: usize) -> Vec<f32> {
    let bytes = fs::read(path).expect("a record");
    let values: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| f32::from_be_bytes(*bytes)).collect();
    let plane = compact::TILES * n * n;
    let mut tiles = vec![0.0; values.len()];
    for (level, tiles) in values.chunks_exact(plane).zip(tiles.chunks_exact_mut(plane)) {
        compact::to_tiles(n, level, tiles);
    }
    tiles
}

/// Returns the path of the file with a name, which is somewhere below a directory.
///
/// # Panics
/// Panics if there is none.
pub fn find(root: &Path, name: &str) -> PathBuf {
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory").flatten() {
            match entry.path() {
                path if path.is_dir() => directories.push(path),
                path if entry.file_name() == name => return path,
                _ => {}
            }
        }
    }
    panic!("{name} is not below {}", root.display());
}

/// Lists the files with means below a destination, and everything else in their directory.
pub fn means(destination: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(destination.join("DEMO/means")).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.sort();
    found
}
