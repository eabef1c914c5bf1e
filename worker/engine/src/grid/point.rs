//! Points of the staggered grid at which variables are defined.

/// Horizontal point of the Arakawa C grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HorizontalPoint {
    /// Centre of a cell.
    C,
    /// Midpoint of the edge at low `i` ("west").
    U,
    /// Midpoint of the edge at low `j` ("south").
    V,
    /// Corner at low `i` and low `j` ("southwest").
    Z,
}

impl HorizontalPoint {
    /// Returns the names of the dimensions (y, x).
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
    /// Centre of a level.
    Center,
    /// Face at low `k`, which is the upper one in space ("lower" refers to the index).
    Lower,
    /// Face at high `k`, which is the lower one in space.
    Upper,
}

impl VerticalPoint {
    /// Returns the name of the dimension.
    pub(crate) fn dim(self) -> &'static str {
        match self {
            VerticalPoint::Center => "k",
            VerticalPoint::Lower => "k_l",
            VerticalPoint::Upper => "k_u",
        }
    }
}

/// The points of the grid at which a variable is defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Placement {
    /// Horizontal point of the variable.
    pub horizontal: HorizontalPoint,
    /// Vertical point; `None` for a 2-D variable.
    pub vertical: Option<VerticalPoint>,
}
