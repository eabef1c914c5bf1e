//! A NetCDF file in memory: dimensions, variables and attributes in the order they are written.

use std::sync::Arc;

pub use crate::metadata::attribute::{Attributes, Value, get, set};

/// Type of the values of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// 32-bit integer.
    I32,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

/// Values of a variable in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// 32-bit integers.
    I32(Arc<[i32]>),
    /// Single precision numbers.
    F32(Arc<[f32]>),
    /// Double precision numbers.
    F64(Arc<[f64]>),
}

impl Values {
    /// Their number.
    pub fn len(&self) -> usize {
        match self {
            Values::I32(values) => values.len(),
            Values::F32(values) => values.len(),
            Values::F64(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their type.
    pub fn data_type(&self) -> Type {
        match self {
            Values::I32(_) => Type::I32,
            Values::F32(_) => Type::F32,
            Values::F64(_) => Type::F64,
        }
    }
}

/// One compressed chunk, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Index of its first element in each dimension.
    pub offset: Vec<u64>,
    /// The bytes that the filters left.
    pub bytes: Vec<u8>,
}

/// Chunks of a variable and how they came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunked {
    /// Elements of a chunk in each dimension; chunks at the edges are padded to it.
    pub shape: Vec<usize>,
    /// Deflate level, or none for plain chunks; shuffled before if deflated and `shuffle`.
    pub level: Option<u8>,
    /// Whether bytes were shuffled before.
    pub shuffle: bool,
    /// Every chunk, in row-major order of the offsets, if they are made before the file is begun; shared, since static
    /// coordinates are made once. None if they are made while the file is written.
    pub chunks: Option<Arc<Vec<Chunk>>>,
}

/// How the values of a variable lie in the file.
#[derive(Debug, Clone, PartialEq)]
pub enum Storage {
    /// One block of plain values.
    Contiguous(Values),
    /// Compressed chunks.
    Chunked(Type, Chunked),
}

/// One variable.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Names of its dimensions, slowest first.
    pub dimensions: Vec<String>,
    /// Fill value, for data variables.
    pub fill: Option<f64>,
    /// Attributes without `_FillValue`, which comes first if there is one.
    pub attributes: Attributes,
    /// Its values.
    pub storage: Storage,
}

impl Variable {
    /// Type of its values.
    pub fn data_type(&self) -> Type {
        match &self.storage {
            Storage::Contiguous(values) => values.data_type(),
            Storage::Chunked(data_type, _) => *data_type,
        }
    }
}

/// A whole file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GranuleContent {
    /// Name and length of the dimensions; none is unlimited.
    pub dimensions: Vec<(String, usize)>,
    /// The variables.
    pub variables: Vec<Variable>,
    /// The global attributes.
    pub attributes: Attributes,
}

impl GranuleContent {
    /// Length of a dimension.
    pub fn length(&self, dimension: &str) -> Option<usize> {
        self.dimensions.iter().find(|(name, _)| name == dimension).map(|(_, length)| *length)
    }

    /// Lengths of the dimensions of a variable; none if one of them is not defined.
    pub fn shape(&self, variable: &Variable) -> Option<Vec<usize>> {
        variable.dimensions.iter().map(|name| self.length(name)).collect()
    }
}
