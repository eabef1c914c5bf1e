//! Cells that have the missing value of their input: the model gives no value for them, whether they are wet or not.

use crate::grid::Mask;
use crate::mds::Plane;
use crate::mds::compact::{self, TILES};

/// For each cell of a plane, in compact order, true if it has no value.
pub(super) type MissingCells = Vec<bool>;

/// Returns the cells of a plane that have the missing value, if there are any.
pub(super) fn of_plane(plane: &Plane, missing: f64) -> Option<MissingCells> {
    match plane {
        Plane::F32(values) => of(values, |value| value == missing as f32 || (missing.is_nan() && value.is_nan())),
        Plane::F64(values) => of(values, |value| value == missing || (missing.is_nan() && value.is_nan())),
    }
}

fn of<T: Copy>(values: &[T], is_missing: impl Fn(T) -> bool) -> Option<MissingCells> {
    // All of them are inspected, so that the compiler can process several at once.
    let count = values.iter().filter(|value| is_missing(**value)).count();
    (count > 0).then(|| values.iter().map(|value| is_missing(*value)).collect())
}

/// Returns true if any cell has no value.
pub(super) fn is_any(holes: &Option<MissingCells>) -> bool {
    holes.iter().flatten().any(|hole| *hole)
}

/// Writes a value into the cells that have none.
pub(super) fn put(values: &mut [f32], holes: &Option<MissingCells>, with: f32) {
    let holes = holes.iter().flatten();
    values.iter_mut().zip(holes).filter(|(_, hole)| **hole).for_each(|(value, _)| *value = with);
}

/// Writes 0 on closed faces that are NaN or have the missing value. These faces take part in the averages for their
/// neighbours, and no water passes through them, whatever a model run has there. Other numbers stay as they are.
pub(super) fn zero_closed_faces(
    n: usize,
    mask: &Mask,
    level: usize,
    plane: &mut [f32],
    holes: &mut Option<MissingCells>,
) {
    let level = level.min(mask.levels() - 1);
    for line in 0..TILES * n {
        let start = compact::row(n, line / n, line % n) * n;
        for (columns, _) in mask.runs(level, line).filter(|(_, open)| !*open) {
            let closed = start + columns.start..start + columns.end;
            plane[closed.clone()].iter_mut().filter(|value| !value.is_finite()).for_each(|value| *value = 0.0);
            let Some(holes) = holes else { continue };
            let cells = plane[closed.clone()].iter_mut().zip(&mut holes[closed]);
            for (value, hole) in cells.filter(|(_, hole)| **hole) {
                (*value, *hole) = (0.0, false);
            }
        }
    }
}
