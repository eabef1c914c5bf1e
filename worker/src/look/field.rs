//! One level of one variable, read from a granule and reduced to the size of a picture.

use super::LookError;
use edp_engine::reader::{Described, ReaderSession};
use std::path::Path;

/// Number of tiles of a native granule.
pub(super) const TILES: usize = 13;
/// Largest number of cells along a side of a map or tile. The largest grids in use have 17,280 columns.
const MAX_SIDE: usize = 100_000;
/// Largest number of cells of a map or tile.
const MAX_CELLS: usize = 1 << 29;
/// Approximate number of values that are read at once.
const BLOCK: usize = 1 << 22;
/// Names of the coordinates that have the shape of a field.
const COORDINATES: [&str; 8] = ["XC", "YC", "XG", "YG", "XU", "YU", "XV", "YV"];

/// A rectangle of values, with rows as in the file, and NaN where there is none.
pub(super) struct Panel {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) values: Vec<f32>,
}

/// The kind of grid on which the panels lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One map. `northward` is true if its rows run from south to north.
    Map { northward: bool },
    /// The thirteen tiles of the native grid.
    Tiles,
}

/// One level of a variable.
pub(super) struct FieldLevel {
    pub(super) name: String,
    pub(super) long_name: String,
    pub(super) units: String,
    pub(super) kind: Kind,
    pub(super) panels: Vec<Panel>,
    /// True if the variable has levels.
    pub(super) layered: bool,
    /// Smallest and largest value of the level, before any averaging; `None` if there is no value.
    pub(super) range: Option<(f64, f64)>,
}

impl FieldLevel {
    /// Reads a level of a variable, or of the file's first variable. Sides longer than `longest` cells (of all panels
    /// side by side) are shortened by averaging.
    pub(super) fn read(
        path: &Path,
        variable: Option<&str>,
        level: usize,
        longest: usize,
    ) -> Result<FieldLevel, LookError> {
        let mut session = ReaderSession::open(path)?;
        let variables = session.variables()?;
        let candidates: Vec<_> = variables.iter().filter(|v| kind(v).is_some()).collect();
        let chosen = match variable {
            Some(name) => candidates.iter().find(|v| v.name == name),
            None => {
                let data = || candidates.iter().filter(|v| !COORDINATES.contains(&v.name.as_str()));
                data().find(|v| v.dimensions.iter().any(|(name, _)| name == "time")).or_else(|| data().next())
            }
        };
        let Some(chosen) = chosen else {
            let names = candidates.iter().map(|v| v.name.as_str()).collect::<Vec<_>>().join(", ");
            let file = path.to_owned();
            return Err(match variable {
                Some(name) => LookError::NoVariable { file, name: name.to_owned(), names },
                None => LookError::NoField { file },
            });
        };
        let kind = match kind(chosen) {
            Some(Kind::Tiles) => Kind::Tiles,
            _ => Kind::Map { northward: northward(&mut session, &variables)? },
        };
        let mut reader = PanelReader::new(session, chosen, level)?;
        let sides = if kind == Kind::Tiles { 4 * reader.columns } else { reader.columns.max(reader.rows) };
        let block = sides.div_ceil(longest).max(1);
        let mut range = None;
        let panels = (0..if kind == Kind::Tiles { TILES } else { 1 })
            .map(|panel| reader.panel(panel, block, &mut range))
            .collect::<Result<_, _>>()?;
        Ok(FieldLevel {
            name: chosen.name.clone(),
            long_name: chosen.long_name.clone(),
            units: chosen.units.clone(),
            kind,
            panels,
            layered: reader.layered,
            range,
        })
    }
}

/// Returns the grid of a variable, by the names of its last dimensions, or `None` if it is not a field.
fn kind(variable: &Described) -> Option<Kind> {
    match variable.dimensions.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>()[..] {
        [.., "tile", "j" | "j_g", "i" | "i_g"] => Some(Kind::Tiles),
        [.., "latitude", "longitude"] => Some(Kind::Map { northward: true }),
        _ => None,
    }
}

/// Returns true if the rows of a map run from south to north, which they do unless `latitude` says otherwise.
fn northward(session: &mut ReaderSession, variables: &[Described]) -> Result<bool, LookError> {
    match variables.iter().find(|variable| variable.name == "latitude") {
        Some(latitude) => match latitude.shape()[..] {
            [rows] if rows >= 2 => {
                let mut end = |at| session.values::<f64>(latitude, &[at], &[1]);
                Ok(end(0)? <= end(rows - 1)?)
            }
            _ => Ok(true),
        },
        None => Ok(true),
    }
}

/// Reads the panels of one level.
struct PanelReader<'a> {
    session: ReaderSession,
    variable: &'a Described,
    /// Indices of the level in all dimensions before panel, row and column.
    leading: Vec<usize>,
    tiled: bool,
    rows: usize,
    columns: usize,
    layered: bool,
    missing: Vec<f64>,
}

impl<'a> PanelReader<'a> {
    fn new(session: ReaderSession, variable: &'a Described, level: usize) -> Result<Self, LookError> {
        let (file, name) = (session.path().to_owned(), variable.name.clone());
        let tiled = kind(variable) == Some(Kind::Tiles);
        let dimensions = &variable.dimensions;
        let (leading, last) = dimensions.split_at(dimensions.len() - if tiled { 3 } else { 2 });
        let shape: Vec<usize> = last.iter().map(|(_, length)| *length).collect();
        let (rows, columns) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        let possible = |side| (1..=MAX_SIDE).contains(&side);
        if !possible(rows) || !possible(columns) || rows * columns > MAX_CELLS || (tiled && shape[0] != TILES) {
            return Err(LookError::Shape { file, name, shape });
        }
        if leading.iter().any(|(_, length)| *length == 0) {
            return Err(LookError::NoField { file });
        }
        let mut start = vec![0; leading.len()];
        // There is one time; the dimension after it is the vertical one.
        let vertical = leading.iter().position(|(name, _)| name != "time");
        let levels = vertical.map_or(1, |at| leading[at].1);
        if level >= levels {
            return Err(LookError::Level { file, name, level, levels });
        }
        if let Some(at) = vertical {
            start[at] = level;
        }
        let (missing, layered) = (variable.missing(), vertical.is_some());
        Ok(PanelReader { session, variable, leading: start, tiled, rows, columns, layered, missing })
    }

    /// Reads a panel, averages blocks of `block` x `block` cells, and extends the range of values.
    fn panel(&mut self, panel: usize, block: usize, range: &mut Option<(f64, f64)>) -> Result<Panel, LookError> {
        let (rows, columns) = (self.rows.div_ceil(block), self.columns.div_ceil(block));
        let mut values = Vec::with_capacity(rows * columns);
        let bands = (BLOCK / (self.columns * block)).max(1);
        for first in (0..rows).step_by(bands) {
            let top = first * block;
            let height = (bands * block).min(self.rows - top);
            let cells = self.rows(panel, top, height)?;
            for v in cells.iter().filter(|v| v.is_finite()) {
                let (low, high) = range.get_or_insert((*v, *v));
                *low = low.min(*v);
                *high = high.max(*v);
            }
            for band in cells.chunks(block * self.columns) {
                for column in (0..self.columns).step_by(block) {
                    values.push(mean(band, self.columns, column, block));
                }
            }
        }
        Ok(Panel { rows, columns, values })
    }

    /// Reads some rows of a panel, with NaN for fill values.
    fn rows(&mut self, panel: usize, top: usize, height: usize) -> Result<Vec<f64>, LookError> {
        let mut start = self.leading.clone();
        let mut count = vec![1; start.len()];
        if self.tiled {
            start.push(panel);
            count.push(1);
        }
        start.extend([top, 0]);
        count.extend([height, self.columns]);
        let mut cells: Vec<f64> = self.session.values(self.variable, &start, &count)?;
        for v in &mut cells {
            if self.missing.contains(v) {
                *v = f64::NAN;
            }
        }
        Ok(cells)
    }
}

/// Returns the mean of the values in a block of columns, or NaN if more than half of them are missing.
fn mean(band: &[f64], columns: usize, first: usize, block: usize) -> f32 {
    let (mut sum, mut valid, mut all) = (0.0, 0, 0);
    for row in band.chunks(columns) {
        for v in &row[first..(first + block).min(columns)] {
            all += 1;
            if v.is_finite() {
                sum += v;
                valid += 1;
            }
        }
    }
    if 2 * valid < all { f32::NAN } else { (sum / f64::from(valid)) as f32 }
}
