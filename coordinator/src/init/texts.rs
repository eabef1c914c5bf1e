//! The files that `init` writes: configuration, metadata and settings.

use super::descriptions::RunMetadata;
use super::model_run::ModelRun;
use edp_protocol::{calendar, name};
use serde_json::{Value, json};
use std::path::Path;

/// What is chosen for the granules of a run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choices {
    /// Name of the run: a part of the names of its granules.
    pub(super) name: String,
    /// Number of cells along the side of a tile, N.
    pub(super) n: usize,
    /// Number of levels.
    pub(super) levels: usize,
    /// Height of the bottom in metres, negative.
    pub(super) bottom: f64,
    /// Side of a latlon cell in degrees.
    pub(super) resolution: f64,
}

impl Choices {
    /// Returns the label of native granules, `llc0270`.
    pub(super) fn native_label(&self) -> String {
        name::native_label(self.n as u64)
    }

    /// Returns the label of latlon granules, `0p50deg`.
    pub(super) fn latlon_label(&self) -> String {
        name::latlon_label(self.resolution)
    }
}

/// Word for the project in names of granules.
pub(super) const PROJECT: &str = "MITgcm";

/// Returns the configuration, with a comment at each guess.
pub(super) fn configuration(run: &ModelRun, choices: &Choices) -> String {
    let Choices { name, n, levels, bottom, resolution } = choices;
    let (native, latlon) = (choices.native_label(), choices.latlon_label());
    let (start, end, step) = (calendar::text(run.start), calendar::text(run.end), run.step_seconds);
    format!(
        "# Made by `edp-coordinator init` from a run directory. Lines with `guess:` are not known from the run: look at them.

# What is produced: part of paths, file names and attributes. guess: the name of the run's directory
ecco_version: '{name}'
product_version: '{name}'
# The path of results need not hold the name.
results_version: ''
# Names of granules; ECCO's have ECCO where these have {PROJECT}, and others may have other words or none there.
granule_name_pattern: '<filename>_<period>_<date>_{PROJECT}_<version>_<grid>_<label>.nc'
ecco_production_filestr_grid_label:
    latlon: '{latlon}'
    native: '{native}'

# The model: when it ran, and how long one of its steps is. guess: the end is that of the parameters, or the last result
model_start_time: '{start}'
model_end_time: '{end}'
model_timestep: {step}
model_timestep_units: 's'
model_geometry: 'llc'
num_vertical_levels: {levels}
geospatial_vertical_min: {bottom:?}
llc_grid_size: {n}
llc_code: 'llc{n}'

# How granules are stored. guess: the results are single precision
array_precision: 'float32'
netcdf4_compression_encodings:
    zlib: true
    complevel: 5
    shuffle: true

# The regular grid. The radius is that of a circle with the area of a target cell.
latlon_grid_resolution: {resolution:?}
latlon_grid_area_extent: [-180.0, 90.0, 180.0, -90.0]
latlon_effective_grid_radius:
latlon_grid_radius_method: 'method_1'
custom_grid_and_factors: false
source_grid_min_L: -1
source_grid_max_L: -1

# No archive is asked for identifiers. If there is one: the name of its table in the metadata directory, and its DOIs.
podaac_metadata_filename: ''
doi_prefix: ''

# Attributes of all granules. guess: texts that say no more than what they are; write your own
history: 'Made from the output of the MITgcm run {name}'
references: 'None given'
source: 'MITgcm run {name}'
summary: 'Output of the MITgcm run {name}.'
dataset_description_tail_1D: ''
dataset_description_tail_latlon: ' on a regular grid of {resolution} degrees, mapped from the native lat-lon-cap grid.'
dataset_description_tail_native: ' on the native lat-lon-cap grid of size {n}.'
"
    )
}

/// Returns the settings: where everything is that planning reads.
pub(super) fn settings(directory: &Path, source: &Path) -> String {
    let text = |path: &Path| Value::from(path.display().to_string());
    let keys = [
        ("config", text(&directory.join("config.yaml"))),
        ("source", text(source)),
        ("destination", text(&directory.join("granules"))),
        ("grid", text(&directory.join("grid"))),
        ("mapping_factors", text(&directory.join("factors"))),
        ("metadata", text(&directory.join("metadata"))),
    ];
    let lines: String = keys.into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    format!(
        "# Made by `edp-coordinator init`. Commands that run in this directory need no options for these places.\n[plan]\n{lines}"
    )
}

/// Returns the metadata files by their names without `.json`.
pub(super) fn metadata(run: &ModelRun, described: &RunMetadata) -> Vec<(&'static str, Value)> {
    let list = |entries: &[Value]| Value::from(entries.to_vec());
    let mut files = vec![
        ("groupings_for_native_datasets", list(&described.native)),
        ("groupings_for_latlon_datasets", list(&described.latlon)),
        ("variable_metadata", list(&described.variables)),
        ("variable_metadata_for_latlon_datasets", list(&described.latlon_variables)),
        ("global_metadata_for_all_datasets", globals()),
        ("global_metadata_for_native_datasets", native_globals()),
        ("global_metadata_for_latlon_datasets", Value::Array(Vec::new())),
    ];
    files.extend(edp_demo::grid_metadata(&calendar::text(run.start)));
    files
}

fn text(name: &str, value: &str, dimension: &str) -> Value {
    if dimension.is_empty() {
        json!({ "name": name, "type": "s", "value": value })
    } else {
        json!({ "name": name, "type": "s", "value": value, "grid_dimension": dimension })
    }
}

/// Returns the global attributes of all granules. Those of persons and institutions are placeholders, which are left out
/// until they are filled in.
fn globals() -> Value {
    let later = "TBD_BY_YOU";
    let mut all: Vec<Value> = [
        "acknowledgement",
        "creator_email",
        "creator_institution",
        "creator_name",
        "creator_type",
        "creator_url",
        "institution",
        "keywords",
        "keywords_vocabulary",
        "license",
        "naming_authority",
        "program",
        "project",
        "publisher_email",
        "publisher_institution",
        "publisher_name",
        "publisher_type",
        "publisher_url",
    ]
    .into_iter()
    .map(|name| text(name, later, ""))
    .collect();
    for (name, value) in [
        ("cdm_data_type", "Grid"),
        ("Conventions", "CF-1.8, ACDD-1.3"),
        ("processing_level", "L4"),
        ("standard_name_vocabulary", "NetCDF Climate and Forecast (CF) Metadata Convention"),
    ] {
        all.push(text(name, value, ""));
    }
    all.extend(edp_demo::geospatial_globals());
    Value::Array(all)
}

fn native_globals() -> Value {
    let resolutions = ["geospatial_lat_resolution", "geospatial_lon_resolution"];
    Value::from_iter(resolutions.map(|name| text(name, "variable", "2D 3D")))
}
