//! Vectors: from the model's x and y components to eastward and northward ones at cell centres
//! (specification 04, section 5).

use crate::grid::Native;
use crate::grid::topology::{self, Beyond, Join};
use crate::mds::compact::{self, TILES};

/// Which component of the rotated vector is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orientation {
    /// Eastward.
    Zonal,
    /// Northward.
    Meridional,
}

impl std::str::FromStr for Orientation {
    type Err = String;

    fn from_str(word: &str) -> Result<Orientation, String> {
        match word {
            "zonal" => Ok(Orientation::Zonal),
            "meridional" => Ok(Orientation::Meridional),
            _ => Err(format!("field_orientations: '{word}' is neither zonal nor meridional")),
        }
    }
}

/// Where the model has the components of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staggering {
    /// Both at cell centres: they are only rotated.
    Centres,
    /// x at the western, y at the southern faces: they are averaged onto the centres first.
    Faces,
}

/// Rotates one level. `x`, `y` and `out` are compact planes (13N rows by N columns), single precision throughout,
/// as EDP computes: `0.5 (a + b)`, then the two products, then their sum or difference.
///
/// Faces beyond the edge of the Antarctic tiles are land and count as 0.
///
/// # Panics
/// When a plane does not hold 13 N² values.
pub fn rotate(grid: &Native, staggering: Staggering, orientation: Orientation, x: &[f32], y: &[f32], out: &mut [f32]) {
    let n = grid.n;
    let tiles = |plane: &[f32]| {
        let mut tiles = vec![0.0; TILES * n * n];
        compact::to_tiles(n, plane, &mut tiles);
        tiles
    };
    let (x, y) = (tiles(x), tiles(y));
    // Beyond a turned seam the other component continues.
    let beyond = |same: &[f32], other: &[f32], cell: Option<Beyond>| match cell {
        None => 0.0,
        Some(Beyond { index, join: Join::Straight }) => same[index],
        Some(Beyond { index, join: Join::Turned }) => other[index],
    };
    for tile in 0..TILES {
        for j in 0..n {
            let line = (tile * n + j) * n;
            let start = compact::row(n, tile, j) * n;
            for i in 0..n {
                let at = line + i;
                let (u, v) = match staggering {
                    Staggering::Centres => (x[at], y[at]),
                    Staggering::Faces => {
                        let east = if i + 1 < n { x[at + 1] } else { beyond(&x, &y, topology::right(n, tile, j)) };
                        let north = if j + 1 < n { y[at + n] } else { beyond(&y, &x, topology::top(n, tile, i)) };
                        (0.5 * (x[at] + east), 0.5 * (y[at] + north))
                    }
                };
                let (cs, sn) = (grid.cs[at], grid.sn[at]);
                out[start + i] = match orientation {
                    Orientation::Zonal => u * cs - v * sn,
                    Orientation::Meridional => u * sn + v * cs,
                };
            }
        }
    }
}
