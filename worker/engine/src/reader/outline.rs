//! All that a NetCDF file says of itself: dimensions, variables with their types, and attributes, without the values.

use crate::metadata::attribute::{Attributes, Value};
use netcdf::AttributeValue;
use netcdf::types::{FloatType, IntType, NcVariableType};
use serde::{Deserialize, Serialize};

/// The description of a variable of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// Name of the variable.
    pub name: String,
    /// Names and lengths of its dimensions, the slowest first.
    pub dimensions: Vec<(String, usize)>,
    /// Number of elements of a chunk in each dimension, if the variable is stored in chunks.
    pub chunk: Option<Vec<usize>>,
    /// The attribute `long_name`; empty if it is not a text.
    pub long_name: String,
    /// The attribute `units`; empty if it is not a text.
    pub units: String,
    /// The bits of the numbers in `_FillValue` and `missing_value`, which mark missing values.
    pub missing: Vec<u64>,
}

impl Described {
    /// Returns the lengths of the dimensions, the slowest first.
    pub fn shape(&self) -> Vec<usize> {
        self.dimensions.iter().map(|(_, length)| *length).collect()
    }

    /// Returns the numbers that mark missing values.
    pub fn missing(&self) -> Vec<f64> {
        self.missing.iter().map(|bits| f64::from_bits(*bits)).collect()
    }
}

/// A file without its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// Names and lengths of the dimensions, in the order of the file.
    pub dimensions: Vec<(String, usize)>,
    /// The variables, in the order of the file.
    pub variables: Vec<OutlinedVariable>,
    attributes: Vec<(String, Bits)>,
}

/// A variable without its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlinedVariable {
    /// Its name, dimensions and chunks, by which its values are asked for.
    pub described: Described,
    /// The kind of its values.
    pub kind: ValueKind,
    attributes: Vec<(String, Bits)>,
}

/// The kinds of values that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueKind {
    /// Truth values: 8-bit integers with the attribute `dtype` = `bool`, as xarray writes them.
    Flag,
    /// Integers of 32 or 64 bits.
    Integer,
    /// Shorter integers, with or without sign, and long ones without.
    OtherInteger,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// Characters, strings, and compound types.
    Other,
}

/// The value of an attribute, numbers by their bits, since JSON has neither NaN nor all digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Bits {
    Text(String),
    F32(Vec<u32>),
    F64(Vec<u64>),
    I32(Vec<i32>),
}

impl Outline {
    /// Reads the outline of an open file.
    ///
    /// # Errors
    /// The file is damaged, or has more variables, dimensions or attributes than `most`.
    pub(super) fn of(file: &netcdf::File, described: Vec<Described>, most: usize) -> netcdf::Result<Outline> {
        let mut variables = Vec::with_capacity(described.len());
        for described in described {
            let name = described.name.clone();
            let variable = file.variable(&name).ok_or(netcdf::Error::NotFound(name))?;
            let attributes = bits(variable.attributes(), most)?;
            let is_flag = attributes.iter().any(|(name, value)| name == "dtype" && *value == Bits::Text("bool".into()));
            let kind = match variable.vartype() {
                NcVariableType::Int(IntType::I8 | IntType::U8) if is_flag => ValueKind::Flag,
                NcVariableType::Int(IntType::I32 | IntType::I64) => ValueKind::Integer,
                NcVariableType::Int(_) => ValueKind::OtherInteger,
                NcVariableType::Float(FloatType::F32) => ValueKind::F32,
                NcVariableType::Float(FloatType::F64) => ValueKind::F64,
                _ => ValueKind::Other,
            };
            variables.push(OutlinedVariable { described, kind, attributes });
        }
        let dimensions: Vec<_> = file.dimensions().take(most + 1).map(|d| (d.name(), d.len())).collect();
        if dimensions.len() > most {
            return Err(format!("it claims more than {most} dimensions").into());
        }
        Ok(Outline { dimensions, variables, attributes: bits(file.attributes(), most)? })
    }

    /// The global attributes, in the order of the file.
    pub fn attributes(&self) -> Attributes {
        values(&self.attributes)
    }
}

impl OutlinedVariable {
    /// Its attributes, in the order of the file; those of types that granules do not use are left out.
    pub fn attributes(&self) -> Attributes {
        values(&self.attributes)
    }
}

fn values(attributes: &[(String, Bits)]) -> Attributes {
    let value = |bits: &Bits| match bits {
        Bits::Text(text) => Value::Text(text.clone()),
        Bits::F32(numbers) => Value::F32(numbers.iter().map(|bits| f32::from_bits(*bits)).collect()),
        Bits::F64(numbers) => Value::F64(numbers.iter().map(|bits| f64::from_bits(*bits)).collect()),
        Bits::I32(numbers) => Value::I32(numbers.clone()),
    };
    attributes.iter().map(|(name, bits)| (name.clone(), value(bits))).collect()
}

fn bits<'a>(
    attributes: impl Iterator<Item = netcdf::Attribute<'a>>,
    most: usize,
) -> netcdf::Result<Vec<(String, Bits)>> {
    let mut all = Vec::new();
    for attribute in attributes.filter(|attribute| !attribute.name().starts_with("_NC")) {
        if all.len() >= most {
            return Err(format!("it claims more than {most} attributes").into());
        }
        all.extend(of_value(attribute.value()?).map(|value| (attribute.name().to_owned(), value)));
    }
    Ok(all)
}

/// Returns the first number of an attribute; none if it is a text.
pub(super) fn first_number(value: AttributeValue) -> Option<f64> {
    match of_value(value)? {
        Bits::Text(_) => None,
        Bits::F32(numbers) => numbers.first().map(|bits| f32::from_bits(*bits).into()),
        Bits::F64(numbers) => numbers.first().map(|bits| f64::from_bits(*bits)),
        Bits::I32(numbers) => numbers.first().map(|number| f64::from(*number)),
    }
}

/// Returns the value of an attribute; long integers as double precision where they do not fit 32 bits, none of other types.
fn of_value(value: AttributeValue) -> Option<Bits> {
    use AttributeValue as V;
    let wide = |numbers: Vec<i64>| match numbers.iter().map(|number| i32::try_from(*number)).collect() {
        Ok(numbers) => Bits::I32(numbers),
        Err(_) => Bits::F64(numbers.iter().map(|number| (*number as f64).to_bits()).collect()),
    };
    Some(match value {
        V::Schar(number) => Bits::I32(vec![number.into()]),
        V::Schars(numbers) => Bits::I32(numbers.into_iter().map(i32::from).collect()),
        V::Uchar(number) => Bits::I32(vec![number.into()]),
        V::Uchars(numbers) => Bits::I32(numbers.into_iter().map(i32::from).collect()),
        V::Short(number) => Bits::I32(vec![number.into()]),
        V::Shorts(numbers) => Bits::I32(numbers.into_iter().map(i32::from).collect()),
        V::Ushort(number) => Bits::I32(vec![number.into()]),
        V::Ushorts(numbers) => Bits::I32(numbers.into_iter().map(i32::from).collect()),
        V::Uint(number) => wide(vec![number.into()]),
        V::Uints(numbers) => wide(numbers.into_iter().map(i64::from).collect()),
        V::Longlong(number) => wide(vec![number]),
        V::Longlongs(numbers) => wide(numbers),
        other => match crate::granule::file::attribute_from(other)? {
            Value::Text(text) => Bits::Text(text),
            Value::F32(numbers) => Bits::F32(numbers.into_iter().map(f32::to_bits).collect()),
            Value::F64(numbers) => Bits::F64(numbers.into_iter().map(f64::to_bits).collect()),
            Value::I32(numbers) => Bits::I32(numbers),
        },
    })
}
