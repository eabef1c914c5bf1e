//! Tests with headers and values that MITgcm itself has written. `make conformance` runs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{Header, MdsFile, Plane};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    crate::real_data::real_data("public")
}

fn headers(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            headers(&path, found);
        } else if path.extension().is_some_and(|end| end == "meta") {
            found.push(path);
        }
    }
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn headers_of_many_runs_are_read() {
    let root = root();
    let mut found = Vec::new();
    headers(&root, &mut found);
    assert!(found.len() > 90, "{} headers", found.len());
    let (mut pieces, mut pickups, mut times) = (0, 0, 0);
    for path in found {
        let text = fs::read(&path).unwrap();
        let header = Header::parse_any(&path.display().to_string(), &text).unwrap();
        pieces += usize::from(header.piece().is_some());
        times += usize::from(!header.interval.is_empty());
        pickups += usize::from(!header.fields.is_empty() && header.fields.len() < header.records);
        let data = path.with_extension("data");
        if data.exists() {
            MdsFile::open(&data.display().to_string(), header, File::open(&data).unwrap()).unwrap();
        }
    }
    assert!(pieces > 0 && pickups > 10 && times > 10, "{pieces} pieces, {pickups} pickups, {times} with times");
}

/// Returns the smallest and largest value of a field; if `wet` is true, only of those that are not 0.
fn extremes(file: &MdsFile<File>, field: &str, levels: usize, wet: bool) -> [f64; 2] {
    let found = file.find(field, levels).unwrap();
    let mut extremes = [f64::INFINITY, f64::NEG_INFINITY];
    for level in 0..found.levels.unwrap_or(1) {
        let Plane::F64(values) = file.read_plane(found.record + level, 0).unwrap() else { panic!("precision") };
        for value in values.into_iter().filter(|value| !wet || *value != 0.0) {
            extremes = [extremes[0].min(value), extremes[1].max(value)];
        }
    }
    extremes
}

// Values that the model printed for these fields when it read them (its monitor, with 14 digits, of wet cells).
// Temperature and salinity of the second run have other values in dry cells, which the file does not distinguish from
// wet ones.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn fields_have_the_extremes_that_the_model_saw() {
    let root = root();
    let open = |stem: &str| MdsFile::open_pair(&root.join("mds_MITgcm/verification").join(stem)).unwrap();
    let sea = open("lab_sea/input/pickup.0000000001");
    let shelf = open("shelfice_2d_remesh/input/pickup.0000002898");
    for (file, levels, field, wet, min, max) in [
        (&sea, 23, "Theta", false, -1.858_078_412_348_1, 12.478_987_018_692),
        (&sea, 23, "Salt", true, 30.708_011_544_816, 35.292_899_326_544),
        (&sea, 23, "EtaN", false, -0.122_940_723_909_31, 0.121_488_964_649_48),
        (&sea, 23, "Uvel", false, -0.032_116_802_195_889, 0.029_562_119_253_125),
        (&shelf, 90, "EtaN", false, -0.272_717_134_688_34, 1.169_358_379_316_8),
        (&shelf, 90, "Uvel", false, -0.078_281_537_205_613, 0.043_227_839_431_438),
        (&shelf, 90, "Vvel", false, -0.025, 0.025),
    ] {
        let found = extremes(file, field, levels, wet);
        for (found, wanted) in found.into_iter().zip([min, max]) {
            assert!((found / wanted - 1.0).abs() < 1e-12, "{}: {field}: {found}, not {wanted}", file.name());
        }
    }
}
