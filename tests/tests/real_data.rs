//! Conformance on real model output: the granules agree with an independent computation and with EDP's own.
//!
//! The data are not part of the project: `EDP_REAL_DATA` names their directory, `EDP_REAL_TOOLS` that of the checking
//! tools, `EDP_PYTHON` an interpreter with numpy and netCDF4. `make conformance` runs
//! these tests, which fail without the data.

use edp_tests::{coordinator, expect, files, text};
use std::path::{Path, PathBuf};
use std::process::Command;

fn data() -> PathBuf {
    let data = std::env::var_os("EDP_REAL_DATA").expect("EDP_REAL_DATA names the folder of the real data");
    PathBuf::from(data).join("V4r4")
}

/// Plans the sea surface height job as EDP's demonstration does, and makes its six granules.
fn produce(data: &Path, directory: &Path, mode: &str) -> PathBuf {
    let list = directory.join(format!("{mode}.json"));
    let destination = directory.join(mode);
    let mut plan = coordinator();
    plan.current_dir(data)
        .args([
            "plan",
            "--jobfile",
            "ssh.jobs.txt",
            "--ecco_source_root",
            "results",
            "--ecco_grid_loc",
            "grid_ECCOV4r4",
        ])
        .args(["--ecco_mapping_factors_loc", "mapping_factors", "--ecco_metadata_loc", "../metadata/V4r4"])
        .args(["--cfgfile", "../config/product_generation_config_updated.yaml", "--compatibility", mode])
        .arg("--ecco_destination_root")
        .arg(&destination)
        .arg("--outfile")
        .arg(&list);
    expect(&mut plan, 0);
    expect(coordinator().current_dir(data).arg("run").arg(&list), 0);
    expect(coordinator().current_dir(data).arg("verify").arg(&list).args(["--depth", "structure"]), 0);
    list
}

/// Runs the independent checker on a task list.
fn check(data: &Path, list: &Path, attributes: bool) {
    let tools = PathBuf::from(std::env::var_os("EDP_REAL_TOOLS").expect("EDP_REAL_TOOLS beside EDP_REAL_DATA"));
    let python = std::env::var_os("EDP_PYTHON").expect("EDP_PYTHON beside EDP_REAL_DATA; `make conformance` sets it");
    let mut command = Command::new(python);
    command.current_dir(data).arg(tools.join("check_granule.py")).arg(list);
    if attributes {
        for name in files(&data.join("expected/attributes")).into_keys() {
            command.arg("--attributes").arg(data.join("expected/attributes").join(name));
        }
    }
    let output = expect(&mut command, 0);
    assert!(text(&output).contains("6 of 6 granules agree"), "{}", text(&output));
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_edp_2024_agrees_value_for_value_and_attribute_for_attribute() {
    let data = data();
    let directory = tempfile::tempdir().unwrap();
    let list = produce(&data, directory.path(), "edp-2024");
    check(&data, &list, true);
}

/// Native granules are smaller than their static coordinates alone would be without compression, as in EDP's granules.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_corrected_agrees_in_every_value() {
    let data = data();
    let directory = tempfile::tempdir().unwrap();
    let list = produce(&data, directory.path(), "corrected");
    check(&data, &list, false);
    let made = directory.path().join("corrected/V4r4");
    let native = files(&made.join("native"));
    assert_eq!(native.len(), 3);
    for name in native.keys() {
        let path = made.join("native").join(name);
        let granule = netcdf::open(&path).unwrap();
        let statics = granule.variables().filter(|v| v.dimensions().iter().all(|d| d.name() != "time"));
        let plain: usize = statics.map(|v| v.len() * v.vartype().size()).sum();
        let size = path.metadata().unwrap().len() as usize;
        assert!(size < plain, "{name}: {size} bytes, static coordinates {plain}");
    }
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_plan_gives_the_recipes_of_edp() {
    let data = data();
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("tasks.json");
    let mut plan = coordinator();
    plan.current_dir(&data)
        .args(["plan", "--jobs", "ssh.jobs.txt", "--source", "results", "--destination", "out"])
        .args(["--grid", "grid_ECCOV4r4", "--mapping-factors", "mapping_factors", "--metadata", "../metadata/V4r4"])
        .args(["--config", "../config/product_generation_config_updated.yaml", "--compatibility", "edp-2024"])
        .arg("--tasks-out")
        .arg(&list);
    expect(&mut plan, 0);
    let read = |path: &Path| -> serde_json::Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let mut ours = read(&list);
    for recipe in ours.as_array_mut().unwrap() {
        let recipe = recipe.as_object_mut().unwrap();
        assert!(recipe.remove("recipe").is_some() && recipe.remove("ecco_cfg_loc").is_some());
    }
    assert_eq!(ours, read(&data.join("expected/ssh.tasks.json")));
}

/// Compares the latlon granules with the files that EDP's authors distribute: everything except uuid and dates must
/// agree, and none may be larger.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_latlon_granules_are_those_that_edp_distributes() {
    let data = data();
    let directory = tempfile::tempdir().unwrap();
    produce(&data, directory.path(), "edp-2024");
    let expected = data.join("expected/latlon");
    let names = files(&expected);
    assert_eq!(names.len(), 3);
    let made = directory.path().join("edp-2024/V4r4");
    for name in names.keys() {
        let size = |path: &Path| path.metadata().unwrap().len();
        assert!(size(&made.join("latlon").join(name)) <= size(&expected.join(name)), "{name}");
        let theirs = netcdf::open(expected.join(name)).unwrap();
        let ours = netcdf::open(made.join("latlon").join(name)).unwrap();
        let variables = |file: &netcdf::File| file.variables().map(|v| v.name()).collect::<Vec<_>>();
        assert_eq!(variables(&ours), variables(&theirs));
        let dimensions = |file: &netcdf::File| file.dimensions().map(|d| (d.name(), d.len())).collect::<Vec<_>>();
        assert_eq!(dimensions(&ours), dimensions(&theirs));
        for variable in theirs.variables() {
            let found = ours.variable(&variable.name()).unwrap();
            let values = |v: &netcdf::Variable<'_>| v.get_values::<f64, _>(..).unwrap();
            assert!(values(&found) == values(&variable), "{name}: {}", variable.name());
            assert_eq!(found.vartype(), variable.vartype());
            same_attributes(&found.attributes().collect::<Vec<_>>(), &variable.attributes().collect::<Vec<_>>());
        }
        same_attributes(&ours.attributes().collect::<Vec<_>>(), &theirs.attributes().collect::<Vec<_>>());
    }
}

/// Compares names, order, types and values of attributes, except for those that differ between any two runs of EDP.
fn same_attributes(ours: &[netcdf::Attribute<'_>], theirs: &[netcdf::Attribute<'_>]) {
    const OF_THE_RUN: [&str; 6] =
        ["uuid", "date_created", "date_modified", "date_metadata_modified", "date_issued", "_NCProperties"];
    let plain = |attributes: &[netcdf::Attribute<'_>]| -> Vec<(String, String)> {
        let of_content = attributes.iter().filter(|a| !OF_THE_RUN.contains(&a.name()));
        of_content.map(|a| (a.name().to_owned(), comparable(a))).collect()
    };
    assert_eq!(plain(ours), plain(theirs));
}

/// Returns the value of an attribute as text. Lists of coordinates and keywords are treated as sets, since EDP's own
/// order is accidental.
fn comparable(attribute: &netcdf::Attribute<'_>) -> String {
    let value = attribute.value().unwrap();
    match (attribute.name(), &value) {
        ("coordinates", netcdf::AttributeValue::Str(text)) => {
            let mut names: Vec<_> = text.split_whitespace().collect();
            names.sort_unstable();
            names.join(" ")
        }
        (_, netcdf::AttributeValue::Str(text)) => text.trim_end_matches('\0').to_owned(),
        (_, value) => format!("{value:?}"),
    }
}
