//! Conformance of the whole catalogue: every time-varying dataset of the releases, on both grids and in all modes, is
//! compared with recipes and values that `conformance/catalogue.py` and the reference tools compute independently.
//!
//! The data are not part of the project: `EDP_REAL_DATA` names their directory, `EDP_REAL_TOOLS` that of the reference
//! tools, `EDP_PYTHON` an interpreter with numpy and netCDF4. Without them these tests fail. They take many minutes,
//! and run in `make check-all` only.

use edp_tests::{coordinator, count, expect, files, json, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const MODES: [&str; 3] = ["edp-2024", "edp-2026", "corrected"];

/// The directories of the data and the tools.
struct Reference {
    data: PathBuf,
    tools: PathBuf,
    python: PathBuf,
}

impl Reference {
    fn new() -> Reference {
        let path =
            |name| PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is needed, and not set")));
        Reference { data: path("EDP_REAL_DATA"), tools: path("EDP_REAL_TOOLS"), python: path("EDP_PYTHON") }
    }

    fn script(&self, script: &Path) -> Command {
        let mut command = Command::new(&self.python);
        command.arg("-B").arg(script); // leaves nothing beside the script
        command
    }

    fn catalogue(&self, command: &str, directory: &Path) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/catalogue.py");
        let mut catalogue = self.script(&script);
        catalogue.arg(command).arg(directory);
        catalogue
    }
}

/// A release with made-up model output, and everything that a production needs.
struct Run<'a> {
    reference: &'a Reference,
    release: &'static str,
    directory: tempfile::TempDir,
}

impl<'a> Run<'a> {
    /// Makes a run. `command` is the command of `catalogue.py`, `more` its options.
    fn new(reference: &'a Reference, command: &str, release: &'static str, more: &[&str]) -> Run<'a> {
        let directory = tempfile::tempdir().unwrap();
        let mut prepare = reference.catalogue(command, directory.path());
        prepare.arg("--data").arg(&reference.data).args(["--release", release]).args(more);
        if command == "prepare" {
            prepare.arg("--tools").arg(&reference.tools);
        }
        println!("{}", text(&expect(&mut prepare, 0)));
        Run { reference, release, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Plans all jobs, and compares the task list with the one that follows from the groupings.
    fn plan(&self, mode: &str, more: &[&str]) -> PathBuf {
        let list = self.path(&format!("{mode}.json"));
        let data = &self.reference.data;
        let mut plan = coordinator();
        plan.arg("plan").args(["--compatibility", mode]).args(more);
        for (option, path) in [
            ("--jobs", self.path("jobs.txt")),
            ("--config", self.path("config.yaml")),
            ("--source", self.path("results")),
            ("--destination", self.path(mode)),
            ("--grid", self.path("grid")),
            ("--mapping-factors", data.join("V4r4/mapping_factors")),
            ("--metadata", data.join("metadata").join(self.release)),
            ("--tasks-out", list.clone()),
        ] {
            plan.arg(option).arg(path);
        }
        expect(&mut plan, 0);
        let mut recipes = self.reference.catalogue("recipes", self.directory.path());
        println!("{}", text(&expect(recipes.arg(&list).args(["--mode", mode]), 0)));
        list
    }

    /// Makes the granules of a list, verifies those of `corrected` to their values by the program itself, checks that
    /// each agrees with an independent computation, and removes those that were made. Returns the number of
    /// granules whose attributes were all compared with those of a granule made by EDP.
    fn make(&self, mode: &str, list: &Path) -> usize {
        let report = json(&expect(coordinator().arg("run").arg(list).args(["--output", "json"]), 0));
        if mode == "corrected" {
            let said = text(&expect(coordinator().arg("verify").arg(list).args(["--depth", "values"]), 0));
            let good = format!("verified: {} good, 0 missing, 0 damaged, 0 foreign, 0 extra", count(&report, "made"));
            assert!(said.contains(&good), "{said}");
        }
        let judged = self.path("judged.json");
        let mut own = self.reference.catalogue("granules", self.directory.path());
        println!("{}", text(&expect(own.arg(list).arg("--judged").arg(&judged), 0)));
        let recipes: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(&judged).unwrap()).unwrap();
        let mut compared = 0;
        if !recipes.is_empty() {
            let mut check = self.reference.script(&self.reference.tools.join("check_granule.py"));
            check.arg(&judged);
            if mode == "edp-2024" && self.release == "V4r4" {
                let expected = self.reference.data.join("V4r4/expected/attributes");
                for name in files(&expected).into_keys() {
                    // The checker skips granules that it does not find.
                    let (dataset, grid) = name.trim_end_matches(".json").rsplit_once('_').unwrap();
                    let directory = format!("/{grid}/mon_mean/{dataset}/");
                    compared += recipes.iter().filter(|r| r["granule"].as_str().unwrap().contains(&directory)).count();
                    check.arg("--attributes").arg(expected.join(&name));
                }
            }
            let output = text(&expect(&mut check, 0));
            let all = format!("{0} of {0} granules agree", recipes.len());
            assert!(output.contains(&all), "{output}");
            println!("{all}, {compared} of them in all attributes, {} made, {mode}", count(&report, "made"));
        }
        fs::remove_dir_all(self.path(mode)).unwrap();
        compared
    }
}

/// Plans, makes and checks a production. Returns the number of granules that were compared in all attributes; `None`
/// without the data.
fn production(release: &'static str, modes: &[&str], options: &[&str]) -> usize {
    let reference = Reference::new();
    let run = Run::new(&reference, "prepare", release, options);
    let make = |mode: &&str| run.make(mode, &run.plan(mode, &[]));
    modes.iter().map(make).sum()
}

/// Plans and checks the recipes in all modes. EDP gives the last two days one name, and the later one is kept.
fn recipes(release: &'static str, options: &[&str]) {
    let reference = Reference::new();
    let run = Run::new(&reference, "skeleton", release, options);
    for mode in MODES {
        run.plan(mode, if mode == "corrected" { &[] } else { &["--keep-going"] });
    }
}

const MONTH: [&str; 4] = ["--frequency", "AVG_MON", "--steps", "732"];

fn month<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&MONTH, more].concat()
}

#[test]
#[ignore = "needs EDP_REAL_DATA and EDP_REAL_TOOLS, and minutes: make check-all"]
fn real_data_catalogue_of_release_4() {
    production("V4r4", &["corrected"], &MONTH);
}

/// The datasets whose attributes are known, and vectors.
#[test]
#[ignore = "needs EDP_REAL_DATA and EDP_REAL_TOOLS, and minutes: make check-all"]
fn real_data_catalogue_as_edp() {
    let datasets = month(&["--match", "SURFACE_HEIGHT|TEMPERATURE_SALINITY|ICE_VELOCITY|STRESS"]);
    let compared = production("V4r4", &["edp-2024"], &datasets);
    assert_eq!(compared, 4);
}

/// The datasets that Release 4 does not have. The points of most of them are stated only in the model's own list.
#[test]
#[ignore = "needs EDP_REAL_DATA and EDP_REAL_TOOLS, and minutes: make check-all"]
fn real_data_catalogue_new_in_release_5() {
    let datasets = ["--match", "BOTTOM_PRESSURE|ICE_|ADV_TEND_Y", "--only", "new", "--list-points"];
    production("V4r5", &["corrected"], &month(&datasets));
}

/// The datasets that Release 4 does not have. Points that are in no list come from the metadata.
#[test]
#[ignore = "needs EDP_REAL_DATA and EDP_REAL_TOOLS, and minutes: make check-all"]
fn real_data_catalogue_new_in_release_6() {
    production("V4r6", &MODES, &month(&["--match", "STRESS|WIND|VORT|ICE_SHELF", "--only", "new"]));
}

#[test]
#[ignore = "needs EDP_REAL_DATA and EDP_REAL_TOOLS, and minutes: make check-all"]
fn real_data_catalogue_days_and_snapshots() {
    for (frequency, steps) in [("AVG_DAY", "12,last-12"), ("SNAP", "36")] {
        let options = ["--frequency", frequency, "--steps", steps, "--match", "SEA_SURFACE|SEA_ICE_VEL"];
        production("V4r4", &MODES, &options);
    }
}

#[test]
#[ignore = "needs EDP_REAL_DATA and EDP_REAL_TOOLS, and minutes: make check-all"]
fn real_data_catalogue_double_precision_inputs() {
    production("V4r4", &["corrected"], &month(&["--match", "OCEAN_VELOCITY|STRESS", "--input", "f8"]));
}

#[test]
#[ignore = "needs EDP_REAL_DATA and EDP_REAL_TOOLS, and minutes: make check-all"]
fn real_data_catalogue_double_precision_granules() {
    for (dataset, input) in [("OCEAN_VELOCITY", "f4"), ("STRESS", "f8")] {
        let options = ["--match", dataset, "--input", input, "--precision", "float64"];
        production("V4r4", &["corrected"], &month(&options));
    }
}

/// Variables whose point is stated nowhere make their granules fail and are named; all other granules are made.
#[test]
#[ignore = "needs EDP_REAL_DATA and EDP_REAL_TOOLS, and minutes: make check-all"]
fn real_data_catalogue_points_that_nothing_tells() {
    let reference = Reference::new();
    let options = ["--frequency", "AVG_MON", "--steps", "732", "--match", "OCEAN_BOTTOM_PRESSURE"];
    let run = Run::new(&reference, "prepare", "V4r5", &[&options[..], &["--only", "new"]].concat());
    let other =
        Run::new(&reference, "prepare", "V4r5", &["--frequency", "AVG_MON", "--steps", "732", "--match", "HEIGHT"]);
    let (list, more) = (run.plan("corrected", &[]), other.plan("corrected", &[]));
    let read = |list: &Path| -> Vec<serde_json::Value> { serde_json::from_slice(&fs::read(list).unwrap()).unwrap() };
    let both = run.path("both.json");
    fs::write(&both, serde_json::to_vec(&[read(&list), read(&more)].concat()).unwrap()).unwrap();
    let output = expect(coordinator().arg("run").arg(&both).args(["--output", "json"]), 3);
    let report = json(&output);
    assert_eq!((count(&report, "made"), count(&report, "failed")), (2, 2), "{}", text(&output));
    let message = text(&output);
    assert!(message.contains("OBPAnoma is neither in available_diagnostics.log"), "{message}");
}

/// All months of the record for some datasets, and the first and last days and snapshots for all.
#[test]
#[ignore = "needs EDP_REAL_DATA and EDP_REAL_TOOLS, and minutes: make check-all"]
fn real_data_catalogue_recipes() {
    recipes("V4r4", &["--frequency", "AVG_MON", "--steps", "all", "--match", "SEA_|VELOCITY"]);
    for release in ["V4r4", "V4r5", "V4r6"] {
        recipes(release, &["--frequency", "AVG_DAY", "--steps", "12,36,1404,1428,last-60,last-36,last-12,last"]);
        recipes(release, &["--frequency", "SNAP", "--steps", "12,36,1428,last-12"]);
    }
}

/// Months and days that begin or end oddly, with variables and components missing here and there.
#[test]
#[ignore = "needs EDP_REAL_DATA and EDP_REAL_TOOLS, and minutes: make check-all"]
fn real_data_catalogue_recipes_of_incomplete_results() {
    let (months, days) = ("736,1432,2172,10908,last-1500,last", "14,40,60,732,1428,10908,last-12,last");
    recipes("V4r4", &["--frequency", "AVG_MON", "--steps", months, "--holes"]);
    recipes("V4r6", &["--frequency", "AVG_DAY", "--steps", days, "--holes"]);
}

fn everything(release: &'static str, more: &[&str]) {
    for (frequency, steps) in [("AVG_MON", "732,last"), ("AVG_DAY", "12,last-12"), ("SNAP", "732")] {
        production(release, &MODES, &[&["--frequency", frequency, "--steps", steps], more].concat());
    }
}

#[test]
#[ignore = "needs EDP_REAL_DATA and EDP_REAL_TOOLS, and many minutes: make check-all"]
fn real_data_catalogue_all_of_release_4() {
    everything("V4r4", &[]);
}

#[test]
#[ignore = "needs EDP_REAL_DATA and EDP_REAL_TOOLS, and many minutes: make check-all"]
fn real_data_catalogue_all_of_release_5() {
    everything("V4r5", &["--list-points"]);
}

#[test]
#[ignore = "needs EDP_REAL_DATA and EDP_REAL_TOOLS, and many minutes: make check-all"]
fn real_data_catalogue_all_of_release_6() {
    everything("V4r6", &[]);
}

#[test]
#[ignore = "needs EDP_REAL_DATA and EDP_REAL_TOOLS, and many minutes: make check-all"]
fn real_data_catalogue_all_in_double_precision() {
    for options in [["--input", "f8", "--precision", "float32"], ["--input", "f4", "--precision", "float64"]] {
        production("V4r4", &MODES, &month(&options));
    }
}

/// The datasets that Release 4 does not have, including corner points, with input and output in double precision.
#[test]
#[ignore = "needs EDP_REAL_DATA and EDP_REAL_TOOLS, and many minutes: make check-all"]
fn real_data_catalogue_new_in_double_precision() {
    for (release, more) in [("V4r5", &["--list-points"][..]), ("V4r6", &[])] {
        for precision in ["float32", "float64"] {
            let options = ["--only", "new", "--input", "f8", "--precision", precision];
            production(release, &["corrected"], &month(&[&options, more].concat()));
        }
    }
}

/// Every month of all datasets, and every day of 26 years: 9,497 recipes for each dataset, one of which is lost by
/// EDP's names.
#[test]
#[ignore = "needs EDP_REAL_DATA and EDP_REAL_TOOLS, and makes 400,000 files: make check-all"]
fn real_data_catalogue_recipes_of_the_whole_record() {
    for release in ["V4r4", "V4r5", "V4r6"] {
        recipes(release, &["--frequency", "AVG_MON", "--steps", "all"]);
    }
    for dataset in ["SEA_SURFACE_HEIGHT", "OCEAN_VELOCITY"] {
        recipes("V4r4", &["--frequency", "AVG_DAY", "--steps", "all", "--match", dataset]);
    }
}
