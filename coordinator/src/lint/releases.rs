//! The differences of the metadata from those of another release.

use super::Defects;
use super::metadata_files::MetadataFiles;
use edp_engine::metadata::groupings::Grouping;
use edp_engine::metadata::source::Metadata;
use std::collections::BTreeSet;

/// Compares the datasets and the entries of variables with those of another release.
pub(super) fn check(
    (files, metadata): (&MetadataFiles, &Metadata),
    (others, other): (&MetadataFiles, &Metadata),
    defects: &mut Defects,
) {
    let of_other = others.directory();
    let mut pairs: Vec<(String, &[Grouping], &[Grouping])> = metadata
        .on_grids()
        .map(|(grid, own)| {
            let theirs = other.groupings.get(&grid).map_or(&[][..], Vec::as_slice);
            (files.groupings(grid.as_str()), own.as_slice(), theirs)
        })
        .collect();
    pairs.push((files.groupings("1d"), metadata.series(), other.series()));
    for (file, own, theirs) in pairs {
        datasets(&file, own, theirs, &of_other, defects);
    }
    let directory = files.directory();
    for entry in &metadata.variables.0 {
        let Some(theirs) = other.variables.find(&entry.name) else { continue };
        let text = |key| (entry.text(key).unwrap_or_default(), theirs.text(key).unwrap_or_default());
        if let (own, theirs) = text("units")
            && own != theirs
        {
            let message = format!("its units are '{own}' here and '{theirs}' in {of_other}");
            defects.warning(&directory, format!("variable {}", entry.name), message);
        }
        for key in ["standard_name", "grid_location", "grid_dimension", "direction"] {
            let (own, theirs) = text(key);
            if own.trim() != theirs.trim() {
                let message = format!("its {key} is '{own}' here and '{theirs}' in {of_other}");
                defects.note(&directory, format!("variable {}", entry.name), message);
            }
        }
    }
}

/// Compares the datasets of one grid.
fn datasets(file: &str, own: &[Grouping], theirs: &[Grouping], of_other: &str, defects: &mut Defects) {
    let position = |all: &[Grouping], name: &str| all.iter().position(|grouping| grouping.filename == name);
    let moved = own
        .iter()
        .enumerate()
        .filter(|(index, grouping)| position(theirs, &grouping.filename).is_some_and(|other| other != *index));
    let moved = moved.count();
    if moved > 0 {
        let message =
            format!("{moved} datasets have another index than in {of_other}: job files are not interchangeable");
        defects.note(file, "", message);
    }
    for (index, grouping) in own.iter().enumerate() {
        let place = super::datasets::place(index, grouping);
        let Some(other) = position(theirs, &grouping.filename).and_then(|at| theirs.get(at)) else {
            defects.note(file, place, format!("there is no such dataset in {of_other}"));
            continue;
        };
        let (here, there): (BTreeSet<_>, BTreeSet<_>) =
            (grouping.fields.iter().collect(), other.fields.iter().collect());
        let names = |fields: Vec<&&String>| fields.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        for (fields, what) in [
            (here.difference(&there).collect::<Vec<_>>(), "are new"),
            (there.difference(&here).collect(), "are no longer there"),
        ] {
            if !fields.is_empty() {
                defects.note(
                    file,
                    format!("{place}, key fields"),
                    format!("against {of_other}, {what}: {}", names(fields)),
                );
            }
        }
        if (&grouping.dimension, &grouping.frequencies) != (&other.dimension, &other.frequencies) {
            let words = |grouping: &Grouping| {
                let words: Vec<&str> = grouping.frequencies.iter().map(|frequency| frequency.job_word()).collect();
                format!(
                    "{} at {}",
                    grouping.dimension,
                    if words.is_empty() { "no frequency".into() } else { words.join(", ") }
                )
            };
            defects.note(file, place, format!("it is {} here and {} in {of_other}", words(grouping), words(other)));
        }
    }
    for gone in theirs.iter().filter(|other| position(own, &other.filename).is_none()) {
        defects.note(file, "", format!("{} of {of_other} is no longer there", gone.filename));
    }
}
