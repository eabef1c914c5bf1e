//! One variable of the model as it is.

use super::{LevelValues, Maker, OpenedVariable, Opening};
use crate::granule::error::MakeError;
use crate::granule::route::Route;
use crate::granule::source::Record;
use crate::granule::stages::Stages;
use crate::grid::Native;
use crate::mds::MdsError;
use crate::mds::compact::TileRows;
use edp_protocol::{GridKind, Mode};

/// A variable that is a variable of the model.
pub struct Direct(pub Record);

impl Maker for Direct {
    fn records(&self) -> Vec<&Record> {
        vec![&self.0]
    }

    fn memory(&self, _: &Native, _: &Route<'_>, cells: usize) -> u64 {
        self.0.input.memory(cells)
    }

    fn is_by_rows(&self) -> bool {
        true
    }

    fn level(
        &self,
        _: &Native,
        level: usize,
        rows: Option<&TileRows>,
        stages: &Stages,
    ) -> Result<LevelValues, MdsError> {
        let plane = self.0.plane(level, rows, stages)?;
        let holes = self.0.holes(&plane);
        Ok((plane, holes))
    }
}

/// Opens the input of the variable.
pub(super) fn open(mut opening: Opening<'_, '_>) -> Result<OpenedVariable, MakeError> {
    let (mut record, field) = opening.input(0)?;
    let Opening { assembly, name, description, warnings, .. } = opening;
    let levels = assembly.levels(name, &field, description, &mut record)?;
    let placement = assembly.placement(name, &field, description, levels.is_some(), warnings)?;
    assembly.check_gaps(name, &record, placement.horizontal, warnings)?;
    let is_read_by_edp = assembly.plan.mode == Mode::Edp2026 && assembly.name.grid == GridKind::Native;
    let of_reader = match is_read_by_edp {
        true => assembly.resources.grid.diagnostics.attributes(&field),
        false => Vec::new(),
    };
    Ok(OpenedVariable { maker: Box::new(Direct(record)), placement, levels, of_reader })
}
