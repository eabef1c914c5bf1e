//! The global attributes of granules.

use super::attribute::{self, Attributes, Value};
use super::configuration::Configuration;
use super::entry::GlobalValue;
use super::podaac::{Found, Row, Table, TableError, is_doi};
use super::source::Metadata;
use edp_protocol::calendar;
use edp_protocol::name::GranuleName;
use edp_protocol::recipe::{DynamicMetadata, Recipe};
use edp_protocol::{Frequency, GridKind, Mode};
use jiff::civil::DateTime;
use std::collections::BTreeSet;

/// Texts that mark an attribute whose value should have been filled in.
const PLACEHOLDERS: [&str; 2] = ["TBD_", "REPLACED_BY_"];

/// The resolver of DOIs.
const RESOLVER: &str = "https://doi.org/";

const AUTHORITY: &str = "identifier_product_doi_authority";

/// The region that a granule covers, computed from its cell bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extent {
    /// Southern and northern limits in degrees north.
    pub latitude: [f64; 2],
    /// Western and eastern limits in degrees east.
    pub longitude: [f64; 2],
    /// Lower and upper limits of 3-D granules in metres, positive upwards.
    pub vertical: Option<[f64; 2]>,
    /// Spacing of a regular grid in latitude and longitude, in degrees.
    pub resolution: Option<[f64; 2]>,
}

/// The sources of the global attributes of one granule.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The configuration of the production.
    pub configuration: &'a Configuration,
    /// The content of the metadata directory.
    pub metadata: &'a Metadata,
    /// The PO.DAAC table of the release.
    pub podaac: &'a Table,
    /// The name of the granule, in its parts.
    pub name: &'a GranuleName,
    /// The mode, which selects the rules for the attributes.
    pub mode: Mode,
    /// The metadata stated in the recipe.
    pub dynamic: &'a DynamicMetadata,
    /// The id of the recipe.
    pub id: &'a str,
    /// Time of production, `YYYY-MM-DDThh:mm:ssZ`.
    pub production_date: &'a str,
    /// Keywords of the variables in the granule.
    pub keywords: BTreeSet<String>,
    /// The region that the granule covers; none of time series.
    pub extent: Option<Extent>,
}

/// Things in the attributes of a granule that an archive would object to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lacking {
    /// True if the PO.DAAC table has no row for the dataset.
    pub row: bool,
    /// The release to which the row in the table belongs, if it is another one.
    pub other_release: Option<String>,
    /// Names of the attributes that still hold a placeholder, sorted.
    pub placeholders: Vec<String>,
}

/// Returns all global attributes, sorted by name except for `coordinates`, which comes last.
///
/// # Errors
/// Returns an error if more than one row of the PO.DAAC table fits the dataset.
pub fn describe(sources: &Sources<'_>) -> Result<Attributes, TableError> {
    let (mut attributes, _) = gather(sources)?;
    if sources.mode == Mode::Corrected {
        attributes.retain(|(_, value)| !is_placeholder(value));
        attribute::remove_empty_texts(&mut attributes);
    }
    Ok(attributes)
}

/// Returns the defects of the attributes made by [`describe`]. Of the extent, only the presence of its parts matters.
///
/// # Errors
/// Returns an error if more than one row of the PO.DAAC table fits the dataset.
pub fn lacking(sources: &Sources<'_>) -> Result<Lacking, TableError> {
    let (attributes, found) = gather(sources)?;
    let placeholders = attributes.into_iter().filter(|(_, value)| is_placeholder(value)).map(|(name, _)| name);
    let other_release = match found {
        Found::OtherRelease(version) => Some(version.to_owned()),
        Found::Row(_) | Found::Nothing => None,
    };
    Ok(Lacking { row: !matches!(found, Found::Row(_)), other_release, placeholders: placeholders.collect() })
}

/// Returns the sorted attributes, including placeholders that nothing has replaced, and the row found in the PO.DAAC
/// table.
fn gather<'a>(sources: &Sources<'a>) -> Result<(Attributes, Found<'a>), TableError> {
    let corrected = sources.mode == Mode::Corrected;
    let mut attributes = Attributes::new();
    let mut keywords = sources.keywords.clone();
    if sources.mode == Mode::Edp2026 {
        identifiers_before_metadata(&mut attributes, sources.configuration);
    }
    entries(&mut attributes, sources);
    if let Some(text) = attribute::get(&attributes, "keywords").and_then(Value::text) {
        keywords.extend(text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned));
    }
    coverage(&mut attributes, sources);
    let date = if corrected { sources.production_date } else { sources.production_date.trim_end_matches('Z') };
    for name in ["date_created", "date_modified", "date_metadata_modified", "date_issued"] {
        attribute::set(&mut attributes, name, date);
    }
    configured(&mut attributes, sources);
    if !keywords.is_empty() {
        attribute::set(&mut attributes, "keywords", keywords.into_iter().collect::<Vec<_>>().join(", "));
    }
    attribute::set(&mut attributes, "uuid", Recipe::uuid_of(sources.id));
    let dynamic = sources.dynamic;
    if let Some(comment) = dynamic.comment.as_deref().filter(|comment| !comment.is_empty()) {
        let comment = match attribute::get(&attributes, "comment").and_then(Value::text) {
            Some(of_the_grid) => format!("{of_the_grid} {comment}"),
            None => comment.to_owned(),
        };
        attribute::set(&mut attributes, "comment", comment);
    }
    for (name, value) in [
        ("time_coverage_duration", &dynamic.time_coverage_duration),
        ("time_coverage_resolution", &dynamic.time_coverage_resolution),
    ] {
        if let Some(value) = value.as_ref().filter(|_| sources.name.frequency != Frequency::TimeInvariant) {
            attribute::set(&mut attributes, name, value.as_str());
        }
    }
    attribute::set(&mut attributes, "product_name", sources.name.to_string());
    attribute::set(&mut attributes, "summary", summary(sources));
    let found = match sources.mode {
        Mode::Corrected => {
            if let Some(extent) = &sources.extent {
                extents(&mut attributes, extent);
            }
            attribute::set(&mut attributes, "recipe_id", sources.id);
            let found = sources.podaac.find(sources.name)?;
            archive(&mut attributes, sources, found);
            found
        }
        // EDP has no rule for time series.
        _ if sources.name.grid == GridKind::Series => {
            let found = sources.podaac.find(sources.name)?;
            if let Found::Row(row) = found {
                match sources.mode {
                    Mode::Edp2024 => archive_edp2024(&mut attributes, sources, row),
                    _ => archive_edp2026(&mut attributes, row),
                }
            }
            found
        }
        Mode::Edp2024 => {
            let row = sources.podaac.find_edp2024(sources.name);
            row.inspect(|row| archive_edp2024(&mut attributes, sources, row)).map_or(Found::Nothing, Found::Row)
        }
        Mode::Edp2026 => {
            let row = sources.podaac.find_edp2026(sources.name);
            row.inspect(|row| archive_edp2026(&mut attributes, row)).map_or(Found::Nothing, Found::Row)
        }
    };
    attributes.sort_by_key(|(name, _)| name.to_lowercase());
    Ok((attributes, found))
}

/// Returns the summary: the text of the recipe, and the text of the configuration for all granules. EDP of 2026 puts a
/// space between them even if the second is empty.
fn summary(sources: &Sources<'_>) -> String {
    let (own, configuration) = (sources.dynamic.summary.as_str(), sources.configuration);
    if sources.mode == Mode::Edp2026 {
        return format!("{own} {}", configuration.project_summary.as_deref().unwrap_or_default());
    }
    let parts = [own, &configuration.summary];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Sets the identifiers with which EDP of 2026 begins. They remain where neither the metadata nor the table has better
/// ones.
fn identifiers_before_metadata(attributes: &mut Attributes, configuration: &Configuration) {
    attribute::set(attributes, "metadata_link", configuration.doi_prefix.as_str());
    attribute::set(attributes, "identifier_product_doi", configuration.doi_prefix.as_str());
    let authority = configuration.doi_authority.as_deref().unwrap_or_default();
    attribute::set(attributes, "identifier_product_doi_authority", authority);
}

/// Returns true if an attribute still holds a text that should have been replaced.
pub(crate) fn is_placeholder(value: &Value) -> bool {
    value.text().is_some_and(|text| PLACEHOLDERS.iter().any(|placeholder| text.contains(placeholder)))
}

fn entries(attributes: &mut Attributes, sources: &Sources<'_>) {
    let of_the_grid = match sources.name.grid {
        GridKind::Native => &sources.metadata.globals_native,
        GridKind::Latlon => &sources.metadata.globals_latlon,
        GridKind::Series => &sources.metadata.globals_series,
    };
    let all = sources.metadata.globals_all.iter().chain(of_the_grid);
    for entry in all.filter(|entry| entry.is_for(&sources.dynamic.dimension)) {
        let value = match &entry.value {
            GlobalValue::Text(text) => Value::from(text.as_str()),
            GlobalValue::Float(number) => Value::from(*number),
            GlobalValue::Int(number) => Value::I32(vec![*number]),
        };
        attribute::set(attributes, &entry.name, value);
    }
}

fn coverage(attributes: &mut Attributes, sources: &Sources<'_>) {
    let dynamic = sources.dynamic;
    if sources.name.frequency == Frequency::TimeInvariant {
        for name in ["time_coverage_start", "time_coverage_end", "time_coverage_duration", "time_coverage_resolution"] {
            attribute::remove(attributes, name);
        }
        return;
    }
    let snapshot = sources.name.frequency == Frequency::Snapshot;
    let times = match (snapshot && sources.name.grid != GridKind::Series, sources.mode) {
        (false, _) => [&dynamic.time_coverage_start, &dynamic.time_coverage_end],
        (true, Mode::Corrected) => [&dynamic.time_coverage_center, &dynamic.time_coverage_center],
        (true, Mode::Edp2024 | Mode::Edp2026) => return, // EDP leaves its placeholder there
    };
    for (name, time) in ["time_coverage_start", "time_coverage_end"].into_iter().zip(times) {
        if let Some(time) = time {
            attribute::set(attributes, name, time_text(time, sources.mode));
        }
    }
}

/// Returns a time `YYYY-MM-DDThh:mm:ss` in the form used in attributes. EDP does not mark it as UTC.
pub fn time_text(time: &str, mode: Mode) -> String {
    format!("{time}{}", if mode.is_edp() { "" } else { "Z" })
}

fn configured(attributes: &mut Attributes, sources: &Sources<'_>) {
    let configuration = sources.configuration;
    match sources.mode {
        Mode::Edp2026 => {
            let project = configuration.project_summary.as_deref().unwrap_or_default();
            attribute::set(attributes, "project_summary", project);
        }
        // Its text is a part of `summary`, so that nothing is lacking where the metadata have a placeholder for it.
        Mode::Corrected if attribute::get(attributes, "project_summary").is_some_and(is_placeholder) => {
            attribute::remove(attributes, "project_summary");
        }
        Mode::Corrected | Mode::Edp2024 => {}
    }
    attribute::set(attributes, "history", configuration.history.as_str());
    if sources.name.grid != GridKind::Series {
        attribute::set(attributes, "geospatial_vertical_min", configuration.geospatial_vertical_min);
    }
    let time = |time: DateTime| time_text(&calendar::text(time), sources.mode);
    attribute::set(attributes, "product_time_coverage_start", time(configuration.model_start));
    attribute::set(attributes, "product_time_coverage_end", time(configuration.model_end));
    attribute::set(attributes, "product_version", configuration.product_version.as_str());
    attribute::set(attributes, "references", configuration.references.as_str());
    attribute::set(attributes, "source", configuration.source.as_str());
}

fn extents(attributes: &mut Attributes, extent: &Extent) {
    let [south, north] = extent.latitude;
    let [west, east] = extent.longitude;
    for (name, value) in [
        ("geospatial_lat_min", south),
        ("geospatial_lat_max", north),
        ("geospatial_lon_min", west),
        ("geospatial_lon_max", east),
    ] {
        attribute::set(attributes, name, value);
    }
    if let Some([latitude, longitude]) = extent.resolution {
        attribute::set(attributes, "geospatial_lat_resolution", latitude);
        attribute::set(attributes, "geospatial_lon_resolution", longitude);
    }
    // Data at the surface have a vertical extent too, and the texts that explain it.
    let [bottom, top] = extent.vertical.unwrap_or([0.0; 2]);
    attribute::set(attributes, "geospatial_vertical_min", bottom);
    attribute::set(attributes, "geospatial_vertical_max", top);
    for (name, value) in [("geospatial_vertical_positive", "up"), ("geospatial_vertical_units", "meter")] {
        if attribute::get(attributes, name).is_none() {
            attribute::set(attributes, name, value);
        }
    }
    // In EPSG:4326 the latitude comes first; EPSG:5829 is the height above the instantaneous sea level.
    attribute::set(attributes, "geospatial_bounds_crs", "EPSG:4326");
    attribute::set(attributes, "geospatial_bounds_vertical_crs", "EPSG:5829");
    let corners = [(south, west), (south, east), (north, east), (north, west), (south, west)];
    let ring: Vec<String> = corners.iter().map(|(latitude, longitude)| format!("{latitude} {longitude}")).collect();
    attribute::set(attributes, "geospatial_bounds", format!("POLYGON (({}))", ring.join(", ")));
}

/// Sets the identifiers. If the table has a DOI and the configuration no root for links, they have the form used by the
/// archive since Release 6, otherwise the older form.
fn archive(attributes: &mut Attributes, sources: &Sources<'_>, found: Found<'_>) {
    let configuration = sources.configuration;
    let given = attribute::get(attributes, AUTHORITY).filter(|given| !is_placeholder(given));
    let given = given.and_then(Value::text).map(str::to_owned);
    for name in ["id", "metadata_link", "identifier_product_doi", AUTHORITY] {
        attribute::remove(attributes, name);
    }
    let Found::Row(row) = found else {
        attribute::set(attributes, "title", sources.dynamic.name.as_str());
        return;
    };
    let doi = row.doi(&configuration.doi_prefix);
    if doi.is_some() {
        let authority = configuration.doi_authority.clone().or(given);
        attribute::set(attributes, AUTHORITY, authority.unwrap_or_else(|| RESOLVER.into()));
    }
    match (doi, &configuration.metadata_link_root) {
        (Some(doi), None) if is_doi(&doi) => {
            let link = format!("{RESOLVER}{doi}");
            attribute::set(attributes, "id", row.short_name.as_str());
            attribute::set(attributes, "identifier_product_doi", link.as_str());
            attribute::set(attributes, "metadata_link", link);
        }
        (doi, root) => {
            if let Some(doi) = doi {
                attribute::set(attributes, "id", doi.as_str());
                attribute::set(attributes, "identifier_product_doi", doi);
            }
            if let Some(root) = root {
                attribute::set(attributes, "metadata_link", format!("{root}{}", row.short_name));
            }
        }
    }
    attribute::set(attributes, "title", row.long_name.as_str());
}

fn archive_edp2026(attributes: &mut Attributes, row: &Row) {
    let link = format!("{RESOLVER}{}", row.persistent_id);
    attribute::set(attributes, "id", row.short_name.as_str());
    attribute::set(attributes, "metadata_link", link.as_str());
    attribute::set(attributes, "identifier_product_doi", link);
    attribute::set(attributes, "title", row.long_name.as_str());
    let note = "The 'coordinates' attribute lists a subset of auxiliary coordinates. Created by xarray.to_netcdf().";
    attribute::set(attributes, "coordinates_note", note);
}

fn archive_edp2024(attributes: &mut Attributes, sources: &Sources<'_>, row: &Row) {
    let prefix = format!("{}/", sources.configuration.doi_prefix);
    let root = sources.configuration.metadata_link_root.as_deref().unwrap_or("");
    attribute::set(attributes, "id", row.persistent_id.replace("PODAAC-", &prefix));
    attribute::set(attributes, "metadata_link", format!("{root}{}", row.short_name));
    attribute::set(attributes, "title", row.long_name.as_str());
    // The spelling is that of EDP.
    let comment = "Note: the global 'coordinates' attribute describes auxillary coordinates.";
    attribute::set(attributes, "coordinates_comment", comment);
}
