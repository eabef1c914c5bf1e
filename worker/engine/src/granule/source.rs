//! Inputs of a field: records of model variables, with the files that contain them.

use super::holes::{self, MissingCells};
use super::stages::{Stage, Stages};
use crate::grid::LevelSet;
use crate::mds::compact::TileRows;
use crate::mds::{FieldLocation, MdsError, MdsFile, Plane, UncoveredCells};
use edp_files::ReadAt;
use edp_protocol::wire;
use std::sync::Arc;

/// Input of a field: an MDS file, wherever it is kept.
pub type Input = MdsFile<Box<dyn ReadAt>>;

/// One model variable in an input.
pub struct Record {
    /// The file, or the pieces that are read as one.
    pub input: Input,
    /// Location of the variable in it.
    pub found: FieldLocation,
    /// The levels of the grid that the variable has in the file, if these are only some.
    pub levels: Option<LevelSet>,
    /// The value that stands for missing data.
    pub missing: Option<f64>,
    /// Cells that no piece covers.
    pub gaps: Vec<UncoveredCells>,
    /// The data files, for the outcome.
    pub files: Vec<InputDataFile>,
    /// The header files, for the outcome.
    pub headers: Vec<wire::InputRead>,
}

/// A data file of an input, for the outcome.
pub struct InputDataFile {
    /// Path of the file in the recipe.
    pub path: String,
    /// Access to the file's bytes.
    pub data: Arc<dyn ReadAt>,
    /// Size of the file in bytes.
    pub size: u64,
}

impl Record {
    /// Returns a variable in a file that does not appear in outcomes.
    pub fn new(input: Input, found: FieldLocation) -> Record {
        Record { input, found, levels: None, missing: None, gaps: Vec::new(), files: Vec::new(), headers: Vec::new() }
    }

    /// Reads the values of one level of the grid, in the layout of the file; or only some rows of it, in their order.
    pub(super) fn plane(&self, level: usize, rows: Option<&TileRows>, stages: &Stages) -> Result<Plane, MdsError> {
        let header = self.input.header();
        let planes = (header.records * header.levels().unwrap_or(1)).max(1) as u64;
        let FieldLocation { record, by_records, .. } = self.found;
        let level = self.levels.as_ref().map_or(Some(level), |levels| levels.position(level)).unwrap_or(level);
        let (record, level) = if by_records { (record + level, 0) } else { (record, level) };
        let bytes = header.byte_length() / planes;
        match rows {
            None => stages.time(Stage::Read, bytes, || self.input.read_plane(record, level)),
            Some(rows) => {
                let part = bytes / header.plane().max(1) as u64 * rows.cells() as u64;
                stages.time(Stage::Read, part, || self.input.read_rows(record, level, rows))
            }
        }
    }

    /// Returns the cells of a plane that have no value, if there are any.
    pub(super) fn holes(&self, plane: &Plane) -> Option<MissingCells> {
        holes::of_plane(plane, self.missing?)
    }
}
