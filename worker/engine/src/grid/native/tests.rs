#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::super::{MAX_LEVELS, MAX_N};
use super::*;
use std::fs;

const N: usize = 4;
const NZ: usize = 3;
const PLANE: usize = TILES * N * N;

/// Dimensions of the variables of the made-up geometry.
const VARIABLES: [(&str, &[&str]); 16] = [
    ("hFacC", &["k", "tile", "j", "i"]),
    ("maskC", &["k", "tile", "j", "i"]),
    ("hFacW", &["k", "tile", "j", "i_g"]),
    ("maskS", &["k", "tile", "j_g", "i"]),
    ("XC", &["tile", "j", "i"]),
    ("YC", &["tile", "j", "i"]),
    ("XG", &["tile", "j_g", "i_g"]),
    ("YG", &["tile", "j_g", "i_g"]),
    ("CS", &["tile", "j", "i"]),
    ("SN", &["tile", "j", "i"]),
    ("maskShelf", &["tile", "j", "i"]),
    ("Z", &["k"]),
    ("Zp1", &["k_p1"]),
    ("Z_bnds", &["k", "nv"]),
    ("XC_bnds", &["tile", "j", "i", "nb"]),
    ("YC_bnds", &["tile", "j", "i", "nb"]),
];

/// Returns the value at a flat index. Masks are open at each cell whose index is a multiple of 2, 3, ... by level.
fn value(name: &str, index: usize) -> f32 {
    match name {
        "hFacC" | "hFacW" if index % PLANE == 5 => 9.969_21e36, // fill: land
        "hFacC" | "hFacW" => f32::from(u8::from(index.is_multiple_of(index / PLANE + 2))) * 0.25,
        "maskC" | "maskS" | "maskShelf" => f32::from(u8::from(index.is_multiple_of(index / PLANE + 2))),
        "XC_bnds" => [10.0, 12.0, 12.0, 10.0][index % 4],
        "YC_bnds" => [0.0, 0.0, 3.0, 3.0][index % 4],
        "Z" | "Zp1" => -10.0 * index as f32,
        _ => index as f32,
    }
}

/// Writes a geometry. `change` may replace the dimensions of a variable, or omit the variable by `None`.
fn write(dir: &Path, change: impl Fn(&'static str) -> Option<&'static [&'static str]>) {
    let mut file = netcdf::create(dir.join("g_native.nc")).unwrap();
    let sizes = [("tile", TILES), ("j", N), ("i", N), ("j_g", N), ("i_g", N), ("k", NZ), ("k_p1", NZ + 1)];
    for (name, size) in sizes.into_iter().chain([("nb", 4), ("nv", 2)]) {
        file.add_dimension(name, size).unwrap();
    }
    let extra: [(&str, &[&str]); 4] = [("XU", &[]), ("YU", &[]), ("XV", &[]), ("YV", &[])];
    for (name, _) in VARIABLES.into_iter().chain(extra) {
        let Some(dims) = change(name) else { continue };
        let mut variable = if name.starts_with("mask") {
            file.add_variable::<i8>(name, dims).unwrap()
        } else {
            file.add_variable::<f32>(name, dims).unwrap()
        };
        if name == "hFacC" && dims.len() == 4 {
            variable.set_chunking(&[2, 13, N, N]).unwrap();
        }
        let values: Vec<f32> = (0..variable.len()).map(|index| value(name, index)).collect();
        variable.put_values(&values, ..).unwrap();
    }
}

fn plain(name: &str) -> Option<&'static [&'static str]> {
    VARIABLES.iter().find(|(other, _)| *other == name).map(|(_, dims)| *dims)
}

fn write_mds(dir: &Path, name: &str, sizes: &[usize], values: impl Iterator<Item = f32>) {
    let list: Vec<String> = sizes.iter().map(|size| format!("{size}, 1, {size}")).collect();
    let (count, list) = (sizes.len(), list.join(", "));
    let meta = format!("nDims = [ {count} ]; dimList = [ {list} ]; dataprec = [ 'float32' ]; nrecords = [ 1 ];");
    let [meta_path, data_path] = MdsFile::pair(&dir.join(name));
    fs::write(meta_path, meta).unwrap();
    fs::write(data_path, values.flat_map(f32::to_be_bytes).collect::<Vec<u8>>()).unwrap();
}

fn message(dir: &Path) -> String {
    let error: &dyn std::error::Error = &Native::load(dir).expect_err("accepted");
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

#[test]
fn reads_the_geometry_alone() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), plain);
    let grid = Native::load(dir.path()).unwrap();
    assert_eq!((grid.n, grid.levels, grid.plane()), (N, NZ, PLANE));
    assert_eq!(grid.xc[..], (0..PLANE).map(|v| v as f32).collect::<Vec<_>>());
    assert_eq!(grid.rc, [0.0, -10.0, -20.0]);
    assert_eq!(grid.rf, [0.0, -10.0, -20.0, -30.0]);
    assert_eq!((grid.zl(), grid.zu()), (&grid.rf[..3], &grid.rf[1..]));
    assert_eq!((grid.xc_bounds.len(), grid.yc_bounds.len(), grid.z_bounds.len()), (4 * PLANE, 4 * PLANE, 6));
    assert_eq!((grid.cs.len(), grid.sn.len()), (PLANE, PLANE));
}

#[test]
fn what_a_grid_takes_is_known_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), plain);
    let [arrays, masks] = needed(N, NZ, 0);
    let load = |limit| Native::load_verified(dir.path(), Arc::default(), limit);
    // Beside them there are the coasts of the masks.
    let (least, most) = (arrays + masks, arrays + masks + (4 * NZ * PLANE * 2) as u64);
    let whole = load(2 * arrays).unwrap();
    assert!(whole.is_whole() && whole.check_whole().is_ok());
    assert!((least..most).contains(&(whole.bytes() as u64)), "{} bytes, {least} at least", whole.bytes());
    let message = load(masks - 1).unwrap_err().to_string();
    assert!(message.contains(&format!("13 x 4 x 4 cells takes {masks} bytes")), "{message}");
    assert!(message.contains("raise run.memory"), "{message}");
    assert!(matches!(load(masks), Err(GridError::TooLarge { .. })), "coasts take memory too");
    // The largest accepted shape, which a file of some megabytes can have.
    assert_eq!(needed(MAX_N, MAX_LEVELS, 2), [13 * 8640 * 8640 * 72, 13 * 8640 * 16 * 1000]);
}

#[test]
fn arrays_that_are_too_large_stay_in_their_file() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), plain);
    let whole = Native::load(dir.path()).unwrap();
    let [arrays, _] = needed(N, NZ, 0);
    let grid = Native::load_verified(dir.path(), Arc::default(), 2 * arrays - 1).unwrap();
    assert!(!grid.is_whole() && (grid.bytes() as u64) < arrays);
    assert_eq!((grid.wet.clone(), grid.mask_s.clone(), &grid.rf), (whole.wet.clone(), whole.mask_s.clone(), &whole.rf));
    let message = grid.check_whole().unwrap_err().to_string();
    assert!(message.contains("static_coordinates") && message.contains("run.memory"), "{message}");
    let corners = |grid: &Native| {
        let (mut xs, mut ys) = (Vec::new(), Vec::new());
        let take = |x: &[f32], y: &[f32]| {
            xs.extend_from_slice(x);
            ys.extend_from_slice(y);
        };
        grid.each_corners(take).unwrap();
        (xs, ys)
    };
    assert!(corners(&grid) == corners(&whole) && corners(&grid).0.len() == 4 * PLANE);
}

#[test]
fn masks_are_open_where_positive() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), plain);
    let grid = Native::load(dir.path()).unwrap();
    assert_eq!(grid.mask_c.levels(), NZ);
    for k in 0..NZ {
        let open = |cell: usize| (k * PLANE + cell).is_multiple_of(k + 2);
        for cell in 0..PLANE {
            assert_eq!(grid.wet.level(k)[cell], open(cell) && cell != 5, "hFacC at {k}, {cell}");
            assert_eq!(grid.mask_c.level(k)[cell], open(cell), "maskC at {k}, {cell}");
        }
    }
    assert_eq!(grid.mask_w, grid.wet, "maskW is absent: hFacW > 0");
    assert_eq!(grid.mask_s, grid.mask_c);
    let shelf = grid.read_mask("maskShelf").unwrap();
    assert_eq!((shelf.levels(), shelf.level(0)), (1, grid.mask_c.level(0)));
    assert_eq!(grid.read_mask("maskC").unwrap(), *grid.mask_c);
    assert!(grid.read_mask("none").unwrap_err().to_string().contains("g_native.nc: the variable 'none' is missing"));
    let message = grid.read_mask("Z").unwrap_err().to_string();
    assert!(message.contains("Z has the shape [3], expected [13, 4, 4] or [levels, 13, 4, 4]"), "{message}");
}

/// Returns the corners that one wet cell makes wet, as (tile, j, i).
fn touched(n: usize, levels: usize, k: usize, (tile, j, i): (usize, usize, usize)) -> Vec<(usize, usize, usize)> {
    let plane = TILES * n * n;
    let mut wet = vec![false; levels * plane];
    wet[k * plane + (tile * n + j) * n + i] = true;
    let angles = vec![0.0; plane];
    let grid = Native { levels, mask_c: Mask::new(n, &wet).into(), ..Native::with_angles(n, angles.clone(), angles) };
    let corners = grid.mask_z();
    assert_eq!((corners.levels(), corners.plane()), (levels, plane));
    assert!((0..levels).all(|level| level == k || corners.count(level) == 0), "other levels stay dry");
    let wet = corners.level(k);
    let wet = wet.iter().enumerate().filter(|(_, wet)| **wet);
    wet.map(|(at, _)| (at / (n * n), at / n % n, at % n)).collect()
}

#[test]
fn corners_are_wet_where_a_cell_around_them_is() {
    let last = N - 1;
    for (cell, corners) in [
        ((1, 1, 1), &[(1, 1, 1), (1, 1, 2), (1, 2, 1), (1, 2, 2)][..]),
        // across a straight seam on the right, at the top, and at both
        ((0, 1, last), &[(0, 1, last), (0, 2, last), (3, 1, 0), (3, 2, 0)]),
        ((0, last, 1), &[(0, last, 1), (0, last, 2), (1, 0, 1), (1, 0, 2)]),
        ((0, last, last), &[(0, last, last), (1, 0, last), (3, last, 0), (4, 0, 0)]),
        // across a turned seam: rows and columns are counted from the other end
        ((4, 1, last), &[(4, 1, last), (4, 2, last), (8, 0, 2), (8, 0, 3)]),
        ((2, last, 1), &[(2, last, 1), (2, last, 2), (6, 2, 0), (6, 3, 0)]),
        ((12, last, 1), &[(0, 2, 0), (0, 3, 0), (12, last, 1), (12, last, 2)]),
        // at the southern end no tile stores the corners: tile 9 on the right, and where tile 3 meets it
        ((9, 1, last), &[(9, 1, last), (9, 2, last)]),
        ((3, 0, last), &[(3, 0, last), (3, 1, last), (9, 0, last)]),
        // three facets meet at this end of tile 2, and no tile stores the point
        ((2, last, 0), &[(2, last, 0), (2, last, 1), (6, last, 0)]),
    ] {
        assert_eq!(touched(N, 1, 0, cell), corners, "{cell:?}");
        assert_eq!(touched(N, 3, 1, cell), corners, "{cell:?} on the second level");
    }
}

#[test]
fn wet_positions_point_into_the_compact_plane() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), plain);
    let grid = Native::load(dir.path()).unwrap();
    let compact: Vec<usize> = (0..PLANE).collect();
    let mut tiles = vec![0; PLANE];
    compact::to_tiles(N, &compact, &mut tiles);
    for k in 0..NZ {
        let wet = tiles.iter().zip(grid.wet.level(k)).filter(|(_, wet)| *wet);
        let expected: Vec<usize> = wet.map(|(position, _)| *position).collect();
        let found: Vec<usize> = grid.wet_positions(k).into_iter().map(|position| position as usize).collect();
        assert_eq!(found, expected);
        assert_eq!(found.len(), grid.wet.count(k));
    }
}

#[test]
fn mds_files_take_precedence() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), plain);
    let compact = (0..PLANE).map(|v| v as f32 + 0.5);
    write_mds(dir.path(), "XC", &[N, 13 * N], compact.clone());
    write_mds(dir.path(), "YC", &[N, 13 * N, 1], compact);
    write_mds(dir.path(), "RF", &[1, 1, NZ + 1], [0.0, -1.0, -2.0, -4.0].into_iter());
    let grid = Native::load(dir.path()).unwrap();
    // tile 8, j 2, i 3 is in row 7N + 3j + 1
    assert_eq!(grid.xc[(8 * N + 2) * N + 3], ((7 * N + 7) * N + 3) as f32 + 0.5);
    assert_eq!(grid.yc, grid.xc);
    assert_eq!(grid.rf, [0.0, -1.0, -2.0, -4.0]);
    fs::remove_file(dir.path().join("XC.data")).unwrap();
    assert!(message(dir.path()).contains("XC.data: cannot be read"), "half a pair is an error");
}

#[test]
fn edge_points_are_read_or_computed() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), plain);
    let grid = Native::load(dir.path()).unwrap();
    assert_eq!(grid.edges, [None, None]);
    let points = grid.edge_points();
    assert_eq!((points.xu[7], points.yu[7], points.xv[7], points.yv[7]), (10.0, 1.5, 11.0, 0.0));
    assert_eq!(points.xu.len(), PLANE);
    write(dir.path(), |name| match name {
        "XU" | "YU" => Some(&["tile", "j", "i_g"]),
        "XV" | "YV" => Some(&["tile", "j_g", "i"]),
        _ => plain(name),
    });
    assert_eq!(Native::load(dir.path()).unwrap().edge_points().yv[7], 7.0);
    write(dir.path(), |name| match name {
        "XU" | "YU" => Some(&["tile", "j", "i_g"]),
        "XV" => Some(&["tile", "j_g", "i"]),
        _ => plain(name),
    });
    let half = Native::load(dir.path()).unwrap();
    assert!(half.edges[0].is_some() && half.edges[1].is_none());
    assert_eq!((half.edge_points().yu[7], half.edge_points().yv[7]), (7.0, 0.0), "one pair read, one computed");
}

#[test]
fn says_which_shape_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), plain);
    write_mds(dir.path(), "RC", &[1, 1, NZ + 1], [0.0; 4].into_iter());
    let found = message(dir.path());
    assert!(found.contains("RC.data: RC has the shape [4, 1, 1], expected [3, 1, 1], as the geometry"), "{found}");
    write_mds(dir.path(), "RC", &[1, 1, NZ], [0.0; 2].into_iter());
    assert!(message(dir.path()).contains("RC.data: 8 bytes, but its header asks for exactly 12"));
    fs::remove_file(dir.path().join("RC.meta")).unwrap();
    fs::remove_file(dir.path().join("RC.data")).unwrap();
    for (name, dims, expected) in [
        ("hFacC", Some(["tile", "j", "i"].as_slice()), "hFacC has the shape [13, 4, 4], expected [levels, 13, N, N]"),
        ("hFacC", None, "the variable 'hFacC' is missing"),
        ("maskC", Some(&["k_p1", "tile", "j", "i"]), "maskC has the shape [4, 13, 4, 4], expected [levels, 13, 4, 4]"),
        ("maskS", None, "the variable 'hFacS' is missing"),
        ("CS", Some(&["j", "tile", "i"]), "CS has the shape [4, 13, 4], expected [13, 4, 4]"),
        ("XC_bnds", Some(&["tile", "j", "i", "nv"]), "XC_bnds has the shape [13, 4, 4, 2], expected [13, 4, 4, 4]"),
        ("Zp1", Some(&["k"]), "Zp1 has the shape [3], expected [4]"),
        ("XG", Some(&[]), "XG has the shape [], expected [13, 4, 4]"),
    ] {
        write(dir.path(), |other| if other == name { dims } else { plain(other) });
        let found = message(dir.path());
        assert!(found.contains(&format!("g_native.nc: {expected}")), "{found}");
    }
    fs::write(dir.path().join("g_native.nc"), "no NetCDF").unwrap();
    assert!(message(dir.path()).contains("g_native.nc: the file cannot be read: "));
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_grid() {
    let directory = crate::real_data::real_data("V4r4/grid_ECCOV4r4");
    let grid = Native::load(&directory).unwrap();
    let n = grid.n;
    assert_eq!((n, grid.levels), (90, 50));
    let counts: Vec<usize> = [0, 1, 2, 3, 25, 49].iter().map(|&k| grid.wet.count(k)).collect();
    assert_eq!(counts, [60_646, 60_646, 59_874, 59_387, 51_259, 818]);
    assert_eq!(grid.wet, grid.mask_c);
    for (tile, j, i, x, y) in [
        (0, 0, 0, -111.60647, -88.24259),
        (1, 0, 0, -37.5, -56.73891),
        (2, 0, 0, -37.5, 10.45864),
        (3, 0, 0, 64.83302, -80.37896),
        (6, 0, 0, 52.0, 67.57341),
        (7, 0, 0, 142.16208, 67.47211),
        (8, 0, 0, 142.5, 9.48240),
        (9, 0, 0, 142.5, -57.27141),
        (10, 0, 0, -127.83792, 67.47211),
        (12, 0, 0, -127.5, -57.27141),
        (0, 10, 20, -0.90617, -87.34118),
        (4, 10, 20, 72.5, -51.00068),
        (8, 10, 20, 152.5, -2.41583),
        (11, 10, 20, -117.5, -2.41583),
    ] {
        let cell = (tile * n + j) * n + i;
        assert!((grid.xc[cell] - x).abs() < 1e-5 && (grid.yc[cell] - y).abs() < 1e-5, "tile {tile} ({j}, {i})");
        // the same corner, from an MDS file and from the bounds
        assert!((grid.xg[cell] - grid.xc_bounds[4 * cell]).abs() < 1e-4, "tile {tile} ({j}, {i})");
        assert!((grid.yg[cell] - grid.yc_bounds[4 * cell]).abs() < 1e-4, "tile {tile} ({j}, {i})");
    }
    assert_eq!((grid.rc[0], grid.rf[0], grid.zu()[0], grid.zl()[49]), (-5.0, 0.0, -10.0, grid.rf[49]));
    let faces: Vec<f32> = (0..50).flat_map(|k| [grid.rf[k], grid.rf[k + 1]]).collect();
    assert_eq!(grid.z_bounds, faces);
    let fractions = MdsFile::open_pair(&directory.join("hFacC")).unwrap();
    for k in [0, 25, 49] {
        let compact = fractions.read_plane(0, k).unwrap().into_f32();
        let positions = grid.wet_positions(k);
        assert!(positions.iter().all(|&position| compact[position as usize] > 0.0));
        assert_eq!(positions.len(), compact.iter().filter(|fraction| **fraction > 0.0).count());
    }
    let points = grid.edge_points();
    let cell = (4 * n + 10) * n + 20; // lines of constant longitude and latitude follow the edges
    assert_eq!((points.xu[cell], points.xv[cell]), (72.0, 72.5));
    assert!((points.yu[cell] - grid.yc[cell]).abs() < 0.01, "{} {}", points.yu[cell], grid.yc[cell]);
}
