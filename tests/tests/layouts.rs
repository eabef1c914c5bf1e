//! Results in other layouts: several variables in one file, and one variable in several files. The granules are the
//! same.

use edp_engine::mds::MdsFile;
use edp_protocol::recipe::{self, Recipe};
use edp_tests::{Fixture, coordinator, count, expect, files, json, layouts, text};
use std::fs;
use std::path::{Path, PathBuf};

const SIZE: usize = 6;
const GRANULES: usize = 24;

/// Plans and makes everything in the demo with the results of a directory. Returns the recipes and the output.
fn made(fixture: &Fixture, results: &Path, name: &str, status: i32) -> (Vec<Recipe>, String) {
    let (list, out) = (fixture.path(&format!("{name}.json")), fixture.path(name));
    let mut options = fixture.options(&out);
    let at = options.iter().position(|option| option == "--source").unwrap();
    options[at + 1] = results.display().to_string();
    let mut command = coordinator();
    command.env("SOURCE_DATE_EPOCH", "1577836800").arg("run").args(options).arg("--tasks-out").arg(&list);
    let output = expect(command.args(["--output", "json"]), status);
    let report = json(&output);
    assert!(status != 0 || count(&report, "made") == GRANULES, "{report:#}");
    (recipe::parse_list("list", &fs::read(&list).unwrap()).unwrap(), format!("{}{report:#}", text(&output)))
}

/// Compares granules byte for byte, except for what depends on the ids of their recipes: `recipe_id`, `uuid`, and
/// HDF5's checksums of the two blocks of attributes that contain them.
fn assert_same(one: &[Recipe], other: &[Recipe]) {
    const CHECKSUMS: usize = 8;
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(other) {
        let [a, b] = [one, other].map(|recipe| {
            let mut bytes = fs::read(&recipe.granule).unwrap();
            let id = &recipe.plan().unwrap().id;
            for text in [id.clone(), Recipe::uuid_of(id)] {
                let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("the id");
                bytes[at..at + text.len()].fill(b'-');
            }
            bytes
        });
        assert_eq!(a.len(), b.len(), "{}", one.granule);
        let different = a.iter().zip(&b).filter(|(a, b)| a != b).count();
        assert!(different <= CHECKSUMS, "{}: {different} bytes differ", one.granule);
        assert_ne!(one.plan().unwrap().id, other.plan().unwrap().id);
    }
}

#[test]
fn grouped_and_tiled_results_give_the_same_granules() {
    let fixture = Fixture::new(SIZE);
    let (single, _) = made(&fixture, &fixture.demo.results, "single", 0);
    assert!(single.iter().all(|recipe| recipe.plan().unwrap().fields.is_empty()));
    assert!(!fs::read_to_string(fixture.path("single.json")).unwrap().contains("\"fields\""));

    for with_word in [true, false] {
        let (results, name) = (fixture.path(&format!("groups-{with_word}")), format!("grouped-{with_word}"));
        layouts::grouped(&fixture.demo.results, &results, with_word);
        let (grouped, _) = made(&fixture, &results, &name, 0);
        assert_same(&single, &grouped);
        for recipe in &grouped {
            let plan = recipe.plan().unwrap();
            assert_eq!(plan.fields.len(), recipe.variables.len());
            assert_eq!(plan.inputs.len(), 2, "{:?}", plan.inputs);
        }
        // The list is still EDP's, but our own key may be added.
        let rotated = grouped.iter().find(|recipe| recipe.variables.contains_key("EVEL")).unwrap();
        assert_eq!(rotated.plan().unwrap().fields["EVEL"], ["UVEL", "VVEL"]);
        assert_eq!(rotated.variables["EVEL"][0], rotated.variables["EVEL"][1]);
    }

    let tiles = fixture.path("tiles");
    layouts::tiled(&fixture.demo.results, &tiles, 3, |_, _| true);
    let before = files(&tiles);
    let (tiled, said) = made(&fixture, &tiles, "tiled", 0);
    assert_same(&single, &tiled);
    assert!(said.contains("in pieces (STEP.001.001.data and so on)"), "{said}");
    let plan = tiled[0].plan().unwrap();
    assert!(plan.fields.is_empty() && plan.inputs.len() % (2 * 52) == 0, "{}", plan.inputs.len());
    assert_eq!(files(&tiles), before, "nothing is written beside the pieces");
}

/// Returns true if all cells of a piece are land on all levels.
fn is_land(hfac: &[f32], tile: usize, part: &layouts::PieceCells) -> bool {
    let [columns, rows] = part;
    let plane = 13 * SIZE * SIZE;
    hfac.chunks_exact(plane).all(|level| {
        rows.clone().all(|j| {
            let row = edp_engine::mds::compact::row(SIZE, tile, j);
            columns.clone().all(|i| level[row * SIZE + i] == 0.0)
        })
    })
}

#[test]
fn pieces_may_be_missing_where_there_is_only_land() {
    let fixture = Fixture::new(SIZE);
    let (single, _) = made(&fixture, &fixture.demo.results, "single", 0);
    let open = |name: &str| {
        let file = MdsFile::open_pair(&fixture.demo.grid.join(name)).unwrap();
        file.read_record(0).unwrap().into_f32()
    };
    let masks: Vec<Vec<f32>> = ["hFacC", "hFacW", "hFacS"].map(open).into();
    let land = |tile: usize, part: &layouts::PieceCells| masks.iter().all(|hfac| is_land(hfac, tile, part));
    let some: usize = (0..13).map(|tile| (0..SIZE).filter(|i| land(tile, &[*i..*i + 1, 0..1])).count()).sum();
    assert!(some > 0, "the demo has land");

    let results: PathBuf = fixture.path("without-land");
    layouts::tiled(&fixture.demo.results, &results, 1, |tile, part| !land(tile, part));
    let (tiled, said) = made(&fixture, &results, "without-land-out", 0);
    assert_same(&single, &tiled);
    assert!(said.contains("cells are in none of the") && said.contains("all of them are land"), "{said}");

    let results = fixture.path("without-sea");
    layouts::tiled(&fixture.demo.results, &results, 3, |tile, part| tile != 4 || part[0].start + part[1].start > 0);
    let (_, said) = made(&fixture, &results, "without-sea-out", 3);
    assert!(said.contains("rows 25 to 27, columns 1 to 3; by their numbers 017.001 are not there"), "{said}");
    assert!(said.contains("a piece is missing"), "{said}");
}

/// Changes the values of a result, and its header.
fn change(stem: &Path, header: impl Fn(String) -> String, value: impl Fn(usize, f32) -> f32) {
    let file = MdsFile::open_pair(stem).unwrap();
    let values = file.read_record(0).unwrap().into_f32();
    let bytes: Vec<u8> = values.iter().enumerate().flat_map(|(at, v)| value(at, *v).to_be_bytes()).collect();
    let [meta, data] = MdsFile::<fs::File>::pair(stem);
    fs::write(data, bytes).unwrap();
    let text = fs::read_to_string(&meta).unwrap();
    fs::write(meta, header(text)).unwrap();
}

fn with_missing_value(text: String) -> String {
    text.replace(" nFlds", " missingValue = [ -9.99000000000000E+02 ];\n nFlds")
}

/// Returns the path of a monthly result of the demo, without its ending.
fn month(fixture: &Fixture, variable: &str, step: u64) -> PathBuf {
    let series = format!("{variable}_mon_mean");
    fixture.demo.results.join("DEMO/diags_monthly").join(&series).join(format!("{series}.{step:010}"))
}

fn values(recipe: &Recipe, variable: &str) -> Vec<f32> {
    let file = netcdf::open(&recipe.granule).unwrap();
    file.variable(variable).unwrap().get_values(..).unwrap()
}

fn of<'r>(recipes: &'r [Recipe], part: &str) -> &'r Recipe {
    recipes.iter().find(|recipe| recipe.granule.contains(part)).unwrap()
}

#[test]
fn missing_values_are_no_values() {
    const FILL: f32 = 9.969_21e36;
    let fixture = Fixture::new(SIZE);
    let (before, _) = made(&fixture, &fixture.demo.results, "before", 0);
    // On closed faces, through which no water passes, missing values make no difference.
    for (variable, hfac) in [("UVEL", "hFacW"), ("VVEL", "hFacS")] {
        let hfac = MdsFile::open_pair(&fixture.demo.grid.join(hfac)).unwrap().read_record(0).unwrap().into_f32();
        change(
            &month(&fixture, variable, 732),
            with_missing_value,
            |at, value| {
                if hfac[at] > 0.0 { value } else { -999.0 }
            },
        );
    }
    // In water they become fill values: here in the first wet cell.
    let hfac = MdsFile::open_pair(&fixture.demo.grid.join("hFacC")).unwrap().read_record(0).unwrap().into_f32();
    let first = hfac.iter().position(|open| *open > 0.0).unwrap();
    change(&month(&fixture, "SSH", 732), with_missing_value, |at, value| if at == first { -999.0 } else { value });
    // A missing value of 0 does not count as one.
    let zero = |text: String| text.replace(" nFlds", " missingValue = [ 0.0 ];\n nFlds");
    change(&month(&fixture, "ETAN", 732), zero, |_, value| value);
    let (after, said) = made(&fixture, &fixture.demo.results, "after", 0);

    let velocity = "OCEAN_VELOCITY_mon_mean_1992-01_ECCO_DEMO_latlon";
    for variable in ["EVEL", "NVEL"] {
        assert!(values(of(&before, velocity), variable) == values(of(&after, velocity), variable), "{variable}");
    }
    let height = "SEA_SURFACE_HEIGHT_mon_mean_1992-01_ECCO_DEMO_native";
    let (old, new) = (values(of(&before, height), "SSH"), values(of(&after, height), "SSH"));
    let changed: Vec<(f32, f32)> = old.into_iter().zip(new).filter(|(old, new)| old != new).collect();
    assert!(changed.len() == 1 && changed[0].1 == FILL, "{changed:?}");
    assert!(values(of(&before, height), "ETAN") == values(of(&after, height), "ETAN"));
    for part in ["SSH: 1 wet cells have the missingValue of", "the missingValue of", "is 0, which water has too"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let height = "SEA_SURFACE_HEIGHT_mon_mean_1992-01_ECCO_DEMO_latlon";
    assert!(values(of(&after, height), "SSH").iter().all(|value| value.abs() < 100.0 || *value == FILL));
    expect(coordinator().arg("verify").arg(fixture.path("after.json")), 0);
}

#[test]
fn little_endian_files_are_refused_by_name() {
    let fixture = Fixture::new(SIZE);
    change(&month(&fixture, "SSH", 732), |text| text, |_, value| f32::from_bits(value.to_bits().swap_bytes()));
    let (_, said) = made(&fixture, &fixture.demo.results, "out", 3);
    assert!(said.contains("SSH_mon_mean.0000000732.data: its values are little-endian"), "{said}");
}

#[test]
fn the_list_of_diagnostics_may_be_missing() {
    let fixture = Fixture::new(SIZE);
    let (before, _) = made(&fixture, &fixture.demo.results, "with-list", 0);
    fs::remove_file(fixture.demo.grid.join("available_diagnostics.log")).unwrap();
    let (after, said) = made(&fixture, &fixture.demo.results, "without-list", 0);
    assert!(said.contains("its point is taken from the metadata"), "{said}");
    for (before, after) in before.iter().zip(&after) {
        for variable in before.variables.keys() {
            assert!(values(before, variable) == values(after, variable), "{}: {variable}", before.granule);
        }
    }
}
