//! Attributes of data variables (specification 04, section 8).

use super::attribute::{self, Attributes, Value};
use super::entry::Entry;
use super::source::Metadata;
use edp_protocol::GridKind;
use std::collections::BTreeSet;

/// Keys of a metadata entry that are no attributes.
const NOT_WRITTEN: [&str; 10] = [
    "name",
    "grid_dimension",
    "grid_location",
    "GCMD_keywords",
    "variable_rename",
    "comments_1",
    "comments_2",
    "internal_note",
    "internal note",
    "land_mask_override",
];

/// What the metadata say of one variable.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Description {
    /// Attributes up to `comment`, in file order; without fill value, valid range and `coordinates`.
    pub attributes: Attributes,
    /// GCMD keywords of the variable.
    pub keywords: BTreeSet<String>,
    /// `grid_location`: `c`, `u`, `v`, `w` or `z`.
    pub grid_location: Option<String>,
    /// `land_mask_override`: the mask to be used instead of the one of the variable's point.
    pub land_mask_override: Option<String>,
    /// Whether there was any entry at all.
    pub known: bool,
}

/// Collects what the metadata say of a variable: the entry for all grids, then for latlon granules the
/// latlon entry on top of it.
pub fn describe(metadata: &Metadata, grid: GridKind, name: &str) -> Description {
    let mut description = Description::default();
    let passes = match grid {
        GridKind::Native => [metadata.variables.find(name), None],
        GridKind::Latlon => [metadata.variables.find(name), metadata.latlon_variables.find(name)],
    };
    for entry in passes.into_iter().flatten() {
        description.known = true;
        overlay(&mut description.attributes, entry, &NOT_WRITTEN);
        if let Some(comment) = comment(text(entry, "comments_1"), text(entry, "comments_2")) {
            attribute::set(&mut description.attributes, "comment", comment);
        }
        let keywords = text(entry, "GCMD_keywords").split(',').map(str::trim).filter(|word| !word.is_empty());
        description.keywords.extend(keywords.map(str::to_owned));
        for (key, place) in [
            ("grid_location", &mut description.grid_location),
            ("land_mask_override", &mut description.land_mask_override),
        ] {
            if !text(entry, key).is_empty() {
                *place = Some(text(entry, key).to_owned());
            }
        }
    }
    description
}

/// Sets the attributes of an entry in alphabetical order, but for some keys.
pub(super) fn overlay(attributes: &mut Attributes, entry: &Entry, but: &[&str]) {
    let mut keys: Vec<_> = entry.keys.keys().filter(|key| !but.contains(&key.as_str())).collect();
    keys.sort();
    for key in keys {
        if let Some(value) = entry.get(key).and_then(Value::from_json) {
            attribute::set(attributes, key, value);
        }
    }
}

fn text<'a>(entry: &'a Entry, key: &str) -> &'a str {
    entry.text(key).unwrap_or("")
}

/// The two comments of an entry as one sentence after the other.
fn comment(first: &str, second: &str) -> Option<String> {
    match (first.is_empty(), second.is_empty()) {
        (true, true) => None,
        (false, true) => Some(first.into()),
        (true, false) => Some(second.into()),
        (false, false) => Some(format!("{first}{} {second}", if first.ends_with('.') { "" } else { "." })),
    }
}
