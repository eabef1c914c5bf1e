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

/// Writes an array of a model run in double precision; `sizes` has the fastest dimension first.
fn mds(directory: &Path, name: &str, sizes: &[usize], values: impl Iterator<Item = f64>) {
    let list: Vec<String> = sizes.iter().map(|size| format!("{size},1,{size}")).collect();
    let header = format!(
        " nDims = [ {} ];\n dimList = [ {} ];\n dataprec = [ 'float64' ];\n nrecords = [ 1 ];\n",
        sizes.len(),
        list.join(",")
    );
    std::fs::write(directory.join(format!("{name}.meta")), header).unwrap();
    let bytes: Vec<u8> = values.flat_map(f64::to_be_bytes).collect();
    assert_eq!(bytes.len(), 8 * sizes.iter().product::<usize>(), "{name}");
    std::fs::write(directory.join(format!("{name}.data")), bytes).unwrap();
}

/// A grid of N = 2 with three levels of 10, 20 and 40 m, spread over the globe in the order of the files. The first four
/// cells are land, the next four lie below an ice shelf with a base at 20 m, and all others are open to 50 m.
fn model(directory: &Path) {
    let plane = 13 * 2 * 2;
    let flat = |name: &str, value: &dyn Fn(usize) -> f64| mds(directory, name, &[2, 26], (0..plane).map(value));
    flat("XC", &|cell| (cell % 13) as f64 * 27.0 - 170.0);
    flat("YC", &|cell| (cell / 13) as f64 * 40.0 - 60.0);
    flat("XG", &|cell| (cell % 13) as f64 * 27.0 - 180.0);
    flat("YG", &|cell| (cell / 13) as f64 * 40.0 - 80.0);
    for name in ["RAC", "RAS", "RAW", "RAZ", "DXC", "DYC", "DXG", "DYG"] {
        flat(name, &|_| 3e6);
    }
    let open = |k: usize, cell: usize| match (cell, k) {
        (0..4, _) => 0.0,
        (4..8, 0) => 0.0,
        (4..8, 1) => 0.5,
        (4..8, _) => 1.0,
        (_, 2) => 0.5,
        _ => 1.0,
    };
    let all = (0..3).flat_map(|k| (0..plane).map(move |cell| open(k, cell)));
    mds(directory, "hFacC", &[2, 26, 3], all);
    mds(directory, "DRF", &[1, 1, 3], [10.0, 20.0, 40.0].into_iter());
}

#[test]
fn ice_shelves_have_their_fields_on_both_grids() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let files = ModelFiles::open(dir.path()).unwrap();
    let (content, notes) = native(&files, None, Mode::Corrected).unwrap();
    assert!(notes.iter().any(|note| note.contains("no Depth")), "{notes:?}");
    let file = written(dir.path(), "native.nc", &content);
    let [depth, draft, water] = ["Depth", "ice_shelf_draft", "ocean_column_thickness"].map(|name| numbers(&file, name));
    // The first rows of the file are tile 0, and then tile 1.
    assert_eq!(draft[..9], [0.0, 0.0, 0.0, 0.0, 20.0, 20.0, 20.0, 20.0, 0.0]);
    assert_eq!(water[..9], [0.0, 0.0, 0.0, 0.0, 50.0, 50.0, 50.0, 50.0, 50.0]);
    assert_eq!(depth[..9], [0.0, 0.0, 0.0, 0.0, 70.0, 70.0, 70.0, 70.0, 50.0]);
    assert_eq!(numbers(&file, "Zp1"), [0.0, -10.0, -30.0, -70.0]);
    assert_eq!(numbers(&file, "Z"), [-5.0, -20.0, -50.0]);
    assert_eq!(numbers(&file, "drC"), [5.0, 15.0, 30.0, 20.0]);
    // Below the ice shelf the surface is dry, and so are its faces and corners, unless they are shared.
    let mask = numbers(&file, "maskC");
    assert_eq!((mask[4], mask[52 + 4], mask[104 + 4], mask[8]), (0.0, 1.0, 1.0, 1.0));
    let wet = |name: &str| numbers(&file, name).iter().sum::<f64>();
    assert!(wet("maskW") < wet("maskC") && wet("maskZ") > wet("maskW"));

    let cells = NativeCells::load(dir.path()).unwrap();
    let target = RegularTarget::new(10.0, TargetEdges::GLOBE, false).unwrap();
    let rules = FactorRules { radius: RadiusRule::CellArea, neighbours: NeighbourLimit::None, single: false };
    let search = FactorSearch::new(&cells, &target, &rules).unwrap();
    write_edp(&dir.path().join("factors"), &cells, &target, &search).unwrap();
    let factors = Factors::open(&dir.path().join("factors")).unwrap();
    let file = written(dir.path(), "latlon.nc", &latlon(&files, &factors, None).unwrap());
    let [depth, draft, water, cavity] =
        ["Depth", "ice_shelf_draft", "ocean_column_thickness", "cavity_mask"].map(|name| numbers(&file, name));
    let mut seen = [0; 3];
    for m in 0..target.cells() {
        let kind = match (draft[m], water[m], cavity[m]) {
            (0.0, 50.0, 0.0) => 0,
            (20.0, 50.0, 1.0) => 1,
            (draft, _, 0.0) if draft > 1e30 => 2,
            other => panic!("target {m}: {other:?}"),
        };
        // The depth is taken at the surface, which is dry below an ice shelf.
        assert_eq!(depth[m], if kind == 0 { 50.0 } else { FILL_DOUBLE }, "target {m}");
        seen[kind] += 1;
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn factors_of_other_levels_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let cells = NativeCells::load(dir.path()).unwrap();
    let target = RegularTarget::new(45.0, TargetEdges::GLOBE, false).unwrap();
    let rules = FactorRules { radius: RadiusRule::CellArea, neighbours: NeighbourLimit::None, single: false };
    write_edp(&dir.path().join("factors"), &cells, &target, &FactorSearch::new(&cells, &target, &rules).unwrap())
        .unwrap();
    let factors = Factors::open(&dir.path().join("factors")).unwrap();
    mds(dir.path(), "hFacC", &[2, 26, 2], (0..104).map(|_| 1.0));
    mds(dir.path(), "DRF", &[1, 1, 2], [10.0, 20.0].into_iter());
    let message = latlon(&ModelFiles::open(dir.path()).unwrap(), &factors, None).unwrap_err().to_string();
    assert!(message.contains("have 3 levels, and the grid has 2"), "{message}");
    std::fs::remove_file(dir.path().join("DRF.meta")).unwrap();
    std::fs::remove_file(dir.path().join("DRF.data")).unwrap();
    let message = native(&ModelFiles::open(dir.path()).unwrap(), None, Mode::Corrected).unwrap_err().to_string();
    assert!(message.contains("no DRF"), "{message}");
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
