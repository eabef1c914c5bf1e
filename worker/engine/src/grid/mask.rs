//! Masks of wet cells.
//!
//! A mask is kept as the columns at which each row turns from land to water or back. That takes a few bytes a row where
//! a value for each cell would take thousands: LLC1080 with 90 levels has 1.4 billion cells, and 1.3 million rows.

use crate::mds::compact::TILES;
use std::ops::Range;

/// A mask over the 13 tiles, on one or several levels.
#[derive(Clone, PartialEq, Eq)]
pub struct Mask {
    n: usize,
    levels: Vec<MaskLevel>,
}

/// A level of a mask. A line is a row of a tile, with the number tile * N + j.
#[derive(Clone, PartialEq, Eq, Default)]
struct MaskLevel {
    /// The end of each line in `turns`.
    ends: Vec<u32>,
    /// The columns at which a line turns from land to water, or from water to land. Each line begins as land.
    turns: Vec<u16>,
    /// Number of dry cells, which every plane that is masked is checked for.
    dry: usize,
}

impl MaskLevel {
    fn turns(&self, line: usize) -> &[u16] {
        let start = line.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.turns[start as usize..self.ends[line] as usize]
    }

    fn bytes(&self) -> usize {
        size_of_val(&self.ends[..]) + size_of_val(&self.turns[..])
    }
}

impl Mask {
    /// Makes a mask of values in the order (level, tile, j, i).
    #[cfg(test)]
    pub(crate) fn new(n: usize, wet: &[bool]) -> Mask {
        let mut builder = MaskBuilder::new(n);
        builder.add(wet.iter().copied());
        builder.finish()
    }

    /// Number of levels; 1 for a 2-D mask.
    pub fn levels(&self) -> usize {
        self.levels.len()
    }

    /// Number of cells on one level, 13 N².
    pub fn plane(&self) -> usize {
        TILES * self.n * self.n
    }

    /// Number of bytes of memory that the mask takes.
    pub(crate) fn bytes(&self) -> usize {
        self.levels.iter().map(MaskLevel::bytes).sum()
    }

    /// Returns one level in the order (tile, j, i): `true` for wet cells. Level 0 is the uppermost one.
    ///
    /// # Panics
    /// Panics if there is no such level.
    pub fn level(&self, k: usize) -> Vec<bool> {
        let mut wet = vec![false; self.plane()];
        for (line, cells) in wet.chunks_exact_mut(self.n).enumerate() {
            for columns in self.wet_columns(k, line) {
                cells[columns].fill(true);
            }
        }
        wet
    }

    /// Returns the runs of columns of a line (tile * N + j), which together are the whole line; `true` if they are wet.
    /// Dry and wet runs alternate, and the first one, which may be empty, is dry.
    ///
    /// # Panics
    /// Panics if there is no such level or line.
    pub(crate) fn runs(&self, k: usize, line: usize) -> impl Iterator<Item = (Range<usize>, bool)> {
        let turns = self.levels[k].turns(line).iter().map(|turn| usize::from(*turn));
        let begins = std::iter::once(0).chain(turns.clone());
        let ends = turns.chain([self.n]);
        begins.zip(ends).enumerate().map(|(number, (begin, end))| (begin..end, number % 2 == 1))
    }

    /// Returns the runs of wet columns of a line (tile * N + j).
    ///
    /// # Panics
    /// Panics if there is no such level or line.
    pub(crate) fn wet_columns(&self, k: usize, line: usize) -> impl Iterator<Item = Range<usize>> {
        self.runs(k, line).filter(|(_, wet)| *wet).map(|(columns, _)| columns)
    }

    /// Returns true if a cell of a line (tile * N + j) is wet.
    ///
    /// # Panics
    /// Panics if there is no such level or line.
    pub(crate) fn is_wet(&self, k: usize, line: usize, column: usize) -> bool {
        self.levels[k].turns(line).partition_point(|turn| usize::from(*turn) <= column) % 2 == 1
    }

    /// Returns the number of wet cells on one level.
    ///
    /// # Panics
    /// Panics if there is no such level.
    pub fn count(&self, k: usize) -> usize {
        self.plane() - self.dry(k)
    }

    /// Returns the number of dry cells on one level.
    ///
    /// # Panics
    /// Panics if there is no such level.
    pub fn dry(&self, k: usize) -> usize {
        self.levels[k].dry
    }
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mask").field("levels", &self.levels()).field("plane", &self.plane()).finish()
    }
}

/// A mask whose cells are known one after the other.
pub(super) struct MaskBuilder {
    n: usize,
    levels: Vec<MaskLevel>,
    /// The level that is not complete.
    level: MaskLevel,
    column: usize,
    wet: bool,
    /// Number of bytes of the complete levels.
    bytes: usize,
}

impl MaskBuilder {
    /// Begins the mask of a grid with `n` by `n` cells per tile.
    ///
    /// # Panics
    /// Panics in debug builds if a column does not fit into 16 bits.
    pub(super) fn new(n: usize) -> MaskBuilder {
        debug_assert!(n > 0 && u16::try_from(n).is_ok(), "N = {n}");
        MaskBuilder { n, levels: Vec::new(), level: MaskLevel::default(), column: 0, wet: false, bytes: 0 }
    }

    /// Adds the next cells in the order (level, tile, j, i).
    #[allow(clippy::cast_possible_truncation)] // a column is below MAX_N, and the turns of a level are fewer than 13 N²
    pub(super) fn add(&mut self, cells: impl Iterator<Item = bool>) {
        for wet in cells {
            if wet != self.wet {
                self.level.turns.push(self.column as u16);
                self.wet = wet;
            }
            self.level.dry += usize::from(!wet);
            self.column += 1;
            if self.column == self.n {
                (self.column, self.wet) = (0, false);
                self.level.ends.push(self.level.turns.len() as u32);
                if self.level.ends.len() == TILES * self.n {
                    self.level.turns.shrink_to_fit();
                    self.bytes += self.level.bytes();
                    self.levels.push(std::mem::take(&mut self.level));
                }
            }
        }
    }

    /// Number of bytes of memory that the mask takes so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.level.bytes()
    }

    /// Returns the mask of the complete levels.
    pub(super) fn finish(self) -> Mask {
        debug_assert!(self.level.ends.is_empty() && self.column == 0, "a level is complete");
        Mask { n: self.n, levels: self.levels }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_mask_is_that_of_its_cells(
            n in 1_usize..6,
            levels in 1_usize..4,
            noise in proptest::collection::vec(any::<bool>(), 1..40),
        ) {
            let plane = TILES * n * n;
            let wet: Vec<bool> = noise.iter().copied().cycle().take(levels * plane).collect();
            let mask = Mask::new(n, &wet);
            prop_assert_eq!((mask.levels(), mask.plane()), (levels, plane));
            for (k, wet) in wet.chunks(plane).enumerate() {
                prop_assert_eq!(&mask.level(k), wet);
                prop_assert_eq!(mask.count(k), wet.iter().filter(|wet| **wet).count());
                for (line, cells) in wet.chunks(n).enumerate() {
                    for (columns, wet) in mask.runs(k, line) {
                        prop_assert!(cells[columns].iter().all(|cell| *cell == wet));
                    }
                    prop_assert_eq!(mask.runs(k, line).map(|(columns, _)| columns.len()).sum::<usize>(), n);
                    prop_assert!((0..n).all(|column| mask.is_wet(k, line, column) == cells[column]));
                }
            }
        }
    }

    #[test]
    fn a_mask_takes_little_beyond_its_coasts() {
        let n = 100;
        let wet: Vec<bool> = (0..TILES * n * n).map(|at| at % n >= 20).collect();
        let mask = Mask::new(n, &wet);
        assert_eq!(mask.bytes(), TILES * n * (4 + 2), "the end of each row, and its coast");
    }
}
