//! The content of a NetCDF file in memory: dimensions, variables and attributes in the order in which they are written.

use crate::codec::Codec;
use std::sync::Arc;

pub use crate::metadata::attribute::{Attributes, Value, get, set};

/// Type of the values of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Signed integers of 8 bits, for masks.
    I8,
    /// Signed integers of 32 bits.
    I32,
    /// Floating-point numbers of single precision.
    F32,
    /// Floating-point numbers of double precision.
    F64,
}

/// Values of a variable in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Signed integers of 8 bits.
    I8(Arc<[i8]>),
    /// Signed integers of 32 bits.
    I32(Arc<[i32]>),
    /// Floating-point numbers of single precision.
    F32(Arc<[f32]>),
    /// Floating-point numbers of double precision.
    F64(Arc<[f64]>),
}

impl Values {
    /// Returns the number of values.
    pub fn len(&self) -> usize {
        match self {
            Values::I8(values) => values.len(),
            Values::I32(values) => values.len(),
            Values::F32(values) => values.len(),
            Values::F64(values) => values.len(),
        }
    }

    /// Returns true if there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Type of the values.
    pub fn data_type(&self) -> Type {
        match self {
            Values::I8(_) => Type::I8,
            Values::I32(_) => Type::I32,
            Values::F32(_) => Type::F32,
            Values::F64(_) => Type::F64,
        }
    }
}

/// One compressed chunk, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Index of the chunk's first element in each dimension.
    pub offset: Vec<u64>,
    /// The bytes after all filters.
    pub bytes: Vec<u8>,
}

/// The chunks of a variable, and the filters by which they are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunked {
    /// Number of elements of a chunk in each dimension. Chunks at the edges are padded to it.
    pub shape: Vec<usize>,
    /// Codec by which they are compressed.
    pub codec: Codec,
    /// Every chunk, in row-major order of the offsets, if they are made before the file is begun; shared, since static
    /// coordinates are made once. None if they are made while the file is written.
    pub chunks: Option<Arc<Vec<Chunk>>>,
}

/// The storage of a variable's values in the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Storage {
    /// One contiguous block of plain values.
    Contiguous(Values),
    /// Chunks that are stored with filters.
    Chunked(Type, Chunked),
}

/// One variable of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// Name of the variable.
    pub name: String,
    /// Names of the dimensions, the slowest first.
    pub dimensions: Vec<String>,
    /// Fill value, for data variables.
    pub fill: Option<f64>,
    /// Attributes without `_FillValue`, which precedes them if there is one.
    pub attributes: Attributes,
    /// The values, as they are stored.
    pub storage: Storage,
}

impl Variable {
    /// Type of the variable's values.
    pub fn data_type(&self) -> Type {
        match &self.storage {
            Storage::Contiguous(values) => values.data_type(),
            Storage::Chunked(data_type, _) => *data_type,
        }
    }
}

/// The content of a whole file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GranuleContent {
    /// Names and lengths of the dimensions. None of them is unlimited.
    pub dimensions: Vec<(String, usize)>,
    /// Variables in the order of the file.
    pub variables: Vec<Variable>,
    /// Global attributes in the order of the file.
    pub attributes: Attributes,
}

impl GranuleContent {
    /// Returns the length of a dimension.
    pub fn length(&self, dimension: &str) -> Option<usize> {
        self.dimensions.iter().find(|(name, _)| name == dimension).map(|(_, length)| *length)
    }

    /// Returns the lengths of the dimensions of a variable; `None` if one of them is not defined.
    pub fn shape(&self, variable: &Variable) -> Option<Vec<usize>> {
        variable.dimensions.iter().map(|name| self.length(name)).collect()
    }
}
