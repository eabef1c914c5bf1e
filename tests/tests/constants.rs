//! Granules without time from job lines: of binary fields and of prepared files, planned, made and verified.

use edp_demo::LEVELS;
use edp_tests::{Fixture, coordinator, expect, files, text, timeless};
use std::fs;
use std::path::{Path, PathBuf};

const SIZE: usize = 8;

/// A model run whose metadata have two datasets without time: coefficients, and the geometry of the grid.
struct Constants {
    fixture: Fixture,
    /// Number of groupings on each grid before those of this test.
    first: usize,
}

impl Constants {
    fn new() -> Constants {
        let fixture = Fixture::new(SIZE);
        let first = timeless::declare_coefficients(&fixture.demo.metadata);
        Constants { fixture, first }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.fixture.path(name)
    }

    fn cells(&self) -> usize {
        13 * SIZE * SIZE
    }

    fn write_fields(&self) {
        timeless::write_coefficients(&self.path("static/input_init"), SIZE, LEVELS);
    }

    /// Runs a command with the options of the model run, but with other jobs and the files in `static` as results.
    fn run(&self, command: &str, jobs: &[String], more: &[&str], status: i32) -> String {
        let (list, demo) = (self.path("jobs.txt"), &self.fixture.demo);
        fs::write(&list, jobs.join("\n")).unwrap();
        fs::create_dir_all(self.path("static")).unwrap();
        let mut asked = coordinator();
        asked.arg(command).env("SOURCE_DATE_EPOCH", "1577836800");
        for (option, path) in [
            ("--config", &demo.configuration),
            ("--source", &self.path("static")),
            ("--destination", &self.path("out")),
            ("--grid", &demo.grid),
            ("--mapping-factors", &demo.factors),
            ("--metadata", &demo.metadata),
        ] {
            asked.arg(option).arg(path);
        }
        if !jobs.is_empty() {
            asked.arg("--jobs").arg(list);
        }
        let output = expect(asked.args(more), status);
        text(&output) + &String::from_utf8_lossy(&output.stderr)
    }

    /// Returns the job lines of the coefficients.
    fn jobs(&self) -> Vec<String> {
        timeless::coefficient_jobs(self.first)
    }

    /// Returns the only granule of a dataset on a grid.
    fn granule(&self, dataset: &str, grid: &str) -> netcdf::File {
        let mut all = files(&self.path("out")).into_keys().filter(|name| name.contains(dataset) && name.contains(grid));
        let name = all.next().unwrap_or_else(|| panic!("no granule of {dataset} on {grid}"));
        assert_eq!(all.next(), None);
        assert_eq!(name.split('/').count(), 3, "{name}: no period and no directory of its own");
        netcdf::open(self.path("out").join(name)).unwrap()
    }
}

fn geometry(fixture: &Fixture, grid: &str) -> PathBuf {
    let files = files(&fixture.demo.grid);
    let name = files.keys().find(|name| name.starts_with("GRID_GEOMETRY") && name.contains(grid)).unwrap();
    fixture.demo.grid.join(name)
}

fn dimensions(variable: &netcdf::Variable<'_>) -> Vec<String> {
    variable.dimensions().iter().map(|dimension| dimension.name()).collect()
}

/// Returns the value of a compact field at each cell in the order of the tiles.
fn by_tile<T: Copy>(plane: &[T]) -> Vec<T> {
    let n = SIZE;
    let row = |tile: usize, j: usize| match tile {
        0..=6 => tile * n + j,
        7..=9 => 7 * n + 3 * j + (tile - 7),
        _ => 10 * n + 3 * j + (tile - 10),
    };
    let cells = (0..13).flat_map(|tile| (0..n).flat_map(move |j| (0..n).map(move |i| (tile, j, i))));
    cells.map(|(tile, j, i)| plane[row(tile, j) * n + i]).collect()
}

#[test]
fn binary_fields_become_granules_without_time_in_all_modes() {
    let constants = Constants::new();
    constants.write_fields();
    let wet = netcdf::open(geometry(&constants.fixture, "native")).unwrap();
    let wet: Vec<i8> = wet.variable("maskC").unwrap().get_values(..).unwrap();
    for mode in ["corrected", "edp-2026", "edp-2024"] {
        let _ = fs::remove_dir_all(constants.path("out"));
        let list = constants.path("list.json");
        let plan = ["--compatibility", mode, "--tasks-out", list.to_str().unwrap()];
        let said = constants.run("plan", &constants.jobs(), &plan, 0);
        assert!(said.contains("KAPPA is taken from") && said.contains("total_kappa_r009bit11.bin"), "{said}");
        let said = text(&expect(coordinator().arg("run").arg(&list), 0));
        assert!(said.contains("2 good"), "{mode}: {said}");
        expect(coordinator().arg("verify").arg(&list).args(["--depth", "values"]), 0);
        let native = constants.granule("MIXING", "native");
        let kappa = native.variable("KAPPA").unwrap();
        assert_eq!(dimensions(&kappa), ["k", "tile", "j", "i"], "{mode}");
        assert!(native.dimension("time").is_none() && native.variable("time_bnds").is_none());
        assert!(native.attribute("time_coverage_start").is_none(), "{mode}");
        let fill = kappa.fill_value::<f32>().unwrap().unwrap();
        let values: Vec<f32> = kappa.get_values(..).unwrap();
        let plane: Vec<usize> = by_tile(&(0..constants.cells()).collect::<Vec<_>>());
        for (at, value) in values.iter().enumerate() {
            let number = at / constants.cells() * constants.cells() + plane[at % constants.cells()];
            let wanted = if wet[at] == 1 { 1.0 + number as f32 / 16.0 } else { fill };
            assert_eq!(*value, wanted, "{mode} at {at}");
        }
        let sill = native.variable("SILL").unwrap();
        assert_eq!(dimensions(&sill), ["tile", "j", "i"]);
        let range = if mode == "corrected" { "actual_range" } else { "valid_min" };
        assert!(sill.attribute(range).is_some() && sill.attribute("cell_methods").is_none(), "{mode}");
        let latlon = constants.granule("MIXING", "latlon");
        assert_eq!(dimensions(&latlon.variable("KAPPA").unwrap()), ["Z", "latitude", "longitude"]);
        assert_eq!(dimensions(&latlon.variable("SILL").unwrap()), ["latitude", "longitude"]);
        assert!(latlon.variable("time").is_none());
    }
}

#[test]
fn what_is_missing_or_there_twice_is_named() {
    let constants = Constants::new();
    fs::create_dir_all(constants.path("static")).unwrap();
    fs::write(constants.path("static/README"), "nothing yet").unwrap();
    let said = constants.run("plan", &constants.jobs(), &[], 3);
    for reason in
        ["KAPPA has no file", "SILL has no file", "MIXING_*latlon*.nc", "total_kappa_*.bin", "line 1", "line 2"]
    {
        assert!(said.contains(reason), "{reason}: {said}");
    }
    constants.write_fields();
    fs::remove_file(constants.path("static/input_init/SILL.data")).unwrap();
    let said = constants.run("run", &constants.jobs(), &[], 3);
    assert!(said.contains("SILL has no file") && said.contains("held"), "{said}");
    let said = constants.run("run", &constants.jobs(), &["--allow-partial"], 0);
    assert!(said.contains("2 good"), "{said}");
    assert!(constants.granule("MIXING", "native").variable("SILL").is_none());
    fs::copy(constants.path("static/input_init/total_kappa_r009bit11.bin"), constants.path("static/kappa_other.bin"))
        .unwrap();
    let said = constants.run("plan", &constants.jobs(), &[], 2);
    assert!(said.contains("KAPPA is there more than once") && said.contains("kappa_other.bin"), "{said}");
    // A file of another grid is refused when it is read.
    fs::remove_file(constants.path("static/kappa_other.bin")).unwrap();
    fs::write(constants.path("static/input_init/total_kappa_r009bit11.bin"), [0; 4096]).unwrap();
    fs::remove_dir_all(constants.path("out")).unwrap();
    let said = constants.run("run", &constants.jobs(), &["--allow-partial"], 3);
    assert!(said.contains("has no .meta header") && said.contains("4096 bytes"), "{said}");
    let said = constants.run("plan", &["[0, 'native', 'TI', [1]]".into()], &[], 2);
    assert!(said.contains("time-invariant data and time series have none"), "{said}");
}

#[test]
fn the_geometry_is_planned_from_the_files_of_the_grid() {
    let constants = Constants::new();
    fs::create_dir_all(constants.path("static")).unwrap();
    fs::write(constants.path("static/README"), "nothing").unwrap();
    for mode in ["edp-2026", "corrected"] {
        let _ = fs::remove_dir_all(constants.path("out"));
        let list = constants.path("list.json");
        let plan = ["--dataset", "grid_geometry", "--compatibility", mode, "--tasks-out", list.to_str().unwrap()];
        constants.run("plan", &[], &plan, 0);
        expect(coordinator().arg("run").arg(&list), 0);
        expect(coordinator().arg("verify").arg(&list).args(["--depth", "values"]), 0);
        let native = constants.granule("GRID_GEOMETRY", "native");
        let mask = native.variable("maskC").unwrap();
        let is_truth = mask.attribute("dtype").is_some();
        assert_eq!(is_truth, mode == "corrected", "EDP makes numbers of truth values");
        assert!(native.variable("hFacC").is_some() && native.attribute("uuid").is_some());
        assert!(constants.granule("GRID_GEOMETRY", "latlon").variable("area").is_some());
    }
    fs::remove_file(geometry(&constants.fixture, "latlon")).ok();
    assert!(Path::new(&constants.path("out")).exists());
}
