//! Data that are the same at all times, and time series of single numbers, beside the demo's results.

use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Number of hours of the hourly series.
pub const HOURS: usize = 100;

/// Job lines of all time series.
pub const SERIES: [&str; 4] =
    ["[0, '1D', 'SNAP', 'all']", "[1, '1D', 'AVG_MON', 'all']", "[1,'1d','AVG_DAY','all']", "[2, '1D', 'SNAP', 'all']"];

/// Declares a dataset of mixing coefficients, `KAPPA` and `SILL`, on both grids in a metadata directory. Returns its
/// number among the groupings.
///
/// # Panics
/// Panics if the directory has no such files.
pub fn declare_coefficients(metadata: &Path) -> usize {
    let mut number = 0;
    for path in fs::read_dir(metadata).expect("a directory").flatten().map(|entry| entry.path()) {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.ends_with("json") {
            continue;
        }
        let mut list: Vec<Value> = serde_json::from_slice(&fs::read(&path).expect("a file")).expect("a list");
        if name.starts_with("groupings") {
            number = list.len();
            list.push(json!({"name": "mixing coefficients", "fields": "KAPPA, SILL", "filename": "MIXING",
                "dimension": "3D", "frequency": "TIME-INVARIANT", "comment": "Constant."}));
        } else if name.starts_with("variable_metadata.") {
            for name in ["KAPPA", "SILL"] {
                list.push(json!({"name": name, "long_name": name.to_lowercase(), "units": "m2 s-1", "comments_1": "",
                    "comments_2": "", "GCMD_keywords": "OCEANS", "grid_dimension": "3D", "grid_location": "c"}));
            }
        } else {
            continue;
        }
        fs::write(&path, serde_json::to_vec(&list).expect("JSON")).expect("a file");
    }
    number
}

/// Returns the job lines of the coefficients, whose dataset has this number.
pub fn coefficient_jobs(number: usize) -> Vec<String> {
    ["native", "latlon"].map(|grid| format!("[{number}, '{grid}', 'TIME-INVARIANT', 'all']")).into()
}

/// Writes both coefficients for tiles of `size` x `size` cells as binary files: one on all levels without header, as the
/// model's inputs are, and a pair.
///
/// # Panics
/// Panics if they cannot be written.
pub fn write_coefficients(directory: &Path, size: usize, levels: usize) {
    let cells = 13 * size * size;
    fs::create_dir_all(directory).expect("a directory");
    let kappa = (0..levels * cells).flat_map(|n| (1.0 + n as f32 / 16.0).to_be_bytes());
    fs::write(directory.join("total_kappa_r009bit11.bin"), kappa.collect::<Vec<u8>>()).expect("a file");
    let sill = (0..cells).flat_map(|n| (n as f64 / 3.0).to_be_bytes());
    fs::write(directory.join("SILL.data"), sill.collect::<Vec<u8>>()).expect("a file");
    let rows = 13 * size;
    let header = format!(
        "nDims=[2];dimList=[{size},1,{size},{rows},1,{rows}];dataprec=['float64'];nrecords=[1];timeStepNumber=[0];"
    );
    fs::write(directory.join("SILL.meta"), header).expect("a file");
}

/// Declares the time series of ECCO in a metadata directory.
///
/// # Panics
/// Panics if they cannot be written.
pub fn declare_series(metadata: &Path) {
    let variable = |name: &str| {
        json!({"name": name, "long_name": format!("{name} of the ocean"), "units": "1", "comments_1": "Made up.",
            "comments_2": "", "GCMD_keywords": "OCEANS > SERIES", "grid_dimension": "1D", "standard_name": "",
            "coverage_content_type": "modelResult"})
    };
    let names = ["Pa_global", "global_mean_sea_level_anomaly", "mass", "xoamc"];
    let groupings = json!([
        {"name": "global mean pressure", "fields": "Pa_global", "product": "1D",
         "filename": "GLOBAL_MEAN_ATM_SURFACE_PRES", "dimension": "1D", "frequency": "AVG_DAY, AVG_MON"},
        {"name": "global mean sea level", "fields": "global_mean_sea_level_anomaly", "product": "1D",
         "filename": "GLOBAL_MEAN_SEA_LEVEL", "dimension": "1D"},
        {"name": "core products", "fields": "mass, xoamc", "comment": "See the literature.", "product": "1D",
         "filename": "SBO_CORE_PRODUCTS", "dimension": "1D", "frequency": "SNAP"},
    ]);
    for (name, content) in [
        ("groupings_for_1D_datasets.json", groupings),
        ("variable_metadata_for_1D_datasets.json", names.map(variable).into_iter().collect()),
        ("global_metadata_for_1D_datasets.json", json!([{"name": "comment", "type": "s", "value": "Series."}])),
    ] {
        fs::write(metadata.join(name), content.to_string()).expect("a file");
    }
}

/// Writes the files of all series.
///
/// # Panics
/// Panics if they cannot be written.
pub fn write_all_series(directory: &Path) {
    fs::create_dir_all(directory.join("1d")).expect("a directory");
    let write = |name: &str, units: &str, times: &[f64], variables: &[(&str, &[f64])]| {
        write_series(&directory.join(name), units, times, variables);
    };
    let hourly: Vec<f64> = (0..HOURS).map(|hour| hour as f64).collect();
    let values: Vec<f64> = hourly.iter().map(|hour| 101_000.0 + hour / 8.0).collect();
    write("1d/Pa_global.nc", "hours since 1992-01-01 12:00:00", &hourly, &[("Pa_global", &values)]);
    let days: Vec<f64> = hourly.iter().map(|hour| 0.5 + hour / 24.0).collect();
    write("SBO_global.nc", "days since 1992-01-01", &days, &[("mass", &values), ("xoamc", &hourly)]);
    let level = [("global_mean_sea_level_anomaly", &[1.0, 2.0, 6.0][..]), ("other", &[0.0; 3])];
    write("GMSL.nc", "hours since 1992-01-01T12:00:00", &[366.0, 1080.0, 1800.0], &level);
    let level = [("global_mean_sea_level_anomaly", &[9.0, 1.0, 3.0][..])];
    write("GMSL_day.nc", "hours since 1992-01-01T12:00:00", &[6.0, 24.0, 48.0], &level);
}

/// Writes a file with a time and variables; NaN is left as it is.
///
/// # Panics
/// Panics if it cannot be written.
pub fn write_series(path: &Path, units: &str, times: &[f64], variables: &[(&str, &[f64])]) {
    let _ = fs::remove_file(path);
    let mut file = netcdf::create(path).expect("a file");
    file.add_dimension("time", times.len()).expect("a dimension");
    let mut time = file.add_variable::<f64>("time", &["time"]).expect("a variable");
    time.put_values(times, ..).expect("its values");
    time.put_attribute("units", units).expect("an attribute");
    for (name, values) in variables {
        file.add_variable::<f64>(name, &["time"]).expect("a variable").put_values(values, ..).expect("its values");
    }
}
