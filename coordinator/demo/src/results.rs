//! The model output: every variable in every month.

use super::DemoError;
use super::bathymetry::{self, LEVELS, OpenFractions};
use super::calendar::{MONTHS, STEP_SECONDS};
use super::datasets::{CellPoint, DemoVariable, MODEL};
use super::geometry::{DemoGeometry, corner};
use super::mds::{self, MdsField};
use super::ocean::Ocean;
use super::topology::{Cell, cells};
use std::fs;
use std::path::Path;

/// Density of ice and of snow relative to sea water.
const ICE: f64 = 910.0 / 1027.0;
const SNOW: f64 = 330.0 / 1027.0;

/// Writes all output below `directory`, as the model arranges it: `diags_monthly/<name>_mon_mean/...`.
pub(super) fn write(directory: &Path, grid: &DemoGeometry, open: &OpenFractions) -> Result<(), DemoError> {
    for variable in MODEL {
        let folder = directory.join("diags_monthly").join(format!("{}_mon_mean", variable.name));
        fs::create_dir_all(&folder).map_err(|source| DemoError::Write { path: folder.clone(), source })?;
        for month in &MONTHS {
            let step = month.steps[1];
            let stem = folder.join(format!("{}_mon_mean.{step:010}", variable.name));
            let values = values(variable, &Ocean::new(month.number), grid, open);
            let interval = month.steps.map(|step| (step * STEP_SECONDS) as f64);
            mds::write_planes(&stem, grid.n, &values, Some(&MdsField { field: variable.name, step, interval }))?;
        }
    }
    Ok(())
}

/// Returns one variable of one month, level by level; 0 where there is no water.
fn values(variable: &DemoVariable, ocean: &Ocean, grid: &DemoGeometry, open: &OpenFractions) -> Vec<f32> {
    let plane = grid.centres.len();
    let fractions = match variable.place {
        CellPoint::C | CellPoint::W => &open.c,
        CellPoint::U => &open.w,
        CellPoint::V => &open.s,
    };
    let levels = if variable.three_d { LEVELS } else { 1 };
    let middles = bathymetry::centres();
    let tops = bathymetry::faces();
    let flow = match variable.place {
        CellPoint::U => Some(along_x(ocean, grid)),
        CellPoint::V => Some(along_y(ocean, grid)),
        CellPoint::C | CellPoint::W => None,
    };
    let mut values = vec![0.0; plane * levels];
    for (at, &(lon, lat)) in grid.centres.iter().enumerate() {
        if fractions[at] == 0.0 {
            continue;
        }
        let column = column(variable, ocean, (lon, lat), open.depth[at], flow.as_ref().map(|flow| flow[at]));
        for k in (0..levels).filter(|k| fractions[k * plane + at] > 0.0) {
            let z = if variable.place == CellPoint::W { tops[k] } else { middles[k] };
            values[k * plane + at] = column(z) as f32;
        }
    }
    values
}

/// Returns one variable in one column, as a function of height below the surface.
fn column<'a>(
    variable: &DemoVariable,
    ocean: &'a Ocean,
    (lon, lat): (f64, f64),
    depth: f64,
    flow: Option<f64>,
) -> Box<dyn Fn(f64) -> f64 + 'a> {
    let surface = match (variable.name, flow) {
        (_, Some(flow)) => return Box::new(move |z| flow * Ocean::flow_at(z)),
        ("THETA", _) => return Box::new(ocean.temperature(lon, lat)),
        ("SALT", _) => return Box::new(ocean.salinity(lon, lat)),
        ("WVELMASS", _) => return Box::new(ocean.upward(lon, lat, depth)),
        ("SSHIBC", _) => ocean.barometer(lon, lat),
        ("SSHNOIBC", _) => ocean.height(lon, lat) + ocean.barometer(lon, lat),
        ("ETAN", _) => {
            let load = ICE * ocean.ice_thickness(lon, lat) + SNOW * ocean.snow_thickness(lon, lat);
            ocean.height(lon, lat) + ocean.barometer(lon, lat) - load
        }
        ("SIarea", _) => ocean.ice_cover(lon, lat),
        ("SIheff", _) => ocean.ice_thickness(lon, lat),
        ("SIhsnow", _) => ocean.snow_thickness(lon, lat),
        _ => ocean.height(lon, lat),
    };
    Box::new(move |_| surface)
}

/// Returns height of the surface and latitude at all corners.
fn corners(ocean: &Ocean, grid: &DemoGeometry) -> Vec<(f64, f64)> {
    grid.corners.iter().map(|&(lon, lat)| (ocean.height(lon, lat), lat)).collect()
}

/// Returns the surface flow through the west faces, from the slope along them.
fn along_x(ocean: &Ocean, grid: &DemoGeometry) -> Vec<f64> {
    let corners = corners(ocean, grid);
    let face = |((t, j, i), dy): (Cell, &f64)| {
        let (low, high) = (corners[corner(grid.n, (t, j, i))], corners[corner(grid.n, (t, j + 1, i))]);
        -Ocean::geostrophy((low.1 + high.1) / 2.0) * (high.0 - low.0) / dy
    };
    cells(grid.n).zip(&grid.dyg).map(face).collect()
}

/// Returns the surface flow through the south faces, from the slope along them.
fn along_y(ocean: &Ocean, grid: &DemoGeometry) -> Vec<f64> {
    let corners = corners(ocean, grid);
    let face = |((t, j, i), dx): (Cell, &f64)| {
        let (low, high) = (corners[corner(grid.n, (t, j, i))], corners[corner(grid.n, (t, j, i + 1))]);
        Ocean::geostrophy((low.1 + high.1) / 2.0) * (high.0 - low.0) / dx
    };
    cells(grid.n).zip(&grid.dxg).map(face).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn named(name: &str) -> &'static DemoVariable {
        MODEL.iter().find(|v| v.name == name).unwrap()
    }

    #[test]
    fn land_is_zero_and_water_moves() {
        let grid = DemoGeometry::new(12);
        let open = OpenFractions::new(&grid);
        let ocean = Ocean::new(0);
        for (name, fractions) in [("THETA", &open.c), ("UVEL", &open.w), ("VVEL", &open.s)] {
            let values = values(named(name), &ocean, &grid, &open);
            assert_eq!(values.len(), fractions.len());
            for (value, open) in values.iter().zip(fractions) {
                assert!(value.is_finite() && (*open > 0.0 || *value == 0.0));
            }
        }
        let u = values(named("UVEL"), &ocean, &grid, &open);
        let fastest = u.iter().fold(0f32, |a, b| a.max(b.abs()));
        assert!((0.05..2.0).contains(&fastest), "{fastest}");
        let w = values(named("WVELMASS"), &ocean, &grid, &open);
        assert!(w[..grid.centres.len()].iter().all(|w| *w == 0.0), "no flow through the surface");
        assert!(w.iter().any(|w| *w != 0.0));
    }

    #[test]
    fn every_variable_has_a_field_of_its_own() {
        let grid = DemoGeometry::new(8);
        let open = OpenFractions::new(&grid);
        let ocean = Ocean::new(0);
        let all: Vec<_> = MODEL.iter().map(|v| values(v, &ocean, &grid, &open)).collect();
        for (a, first) in all.iter().enumerate() {
            assert!(first.iter().any(|v| *v != 0.0));
            assert!(all[a + 1..].iter().all(|second| first != second));
        }
    }

    #[test]
    fn the_circumpolar_current_runs_east() {
        let grid = DemoGeometry::new(12);
        let ocean = Ocean::new(0);
        let (u, v) = (along_x(&ocean, &grid), along_y(&ocean, &grid));
        for (at, ((tile, ..), &(_, lat))) in cells(grid.n).zip(&grid.centres).enumerate() {
            if (-53.0..-43.0).contains(&lat) {
                // On tiles 7 to 12 the y axis points east.
                let east = if tile < 6 { u[at] } else { v[at] };
                assert!(east > 0.0, "tile {tile}: {east}");
            }
        }
    }
}
