//! A component of a vector at cell centres, from the two components of the model.

use super::{LevelValues, Maker, OpenedVariable, Opening};
use crate::granule::error::MakeError;
use crate::granule::holes::{self, MissingCells};
use crate::granule::projection;
use crate::granule::rotation::{Staggering, rotate};
use crate::granule::route::Route;
use crate::granule::source::Record;
use crate::granule::stages::{Stage, Stages};
use crate::grid::{HorizontalPoint, Native, Placement};
use crate::mds::compact::{TILES, TileRows};
use crate::mds::{MdsError, Plane};
use crate::metadata::variable;
use crate::resources::ResourceError;
use edp_protocol::GridKind;
use edp_protocol::recipe::{Components, Orientation};

/// A vector of the model, and the component that is computed of it.
pub struct Rotated {
    /// The component along the model's i axis.
    pub x: Record,
    /// The component along the model's j axis.
    pub y: Record,
    /// Points at which the model has them.
    pub staggering: Staggering,
    /// Component of the result.
    pub orientation: Orientation,
}

/// A component of the model on one level, with its cells that have no value.
type Component = (Vec<f32>, Option<MissingCells>);

impl Maker for Rotated {
    fn records(&self) -> Vec<&Record> {
        vec![&self.x, &self.y]
    }

    fn memory(&self, grid: &Native, route: &Route<'_>, _: usize) -> u64 {
        let plane = (TILES * grid.n * grid.n) as u64;
        let projected = match route {
            Route::Latlon { directions: Some(_), shape, .. } => {
                4 * plane + 3 * 8 * (plane + shape.iter().map(|length| *length as u64).product::<u64>())
            }
            _ => 0,
        };
        let inputs = [&self.x, &self.y].map(|record| record.input.memory(TILES * grid.n * grid.n));
        inputs[0] + inputs[1] + 3 * 4 * plane + projected
    }

    /// Faces are averaged to centres across rows and tiles.
    fn is_by_rows(&self) -> bool {
        false
    }

    fn level(
        &self,
        grid: &Native,
        level: usize,
        rows: Option<&TileRows>,
        stages: &Stages,
    ) -> Result<LevelValues, MdsError> {
        debug_assert!(rows.is_none(), "rotated vectors are not made by rows");
        self.turn(grid, level, stages, |x, y| {
            let (rotated, holes) = self.rotated(grid, self.orientation, x, y);
            (Plane::F32(rotated), holes)
        })
    }

    fn vector(&self) -> Option<&Rotated> {
        Some(self)
    }
}

impl Rotated {
    /// Returns the Cartesian components of the vectors of a level, in compact order, and the cells that have none.
    ///
    /// # Errors
    /// Returns an error if an input cannot be read.
    pub(crate) fn cartesian(
        &self,
        grid: &Native,
        level: usize,
        stages: &Stages,
    ) -> Result<([Vec<f64>; 3], Option<MissingCells>), MdsError> {
        self.turn(grid, level, stages, |x, y| {
            let (east, holes) = self.rotated(grid, Orientation::Zonal, x, y);
            let (north, _) = self.rotated(grid, Orientation::Meridional, x, y);
            (projection::cartesian(grid, &east, &north), holes)
        })
    }

    /// Reads both components of a level and calls `turn` with them, which is timed.
    fn turn<T>(
        &self,
        grid: &Native,
        level: usize,
        stages: &Stages,
        turn: impl FnOnce(&Component, &Component) -> T,
    ) -> Result<T, MdsError> {
        let (x, y) = (self.x.plane(level, None, stages)?, self.y.plane(level, None, stages)?);
        let bytes = (x.len() + y.len()) * size_of::<f32>();
        Ok(stages.time(Stage::Rotate, bytes as u64, || {
            let (x, y) = self.zero_closed_faces(grid, level, x, y);
            turn(&x, &y)
        }))
    }

    /// Returns both components, with 0 on closed faces that have no number or only the missing value.
    fn zero_closed_faces(&self, grid: &Native, level: usize, x: Plane, y: Plane) -> (Component, Component) {
        let (x_holes, y_holes) = (self.x.holes(&x), self.y.holes(&y));
        let (mut x, mut y) = ((x.into_f32(), x_holes), (y.into_f32(), y_holes));
        if self.staggering == Staggering::Faces {
            holes::zero_closed_faces(grid.n, &grid.mask_w, level, &mut x.0, &mut x.1);
            holes::zero_closed_faces(grid.n, &grid.mask_s, level, &mut y.0, &mut y.1);
        }
        (x, y)
    }

    /// Rotates one level. A cell has no value if one of its contributing faces has none.
    fn rotated(
        &self,
        grid: &Native,
        orientation: Orientation,
        (x, x_holes): &Component,
        (y, y_holes): &Component,
    ) -> (Vec<f32>, Option<MissingCells>) {
        let turn = |x: &[f32], y: &[f32]| {
            let mut rotated = vec![0.0; x.len()];
            rotate(grid, self.staggering, orientation, x, y, &mut rotated);
            rotated
        };
        if !holes::is_any(x_holes) && !holes::is_any(y_holes) {
            return (turn(x, y), None);
        }
        let (mut x, mut y) = (x.clone(), y.clone());
        holes::put(&mut x, x_holes, 0.0);
        holes::put(&mut y, y_holes, 0.0);
        let rotated = turn(&x, &y);
        // A cell that becomes NaN by these faces, and only by these, has no value.
        holes::put(&mut x, x_holes, f32::NAN);
        holes::put(&mut y, y_holes, f32::NAN);
        let with = turn(&x, &y);
        let holes = with.iter().zip(&rotated).map(|(with, without)| with.is_nan() && !without.is_nan()).collect();
        (rotated, Some(holes))
    }
}

/// Opens both inputs, in whichever order the recipe has them.
pub(super) fn open(
    mut opening: Opening<'_, '_>,
    components: &Components,
    orientation: Orientation,
) -> Result<OpenedVariable, MakeError> {
    opening.assembly.resources.grid.native.check_whole().map_err(ResourceError::Grid)?;
    let (first, second) = (opening.input(0)?, opening.input(1)?);
    let (mut x, mut y) = match (first.1 == components.x, second.1 == components.y) {
        (true, true) => (first, second),
        (false, false) if first.1 == components.y && second.1 == components.x => (second, first),
        _ => {
            let (x, y) = (&components.x, &components.y);
            let why = format!("its inputs are {} and {}, its components {x} and {y}", first.1, second.1);
            return Err(opening.fail(why));
        }
    };
    let assembly = opening.assembly;
    let levels = assembly.levels(opening.name, &x.1, opening.description, &mut x.0)?;
    if assembly.levels(opening.name, &y.1, opening.description, &mut y.0)? != levels {
        let why = format!("{} and {} differ in their levels", x.0.input.name(), y.0.input.name());
        return Err(opening.fail(why));
    }
    let mut place = |field: &str| {
        let description = variable::describe(&assembly.resources.texts.metadata, GridKind::Native, field);
        assembly.placement(opening.name, field, &description, levels.is_some(), opening.warnings)
    };
    let (of_x, of_y) = (place(&x.1)?, place(&y.1)?);
    let staggering = match (of_x.horizontal, of_y.horizontal) {
        (HorizontalPoint::C, HorizontalPoint::C) => Staggering::Centres,
        (HorizontalPoint::U, HorizontalPoint::V) => Staggering::Faces,
        (a, b) => return Err(opening.fail(format!("{} and {} are at {a:?} and {b:?} points: no vector", x.1, y.1))),
    };
    assembly.check_gaps(opening.name, &x.0, of_x.horizontal, opening.warnings)?;
    assembly.check_gaps(opening.name, &y.0, of_y.horizontal, opening.warnings)?;
    let placement = Placement { horizontal: HorizontalPoint::C, vertical: of_x.vertical };
    let maker = Box::new(Rotated { x: x.0, y: y.0, staggering, orientation });
    Ok(OpenedVariable { maker, placement, levels, of_reader: Vec::new() })
}
