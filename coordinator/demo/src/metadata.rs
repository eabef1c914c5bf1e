//! The metadata directory: datasets, attributes, and the archive's table.

use super::DemoError;
use super::calendar::{MODEL_END, MODEL_START};
use super::datasets::{CellPoint, DATASETS, DemoDataset, DemoVariable, MODEL, RENAMED, ROTATED};
use super::descriptions::{FieldDescription, LATLON_COORDINATES, LATLON_FIELDS, NATIVE_COORDINATES, NATIVE_FIELDS};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

/// Name of the archive's table.
pub(super) const TABLE: &str = "PODAAC_demo_datasets.csv";
/// Placeholder for values that each granule has of its own.
const LATER: &str = "TBD_DATASET";

/// Names and numbers of a particular demo that appear in its texts.
pub(super) struct Names {
    /// Number of cells along the side of a tile.
    pub(super) n: usize,
    /// Side of a target cell in degrees.
    pub(super) side: f64,
    /// Lowest height of the grid in metres.
    pub(super) bottom: f64,
    /// Grid label in the names of native files.
    pub(super) native_label: String,
    /// Grid label in the names of latlon files.
    pub(super) latlon_label: String,
}

/// Returns the content of the metadata files that describe the grid and its coordinates, which are the same for every
/// lat-lon-cap grid, with the names of the files without `.json`. `start` is the time of model step 0,
/// `YYYY-MM-DDThh:mm:ss`.
pub fn grid_metadata(start: &str) -> Vec<(&'static str, Value)> {
    let coordinates = |list: &[FieldDescription]| {
        let first = time(start);
        Value::from_iter(first.into_iter().chain(list.iter().map(coordinate)))
    };
    let fields = |list: &[FieldDescription]| Value::from_iter(list.iter().map(field));
    vec![
        ("geometry_metadata_for_native_datasets", fields(NATIVE_FIELDS)),
        ("geometry_metadata_for_latlon_datasets", fields(LATLON_FIELDS)),
        ("spatial_coordinate_metadata_for_native_datasets", coordinates(NATIVE_COORDINATES)),
        ("spatial_coordinate_metadata_for_latlon_datasets", coordinates(LATLON_COORDINATES)),
        ("time_coordinate_metadata", Value::from_iter(time(start))),
    ]
}

/// Returns the global attributes on the reference systems and units of positions, which are the same for every run.
pub fn geospatial_globals() -> impl Iterator<Item = Value> {
    let texts = [
        ("geospatial_bounds_crs", "EPSG:4326", "2D 3D"),
        ("geospatial_lat_units", "degrees_north", "2D 3D"),
        ("geospatial_lon_units", "degrees_east", "2D 3D"),
        ("geospatial_vertical_positive", "up", "3D"),
        ("geospatial_vertical_resolution", "variable", "3D"),
        ("geospatial_vertical_units", "meter", "3D"),
    ];
    let entry =
        |(name, value, dimension)| json!({"name": name, "type": "s", "value": value, "grid_dimension": dimension});
    texts.into_iter().map(entry)
}

/// Writes all files of the metadata directory.
pub(super) fn write(directory: &Path, names: &Names) -> Result<(), DemoError> {
    let all = |variables: &[DemoVariable]| Value::from_iter(variables.iter().map(variable));
    let files = [
        ("groupings_for_native_datasets", Value::from_iter(DATASETS.iter().map(|d| grouping(d, false)))),
        ("groupings_for_latlon_datasets", Value::from_iter(DATASETS.iter().map(|d| grouping(d, true)))),
        ("variable_metadata", all(MODEL)),
        ("variable_metadata_for_latlon_datasets", all(ROTATED)),
        ("global_metadata_for_all_datasets", globals(names)),
        ("global_metadata_for_native_datasets", native_globals(names)),
        ("global_metadata_for_latlon_datasets", latlon_globals(names)),
    ];
    for (name, content) in files.into_iter().chain(grid_metadata(MODEL_START)) {
        save(&directory.join(format!("{name}.json")), &format!("{content:#}\n"))?;
    }
    save(&directory.join(TABLE), &table(names))
}

/// Writes a text file.
pub(super) fn save(path: &Path, text: &str) -> Result<(), DemoError> {
    fs::write(path, text).map_err(|source| DemoError::Write { path: path.to_owned(), source })
}

/// Sets the keys whose texts are not empty.
fn set(entry: &mut Map<String, Value>, pairs: &[(&str, &str)]) {
    for (key, text) in pairs {
        if !text.is_empty() {
            entry.insert((*key).to_owned(), json!(text));
        }
    }
}

fn grouping(dataset: &DemoDataset, latlon: bool) -> Value {
    let fields = if latlon { dataset.latlon } else { dataset.native };
    let mut entry = Map::new();
    set(
        &mut entry,
        &[
            ("name", dataset.name),
            ("fields", &fields.join(", ")),
            ("comment", dataset.comment),
            ("product", if latlon { "latlon" } else { "native" }),
            ("filename", dataset.filename),
            ("dimension", if dataset.three_d { "3D" } else { "2D" }),
            ("frequency", "AVG_DAY, AVG_MON"),
        ],
    );
    if fields.contains(&RENAMED.0) {
        entry.insert("variable_rename".into(), json!(format!("{}:{}", RENAMED.0, RENAMED.1)));
    }
    if fields.contains(&"EVEL") {
        let both = json!({"x": "UVEL", "y": "VVEL"});
        entry.insert("field_components".into(), json!({"EVEL": both, "NVEL": both}));
        entry.insert("field_orientations".into(), json!({"EVEL": "zonal", "NVEL": "meridional"}));
    }
    Value::Object(entry)
}

/// Returns the metadata of a variable. A renamed variable has its new name in granules and in metadata.
fn variable(variable: &DemoVariable) -> Value {
    let name = if variable.name == RENAMED.0 { RENAMED.1 } else { variable.name };
    let mut entry = Map::new();
    set(
        &mut entry,
        &[
            ("name", name),
            ("long_name", variable.long_name),
            ("standard_name", variable.standard_name),
            ("units", variable.units),
            ("direction", variable.direction),
        ],
    );
    entry.insert("comments_1".into(), json!(variable.comment));
    entry.insert("comments_2".into(), json!("Demonstration data without scientific value"));
    set(
        &mut entry,
        &[
            ("GCMD_keywords", variable.keywords),
            ("grid_dimension", if variable.three_d { "3D" } else { "2D" }),
            (
                "grid_location",
                match variable.place {
                    CellPoint::C => "c",
                    CellPoint::U => "u",
                    CellPoint::V => "v",
                    CellPoint::W => "w",
                },
            ),
            ("coverage_content_type", "modelResult"),
        ],
    );
    Value::Object(entry)
}

fn field(field: &FieldDescription) -> Value {
    let has = |name| field.dimensions.contains(&name);
    let mut entry = Map::new();
    set(
        &mut entry,
        &[
            ("name", field.name),
            ("long_name", field.long_name),
            ("standard_name", field.standard_name),
            ("units", field.units),
        ],
    );
    for (key, text) in [("comments_1", field.comment), ("comments_2", ""), ("GCMD_keywords", "")] {
        entry.insert(key.into(), json!(text));
    }
    let place = match (has("i_g"), has("j_g"), has("k_p1")) {
        (true, true, _) => "z",
        (true, false, _) => "u",
        (false, true, _) => "v",
        (false, false, true) => "w",
        _ => "c",
    };
    set(
        &mut entry,
        &[
            ("grid_dimension", if has("k") || has("Z") || has("k_p1") { "3D" } else { "2D" }),
            ("grid_location", place),
            ("coverage_content_type", "modelResult"),
        ],
    );
    Value::Object(entry)
}

fn coordinate(coordinate: &FieldDescription) -> Value {
    let vertical = coordinate.dimensions.iter().any(|d| d.starts_with('k') || *d == "Z");
    let mut entry = Map::new();
    set(
        &mut entry,
        &[
            ("name", coordinate.name),
            ("standard_name", coordinate.standard_name),
            ("long_name", coordinate.long_name),
            ("comment", coordinate.comment),
            ("units", coordinate.units),
            ("axis", coordinate.axis),
            ("positive", coordinate.positive),
            ("bounds", coordinate.bounds),
            ("grid_dimension", if vertical { "3D" } else { "2D 3D" }),
            ("coverage_content_type", "coordinate"),
        ],
    );
    Value::Object(entry)
}

fn time(start: &str) -> [Value; 2] {
    let units = format!("hours since {}", start.replace('T', " "));
    [
        json!({
            "name": "time", "standard_name": "time", "long_name": "middle of the averaging period, or time of the snapshot",
            "units": units, "axis": "T", "bounds": "time_bnds", "grid_dimension": "1D 2D 3D",
            "coverage_content_type": "coordinate",
        }),
        json!({
            "name": "time_bnds", "long_name": "start and end of the averaging period", "units": units,
            "grid_dimension": "1D 2D 3D", "coverage_content_type": "coordinate",
        }),
    ]
}

/// Returns global attributes that have text values.
fn texts<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> Vec<Value> {
    pairs.into_iter().map(|(name, value)| json!({"name": name, "type": "s", "value": value})).collect()
}

fn globals(names: &Names) -> Value {
    let own = |text: &str| text.to_owned();
    let mut all = texts([
        ("acknowledgement", own("None is due: these data are made up")),
        ("author", own("The demonstration of a production system for ocean data")),
        ("cdm_data_type", own("Grid")),
        ("Conventions", own("CF-1.8, ACDD-1.3")),
        ("creator_email", own("demo@example.org")),
        ("creator_institution", own("Demonstration")),
        ("creator_name", own("Demonstration")),
        ("creator_type", own("group")),
        ("creator_url", own("https://example.org/demo")),
        ("date_created", own(LATER)),
        ("date_issued", own(LATER)),
        ("date_metadata_modified", own(LATER)),
        ("date_modified", own(LATER)),
        ("history", own(LATER)),
        ("id", own("TBD_DOI")),
        ("institution", own("Demonstration")),
        (
            "keywords",
            own("EARTH SCIENCE SERVICES > MODELS > OCEAN GENERAL CIRCULATION MODELS (OGCM)/REGIONAL OCEAN MODELS"),
        ),
        ("keywords_vocabulary", own("NASA Global Change Master Directory (GCMD) Science Keywords")),
        ("license", own("CC0-1.0")),
        ("metadata_link", own(LATER)),
        ("naming_authority", own("org.example")),
        ("processing_level", own("L4")),
        ("product_name", own("TBD_FILENAME")),
        ("product_time_coverage_start", own(MODEL_START)),
        ("product_time_coverage_end", own(MODEL_END)),
        ("product_version", own(LATER)),
        ("program", own("Demonstration")),
        ("project", own("Demonstration")),
        ("publisher_email", own("demo@example.org")),
        ("publisher_institution", own("Demonstration")),
        ("publisher_name", own("Demonstration")),
        ("publisher_type", own("institution")),
        ("publisher_url", own("https://example.org/demo")),
        ("references", own(LATER)),
        ("source", own(LATER)),
        ("standard_name_vocabulary", own("NetCDF Climate and Forecast (CF) Metadata Convention")),
        ("summary", own(LATER)),
        ("time_coverage_start", own(LATER)),
        ("time_coverage_end", own(LATER)),
        ("title", own(LATER)),
        ("uuid", own(LATER)),
    ]);
    for (name, value) in [
        ("geospatial_lat_min", -90.0),
        ("geospatial_lat_max", 90.0),
        ("geospatial_lon_min", -180.0),
        ("geospatial_lon_max", 180.0),
    ] {
        all.push(json!({"name": name, "type": "f", "value": value, "grid_dimension": "2D 3D"}));
    }
    all.extend(geospatial_globals());
    for (name, value) in [("geospatial_vertical_min", names.bottom), ("geospatial_vertical_max", 0.0)] {
        all.push(json!({"name": name, "type": "f", "value": value, "grid_dimension": "3D"}));
    }
    Value::Array(all)
}

fn native_globals(names: &Names) -> Value {
    json!([
        {"name": "comment", "type": "s", "value": format!(
            "Fields lie on the model's own lat-lon-cap grid of 13 tiles with {n} x {n} cells each.", n = names.n)},
        {"name": "geospatial_lat_resolution", "type": "s", "value": "variable", "grid_dimension": "2D 3D"},
        {"name": "geospatial_lon_resolution", "type": "s", "value": "variable", "grid_dimension": "2D 3D"},
    ])
}

fn latlon_globals(names: &Names) -> Value {
    json!([
        {"name": "comment", "type": "s", "value": format!(
            "Fields were brought to a regular grid of {} degrees; each of its cells holds the value of the nearest cell of the model's own grid.",
            names.side)},
        {"name": "geospatial_lat_resolution", "type": "f", "value": names.side, "grid_dimension": "2D 3D"},
        {"name": "geospatial_lon_resolution", "type": "f", "value": names.side, "grid_dimension": "2D 3D"},
    ])
}

/// Returns the archive's table, with one row for each dataset, grid and frequency.
fn table(names: &Names) -> String {
    let mut rows = String::from(
        "concept-id,DATASET.LONG_NAME,DATASET.SHORT_NAME,DATASET.FILENAME,DATASET.PERSISTENT_ID,DATASET_CITATION.VERSION\n",
    );
    let grids = [
        ("latlon", &names.latlon_label, "G", format!("{} Degree", names.side)),
        ("native", &names.native_label, "L", format!("llc{} Grid", names.n)),
    ];
    for dataset in DATASETS {
        for (grid, label, letter, words) in &grids {
            for (period, date, word) in [("day_mean", "1992-01-01", "Daily"), ("mon_mean", "1992-01", "Monthly")] {
                rows += &format!(
                    ",\"Demonstration {} - {word} Mean {words}\",DEMO_L4_{}_{}_{},{}_{period}_{date}_ECCO_DEMO_{grid}_{label}.nc,PODAAC-EC{letter}5{}-{}00,DEMO\n",
                    dataset.title,
                    dataset.code,
                    label.to_uppercase(),
                    word.to_uppercase(),
                    dataset.filename,
                    &word[..1],
                    dataset.code,
                );
            }
        }
    }
    rows
}
