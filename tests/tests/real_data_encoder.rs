//! The encoder of fields on real fields, on geometry, and on smooth fields: how large its streams may be.

use edp_encoder::PlaneEncoder;
use edp_protocol::recipe;
use edp_tests::shuffled::{ShuffledChunk, chunks_in, chunks_of};
use edp_tests::{coordinator, expect, real};
use std::path::{Path, PathBuf};

/// Returns the size of the streams of the encoder, and of libdeflate's at the same level.
fn sizes(chunks: &[ShuffledChunk]) -> [usize; 2] {
    let mut encoder = PlaneEncoder::new(5).unwrap();
    let ours = chunks.iter().map(|chunk| encoder.encode(&chunk.bytes, chunk.layout).len()).sum();
    [ours, chunks.iter().map(|chunk| chunk.libdeflate(5)).sum()]
}

/// Each limit is a little above what was measured: more would be a step back.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_are_compressed_as_well_as_ever() {
    let data = PathBuf::from(std::env::var_os("EDP_REAL_DATA").expect("EDP_REAL_DATA"));
    let directory = tempfile::tempdir().unwrap();
    let list = real::sea_surface_height(&data, &directory.path().join("real"));
    expect(coordinator().arg("run").arg(&list), 0);
    let recipes = recipe::parse_list("list", &std::fs::read(&list).unwrap()).unwrap();
    let height: Vec<ShuffledChunk> = recipes.iter().flat_map(chunks_of).collect();
    let demo = directory.path().join("demo");
    expect(coordinator().args(["demo", "--size", "270", "--out"]).arg(&demo), 0);
    let smooth = std::fs::read(demo.join("tasks.json")).unwrap();
    let smooth = recipe::parse_list("list", &smooth).unwrap();
    let smooth = |dataset: &str| {
        let wanted = |granule: &str| granule.contains(dataset) && granule.contains("_1992-01_");
        let recipes = smooth.iter().filter(|recipe| wanted(&recipe.granule));
        recipes.flat_map(chunks_of).step_by(3).collect::<Vec<_>>()
    };
    let geometry = demo.join("grid/GRID_GEOMETRY_DEMO_native_llc0270.nc");
    let geometry = chunks_in(Path::new(&geometry), &["XC", "YC", "rA", "CS", "SN", "hFacC"]);
    for (name, chunks, most) in [
        ("real sea surface height", height, 1.009),
        ("temperature and salinity", smooth("OCEAN_TEMPERATURE_SALINITY"), 1.022),
        ("velocity", smooth("OCEAN_VELOCITY"), 1.012),
        ("sea ice", smooth("SEA_ICE_CONC_THICKNESS"), 1.002),
        ("geometry", geometry, 1.002),
    ] {
        let [ours, libdeflate] = sizes(&chunks);
        assert!(libdeflate > 0, "{name}");
        let ratio = ours as f64 / libdeflate as f64;
        println!("{name}: {ours} bytes, libdeflate {libdeflate}: {ratio:.4}");
        assert!(ratio <= most, "{name}: {ratio}");
    }
}
