#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::super::npz::{self, Weights};
use super::super::pickle::{PickleDocument, PickleValue};
use super::super::write_set::turned;
use super::super::xz::{self, ExpectedFile};
use super::super::{FactorOrigin, Factors, write_edp, write_esmf, write_netcdf};
use super::tree::point;
use super::*;
use crate::mds::compact;
use edp_files::Files;
use edp_protocol::Mode;
use std::path::{Path, PathBuf};

/// Makes up cells all over the globe in no order, with three levels that have fewer and fewer wet cells.
fn made_up(n: usize) -> NativeCells {
    let plane = 13 * n * n;
    let mut state = 7_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f32 / (1_u64 << 31) as f32
    };
    let places: Vec<(f32, f32)> =
        (0..plane).map(|_| (random() * 360.0 - 180.0, libm::asinf(random() * 2.0 - 1.0).to_degrees())).collect();
    let wet =
        [0.8, 0.5, 0.1].iter().flat_map(|share| (0..plane).map(|_| random() < *share).collect::<Vec<_>>()).collect();
    NativeCells::scattered(n, &places, 2_000_000.0, wet)
}

fn target(resolution: f64) -> RegularTarget {
    RegularTarget::new(resolution, TargetEdges::GLOBE, false).unwrap()
}

fn rules(radius: RadiusRule, neighbours: NeighbourLimit) -> FactorRules {
    FactorRules { radius, neighbours, single: false }
}

/// Makes everything again by examining all cells, as the rules state section by section.
#[test]
fn each_target_has_the_cells_that_the_rules_say() {
    let (cells, target) = (made_up(4), target(10.0));
    for rules in [
        rules(RadiusRule::CellArea, NeighbourLimit::None),
        rules(RadiusRule::HalfDiagonal, NeighbourLimit::Nearest(2)),
        rules(RadiusRule::Metres(3_000_000.0), NeighbourLimit::Edp),
        rules(RadiusRule::as_shipped(), NeighbourLimit::Edp),
    ] {
        let search = FactorSearch::new(&cells, &target, &rules).unwrap();
        let radii = rules.radius.radii(&target);
        let largest = radii.iter().copied().fold(0.0, f64::max);
        let limit = rules.neighbours.count(largest, 2_000_000.0);
        let (_, columns) = target.shape();
        for k in 0..cells.levels {
            let level = search.level(k, true).unwrap();
            let mapping = level.mapping.as_ref().unwrap();
            for m in 0..target.cells() {
                let at = point(target.longitudes[m % columns], target.latitudes[m / columns]);
                let sorted = |passes: &dyn Fn(usize) -> bool| {
                    let distance = |cell: usize| {
                        let other = point(f64::from(cells.xc[cell]), f64::from(cells.yc[cell]));
                        at.iter().zip(other).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
                    };
                    let mut all: Vec<(f64, usize)> =
                        (0..cells.xc.len()).filter(|cell| passes(*cell)).map(|cell| (distance(cell), cell)).collect();
                    all.sort_by(|a, b| a.partial_cmp(b).unwrap());
                    let near = all.first().filter(|(distance, _)| *distance < 2_000_000.0).map(|(_, cell)| *cell);
                    let within = all.iter().filter(|(d, _)| *d <= radii[m / columns] && *d < largest.floor());
                    (within.take(limit).map(|(_, cell)| *cell).collect::<Vec<_>>(), near)
                };
                let (of_all, nearest_of_all) = sorted(&|_| true);
                let wet = cells.wet.level(k);
                let (within, nearest) = sorted(&|cell| wet[cell]);
                let row = |cell: usize| level.wet.iter().position(|wet| *wet as usize == cell).unwrap() as u32;
                let rows: Vec<u32> = within.iter().map(|cell| row(*cell)).collect();
                assert_eq!(mapping.within[mapping.starts[m]..mapping.starts[m + 1]], rows, "target {m}");
                assert_eq!(mapping.nearest[m], nearest.map_or(NONE, row), "target {m}");
                let is_wet = of_all.first().copied().or(nearest_of_all).is_some_and(|cell| wet[cell]);
                assert_eq!(level.wet_targets[m], is_wet, "target {m}");
                let mut expected = match (is_wet, rows.is_empty()) {
                    (false, _) => Vec::new(),
                    (true, true) => nearest.map(row).into_iter().collect(),
                    (true, false) => rows,
                };
                expected.sort_unstable();
                let range = level.starts[m]..level.starts[m + 1];
                assert_eq!(level.rows[range.clone()], expected, "target {m}");
                assert!(range.clone().all(|at| level.weights.at(at) == 1.0 / range.len() as f64));
            }
            let without = search.level(k, false).unwrap();
            assert!(without.mapping.is_none());
            assert_eq!((without.rows, without.starts), (level.rows, level.starts));
        }
    }
}

/// Writes factors in the three formats, to be opened again.
fn written(cells: &NativeCells, target: &RegularTarget, rules: FactorRules) -> (tempfile::TempDir, [PathBuf; 3]) {
    let dir = tempfile::tempdir().unwrap();
    let forms = ["edp", "nc", "esmf"].map(|form| dir.path().join(form));
    let search = FactorSearch::new(cells, target, &rules).unwrap();
    let origin = FactorOrigin { cells, target, rules, mode: Mode::Corrected };
    let first = write_edp(&forms[0], cells, target, &search).unwrap();
    assert_eq!(write_netcdf(&forms[1], &origin, &search).unwrap(), first);
    assert_eq!(write_esmf(&forms[2], &origin, &search).unwrap(), first);
    assert_eq!(first.levels, cells.levels);
    (dir, forms)
}

/// Returns the positions of the wet cells of a level in a compact plane.
fn positions(cells: &NativeCells, k: usize) -> Vec<u32> {
    let n = cells.n;
    let wet = cells.wet.level(k).into_iter().enumerate().filter(|(_, wet)| *wet);
    wet.map(|(cell, _)| (compact::row(n, cell / (n * n), cell / n % n) * n + cell % n) as u32).collect()
}

#[test]
fn all_forms_say_the_same_and_keep_a_constant_field() {
    let cells = made_up(4);
    let region = TargetEdges { west: 20.0, south: -60.0, east: 120.0, north: 60.0 };
    for target in [target(10.0), RegularTarget::new(5.0, region, false).unwrap()] {
        let rules = rules(RadiusRule::Metres(1_500_000.0), NeighbourLimit::None);
        let (_dir, forms) = written(&cells, &target, rules);
        let opened = forms.each_ref().map(|form| Factors::open(form).unwrap());
        for factors in &opened {
            assert_eq!((factors.shape(), factors.levels()), (target.shape(), 3));
            assert_eq!(factors.latitudes(), target.latitudes);
            assert_eq!(factors.longitudes(), target.longitudes);
            assert_eq!(factors.latitude_bounds(), target.latitude_bounds);
            assert_eq!(factors.longitude_bounds(), target.longitude_bounds);
            assert_eq!(factors.depth_bounds(), [[0.0, -10.0], [-10.0, -20.0], [-20.0, -30.0]]);
        }
        for k in 0..3 {
            let wet = positions(&cells, k);
            let levels = opened.each_ref().map(|factors| factors.level(k, &wet).unwrap());
            assert!(!levels[0].is_nearest_neighbour());
            for level in &levels {
                assert_eq!(level.land(), levels[0].land());
                for m in 0..target.cells() {
                    assert_eq!(level.sources(m), levels[0].sources(m), "level {k}, target {m}");
                }
                let mut plane = vec![f32::NAN; cells.xc.len()];
                wet.iter().for_each(|position| plane[*position as usize] = 3.5);
                let mut out = vec![0.0_f32; target.cells()];
                level.apply(&plane, &mut out, -1.0, -2.0).unwrap();
                let expected = |m: usize| {
                    if level.land()[m] {
                        -1.0
                    } else if level.sources(m).is_empty() {
                        -2.0
                    } else {
                        3.5
                    }
                };
                assert!(out.iter().enumerate().all(|(m, value)| *value == expected(m)));
            }
        }
    }
}

#[test]
fn the_same_factors_have_the_same_bytes() {
    let (cells, target) = (made_up(3), target(15.0));
    let rules = rules(RadiusRule::HalfDiagonal, NeighbourLimit::None);
    let (_first_dir, first) = written(&cells, &target, rules);
    let (_second_dir, second) = written(&cells, &target, rules);
    for (first, second) in first.iter().zip(&second) {
        let files = super::super::existing(first).unwrap();
        assert!(!files.is_empty());
        for file in files {
            let other = second.join(file.strip_prefix(first).unwrap());
            assert!(std::fs::read(&file).unwrap() == std::fs::read(other).unwrap(), "{}", file.display());
        }
    }
}

#[test]
fn factors_of_another_grid_are_refused_in_every_form() {
    let (cells, target) = (made_up(3), target(15.0));
    let (_dir, forms) = written(&cells, &target, rules(RadiusRule::CellArea, NeighbourLimit::None));
    let mut wet = positions(&cells, 0);
    wet.pop();
    for form in &forms {
        let message = Factors::open(form).unwrap().level(0, &wet).unwrap_err().to_string();
        assert!(message.contains("do not belong together"), "{message}");
    }
    // Levels may take more memory than is allowed, and files may have been changed.
    for form in &forms[1..] {
        let opened = Factors::open_sealed(form, std::collections::BTreeMap::new(), Files::default(), 500);
        let level = opened.and_then(|factors| factors.level(0, &positions(&cells, 0)));
        assert!(matches!(level, Err(super::super::MappingError::Memory { limit: 500, .. })), "{level:?}");
        let files = super::super::files(form, &Files::default()).unwrap().into_iter();
        let seals = files.map(|file| (file, edp_protocol::Digest::of(b"other"))).collect();
        let opened = Factors::open_sealed(form, seals, Files::default(), u64::MAX);
        assert!(matches!(opened, Err(super::super::MappingError::Changed { .. })), "{opened:?}");
    }
    // Factors in two formats are in one directory.
    std::fs::copy(forms[1].join("mapping_factors.nc"), forms[0].join("mapping_factors.nc")).unwrap();
    let message = Factors::open(&forms[0]).unwrap_err().to_string();
    assert!(message.contains("latlon_grid.xz and mapping_factors.nc both have factors"), "{message}");
    // One file is damaged.
    let file = forms[1].join("mapping_factors.nc");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let message = Factors::open(&forms[1]).unwrap_err().to_string();
    assert!(message.contains("mapping_factors.nc: the file cannot be read"), "{message}");
}

#[test]
fn a_level_without_any_weight_can_be_written_and_read() {
    let mut cells = made_up(3);
    let plane = cells.xc.len();
    let wet = [vec![true; plane], vec![false; plane]].concat();
    cells = NativeCells::scattered(
        3,
        &cells.xc.iter().copied().zip(cells.yc.iter().copied()).collect::<Vec<_>>(),
        4e6,
        wet,
    );
    let target = target(30.0);
    let (_dir, forms) = written(&cells, &target, rules(RadiusRule::CellArea, NeighbourLimit::None));
    for form in &forms {
        let factors = Factors::open(form).unwrap();
        assert_eq!(factors.level(0, &positions(&cells, 0)).unwrap().wet_targets(), target.cells());
        let level = factors.level(1, &[]).unwrap();
        assert_eq!((level.wet_targets(), level.uncovered()), (0, 0));
    }
}

#[test]
fn cells_that_are_no_part_of_the_model_are_no_sources() {
    let mut cells = made_up(2);
    // A tile was left out: its cells have no lengths, and all are at 0 E 0 N.
    for cell in 0..4 {
        (cells.xc[cell], cells.yc[cell], cells.dxg[cell], cells.dyg[cell]) = (0.0, 0.0, 0.0, 0.0);
    }
    let target = target(45.0);
    let rules = rules(RadiusRule::Metres(9_000_000.0), NeighbourLimit::None);
    let search = FactorSearch::new(&cells, &target, &rules).unwrap();
    let mapping = search.mapping();
    assert!(mapping.within.iter().chain(&mapping.nearest).all(|cell| *cell >= 4));
    cells.dxg.fill(0.0);
    cells.dyg.fill(0.0);
    assert_eq!(FactorSearch::new(&cells, &target, &rules).unwrap_err(), CreateError::NoCells);
    let negative = FactorRules { radius: RadiusRule::Metres(-1.0), ..rules };
    assert!(FactorSearch::new(&cells, &target, &negative).is_err());
}

fn real() -> (NativeCells, PathBuf) {
    let cells = NativeCells::load(&crate::real_data::real_data("V4r4/grid_ECCOV4r4")).unwrap();
    (cells, crate::real_data::real_data("V4r4/mapping_factors"))
}

fn unpacked(file: &Path) -> Vec<u8> {
    xz::read_pickle(ExpectedFile { file, files: &Files::default(), seal: None }, 1 << 30).unwrap()
}

/// Returns the two arrays of a file of mappings: the targets that have cells within the radius, and the nearest cells.
fn stored(file: &Path) -> (Vec<bool>, Vec<u32>) {
    let bytes = unpacked(file);
    let document = PickleDocument::parse(&bytes).unwrap();
    let &[within, nearest] = document.items(document.root()).unwrap() else { panic!() };
    let within = document.objects(within).unwrap().iter().map(|value| *value != PickleValue::Int(-1)).collect();
    let nearest = document.array(nearest).unwrap().integers().unwrap();
    (within, nearest.into_iter().map(|cell| u32::try_from(cell).unwrap_or(NONE)).collect())
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_factors_of_release_4_are_those_that_edp_ships() {
    let (cells, shipped) = real();
    let target = RegularTarget::new(0.5, TargetEdges::GLOBE, true).unwrap();
    let rules = FactorRules::of(&crate::metadata::factor_keys::FactorKeys::default(), Mode::Edp2024);
    let search = FactorSearch::new(&cells, &target, &rules).unwrap();
    let (within, nearest) = stored(&shipped.join("ecco_latlon_grid_mappings_all.xz"));
    assert!(!within.contains(&true) && search.mapping().within.is_empty());
    assert_eq!(search.mapping().nearest, nearest);
    assert_eq!(nearest[129_600], 68_234);
    (0..50).into_par_iter().for_each(|k| {
        let level = search.level(k, true).unwrap();
        let mapping = level.mapping.as_ref().unwrap();
        let (_, nearest) = stored(&shipped.join(format!("3D/ecco_latlon_grid_mappings_3D_{k}.xz")));
        assert!(mapping.nearest == nearest && mapping.within.is_empty(), "level {k}");
        let mask = unpacked(&shipped.join(format!("land_mask/ecco_latlon_land_mask_{k}.xz")));
        let document = PickleDocument::parse(&mask).unwrap();
        let mask = document.array(document.root()).unwrap().floats().unwrap();
        assert!(mask.iter().zip(&level.wet_targets).all(|(stored, wet)| stored.is_nan() != *wet), "level {k}");
        let file = shipped.join(format!("sparse/sparse_matrix_{k}.npz"));
        let source = ExpectedFile { file: &file, files: &Files::default(), seal: None };
        let matrix = npz::read(source, k, level.wet.len(), 259_200, u64::MAX).unwrap();
        let (indptr, indices, weights) = turned(&level);
        let same = |ours: &[i32], theirs: &[u32]| ours.iter().map(|value| *value as u32).eq(theirs.iter().copied());
        assert!(same(&indptr, &matrix.indptr) && same(&indices, &matrix.indices), "level {k}");
        assert!(weights.is_none() && matrix.weights == Weights::Unit, "level {k}");
        assert_eq!(level.uncovered, 0, "level {k}");
    });
}

/// Counts the targets of level 0 that have no, one, two ... source cells within the radius. With positions of single
/// precision these are EDP's own numbers; in double precision a single target is in the next bin.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_averages_of_both_methods() {
    let (cells, _) = real();
    let target = RegularTarget::new(0.5, TargetEdges::GLOBE, true).unwrap();
    for (radius, single, expected) in [
        (RadiusRule::HalfDiagonal, true, &[122_354, 95_877, 19_865, 13_870, 6_272, 675, 273, 14][..]),
        (RadiusRule::HalfDiagonal, false, &[122_354, 95_877, 19_864, 13_871, 6_272, 675, 273, 14]),
        (RadiusRule::CellArea, true, &[188_209, 70_926, 65]),
        (RadiusRule::CellArea, false, &[188_208, 70_927, 65]),
    ] {
        let found = [NeighbourLimit::None, NeighbourLimit::Edp].map(|neighbours| {
            let rules = FactorRules { radius, neighbours, single };
            let search = FactorSearch::new(&cells, &target, &rules).unwrap();
            let level = search.level(0, true).unwrap();
            let mapping = level.mapping.unwrap();
            let mut counts = vec![0; expected.len()];
            for ends in mapping.starts.windows(2) {
                counts[ends[1] - ends[0]] += 1;
            }
            assert_eq!(counts, expected, "{radius}");
            (level.rows, mapping.within)
        });
        assert!(found[0] == found[1], "EDP's limit of neighbours is not reached");
    }
}

/// The cells in the model's own files give the same factors as the geometry file.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_of_the_model_files_are_those_of_the_geometry() {
    let (cells, shipped) = real();
    let grid = shipped.with_file_name("grid_ECCOV4r4");
    let dir = tempfile::tempdir().unwrap();
    let link = |name: &str| std::os::unix::fs::symlink(grid.join(name), dir.path().join(name)).unwrap();
    ["hFacC.data", "hFacC.meta", "DRF.data", "DRF.meta"].into_iter().for_each(link);
    for tile in 1..=5 {
        link(&format!("tile00{tile}.mitgrid"));
    }
    let mitgrid = NativeCells::load(dir.path()).unwrap();
    for name in ["XC", "YC", "DXG", "DYG"] {
        link(&format!("{name}.data"));
        link(&format!("{name}.meta"));
    }
    let mds = NativeCells::load(dir.path()).unwrap();
    assert_eq!((mds.n, mds.levels), (90, 50));
    assert!(mds.xc == cells.xc && mds.yc == cells.yc && mds.dxg == cells.dxg && mds.dyg == cells.dyg);
    assert!(mds.drf == cells.drf && mds.wet == cells.wet && mds.mask_c == cells.mask_c);
    let close = |a: &[f32], b: &[f32], most: f32| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= most);
    assert!(close(&mitgrid.xc, &cells.xc, 1e-5) && close(&mitgrid.yc, &cells.yc, 1e-5));
    assert!(close(&mitgrid.dxg, &cells.dxg, 0.1) && close(&mitgrid.dyg, &cells.dyg, 0.1));
    std::fs::remove_file(dir.path().join("hFacC.meta")).unwrap();
    std::fs::remove_file(dir.path().join("hFacC.data")).unwrap();
    assert!(NativeCells::load(dir.path()).unwrap_err().to_string().contains("no grid: neither a native geometry"));
}
