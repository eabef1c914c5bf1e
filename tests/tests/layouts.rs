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
    made_as("corrected", fixture, results, name, status)
}

/// Does the same in a mode.
fn made_as(mode: &str, fixture: &Fixture, results: &Path, name: &str, status: i32) -> (Vec<Recipe>, String) {
    let (list, out) = (fixture.path(&format!("{name}.json")), fixture.path(name));
    let mut options = fixture.options(&out);
    options.extend(["--compatibility", mode].map(str::to_owned));
    let at = options.iter().position(|option| option == "--source").unwrap();
    options[at + 1] = results.display().to_string();
    let mut command = coordinator();
    command.env("SOURCE_DATE_EPOCH", "1577836800").arg("run").args(options).arg("--tasks-out").arg(&list);
    let output = expect(command.args(["--output", "json"]), status);
    let report = json(&output);
    assert!(status != 0 || count(&report, "made") == GRANULES, "{report:#}");
    (recipe::parse_list("list", &fs::read(&list).unwrap()).unwrap(), format!("{}{report:#}", text(&output)))
}

/// Compares granules byte for byte, except for what depends on the ids of their recipes: `recipe_id` (which EDP's modes
/// do not write), `uuid`, and HDF5's checksums of the two blocks of attributes that contain them.
fn assert_same(one: &[Recipe], other: &[Recipe]) {
    const CHECKSUMS: usize = 8;
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(other) {
        let [a, b] = [one, other].map(|recipe| {
            let mut bytes = fs::read(&recipe.granule).unwrap();
            let plan = recipe.plan().unwrap();
            let texts = [Some(Recipe::uuid_of(&plan.id)), Some(plan.id.clone()).filter(|_| !plan.mode.is_edp())];
            for text in texts.into_iter().flatten() {
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
    for mode in ["edp-2024", "edp-2026"] {
        let (single, _) = made_as(mode, &fixture, &fixture.demo.results, &format!("{mode}-single"), 0);
        for results in ["groups-true", "groups-false", "tiles"] {
            let (other, _) = made_as(mode, &fixture, &fixture.path(results), &format!("{mode}-{results}"), 0);
            assert_same(&single, &other);
        }
    }
    let before = files(&tiles);
    let (tiled, said) = made(&fixture, &tiles, "tiled", 0);
    assert_same(&single, &tiled);
    assert!(said.contains("in pieces (STEP.001.001.data and so on)"), "{said}");
    let plan = tiled[0].plan().unwrap();
    assert!(plan.fields.is_empty() && plan.inputs.len() % (2 * 52) == 0, "{}", plan.inputs.len());
    assert_eq!(files(&tiles), before, "nothing is written beside the pieces");

    // Each process of the model may write into a directory of its own.
    let local = fixture.path("local");
    for name in before.keys() {
        let file = name.rsplit('/').next().unwrap();
        let number: usize = file.split('.').nth(2).unwrap().parse().unwrap();
        let directory = local.join(format!("DEMO/process{}", number % 3));
        fs::create_dir_all(&directory).unwrap();
        fs::copy(tiles.join(name), directory.join(file)).unwrap();
    }
    let (several, _) = made(&fixture, &local, "several", 0);
    assert_same(&single, &several);
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

/// Leaves only some levels in a monthly result. `stated` is the third line of `dimList`; without it, the file becomes
/// 2-D.
fn keep_levels(stem: &Path, levels: &[usize], stated: Option<[usize; 3]>) {
    let file = MdsFile::open_pair(stem).unwrap();
    let (values, total) = (file.read_record(0).unwrap().into_f32(), file.header().levels().unwrap());
    let plane = file.header().plane();
    let kept = levels.iter().flat_map(|level| &values[level * plane..][..plane]);
    let [meta, data] = MdsFile::<fs::File>::pair(stem);
    fs::write(data, kept.flat_map(|value| value.to_be_bytes()).collect::<Vec<u8>>()).unwrap();
    let text = fs::read_to_string(&meta).unwrap();
    let line = |[size, first, last]: [usize; 3]| format!(",\n {size:5},{first:5},{last:5}");
    let old = line([total, 1, total]);
    assert!(text.contains(&old), "{text}");
    let new = stated.map_or(String::new(), line);
    let text = text.replace(&old, &new);
    let flat = text.replace("nDims = [   3 ]", "nDims = [   2 ]");
    fs::write(meta, if stated.is_some() { text } else { flat }).unwrap();
}

/// Adds the key `levels` to variables in the metadata.
fn state_levels(fixture: &Fixture, variables: &[&str], levels: &serde_json::Value) {
    let named = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().ends_with("variable_metadata.json");
    let entries = fs::read_dir(&fixture.demo.metadata).unwrap().map(Result::unwrap);
    let path = entries.filter(named).map(|entry| entry.path()).find(|path| !path.to_string_lossy().contains("latlon"));
    let path = path.unwrap();
    let mut entries: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut count = 0;
    for entry in entries.iter_mut().filter(|entry| variables.iter().any(|name| entry["name"] == *name)) {
        entry["levels"] = levels.clone();
        count += 1;
    }
    assert_eq!(count, variables.len());
    fs::write(path, serde_json::to_vec(&entries).unwrap()).unwrap();
}

/// Compares a granule with some levels, counted from 0, with the one that has all of them.
fn assert_some_levels(all: &[Recipe], some: &[Recipe], part: &str, levels: &[usize]) {
    let [all, some] = [all, some].map(|recipes| netcdf::open(&of(recipes, part).granule).unwrap());
    let lengths = |variable: &netcdf::Variable<'_>| variable.dimensions().iter().map(|d| d.len()).collect::<Vec<_>>();
    let get = |file: &netcdf::File, name: &str| file.variable(name).unwrap().get_values::<f32, _>(..).unwrap();
    let select = |name: &str, total: usize| -> Vec<f32> {
        let values = get(&all, name);
        let each = values.len() / total;
        levels.iter().flat_map(|level| values[level * each..][..each].to_vec()).collect()
    };
    let total = all.dimension("k").or_else(|| all.dimension("Z")).unwrap().len();
    let mut compared = 0;
    for variable in some.variables() {
        let name = variable.name();
        let deep = variable.dimensions().iter().any(|d| ["k", "k_l", "k_u", "Z"].contains(&d.name().as_str()));
        if deep {
            assert!(get(&some, &name) == select(&name, total), "{part}: {name}");
            assert!(lengths(&variable).contains(&levels.len()), "{part}: {name}");
            compared += 1;
        } else if !name.contains("time") && name != "Zp1" && name != "k_p1" {
            assert!(get(&some, &name) == get(&all, &name), "{part}: {name}");
        }
    }
    assert!(compared >= 4, "{part}: {compared}");
    let contiguous = levels.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    if part.contains("native") {
        assert_eq!(some.variable("Zp1").is_some(), contiguous, "{part}");
        let want: Vec<i32> = levels.iter().map(|level| *level as i32).collect();
        assert_eq!(some.variable("k").unwrap().get_values::<i32, _>(..).unwrap(), want);
    }
    if contiguous && part.contains("native") {
        let faces = get(&all, "Zp1")[levels[0]..=levels[0] + levels.len()].to_vec();
        assert_eq!(get(&some, "Zp1"), faces, "{part}");
    }
    let bounds = get(&some, "Z_bnds");
    for (name, want) in [
        ("geospatial_vertical_min", bounds.iter().copied().fold(f32::INFINITY, f32::min)),
        ("geospatial_vertical_max", bounds.iter().copied().fold(f32::NEG_INFINITY, f32::max)),
    ] {
        let found = f64::try_from(some.attribute(name).unwrap().value().unwrap()).unwrap();
        assert!((found - f64::from(want)).abs() < 1e-3, "{part}: {name}: {found}, {want}");
    }
}

const TRACERS: [&str; 2] = ["THETA", "SALT"];
const VELOCITY: [&str; 3] = ["UVEL", "VVEL", "WVELMASS"];
/// The same in the metadata, which have the name of the granules.
const DESCRIBED: [&str; 3] = ["UVEL", "VVEL", "WVEL"];

#[test]
fn results_may_have_some_levels_only() {
    let of_velocity = |grid: &str| format!("OCEAN_VELOCITY_mon_mean_1992-01_ECCO_DEMO_{grid}");
    let of_tracers = |grid: &str| format!("OCEAN_TEMPERATURE_SALINITY_mon_mean_1992-01_ECCO_DEMO_{grid}");
    let fixture = Fixture::new(SIZE);
    let (all, _) = made(&fixture, &fixture.demo.results, "all", 0);

    // The header states them.
    for variable in TRACERS {
        keep_levels(&month(&fixture, variable, 732), &[2, 3, 4, 5], Some([10, 3, 6]));
    }
    // The variable metadata state them; they need not be contiguous, and other steps may have all levels.
    for variable in VELOCITY {
        keep_levels(&month(&fixture, variable, 732), &[0, 3, 8], Some([3, 1, 3]));
    }
    state_levels(&fixture, &DESCRIBED, &vec![1, 4, 9].into());
    let (some, _) = made(&fixture, &fixture.demo.results, "some", 0);
    for grid in ["native", "latlon"] {
        assert_some_levels(&all, &some, &of_tracers(grid), &[2, 3, 4, 5]);
        assert_some_levels(&all, &some, &of_velocity(grid), &[0, 3, 8]);
        let february = format!("OCEAN_VELOCITY_mon_mean_1992-02_ECCO_DEMO_{grid}");
        let variable = if grid == "native" { "UVEL" } else { "EVEL" };
        assert!(values(of(&all, &february), variable) == values(of(&some, &february), variable));
    }
    expect(coordinator().arg("verify").arg(fixture.path("some.json")), 0);

    // The list of diagnostics states the number of the uppermost ones; one level may be a 2-D file.
    let fixture = Fixture::new(SIZE);
    for variable in TRACERS {
        keep_levels(&month(&fixture, variable, 732), &[0, 1, 2], Some([3, 1, 3]));
    }
    for variable in VELOCITY {
        keep_levels(&month(&fixture, variable, 732), &[4], None);
    }
    state_levels(&fixture, &DESCRIBED, &vec![5].into());
    let list = fixture.demo.grid.join("available_diagnostics.log");
    let rows = fs::read_to_string(&list).unwrap();
    let changed = rows.lines().map(|row| match TRACERS.iter().any(|name| row.contains(&format!("|{name:8}|"))) {
        true => row.replacen("| 10 |", "|  3 |", 1),
        false => row.to_owned(),
    });
    fs::write(&list, changed.collect::<Vec<_>>().join("\n") + "\n").unwrap();
    let (some, _) = made(&fixture, &fixture.demo.results, "some", 0);
    for grid in ["native", "latlon"] {
        assert_some_levels(&all, &some, &of_tracers(grid), &[0, 1, 2]);
        assert_some_levels(&all, &some, &of_velocity(grid), &[4]);
    }
}

#[test]
fn levels_that_are_not_known_are_refused() {
    let fixture = Fixture::new(SIZE);
    let of_step = |variable: &str, step: u64| month(&fixture, variable, step);
    keep_levels(&of_step("THETA", 732), &[0, 1, 2], Some([3, 1, 3])); // nothing says which
    keep_levels(&of_step("THETA", 1428), &[4], None);
    keep_levels(&of_step("THETA", 2172), &[2, 3], Some([9, 3, 4])); // of another grid
    for variable in VELOCITY {
        keep_levels(&of_step(variable, 732), &[0, 1, 2], Some([10, 1, 3])); // the metadata contradict
        keep_levels(&of_step(variable, 1428), &[0, 1], Some([2, 1, 2])); // of another number
    }
    keep_levels(&of_step("WVELMASS", 2172), &[0, 4, 5], Some([3, 1, 3])); // others in the granule have all
    state_levels(&fixture, &DESCRIBED, &vec![1, 5, 6].into());
    let (_, said) = made(&fixture, &fixture.demo.results, "out", 3);
    for part in [
        "THETA_mon_mean.0000000732.data has 3 levels, the grid 10: nothing says which of them these are: add the key levels",
        "THETA_mon_mean.0000001428.data has 1 levels, the grid 10: nothing says",
        "THETA_mon_mean.0000002172.data has 2 levels, the grid 10: its header states a grid of 9 levels",
        "its header states the levels 1 to 3, the metadata 1, 5, 6: correct one of them",
        "0000001428.data has 2 levels, the grid 10: the metadata state the levels 1, 5, 6",
        "WVEL: it has the levels 1, 5, 6, UVEL the levels 1 to 10: all variables of a granule need the same levels",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // In EDP's modes no such granule is made, even if the levels are known.
    for mode in ["edp-2024", "edp-2026"] {
        let list = fixture.plan(&fixture.path(mode), &format!("{mode}.json"), &["--compatibility", mode]);
        let said = text(&expect(coordinator().arg("run").arg(list), 3));
        assert!(said.contains("EDP makes no granules of some levels; --compatibility corrected does"), "{said}");
    }
    state_levels(&fixture, &DESCRIBED, &"1:3".into());
    let (_, said) = made(&fixture, &fixture.demo.results, "again", 3);
    assert!(
        said.contains("the key levels of its metadata is \"1:3\"; it must be the number of the uppermost"),
        "{said}"
    );
}
