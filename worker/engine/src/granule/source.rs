//! What the values of a field are made of: one model variable, or the two of a vector, and the files that they are in.

use super::holes::{self, MissingCells};
use super::rotation::{Orientation, Staggering};
use super::stages::{Stage, Stages};
use crate::mds::{FieldLocation, MdsError, MdsFile, Plane, UncoveredCells};
use edp_files::ReadAt;
use edp_protocol::wire;
use std::sync::Arc;

/// Input of a field: an MDS file, wherever it is kept.
pub type Input = MdsFile<Box<dyn ReadAt>>;

/// One model variable in an input.
pub struct Record {
    /// The file, or the pieces that are read like one.
    pub input: Input,
    /// Where the variable is in it.
    pub found: FieldLocation,
    /// The value that stands where there is none.
    pub missing: Option<f64>,
    /// Cells that are in no piece.
    pub gaps: Vec<UncoveredCells>,
    /// The data files.
    pub files: Vec<InputDataFile>,
    /// The files of its headers, as outcomes tell of them.
    pub headers: Vec<wire::InputRead>,
}

/// A data file of an input, as outcomes tell of it.
pub struct InputDataFile {
    /// Its path as the recipe has it.
    pub path: String,
    /// Its bytes.
    pub data: Arc<dyn ReadAt>,
    /// How many they are.
    pub size: u64,
}

impl Record {
    /// A variable in a file of which outcomes tell nothing.
    pub fn new(input: Input, found: FieldLocation) -> Record {
        Record { input, found, missing: None, gaps: Vec::new(), files: Vec::new(), headers: Vec::new() }
    }

    /// The values of one level, in the layout of the file.
    pub(super) fn plane(&self, level: usize, stages: &Stages) -> Result<Plane, MdsError> {
        let header = self.input.header();
        let planes = (header.records * header.levels().unwrap_or(1)).max(1) as u64;
        let FieldLocation { record, by_records, .. } = self.found;
        let (record, level) = if by_records { (record + level, 0) } else { (record, level) };
        stages.time(Stage::Read, header.byte_length() / planes, || self.input.read_plane(record, level))
    }

    /// Cells of a plane without a value, if there are any.
    pub(super) fn holes(&self, plane: &Plane) -> Option<MissingCells> {
        holes::of_plane(plane, self.missing?)
    }
}

/// What the values of a field are made of.
pub enum FieldSource {
    /// One model variable as it is.
    Direct(Box<Record>),
    /// One component of a vector.
    Rotated(Box<Vector>),
}

/// A vector of the model, and what is wanted of it.
pub struct Vector {
    /// The component along the model's i axis.
    pub x: Record,
    /// The component along the model's j axis.
    pub y: Record,
    /// Where the model has them.
    pub staggering: Staggering,
    /// Which component of the result.
    pub orientation: Orientation,
}

impl FieldSource {
    /// Names of the input files, for messages.
    pub fn names(&self) -> String {
        match self {
            FieldSource::Direct(record) => record.input.name().to_owned(),
            FieldSource::Rotated(vector) => format!("{} or {}", vector.x.input.name(), vector.y.input.name()),
        }
    }

    /// The records that are read.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        let (first, second) = match self {
            FieldSource::Direct(record) => (&**record, None),
            FieldSource::Rotated(vector) => (&vector.x, Some(&vector.y)),
        };
        [first].into_iter().chain(second)
    }
}
