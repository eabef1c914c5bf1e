#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use super::super::pickle_write::Pickler;
use super::super::{MatrixWeights, TargetGrid, write_land_mask, write_latlon_grid, write_matrix};
use super::*;

const GRID: TargetGrid<'static> = TargetGrid {
    latitude_bounds: &[[-90.0, 0.0], [0.0, 90.0]],
    longitude_bounds: &[[-180.0, 180.0]],
    depth_bounds: &[[0.0, -10.0], [-10.0, -25.0]],
    latitudes: &[-45.0, 45.0],
    longitudes: &[0.0],
    wet: &[],
};

/// Writes a small set of factors: the target cells 0 and 1 are wet at level 0, and there are two source cells.
fn made_up() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_latlon_grid(dir.path(), &GRID).unwrap();
    write_land_mask(dir.path(), 0, &[true, true]).unwrap();
    write_matrix(dir.path(), 0, (2, 2), &[0, 1, 2], &[1, 0], MatrixWeights::Unit).unwrap();
    dir
}

/// Packs a pickle and writes it to a file.
fn put(file: &Path, pickler: Pickler) {
    fs::write(file, xz::pack(file, &pickler.finish(), 0).unwrap()).unwrap();
}

#[test]
fn levels_are_loaded_once_and_shared() {
    let dir = made_up();
    let factors = Factors::open(dir.path()).unwrap();
    assert_eq!((factors.levels(), factors.dir()), (2, dir.path()));
    let loaded: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| factors.level(0, &[3, 8]).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(loaded.iter().all(|level| Arc::ptr_eq(level, &loaded[0])));
    // Later changes on disk do not matter.
    fs::remove_dir_all(dir.path()).unwrap();
    assert!(Arc::ptr_eq(&factors.level(0, &[3, 8]).unwrap(), &loaded[0]));
}

#[test]
fn errors_are_not_remembered() {
    let dir = made_up();
    let factors = Factors::open(dir.path()).unwrap();
    let error = factors.level(1, &[3]).unwrap_err();
    assert!(matches!(error, MappingError::Io { action: "open", .. }));
    assert!(error.to_string().contains("sparse_matrix_1.npz: cannot open"), "{error}");
    write_matrix(dir.path(), 1, (1, 2), &[0, 1], &[1], MatrixWeights::Unit).unwrap();
    assert!(factors.level(1, &[3]).unwrap_err().to_string().contains("ecco_latlon_land_mask_1.xz: cannot open"));
    write_land_mask(dir.path(), 1, &[false, true]).unwrap();
    assert_eq!(factors.level(1, &[3]).unwrap().sources(1), [(3, 1.0)]);
}

#[test]
fn levels_that_are_kept_have_a_bound() {
    let dir = made_up();
    write_land_mask(dir.path(), 1, &[true, true]).unwrap();
    for k in 0..2 {
        write_matrix(dir.path(), k, (2, 2), &[0, 2, 4], &[0, 1, 0, 1], MatrixWeights::Float(&[0.5; 4])).unwrap();
    }
    let open = |memory| Factors::open_sealed(dir.path(), BTreeMap::new(), Files::default(), memory);
    let one = open(u64::MAX).unwrap();
    let level = |factors: &Factors, k| factors.level(k, &[3, 8]).unwrap();
    let bytes = level(&one, 0).bytes();
    // There is room for two levels, or for only one.
    for (memory, levels, stays) in [(2 * bytes, 2, true), (2 * bytes - 1, 1, false)] {
        let factors = Factors { memory: memory as u64, ..open(u64::MAX).unwrap() };
        let (first, second) = (level(&factors, 0), level(&factors, 1));
        assert_eq!(factors.bytes(), levels * bytes);
        assert!(Arc::ptr_eq(&level(&factors, 1), &second));
        assert_eq!(Arc::ptr_eq(&level(&factors, 0), &first), stays);
    }
    // A single level that is too large is refused, and so is a target grid.
    let factors = Factors { memory: 95, ..open(u64::MAX).unwrap() };
    assert!(matches!(factors.level(0, &[3, 8]), Err(MappingError::Memory { bytes: 96, limit: 95, .. })));
    assert!(matches!(open(33), Err(MappingError::Memory { bytes: 34, .. } | MappingError::TooLarge { .. })));
}

#[test]
fn another_grid_is_refused() {
    let dir = made_up();
    let factors = Factors::open(dir.path()).unwrap();
    let error = factors.level(0, &[1, 2, 3]).unwrap_err();
    assert!(matches!(error, MappingError::SourceCount { level: 0, rows: 2, wet: 3, .. }), "{error}");
    factors.level(0, &[3, 8]).unwrap();
    for other in [&[3, 9][..], &[8, 3], &[3], &[3, 8, 9]] {
        assert!(matches!(factors.level(0, other), Err(MappingError::OtherGrid { level: 0, .. })));
    }
    let error = factors.level(2, &[]).unwrap_err();
    assert!(error.to_string().ends_with("there is no level 2: the factors have the levels 0 to 1"), "{error}");
}

#[test]
fn masks_must_fit() {
    let dir = made_up();
    let file = land_mask(dir.path(), 0);
    let mask = |shape: &[usize], values: &[f64]| {
        let mut pickler = Pickler::new();
        pickler.floats(shape, values.iter());
        put(&file, pickler);
        Factors::open(dir.path()).unwrap().level(0, &[3, 8]).map_err(|error| error.to_string())
    };
    assert!(mask(&[2], &[1.0, f64::NAN]).is_ok());
    assert!(
        mask(&[2], &[1.0, 0.0]).unwrap_err().contains("cell 1 of the land mask is 0, expected 1 (wet) or NaN (land)")
    );
    assert!(mask(&[3], &[1.0; 3]).unwrap_err().contains("shape [3], expected [2]"));
    assert!(mask(&[2, 1], &[1.0; 2]).unwrap_err().contains("shape [2, 1], expected [2]"));
    assert!(mask(&[10_000], &[1.0; 10_000]).unwrap_err().contains("larger than the limit of 4112 bytes"));
    let mut pickler = Pickler::new();
    pickler.integers(&[1, 1]);
    put(&file, pickler);
    let error = Factors::open(dir.path()).unwrap().level(0, &[3, 8]).unwrap_err();
    assert!(error.to_string().ends_with("an array, expected an array of floats"), "{error}");
    fs::write(&file, b"no mask").unwrap();
    assert!(matches!(Factors::open(dir.path()).unwrap().level(0, &[3, 8]), Err(MappingError::Xz { .. })));
}

/// Writes a target grid whose parts need not fit each other, and opens it.
fn open_grid(
    parts: usize,
    shape: &[i64],
    lats: &[usize],
    bounds: &[usize],
    depths: &[usize],
    depth: f64,
) -> Result<Factors, String> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("latlon_grid")).unwrap();
    let zeros = |pickler: &mut Pickler, shape: &[usize], value: f64| {
        pickler.floats(shape, vec![value; shape.iter().product()].iter());
    };
    let mut pickler = Pickler::new();
    pickler.begin_list();
    pickler.begin_dict();
    pickler.text("lat");
    zeros(&mut pickler, bounds, 0.0);
    pickler.text("lon");
    zeros(&mut pickler, &[3, 2], 0.0);
    pickler.end_dict();
    zeros(&mut pickler, depths, depth);
    pickler.begin_dict();
    pickler.text("shape");
    pickler.begin_tuple();
    shape.iter().for_each(|&size| pickler.int(size));
    pickler.end_tuple();
    pickler.text("lats_1D");
    zeros(&mut pickler, lats, 0.0);
    pickler.text("lons_1D");
    zeros(&mut pickler, &[3], 0.0);
    pickler.end_dict();
    for _ in 3..parts {
        pickler.begin_dict();
        pickler.end_dict();
    }
    pickler.end_list();
    put(&latlon_grid(dir.path()), pickler);
    Factors::open(dir.path()).map_err(|error| error.to_string())
}

#[test]
fn the_parts_of_the_target_grid_must_fit() {
    assert_eq!(open_grid(4, &[2, 3], &[2], &[2, 2], &[1, 2], -1.0).unwrap().shape(), (2, 3));
    let cases = [
        (open_grid(3, &[2, 3], &[2], &[2, 2], &[1, 2], 0.0), "a list of 3 parts, expected 4"),
        (open_grid(4, &[2], &[2], &[2, 2], &[1, 2], 0.0), "shape is not"),
        (open_grid(4, &[0, 3], &[0], &[0, 2], &[1, 2], 0.0), "shape is not"),
        (open_grid(4, &[-2, 3], &[2], &[2, 2], &[1, 2], 0.0), "shape is not"),
        (open_grid(4, &[i64::MAX, 3], &[2], &[2, 2], &[1, 2], 0.0), "shape is not"),
        (open_grid(4, &[1 << 20, 1 << 20], &[2], &[2, 2], &[1, 2], 0.0), "shape is not"),
        (open_grid(4, &[2, 3], &[3], &[2, 2], &[1, 2], 0.0), "lats_1D has the shape [3], expected [2]"),
        (open_grid(4, &[2, 3], &[2], &[3, 2], &[1, 2], 0.0), "latitude bounds: the shape is [3, 2], expected [2, 2]"),
        (open_grid(4, &[2, 3], &[2], &[4], &[1, 2], 0.0), "latitude bounds: the shape is [4], expected [2, 2]"),
        (open_grid(4, &[2, 3], &[2], &[2, 2], &[3], 0.0), "depth bounds: the shape is [3], expected [n, 2]"),
        (open_grid(4, &[2, 3], &[2], &[2, 2], &[0, 2], 0.0), "0 depth bounds"),
        (open_grid(4, &[2, 3], &[2], &[2, 2], &[5000, 2], 0.0), "5000 depth bounds"),
        (open_grid(4, &[2, 3], &[2], &[2, 2], &[1, 2], f64::NAN), "depth bounds: value 0 is not a finite number"),
    ];
    for (found, expected) in cases {
        let error = found.expect_err(expected);
        assert!(error.contains("latlon_grid.xz: ") && error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn other_pickles_are_no_target_grid() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Factors::open(dir.path()), Err(MappingError::Io { action: "open", .. })));
    fs::create_dir(dir.path().join("latlon_grid")).unwrap();
    let file = latlon_grid(dir.path());
    let mut pickler = Pickler::new();
    pickler.text("lat");
    put(&file, pickler);
    let error = Factors::open(dir.path()).unwrap_err().to_string();
    assert!(error.ends_with("latlon_grid.xz: text, expected a list of 4 parts"), "{error}");
    fs::write(&file, xz::pack(&file, b"\x80\x04cos\nsystem\n.", 0).unwrap()).unwrap();
    let error = Factors::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("latlon_grid.xz: byte 2 of the pickle: the global \"os.system\""), "{error}");
}

#[test]
fn files_are_those_that_production_reads() {
    let dir = made_up();
    for other in [
        "land_mask/ecco_latlon_land_mask_any_wet_in_column.xz",
        "land_mask/ecco_latlon_land_mask_00.xz",
        "land_mask/ecco_latlon_land_mask_1.xz.part",
        "sparse/sparse_matrix_2D.npz",
        "sparse/sparse_matrix_any_wet_in_column.xz.npz",
        "sparse/sparse_matrix_+1.npz",
        "sparse/sparse_matrix_.npz",
        "ecco_latlon_grid_mappings_all.xz",
    ] {
        fs::write(dir.path().join(other), b"").unwrap();
    }
    fs::write(dir.path().join("sparse/sparse_matrix_10.npz"), b"").unwrap();
    let names: Vec<_> = files(dir.path(), &Files::default())
        .unwrap()
        .iter()
        .map(|file| file.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "land_mask/ecco_latlon_land_mask_0.xz",
            "latlon_grid/latlon_grid.xz",
            "sparse/sparse_matrix_0.npz",
            "sparse/sparse_matrix_10.npz"
        ]
    );
    fs::remove_file(latlon_grid(dir.path())).unwrap();
    assert!(matches!(files(dir.path(), &Files::default()), Err(MappingError::Io { .. })));
}

/// Returns the factors of ECCO V4r4 and the number of wet cells of each level, read from the target grid file itself.
fn real() -> (Factors, Vec<usize>) {
    let dir = crate::real_data::real_data("V4r4/mapping_factors");
    let bytes = xz::read_pickle(
        ExpectedFile { file: &latlon_grid(&dir), files: &Files::default(), seal: None },
        MAX_LATLON_GRID,
    )
    .unwrap();
    assert_eq!(bytes.len(), 57_801_523);
    let document = PickleDocument::parse(&bytes).unwrap();
    let wet = document.items(document.root()).unwrap()[3];
    let counts = (0..50)
        .map(|k| {
            let (_, lists) = document.pairs(wet).unwrap().iter().find(|(key, _)| *key == PickleValue::Int(k)).unwrap();
            document.array(document.items(*lists).unwrap()[0]).unwrap().len()
        })
        .collect();
    (Factors::open(&dir).unwrap(), counts)
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_factors_of_v4r4() {
    let (factors, wet) = real();
    assert_eq!((factors.shape(), factors.levels()), ((360, 720), 50));
    assert_eq!(factors.latitude_bounds()[0], [-90.0, -89.5]);
    assert_eq!(factors.latitude_bounds()[359], [89.5, 90.0]);
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-10, "{found}, {expected}");
    close(factors.longitude_bounds()[0][0], -180.0);
    close(factors.longitude_bounds()[0][1], -179.5);
    close(factors.latitudes()[0], -89.75);
    close(factors.longitudes()[719], 179.75);
    assert_eq!(factors.depth_bounds()[..2], [[0.0, -10.0], [-10.0, -20.0]]);
    assert_eq!(factors.depth_bounds()[49], [-5678.0, -6134.5]);
    assert_eq!(wet[..4], [60_646, 60_646, 59_874, 59_387]);
    assert_eq!((wet[25], wet[49]), (51_259, 818));

    for (k, &count) in wet.iter().enumerate() {
        // The row numbers serve as positions, so that the positions are the source indices of the stored mappings.
        let rows: Vec<u32> = (0..count as u32).collect();
        let level = factors.level(k, &rows).unwrap();
        assert!(level.is_nearest_neighbour(), "level {k}");
        assert_eq!(level.uncovered(), 0, "level {k}");
        match k {
            0 => {
                assert_eq!(level.wet_targets(), 169_137);
                assert_eq!((0..259_200).map(|m| level.sources(m).len()).sum::<usize>(), 169_137);
                assert_eq!(level.sources(50_000), [(3160, 1.0)]);
                assert_eq!(level.sources(129_600), [(38_326, 1.0)]);
                assert_eq!(level.sources(259_199), [(26_545, 1.0)]);
                assert!(level.sources(0).is_empty() && level.sources(100_000).is_empty());
            }
            25 => assert_eq!(level.wet_targets(), 147_249),
            49 => assert_eq!(level.wet_targets(), 2_778),
            _ => {}
        }
    }
    let error = factors.level(0, &[0; 60_645]);
    assert!(matches!(error, Err(MappingError::OtherGrid { .. })));
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_mappings_are_within_what_pickles_may_hold() {
    let (factors, _) = real();
    let file = factors.dir().join("ecco_latlon_grid_mappings_all.xz");
    let bytes =
        xz::read_pickle(ExpectedFile { file: &file, files: &Files::default(), seal: None }, MAX_LATLON_GRID).unwrap();
    let document = PickleDocument::parse(&bytes).unwrap();
    let &[within, nearest] = document.items(document.root()).unwrap() else { panic!() };
    assert!(document.objects(within).unwrap().iter().all(|value| *value == PickleValue::Int(-1)));
    let nearest = document.array(nearest).unwrap().integers().unwrap();
    assert_eq!((nearest.len(), nearest[0], nearest[129_600], nearest[259_199]), (259_200, 74_158, 68_234, 52_605));
}
