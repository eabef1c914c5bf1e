//! The mapping factors of one level under construction.

use super::tree::PointTree;
use super::{CreateError, FactorSearch, NONE};
use std::cell::OnceCell;

/// Largest number of weights of a level: the formats number them with 32 bits.
const MAX_WEIGHTS: usize = (1 << 27) - 1;

/// The source cells from which the cells of the target grid get their values, at one level.
#[derive(Debug)]
pub struct LevelFactors {
    /// The wet source cells, as numbers of cells in the order (tile, j, i). The *row* of a cell is its position in this
    /// list.
    pub wet: Vec<u32>,
    /// True for each target cell that is wet, in the order (latitude, longitude).
    pub wet_targets: Vec<bool>,
    /// The beginning of the weights of each target, and the end of those of the last one.
    pub starts: Vec<usize>,
    /// The rows of the source cells of each target, ascending.
    pub rows: Vec<u32>,
    /// The weights of these source cells.
    pub weights: LevelWeights,
    /// Number of wet target cells without any source.
    pub uncovered: usize,
    /// The neighbours of all target cells, if they were requested.
    pub mapping: Option<LevelMapping>,
}

/// Weights of the source cells of a level.
#[derive(Debug)]
pub enum LevelWeights {
    /// Each target has one source at most.
    Unit,
    /// One weight for each of [`LevelFactors::rows`].
    Each(Vec<f64>),
}

impl LevelWeights {
    /// Returns the weight at a position of [`LevelFactors::rows`].
    pub fn at(&self, position: usize) -> f64 {
        match self {
            LevelWeights::Unit => 1.0,
            LevelWeights::Each(weights) => weights[position],
        }
    }
}

/// The neighbours of all target cells, wet or dry, among the cells of a level.
#[derive(Debug)]
pub struct LevelMapping {
    /// The beginning of the cells within the radius of each target, and the end of those of the last one.
    pub starts: Vec<usize>,
    /// The rows of the cells within the radius of each target, nearest first.
    pub within: Vec<u32>,
    /// The row of the nearest cell of each target, or `u32::MAX` if it is too far away.
    pub nearest: Vec<u32>,
}

/// Makes the factors of a level.
pub(super) fn make(search: &FactorSearch<'_>, k: usize, mapping: bool) -> Result<LevelFactors, CreateError> {
    let wet_cells = search.cells.wet.level(k);
    // A cell that is not part of the model has no place, but if it is wet it has its row.
    let wet: Vec<u32> = (0..).zip(&wet_cells).filter(|(_, wet)| **wet).map(|(cell, _)| cell).collect();
    let mut row_of = vec![NONE; wet_cells.len()];
    for (row, cell) in (0..).zip(&wet) {
        row_of[*cell as usize] = row;
    }
    let row = |cell: u32| row_of.get(cell as usize).copied().filter(|row| *row != NONE);
    let tree = OnceCell::new();
    let search_wet = |m: usize| {
        let tree = tree.get_or_init(|| {
            let present = wet.iter().filter(|cell| search.present[**cell as usize]);
            PointTree::new(present.map(|cell| (*cell, search.points[*cell as usize])))
        });
        let (_, columns) = search.target.shape();
        let from =
            super::position(search.target.longitudes[m % columns], search.target.latitudes[m / columns], search.single);
        tree.nearest(&from, search.reach).and_then(row)
    };
    // The nearest of all cells, where it is wet, is the nearest wet one. Where no cell is near, no wet one is.
    let nearest = |m: usize| match search.nearest[m] {
        NONE => None,
        cell => row(cell).or_else(|| search_wet(m)),
    };

    let wet_targets = search.wet_targets(k);
    let mut level = LevelFactors {
        wet: Vec::new(),
        wet_targets: Vec::new(),
        starts: vec![0],
        rows: Vec::new(),
        weights: LevelWeights::Unit,
        uncovered: 0,
        mapping: mapping.then(|| LevelMapping { starts: vec![0], within: Vec::new(), nearest: Vec::new() }),
    };
    let mut several = false;
    let mut near: Vec<u32> = Vec::new();
    for (m, is_wet) in wet_targets.iter().enumerate() {
        if !is_wet && !mapping {
            level.starts.push(level.rows.len());
            continue;
        }
        near.clear();
        near.extend(search.within(m, |cell| row(cell).is_some()).filter_map(row));
        if let Some(mapping) = &mut level.mapping {
            mapping.within.extend(&near);
            mapping.starts.push(mapping.within.len());
            mapping.nearest.push(nearest(m).unwrap_or(NONE));
        }
        if *is_wet {
            if near.is_empty() {
                near.extend(nearest(m));
            }
            near.sort_unstable();
            several |= near.len() > 1;
            level.uncovered += usize::from(near.is_empty());
            level.rows.extend(&near);
        }
        level.starts.push(level.rows.len());
    }
    if level.rows.len() > MAX_WEIGHTS {
        return Err(CreateError::Entries { level: k, entries: level.rows.len(), limit: MAX_WEIGHTS });
    }
    if several {
        let counts = level.starts.windows(2).map(|ends| ends[1] - ends[0]);
        level.weights =
            LevelWeights::Each(counts.flat_map(|count| std::iter::repeat_n(1.0 / count as f64, count)).collect());
    }
    Ok(LevelFactors { wet, wet_targets, ..level })
}
