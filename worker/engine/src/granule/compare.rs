//! Comparison of a granule with another file that should have the same content: the attributes, and the values bit by
//! bit. How the values are compressed does not matter.

use super::content::Attributes;
use super::field::position;
use crate::reader::{Outline, OutlinedVariable, ReadError, ReaderSession, ValueKind};
use std::path::Path;

/// Number of dimensions whose values are read at once: those of a tile or a map, with the tiles.
const PLANE: usize = 3;

/// Returns the differences between a granule and the file `expected`, which is as it should be.
///
/// # Errors
/// Returns an error if one of the files cannot be read.
pub fn differences(granule: &Path, expected: &Path) -> Result<Vec<String>, ReadError> {
    let (mut found, mut wanted) = (ReaderSession::open(granule)?, ReaderSession::open(expected)?);
    let outlines = [found.outline()?, wanted.outline()?];
    let mut all = of_outlines(&outlines);
    for variable in &outlines[0].variables {
        let same = outlines[1].variables.iter().find(|other| {
            other.described.name == variable.described.name
                && other.described.dimensions == variable.described.dimensions
        });
        if same.is_some() && variable.kind != ValueKind::Other {
            all.extend(of_values(variable, [&mut found, &mut wanted])?);
        }
    }
    Ok(all)
}

/// Returns the differences in dimensions, variables and attributes.
fn of_outlines([found, wanted]: &[Outline; 2]) -> Vec<String> {
    let mut all = Vec::new();
    if found.dimensions != wanted.dimensions {
        all.push(format!("dimensions: {:?}, should be {:?}", found.dimensions, wanted.dimensions));
    }
    all.extend(of_attributes("", &found.attributes(), &wanted.attributes()));
    let named = |outline: &Outline, name: &str| -> Option<OutlinedVariable> {
        outline.variables.iter().find(|variable| variable.described.name == name).cloned()
    };
    for expected in &wanted.variables {
        let name = &expected.described.name;
        match named(found, name) {
            None => all.push(format!("{name}: missing")),
            Some(one) if one.described.dimensions != expected.described.dimensions || one.kind != expected.kind => {
                let (a, b) = (&one.described.dimensions, &expected.described.dimensions);
                all.push(format!("{name}: {:?} with {a:?}, should be {:?} with {b:?}", one.kind, expected.kind));
            }
            Some(one) => all.extend(of_attributes(&format!("{name}: "), &one.attributes(), &expected.attributes())),
        }
    }
    let unknown = found.variables.iter().filter(|one| named(wanted, &one.described.name).is_none());
    all.extend(unknown.map(|one| format!("{}: should not be there", one.described.name)));
    all
}

/// Returns the differences in attributes.
fn of_attributes(place: &str, found: &Attributes, wanted: &Attributes) -> Vec<String> {
    let text = |attributes: &Attributes, name: &str| {
        // NaN is equal to itself here.
        let value = attributes.iter().find(|(other, _)| other == name).map(|(_, value)| format!("{value:?}"));
        value.unwrap_or_else(|| "none".into())
    };
    let mut names: Vec<&String> = wanted.iter().chain(found).map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    let differs = |name: &&String| text(found, name) != text(wanted, name);
    let line =
        |name: &String| format!("{place}attribute {name}: {}, should be {}", text(found, name), text(wanted, name));
    names.into_iter().filter(differs).map(line).collect()
}

/// Returns the difference in the values of a variable, which has the same dimensions in both files.
fn of_values(variable: &OutlinedVariable, sessions: [&mut ReaderSession; 2]) -> Result<Option<String>, ReadError> {
    let [found, wanted] = sessions;
    let (described, shape) = (&variable.described, variable.described.shape());
    let (outer, inner) = shape.split_at(shape.len().saturating_sub(PLANE));
    let (mut differing, mut first) = (0_u64, None);
    let mut at = vec![0; outer.len()];
    if shape.contains(&0) {
        return Ok(None);
    }
    loop {
        let start: Vec<usize> = at.iter().copied().chain(inner.iter().map(|_| 0)).collect();
        let count: Vec<usize> = at.iter().map(|_| 1).chain(inner.iter().copied()).collect();
        let a: Vec<f64> = found.values(described, &start, &count)?;
        let b: Vec<f64> = wanted.values(described, &start, &count)?;
        for (cell, _) in a.iter().zip(&b).enumerate().filter(|(_, (a, b))| a.to_bits() != b.to_bits()) {
            differing += 1;
            first.get_or_insert_with(|| [at.clone(), position(cell, inner)].concat());
        }
        // The next index of the outer dimensions, the last one fastest.
        let Some(next) = (0..outer.len()).rev().find(|d| at[*d] + 1 < outer[*d]) else { break };
        at[next] += 1;
        at[next + 1..].fill(0);
    }
    let cells: usize = shape.iter().product();
    Ok(first.map(|first| {
        let name = &described.name;
        format!("{name}: {differing} of {cells} values differ from those that its inputs give, the first at {first:?}")
    }))
}
