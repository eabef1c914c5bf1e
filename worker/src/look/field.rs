//! One level of one variable, read from a granule and brought to the size of a picture.

use super::LookError;
use edp_engine::libraries;
use netcdf::{AttributeValue, Variable};
use std::path::Path;

/// Number of tiles of a native granule.
pub(super) const TILES: usize = 13;
/// Most cells along a side of a map or tile; the largest grids in use have 17,280 columns.
const MAX_SIDE: usize = 100_000;
/// Most cells of a map or tile.
const MAX_CELLS: usize = 1 << 29;
/// Values are read in blocks of about this many.
const BLOCK: usize = 1 << 22;
/// Names of the coordinates that have the shape of a field.
const COORDINATES: [&str; 8] = ["XC", "YC", "XG", "YG", "XU", "YU", "XV", "YV"];

/// A rectangle of values, rows as in the file; NaN where there is none.
pub(super) struct Panel {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) values: Vec<f32>,
}

/// What kind of grid the panels lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One map; whether its rows run from south to north.
    Map { northward: bool },
    /// Thirteen tiles.
    Tiles,
}

/// One level of a variable.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) long_name: String,
    pub(super) units: String,
    pub(super) kind: Kind,
    pub(super) panels: Vec<Panel>,
    /// Whether it has levels at all.
    pub(super) layered: bool,
    /// Least and greatest value of the level, before any averaging; `None` if there is no value.
    pub(super) range: Option<(f64, f64)>,
}

impl Field {
    /// Reads a level of a variable, or of the file's first one; sides longer than `longest` cells (of all panels
    /// side by side) are shortened by averaging.
    pub(super) fn read(path: &Path, variable: Option<&str>, level: usize, longest: usize) -> Result<Field, LookError> {
        let fail = |source| LookError::NetCdf { file: path.to_owned(), source };
        let file = libraries::open(path).map_err(fail)?;
        let candidates: Vec<_> = file.variables().filter(|v| kind(v).is_some()).collect();
        let chosen = match variable {
            Some(name) => candidates.iter().find(|v| v.name() == name),
            None => {
                let data = || candidates.iter().filter(|v| !COORDINATES.contains(&v.name().as_str()));
                data().find(|v| v.dimensions().iter().any(|d| d.name() == "time")).or_else(|| data().next())
            }
        };
        let Some(chosen) = chosen else {
            let names = candidates.iter().map(Variable::name).collect::<Vec<_>>().join(", ");
            let file = path.to_owned();
            return Err(match variable {
                Some(name) => LookError::NoVariable { file, name: name.to_owned(), names },
                None => LookError::NoField { file },
            });
        };
        let reader = Reader::new(path, chosen, level)?;
        let kind = match kind(chosen) {
            Some(Kind::Tiles) => Kind::Tiles,
            _ => Kind::Map { northward: northward(&file).map_err(fail)? },
        };
        let sides = if kind == Kind::Tiles { 4 * reader.columns } else { reader.columns.max(reader.rows) };
        let block = sides.div_ceil(longest).max(1);
        let mut range = None;
        let panels = (0..if kind == Kind::Tiles { TILES } else { 1 })
            .map(|panel| reader.panel(panel, block, &mut range))
            .collect::<Result<_, _>>()?;
        let text = |name: &str| match chosen.attribute_value(name) {
            Some(Ok(AttributeValue::Str(text))) => text,
            _ => String::new(),
        };
        Ok(Field {
            name: chosen.name(),
            long_name: text("long_name"),
            units: text("units"),
            kind,
            panels,
            layered: reader.layered,
            range,
        })
    }
}

/// The grid of a variable, by the names of its last dimensions; `None` if it is no field.
fn kind(variable: &Variable<'_>) -> Option<Kind> {
    let names: Vec<_> = variable.dimensions().iter().map(|d| d.name()).collect();
    match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [.., "tile", "j" | "j_g", "i" | "i_g"] => Some(Kind::Tiles),
        [.., "latitude", "longitude"] => Some(Kind::Map { northward: true }),
        _ => None,
    }
}

/// Whether the rows of a map run from south to north, as they do unless `latitude` says otherwise.
fn northward(file: &netcdf::File) -> Result<bool, netcdf::Error> {
    match file.variable("latitude") {
        Some(latitude) if latitude.len() >= 2 && latitude.dimensions().len() == 1 => {
            let ends = [latitude.get_value::<f64, _>([0])?, latitude.get_value::<f64, _>([latitude.len() - 1])?];
            Ok(ends[0] <= ends[1])
        }
        _ => Ok(true),
    }
}

/// Reads panels of one level.
struct Reader<'a> {
    path: &'a Path,
    variable: &'a Variable<'a>,
    /// Start of the level: everything but panel, row, column.
    leading: Vec<usize>,
    tiled: bool,
    rows: usize,
    columns: usize,
    layered: bool,
    fills: Vec<f64>,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, variable: &'a Variable<'a>, level: usize) -> Result<Self, LookError> {
        let (file, name) = (path.to_owned(), variable.name());
        let tiled = kind(variable) == Some(Kind::Tiles);
        let dimensions = variable.dimensions();
        let (leading, last) = dimensions.split_at(dimensions.len() - if tiled { 3 } else { 2 });
        let (rows, columns) = (last[last.len() - 2].len(), last[last.len() - 1].len());
        let possible = |side| (1..=MAX_SIDE).contains(&side);
        if !possible(rows) || !possible(columns) || rows * columns > MAX_CELLS || (tiled && last[0].len() != TILES) {
            let shape = last.iter().map(|d| d.len()).collect();
            return Err(LookError::Shape { file, name, shape });
        }
        if leading.iter().any(|d| d.len() == 0) {
            return Err(LookError::NoField { file });
        }
        let mut start = vec![0; leading.len()];
        // Of time there is one; the dimension after it is the vertical one.
        let vertical = leading.iter().position(|d| d.name() != "time");
        let levels = vertical.map_or(1, |at| leading[at].len());
        if level >= levels {
            return Err(LookError::Level { file, name, level, levels });
        }
        if let Some(at) = vertical {
            start[at] = level;
        }
        let truth = variable.attribute_value("dtype").is_some();
        let fills = ["_FillValue", "missing_value"].into_iter().filter(|_| !truth);
        let fills = fills.filter_map(|name| variable.attribute_value(name)?.ok()?.try_into().ok()).collect();
        Ok(Reader { path, variable, leading: start, tiled, rows, columns, layered: vertical.is_some(), fills })
    }

    /// Reads a panel, averages blocks of `block` x `block` cells, and widens the range of values.
    fn panel(&self, panel: usize, block: usize, range: &mut Option<(f64, f64)>) -> Result<Panel, LookError> {
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

    /// Some rows of a panel, with NaN for fill.
    fn rows(&self, panel: usize, top: usize, height: usize) -> Result<Vec<f64>, LookError> {
        let mut start = self.leading.clone();
        let mut count = vec![1; start.len()];
        if self.tiled {
            start.push(panel);
            count.push(1);
        }
        start.extend([top, 0]);
        count.extend([height, self.columns]);
        let mut cells: Vec<f64> = self
            .variable
            .get_values((start, count))
            .map_err(|source| LookError::NetCdf { file: self.path.to_owned(), source })?;
        for v in &mut cells {
            if self.fills.contains(v) {
                *v = f64::NAN;
            }
        }
        Ok(cells)
    }
}

/// Mean of the values in a block of columns; none if more than half of them are missing.
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
