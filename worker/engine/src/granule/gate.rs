//! The gate: the check of a closed file before it is committed.
//!
//! Values are checked before they are compressed (see [`super::field`]). Here the file is opened again, and its
//! structure is compared with the content from which it was written.

use super::chunks::{self, ChunkError};
use super::content::{Attributes, GranuleContent, Storage, Type, Variable};
use super::file::{self, Written};
use crate::libraries;
use edp_protocol::wire;
use netcdf::AttributeValue;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// The reason why a file does not pass.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The error of the netCDF library.
        source: netcdf::Error,
    },
    /// The chunk index of the file cannot be read.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The file can be read, but is not as it should be.
    #[error("{path}: does not pass the gate: {}", .violations.join("; "))]
    Violations {
        /// Path of the file.
        path: PathBuf,
        /// Descriptions of all differences.
        violations: Vec<String>,
    },
}

/// Opens a file and compares its structure with the content and the chunks from which it was written: dimensions,
/// types, fill values, filters, attributes, chunk index and sizes, the existence of every chunk that the shape of a
/// variable requires (the writer may have omitted some), and the values of everything that is stored contiguously
/// (time, bounds, coordinates). Returns the places of the chunks.
///
/// # Errors
/// Returns an error if the file cannot be read, or [`GateError::Violations`] with all differences.
pub fn check(path: &Path, dataset: &GranuleContent, written: &Written) -> Result<Vec<wire::ChunkPlaces>, GateError> {
    let mut violations = Vec::new();
    let read = |source| GateError::Read { path: path.into(), source };
    {
        let found = libraries::open(path).map_err(read)?;
        let lengths: Vec<_> = found.dimensions().map(|d| (d.name(), d.len())).collect();
        if lengths != dataset.dimensions {
            violations.push(format!("dimensions are {lengths:?}, should be {:?}", dataset.dimensions));
        }
        let globals = found.attributes().filter(|attribute| attribute.name() != "_NCProperties");
        compare(&mut violations, "global", globals, &dataset.attributes).map_err(read)?;
        let names: Vec<_> = found.variables().map(|v| v.name()).collect();
        if !names.iter().eq(dataset.variables.iter().map(|v| &v.name)) {
            violations.push(format!("variables are {names:?}"));
        }
        for variable in &dataset.variables {
            if let Some(found) = found.variable(&variable.name) {
                check_variable(&mut violations, &found, variable).map_err(read)?;
            }
        }
    }
    let chunked: Vec<&Variable> =
        dataset.variables.iter().filter(|variable| matches!(variable.storage, Storage::Chunked(..))).collect();
    let names: Vec<&str> = chunked.iter().map(|variable| variable.name.as_str()).collect();
    let length = std::fs::metadata(path).map_err(|e| read(e.to_string().into()))?.len();
    let mut places = Vec::new();
    for (variable, layout) in chunked.into_iter().zip(chunks::layouts(path, &names)?) {
        check_chunks(
            &mut violations,
            variable,
            written.get(&variable.name).map_or(&[], Vec::as_slice),
            &layout,
            length,
        );
        places.push(layout.places(&variable.name));
    }
    if violations.is_empty() { Ok(places) } else { Err(GateError::Violations { path: path.into(), violations }) }
}

fn check_variable(
    violations: &mut Vec<String>,
    found: &netcdf::Variable<'_>,
    variable: &Variable,
) -> netcdf::Result<()> {
    let name = &variable.name;
    let wanted_type = match variable.data_type() {
        Type::I8 => netcdf::types::NcVariableType::Int(netcdf::types::IntType::I8),
        Type::I32 => netcdf::types::NcVariableType::Int(netcdf::types::IntType::I32),
        Type::F32 => netcdf::types::NcVariableType::Float(netcdf::types::FloatType::F32),
        Type::F64 => netcdf::types::NcVariableType::Float(netcdf::types::FloatType::F64),
    };
    if found.vartype() != wanted_type {
        violations.push(format!("{name}: its type is {:?}, should be {wanted_type:?}", found.vartype()));
        return Ok(()); // nothing else can be read with the expected type
    }
    let mut differ = |what: &str, found: String, wanted: String| {
        if found != wanted {
            violations.push(format!("{name}: {what} is {found}, should be {wanted}"));
        }
    };
    let dimensions: Vec<String> = found.dimensions().iter().map(|d| d.name()).collect();
    differ("its dimensions", format!("{dimensions:?}"), format!("{:?}", variable.dimensions));
    let fill = match variable.data_type() {
        Type::I8 => found.fill_value::<i8>()?.map(f64::from),
        Type::I32 => found.fill_value::<i32>()?.map(f64::from),
        Type::F32 => found.fill_value::<f32>()?.map(f64::from),
        Type::F64 => found.fill_value::<f64>()?,
    };
    let has_fill = found.attribute("_FillValue").is_some();
    let wanted = variable.fill.map(|fill| match variable.data_type() {
        Type::I8 => f64::from(fill as i8),
        Type::I32 => f64::from(fill as i32),
        Type::F32 => f64::from(fill as f32),
        Type::F64 => fill,
    });
    differ("its fill value", format!("{:?}", fill.filter(|_| has_fill)), format!("{wanted:?}"));
    let shape = match &variable.storage {
        Storage::Contiguous(_) => None,
        Storage::Chunked(_, chunked) => Some(chunked.shape.clone()),
    };
    differ("its chunk shape", format!("{:?}", found.chunking()?), format!("{shape:?}"));
    compare(violations, name, found.attributes(), &variable.attributes)?;
    if let Storage::Contiguous(values) = &variable.storage {
        let same = match values {
            super::content::Values::I8(values) => found.get_values::<i8, _>(..)?[..] == values[..],
            super::content::Values::I32(values) => found.get_values::<i32, _>(..)?[..] == values[..],
            super::content::Values::F64(values) => {
                let found = found.get_values::<f64, _>(..)?;
                found.len() == values.len() && found.iter().zip(values.iter()).all(|(a, b)| a.to_bits() == b.to_bits())
            }
            super::content::Values::F32(values) => {
                // Bits, so that a NaN in a coordinate compares equal to itself.
                let found = found.get_values::<f32, _>(..)?;
                found.len() == values.len() && found.iter().zip(values.iter()).all(|(a, b)| a.to_bits() == b.to_bits())
            }
        };
        if !same {
            violations.push(format!("{name}: the values in the file are not those written"));
        }
    }
    Ok(())
}

/// Compares attributes with the expected ones: their names, the types in which they are stored, and their values.
fn compare<'a>(
    violations: &mut Vec<String>,
    place: &str,
    found: impl Iterator<Item = netcdf::Attribute<'a>>,
    wanted: &Attributes,
) -> netcdf::Result<()> {
    let mut values = BTreeMap::new();
    // The fill value is compared separately.
    for attribute in found.filter(|attribute| attribute.name() != "_FillValue") {
        values.insert(attribute.name().to_owned(), attribute.value()?);
    }
    let names: BTreeSet<&str> = values.keys().map(String::as_str).collect();
    for name in names.symmetric_difference(&wanted.iter().map(|(name, _)| name.as_str()).collect()) {
        violations.push(format!("{place}: attribute {name} is missing or not wanted"));
    }
    for (name, value) in wanted {
        let Some(found) = values.remove(name) else { continue };
        let (stored, planned) = (stored_as(&found), stored_as(&file::attribute_value(value)));
        if stored != planned {
            violations.push(format!("{place}: attribute {name} is stored as {stored}, should be {planned}"));
            continue;
        }
        // An empty text is stored as one NUL character and read back as empty.
        match file::attribute_from(found) {
            Some(other) if other.is_same(value) => {}
            other => violations.push(format!("{place}: attribute {name} is {other:?}, should be {value:?}")),
        }
    }
    Ok(())
}

/// Describes the type in which an attribute is stored.
fn stored_as(value: &AttributeValue) -> &'static str {
    use AttributeValue as V;
    match value {
        V::Str(_) => "characters",
        V::Strs(texts) if texts.len() == 1 => "a string",
        V::Strs(_) => "several strings",
        V::Float(_) | V::Floats(_) => "numbers of single precision",
        V::Double(_) | V::Doubles(_) => "numbers of double precision",
        V::Int(_) | V::Ints(_) => "integers of 32 bits",
        _ => "a type that granules do not use",
    }
}

fn check_chunks(
    violations: &mut Vec<String>,
    variable: &Variable,
    written: &[(Vec<u64>, u64)],
    layout: &chunks::Layout,
    length: u64,
) {
    let Storage::Chunked(_, chunked) = &variable.storage else { return };
    let (name, stored) = (&variable.name, &layout.chunks);
    let filters = chunked.codec.filters();
    if layout.filters != filters {
        violations.push(format!("{name}: its filters are {:?}, should be {filters:?}", layout.filters));
    }
    if let Some(what) = layout.missing() {
        violations.push(format!("{name}: {what}"));
    }
    if stored.len() != written.len() {
        violations.push(format!("{name}: {} chunks in the file, should be {}", stored.len(), written.len()));
    }
    let by_offset: HashMap<_, _> = stored.iter().map(|chunk| (&chunk.offset, chunk)).collect();
    for (offset, size) in written {
        match by_offset.get(offset) {
            None => violations.push(format!("{name}: no chunk at {offset:?}")),
            Some(found) if found.size != *size || found.filter_mask != 0 => {
                violations.push(format!("{name}: chunk at {offset:?} has another size or filters"));
            }
            Some(found) if found.address.checked_add(found.size).is_none_or(|end| end > length) => {
                violations.push(format!("{name}: chunk at {offset:?} lies beyond the end of the file"));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::super::content::{Value, Values};
    use super::super::file::Writer;
    use super::super::file::tests::{sample, write};
    use super::*;

    fn violations(path: &Path, dataset: &GranuleContent, written: &Written) -> Vec<String> {
        match check(path, dataset, written) {
            Err(GateError::Violations { violations, .. }) => violations,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_written_passes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.nc");
        let written = write(&path, &sample()).unwrap();
        let places = check(&path, &sample(), &written).unwrap();
        let [ssh] = &places[..] else { panic!("{places:?}") };
        assert_eq!((ssh.variable.as_str(), ssh.places.len()), ("SSH", 4));
        let sizes: Vec<u64> = written["SSH"].iter().map(|(_, size)| *size).collect();
        assert_eq!(ssh.places.iter().map(|(_, size)| *size).collect::<Vec<_>>(), sizes);
    }

    #[test]
    fn each_difference_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.nc");
        let written = write(&path, &sample()).unwrap();
        type Change = fn(&mut GranuleContent);
        let changes: [(&str, Change); 9] = [
            ("dimensions", |d| d.dimensions[1].1 = 5),
            ("global: attribute title", |d| d.attributes[0].1 = Value::from("other")),
            ("global: attribute extra", |d| d.attributes.push(("extra".into(), Value::from("x")))),
            ("SSH: attribute actual_range", |d| d.variables[1].attributes[0].1 = Value::F32(vec![1.0, 24.0])),
            ("time: the values", |d| d.variables[0].storage = Storage::Contiguous(Values::I32([367].into()))),
            ("SSH: its fill value", |d| d.variables[1].fill = Some(0.0)),
            ("SSH: its dimensions", |d| d.variables[1].dimensions.swap(1, 2)),
            ("SSH: its filters", |d| relevel(&mut d.variables[1])),
            ("SSH: its type", |d| retype(&mut d.variables[1])),
        ];
        for (want, change) in changes {
            let mut dataset = sample();
            change(&mut dataset);
            let found = violations(&path, &dataset, &written);
            assert!(found.iter().any(|v| v.starts_with(want)), "{want}: {found:?}");
        }
        type Other = fn(&mut Vec<(Vec<u64>, u64)>);
        let others: [(&str, Other); 3] = [
            ("SSH: no chunk at [0, 9, 0]", |chunks| chunks[2].0[1] = 9),
            ("SSH: chunk at [0, 0, 0] has another size", |chunks| chunks[0].1 += 1),
            ("SSH: 4 chunks in the file, should be 3", |chunks| drop(chunks.pop())),
        ];
        for (want, change) in others {
            let mut written = written.clone();
            change(written.get_mut("SSH").unwrap());
            let found = violations(&path, &sample(), &written);
            assert!(found.iter().any(|v| v.starts_with(want)), "{want}: {found:?}");
        }
    }

    #[test]
    fn chunks_that_nobody_wrote_are_missed() {
        let dir = tempfile::tempdir().unwrap();
        let Storage::Chunked(_, chunked) = &sample().variables[1].storage else { panic!() };
        let chunks = chunked.chunks.clone().unwrap();
        for (left, want) in
            [(0, "SSH: 0 of 4 chunks are there, none at [0, 0, 0]"), (3, "SSH: 3 of 4 chunks are there")]
        {
            let path = dir.path().join(format!("{left}.nc"));
            std::fs::File::create(&path).unwrap();
            let mut writer = Writer::create(&path, &sample()).unwrap();
            writer.write("SSH", &chunks[..left]).unwrap();
            let written = writer.close().unwrap(); // agrees with the content of the file
            let found = violations(&path, &sample(), &written);
            assert!(found.len() == 1 && found[0].starts_with(want), "{found:?}");
        }
    }

    #[test]
    fn attributes_of_other_types_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.nc");
        let written = write(&path, &sample()).unwrap();
        let wanted = sample().attributes[0].1.text().unwrap().to_owned();
        let others = [
            (AttributeValue::Strs(vec![wanted.clone()]), "a string"),
            (AttributeValue::Strs(vec![wanted.clone(), "more".into()]), "several strings"),
            (AttributeValue::Short(3), "a type that granules do not use"),
            (AttributeValue::Double(3.0), "numbers of double precision"),
        ];
        for (value, kind) in others {
            netcdf::append(&path).unwrap().add_attribute("title", value).unwrap();
            let found = violations(&path, &sample(), &written);
            let problem = format!("global: attribute title is stored as {kind}, should be characters");
            assert!(found.contains(&problem), "{found:?}");
        }
        netcdf::append(&path).unwrap().add_attribute("title", wanted).unwrap();
        check(&path, &sample(), &written).unwrap();
        let mut file = netcdf::append(&path).unwrap();
        file.variable_mut("SSH").unwrap().put_attribute("actual_range", vec![1.0_f64, 23.0]).unwrap();
        drop(file);
        let found = violations(&path, &sample(), &written);
        let problem =
            "SSH: attribute actual_range is stored as numbers of double precision, should be numbers of single";
        assert!(found.len() == 1 && found[0].starts_with(problem), "{found:?}");
    }

    fn retype(variable: &mut Variable) {
        let Storage::Chunked(data_type, _) = &mut variable.storage else { panic!() };
        *data_type = Type::F64;
    }

    fn relevel(variable: &mut Variable) {
        let Storage::Chunked(_, chunked) = &mut variable.storage else { panic!() };
        chunked.codec.compressor = crate::codec::Compressor::Deflate(6);
    }

    #[test]
    fn a_truncated_file_does_not_pass() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.nc");
        let written = write(&path, &sample()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(matches!(check(&path, &sample(), &written), Err(GateError::Read { .. })));
    }
}
