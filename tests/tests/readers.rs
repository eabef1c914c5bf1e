//! The readers that users have open every granule without any warning.

use edp_protocol::recipe;
use edp_tests::{Fixture, coordinator, expect, text};
use std::path::Path;
use std::process::Command;

fn read_by_all(mode: &str) {
    let Some(python) = std::env::var_os("EDP_PYTHON") else {
        return edp_tests::not_run("EDP_PYTHON names no interpreter with netCDF4 and xarray; `make test` sets it");
    };
    let fixture = Fixture::new(8);
    let list = fixture.plan(&fixture.path("out"), "tasks.json", &["--compatibility", mode]);
    expect(coordinator().arg("run").arg(&list), 0);
    let recipes = recipe::parse_list("list", &std::fs::read(&list).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers/open_all.py");
    let output = expect(Command::new(python).arg(script).args(recipes.iter().map(|recipe| &recipe.granule)), 0);
    println!("{}", text(&output));
}

#[test]
fn corrected_granules_are_read_by_all() {
    read_by_all("corrected");
}

#[test]
fn edp_2024_granules_are_read_by_all() {
    read_by_all("edp-2024");
}
