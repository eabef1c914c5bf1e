//! Where on the staggered grid a variable lives.

/// Horizontal point of the Arakawa C grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HorizontalPoint {
    /// Centre of a cell.
    C,
    /// Middle of the edge at low `i` ("west").
    U,
    /// Middle of the edge at low `j` ("south").
    V,
    /// Corner at low `i` and low `j` ("southwest").
    Z,
}

impl HorizontalPoint {
    /// Names of the dimensions (y, x).
    pub fn dims(self) -> [&'static str; 2] {
        match self {
            HorizontalPoint::C => ["j", "i"],
            HorizontalPoint::U => ["j", "i_g"],
            HorizontalPoint::V => ["j_g", "i"],
            HorizontalPoint::Z => ["j_g", "i_g"],
        }
    }
}

/// Vertical point of a 3-D variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VerticalPoint {
    /// Middle of a layer.
    Center,
    /// Face at low `k`, the upper one in space ("lower" is meant of the index).
    Lower,
    /// Face at high `k`, the lower one in space.
    Upper,
}

impl VerticalPoint {
    /// Name of the dimension.
    pub fn dim(self) -> &'static str {
        match self {
            VerticalPoint::Center => "k",
            VerticalPoint::Lower => "k_l",
            VerticalPoint::Upper => "k_u",
        }
    }
}

/// Place of a variable on the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Placement {
    /// Horizontal point.
    pub horizontal: HorizontalPoint,
    /// Vertical point, `None` for a 2-D variable.
    pub vertical: Option<VerticalPoint>,
}
