//! The geometry of both grids as NetCDF files.

use super::DemoError;
use super::bathymetry::{self, GRAVITY, LEVELS, OpenFractions, THICKNESS};
use super::descriptions::{FieldDescription, LATLON_COORDINATES, LATLON_FIELDS, NATIVE_COORDINATES, NATIVE_FIELDS};
use super::factors::RegularGrid;
use super::geometry::DemoGeometry;
use super::topology::{TILES, cells};
use edp_engine::libraries;
use netcdf::FileMut;
use std::path::Path;

/// Fill value in single and in double precision.
const FILL: f32 = 9.969_21e36;
const FILL_DOUBLE: f64 = 9.969_209_968_386_869e36;
/// Radius of the Earth for the areas of regular cells, in metres.
const MEAN_RADIUS: f64 = 6_371_008.8;

/// Values of a variable, with their type in the file.
enum DemoValues {
    Index(usize),
    /// A coordinate, which is stored without compression.
    Plain(Vec<f32>),
    Single(Vec<f32>),
    Double(Vec<f64>),
    Mask {
        values: Vec<i8>,
        fill: bool,
    },
}

/// Returns the distances in metres between the centres of adjacent levels, and from the outer ones to surface and
/// bottom.
pub(super) fn steps_between() -> Vec<f64> {
    let mut points = vec![0.0];
    points.extend(bathymetry::centres());
    points.extend(bathymetry::faces().last());
    points.windows(2).map(|pair| pair[0] - pair[1]).collect()
}

/// Returns the hydrostatic pressure over density, in m2 s-2, at heights in metres.
pub(super) fn reference(heights: &[f64]) -> Vec<f64> {
    heights.iter().map(|z| -GRAVITY * z).collect()
}

/// Writes the native geometry.
pub(super) fn write_native(path: &Path, grid: &DemoGeometry, open: &OpenFractions) -> Result<(), DemoError> {
    let n = grid.n;
    let mut file = GeometryWriter::create(path)?;
    for (name, length) in [
        ("tile", TILES),
        ("j", n),
        ("i", n),
        ("j_g", n),
        ("i_g", n),
        ("k", LEVELS),
        ("k_u", LEVELS),
        ("k_l", LEVELS),
        ("k_p1", LEVELS + 1),
        ("nb", 4),
        ("nv", 2),
    ] {
        file.dimension(name, length)?;
    }
    file.global("Geometry of the demo's lat-lon-cap grid")?;
    let faces = bathymetry::faces();
    let centres = bathymetry::centres();
    let plain = |values: &[f64]| DemoValues::Plain(single(values));
    let corners = |pick: fn(&(f64, f64)) -> f64| {
        DemoValues::Plain(cells(n).flat_map(|c| grid.cell_corners(c)).map(|c| pick(&c) as f32).collect())
    };
    for about in NATIVE_COORDINATES {
        let own = |pick: fn(&(f64, f64)) -> f64| {
            DemoValues::Plain(cells(n).map(|cell| pick(&grid.own_corner(cell)) as f32).collect())
        };
        let values = match about.name {
            "XC" => DemoValues::Plain(grid.centres.iter().map(|c| c.0 as f32).collect()),
            "YC" => DemoValues::Plain(grid.centres.iter().map(|c| c.1 as f32).collect()),
            "XG" => own(|c| c.0),
            "YG" => own(|c| c.1),
            "XC_bnds" => corners(|c| c.0),
            "YC_bnds" => corners(|c| c.1),
            "Z" => plain(&centres),
            "Zp1" => plain(&faces),
            "Zu" => plain(&faces[1..]),
            "Zl" => plain(&faces[..LEVELS]),
            "Z_bnds" => plain(&faces.windows(2).flatten().copied().collect::<Vec<_>>()),
            "tile" => DemoValues::Index(TILES),
            "k" | "k_u" | "k_l" => DemoValues::Index(LEVELS),
            "k_p1" => DemoValues::Index(LEVELS + 1),
            _ => DemoValues::Index(n),
        };
        file.variable(about, values, "coordinate")?;
    }
    let mask = |fractions: &[f32]| DemoValues::Mask {
        values: fractions.iter().map(|h| i8::from(*h > 0.0)).collect(),
        fill: false,
    };
    for about in NATIVE_FIELDS {
        let values = match about.name {
            "CS" => DemoValues::Single(single(&grid.cs)),
            "SN" => DemoValues::Single(single(&grid.sn)),
            "rA" => DemoValues::Single(single(&grid.rac)),
            "rAs" => DemoValues::Single(single(&grid.ras)),
            "rAw" => DemoValues::Single(single(&grid.raw)),
            "rAz" => DemoValues::Single(single(&grid.raz)),
            "dxC" => DemoValues::Single(single(&grid.dxc)),
            "dyC" => DemoValues::Single(single(&grid.dyc)),
            "dxG" => DemoValues::Single(single(&grid.dxg)),
            "dyG" => DemoValues::Single(single(&grid.dyg)),
            "drC" => DemoValues::Single(single(&steps_between())),
            "drF" => DemoValues::Single(single(&THICKNESS)),
            "PHrefC" => DemoValues::Single(single(&reference(&centres))),
            "PHrefF" => DemoValues::Single(single(&reference(&faces))),
            "hFacC" => DemoValues::Single(open.c.clone()),
            "hFacW" => DemoValues::Single(open.w.clone()),
            "hFacS" => DemoValues::Single(open.s.clone()),
            "maskC" => mask(&open.c),
            "maskW" => mask(&open.w),
            "maskS" => mask(&open.s),
            _ => DemoValues::Single(single(&open.depth)),
        };
        file.variable(about, values, "modelResult")?;
    }
    file.close()
}

/// Writes the geometry of the regular grid; `nearest` is the source of each target cell.
pub(super) fn write_latlon(
    path: &Path,
    target: &RegularGrid,
    nearest: &[Option<usize>],
    open: &OpenFractions,
) -> Result<(), DemoError> {
    let mut file = GeometryWriter::create(path)?;
    for (name, length) in
        [("Z", LEVELS), ("latitude", target.latitudes.len()), ("longitude", target.longitudes.len()), ("nv", 2)]
    {
        file.dimension(name, length)?;
    }
    file.global("Geometry of the demo's regular grid")?;
    let plain = |values: &[f64]| DemoValues::Plain(single(values));
    let bounds = |centres: &[f64]| plain(&target.bounds(centres).concat());
    for about in LATLON_COORDINATES {
        let values = match about.name {
            "latitude" => plain(&target.latitudes),
            "longitude" => plain(&target.longitudes),
            "latitude_bnds" => bounds(&target.latitudes),
            "longitude_bnds" => bounds(&target.longitudes),
            "Z" => plain(&bathymetry::centres()),
            _ => plain(&bathymetry::faces().windows(2).flatten().copied().collect::<Vec<_>>()),
        };
        file.variable(about, values, "coordinate")?;
    }
    let plane = open.depth.len();
    let mapped = |values: &[f32]| -> Vec<f64> {
        let levels = values.chunks_exact(plane);
        levels.flat_map(|level| nearest.iter().map(|s| s.map_or(0.0, |s| f64::from(level[s])))).collect()
    };
    for about in LATLON_FIELDS {
        let values = match about.name {
            "hFacC" => DemoValues::Double(mapped(&open.c)),
            "Depth" => {
                let depth = |source: &Option<usize>| source.map(|s| open.depth[s]).filter(|depth| *depth > 0.0);
                DemoValues::Double(nearest.iter().map(|s| depth(s).unwrap_or(FILL_DOUBLE)).collect())
            }
            "area" => DemoValues::Double(target.centres().map(|(_, lat)| area(lat, target.side)).collect()),
            "drF" => DemoValues::Single(single(&THICKNESS)),
            _ => DemoValues::Mask { values: mapped(&open.c).iter().map(|h| i8::from(*h > 0.0)).collect(), fill: true },
        };
        file.variable(about, values, "modelResult")?;
    }
    file.close()
}

/// Returns the area in square metres of a cell between two parallels and two meridians.
fn area(latitude: f64, side: f64) -> f64 {
    let sin = |latitude: f64| libm::sin(latitude.to_radians());
    MEAN_RADIUS * MEAN_RADIUS * side.to_radians() * (sin(latitude + side / 2.0) - sin(latitude - side / 2.0))
}

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

/// A NetCDF file that is being written, with errors that name it.
struct GeometryWriter<'a> {
    path: &'a Path,
    file: FileMut,
}

impl<'a> GeometryWriter<'a> {
    fn create(path: &'a Path) -> Result<Self, DemoError> {
        let file = libraries::create(path).map_err(|source| error(path, source))?;
        Ok(GeometryWriter { path, file })
    }

    fn dimension(&mut self, name: &str, length: usize) -> Result<(), DemoError> {
        self.file.add_dimension(name, length).map(drop).map_err(|source| error(self.path, source))
    }

    fn global(&mut self, title: &str) -> Result<(), DemoError> {
        for (name, text) in [("Conventions", "CF-1.8"), ("title", title), ("comment", "Made up for a demonstration")] {
            self.file.add_attribute(name, text).map_err(|source| error(self.path, source))?;
        }
        Ok(())
    }

    fn variable(&mut self, about: &FieldDescription, values: DemoValues, kind: &str) -> Result<(), DemoError> {
        let path = self.path;
        self.try_variable(about, values, kind).map_err(|source| error(path, source))
    }

    fn try_variable(&mut self, about: &FieldDescription, values: DemoValues, kind: &str) -> Result<(), netcdf::Error> {
        let (name, dimensions) = (about.name, about.dimensions);
        let mut variable = match &values {
            DemoValues::Index(_) => self.file.add_variable::<i32>(name, dimensions)?,
            DemoValues::Plain(_) | DemoValues::Single(_) => self.file.add_variable::<f32>(name, dimensions)?,
            DemoValues::Double(_) => self.file.add_variable::<f64>(name, dimensions)?,
            DemoValues::Mask { .. } => self.file.add_variable::<i8>(name, dimensions)?,
        };
        if !matches!(values, DemoValues::Index(_) | DemoValues::Plain(_)) {
            variable.set_compression(5, true)?;
        }
        match &values {
            DemoValues::Single(_) => variable.set_fill_value(FILL)?,
            DemoValues::Double(_) => variable.set_fill_value(FILL_DOUBLE)?,
            DemoValues::Mask { fill: true, .. } => variable.set_fill_value(1i8)?,
            _ => {}
        }
        for (key, text) in [
            ("axis", about.axis),
            ("bounds", about.bounds),
            ("coverage_content_type", kind),
            ("long_name", about.long_name),
            ("positive", about.positive),
            ("standard_name", about.standard_name),
            ("units", about.units),
            ("comment", about.comment),
        ] {
            if !text.is_empty() {
                variable.put_attribute(key, text)?;
            }
        }
        match values {
            DemoValues::Index(length) => variable.put_values(&(0..length as i32).collect::<Vec<_>>(), ..),
            DemoValues::Plain(values) | DemoValues::Single(values) => variable.put_values(&values, ..),
            DemoValues::Double(values) => variable.put_values(&values, ..),
            DemoValues::Mask { values, .. } => {
                variable.put_attribute("dtype", "bool")?;
                variable.put_values(&values, ..)
            }
        }
    }

    fn close(self) -> Result<(), DemoError> {
        self.file.close().map_err(|source| error(self.path, source))
    }
}

fn error(path: &Path, source: netcdf::Error) -> DemoError {
    DemoError::NetCdf { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_between_levels() {
        let steps = steps_between();
        assert_eq!(steps.len(), LEVELS + 1);
        assert_eq!(steps[0], 7.5);
        assert_eq!(steps[1], 20.0);
        assert_eq!(steps.iter().sum::<f64>(), 5500.0);
        assert_eq!(reference(&[-100.0]), [981.0]);
    }

    #[test]
    fn regular_cells_cover_the_globe() {
        let target = RegularGrid::new(30);
        let sum: f64 = target.centres().map(|(_, lat)| area(lat, target.side)).sum();
        let sphere = 4.0 * std::f64::consts::PI * MEAN_RADIUS * MEAN_RADIUS;
        assert!((sum / sphere - 1.0).abs() < 1e-12);
    }
}
