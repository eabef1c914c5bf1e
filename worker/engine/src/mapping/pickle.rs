//! Reads the pickles of mapping factors.
//!
//! A pickle is a program for a small stack machine that may call any Python function. This reader calls nothing. It
//! knows the opcodes that lists, dicts, tuples, plain values and numpy arrays need, and four globals (`numpy.ndarray`,
//! `numpy.dtype`, and `_reconstruct` and `scalar` of `numpy.core.multiarray` or `numpy._core.multiarray`), which it
//! interprets itself. Anything else is an error that names it.
//!
//! The files are untrusted. Every length is checked against the available bytes before it is used, and the number of
//! values is bounded. Containers refer to each other by number, not by pointer, so shared, nested and even cyclic
//! values cost nothing to read, compare or drop. Texts and raw array data are borrowed from the input, never copied.

mod array;
mod machine;

use machine::Machine;

pub use array::{Array, DType, ElementKind};

/// The reason why a pickle was refused. `at` is the offset of the opcode in the unpacked file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// The data end within an opcode or without STOP.
    #[error("the pickle ends early (opcode at byte {at})")]
    Truncated {
        /// Offset in the unpacked file.
        at: usize,
    },
    /// The pickle uses an opcode that mapping factors do not need.
    #[error("byte {at} of the pickle: opcode {opcode:#04x} is not allowed in mapping factors")]
    Opcode {
        /// Offset in the unpacked file.
        at: usize,
        /// Code of the opcode.
        opcode: u8,
    },
    /// The pickle names a function or class that mapping factors do not need. It was not looked up.
    #[error("byte {at} of the pickle: the global {name:?} is not allowed in mapping factors; do not trust this file")]
    PickleGlobal {
        /// Offset in the unpacked file.
        at: usize,
        /// The module and the name, shortened.
        name: String,
    },
    /// The pickle has more values, or deeper nesting, than any file of mapping factors.
    #[error("byte {at} of the pickle: more than {limit} {what}")]
    Limit {
        /// Offset in the unpacked file.
        at: usize,
        /// The things of which there are too many.
        what: &'static str,
        /// The largest number allowed.
        limit: usize,
    },
    /// The opcode does not fit the values on the stack, or its argument is out of range.
    #[error("byte {at} of the pickle: {reason}")]
    Malformed {
        /// Offset in the unpacked file.
        at: usize,
        /// Description of the problem.
        reason: String,
    },
}

/// A Python value. A container is represented by its number in the [`PickleDocument`], so a value is small and can be
/// copied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PickleValue<'a> {
    /// The value `None` of Python.
    None,
    /// Python's `True` or `False`.
    Bool(bool),
    /// An integer, or an integer scalar of numpy.
    Int(i64),
    /// A float, or a float scalar of numpy.
    Float(f64),
    /// A text (Python's `str`).
    Str(&'a str),
    /// Raw bytes (Python's `bytes`).
    Bytes(&'a [u8]),
    /// A list, see [`PickleDocument::items`].
    List(ListId),
    /// A tuple, see [`PickleDocument::items`].
    Tuple(TupleId),
    /// A dict, see [`PickleDocument::pairs`] and [`PickleDocument::get`].
    Dict(DictId),
    /// A numpy array, see [`PickleDocument::array`].
    Array(ArrayId),
    /// An element type of numpy.
    DType(DTypeId),
    /// One of the four known globals. It cannot be called.
    Global(PickleGlobal),
}

impl PickleValue<'_> {
    /// Returns the kind of the value in words, for error messages.
    pub fn kind(&self) -> &'static str {
        match self {
            PickleValue::None => "None",
            PickleValue::Bool(_) => "a truth value",
            PickleValue::Int(_) => "an integer",
            PickleValue::Float(_) => "a float",
            PickleValue::Str(_) => "text",
            PickleValue::Bytes(_) => "bytes",
            PickleValue::List(_) => "a list",
            PickleValue::Tuple(_) => "a tuple",
            PickleValue::Dict(_) => "a dict",
            PickleValue::Array(_) => "an array",
            PickleValue::DType(_) => "an element type",
            PickleValue::Global(_) => "a function or class",
        }
    }
}

/// The number of a list in its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListId(u32);
/// The range of the items of a tuple in its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TupleId {
    start: u32,
    end: u32,
}
/// The number of a dict in its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DictId(u32);
/// The number of an array in its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArrayId(u32);
/// The number of an element type in its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DTypeId(u32);

/// The globals that the reader understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PickleGlobal {
    /// `numpy.core.multiarray._reconstruct`, which begins an array.
    Reconstruct,
    /// `numpy.core.multiarray.scalar`, which makes a single number.
    Scalar,
    /// The class `numpy.ndarray`.
    NdArray,
    /// The class `numpy.dtype`.
    DType,
}

impl PickleGlobal {
    fn find(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Some(Self::Reconstruct),
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Some(Self::Scalar),
            ("numpy", "ndarray") => Some(Self::NdArray),
            ("numpy", "dtype") => Some(Self::DType),
            _ => None,
        }
    }
}

/// A pickle that has been read: its value and the containers to which that refers. It borrows from the unpacked file.
#[derive(Debug)]
pub struct PickleDocument<'a> {
    root: PickleValue<'a>,
    store: Store<'a>,
}

/// The containers of a document. The ids are made by this store only, so they are always in range.
#[derive(Debug, Default)]
struct Store<'a> {
    lists: Vec<Vec<PickleValue<'a>>>,
    tuples: Vec<PickleValue<'a>>,
    dicts: Vec<Vec<(PickleValue<'a>, PickleValue<'a>)>>,
    arrays: Vec<Option<Array<'a>>>,
    dtypes: Vec<DType>,
}

impl<'a> PickleDocument<'a> {
    /// Reads one pickle of protocol 2 to 5 that fills `bytes` to the end. Arrays are understood as protocols 3 and 4
    /// write them; 2 and 5 use other globals for them.
    ///
    /// # Errors
    ///
    /// Returns [`PickleError`] if the data end early, are followed by others, are malformed or too many, or use an
    /// opcode or a global that mapping factors do not need.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PickleError> {
        Machine::new(bytes).run()
    }

    /// Returns the top-level value.
    pub fn root(&self) -> PickleValue<'a> {
        self.root
    }

    /// Returns the items of a list or tuple; `None` for any other value.
    pub fn items(&self, value: PickleValue<'a>) -> Option<&[PickleValue<'a>]> {
        match value {
            PickleValue::List(id) => self.store.lists.get(id.0 as usize).map(Vec::as_slice),
            PickleValue::Tuple(id) => self.store.tuples.get(id.start as usize..id.end as usize),
            _ => None,
        }
    }

    /// Returns the entries of a dict in the order of the file; `None` for any other value. If a key occurs twice, the
    /// later entry counts.
    pub fn pairs(&self, value: PickleValue<'a>) -> Option<&[(PickleValue<'a>, PickleValue<'a>)]> {
        match value {
            PickleValue::Dict(id) => self.store.dicts.get(id.0 as usize).map(Vec::as_slice),
            _ => None,
        }
    }

    /// Returns the entry of a dict for a text key; `None` if there is none or if the value is no dict.
    pub fn get(&self, dict: PickleValue<'a>, key: &str) -> Option<PickleValue<'a>> {
        self.pairs(dict)?.iter().rev().find(|(k, _)| *k == PickleValue::Str(key)).map(|(_, v)| *v)
    }

    /// Returns a numpy array; `None` for any other value, and for an array that the file began but never filled.
    pub fn array(&self, value: PickleValue<'a>) -> Option<&Array<'a>> {
        match value {
            PickleValue::Array(id) => self.store.arrays.get(id.0 as usize)?.as_ref(),
            _ => None,
        }
    }

    /// Returns the elements of an object array in the order of the file; `None` for any other value.
    pub fn objects(&self, value: PickleValue<'a>) -> Option<&[PickleValue<'a>]> {
        let array = self.array(value)?;
        let items = self.items(PickleValue::List(array.object_list()?))?;
        // The list may have grown after the array was made from it.
        items.get(..array.len())
    }
}

impl<'a> Store<'a> {
    fn tuple(&self, id: TupleId) -> &[PickleValue<'a>] {
        &self.tuples[id.start as usize..id.end as usize]
    }
}

#[cfg(test)]
mod tests;
