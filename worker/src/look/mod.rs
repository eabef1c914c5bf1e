//! Quick-look pictures of granules: one level of one variable as a PNG.
//!
//! A latlon granule becomes a map with north up. The 13 tiles of a native granule are arranged as two pairs of facets:
//! tiles 0 to 5 as they are, tiles 7 to 12 turned so that north is up, and the Arctic tile above tile 5, where their
//! axes continue each other.
// For pictures only: no value from here reaches a granule.
#![allow(clippy::disallowed_methods)]

mod canvas;
mod colour;
mod field;
mod font;
mod number;

pub use colour::Palette;

use canvas::Canvas;
use colour::{INK, LAND};
use edp_engine::reader::ReadError;
use edp_files::output;
use field::{FieldLevel, Kind, Panel};
use std::path::{Path, PathBuf};

/// Width of the widest map, in pixels.
const WIDEST: usize = 1080;
/// Margin around everything, in pixels.
const MARGIN: usize = 16;
/// Size of a font pixel, in pixels of the picture.
const SCALE: usize = 2;
/// Distance of lines of text, in pixels.
const LINE: usize = 26;
/// Height of the colour bar, in pixels.
const BAR: usize = 18;

/// Description of a picture that was drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Name of the variable.
    pub variable: String,
    /// Units of the variable; empty if the file has none.
    pub units: String,
    /// Width of the picture in pixels.
    pub width: usize,
    /// Height of the picture in pixels.
    pub height: usize,
    /// Smallest and largest value of the level; `None` if it has no value at all.
    pub range: Option<(f64, f64)>,
    /// Values at the two ends of the colour bar. Values beyond them have the colours of the ends.
    pub scale: (f64, f64),
    /// Palette of the picture.
    pub palette: Palette,
}

/// The reason why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The granule cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The granule has no such field.
    #[error("{}: has no field '{name}'; it has: {names}", file.display())]
    NoVariable {
        /// Path of the granule.
        file: PathBuf,
        /// Name that was asked for.
        name: String,
        /// Names of the existing fields.
        names: String,
    },
    /// The granule has no field at all.
    #[error("{}: has no variable on (latitude, longitude) or on (tile, j, i)", file.display())]
    NoField {
        /// Path of the granule.
        file: PathBuf,
    },
    /// The variable has no such level.
    #[error("{}: {name} has no level {level}; give one from 0 to {}", file.display(), levels - 1)]
    Level {
        /// Path of the granule.
        file: PathBuf,
        /// Name of the variable.
        name: String,
        /// Level that was asked for.
        level: usize,
        /// Number of levels of the variable.
        levels: usize,
    },
    /// The field has a shape that cannot be drawn.
    #[error("{}: {name} has the shape {shape:?}, which cannot be drawn", file.display())]
    Shape {
        /// Path of the granule.
        file: PathBuf,
        /// Name of the variable.
        name: String,
        /// Horizontal shape of the variable.
        shape: Vec<usize>,
    },
    /// The picture cannot be written.
    #[error("{}: cannot be written: {source}", file.display())]
    Write {
        /// Path of the picture.
        file: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

/// Draws one level of a variable of a granule into the PNG file `out`.
///
/// Without a name, it is the first variable on time and the grid, else the first one on the grid. `level` counts from 0
/// at the top; a 2-D variable has level 0 only. The colours span the middle 99 % of the values. If there are
/// considerable values on both sides of zero, zero is in the middle.
///
/// # Errors
/// Returns an error if the granule cannot be read or has no such field or level, or if the picture cannot be written.
pub fn render(granule: &Path, variable: Option<&str>, level: usize, out: &Path) -> Result<Picture, LookError> {
    let field = FieldLevel::read(granule, variable, level, WIDEST)?;
    let (scale, palette) = scale(&field);
    let map = layout(&field);
    let zoom = (WIDEST / map.columns.max(map.rows)).max(1);
    let (width, height) = (map.columns * zoom, map.rows * zoom);
    let top = MARGIN + 2 * LINE;
    // Room for a title and a colour bar beside a narrow map.
    let mut page = Canvas::new(width.max(500) + 2 * MARGIN, top + height + MARGIN + BAR + LINE + MARGIN);
    let colour_at = |value: f64| palette.at((value - scale.0) / (scale.1 - scale.0));

    for (at, cell) in map.cells.iter().enumerate() {
        let colour = match cell {
            LayoutCell::Outside => continue,
            LayoutCell::Value(value) if value.is_nan() => LAND,
            LayoutCell::Value(value) => colour_at(f64::from(*value)),
        };
        page.fill(MARGIN + at % map.columns * zoom, top + at / map.columns * zoom, zoom, zoom, colour);
    }
    for &(x, y, columns, rows) in &map.frames {
        page.frame(MARGIN + x * zoom, top + y * zoom, columns * zoom, rows * zoom, INK);
    }
    titles(&mut page, &field, level, granule);
    bar(&mut page, top + height + MARGIN, scale, field.range, &colour_at);

    save(&page, out).map_err(|source| LookError::Write { file: out.to_owned(), source })?;
    let FieldLevel { name, units, range, .. } = field;
    Ok(Picture { variable: name, units, width: page.width, height: page.height, range, scale, palette })
}

/// One cell of the layout.
#[derive(Clone, Copy)]
enum LayoutCell {
    /// There is no tile here.
    Outside,
    /// A value of the field; NaN is land.
    Value(f32),
}

/// The cells as they are shown, with rows from the top.
struct Map {
    rows: usize,
    columns: usize,
    cells: Vec<LayoutCell>,
    /// Column, row, columns and rows of each frame.
    frames: Vec<(usize, usize, usize, usize)>,
}

/// Arranges the panels on the map.
fn layout(field: &FieldLevel) -> Map {
    let Panel { rows, columns, values } = &field.panels[0];
    match field.kind {
        Kind::Map { northward } => {
            let lines = values.chunks_exact(*columns);
            let values: Vec<f32> =
                if northward { lines.rev().flatten().copied().collect() } else { lines.flatten().copied().collect() };
            let cells = values.into_iter().map(LayoutCell::Value).collect();
            Map { rows: *rows, columns: *columns, cells, frames: vec![(0, 0, *columns, *rows)] }
        }
        Kind::Tiles => {
            // Tiles are square, but those of a damaged file need not be.
            let n = (*rows).max(*columns);
            let mut map =
                Map { rows: 4 * n, columns: 4 * n, cells: vec![LayoutCell::Outside; 16 * n * n], frames: vec![] };
            for (tile, panel) in field.panels.iter().enumerate() {
                let (left, top) = match tile {
                    0..=5 => (tile / 3 * n, (3 - tile % 3) * n),
                    6 => (n, 0),
                    _ => ((tile - 1) / 3 * n, (1 + (tile - 7) % 3) * n),
                };
                map.frames.push((left, top, n, n));
                for (at, value) in panel.values.iter().enumerate() {
                    let (j, i) = (at / panel.columns, at % panel.columns);
                    // From tile 7 on, i runs southwards and j eastwards.
                    let (x, y) = if tile < 7 { (i, n - 1 - j) } else { (j, i) };
                    map.cells[(top + y) * map.columns + left + x] = LayoutCell::Value(*value);
                }
            }
            map
        }
    }
}

/// Returns the values at the ends of the colour bar, and the palette.
fn scale(field: &FieldLevel) -> ((f64, f64), Palette) {
    let mut values: Vec<f32> = field.panels.iter().flat_map(|p| &p.values).copied().filter(|v| v.is_finite()).collect();
    if values.is_empty() {
        return ((0.0, 1.0), Palette::Sequential);
    }
    values.sort_unstable_by(f32::total_cmp);
    let rank = |part: f64| f64::from(values[((values.len() - 1) as f64 * part).round() as usize]);
    let (low, high) = (rank(0.005), rank(0.995));
    let widest = low.abs().max(high.abs());
    if low < 0.0 && high > 0.0 && low.abs().min(high) > 0.2 * widest {
        ((-widest, widest), Palette::Diverging)
    } else if low < high {
        ((low, high), Palette::Sequential)
    } else {
        // If all values are equal, the value is in the middle of the scale.
        let around = if low == 0.0 { 1.0 } else { low.abs() / 2.0 };
        ((low - around, low + around), Palette::Sequential)
    }
}

fn titles(page: &mut Canvas, field: &FieldLevel, level: usize, granule: &Path) {
    let mut title = field.name.clone();
    if !field.units.is_empty() {
        title += &format!(" [{}]", field.units);
    }
    if field.layered {
        title += &format!("  level {level}");
    }
    if !field.long_name.is_empty() {
        title += &format!("  {}", field.long_name);
    }
    let file = granule.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let room = (page.width - 2 * MARGIN) / (font::ADVANCE * SCALE);
    for (line, text) in [title, file].iter().enumerate() {
        let text: String = text.chars().take(room).collect();
        page.text(MARGIN, MARGIN + line * LINE, SCALE, &text, INK);
    }
}

/// Draws the colour bar with its ends and middle, and beside it the range of the values.
fn bar(
    page: &mut Canvas,
    top: usize,
    (low, high): (f64, f64),
    range: Option<(f64, f64)>,
    colour_at: &dyn Fn(f64) -> colour::Rgb,
) {
    let room = page.width - 2 * MARGIN;
    let width = room / 2;
    for x in 0..width {
        let place = (x as f64 + 0.5) / width as f64;
        page.fill(MARGIN + x, top, 1, BAR, colour_at(low + place * (high - low)));
    }
    page.frame(MARGIN, top, width, BAR, INK);
    let labels = top + BAR + 6;
    for (part, value) in [(0, low), (1, (low + high) / 2.0), (2, high)] {
        let text = number::short(value);
        let wide = Canvas::text_width(&text, SCALE);
        // The outer labels end where the bar does.
        page.text(MARGIN + part * width / 2 - part * wide / 2, labels, SCALE, &text, INK);
    }
    let words = match range {
        Some((least, greatest)) => format!("min {}  max {}", number::short(least), number::short(greatest)),
        None => "no values".to_owned(),
    };
    let wide = Canvas::text_width(&words, SCALE);
    page.text((MARGIN + room).saturating_sub(wide), top, SCALE, &words, INK);
}

/// Writes the page as a PNG.
fn save(page: &Canvas, out: &Path) -> std::io::Result<()> {
    let side = |pixels| u32::try_from(pixels).map_err(std::io::Error::other);
    let mut picture = Vec::new();
    let mut encoder = png::Encoder::new(&mut picture, side(page.width)?, side(page.height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(page.bytes())?;
    writer.finish()?;
    output::write(out, &picture)
}

#[cfg(test)]
mod tests;
