//! The configuration: its keys, and whether its texts are of its release.

use super::release::ReleaseNumber;
use super::{Defects, NamedText};
use edp_engine::metadata::configuration::Configuration;
use edp_engine::metadata::factor_keys::FactorKeys;
use edp_protocol::{GridKind, name};
use std::path::Path;

/// Checks a configuration. Returns it if it can be used.
pub(super) fn check(text: NamedText<'_>, metadata: Option<&Path>, defects: &mut Defects) -> Option<Configuration> {
    let file = text.name;
    match FactorKeys::parse(file, text.bytes) {
        Ok((_, warnings)) => defects.warnings(warnings),
        Err(error) => defects.failure(file, &error),
    }
    let configuration = match Configuration::parse(file, text.bytes) {
        Ok((configuration, warnings)) => {
            defects.warnings(warnings);
            configuration
        }
        Err(error) => {
            defects.failure(file, &error);
            return None;
        }
    };
    check_release(file, &configuration, defects);
    check_labels(file, &configuration, defects);
    check_identifiers(file, &configuration, defects);
    if configuration.geospatial_vertical_min > 0.0 {
        let message = "it is above the sea surface; depths are negative, in metres";
        defects.error(file, "key geospatial_vertical_min", message);
    }
    let table = &configuration.podaac_file;
    if let Some(directory) = metadata.filter(|directory| !table.is_empty() && !directory.join(table).is_file()) {
        let message = format!("there is no {table} in {}", directory.display());
        defects.error(file, "key podaac_metadata_filename", message);
    }
    Some(configuration)
}

/// Holds what the texts say of the release against `ecco_version`.
fn check_release(file: &str, configuration: &Configuration, defects: &mut Defects) {
    let Some(own) = ReleaseNumber::parse(&configuration.ecco_version) else { return };
    let tail = |grid| configuration.description_tails.get(&grid).map_or("", String::as_str);
    let texts = [
        ("product_version", configuration.product_version.as_str()),
        ("history", &configuration.history),
        ("source", &configuration.source),
        ("summary", &configuration.summary),
        ("project_summary", configuration.project_summary.as_deref().unwrap_or_default()),
        ("dataset_description_tail_native", tail(GridKind::Native)),
        ("dataset_description_tail_latlon", tail(GridKind::Latlon)),
    ];
    for (key, text) in texts {
        let named = ReleaseNumber::all_in(text);
        if named.is_empty() || named.contains(&own) {
            continue;
        }
        let named: Vec<String> = named.iter().map(ReleaseNumber::to_string).collect();
        let message = format!("it speaks of {}, but ecco_version is {own}: every granule says so", named.join(", "));
        defects.error(file, format!("key {key}"), message);
    }
    if ReleaseNumber::all_in(&configuration.podaac_file).iter().any(|named| *named != own) {
        let message = format!("{} is the table of another release than {own}", configuration.podaac_file);
        defects.warning(file, "key podaac_metadata_filename", message);
    }
}

/// Holds the labels of granules against the sizes that the configuration states.
fn check_labels(file: &str, configuration: &Configuration, defects: &mut Defects) {
    let size = configuration.grid_texts.get("llc_grid_size").and_then(|text| text.trim().parse::<u64>().ok());
    let resolution =
        configuration.grid_texts.get("latlon_grid_resolution").and_then(|text| text.trim().parse::<f64>().ok());
    let wanted = [
        (GridKind::Native, "llc_grid_size", size.map(name::native_label)),
        (GridKind::Latlon, "latlon_grid_resolution", resolution.map(name::latlon_label)),
    ];
    for (grid, key, wanted) in wanted {
        if let (Some(wanted), Some(label)) = (wanted, configuration.grid_labels.get(&grid))
            && wanted != *label
        {
            let message = format!("the label of {grid} granules is {label}, but by {key} it is {wanted}");
            defects.warning(file, "key ecco_production_filestr_grid_label", message);
        }
    }
}

/// Checks what identifiers and links of granules are made of.
fn check_identifiers(file: &str, configuration: &Configuration, defects: &mut Defects) {
    let prefix = configuration.doi_prefix.trim_end_matches('/');
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let has_archive = !configuration.podaac_file.is_empty();
    if has_archive && !prefix.strip_prefix("10.").is_some_and(|rest| rest.split('.').all(is_number)) {
        defects.error(file, "key doi_prefix", format!("'{prefix}' is none: it begins with '10.', and numbers follow"));
    }
    if let Some(root) = configuration.metadata_link_root.as_deref().filter(|root| !root.ends_with("ShortName=")) {
        let message =
            format!("'{root}' does not end with 'ShortName=': links made of it and a short name lead nowhere");
        defects.warning(file, "key metadata_link_root", message);
    }
}
