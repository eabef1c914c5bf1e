//! Positions on the grid: corners, vectors and masks, checked against the coordinates of the demo's grid, and by
//! productions with other masks and points than usual.
// The values that are compared here have tolerances.
#![allow(clippy::disallowed_methods)]

use edp_engine::granule::rotation::{Staggering, rotate};
use edp_engine::grid::{Native, topology};
use edp_engine::mds::compact::{self, TILES};
use edp_protocol::recipe::{self, Orientation};
use edp_tests::{Fixture, coordinator, expect, json, text};
use std::fs;
use std::path::{Path, PathBuf};

type Vector = [f64; 3];

/// Returns the point on the unit sphere with this longitude and latitude in degrees.
fn place(lon: f32, lat: f32) -> Vector {
    let (lon, lat) = (f64::from(lon).to_radians(), f64::from(lat).to_radians());
    [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]
}

fn distance(a: Vector, b: Vector) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

/// Returns the four corners of a cell from its bounds.
fn around(grid: &Native, cell: usize) -> [Vector; 4] {
    [0, 1, 2, 3].map(|at| place(grid.xc_bounds[4 * cell + at], grid.yc_bounds[4 * cell + at]))
}

#[test]
fn a_corner_is_where_the_bounds_of_its_cells_are() {
    let fixture = Fixture::new(6);
    let grid = Native::load(&fixture.demo.grid).unwrap();
    let n = grid.n;
    let stored: Vec<Vector> = grid.xg.iter().zip(grid.yg.iter()).map(|(lon, lat)| place(*lon, *lat)).collect();
    let mut nowhere = Vec::new();
    for tile in 0..TILES {
        for j in 0..=n {
            for i in 0..=n {
                // A cell that has this corner, and the index of the corner among its four.
                let (up, right) = (usize::from(j == n), usize::from(i == n));
                let cell = (tile * n + j - up) * n + i - right;
                let here = around(&grid, cell)[[[0, 1], [3, 2]][up][right]];
                match topology::corner(n, tile, j, i) {
                    Some(at) => assert!(distance(stored[at], here) < 1e-5, "tile {tile}, {j}, {i}: corner {at}"),
                    None => {
                        assert!(stored.iter().all(|place| distance(*place, here) > 1e-5), "tile {tile}, {j}, {i}");
                        nowhere.push(here);
                    }
                }
            }
        }
    }
    // These are the southern ends of tiles 9 and 12 (except the corner that tile 0 has too), and the corner where tile
    // 3 meets tile 9. All others are where three facets meet, at 67 N.
    let south = nowhere.iter().filter(|place| place[2] < -0.9).count();
    assert_eq!(south, (n + 1) + n + 1);
    let cap = 67_f64.to_radians().sin();
    assert!(nowhere.iter().filter(|place| place[2] > 0.0).all(|place| (place[2] - cap).abs() < 1e-5));
}

/// An eastward flow of speed 1 everywhere has the components CS along i and -SN along j. The rotation returns it across
/// all seams, except for the angle by which the grid turns within one cell. The surroundings of the cap are left out,
/// at whose edges the demo's grid has kinks.
#[test]
fn an_eastward_flow_comes_out_eastward() {
    let fixture = Fixture::new(24);
    let grid = Native::load(&fixture.demo.grid).unwrap();
    let (n, plane) = (grid.n, grid.plane());
    let compact = |tiles: &[f32]| {
        let mut out = vec![0.0; plane];
        compact::from_tiles(n, tiles, &mut out);
        out
    };
    let (x, y) = (compact(&grid.cs), compact(&grid.sn.iter().map(|sn| -sn).collect::<Vec<_>>()));
    let rotated = |orientation| {
        let (mut out, mut tiles) = (vec![0.0; plane], vec![0.0; plane]);
        rotate(&grid, Staggering::Faces, orientation, &x, &y, &mut out);
        compact::to_tiles(n, &out, &mut tiles);
        tiles
    };
    let (zonal, meridional) = (rotated(Orientation::Zonal), rotated(Orientation::Meridional));
    let mut worst = 0.0_f32;
    for cell in (0..plane).filter(|cell| grid.yc[*cell] < 66.0) {
        worst = worst.max((zonal[cell] - 1.0).abs()).max(meridional[cell].abs());
    }
    assert!(worst < 0.08, "off by {worst}");
}

/// Plans and makes the native granules of a dataset, after the test has changed the fixture.
fn native(fixture: &Fixture, name: &str) -> Vec<PathBuf> {
    let list = fixture.plan(&fixture.path(name), &format!("{name}.json"), &[]);
    let mut recipes = recipe::parse_list("list", &fs::read(&list).unwrap()).unwrap();
    recipes.retain(|recipe| recipe.granule.contains("_native_") && recipe.granule.contains("1992-01"));
    fs::write(&list, recipe::format_list(&recipes).unwrap()).unwrap();
    let output = expect(coordinator().arg("run").arg(&list).args(["--output", "json"]), 0);
    assert!(json(&output).is_object(), "{}", text(&output));
    recipes.iter().map(|recipe| PathBuf::from(&recipe.granule)).collect()
}

fn with(granules: &[PathBuf], dataset: &str) -> netcdf::File {
    let path = granules.iter().find(|path| path.display().to_string().contains(dataset)).unwrap();
    netcdf::open(path).unwrap()
}

/// Returns true for each value of a variable that is not the fill value.
fn wet(file: &netcdf::File, name: &str) -> Vec<bool> {
    let values = file.variable(name).unwrap().get_values::<f32, _>(..).unwrap();
    values.iter().map(|value| *value < 9e36).collect()
}

/// Changes the one text file below a directory whose name has this ending.
fn edit(directory: &Path, end: &str, change: impl FnOnce(String) -> String) {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found = paths.filter(|path| path.display().to_string().ends_with(end)).collect::<Vec<_>>();
    assert_eq!(found.len(), 1, "{end} in {}", directory.display());
    let path = found.remove(0);
    fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
}

#[test]
fn metadata_may_name_another_mask() {
    let fixture = Fixture::new(6);
    edit(&fixture.demo.metadata, "variable_metadata.json", |text| {
        let mut entries: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        for entry in &mut entries {
            let mask = match entry["name"].as_str().unwrap() {
                "SSH" => "maskS",   // of a level, of which the uppermost counts
                "THETA" => "Depth", // without levels: serves them all
                _ => continue,
            };
            entry["land_mask_override"] = mask.into();
        }
        serde_json::to_string(&entries).unwrap()
    });
    let granules = native(&fixture, "out");
    let grid = Native::load(&fixture.demo.grid).unwrap();
    let height = with(&granules, "SEA_SURFACE_HEIGHT");
    assert_eq!(wet(&height, "SSH"), grid.mask_s.level(0));
    assert_eq!(wet(&height, "ETAN"), grid.mask_c.level(0));
    assert_ne!(grid.mask_s.level(0), grid.mask_c.level(0));
    assert!(height.variable("SSH").unwrap().attribute("land_mask_override").is_none());
    let temperature = with(&granules, "TEMPERATURE");
    let depth = grid.read_mask("Depth").unwrap();
    for (level, wet) in wet(&temperature, "THETA").chunks(grid.plane()).enumerate() {
        assert_eq!(wet, depth.level(0), "level {level}");
    }
    let salt: Vec<bool> = (0..grid.levels).flat_map(|k| grid.mask_c.level(k).to_vec()).collect();
    assert_eq!(wet(&temperature, "SALT"), salt);
}

#[test]
fn variables_at_corners_have_their_dimensions_and_mask() {
    let fixture = Fixture::new(6);
    edit(&fixture.demo.grid, "available_diagnostics.log", |text| {
        let lines = text.lines().map(|line| {
            let at_corners = line.contains("|SSH ") || line.contains("|THETA ");
            if at_corners { line.replace("|SM ", "|SZ ").replace("|SMR", "|SZR") } else { line.to_owned() }
        });
        lines.collect::<Vec<_>>().join("\n") + "\n"
    });
    let granules = native(&fixture, "out");
    let grid = Native::load(&fixture.demo.grid).unwrap();
    let n = grid.n;
    let dims = |file: &netcdf::File, name: &str| -> Vec<String> {
        file.variable(name).unwrap().dimensions().iter().map(|dimension| dimension.name()).collect()
    };
    let height = with(&granules, "SEA_SURFACE_HEIGHT");
    assert_eq!(dims(&height, "SSH"), ["time", "tile", "j_g", "i_g"]);
    let temperature = with(&granules, "TEMPERATURE");
    assert_eq!(dims(&temperature, "THETA"), ["time", "k", "tile", "j_g", "i_g"]);
    // By coordinates: a corner is wet if it belongs to a wet cell.
    let stored: Vec<Vector> = grid.xg.iter().zip(grid.yg.iter()).map(|(lon, lat)| place(*lon, *lat)).collect();
    let same = |at: Vector| stored.iter().position(|place| distance(*place, at) < 1e-5);
    let touched: Vec<Vec<usize>> =
        (0..TILES * n * n).map(|cell| around(&grid, cell).into_iter().filter_map(same).collect()).collect();
    let at_corners = |level: usize| {
        let mut corners = vec![false; grid.plane()];
        for (cell, _) in grid.mask_c.level(level).iter().enumerate().filter(|(_, wet)| **wet) {
            touched[cell].iter().for_each(|corner| corners[*corner] = true);
        }
        corners
    };
    assert_eq!(wet(&height, "SSH"), at_corners(0));
    for (level, wet) in wet(&temperature, "THETA").chunks(grid.plane()).enumerate() {
        assert_eq!(wet, at_corners(level), "level {level}");
    }
}

/// The metadata state the point of a variable that is not in the model's list. If they do not either, the granule fails
/// and the variable is named.
#[test]
fn points_come_from_the_metadata_where_the_list_has_none() {
    let fixture = Fixture::new(6);
    let usual = native(&fixture, "usual");
    edit(&fixture.demo.grid, "available_diagnostics.log", |text| {
        let lines = text.lines().filter(|line| !line.contains("|UVEL ") && !line.contains("|THETA "));
        lines.collect::<Vec<_>>().join("\n") + "\n"
    });
    let granules = native(&fixture, "out");
    for (dataset, name) in [("VELOCITY", "UVEL"), ("TEMPERATURE", "THETA")] {
        let values = |granules: &[PathBuf]| {
            let file = with(granules, dataset);
            let variable = file.variable(name).unwrap();
            let dims: Vec<String> = variable.dimensions().iter().map(|dimension| dimension.name()).collect();
            (dims, variable.get_values::<f32, _>(..).unwrap())
        };
        assert!(values(&granules) == values(&usual), "{name}");
    }
    edit(&fixture.demo.metadata, "variable_metadata.json", |text| {
        let mut entries: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        for entry in entries.iter_mut().filter(|entry| entry["name"] == "THETA") {
            entry.as_object_mut().unwrap().remove("grid_location");
        }
        serde_json::to_string(&entries).unwrap()
    });
    let list = fixture.plan(&fixture.path("last"), "last.json", &[]);
    let output = text(&expect(coordinator().arg("run").arg(&list), 3));
    assert!(output.contains("THETA is neither in available_diagnostics.log"), "{output}");
}
