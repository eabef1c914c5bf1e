//! The latlon geometry.

use super::columns::Columns;
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
    let mut column = Columns::new(TILES * files.n * files.n);
    // The sources of each target at the first level at which it is wet.
    let mut first: Vec<Vec<(u32, f64)>> = vec![Vec::new(); rows * columns];
    let (mut k, mut failed) = (0, None);
    files.each_level("hFacC", |values| {
        let mut one = || -> Result<Arc<Level>, GeometryFileError> {
            let (wet, plane) = compact_plane(files.n, &values);
            let level = factors.level(k, &wet)?;
            let mut out = vec![0.0; rows * columns];
            level.apply(&plane, &mut out, FILL_DOUBLE, FILL_DOUBLE)?;
            fractions.add(out)?;
            mask.add(level.land().iter().map(|land| i8::from(!land)))?;
            for (m, sources) in first.iter_mut().enumerate().filter(|(_, sources)| sources.is_empty()) {
                *sources = level.sources(m);
            }
            Ok(level)
        };
        column.add(&values, vertical.drf[k]);
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
    let thickness = files.horizontal("Depth")?.unwrap_or_else(|| column.thickness());
    let depth: Vec<f32> = thickness.iter().zip(column.draft()).map(|(water, draft)| water + draft).collect();
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
    let mut variables = vec![
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
    if column.has_cavities() {
        // Below an ice shelf the surface is dry. The first wet level is used there.
        let bring = |values: &[f32]| -> Vec<f64> {
            let (_, plane) = compact_plane(files.n, values);
            let mean = |sources: &Vec<(u32, f64)>| match &sources[..] {
                [] => FILL_DOUBLE,
                some => {
                    some.iter().fold(0.0, |sum, (source, weight)| sum + weight * f64::from(plane[*source as usize]))
                }
            };
            first.iter().map(mean).collect()
        };
        let drafts = bring(column.draft());
        let cavities: Vec<i8> = drafts.iter().map(|draft| i8::from(*draft > 0.0 && *draft < FILL_DOUBLE)).collect();
        variables.push(text.field::<f64>("ice_shelf_draft", &horizontal, FILL_DOUBLE, flat(&drafts)?));
        variables.push(text.field::<f64>(
            "ocean_column_thickness",
            &horizontal,
            FILL_DOUBLE,
            flat(&bring(&thickness))?,
        ));
        variables.push(text.mask(
            "cavity_mask",
            &horizontal,
            None,
            CODEC.encode_whole(&cavities, &[rows, columns], 0)?,
        ));
    }
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
