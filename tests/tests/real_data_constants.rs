//! Conformance of what has no steps: every dataset without time and every time series of the releases, and the geometry, are
//! planned, made and verified on the real grid. The grid, the mapping factors and the metadata are ECCO's; its mixing
//! coefficients and series are not at hand, and are made up here.
//!
//! The data are not part of the project: `EDP_REAL_DATA` names their directory. Without it these tests fail.

use edp_tests::{coordinator, expect, files, text};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const N: usize = 90;
const LEVELS: usize = 50;
const PLANE: usize = 13 * N * N;

/// The fields of the mixing coefficients, by which ECCO names its files.
const FIELDS: [&str; 3] = ["diffkr", "kapgm", "kapredi"];

fn data(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("EDP_REAL_DATA").expect("EDP_REAL_DATA is needed, and not set")).join(name)
}

/// Returns the only file of a metadata directory whose name ends so.
fn metadata(release: &str, end: &str) -> PathBuf {
    let directory = data("metadata").join(release);
    let name = files(&directory).into_keys().find(|name| name.ends_with(end));
    directory.join(name.unwrap_or_else(|| panic!("no {end} of {release}")))
}

fn groupings(release: &str, grid: &str) -> Vec<Value> {
    let path = metadata(release, &format!("groupings_for_{grid}_datasets.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Returns the value of a coefficient at a place of its file: never zero.
fn value(field: usize, place: usize) -> f32 {
    1.0 + field as f32 + (place % 1009) as f32 / 128.0
}

fn write_fields(directory: &Path) {
    for (field, name) in FIELDS.iter().enumerate() {
        let bytes = (0..LEVELS * PLANE).flat_map(|place| value(field, place).to_be_bytes());
        fs::write(directory.join(format!("total_{name}_r009bit11.bin")), bytes.collect::<Vec<u8>>()).unwrap();
    }
}

fn write_series(directory: &Path, fields: &[(&str, &str, Vec<f64>)]) {
    for (name, variables, times) in fields {
        let mut file = netcdf::create(directory.join(name)).unwrap();
        file.add_dimension("time", times.len()).unwrap();
        let mut time = file.add_variable::<f64>("time", &["time"]).unwrap();
        time.put_values(times, ..).unwrap();
        time.put_attribute("units", "hours since 1992-01-01T12:00:00").unwrap();
        for (at, variable) in variables.split(',').map(str::trim).enumerate() {
            let values: Vec<f64> = times.iter().map(|time| at as f64 + time % 97.0 / 100.0).collect();
            file.add_variable::<f64>(variable, &["time"]).unwrap().put_values(&values, ..).unwrap();
        }
    }
}

/// Returns the job lines of all datasets without time and of all series of a release, and writes the files of the latter.
fn jobs(release: &str, directory: &Path) -> Vec<String> {
    let mut jobs = Vec::new();
    for grid in ["native", "latlon"] {
        for (index, grouping) in groupings(release, grid).iter().enumerate() {
            let frequency = grouping["frequency"].as_str().unwrap_or_default();
            if frequency.split(',').any(|word| ["TI", "TIME-INVARIANT"].contains(&word.trim())) {
                jobs.push(format!("[{index}, '{grid}', 'TIME-INVARIANT', 'all']"));
            }
        }
    }
    let hourly: Vec<f64> = (0..2000).map(f64::from).collect();
    let daily: Vec<f64> = [6.0].into_iter().chain((0..60).map(|day| 24.0 * f64::from(day + 1))).collect();
    for (index, grouping) in groupings(release, "1D").iter().enumerate() {
        let fields = grouping["fields"].as_str().unwrap();
        let sources: &[(&str, &str, Vec<f64>)] = match grouping["filename"].as_str().unwrap() {
            "GLOBAL_MEAN_ATM_SURFACE_PRES" => &[("Pa_global.nc", "SNAP", hourly.clone())],
            "SBO_CORE_PRODUCTS" => &[("SBO_global.nc", "SNAP", hourly.clone())],
            "GLOBAL_MEAN_SEA_LEVEL" => {
                &[("GMSL.nc", "AVG_MON", vec![366.0, 1080.0, 1800.0]), ("GMSL_day.nc", "AVG_DAY", daily.clone())]
            }
            other => panic!("{other} is a series of which this test knows nothing"),
        };
        for (name, frequency, times) in sources {
            write_series(directory, &[(name, fields, times.clone())]);
            jobs.push(format!("[{index}, '1D', '{frequency}', 'all']"));
        }
    }
    jobs
}

/// Plans, makes and verifies everything of a release in a mode. Returns the directory of the granules.
fn produce(release: &str, mode: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("in");
    fs::create_dir(&input).unwrap();
    write_fields(&input);
    let jobs = jobs(release, &input);
    let (list, out) = (directory.path().join("jobs.txt"), directory.path().join("out"));
    fs::write(&list, jobs.join("\n")).unwrap();
    let plan = |more: &[&str], tasks: &Path| {
        let mut plan = coordinator();
        plan.arg("plan").args(["--compatibility", mode]).args(more).arg("--tasks-out").arg(tasks);
        for (option, path) in [
            ("--config", data(&format!("config/product_generation_config_{release}.yaml"))),
            ("--source", input.clone()),
            ("--destination", out.clone()),
            ("--grid", data("V4r4/grid_ECCOV4r4")),
            ("--mapping-factors", data("V4r4/mapping_factors")),
            ("--metadata", data("metadata").join(release)),
        ] {
            plan.arg(option).arg(path);
        }
        expect(&mut plan, 0);
        let count = serde_json::from_slice::<Vec<Value>>(&fs::read(tasks).unwrap()).unwrap().len();
        expect(coordinator().arg("run").arg(tasks), 0);
        let said = text(&expect(coordinator().arg("verify").arg(tasks).args(["--depth", "values"]), 0));
        assert!(said.contains(&format!("{count} good")), "{release} {mode}: {said}");
        count
    };
    let made = plan(&["--jobs", list.to_str().unwrap()], &directory.path().join("tasks.json"));
    assert_eq!(made, jobs.len(), "{release} {mode}");
    assert_eq!(plan(&["--dataset", "GRID_GEOMETRY"], &directory.path().join("geometry.json")), 2);
    println!("{release}, {mode}: {made} granules from {} job lines, and 2 of geometry", jobs.len());
    directory
}

/// Compares a coefficient of the native grid with the file, cell by cell.
fn compare(directory: &Path, granule: &str) {
    let wet = netcdf::open(data("V4r4/grid_ECCOV4r4/GRID_GEOMETRY_ECCO_V4r4_native_llc0090.nc")).unwrap();
    let wet: Vec<i8> = wet.variable("maskC").unwrap().get_values(..).unwrap();
    let made = netcdf::open(directory.join("out").join(granule)).unwrap();
    for (field, name) in ["DIFFKR", "KAPGM", "KAPREDI"].into_iter().enumerate() {
        let variable = made.variable(name).unwrap();
        let (fill, values) =
            (variable.fill_value::<f32>().unwrap().unwrap(), variable.get_values::<f32, _>(..).unwrap());
        assert_eq!(values.len(), wet.len());
        for (at, value_found) in values.iter().enumerate() {
            let (level, tile, j, i) = (at / PLANE, at / (N * N) % 13, at / N % N, at % N);
            let row = match tile {
                0..=6 => tile * N + j,
                7..=9 => 7 * N + 3 * j + tile - 7,
                _ => 10 * N + 3 * j + tile - 10,
            };
            let wanted = if wet[at] == 1 { value(field, level * PLANE + row * N + i) } else { fill };
            assert_eq!(*value_found, wanted, "{granule}: {name} at {at}");
        }
    }
}

#[test]
#[ignore = "needs EDP_REAL_DATA, and minutes: make conformance"]
fn real_data_without_steps_of_release_4() {
    for mode in ["corrected", "edp-2024"] {
        let directory = produce("V4r4", mode);
        compare(directory.path(), "V4r4/native/OCEAN_3D_MIXING_COEFFS_ECCO_V4r4_native_llc0090.nc");
    }
}

#[test]
#[ignore = "needs EDP_REAL_DATA, and minutes: make conformance"]
fn real_data_without_steps_of_release_5() {
    let directory = produce("V4r5", "corrected");
    compare(directory.path(), "V4r5/native/OCEAN_MIXING_COEFFS_ECCO_V4r5_native_llc0090.nc");
}

#[test]
#[ignore = "needs EDP_REAL_DATA, and minutes: make conformance"]
fn real_data_without_steps_of_release_6() {
    for mode in ["corrected", "edp-2026"] {
        let directory = produce("V4r6", mode);
        compare(directory.path(), "V4r6/native/OCEAN_3D_MIXING_COEFFS_ECCO_V4r6_native_llc0090.nc");
    }
}
