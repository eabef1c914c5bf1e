//! The readers that users have open every granule without any warning.

use edp_protocol::recipe;
use edp_tests::{Fixture, coordinator, expect, text};
use std::path::Path;
use std::process::Command;

fn read_by_all(mode: &str) {
    let Some(python) = std::env::var_os("EDP_PYTHON") else {
        return edp_tests::not_run("EDP_PYTHON names no interpreter with netCDF4 and xarray; `make test` sets it");
    };
    // Chunks are large enough for every encoder.
    let fixture = Fixture::new(45);
    let list = fixture.plan(&fixture.path("out"), "tasks.json", &["--compatibility", mode]);
    expect(coordinator().arg("run").arg(&list), 0);
    let recipes = recipe::parse_list("list", &std::fs::read(&list).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers/open_all.py");
    let output = expect(Command::new(python).arg(script).args(recipes.iter().map(|recipe| &recipe.granule)), 0);
    println!("{}", text(&output));
}

/// Checkers of conventions find nothing new in granules of each kind, and readers that interpret conventions find every
/// variable with its coordinates. ACDD judges texts, which a made-up model run lacks.
#[test]
fn corrected_granules_pass_the_checkers() {
    let Some(python) = std::env::var_os("EDP_CHECKERS") else {
        return edp_tests::not_run("EDP_CHECKERS names no interpreter with the checkers; `make test` sets it");
    };
    let fixture = Fixture::new(8);
    let list = fixture.plan(&fixture.path("out"), "tasks.json", &[]);
    expect(coordinator().arg("run").arg(&list), 0);
    let recipes = recipe::parse_list("list", &std::fs::read(&list).unwrap()).unwrap();
    let january = recipes.iter().map(|recipe| &recipe.granule).filter(|granule| granule.contains("_1992-01_"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/checkers.py");
    let mut check = Command::new(python);
    let output = expect(check.arg("-B").arg(script).arg("--without-acdd").args(january), 0);
    assert!(text(&output).contains("8 of 8 granules are understood by all"), "{}", text(&output));
}

#[test]
fn corrected_granules_are_read_by_all() {
    read_by_all("corrected");
}

#[test]
fn edp_2024_granules_are_read_by_all() {
    read_by_all("edp-2024");
}
