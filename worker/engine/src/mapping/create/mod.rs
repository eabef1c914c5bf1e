//! Makes mapping factors: the source cells from which each cell of a regular grid gets its value.
//!
//! A target cell is the average of all wet source cells whose centres lie within a radius around its own
//! ([`RadiusRule`]); if there is none, it has the value of the nearest wet source cell. It is wet if the nearest of all
//! source cells is wet. Distances are chords through the Earth, not arcs along its surface.
//!
//! [`FactorSearch`] finds the neighbours of all target cells among all source cells, wet and dry, once. Each level then
//! uses those that are wet there; a new search is made only where the nearest cell is dry, and only on request.

mod level;
mod rules;
mod target;
mod tree;

pub use level::{LevelFactors, LevelMapping, LevelWeights};
pub use rules::{FactorRules, NeighbourLimit, RadiusRule};
pub use target::{MEAN_RADIUS, RegularTarget, TargetEdges};
pub use tree::{PointInSpace, PointTree};

use crate::grid::NativeCells;
use rayon::prelude::*;

/// The number that stands for no cell.
pub(super) const NONE: u32 = u32::MAX;

/// The reason why factors cannot be made as requested.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum CreateError {
    /// The size of target cells is out of range.
    #[error("a resolution of {resolution} degrees: give more than 0 and at most 180 degrees")]
    Resolution {
        /// The size of a target cell in degrees.
        resolution: f64,
    },
    /// The edges of the target grid do not fit the Earth.
    #[error(
        "an extent from {} to {} degrees east and {} to {} degrees north: west must lie before east, south before north, \
         all on one Earth (latitudes -90 to 90, at most 360 degrees of longitudes)", extent.west, extent.east, extent.south,
        extent.north
    )]
    Edges {
        /// The edges of the target grid.
        extent: TargetEdges,
    },
    /// Whole cells do not fill the extent.
    #[error(
        "{degrees} degrees of {what} are no whole number of cells of {resolution} degrees: change the extent or the \
         resolution"
    )]
    PartialCells {
        /// The word `latitudes` or `longitudes`.
        what: &'static str,
        /// Length of that side in degrees.
        degrees: f64,
        /// Size of a cell in degrees.
        resolution: f64,
    },
    /// The target grid is too large.
    #[error("the target grid would have {cells} cells, and may have {limit}: choose a smaller extent or larger cells")]
    TargetSize {
        /// Number of cells that it would have.
        cells: f64,
        /// Number of cells that it may have.
        limit: usize,
    },
    /// The radius of averages is out of range.
    #[error("a radius of {metres} m: give a radius of 0 or more")]
    Radius {
        /// The radius in metres.
        metres: f64,
    },
    /// The native grid has no cell with a length.
    #[error("the native grid has no cell whose sides dxG and dyG have a length")]
    NoCells,
    /// There are more weights than the formats of factors can number.
    #[error(
        "level {level} would have {entries} weights, and may have {limit}: choose a smaller radius or larger cells"
    )]
    Entries {
        /// The level, from 0.
        level: usize,
        /// Number of weights that it would have.
        entries: usize,
        /// Number of weights that it may have.
        limit: usize,
    },
}

/// The source cells near every target cell, the same for all levels.
#[derive(Debug)]
pub struct FactorSearch<'a> {
    cells: &'a NativeCells,
    target: &'a RegularTarget,
    /// Positions of the source cells.
    points: Vec<PointInSpace>,
    /// True for each source cell that is part of the model.
    present: Vec<bool>,
    /// The nearest source cell of each target, or [`NONE`] if it is farther away than the longest side of any cell.
    nearest: Vec<u32>,
    /// Target `m` has the source cells `within[starts[m]..starts[m + 1]]` in its radius, nearest first.
    starts: Vec<usize>,
    within: Vec<u32>,
    /// Distance in metres that the nearest cell must not reach.
    reach: f64,
    /// Largest number of cells within the radius that count.
    limit: usize,
    /// True if positions have single precision.
    single: bool,
}

/// Returns the position of the centre of a target cell.
fn position(longitude: f64, latitude: f64, single: bool) -> PointInSpace {
    let at = tree::point(longitude, latitude);
    if single { tree::rounded(at) } else { at }
}

impl<'a> FactorSearch<'a> {
    /// Finds the neighbours of all target cells, on all cores.
    ///
    /// # Errors
    /// Returns an error if the radius is not a length, or if the native grid has no cells.
    pub fn new(
        cells: &'a NativeCells,
        target: &'a RegularTarget,
        rules: &FactorRules,
    ) -> Result<FactorSearch<'a>, CreateError> {
        if let RadiusRule::Metres(metres) = rules.radius
            && !(metres >= 0.0 && metres.is_finite())
        {
            return Err(CreateError::Radius { metres });
        }
        // If whole tiles are land, some runs leave them out, and their cells have no position and no length.
        let present: Vec<bool> = cells.dxg.iter().zip(&cells.dyg).map(|(x, y)| *x > 0.0 && *y > 0.0).collect();
        let sides = cells.dxg.iter().chain(&cells.dyg).filter(|side| **side > 0.0).map(|side| f64::from(*side));
        let (shortest, longest) = sides.fold((f64::INFINITY, 0.0), |(s, l): (f64, f64), v| (s.min(v), l.max(v)));
        if longest == 0.0 || !longest.is_finite() {
            return Err(CreateError::NoCells);
        }
        let points = tree::points(&cells.xc, &cells.yc, rules.single);
        let tree = PointTree::new((0..).zip(points.iter().copied()).filter(|(cell, _)| present[*cell as usize]));
        let radii = rules.radius.radii(target);
        let largest = radii.iter().copied().fold(0.0, f64::max);
        let (reach, below) = (longest.floor(), largest.floor());
        let rows: Vec<_> = (0..target.latitudes.len())
            .into_par_iter()
            .map(|row| {
                let (mut nearest, mut counts, mut within, mut found) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
                for longitude in &target.longitudes {
                    let from = position(*longitude, target.latitudes[row], rules.single);
                    nearest.push(tree.nearest(&from, reach).unwrap_or(NONE));
                    tree.within(&from, radii[row], below, &mut found);
                    counts.push(found.len());
                    within.extend(found.iter().map(|(_, cell)| *cell));
                }
                (nearest, counts, within)
            })
            .collect();
        let (mut nearest, mut starts, mut within) = (Vec::with_capacity(target.cells()), vec![0], Vec::new());
        let mut end = 0;
        for (of_row, counts, cells) in rows {
            nearest.extend(of_row);
            starts.extend(counts.into_iter().map(|count| {
                end += count;
                end
            }));
            within.extend(cells);
        }
        let limit = rules.neighbours.count(largest, shortest);
        Ok(FactorSearch { cells, target, points, present, nearest, starts, within, reach, limit, single: rules.single })
    }

    /// Returns the source cells within the radius of a target cell that pass a test, nearest first, at most as many as
    /// the limit.
    fn within(&self, m: usize, passes: impl Fn(u32) -> bool) -> impl Iterator<Item = u32> {
        let all = &self.within[self.starts[m]..self.starts[m + 1]];
        all.iter().copied().filter(move |cell| passes(*cell)).take(self.limit)
    }

    /// Returns true for each target cell that is wet at a level, which means that the nearest of all source cells is
    /// wet.
    fn wet_targets(&self, k: usize) -> Vec<bool> {
        let mask = self.cells.mask_c.level(k);
        let first = |m: usize| self.within(m, |_| true).next().unwrap_or(self.nearest[m]);
        (0..self.target.cells()).map(|m| mask.get(first(m) as usize).copied().unwrap_or_default()).collect()
    }

    /// Makes the factors of a level. If `mapping` is true, they include the neighbours of all target cells, wet and
    /// dry.
    ///
    /// # Errors
    /// Returns an error if there are more weights than can be numbered.
    ///
    /// # Panics
    /// Panics if there is no such level.
    pub fn level(&self, k: usize, mapping: bool) -> Result<LevelFactors, CreateError> {
        level::make(self, k, mapping)
    }

    /// Returns the neighbours of all target cells among all source cells, wet and dry, which are numbered in the order
    /// (tile, j, i).
    pub fn mapping(&self) -> LevelMapping {
        let lists = (0..self.target.cells()).map(|m| self.within(m, |_| true));
        let mut mapping = LevelMapping { starts: vec![0], within: Vec::new(), nearest: Vec::new() };
        for list in lists {
            mapping.within.extend(list);
            mapping.starts.push(mapping.within.len());
        }
        mapping.nearest.clone_from(&self.nearest);
        mapping
    }
}

#[cfg(test)]
mod tests;
