//! The groupings: each dataset by itself, and its variables with their entries.

use super::Defects;
use super::metadata_files::MetadataFiles;
use edp_engine::metadata::groupings::Grouping;
use edp_engine::metadata::source::Metadata;
use edp_engine::metadata::variable;
use edp_protocol::GridKind;
use std::collections::{HashMap, HashSet};

/// Checks the groupings of all grids.
pub(super) fn check(files: &MetadataFiles, metadata: &Metadata, defects: &mut Defects) {
    for (grid, groupings) in metadata.on_grids() {
        let file = files.groupings(grid.as_str());
        check_each(&file, groupings, defects);
        let components = components(groupings);
        for (index, grouping) in groupings.iter().enumerate() {
            let place = place(index, grouping);
            check_fields(&file, &place, grouping, (grid, metadata), defects);
            if grid == GridKind::Latlon {
                check_vectors(&file, &place, grouping, (metadata, &components), defects);
            }
        }
    }
    let file = files.groupings("1d");
    check_each(&file, metadata.series(), defects);
    let known: HashSet<String> = files
        .entries("variable_metadata_for_1D_datasets.")
        .into_iter()
        .flat_map(|(_, entries)| entries.0)
        .map(|entry| entry.name)
        .collect();
    for (index, grouping) in metadata.series().iter().enumerate() {
        let without = grouping.fields.iter().filter(|field| !known.contains(*field)).map(String::as_str).collect();
        report_unknown(&file, &place(index, grouping), without, defects);
    }
}

/// Returns the place of a grouping: its index, as in job files, and the first part of its granules' names.
pub(super) fn place(index: usize, grouping: &Grouping) -> String {
    format!("entry {index} ({})", grouping.filename)
}

/// Checks what needs nothing but the groupings of a grid.
fn check_each(file: &str, groupings: &[Grouping], defects: &mut Defects) {
    let mut of_names: HashMap<(&str, &str), usize> = HashMap::new();
    for (index, grouping) in groupings.iter().enumerate() {
        let place = place(index, grouping);
        let invariant = grouping.time_invariant.then_some("TIME-INVARIANT");
        let words: Vec<&str> =
            grouping.frequencies.iter().map(|frequency| frequency.job_word()).chain(invariant).collect();
        if words.is_empty() {
            let message =
                "it has no frequency, so that no job file is made for it, and no row of the archive is asked for";
            defects.warning(file, place.as_str(), message);
        }
        for word in words {
            if let Some(other) = of_names.insert((&grouping.filename, word), index) {
                let message =
                    format!("entry {other} has the same filename and {word} too: granules of both have the same names");
                defects.error(file, place.as_str(), message);
            }
        }
        if grouping.name.trim() != grouping.name || grouping.name.trim().is_empty() {
            defects.note(file, format!("{place}, key name"), "it is empty, or blanks stand around it");
        }
    }
}

/// Checks the entries of a dataset's variables.
fn check_fields(
    file: &str,
    place: &str,
    grouping: &Grouping,
    (grid, metadata): (GridKind, &Metadata),
    defects: &mut Defects,
) {
    let (mut unknown, mut of_others) = (Vec::new(), Vec::new());
    for field in &grouping.fields {
        let output = grouping.rename.as_ref().filter(|(old, _)| old == field).map_or(field, |(_, new)| new);
        let described = match grouping.time_invariant {
            true => variable::describe_invariant(metadata, grid, output),
            false => variable::describe(metadata, grid, output),
        };
        if !described.known {
            unknown.push(output.as_str());
            continue;
        }
        let entry = metadata.latlon_variables.find(output).filter(|_| grid == GridKind::Latlon);
        let entry = entry.or_else(|| metadata.variables.find(output));
        if let Some(dimension) = entry.and_then(|entry| entry.text("grid_dimension"))
            && !dimension.contains(&grouping.dimension)
        {
            of_others.push(format!("{output} ({dimension})"));
        }
    }
    if !of_others.is_empty() {
        let message = format!(
            "the dataset is {}, but not by the grid_dimension in the variable metadata: {}",
            grouping.dimension,
            of_others.join(", ")
        );
        defects.warning(file, format!("{place}, key fields"), message);
    }
    report_unknown(file, place, unknown, defects);
}

fn report_unknown(file: &str, place: &str, names: Vec<&str>, defects: &mut Defects) {
    if !names.is_empty() {
        let message =
            format!("no entry in the variable metadata for {}: written without name and units", names.join(", "));
        defects.error(file, format!("{place}, key fields"), message);
    }
}

/// Returns the variables that are components of vectors anywhere, with the outputs made of them.
fn components(groupings: &[Grouping]) -> HashMap<&str, &str> {
    let all = groupings.iter().filter_map(|grouping| grouping.components.as_ref()).flatten();
    all.flat_map(|(output, of)| [(of.x.as_str(), output.as_str()), (of.y.as_str(), output.as_str())]).collect()
}

/// Reports components of vectors that stand on the model's axes, but would be mapped as if they were scalars.
fn check_vectors(
    file: &str,
    place: &str,
    grouping: &Grouping,
    (metadata, components): (&Metadata, &HashMap<&str, &str>),
    defects: &mut Defects,
) {
    let rotated = |field: &str| grouping.components.as_ref().is_some_and(|all| all.contains_key(field));
    for field in grouping.fields.iter().filter(|field| !rotated(field)) {
        let location = variable::describe(metadata, GridKind::Latlon, field).grid_location;
        let is_on_a_face = location.is_some_and(|point| point == "u" || point == "v");
        let why = match components.get(field.as_str()) {
            Some(output) => format!("{output} is made of it elsewhere"),
            None if is_on_a_face => "it lies on cell faces by its entry".to_owned(),
            None => continue,
        };
        let message = format!("{field} is mapped without rotation, although it stands on the axes of the model: {why}");
        defects.warning(file, format!("{place}, key fields"), message);
    }
    let wanted = grouping.components.iter().flatten();
    let unknown: Vec<&str> = wanted
        .flat_map(|(_, of)| [of.x.as_str(), of.y.as_str()])
        .filter(|name| !variable::describe(metadata, GridKind::Native, name).known)
        .collect();
    let unknown: HashSet<&str> = unknown.into_iter().collect();
    let mut unknown: Vec<&str> = unknown.into_iter().collect();
    unknown.sort_unstable();
    if !unknown.is_empty() {
        let message = format!("no entry in the variable metadata for the components {}", unknown.join(", "));
        defects.note(file, format!("{place}, key field_components"), message);
    }
}
