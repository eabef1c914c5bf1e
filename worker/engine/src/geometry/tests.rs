#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// What is compared here has tolerances.
#![allow(clippy::disallowed_methods)]

use super::*;
use crate::granule::content::GranuleContent;
use crate::granule::file::write_whole;
use crate::grid::{ModelFiles, NativeCells};
use crate::mapping::create::{FactorRules, FactorSearch, NeighbourLimit, RadiusRule, RegularTarget, TargetEdges};
use crate::mapping::{Factors, write_edp};
use crate::metadata::source::Metadata;
use crate::real_data::real_data;
use edp_protocol::Mode;
use std::path::Path;

/// Writes a file and opens it again with the netCDF library.
fn written(directory: &Path, name: &str, content: &GranuleContent) -> netcdf::File {
    let path = directory.join(name);
    write_whole(&path, content).unwrap();
    netcdf::open(path).unwrap()
}

fn numbers(file: &netcdf::File, name: &str) -> Vec<f64> {
    file.variable(name).unwrap_or_else(|| panic!("{name}")).get_values(..).unwrap()
}

/// Largest difference of two arrays, where the first has no fill value.
fn farthest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).filter(|(a, _)| **a < 1e30).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_native_geometry_of_release_4() {
    let grid = real_data("V4r4/grid_ECCOV4r4");
    let theirs = netcdf::open(grid.join("GRID_GEOMETRY_ECCO_V4r4_native_llc0090.nc")).unwrap();
    let (metadata, _) = Metadata::load(&real_data("metadata/V4r4")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (content, notes) = native(&ModelFiles::open(&grid).unwrap(), Some(&metadata), Mode::Edp2024).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    let ours = written(dir.path(), "native.nc", &content);
    let names = |file: &netcdf::File| {
        file.variables().map(|variable| variable.name()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(&ours), names(&theirs));
    for variable in theirs.variables() {
        let name = variable.name();
        let found = ours.variable(&name).unwrap();
        assert_eq!(found.vartype(), variable.vartype(), "{name}");
        let dimensions =
            |v: &netcdf::Variable<'_>| v.dimensions().iter().map(|d| (d.name(), d.len())).collect::<Vec<_>>();
        assert_eq!(dimensions(&found), dimensions(&variable), "{name}");
        assert_eq!(found.chunking().unwrap(), variable.chunking().unwrap(), "{name}");
        assert_eq!(farthest(&numbers(&ours, &name), &numbers(&theirs, &name)), 0.0, "{name}");
        let text =
            |v: &netcdf::Variable<'_>, key: &str| v.attribute_value(key).map(|value| format!("{:?}", value.unwrap()));
        for key in ["long_name", "standard_name", "units", "comment", "dtype"] {
            assert_eq!(text(&found, key), text(&variable, key), "{name}: {key}");
        }
    }
    let area: f64 = numbers(&ours, "rA").iter().sum();
    let sphere = 4.0 * std::f64::consts::PI * 6_370_000.0_f64.powi(2);
    assert!((area / sphere - 1.0).abs() < 1e-3, "{area} {sphere}");
}

/// With nothing but what mitgrid files and the vertical grid say, everything else is computed.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_native_geometry_of_mitgrid_files() {
    let grid = real_data("V4r4/grid_ECCOV4r4");
    let dir = tempfile::tempdir().unwrap();
    let only = |name: &str, files: &[&str]| {
        let directory = dir.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        for file in files {
            std::os::unix::fs::symlink(grid.join(file), directory.join(file)).unwrap();
        }
        ModelFiles::open(&directory).unwrap()
    };
    let mut least = vec!["hFacC.meta", "hFacC.data", "RF.meta", "RF.data"];
    least.extend(["tile001.mitgrid", "tile002.mitgrid", "tile003.mitgrid", "tile004.mitgrid", "tile005.mitgrid"]);
    let full =
        written(dir.path(), "full.nc", &native(&ModelFiles::open(&grid).unwrap(), None, Mode::Corrected).unwrap().0);
    let (content, notes) = native(&only("mitgrid", &least), None, Mode::Corrected).unwrap();
    assert_eq!(notes.len(), 5, "{notes:?}");
    let few = written(dir.path(), "few.nc", &content);
    for (name, most) in [
        ("XC", 1e-5),
        ("YG", 1e-5),
        ("XC_bnds", 0.0),
        ("XGG", 0.0),
        ("XU", 0.0),
        ("drF", 1e-3),
        ("drC", 1e-3),
        ("Z", 1e-3),
        ("Zp1", 0.0),
        ("Depth", 0.1),
        ("maskC", 0.0),
        ("maskZ", 0.0),
        ("dxG", 0.1),
        ("rA", 1e4),
    ] {
        let found = farthest(&numbers(&full, name), &numbers(&few, name));
        assert!(found <= most, "{name}: {found}");
    }
    // The angles of MITgcm use its own lengths; on land around the south pole, where cells are degenerate, they are others.
    let wet: Vec<bool> =
        numbers(&full, "maskC")[..full.variable("CS").unwrap().len()].iter().map(|wet| *wet == 1.0).collect();
    for name in ["CS", "SN"] {
        let of_water = |file: &netcdf::File| {
            let all = numbers(file, name);
            all.into_iter().zip(&wet).filter(|(_, wet)| **wet).map(|(value, _)| value).collect::<Vec<_>>()
        };
        let found = farthest(&of_water(&full), &of_water(&few));
        assert!(found < 2e-2, "{name}: {found}");
    }
    // A face is as open as the less open cell beside it, on all tiles but for the model's own doing.
    for name in ["hFacW", "hFacS"] {
        let (a, b) = (numbers(&full, name), numbers(&few, name));
        let differ = a.iter().zip(&b).filter(|(a, b)| (**a - **b).abs() > 1e-5).count();
        assert!(differ * 1000 < a.len(), "{name}: {differ} of {}", a.len());
    }
    // Without mitgrid files all corners but a few follow from the model's own.
    let mds: Vec<String> =
        ["XC", "YC", "XG", "YG", "RAC", "RAS", "RAW", "RAZ", "DXC", "DYC", "DXG", "DYG", "hFacC", "DRF"]
            .iter()
            .flat_map(|name| [format!("{name}.meta"), format!("{name}.data")])
            .collect();
    let (content, notes) =
        native(&only("mds", &mds.iter().map(String::as_str).collect::<Vec<_>>()), None, Mode::Corrected).unwrap();
    assert!(notes[0].contains("corners"), "{notes:?}");
    let without = written(dir.path(), "without.nc", &content);
    let (a, b) = (numbers(&full, "YGG"), numbers(&without, "YGG"));
    let differ = a.iter().zip(&b).filter(|(a, b)| (**a - **b).abs() > 1e-4).count();
    assert!(differ < 400, "{differ}");
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_latlon_geometry_is_the_one_that_edp_ships() {
    let grid = real_data("V4r4/grid_ECCOV4r4");
    let theirs = netcdf::open(grid.join("GRID_GEOMETRY_ECCO_V4r4_latlon_0p50deg.nc")).unwrap();
    let (metadata, _) = Metadata::load(&real_data("metadata/V4r4")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let cells = NativeCells::load(&grid).unwrap();
    let target = RegularTarget::new(0.5, TargetEdges::GLOBE, false).unwrap();
    let rules = FactorRules { radius: RadiusRule::CellArea, neighbours: NeighbourLimit::None, single: false };
    let search = FactorSearch::new(&cells, &target, &rules).unwrap();
    write_edp(&dir.path().join("factors"), &cells, &target, &search).unwrap();
    let factors = Factors::open(&dir.path().join("factors")).unwrap();
    let content = latlon(&ModelFiles::open(&grid).unwrap(), &factors, Some(&metadata)).unwrap();
    let ours = written(dir.path(), "latlon.nc", &content);
    for variable in theirs.variables() {
        let name = variable.name();
        let found = ours.variable(&name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(found.vartype(), variable.vartype(), "{name}");
        let dimensions =
            |v: &netcdf::Variable<'_>| v.dimensions().iter().map(|d| (d.name(), d.len())).collect::<Vec<_>>();
        assert_eq!(dimensions(&found), dimensions(&variable), "{name}");
        let (a, b) = (numbers(&theirs, &name), numbers(&ours, &name));
        let most = match name.as_str() {
            "area" => 1e-3,
            "Depth" => 1e-2,
            "Z" | "Z_bnds" => 1e-3,
            _ => 1e-5,
        };
        assert!(farthest(&a, &b) <= most, "{name}: {}", farthest(&a, &b));
        assert!(a.iter().zip(&b).all(|(a, b)| (*a > 1e30) == (*b > 1e30)), "{name}: fill values");
        let text =
            |v: &netcdf::Variable<'_>, key: &str| v.attribute_value(key).map(|value| format!("{:?}", value.unwrap()));
        for key in ["long_name", "standard_name", "units", "dtype", "_FillValue"] {
            assert_eq!(text(&found, key), text(&variable, key), "{name}: {key}");
        }
    }
}
