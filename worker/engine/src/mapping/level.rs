//! One level of the mapping factors in the form used for regridding.

use super::npz::Csr;
use super::{MappingError, Real};

/// Marks a land cell in [`CellSources::Nearest`]. No plane is long enough to have this position.
const LAND: u32 = u32::MAX;
/// Marks a wet cell without any weight in [`CellSources::Nearest`].
const NONE: u32 = u32::MAX - 1;

/// The weights from one level of the native grid to the target grid, and the land mask of the target grid.
///
/// Sources are positions in the *plane*: one level of a field in the compact layout of the model's files, land
/// included. Targets are numbered `lat * nlon + lon`.
#[derive(Debug)]
pub struct Level {
    /// True for each target cell that is land.
    land: Vec<bool>,
    /// Number of land cells: the number of fill values in every regridded plane is compared with it.
    dry: usize,
    sources: CellSources,
    uncovered: usize,
    /// The least length of a plane: one more than the largest source position.
    plane: usize,
}

/// The sources of each target cell.
#[derive(Debug)]
enum CellSources {
    /// Each target has one source at most, always with weight 1 (all of EDP's own factors are like this). The value is
    /// the position of the source, or [`LAND`] or [`NONE`].
    Nearest(Vec<u32>),
    /// Target `m` has the entries `starts[m]..starts[m + 1]` of the other two lists, in the order in which they are
    /// summed.
    Weighted { starts: Vec<u32>, sources: Vec<u32>, weights: Vec<f64> },
}

impl Level {
    /// Transposes the matrix from rows of sources to lists of targets. Weights on land and weights of 0 are left out.
    /// `wet_positions` holds the position in the plane of each row, and `land` one value for each column.
    pub(super) fn new(matrix: &Csr, land: Vec<bool>, wet_positions: &[u32]) -> Result<Self, String> {
        if matrix.rows() != wet_positions.len() || matrix.columns != land.len() {
            return Err(format!(
                "a matrix of {} x {} for {} wet source cells and {} target cells",
                matrix.rows(),
                matrix.columns,
                wet_positions.len(),
                land.len()
            ));
        }
        if let Some(&position) = wet_positions.iter().find(|&&position| position >= NONE) {
            return Err(format!("source position {position} is too large"));
        }
        let used = |position: usize| !land[matrix.indices[position] as usize] && matrix.weight(position) != 0.0;

        // Count the sources of each target, add the counts up to the beginning of each list, and then fill the lists
        // row by row. So the rows of each target stay in ascending order, as in SciPy's product.
        let mut starts = vec![0_u32; land.len() + 1];
        for (position, &column) in matrix.indices.iter().enumerate() {
            if used(position) {
                starts[column as usize + 1] += 1;
            }
        }
        let several = starts.iter().any(|&count| count > 1);
        let uncovered = starts.iter().skip(1).zip(&land).filter(|&(&count, &land)| count == 0 && !land).count();
        for m in 0..land.len() {
            starts[m + 1] += starts[m];
        }
        let total = starts[land.len()] as usize;
        let mut next = starts.clone();
        let mut sources = vec![0_u32; total];
        let mut weights = vec![0.0_f64; total];
        for (row, &source) in wet_positions.iter().enumerate() {
            for position in matrix.indptr[row] as usize..matrix.indptr[row + 1] as usize {
                if used(position) {
                    let slot = &mut next[matrix.indices[position] as usize];
                    sources[*slot as usize] = source;
                    weights[*slot as usize] = matrix.weight(position);
                    *slot += 1;
                }
            }
        }
        let plane = sources.iter().max().map_or(0, |&position| position as usize + 1);
        let sources = if !several && weights.iter().all(|&weight| weight == 1.0) {
            let nearest = land.iter().enumerate().map(|(m, &land)| match (land, starts[m] < starts[m + 1]) {
                (true, _) => LAND,
                (false, true) => sources[starts[m] as usize],
                (false, false) => NONE,
            });
            CellSources::Nearest(nearest.collect())
        } else {
            CellSources::Weighted { starts, sources, weights }
        };
        let dry = land.iter().filter(|land| **land).count();
        Ok(Self { land, dry, sources, uncovered, plane })
    }

    /// Returns the number of bytes of memory that the level takes.
    pub(super) fn bytes(&self) -> usize {
        let sources = match &self.sources {
            CellSources::Nearest(nearest) => size_of_val(&nearest[..]),
            CellSources::Weighted { starts, sources, weights } => {
                size_of_val(&starts[..]) + size_of_val(&sources[..]) + size_of_val(&weights[..])
            }
        };
        self.land.len() + sources
    }

    /// Returns the land mask of the target grid: true for land, in the order lat * nlon + lon.
    pub fn land(&self) -> &[bool] {
        &self.land
    }

    /// Returns the number of wet target cells.
    pub fn wet_targets(&self) -> usize {
        self.land.len() - self.dry
    }

    /// Returns the number of land cells of the target grid.
    pub fn dry(&self) -> usize {
        self.dry
    }

    /// Returns the number of wet target cells without any weight. Their value is unknown; EDP would write 0.
    pub fn uncovered(&self) -> usize {
        self.uncovered
    }

    /// Returns true if each target cell takes the value of one source unchanged.
    pub fn is_nearest_neighbour(&self) -> bool {
        matches!(self.sources, CellSources::Nearest(_))
    }

    /// Returns the sources of a target cell with their weights, in the order in which they are summed. The list is
    /// empty for land cells, for uncovered cells and beyond the grid.
    pub fn sources(&self, target: usize) -> Vec<(u32, f64)> {
        let (sources, weights) = self.weighted_sources(target);
        sources.iter().copied().zip(weights.iter().copied()).collect()
    }

    /// Returns the same as [`Level::sources`] as two slices of the same length.
    fn weighted_sources(&self, target: usize) -> (&[u32], &[f64]) {
        match &self.sources {
            CellSources::Nearest(nearest) => match nearest.get(target..target.saturating_add(1)) {
                Some(source @ [position]) if *position < NONE => (source, &[1.0]),
                _ => (&[], &[]),
            },
            CellSources::Weighted { starts, sources, weights } => match starts.get(target..target.saturating_add(2)) {
                Some(&[start, end]) => {
                    let range = start as usize..end as usize;
                    (&sources[range.clone()], &weights[range])
                }
                _ => (&[], &[]),
            },
        }
    }

    /// Regrids one level of a field.
    ///
    /// `plane` is the level in the compact layout, and `out` holds one value for each target cell (lat * nlon + lon).
    /// Land cells get `fill`; wet cells without weights get `uncovered`. Sums are formed in double precision in
    /// ascending order of the source cells, starting from 0, and are then rounded once: the result equals that of
    /// SciPy's product bit for bit. (So a value of -0 becomes 0.)
    ///
    /// # Errors
    ///
    /// Returns [`MappingError::Length`] if `plane` is too short for the sources or if `out` is not as long as the
    /// target grid.
    pub fn apply<I: Real, O: Real>(
        &self,
        plane: &[I],
        out: &mut [O],
        fill: O,
        uncovered: O,
    ) -> Result<(), MappingError> {
        if out.len() != self.land.len() {
            return Err(MappingError::Length { what: "output", actual: out.len(), expected: self.land.len() });
        }
        if plane.len() < self.plane {
            return Err(MappingError::Length { what: "source plane", actual: plane.len(), expected: self.plane });
        }
        // Positions from NONE on have a special meaning.
        let plane = &plane[..plane.len().min(NONE as usize)];
        match &self.sources {
            CellSources::Nearest(nearest) => {
                for (value, &source) in out.iter_mut().zip(nearest) {
                    *value = match plane.get(source as usize) {
                        Some(found) => O::from_f64(0.0 + found.to_f64()),
                        None if source == LAND => fill,
                        None => uncovered,
                    };
                }
            }
            CellSources::Weighted { starts, sources, weights } => {
                let mut start = 0;
                for ((value, &end), &land) in out.iter_mut().zip(&starts[1..]).zip(&self.land) {
                    let range = start..end as usize;
                    start = end as usize;
                    *value = if land {
                        fill
                    } else if range.is_empty() {
                        uncovered
                    } else {
                        let terms = sources[range.clone()].iter().zip(&weights[range]);
                        O::from_f64(
                            terms.fold(0.0, |sum, (&source, &weight)| sum + weight * plane[source as usize].to_f64()),
                        )
                    };
                }
            }
        }
        Ok(())
    }
}

impl Level {
    /// Corrects the output of [`Level::apply`] for a plane in which some cells have no value (`holes`). A target cell
    /// gets the weighted mean of its other sources, or `fill` if it has none. Returns the number of target cells that
    /// got `fill`.
    pub(crate) fn apply_around<I: Real, O: Real>(&self, plane: &[I], holes: &[bool], out: &mut [O], fill: O) -> usize {
        let mut missing = 0;
        let is_hole = |source: u32| holes.get(source as usize).copied().unwrap_or_default();
        for (target, value) in out.iter_mut().enumerate() {
            let (sources, weights) = self.weighted_sources(target);
            if !sources.iter().any(|source| is_hole(*source)) {
                continue;
            }
            let all: f64 = weights.iter().sum();
            let there = sources.iter().zip(weights).filter(|(source, _)| !is_hole(**source));
            let weights: f64 = there.clone().map(|(_, weight)| weight).sum();
            if weights == 0.0 {
                *value = fill;
                missing += 1;
            } else {
                let sum = there.fold(0.0, |sum, (source, weight)| sum + weight * plane[*source as usize].to_f64());
                *value = O::from_f64(sum * (all / weights));
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::super::npz::Weights;
    use super::*;

    /// Makes a matrix of (row, column, weight) entries with ascending rows.
    fn matrix(rows: usize, columns: usize, entries: &[(usize, u32, f64)]) -> Csr {
        let mut indptr = vec![0; rows + 1];
        for &(row, ..) in entries {
            indptr[row + 1] += 1;
        }
        for row in 0..rows {
            indptr[row + 1] += indptr[row];
        }
        let weights: Vec<f64> = entries.iter().map(|entry| entry.2).collect();
        let weights = if weights.iter().all(|&w| w == 1.0) { Weights::Unit } else { Weights::Each(weights) };
        Csr { columns, indptr, indices: entries.iter().map(|entry| entry.1).collect(), weights }
    }

    #[test]
    fn nearest_neighbours_are_gathered() {
        // Rows 0, 1, 2 lie at 5, 0, 3 of the plane; target 1 is land, target 3 uncovered.
        let matrix = matrix(3, 5, &[(0, 2, 1.0), (1, 0, 1.0), (1, 4, 1.0)]);
        let level = Level::new(&matrix, vec![false, true, false, false, false], &[5, 0, 3]).unwrap();
        assert!(level.is_nearest_neighbour());
        assert_eq!((level.wet_targets(), level.uncovered()), (4, 1));
        let plane = [10.0_f32, 11.0, 12.0, 13.0, 14.0, 15.5];
        let mut out = [0.0_f32; 5];
        level.apply(&plane, &mut out, -1.0, -2.0).unwrap();
        assert_eq!(out, [10.0, -1.0, 15.5, -2.0, 10.0]);
        assert_eq!(level.sources(2), [(5, 1.0)]);
        for without in [1, 3, 5, usize::MAX] {
            assert!(level.sources(without).is_empty());
        }
    }

    #[test]
    fn sources_without_a_value_are_left_out() {
        // Target 0 has one source, target 1 two, target 2 is land, target 3 uncovered.
        let weighted = matrix(3, 4, &[(0, 0, 1.0), (1, 1, 0.25), (2, 1, 0.75)]);
        let level = Level::new(&weighted, vec![false, false, true, false], &[0, 1, 2]).unwrap();
        let plane = [1.0_f32, 2.0, -999.0];
        let mut out = [0.0_f32; 4];
        let mut around = |holes: [bool; 3]| {
            level.apply(&plane, &mut out, 9.0, 8.0).unwrap();
            (level.apply_around(&plane, &holes, &mut out, 9.0), out)
        };
        assert_eq!(around([false, false, true]), (0, [1.0, 2.0, 9.0, 8.0]));
        assert_eq!(around([true, true, true]), (2, [9.0, 9.0, 9.0, 8.0]));
        assert_eq!(around([false; 3]).1[1], 0.25 * 2.0 - 0.75 * 999.0);
        let nearest = matrix(2, 2, &[(0, 1, 1.0), (1, 0, 1.0)]);
        let level = Level::new(&nearest, vec![false; 2], &[0, 1]).unwrap();
        let mut out = [0.0_f64; 2];
        level.apply(&[-999.0_f32, 5.0], &mut out, 9.0, 8.0).unwrap();
        assert_eq!((level.apply_around(&[-999.0_f32, 5.0], &[true, false], &mut out, 9.0), out), (1, [5.0, 9.0]));
    }

    #[test]
    fn values_become_what_the_product_gives() {
        let matrix = matrix(1, 1, &[(0, 0, 1.0)]);
        let level = Level::new(&matrix, vec![false], &[0]).unwrap();
        let mut out = [1.0_f64];
        level.apply(&[-0.0_f32], &mut out, 0.0, 0.0).unwrap();
        assert_eq!(out[0].to_bits(), 0.0_f64.to_bits());
        level.apply(&[f32::NAN], &mut out, 0.0, 0.0).unwrap();
        assert!(out[0].is_nan());
        level.apply(&[0.1_f32], &mut out, 0.0, 0.0).unwrap();
        assert_eq!(out[0], 0.10000000149011612);
        let mut single = [0.0_f32];
        level.apply(&[0.1_f64], &mut single, 0.0, 0.0).unwrap();
        assert_eq!(single[0], 0.1);
    }

    #[test]
    fn averages_are_summed_in_the_order_of_the_source_cells() {
        // The order of rows is not the order of positions: 1e17 + 1 - 1e17 is 0, 1e17 - 1e17 + 1 would be 1.
        let entries: Vec<_> = (0..3).map(|row| (row, 0, 0.5)).collect();
        let level = Level::new(&matrix(3, 1, &entries), vec![false], &[7, 2, 4]).unwrap();
        assert!(!level.is_nearest_neighbour());
        assert_eq!(level.sources(0), [(7, 0.5), (2, 0.5), (4, 0.5)]);
        let mut plane = [0.0_f64; 8];
        (plane[7], plane[2], plane[4]) = (1.0e17, 1.0, -1.0e17);
        let mut out = [9.0_f64];
        level.apply(&plane, &mut out, 0.0, 0.0).unwrap();
        assert_eq!(out, [0.0]);
        (plane[7], plane[2], plane[4]) = (1.0e17, -1.0e17, 1.0);
        level.apply(&plane, &mut out, 0.0, 0.0).unwrap();
        assert_eq!(out, [0.5]);
    }

    #[test]
    fn sums_are_double_even_for_single_precision() {
        let third = 1.0 / 3.0;
        let entries = [(0, 0, third), (1, 0, third), (2, 0, third)];
        let level = Level::new(&matrix(3, 1, &entries), vec![false], &[0, 1, 2]).unwrap();
        let mut out = [0.0_f32];
        level.apply(&[16_777_216.0_f32, 1.0, 1.0], &mut out, 0.0, 0.0).unwrap();
        // In single precision the ones would vanish.
        assert_eq!(out, [5_592_406.0]);
    }

    #[test]
    fn weights_on_land_and_zero_weights_are_left_out() {
        // Two sources on land (target 1): an average there would not be a nearest neighbour any more.
        let entries = [(0, 0, 1.0), (0, 1, 0.5), (1, 0, 0.0), (1, 1, 0.5), (1, 2, 0.0)];
        let level = Level::new(&matrix(2, 3, &entries), vec![false, true, false], &[0, 1]).unwrap();
        assert!(level.is_nearest_neighbour());
        assert_eq!(level.uncovered(), 1);
        let mut out = [0.0_f32; 3];
        level.apply(&[4.0_f32], &mut out, -1.0, -2.0).unwrap();
        assert_eq!(out, [4.0, -1.0, -2.0]);
    }

    #[test]
    fn mixed_targets() {
        let entries = [(0, 0, 0.25), (0, 3, 1.0), (1, 0, 0.75)];
        let level = Level::new(&matrix(2, 4, &entries), vec![false, true, false, false], &[1, 0]).unwrap();
        let mut out = [0.0_f64; 4];
        level.apply(&[8.0_f32, 4.0], &mut out, f64::NAN, -2.0).unwrap();
        assert_eq!((out[0], out[2], out[3]), (7.0, -2.0, 4.0));
        assert!(out[1].is_nan());
        assert_eq!(level.sources(4), []);
    }

    #[test]
    fn wrong_lengths_are_errors() {
        let level = Level::new(&matrix(1, 2, &[(0, 1, 1.0)]), vec![false; 2], &[6]).unwrap();
        let error = level.apply(&[0.0_f32; 6], &mut [0.0_f32; 2], 0.0, 0.0).unwrap_err();
        assert_eq!(error.to_string(), "regridding: the source plane has 6 values, expected 7");
        let error = level.apply(&[0.0_f32; 7], &mut [0.0_f32; 3], 0.0, 0.0).unwrap_err();
        assert_eq!(error.to_string(), "regridding: the output has 3 values, expected 2");
        level.apply(&[0.0_f32; 7], &mut [0.0_f32; 2], 0.0, 0.0).unwrap();
        assert!(Level::new(&matrix(1, 2, &[]), vec![false; 3], &[6]).is_err());
        assert!(Level::new(&matrix(1, 2, &[]), vec![false; 2], &[u32::MAX - 1]).is_err());
    }

    #[test]
    fn a_level_without_any_wet_cell() {
        let level = Level::new(&matrix(0, 2, &[]), vec![true; 2], &[]).unwrap();
        let mut out = [0.0_f32; 2];
        level.apply::<f32, f32>(&[], &mut out, -1.0, 0.0).unwrap();
        assert_eq!((out, level.uncovered()), ([-1.0; 2], 0));
    }
}
