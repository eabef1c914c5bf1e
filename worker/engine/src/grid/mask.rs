//! Which cells are wet.

/// A mask over the 13 tiles, on one or several levels.
#[derive(Clone, PartialEq, Eq)]
pub struct Mask {
    plane: usize,
    wet: Vec<bool>,
    /// Dry cells of each level: every plane that is masked is checked for them.
    dry: Vec<usize>,
}

impl Mask {
    /// Takes values in the order (level, tile, j, i), `plane` of them on each level.
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

    /// Bytes of memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.wet.len() + size_of_val(&self.dry[..])
    }

    /// One level in the order (tile, j, i): `true` where wet. Level 0 is the uppermost.
    ///
    /// # Panics
    /// When there is no such level.
    pub fn level(&self, k: usize) -> &[bool] {
        &self.wet[k * self.plane..][..self.plane]
    }

    /// Number of wet cells on one level.
    ///
    /// # Panics
    /// When there is no such level.
    pub fn count(&self, k: usize) -> usize {
        self.plane - self.dry(k)
    }

    /// Number of dry cells on one level.
    ///
    /// # Panics
    /// When there is no such level.
    pub fn dry(&self, k: usize) -> usize {
        self.dry[k]
    }
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mask").field("levels", &self.levels()).field("plane", &self.plane).finish()
    }
}
