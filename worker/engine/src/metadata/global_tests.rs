//! Tests of the global attributes, in all modes.

use super::attribute::{Attributes, Value, get};
use super::configuration::Configuration;
use super::entry::GlobalEntry;
use super::global::{Extent, Lacking, Sources, describe, lacking};
use super::podaac::Table;
use super::source::Metadata;
use edp_protocol::Mode;
use edp_protocol::name::GranuleName;
use edp_protocol::recipe::DynamicMetadata;

const CONFIGURATION: &str = "
ecco_version: V4r4
product_version: Version 4, Release 4
ecco_production_filestr_grid_label: {latlon: 0p50deg, native: llc0090}
array_precision: float32
model_start_time: '1992-01-01T12:00:00'
model_end_time: '2017-12-31T12:00:00'
model_timestep: 1
model_timestep_units: h
geospatial_vertical_min: -6134.5
podaac_metadata_filename: table.csv
history: h
references: r
source: s
summary: The project.
doi_prefix: '10.5067'
metadata_link_root: 'https://example.org/?ShortName='
dataset_description_tail_latlon: ' on a grid.'
dataset_description_tail_native: ' on tiles.'
";

const TABLE: &str = "DATASET.FILENAME,DATASET.SHORT_NAME,DATASET.LONG_NAME,DATASET.PERSISTENT_ID
SSH_mon_mean_1992-01_ECCO_V4r4_latlon_0p50deg.nc,SHORT,A long name,PODAAC-ECG5M-SSH44
";

const GLOBALS: &str = r#"[
 {"name": "title", "type": "s", "value": "TBD_DATASET"},
 {"name": "id", "type": "s", "value": "REPLACED_BY_PODAAC"},
 {"name": "metadata_link", "type": "s", "value": "TBD_DATASET"},
 {"name": "Conventions", "type": "s", "value": "CF-1.8, ACDD-1.3"},
 {"name": "author", "type": "s", "value": "A"},
 {"name": "keywords", "type": "s", "value": "Z > Y,  B "},
 {"name": "time_coverage_start", "type": "s", "value": "TBD_DATASET"},
 {"name": "geospatial_lat_max", "type": "f", "value": 89.0, "grid_dimension": "2D 3D"},
 {"name": "geospatial_vertical_max", "type": "f", "value": 1, "grid_dimension": "3D"},
 {"name": "left", "type": "s", "value": "TBD_NEVER"}]"#;

fn attributes(mode: Mode, name: &str, dimension: &str) -> Attributes {
    with_sources(mode, name, dimension, |sources| describe(sources).unwrap())
}

fn with_sources<T>(mode: Mode, name: &str, dimension: &str, look: impl FnOnce(&Sources<'_>) -> T) -> T {
    let parse = |text: &str| GlobalEntry::parse_list("globals", text.as_bytes()).unwrap().0;
    let metadata = Metadata {
        globals_all: parse(GLOBALS),
        globals_latlon: parse(r#"[{"name": "comment", "type": "s", "value": "Of the grid."}]"#),
        ..Metadata::default()
    };
    let dynamic: DynamicMetadata = serde_json::from_value(serde_json::json!({
        "name": "sea surface", "dimension": dimension, "summary": "This dataset.", "comment": "Of the dataset.",
        "time_coverage_start": "1992-01-01T12:00:00", "time_coverage_end": "1992-02-01T00:00:00",
        "time_coverage_center": "1992-01-16T18:00:00", "time_coverage_duration": "P1M", "time_coverage_resolution": "P1M"
    }))
    .unwrap();
    look(&Sources {
        configuration: &Configuration::parse("c", CONFIGURATION.as_bytes()).unwrap().0,
        metadata: &metadata,
        podaac: &Table::parse("t", TABLE.as_bytes()).unwrap().0,
        name: &GranuleName::parse(name).unwrap(),
        mode,
        dynamic: &dynamic,
        id: "ab",
        production_date: "2020-01-02T03:04:05Z",
        keywords: ["M > N".to_owned()].into(),
        extent: Some(Extent {
            latitude: [-90.0, 90.0],
            longitude: [-180.0, 180.0],
            vertical: (dimension == "3D").then_some([-100.0, 0.0]),
            resolution: Some([0.5, 0.25]),
        }),
    })
}

const MONTH: &str = "SSH_mon_mean_1992-01_ECCO_V4r4_latlon_0p50deg.nc";

fn text<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a str> {
    get(attributes, name).and_then(Value::text)
}

#[test]
fn what_corrected_and_edp_2024_have_in_common() {
    for mode in [Mode::Corrected, Mode::Edp2024] {
        let z = if mode == Mode::Corrected { "Z" } else { "" };
        let found = attributes(mode, MONTH, "2D");
        let names: Vec<_> = found.iter().map(|(name, _)| name.to_lowercase()).collect();
        assert!(names.is_sorted(), "{names:?}");
        for (name, want) in [
            ("keywords", "B, M > N, Z > Y"),
            ("comment", "Of the grid. Of the dataset."),
            ("summary", "This dataset. The project."),
            ("time_coverage_start", &format!("1992-01-01T12:00:00{z}")),
            ("product_name", MONTH),
            ("product_time_coverage_end", &format!("2017-12-31T12:00:00{z}")),
            ("title", "A long name"),
            ("metadata_link", "https://example.org/?ShortName=SHORT"),
            ("id", "10.5067/ECG5M-SSH44"),
        ] {
            assert_eq!(text(&found, name), Some(want), "{mode}: {name}");
        }
    }
}

#[test]
fn edp_2026_has_identifiers_of_its_own() {
    let found = attributes(Mode::Edp2026, MONTH, "2D");
    for (name, want) in [
        ("id", "SHORT"),
        ("metadata_link", "https://doi.org/PODAAC-ECG5M-SSH44"),
        ("identifier_product_doi", "https://doi.org/PODAAC-ECG5M-SSH44"),
        ("identifier_product_doi_authority", ""),
        ("title", "A long name"),
        ("project_summary", ""),
        ("summary", "This dataset. "),
        ("date_created", "2020-01-02T03:04:05"),
        ("time_coverage_start", "1992-01-01T12:00:00"),
    ] {
        assert_eq!(text(&found, name), Some(want), "{name}");
    }
    assert!(text(&found, "coordinates_note").unwrap().starts_with("The 'coordinates' attribute"));
    assert_eq!(text(&found, "coordinates_comment"), None);
    let without_row = attributes(Mode::Edp2026, "OBP_mon_mean_1992-01_ECCO_V4r4_latlon_0p50deg.nc", "2D");
    assert_eq!(text(&without_row, "title"), Some("TBD_DATASET"));
    assert_eq!(text(&without_row, "metadata_link"), Some("TBD_DATASET"));
    assert_eq!(text(&without_row, "identifier_product_doi"), Some("10.5067"), "the metadata have none");
    assert_eq!(text(&without_row, "coordinates_note"), None);
}

#[test]
fn corrected_has_the_identifiers_of_release_6_where_no_root_for_links_is_configured() {
    let without = |line: &str| CONFIGURATION.lines().filter(|l| !l.starts_with(line)).collect::<Vec<_>>().join("\n");
    let configuration = Configuration::parse("c", without("metadata_link_root").as_bytes()).unwrap().0;
    let of = |table: &str| {
        let podaac = Table::parse("t", table.as_bytes()).unwrap().0;
        with_sources(Mode::Corrected, MONTH, "2D", |sources| {
            let Sources { metadata, name, mode, dynamic, id, production_date, extent, .. } = *sources;
            let keywords = sources.keywords.clone();
            let configuration = &configuration;
            describe(&Sources {
                configuration,
                metadata,
                podaac: &podaac,
                name,
                mode,
                dynamic,
                id,
                production_date,
                keywords,
                extent,
            })
            .unwrap()
        })
    };
    let found = of(TABLE);
    assert_eq!(text(&found, "id"), Some("SHORT"));
    for name in ["identifier_product_doi", "metadata_link"] {
        assert_eq!(text(&found, name), Some("https://doi.org/10.5067/ECG5M-SSH44"), "a PODAAC id is made a DOI first");
    }
    let found = of(&TABLE.replace("PODAAC-ECG5M-SSH44", "10.x/ECG5M-SSH44"));
    assert_eq!(text(&found, "id"), Some("10.x/ECG5M-SSH44"), "not a DOI");
    assert_eq!(text(&found, "metadata_link"), None);
}

#[test]
fn edp_2024_keeps_placeholders_and_configured_extents() {
    let found = attributes(Mode::Edp2024, MONTH, "2D");
    assert_eq!(text(&found, "left"), Some("TBD_NEVER"));
    assert_eq!(text(&found, "date_created"), Some("2020-01-02T03:04:05"));
    assert_eq!(get(&found, "geospatial_lat_max"), Some(&Value::F64(vec![89.0])));
    assert_eq!(get(&found, "geospatial_vertical_min"), Some(&Value::F64(vec![-6134.5])));
    assert!(text(&found, "coordinates_comment").is_some() && text(&found, "recipe_id").is_none());
    let without_row = attributes(Mode::Edp2024, "OBP_mon_mean_1992-01_ECCO_V4r4_latlon_0p50deg.nc", "2D");
    assert_eq!(text(&without_row, "title"), Some("TBD_DATASET"));
    assert_eq!(text(&without_row, "coordinates_comment"), None);
    let snapshot = attributes(Mode::Edp2024, "SSH_day_snap_1992-01-01_ECCO_V4r4_latlon_0p50deg.nc", "2D");
    assert_eq!(text(&snapshot, "time_coverage_start"), Some("TBD_DATASET"));
}

#[test]
fn corrected_computes_extents_and_leaves_no_placeholder() {
    let found = attributes(Mode::Corrected, MONTH, "2D");
    for (name, want) in [
        ("date_issued", "2020-01-02T03:04:05Z"),
        ("identifier_product_doi", "10.5067/ECG5M-SSH44"),
        ("identifier_product_doi_authority", "https://doi.org/"),
        ("recipe_id", "ab"),
    ] {
        assert_eq!(text(&found, name), Some(want));
    }
    for (name, want) in [("geospatial_lat_max", 90.0), ("geospatial_lon_resolution", 0.25)] {
        assert_eq!(get(&found, name), Some(&Value::F64(vec![want])), "{name}");
    }
    assert_eq!(get(&found, "geospatial_vertical_min"), Some(&Value::F64(vec![0.0])));
    assert_eq!(get(&found, "geospatial_vertical_max"), Some(&Value::F64(vec![0.0])));
    let ring = "POLYGON ((-90 -180, -90 180, 90 180, 90 -180, -90 -180))";
    assert_eq!(text(&found, "geospatial_bounds"), Some(ring));
    assert_eq!(text(&found, "left"), None);
    let deep = attributes(Mode::Corrected, MONTH, "3D");
    assert_eq!(get(&deep, "geospatial_vertical_min"), Some(&Value::F64(vec![-100.0])));
    let without_row = attributes(Mode::Corrected, "OBP_mon_mean_1992-01_ECCO_V4r4_latlon_0p50deg.nc", "2D");
    assert_eq!(text(&without_row, "title"), Some("sea surface"));
    assert_eq!((text(&without_row, "id"), text(&without_row, "metadata_link")), (None, None));
    let snapshot = attributes(Mode::Corrected, "SSH_snap_1992-01-16T180000_ECCO_V4r4_latlon_0p50deg.nc", "2D");
    for name in ["time_coverage_start", "time_coverage_end"] {
        assert_eq!(text(&snapshot, name), Some("1992-01-16T18:00:00Z"));
    }
}

#[test]
fn what_an_archive_would_miss_is_known_before() {
    let of = |mode, name: &str| with_sources(mode, name, "2D", |sources| lacking(sources).unwrap());
    let lacks = |row, placeholders: &[&str]| Lacking {
        row,
        other_release: None,
        placeholders: placeholders.iter().map(|&p| p.into()).collect(),
    };
    assert_eq!(of(Mode::Corrected, MONTH), lacks(false, &["left"]));
    assert_eq!(of(Mode::Edp2024, MONTH), lacks(false, &["left"]));
    let other = "OBP_mon_mean_1992-01_ECCO_V4r4_latlon_0p50deg.nc";
    assert_eq!(of(Mode::Corrected, other), lacks(true, &["left"]), "the attributes of a row are left out without one");
    let of_release_5 = of(Mode::Corrected, &MONTH.replace("V4r4", "V4r5"));
    assert_eq!((of_release_5.row, of_release_5.other_release.as_deref()), (true, Some("V4r4")));
    assert_eq!(of(Mode::Edp2024, other), lacks(true, &["id", "left", "metadata_link", "title"]));
    let snapshot = "SSH_day_snap_1992-01-01_ECCO_V4r4_latlon_0p50deg.nc";
    assert!(of(Mode::Edp2024, snapshot).placeholders.contains(&"time_coverage_start".to_owned()));
}
