//! Attributes of coordinates and bounds (specification 04, section 9).

use super::attribute::{self, Attributes, Value};
use super::source::Metadata;
use super::variable::overlay;
use edp_protocol::GridKind;

/// Keys of a coordinate's entry that are no attributes.
const NOT_WRITTEN: [&str; 2] = ["name", "grid_dimension"];

/// Attributes that a bounds variable inherits from its parent, so that equal ones are not written twice.
const INHERITED: [&str; 9] =
    ["units", "standard_name", "axis", "positive", "calendar", "long_name", "leap_month", "leap_year", "month_lengths"];

/// Attributes of a coordinate, time excepted, in file order.
pub fn describe(metadata: &Metadata, grid: GridKind, name: &str) -> Attributes {
    let mut attributes = match grid {
        GridKind::Native => native_start(name),
        GridKind::Latlon => Vec::new(),
    };
    let entries = match grid {
        GridKind::Native => &metadata.native_coordinates,
        GridKind::Latlon => &metadata.latlon_coordinates,
    };
    if let Some(entry) = entries.find(name) {
        overlay(&mut attributes, entry, &NOT_WRITTEN);
    }
    attributes.retain(|(_, value)| *value != Value::Text(TO_BE_SET.into()));
    attributes
}

/// Attributes of a bounds variable: those of its entry that say something else than the parent's.
pub fn describe_bounds(metadata: &Metadata, grid: GridKind, name: &str, parent: &Attributes) -> Attributes {
    let mut attributes = describe(metadata, grid, name);
    if name == "time_bnds" {
        if let Some(entry) = metadata.time_coordinates.find(name) {
            overlay(&mut attributes, entry, &NOT_WRITTEN);
        }
        attribute::remove(&mut attributes, "units");
        attribute::remove(&mut attributes, "calendar");
    }
    attributes
        .retain(|(key, value)| !(INHERITED.contains(&key.as_str()) && attribute::get(parent, key) == Some(value)));
    attributes
}

/// Attributes of the time coordinate: the grid's entry, the entry for time on top, then units and calendar.
pub fn describe_time(metadata: &Metadata, grid: GridKind, long_name: Option<&str>, units: &str) -> Attributes {
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

/// Stands where EDP's reader leaves a text that the metadata always replace; dropped if they do not.
const TO_BE_SET: &str = "\0to be set";

/// What EDP's reader of model output leaves on native coordinates, before the metadata come.
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

/// Attributes of `XU`, `YU`, `XV`, `YV`: those of the cell centre, with a long name of their own and no bounds.
pub fn describe_edge(metadata: &Metadata, name: &str) -> Attributes {
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
