//! Masks of wet cells.

/// A mask over the 13 tiles, on one or several levels.
#[derive(Clone, PartialEq, Eq)]
pub struct Mask {
    plane: usize,
    wet: Vec<bool>,
    /// Number of dry cells on each level, which every plane that is masked is checked for.
    dry: Vec<usize>,
}

impl Mask {
    /// Makes a mask of values in the order (level, tile, j, i), with `plane` values on each level.
    pub(super) fn new(plane: usize, wet: Vec<bool>) -> Mask {
        debug_assert!(plane > 0 && wet.len().is_multiple_of(plane));
        let dry = wet.chunks(plane).map(|level| level.iter().filter(|wet| !**wet).count()).collect();
        Mask { plane, wet, dry }
    }

    /// Number of levels; 1 for a 2-D mask.
    pub fn levels(&self) -> usize {
        self.wet.len() / self.plane
    }

    /// Number of cells on one level, 13 N².
    pub fn plane(&self) -> usize {
        self.plane
    }

    /// Number of bytes of memory that the mask takes.
    pub(crate) fn bytes(&self) -> usize {
        self.wet.len() + size_of_val(&self.dry[..])
    }

    /// Returns one level in the order (tile, j, i): `true` for wet cells. Level 0 is the uppermost one.
    ///
    /// # Panics
    /// Panics if there is no such level.
    pub fn level(&self, k: usize) -> &[bool] {
        &self.wet[k * self.plane..][..self.plane]
    }

    /// Returns the number of wet cells on one level.
    ///
    /// # Panics
    /// Panics if there is no such level.
    pub fn count(&self, k: usize) -> usize {
        self.plane - self.dry(k)
    }

    /// Returns the number of dry cells on one level.
    ///
    /// # Panics
    /// Panics if there is no such level.
    pub fn dry(&self, k: usize) -> usize {
        self.dry[k]
    }
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mask").field("levels", &self.levels()).field("plane", &self.plane).finish()
    }
}
