//! The attributes of coordinates and their bounds.

use super::attribute::{self, Attributes, Value};
use super::entry::Entries;
use super::source::Metadata;
use super::variable::overlay;
use edp_protocol::GridKind;

/// Keys in the entry of a coordinate that are not attributes.
const NOT_WRITTEN: [&str; 2] = ["name", "grid_dimension"];

/// Attributes that a bounds variable inherits from its parent, so that equal ones are not written twice.
const INHERITED: [&str; 9] =
    ["units", "standard_name", "axis", "positive", "calendar", "long_name", "leap_month", "leap_year", "month_lengths"];

/// Returns the attributes of a coordinate other than time, in file order.
pub fn describe(metadata: &Metadata, grid: GridKind, name: &str) -> Attributes {
    let mut attributes = match grid {
        GridKind::Native => native_start(name),
        GridKind::Latlon | GridKind::Series => Vec::new(),
    };
    if let Some(entry) = entries(metadata, grid).find(name) {
        overlay(&mut attributes, entry, &NOT_WRITTEN);
    }
    attributes.retain(|(_, value)| *value != Value::Text(TO_BE_SET.into()));
    attributes
}

/// Returns true if the metadata have an entry for a coordinate of this name.
pub fn is_known(metadata: &Metadata, grid: GridKind, name: &str) -> bool {
    entries(metadata, grid).find(name).is_some()
}

/// Returns the entries of the coordinates of a grid.
fn entries(metadata: &Metadata, grid: GridKind) -> &Entries {
    match grid {
        GridKind::Native => &metadata.native_coordinates,
        GridKind::Latlon => &metadata.latlon_coordinates,
        GridKind::Series => &metadata.series_coordinates,
    }
}

/// Puts what the metadata say of a coordinate over the attributes that it has in a file; `parent` has those of the
/// coordinate of which it is the bounds.
pub(crate) fn overlay_description(
    metadata: &Metadata,
    grid: GridKind,
    name: &str,
    parent: Option<&Attributes>,
    attributes: &mut Attributes,
) {
    if let Some(entry) = entries(metadata, grid).find(name) {
        overlay(attributes, entry, &NOT_WRITTEN);
    }
    if let Some(parent) = parent {
        remove_inherited(attributes, parent);
    }
}

/// Returns the attributes of a bounds variable: those of its entry that differ from the attributes of the parent.
pub(crate) fn describe_bounds(metadata: &Metadata, grid: GridKind, name: &str, parent: &Attributes) -> Attributes {
    let mut attributes = describe(metadata, grid, name);
    if name == "time_bnds" {
        if let Some(entry) = metadata.time_coordinates.find(name) {
            overlay(&mut attributes, entry, &NOT_WRITTEN);
        }
        attribute::remove(&mut attributes, "units");
        attribute::remove(&mut attributes, "calendar");
    }
    remove_inherited(&mut attributes, parent);
    attributes
}

/// Removes what bounds inherit from their parent, if they say the same.
fn remove_inherited(attributes: &mut Attributes, parent: &Attributes) {
    attributes
        .retain(|(key, value)| !(INHERITED.contains(&key.as_str()) && attribute::get(parent, key) == Some(value)));
}

/// Returns the attributes of the time coordinate: those of the grid's entry, overwritten by those of the entry for
/// time, and then units and calendar.
pub(crate) fn describe_time(metadata: &Metadata, grid: GridKind, long_name: Option<&str>, units: &str) -> Attributes {
    let mut attributes = describe(metadata, grid, "time");
    if let Some(entry) = metadata.time_coordinates.find("time") {
        overlay(&mut attributes, entry, &NOT_WRITTEN);
    }
    if let Some(long_name) = long_name {
        attribute::set(&mut attributes, "long_name", long_name);
    }
    attribute::remove(&mut attributes, "units");
    attribute::remove(&mut attributes, "calendar");
    attribute::set(&mut attributes, "units", units);
    attribute::set(&mut attributes, "calendar", "proleptic_gregorian");
    attributes
}

/// Marks a text that the metadata always replace in EDP. An attribute that still has it is dropped.
const TO_BE_SET: &str = "\0to be set";

/// Returns the attributes that EDP's reader of model output sets on native coordinates, before the metadata are
/// applied.
fn native_start(name: &str) -> Attributes {
    let own =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(key, text)| ((*key).to_owned(), Value::from(*text))).collect();
    let shifted = |axis: &str, shift: Vec<f64>, partner: &str| {
        vec![
            ("axis".to_owned(), Value::from(axis)),
            ("long_name".to_owned(), Value::from(TO_BE_SET)),
            ("c_grid_axis_shift".to_owned(), Value::F64(shift)),
            ("swap_dim".to_owned(), Value::from(partner)),
        ]
    };
    let index = |axis, partner| own(&[("axis", axis), ("long_name", TO_BE_SET), ("swap_dim", partner)]);
    let horizontal = |pair| own(&[("long_name", TO_BE_SET), ("units", TO_BE_SET), ("coordinate", pair)]);
    match name {
        "i" => index("X", "XC"),
        "j" => index("Y", "YC"),
        "k" => index("Z", "Z"),
        "i_g" => shifted("X", vec![-0.5], "XG"),
        "j_g" => shifted("Y", vec![-0.5], "YG"),
        "k_u" => shifted("Z", vec![0.5], "Zu"),
        "k_l" => shifted("Z", vec![-0.5], "Zl"),
        "k_p1" => shifted("Z", vec![-0.5, 0.5], "Zp1"),
        "tile" => own(&[("long_name", TO_BE_SET)]),
        "XC" | "YC" => horizontal("YC XC"),
        "XG" | "YG" => horizontal("YG XG"),
        "Z" | "Zp1" | "Zu" | "Zl" => own(&[("long_name", TO_BE_SET), ("units", TO_BE_SET), ("positive", TO_BE_SET)]),
        _ => Vec::new(),
    }
}

/// Returns the attributes of `XU`, `YU`, `XV` or `YV`: those of the cell centre, with another long name and without
/// bounds.
pub(crate) fn describe_edge(metadata: &Metadata, name: &str) -> Attributes {
    let (centre, quantity) = if name.starts_with('X') { ("XC", "longitude") } else { ("YC", "latitude") };
    let point = if name.ends_with('U') { "u" } else { "v" };
    let mut attributes = describe(metadata, GridKind::Native, centre);
    attribute::remove(&mut attributes, "bounds");
    attribute::set(
        &mut attributes,
        "long_name",
        format!("{quantity} of '{point}' points, the middle of tracer grid cell edges"),
    );
    let pair = format!("Y{0} X{0}", point.to_uppercase());
    attribute::set(&mut attributes, "coordinate", pair);
    attributes
}

/// Changes the attributes of a coordinate in the mode `corrected`, so that granules follow the CF conventions:
///
/// * The unit of an index coordinate is `1`; the indices of levels count downwards.
/// * Heights of cell centres and faces are positive upwards, so their standard name cannot be `depth`. Of two
///   coordinates of one dimension, only the one with the name of the dimension (`is_axis`) is its axis.
/// * An empty text is not written.
pub fn correct(name: &str, is_axis: bool, attributes: &mut Attributes) {
    if !is_axis {
        attribute::remove(attributes, "axis");
    }
    match name {
        "i" | "j" | "i_g" | "j_g" | "tile" => attribute::set(attributes, "units", "1"),
        "k" | "k_u" | "k_l" | "k_p1" => {
            attribute::set(attributes, "units", "1");
            attribute::set(attributes, "positive", "down");
        }
        "Z" | "Zl" | "Zu" | "Zp1" => attribute::set(attributes, "standard_name", "height_above_mean_sea_level"),
        _ => {}
    }
    attribute::remove_empty_texts(attributes);
}

/// Changes the attributes of bounds in the same way. Bounds inherit the description of their parent, so their own is
/// removed. The comment of bounds with four corners, which states the order of the corners, is moved to the parent.
pub(crate) fn correct_bounds(bounds: &mut Attributes, parent: Option<&mut Attributes>) {
    let comment = attribute::get(bounds, "comment").and_then(Value::text).map(str::to_owned);
    attribute::remove(bounds, "comment");
    attribute::remove(bounds, "long_name");
    attribute::remove_empty_texts(bounds);
    let (Some(comment), Some(parent)) = (comment.filter(|comment| !comment.is_empty()), parent) else { return };
    attribute::append_sentence(parent, "comment", &comment);
}

/// Returns the attributes of `Zl` in latlon granules: those of `Z`, with another long name and without bounds.
pub(crate) fn describe_upper_faces(metadata: &Metadata) -> Attributes {
    let mut attributes = describe(metadata, GridKind::Latlon, "Z");
    attribute::remove(&mut attributes, "bounds");
    attribute::set(&mut attributes, "long_name", "depth of the upper face of the grid cell");
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::entry::Entries;

    /// Returns entries with the keys of Release 4; the texts are made up.
    fn metadata() -> Metadata {
        let entry = |name: &str, keys: &str| format!(r#"{{"name": "{name}", {keys}, "grid_dimension": "2D 3D"}}"#);
        let c = r#""coverage_content_type": "coordinate""#;
        let time = |more: &str| {
            format!(
                r#""standard_name": "time", "long_name": "t", "units": "hours since 1992-01-01 12:00:00", "bounds": "time_bnds", {more}{c}"#
            )
        };
        let list =
            |entries: &[String]| Entries::parse("list", format!("[{}]", entries.join(",")).as_bytes()).unwrap().0;
        let bounds =
            format!(r#""long_name": "edges", "units": "hours since 1992-01-01 12:00:00", "comment": "c", {c}"#);
        Metadata {
            native_coordinates: list(&[
                entry("time", &time("")),
                entry("time_bnds", &bounds),
                entry("i_g", &format!(r#""long_name": "index", "comment": "x", {c}"#)),
                entry(
                    "XC",
                    &format!(
                        r#""long_name": "longitude", "units": "degrees_east", "standard_name": "longitude", "bounds": "XC_bnds", "comment": "uneven", {c}"#
                    ),
                ),
                entry("XC_bnds", &format!(r#""long_name": "corners", "units": "degrees_east", {c}"#)),
                entry(
                    "Z",
                    &format!(
                        r#""long_name": "depth", "units": "m", "positive": "up", "standard_name": "depth", "bounds": "Z_bnds", {c}"#
                    ),
                ),
            ]),
            latlon_coordinates: list(&[
                entry("time", &time(r#""axis": "T", "#)),
                entry(
                    "latitude",
                    &format!(
                        r#""units": "degrees_north", "standard_name": "latitude", "long_name": "l", "axis": "Y", {c}"#
                    ),
                ),
            ]),
            time_coordinates: list(&[
                entry("time", &time(r#""axis": "T", "comment": "", "#)),
                entry("time_bnds", &bounds.replace("\"c\"", "\"Start and end.\"")),
            ]),
            ..Metadata::default()
        }
    }

    fn names(attributes: &Attributes) -> Vec<&str> {
        attributes.iter().map(|(name, _)| name.as_str()).collect()
    }

    // The orders in which EDP writes them.

    #[test]
    fn native_coordinates_begin_with_what_the_reader_leaves() {
        let of = |name| describe(&metadata(), GridKind::Native, name);
        let end = ["comment", "coverage_content_type"];
        assert_eq!(names(&of("i_g")), [&["axis", "long_name", "c_grid_axis_shift", "swap_dim"][..], &end].concat());
        let wanted =
            ["long_name", "units", "coordinate", "bounds", "comment", "coverage_content_type", "standard_name"];
        assert_eq!(names(&of("XC")), wanted);
        assert_eq!(names(&of("Z"))[..4], ["long_name", "units", "positive", "bounds"]);
        assert_eq!(attribute::get(&of("XC"), "coordinate").unwrap().text(), Some("YC XC"));
        assert_eq!(names(&of("k_p1")), ["axis", "c_grid_axis_shift", "swap_dim"], "what has no text is left out");
    }

    #[test]
    fn latlon_coordinates_are_alphabetical() {
        let wanted = ["axis", "coverage_content_type", "long_name", "standard_name", "units"];
        assert_eq!(names(&describe(&metadata(), GridKind::Latlon, "latitude")), wanted);
    }

    #[test]
    fn time_ends_with_units_and_calendar() {
        let of = |grid| describe_time(&metadata(), grid, Some("center time"), "hours since 1992-01-01T12:00:00");
        let latlon = ["axis", "bounds", "coverage_content_type", "long_name", "standard_name", "comment"];
        assert_eq!(names(&of(GridKind::Latlon)), [&latlon[..], &["units", "calendar"]].concat());
        let native = ["bounds", "coverage_content_type", "long_name", "standard_name", "axis", "comment"];
        assert_eq!(names(&of(GridKind::Native)), [&native[..], &["units", "calendar"]].concat());
        assert_eq!(attribute::get(&of(GridKind::Native), "long_name").unwrap().text(), Some("center time"));
    }

    #[test]
    fn bounds_keep_only_what_their_parent_does_not_say() {
        let metadata = metadata();
        let parent = describe(&metadata, GridKind::Native, "XC");
        let bounds = describe_bounds(&metadata, GridKind::Native, "XC_bnds", &parent);
        assert_eq!(names(&bounds), ["coverage_content_type", "long_name"]);
        let time = describe_time(&metadata, GridKind::Native, None, "hours since 1992-01-01T12:00:00");
        let bounds = describe_bounds(&metadata, GridKind::Native, "time_bnds", &time);
        assert_eq!(names(&bounds), ["comment", "coverage_content_type", "long_name"]);
        assert_eq!(bounds[0].1.text(), Some("Start and end."));
    }

    #[test]
    fn corrected_coordinates_follow_the_conventions() {
        let metadata = metadata();
        let of = |name: &str| {
            let mut attributes = describe(&metadata, GridKind::Native, name);
            correct(name, name != "Z", &mut attributes);
            attributes
        };
        let text = |attributes: &Attributes, name: &str| {
            attribute::get(attributes, name).and_then(Value::text).map(str::to_owned)
        };
        assert_eq!(text(&of("i_g"), "units").as_deref(), Some("1"));
        assert_eq!(text(&of("i_g"), "positive"), None);
        assert_eq!(text(&of("k_p1"), "positive").as_deref(), Some("down"));
        assert_eq!(text(&of("Z"), "standard_name").as_deref(), Some("height_above_mean_sea_level"));
        let mut time = describe_time(&metadata, GridKind::Latlon, None, "hours since 1992-01-01T12:00:00");
        assert!(attribute::get(&time, "comment").is_some());
        correct("time", true, &mut time);
        assert!(attribute::get(&time, "comment").is_none(), "an empty text");
        let mut bounds =
            vec![("comment".to_owned(), Value::from("Corners.")), ("long_name".to_owned(), Value::from("x"))];
        let mut parent = of("XC");
        correct_bounds(&mut bounds, Some(&mut parent));
        assert!(bounds.is_empty());
        assert_eq!(text(&parent, "comment").as_deref(), Some("uneven. Corners."));
    }

    #[test]
    fn edge_points_have_a_name_of_their_own_and_no_bounds() {
        let of = describe_edge(&metadata(), "XU");
        assert!(attribute::get(&of, "bounds").is_none());
        assert!(attribute::get(&of, "long_name").unwrap().text().unwrap().contains("'u' points"));
        assert_eq!(attribute::get(&of, "coordinate").unwrap().text(), Some("YU XU"));
    }
}
