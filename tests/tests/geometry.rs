//! Geometry files as a user makes them from the grid files of a model run, and granules that are made with them.

use edp_protocol::recipe;
use edp_tests::{Fixture, coordinator, expect, program, text};
use std::path::Path;
use std::process::Command;

fn geometry(grid: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = program("edp-worker");
    command.arg("geometry").arg("--grid").arg(grid).arg("--out").arg(out).args(more);
    command
}

/// Every variable of a file but its indices, as numbers.
fn values(path: &Path) -> Vec<(String, Vec<f64>)> {
    let file = netcdf::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let variables = file.variables().filter(|variable| !variable.dimensions().is_empty());
    let mut all: Vec<_> = variables.map(|variable| (variable.name(), variable.get_values(..).unwrap())).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// The demo writes its geometry from the same numbers as its grid files.
#[test]
fn granules_are_the_same_with_geometry_that_was_made() {
    let mut fixture = Fixture::new(6);
    let produced = |fixture: &Fixture, name: &str| {
        let list = fixture.plan(&fixture.path(name), &format!("{name}.json"), &[]);
        expect(coordinator().arg("run").arg(&list), 0);
        let recipes = recipe::parse_list("list", &std::fs::read(&list).unwrap()).unwrap();
        let names = |granule: &str| Path::new(granule).strip_prefix(fixture.path(name)).unwrap().display().to_string();
        recipes.iter().map(|recipe| (names(&recipe.granule), values(Path::new(&recipe.granule)))).collect::<Vec<_>>()
    };
    let expected = produced(&fixture, "before");
    let factors = fixture.demo.factors.display().to_string();
    let metadata = fixture.demo.metadata.display().to_string();
    let made = fixture.path("made");
    let options = ["--mapping-factors", &factors, "--metadata", &metadata];
    let output = expect(&mut geometry(&fixture.demo.grid, &made, &options), 0);
    assert!(text(&output).contains("no mitgrid files"), "{}", text(&output));
    for entry in std::fs::read_dir(&fixture.demo.grid).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "nc") {
            std::fs::copy(&path, made.join(path.file_name().unwrap())).unwrap();
        }
    }
    fixture.demo.grid = made;
    for ((name, before), (_, after)) in expected.iter().zip(produced(&fixture, "after")) {
        for ((variable, before), (_, after)) in before.iter().zip(&after) {
            // Some corners are on no tile of their own, and were extrapolated.
            let is_near = |(a, b): (&f64, &f64)| a == b || variable.contains("_bnds") || variable.len() == 2;
            assert!(before.iter().zip(after).all(is_near), "{name}: {variable}");
            assert_eq!(before.len(), after.len(), "{name}: {variable}");
        }
    }
}

#[test]
fn what_the_geometry_has_follows_the_mode() {
    let fixture = Fixture::new(6);
    let names = |mode: &str| {
        let out = fixture.path(mode);
        let output = expect(&mut geometry(&fixture.demo.grid, &out, &["--compatibility", mode]), 0);
        let path = out.join("GRID_GEOMETRY_native_llc0006.nc");
        assert!(text(&output).contains(&path.display().to_string()), "{}", text(&output));
        values(&path).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    let [published, of_2026, corrected] = ["edp-2024", "edp-2026", "corrected"].map(names);
    assert_eq!(published.len(), 41);
    for name in ["XU", "YU", "XV", "YV", "XGG", "YGG"] {
        let has = |names: &[String]| names.iter().any(|found| found == name);
        assert_eq!([&published, &of_2026, &corrected].map(|names| has(names)), [false, true, true], "{name}");
    }
    assert!(corrected.contains(&"maskZ".into()) && !of_2026.contains(&"maskZ".into()));
    // What is there is kept, and what is missing is said.
    let again = expect(&mut geometry(&fixture.demo.grid, &fixture.path("corrected"), &[]), 2);
    assert!(text(&again).contains("exists") && text(&again).contains("--replace"), "{}", text(&again));
    expect(&mut geometry(&fixture.demo.grid, &fixture.path("corrected"), &["--replace"]), 0);
    let without = expect(&mut geometry(&fixture.demo.grid, &fixture.path("out"), &["--on", "latlon"]), 2);
    assert!(text(&without).contains("give --mapping-factors"), "{}", text(&without));
    let nothing = expect(&mut geometry(&fixture.demo.results, &fixture.path("out"), &[]), 2);
    assert!(text(&nothing).contains("no grid"), "{}", text(&nothing));
    let configured = fixture.path("configured");
    let configuration = fixture.demo.configuration.display().to_string();
    expect(&mut geometry(&fixture.demo.grid, &configured, &["--config", &configuration]), 0);
    assert!(configured.join("GRID_GEOMETRY_ECCO_DEMO_native_llc0006.nc").exists());
}

/// With a configuration and metadata the files have the global attributes of granules; without, a note says what is missing.
#[test]
fn a_geometry_of_a_release_is_described_like_its_granules() {
    let fixture = Fixture::new(6);
    let [factors, metadata, configuration] =
        [&fixture.demo.factors, &fixture.demo.metadata, &fixture.demo.configuration].map(|at| at.display().to_string());
    let made = |name: &str, date: &str| {
        let out = fixture.path(name);
        let all = ["--config", &configuration, "--metadata", &metadata, "--mapping-factors", &factors];
        expect(&mut geometry(&fixture.demo.grid, &out, &[&all[..], &["--production-date", date]].concat()), 0);
        let paths = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
        paths.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path)).collect::<Vec<_>>()
    };
    let first = made("first", "2020-01-01T00:00:00Z");
    assert_eq!(first.len(), 2);
    for (name, path) in &first {
        let file = netcdf::open(path).unwrap();
        let global = |key: &str| match file.attribute(key).map(|attribute| attribute.value().unwrap()) {
            Some(netcdf::AttributeValue::Str(text)) => text,
            Some(netcdf::AttributeValue::Double(number)) => number.to_string(),
            other => panic!("{name}: {key}: {other:?}"),
        };
        assert_eq!(global("product_name"), *name);
        assert_eq!(global("date_created"), "2020-01-01T00:00:00Z");
        assert_eq!((global("geospatial_lat_max"), global("geospatial_lon_min")), ("90".into(), "-180".into()));
        assert_eq!(global("product_version"), "Demonstration");
        assert!(global("title").contains("cells with"), "the table of the demo has no row of geometry");
        assert!(["uuid", "history", "keywords", "summary", "source"].iter().all(|key| !global(key).is_empty()));
        for absent in ["time_coverage_start", "time_coverage_duration", "metadata_link"] {
            assert!(file.attribute(absent).is_none(), "{name}: {absent}");
        }
        assert_eq!(
            file.attributes().last().map(|attribute| attribute.name().to_owned()).as_deref(),
            Some("coordinates")
        );
    }
    // The same grid and texts give the same file, at another date the same identity.
    for ((_, path), (_, again)) in first.iter().zip(made("again", "2020-01-01T00:00:00Z")) {
        assert_eq!(std::fs::read(path).unwrap(), std::fs::read(again).unwrap());
    }
    let uuid = |path: &Path| format!("{:?}", netcdf::open(path).unwrap().attribute("uuid").unwrap().value().unwrap());
    for ((_, path), (_, later)) in first.iter().zip(made("later", "2021-01-01T00:00:00Z")) {
        assert_eq!(uuid(path), uuid(&later));
        assert_ne!(std::fs::read(path).unwrap(), std::fs::read(later).unwrap());
    }
    let bare = expect(&mut geometry(&fixture.demo.grid, &fixture.path("bare"), &["--metadata", &metadata]), 0);
    assert!(text(&bare).contains("give --config and --metadata"), "{}", text(&bare));
}
