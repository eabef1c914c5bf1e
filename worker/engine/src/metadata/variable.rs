//! The attributes of data variables.

use super::attribute::{self, Attributes, Value};
use super::entry::Entry;
use super::source::Metadata;
use crate::level_set::{LevelSet, MAX_LEVELS};
use edp_protocol::GridKind;
use std::collections::BTreeSet;

/// Keys of a metadata entry that are not attributes.
const NOT_WRITTEN: [&str; 11] = [
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
    "levels",
];

/// The description of one variable in the metadata.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Description {
    /// The attributes up to `comment`, in file order, without fill value, valid range and `coordinates`.
    pub attributes: Attributes,
    /// The GCMD keywords of the variable.
    pub keywords: BTreeSet<String>,
    /// `grid_location`: the point of the grid cell, `c`, `u`, `v`, `w` or `z`.
    pub grid_location: Option<String>,
    /// `land_mask_override`: the mask that is used instead of the one of the variable's point.
    pub land_mask_override: Option<String>,
    /// `levels`: the levels that the model writes, where these are only some of the grid's.
    pub levels: Option<Result<LevelSet, String>>,
    /// True if the metadata have an entry for the variable.
    pub known: bool,
}

/// Returns the description of a variable: that of the entry for all grids, and for latlon granules that of the latlon
/// entry on top of it.
pub fn describe(metadata: &Metadata, grid: GridKind, name: &str) -> Description {
    match grid {
        GridKind::Native => overlaid([metadata.variables.find(name), None, None]),
        GridKind::Latlon => overlaid([metadata.variables.find(name), metadata.latlon_variables.find(name), None]),
        GridKind::Series => overlaid([metadata.series_variables.find(name), None, None]),
    }
}

/// The same of a variable that does not change with time: in latlon granules, the entry for their geometry comes on top.
pub fn describe_invariant(metadata: &Metadata, grid: GridKind, name: &str) -> Description {
    match grid {
        GridKind::Native | GridKind::Series => describe(metadata, grid, name),
        GridKind::Latlon => overlaid([
            metadata.variables.find(name),
            metadata.latlon_variables.find(name),
            metadata.latlon_geometry.find(name),
        ]),
    }
}

/// Returns what the metadata say of a variable in the geometry file of a latlon grid.
pub(crate) fn describe_latlon_geometry(metadata: &Metadata, name: &str) -> Description {
    overlaid([metadata.latlon_geometry.find(name), None, None])
}

fn overlaid(passes: [Option<&Entry>; 3]) -> Description {
    let mut description = Description::default();
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
        if let Some(value) = entry.get("levels") {
            description.levels = Some(levels(value));
        }
    }
    description
}

/// Sets the attributes of an entry in alphabetical order, except for some keys.
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

/// Returns levels as the model counts them, from 1: the number of the uppermost ones, or a list of their numbers.
/// Anything else is returned as an error.
fn levels(value: &serde_json::Value) -> Result<LevelSet, String> {
    let number = |value: &serde_json::Value| usize::try_from(value.as_u64()?).ok()?.checked_sub(1);
    let found = match value {
        serde_json::Value::Array(levels) if levels.len() <= MAX_LEVELS => {
            levels.iter().map(number).collect::<Option<Vec<_>>>().and_then(|levels| LevelSet::new(&levels))
        }
        value => number(value).filter(|last| *last < MAX_LEVELS).map(|last| LevelSet::uppermost(last + 1)),
    };
    found.ok_or_else(|| value.to_string().chars().take(100).collect())
}

/// Joins the two comments of an entry into one text of two sentences.
fn comment(first: &str, second: &str) -> Option<String> {
    match (first.is_empty(), second.is_empty()) {
        (true, true) => None,
        (false, true) => Some(first.into()),
        (true, false) => Some(second.into()),
        (false, false) => Some(format!("{first}{} {second}", if first.ends_with('.') { "" } else { "." })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::entry::Entries;

    fn metadata() -> Metadata {
        let all =
            br#"[{"name": "V", "units": "m s-1", "long_name": "along ", "comments_1": "One.", "comments_2": "Two",
            "GCMD_keywords": "A > B, ,C", "grid_dimension": "3D", "grid_location": "v", "internal note": "x",
            "direction": ">0", "coverage_content_type": "modelResult"}]"#;
        let latlon =
            br#"[{"name": "V", "long_name": "northward", "standard_name": "s", "comments_1": "", "comments_2": "Other",
            "GCMD_keywords": "D"}]"#;
        Metadata {
            variables: Entries::parse("all", all).unwrap().0,
            latlon_variables: Entries::parse("latlon", latlon).unwrap().0,
            ..Metadata::default()
        }
    }

    fn texts(attributes: &Attributes) -> Vec<(&str, &str)> {
        attributes.iter().map(|(name, value)| (name.as_str(), value.text().unwrap())).collect()
    }

    #[test]
    fn native_attributes_are_alphabetical_with_the_comment_last() {
        let found = describe(&metadata(), GridKind::Native, "V");
        let wanted = [
            ("coverage_content_type", "modelResult"),
            ("direction", ">0"),
            ("long_name", "along "),
            ("units", "m s-1"),
            ("comment", "One. Two"),
        ];
        assert_eq!(texts(&found.attributes), wanted);
        assert_eq!(found.keywords.into_iter().collect::<Vec<_>>(), ["A > B", "C"]);
        assert_eq!(found.grid_location.as_deref(), Some("v"));
    }

    #[test]
    fn the_latlon_entry_replaces_in_place_and_adds_at_the_end() {
        let found = describe(&metadata(), GridKind::Latlon, "V");
        let wanted = [
            ("coverage_content_type", "modelResult"),
            ("direction", ">0"),
            ("long_name", "northward"),
            ("units", "m s-1"),
            ("comment", "Other"),
            ("standard_name", "s"),
        ];
        assert_eq!(texts(&found.attributes), wanted);
        assert!(!describe(&metadata(), GridKind::Latlon, "W").known);
    }

    #[test]
    fn levels_are_a_number_or_a_list() {
        let of = |value: serde_json::Value| levels(&value).map(|levels| levels.to_string());
        assert_eq!(of(3.into()), Ok("1 to 3".into()));
        assert_eq!(of(vec![1, 5, 10].into()), Ok("1, 5, 10".into()));
        for wrong in ["0", "[]", "[0, 1]", "[2, 1]", "[1.5]", "\"3\"", "-1", "100000", "null"] {
            let value: serde_json::Value = serde_json::from_str(wrong).unwrap();
            assert_eq!(of(value.clone()), Err(value.to_string()), "{wrong}");
        }
        let mut metadata = metadata();
        assert_eq!(describe(&metadata, GridKind::Native, "V").levels, None);
        metadata.variables.0[0].keys.insert("levels".into(), 2.into());
        let found = describe(&metadata, GridKind::Latlon, "V");
        assert_eq!(found.levels, Some(Ok(LevelSet::uppermost(2))));
        assert!(found.attributes.iter().all(|(name, _)| name != "levels"));
    }

    #[test]
    fn two_comments_become_two_sentences() {
        for (first, second, want) in [
            ("a", "b", Some("a. b")),
            ("a.", "b", Some("a. b")),
            ("a", "", Some("a")),
            ("", "b", Some("b")),
            ("", "", None),
        ] {
            assert_eq!(comment(first, second).as_deref(), want);
        }
    }
}
