//! The latlon geometry.

use super::describe::GeometryText;
use super::levels::LevelEncoder;
use super::{CODEC, CellGeometry, FILL, FILL_DOUBLE, GeometryFileError};
use crate::codec::CodecError;
use crate::granule::content::{GranuleContent, Value, Values};
use crate::grid::ModelFiles;
use crate::mapping::create::MEAN_RADIUS;
use crate::mapping::{Factors, Level, MappingError};
use crate::mds::compact::{self, TILES};
use crate::metadata::source::Metadata;
use edp_protocol::GridKind;
use std::sync::Arc;

/// Makes the latlon geometry from the model's grid files by mapping factors: open fractions level by level, the depth with
/// the factors of the surface, and the areas of the cells.
///
/// # Errors
/// Returns an error if a file that is needed is missing or cannot be read, or if factors and grid do not belong together.
pub fn latlon(
    files: &ModelFiles,
    factors: &Factors,
    metadata: Option<&Metadata>,
) -> Result<GranuleContent, GeometryFileError> {
    let levels = files.levels;
    if factors.levels() != levels {
        return Err(GeometryFileError::Levels { factors: factors.levels(), grid: levels });
    }
    let text = GeometryText { metadata, grid: GridKind::Latlon };
    let vertical = CellGeometry::vertical(files)?;
    let (rows, columns) = factors.shape();
    let shape = [levels, rows, columns];
    let (mut fractions, mut mask) = (LevelEncoder::<f64>::new(&shape), LevelEncoder::<i8>::new(&shape));
    let mut surface: Option<Arc<Level>> = None;
    let mut column = vec![0.0_f64; TILES * files.n * files.n];
    let (mut k, mut failed) = (0, None);
    files.each_level("hFacC", |values| {
        let mut one = || -> Result<Arc<Level>, GeometryFileError> {
            let (wet, plane) = compact_plane(files.n, &values);
            let level = factors.level(k, &wet)?;
            let mut out = vec![0.0; rows * columns];
            level.apply(&plane, &mut out, FILL_DOUBLE, FILL_DOUBLE)?;
            fractions.add(out)?;
            mask.add(level.land().iter().map(|land| i8::from(!land)))?;
            Ok(level)
        };
        let thickness = f64::from(vertical.drf[k]);
        column.iter_mut().zip(&values).for_each(|(sum, open)| *sum += f64::from(*open) * thickness);
        if failed.is_none() {
            match one() {
                Ok(level) if k == 0 => surface = Some(level),
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        k += 1;
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let depth: Vec<f32> =
        files.horizontal("Depth")?.unwrap_or_else(|| column.iter().map(|depth| *depth as f32).collect());
    let no_level = || MappingError::NoLevel { dir: factors.dir().to_owned(), level: 0, levels: 0 };
    let mut depths = vec![0.0; rows * columns];
    let (_, plane) = compact_plane(files.n, &depth);
    surface.ok_or_else(no_level)?.apply(&plane, &mut depths, FILL_DOUBLE, FILL_DOUBLE)?;

    let flat = |values: &[f64]| -> Result<_, CodecError> { CODEC.encode_whole(values, &[rows, columns], FILL_DOUBLE) };
    let plain = |name: &str, dimensions: &[&str], values: Vec<f32>| {
        text.coordinate(name, dimensions, Values::F32(values.into()))
    };
    let single = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<_>>();
    let pairs = |bounds: &[[f64; 2]]| single(bounds.as_flattened());
    let horizontal = ["latitude", "longitude"];
    let solid = ["Z", "latitude", "longitude"];
    let variables = vec![
        plain("Z", &["Z"], vertical.rc.clone()),
        plain("latitude", &["latitude"], single(factors.latitudes())),
        plain("longitude", &["longitude"], single(factors.longitudes())),
        text.field::<f64>("hFacC", &solid, FILL_DOUBLE, fractions.finish()),
        text.field::<f64>("Depth", &horizontal, FILL_DOUBLE, flat(&depths)?),
        text.field::<f64>("area", &horizontal, FILL_DOUBLE, flat(&areas(factors))?),
        text.field::<f32>("drF", &["Z"], FILL.into(), CODEC.encode_whole(&vertical.drf, &[levels], FILL)?),
        text.mask("maskC", &solid, Some(1.0), mask.finish()),
        plain("latitude_bnds", &["latitude", "nv"], pairs(factors.latitude_bounds())),
        plain("longitude_bnds", &["longitude", "nv"], pairs(factors.longitude_bounds())),
        plain("Z_bnds", &["Z", "nv"], vertical.rf.windows(2).flatten().copied().collect()),
    ];
    let dimensions = [("Z", levels), ("latitude", rows), ("longitude", columns), ("nv", 2)];
    let title = format!("Geometry of a regular grid of {rows} by {columns} cells with {levels} levels");
    let attributes =
        [("Conventions", "CF-1.8"), ("title", title.as_str()), ("coordinates", "Z_bnds longitude_bnds latitude_bnds")];
    Ok(GranuleContent {
        dimensions: dimensions.map(|(name, length)| (name.to_owned(), length)).into(),
        variables,
        attributes: attributes.map(|(name, text)| (name.to_owned(), Value::Text(text.to_owned()))).into(),
    })
}

/// Areas of all cells, square metres.
fn areas(factors: &Factors) -> Vec<f64> {
    let sine = |degrees: f64| libm::sin(degrees.to_radians());
    let bands = factors.latitude_bounds().iter().map(|[south, north]| sine(*north) - sine(*south));
    let widths: Vec<f64> = factors.longitude_bounds().iter().map(|[west, east]| (east - west).to_radians()).collect();
    bands.flat_map(|band| widths.iter().map(move |width| MEAN_RADIUS * MEAN_RADIUS * band * width)).collect()
}

/// Brings a level from tile order to the compact layout, and returns with it where the values above zero stand there, in
/// the order (tile, j, i).
fn compact_plane(n: usize, tiles: &[f32]) -> (Vec<u32>, Vec<f32>) {
    let mut plane = vec![0.0; tiles.len()];
    compact::from_tiles(n, tiles, &mut plane);
    let wet = tiles.iter().enumerate().filter(|(_, value)| **value > 0.0);
    let place = |cell: usize| compact::row(n, cell / (n * n), cell / n % n) * n + cell % n;
    (wet.map(|(cell, _)| place(cell) as u32).collect(), plane)
}
