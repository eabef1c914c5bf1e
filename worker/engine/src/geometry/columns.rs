//! The properties of water columns that follow from their open fractions: the thickness of the water, and an ice shelf
//! above it.

/// The columns of a grid (tile, j, i). Their levels are added from the surface down.
pub(super) struct Columns {
    /// Thickness of the water in metres.
    thickness: Vec<f64>,
    /// Depth of the base of an ice shelf in metres; 0 where there is none.
    draft: Vec<f32>,
    /// True if a level above is wet.
    wet: Vec<bool>,
    /// Depth of the upper face of the next level in metres.
    above: f64,
}

impl Columns {
    /// Returns this number of columns, without any level.
    pub(super) fn new(cells: usize) -> Columns {
        Columns { thickness: vec![0.0; cells], draft: vec![0.0; cells], wet: vec![false; cells], above: 0.0 }
    }

    /// Adds a level by its open fractions and its thickness in metres. A column that is dry at the surface and wet below
    /// has an ice shelf, which fills the closed part of the first wet level.
    pub(super) fn add(&mut self, fractions: &[f32], layer: f32) {
        let layer = f64::from(layer);
        for (cell, open) in fractions.iter().enumerate() {
            self.thickness[cell] += f64::from(*open) * layer;
            if *open > 0.0 && !self.wet[cell] {
                self.wet[cell] = true;
                if self.above > 0.0 {
                    self.draft[cell] = (self.above + (1.0 - f64::from(*open)) * layer) as f32;
                }
            }
        }
        self.above += layer;
    }

    /// Returns the thickness of the water in each column in metres.
    pub(super) fn thickness(&self) -> Vec<f32> {
        self.thickness.iter().map(|thickness| *thickness as f32).collect()
    }

    /// Returns the depth of the base of an ice shelf over each column in metres, or 0 where there is none.
    pub(super) fn draft(&self) -> &[f32] {
        &self.draft
    }

    /// Returns true if there is an ice shelf with water below it.
    pub(super) fn has_cavities(&self) -> bool {
        self.draft.iter().any(|draft| *draft > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ice_shelf_fills_the_closed_part_of_the_first_wet_level() {
        // Open water, water below an ice shelf, a cavity with a sea floor in the middle of a level, and land.
        let mut columns = Columns::new(4);
        for (fractions, layer) in
            [([1.0, 0.0, 0.0, 0.0], 10.0), ([1.0, 0.0, 0.25, 0.0], 20.0), ([0.5, 0.75, 0.0, 0.0], 40.0)]
        {
            columns.add(&fractions, layer);
        }
        assert_eq!(columns.draft(), [0.0, 40.0, 25.0, 0.0]);
        assert_eq!(columns.thickness(), [50.0, 30.0, 5.0, 0.0]);
        assert!(columns.has_cavities() && !Columns::new(2).has_cavities());
    }
}
