//! Tests of the demo as a whole: the places of its files, and their reproducibility.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use edp_engine::grid::{Latlon, Native};
use edp_engine::mapping::Factors;
use edp_engine::mds::MdsFile;
use std::collections::BTreeMap;

fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let content = fs::read(&path).unwrap();
                all.insert(path.strip_prefix(root).unwrap().to_owned(), content);
            }
        }
    }
    all
}

#[test]
fn twice_the_same_bytes() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    generate(first.path(), 7).unwrap();
    generate(second.path(), 7).unwrap();
    let once = files(first.path());
    let again = files(second.path());
    assert!(once.keys().eq(again.keys()));
    for (path, content) in &once {
        assert!(again[path] == *content, "{}", path.display());
    }
    // The same over an existing demo.
    generate(first.path(), 7).unwrap();
    assert!(files(first.path()) == once);
}

#[test]
fn sizes_and_places() {
    let out = tempfile::tempdir().unwrap();
    let demo = generate(out.path(), 6).unwrap();
    let all = files(out.path());
    let length = |path: &str| all.get(Path::new(path)).unwrap_or_else(|| panic!("{path}")).len();
    let plane = 13 * 6 * 6 * 4;
    for name in ["XC", "YG", "RAZ", "Depth", "AngleSN"] {
        assert_eq!(length(&format!("grid/{name}.data")), plane);
    }
    assert_eq!(length("grid/hFacS.data"), plane * LEVELS);
    assert_eq!(length("grid/RF.data"), 4 * (LEVELS + 1));
    assert_eq!(length("grid/PHrefC.data"), 4 * LEVELS);
    for step in ["0000000732", "0000001428", "0000002172"] {
        let at = |name: &str| format!("results/DEMO/diags_monthly/{name}_mon_mean/{name}_mon_mean.{step}.data");
        assert_eq!(length(&at("SSH")), plane);
        assert_eq!(length(&at("SALT")), plane * LEVELS);
    }
    for entry in all.keys().filter(|path| path.extension().is_some_and(|e| e == "meta")) {
        MdsFile::open_pair(&out.path().join(entry.with_extension(""))).unwrap();
    }
    assert!(demo.configuration.is_file() && demo.jobs.is_file() && demo.metadata.join(metadata::TABLE).is_file());
}

#[test]
fn the_grid_reader_takes_it() {
    for n in [6, 9] {
        let out = tempfile::tempdir().unwrap();
        let demo = generate(out.path(), n).unwrap();
        let native = Native::load(&demo.grid).unwrap();
        assert_eq!((native.n, native.levels), (n, LEVELS));
        assert_eq!(native.rf[0], 0.0);
        assert_eq!(native.rf[LEVELS], -5500.0);
        // Corners from the geometry file, and own corners from the MDS files.
        for (bounds, own) in native.xc_bounds.chunks_exact(4).zip(native.xg.iter()) {
            assert_eq!(bounds[0], *own);
        }
        for (cell, centre) in native.yc_bounds.chunks_exact(4).zip(native.yc.iter()) {
            let (low, high) = cell.iter().fold((f32::MAX, f32::MIN), |(a, b), y| (a.min(*y), b.max(*y)));
            assert!(low <= *centre && (*centre <= high || high > 80.0));
        }
        for k in 0..LEVELS {
            assert_eq!(native.wet.level(k), native.mask_c.level(k));
        }
        let latlon = Latlon::load(&demo.grid).unwrap();
        assert_eq!(latlon.longitude.len(), 2 * latlon.latitude.len());
        assert_eq!(latlon.z, native.rc);
    }
}

#[test]
fn the_factors_reader_takes_them() {
    let out = tempfile::tempdir().unwrap();
    let demo = generate(out.path(), 6).unwrap();
    let native = Native::load(&demo.grid).unwrap();
    let latlon = Latlon::load(&demo.grid).unwrap();
    let factors = Factors::open(&demo.factors).unwrap();
    assert_eq!(factors.shape(), (latlon.latitude.len(), latlon.longitude.len()));
    assert_eq!(factors.depth_bounds().len(), LEVELS);
    assert_eq!(factors.depth_bounds()[0], [0.0, -15.0]);
    let mut before = usize::MAX;
    for k in 0..LEVELS {
        let level = factors.level(k, &native.wet_positions(k)).unwrap();
        assert!(level.is_nearest_neighbour());
        assert_eq!(level.uncovered(), 0);
        assert!(level.wet_targets() > 100 && level.wet_targets() <= before);
        before = level.wet_targets();
    }
}

#[test]
fn sizes_out_of_range_and_foreign_grids_are_refused() {
    let out = tempfile::tempdir().unwrap();
    for n in [0, 5, 271, usize::MAX] {
        assert!(matches!(generate(out.path(), n), Err(DemoError::Size(_))));
    }
    assert!(fs::read_dir(out.path()).unwrap().next().is_none());
    generate(out.path(), 6).unwrap();
    let message = generate(out.path(), 8).unwrap_err().to_string();
    assert!(message.contains("_llc0006.nc") || message.contains("10p00deg.nc"), "{message}");
}
