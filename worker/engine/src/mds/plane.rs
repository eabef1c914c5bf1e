//! The values of a level, or of all levels of a record.

/// Values in the order of the file, in native byte order.
#[derive(Debug, Clone, PartialEq)]
pub enum Plane {
    /// Values of a file with 4-byte numbers.
    F32(Vec<f32>),
    /// Values of a file with 8-byte numbers.
    F64(Vec<f64>),
}

impl Plane {
    /// Returns the number of values.
    pub fn len(&self) -> usize {
        match self {
            Plane::F32(values) => values.len(),
            Plane::F64(values) => values.len(),
        }
    }

    /// Returns true if there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the values as 4-byte numbers, rounded if they have 8 bytes.
    #[allow(clippy::cast_possible_truncation)]
    pub fn into_f32(self) -> Vec<f32> {
        match self {
            Plane::F32(values) => values,
            Plane::F64(values) => values.into_iter().map(|value| value as f32).collect(),
        }
    }
}
