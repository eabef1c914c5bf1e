//! The entries of variables and coordinates: complete, unique, and in words that CF and EDP know.

use super::metadata_files::MetadataFiles;
use super::{DefectWeight, Defects};
use edp_engine::metadata::entry::Entry;
use serde_json::Value;
use std::collections::HashMap;

/// Names of the files of variables and geometry, and of those of coordinates.
const OF_VARIABLES: [&str; 5] = [
    "variable_metadata.",
    "variable_metadata_for_latlon_datasets.",
    "variable_metadata_for_1D_datasets.",
    "geometry_metadata_for_native_datasets.",
    "geometry_metadata_for_latlon_datasets.",
];
const OF_COORDINATES: [&str; 4] = [
    "coordinate_metadata_for_native_datasets.",
    "coordinate_metadata_for_latlon_datasets.",
    "coordinate_metadata_for_1D_datasets.",
    "time_coordinate_metadata.",
];

/// The content types of ISO 19115-1 that ACDD refers to.
const CONTENT_TYPES: [&str; 8] = [
    "image",
    "thematicClassification",
    "physicalMeasurement",
    "auxiliaryInformation",
    "qualityInformation",
    "referenceInformation",
    "modelResult",
    "coordinate",
];

/// The points of a cell at which variables are defined.
const LOCATIONS: [&str; 5] = ["c", "u", "v", "w", "z"];

/// Checks the entries of all files, and the units of variables that have entries in several of them.
pub(super) fn check(files: &MetadataFiles, defects: &mut Defects) {
    let mut units: HashMap<String, (String, String)> = HashMap::new();
    for part in OF_VARIABLES {
        for (file, entries) in files.entries(part) {
            check_names(file, &entries.0, defects);
            check_keys(file, &entries.0, &["long_name"], defects);
            check_comments(file, &entries.0, defects);
            list(file, &entries.0, defects);
            // The meaning of a name in the geometry of one grid need not be that in the geometry of another.
            for entry in entries.0.iter().filter(|_| part.starts_with("variable_metadata")) {
                let own = entry.text("units").unwrap_or_default();
                match units.get(&entry.name) {
                    Some((other_file, other)) if other != own => defects.warning(
                        file,
                        entry.name.as_str(),
                        format!("its units are '{own}' here and '{other}' in {other_file}"),
                    ),
                    Some(_) => {}
                    None => drop(units.insert(entry.name.clone(), (file.to_owned(), own.to_owned()))),
                }
            }
        }
    }
    for part in OF_COORDINATES {
        for (file, entries) in files.entries(part) {
            check_names(file, &entries.0, defects);
            check_keys(file, &entries.0, &[], defects);
        }
    }
}

/// Reports names that have several entries, of which the first counts.
fn check_names(file: &str, entries: &[Entry], defects: &mut Defects) {
    let mut first: HashMap<&str, &Entry> = HashMap::new();
    for entry in entries {
        match first.get(entry.name.as_str()) {
            Some(known) if known.keys == entry.keys => {
                defects.warning(file, entry.name.as_str(), "it has two entries, which are the same");
            }
            Some(_) => {
                defects.error(file, entry.name.as_str(), "it has two entries that differ; only the first counts")
            }
            None => drop(first.insert(&entry.name, entry)),
        }
    }
}

/// Checks the values of keys whose words are fixed, and that keys which every entry must have are there.
fn check_keys(file: &str, entries: &[Entry], required: &[&str], defects: &mut Defects) {
    for entry in entries {
        let mut report =
            |key: &str, message: String| defects.error(file, format!("{}, key {key}", entry.name), message);
        for key in required {
            if entry.text(key).is_none_or(|text| text.trim().is_empty()) {
                report(key, "it is missing or empty".into());
            }
        }
        if let Some(name) = entry.text("standard_name").filter(|name| !is_standard_name(name)) {
            report(
                "standard_name",
                format!("'{name}' has not the form of a standard name: small letters, digits and '_'"),
            );
        }
        for (key, words) in [("coverage_content_type", &CONTENT_TYPES[..]), ("grid_location", &LOCATIONS)] {
            if let Some(word) = entry.text(key).filter(|word| !words.contains(word)) {
                report(key, format!("'{word}' is not one of {}", words.join(", ")));
            }
        }
        if let Some(text) = entry.text("grid_dimension")
            && text.split([' ', ',']).any(|word| !word.is_empty() && !matches!(word, "1D" | "2D" | "3D"))
        {
            report("grid_dimension", format!("'{text}' is not made of 1D, 2D and 3D"));
        }
        for (key, value) in &entry.keys {
            if matches!(value, Value::Object(_) | Value::Array(_)) {
                report(key, "it is neither a text nor a number, so it is not written".into());
            }
        }
    }
}

/// Returns true for the form of a standard name, with a modifier after a blank; an empty text is none at all.
fn is_standard_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.split_once(' ').map_or(name, |(name, _)| name).chars().all(plain)
}

/// Reports entries without the two comments, which EDP takes for granted.
fn check_comments(file: &str, entries: &[Entry], defects: &mut Defects) {
    for entry in entries {
        for key in ["comments_1", "comments_2"].into_iter().filter(|key| entry.text(key).is_none()) {
            let message = "it is missing: EDP fails with such an entry; an empty text is enough";
            defects.warning(file, format!("{}, key {key}", entry.name), message);
        }
    }
}

/// Reports in one note each what many entries of a file may lack.
fn list(file: &str, entries: &[Entry], defects: &mut Defects) {
    let is_blank = |entry: &&Entry, key: &str| entry.text(key).is_none_or(|text| text.trim().is_empty());
    // A mask has no units.
    let is_mask = |entry: &&Entry| entry.name.to_ascii_lowercase().contains("mask");
    let without =
        |key: &str| entries.iter().filter(|entry| is_blank(entry, key)).map(|entry| entry.name.as_str()).collect();
    let unitless = entries.iter().filter(|entry| is_blank(entry, "units") && !is_mask(entry));
    let is_padded = |value: &Value| value.as_str().is_some_and(|text| text != text.trim());
    let padded = entries.iter().filter(|entry| entry.keys.values().any(is_padded)).map(|entry| entry.name.as_str());
    let lists: [(DefectWeight, &str, Vec<&str>); 4] = [
        (DefectWeight::Warning, "without units", unitless.map(|entry| entry.name.as_str()).collect()),
        (DefectWeight::Note, "without standard_name", without("standard_name")),
        (DefectWeight::Note, "without GCMD_keywords", without("GCMD_keywords")),
        (DefectWeight::Note, "with blanks at the beginning or end of a text", padded.collect()),
    ];
    for (severity, what, names) in lists {
        if !names.is_empty() {
            defects.add(
                severity,
                file,
                "",
                format!("{} of {} {what}: {}", names.len(), entries.len(), names.join(", ")),
            );
        }
    }
}
