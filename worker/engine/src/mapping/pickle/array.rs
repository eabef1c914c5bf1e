//! The arrays of numpy inside a pickle.

use super::{DTypeId, ListId, PickleValue, TupleId};

/// Largest number of dimensions of an array.
const MAX_DIMENSIONS: usize = 8;

/// The kind of the elements of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementKind {
    /// Boolean values, one byte each.
    Bool,
    /// Signed integers of 1 to 8 bytes.
    Int,
    /// Unsigned integers of 1 to 8 bytes.
    Uint,
    /// Floating-point numbers of 4 or 8 bytes.
    Float,
    /// Arbitrary values of Python.
    Object,
}

/// The type of the elements of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DType {
    /// The kind of the elements.
    pub kind: ElementKind,
    /// Number of bytes of an element.
    pub size: usize,
    /// True if the file has stated the byte order and it is little-endian (or does not apply, as with single bytes).
    little_endian: bool,
}

impl DType {
    /// Returns the type with numpy's short name `code`, such as `f8`; `None` for types that are not supported.
    pub(super) fn from_code(code: &str) -> Option<Self> {
        let (kind, size) = match code {
            "b1" => (ElementKind::Bool, 1),
            "i1" => (ElementKind::Int, 1),
            "i2" => (ElementKind::Int, 2),
            "i4" => (ElementKind::Int, 4),
            "i8" => (ElementKind::Int, 8),
            "u1" => (ElementKind::Uint, 1),
            "u2" => (ElementKind::Uint, 2),
            "u4" => (ElementKind::Uint, 4),
            "u8" => (ElementKind::Uint, 8),
            "f4" => (ElementKind::Float, 4),
            "f8" => (ElementKind::Float, 8),
            "O8" => (ElementKind::Object, 8),
            _ => return None,
        };
        Some(Self { kind, size, little_endian: false })
    }

    /// Sets the byte order from the state `(3, order, subarray, names, fields, size, alignment, flags)`.
    pub(super) fn set_state(&mut self, state: &[PickleValue<'_>]) -> Result<(), String> {
        let &[
            PickleValue::Int(3),
            PickleValue::Str(order),
            PickleValue::None,
            PickleValue::None,
            PickleValue::None,
            ..,
        ] = state
        else {
            return Err("the state of an element type is not that of a plain number".to_owned());
        };
        match (order, self.size, self.kind) {
            ("<", ..) | ("|", 1, _) | ("|", _, ElementKind::Object) => {
                self.little_endian = true;
                Ok(())
            }
            _ => Err(format!("byte order {order:?} is not supported, only little-endian")),
        }
    }

    /// Returns one number of this type; `None` if the bytes do not fit it.
    pub(super) fn scalar<'a>(self, bytes: &[u8]) -> Option<PickleValue<'a>> {
        if bytes.len() != self.size || !self.little_endian {
            return None;
        }
        match self.kind {
            ElementKind::Bool => Some(PickleValue::Bool(bytes != [0])),
            ElementKind::Float => Some(PickleValue::Float(float(bytes)?)),
            ElementKind::Int | ElementKind::Uint => Some(PickleValue::Int(self.integer(bytes)?)),
            ElementKind::Object => None,
        }
    }

    fn integer(self, bytes: &[u8]) -> Option<i64> {
        let negative = self.kind == ElementKind::Int && bytes.last().is_some_and(|&top| top >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let value = i64::from_le_bytes(wide);
        // The upper half of the range of u64 does not fit into i64.
        (negative || value >= 0).then_some(value)
    }
}

fn float(bytes: &[u8]) -> Option<f64> {
    match bytes.len() {
        4 => bytes.try_into().ok().map(|bytes| f32::from_le_bytes(bytes).into()),
        8 => bytes.try_into().ok().map(f64::from_le_bytes),
        _ => None,
    }
}

/// An array of numpy. Its raw data are borrowed from the file.
#[derive(Debug, Clone)]
pub struct Array<'a> {
    dtype: DType,
    shape: Vec<usize>,
    len: usize,
    fortran: bool,
    data: Data<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Data<'a> {
    Raw(&'a [u8]),
    Objects(ListId),
}

impl<'a> Array<'a> {
    /// Makes an array from the state `(1, shape, dtype, fortran, data)`. The product of the shape is checked against
    /// the raw data; the length of an object list must be checked by the caller, who has access to the list.
    pub(super) fn from_state<'s>(
        state: &[PickleValue<'a>],
        tuple: impl Fn(TupleId) -> &'s [PickleValue<'a>],
        dtype: impl Fn(DTypeId) -> DType,
    ) -> Result<Self, String>
    where
        'a: 's,
    {
        let &[PickleValue::Int(1), PickleValue::Tuple(shape), PickleValue::DType(dtype_id), fortran, data] = state
        else {
            return Err("the state of an array is not (1, shape, dtype, order, data)".to_owned());
        };
        let fortran = match fortran {
            PickleValue::Bool(fortran) => fortran,
            PickleValue::Int(fortran) => fortran != 0,
            other => return Err(format!("the order of an array is {}", other.kind())),
        };
        let shape = tuple(shape);
        if shape.len() > MAX_DIMENSIONS {
            return Err(format!("an array of {} dimensions, at most {MAX_DIMENSIONS} are supported", shape.len()));
        }
        let shape: Vec<usize> = shape
            .iter()
            .map(|&size| match size {
                PickleValue::Int(size) => {
                    usize::try_from(size).map_err(|_| format!("an array with {size} elements along a dimension"))
                }
                other => Err(format!("the shape of an array holds {}", other.kind())),
            })
            .collect::<Result<_, _>>()?;
        let dtype = dtype(dtype_id);
        if !dtype.little_endian {
            return Err("an array whose element type has no byte order".to_owned());
        }
        let sizes = shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
        let (Some(len), Some(size)) = (sizes, sizes.and_then(|len| len.checked_mul(dtype.size))) else {
            return Err(format!("an array of impossible shape {shape:?}"));
        };
        let data = match (data, dtype.kind) {
            (PickleValue::List(list), ElementKind::Object) => Data::Objects(list),
            (PickleValue::Bytes(bytes), kind) if kind != ElementKind::Object => {
                if bytes.len() != size {
                    return Err(format!("an array of shape {shape:?} needs {size} bytes, there are {}", bytes.len()));
                }
                Data::Raw(bytes)
            }
            (other, _) => return Err(format!("the data of an array are {}", other.kind())),
        };
        Ok(Self { dtype, shape, len, fortran, data })
    }

    /// Returns the lengths of the dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the total number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if the array has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns true if the first dimension varies fastest.
    pub(crate) fn is_fortran(&self) -> bool {
        self.fortran && self.shape.len() > 1
    }

    /// Returns the raw little-endian data in the order of the file; `None` for object arrays.
    pub fn raw(&self) -> Option<&'a [u8]> {
        match self.data {
            Data::Raw(bytes) => Some(bytes),
            Data::Objects(_) => None,
        }
    }

    pub(super) fn object_list(&self) -> Option<ListId> {
        match self.data {
            Data::Objects(list) => Some(list),
            Data::Raw(_) => None,
        }
    }

    /// Returns the elements of a float array with the last dimension varying fastest, whatever the order in the file;
    /// `None` for other element types, and for Fortran order in more than two dimensions.
    pub fn floats(&self) -> Option<Vec<f64>> {
        let raw = self.raw().filter(|_| self.dtype.kind == ElementKind::Float)?;
        let at = |index: usize| raw.get(index * self.dtype.size..(index + 1) * self.dtype.size).and_then(float);
        match (self.is_fortran(), self.shape.as_slice()) {
            (false, _) => (0..self.len).map(at).collect(),
            (true, &[rows, columns]) => {
                (0..self.len).map(|index| at(index / columns + index % columns * rows)).collect()
            }
            (true, _) => None,
        }
    }

    /// Returns the elements of an integer array in the order of the file; `None` for other element types, and if a
    /// number does not fit into 64 signed bits.
    pub fn integers(&self) -> Option<Vec<i64>> {
        let raw = self.raw().filter(|_| matches!(self.dtype.kind, ElementKind::Int | ElementKind::Uint))?;
        raw.chunks_exact(self.dtype.size).map(|bytes| self.dtype.integer(bytes)).collect()
    }
}
