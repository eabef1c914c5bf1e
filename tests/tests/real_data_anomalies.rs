//! Conformance: the anomalies of ocean bottom pressure of Release 6, on its grid and with its metadata as they are. The
//! pressure is made up, as the model writes it: monthly means of double precision from 2005 to 2010.
//!
//! The data are not part of the project, see `real_data.rs`: `EDP_REAL_DATA`.

use edp_engine::mds::compact::{self, TILES};
use edp_protocol::recipe::{self, Recipe};
use edp_tests::{coordinator, count, expect, json, text};
use jiff::ToSpan as _;
use jiff::civil::{Date, date, datetime};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

const N: usize = 90;
const CELLS: usize = TILES * N * N;
const MONTHS: usize = 72;

/// First days of the months of the period, and of the one after it.
fn months() -> Vec<Date> {
    (0..=MONTHS).map(|month| date(2005, 1, 1) + i32::try_from(month).unwrap().months()).collect()
}

/// Number of the step, of one hour, at which a day begins.
fn step(day: Date) -> i64 {
    day.to_datetime(jiff::civil::Time::midnight()).duration_since(datetime(1992, 1, 1, 12, 0, 0, 0)).as_hours()
}

/// The pressure in a cell of the compact layout, in metres of water.
fn pressure(month: usize, cell: usize, shift: f64) -> f64 {
    let part = |number: usize, of: usize| (number % of) as f64 / of as f64;
    3.0 * part(cell, 997) + 0.4 * part(31 * cell + 577 * month, 1013) + shift * part(5 * month, 11)
}

/// Writes a record of a variable, from one step to another, or of one step. Records of the same number `at` have the same
/// values, and take their room on the disk once.
fn write(directory: &Path, frequency: &str, (name, shift): (&str, f64), at: usize, steps: &[i64]) {
    let values = directory.ancestors().nth(2).unwrap().join(format!("{name}.{at}")); // outside of the results
    let directory = directory.join(format!("diags/{name}_{frequency}"));
    fs::create_dir_all(&directory).unwrap();
    let end = *steps.last().unwrap();
    let stem = directory.join(format!("{name}_{frequency}.{end:010}"));
    if !values.exists() {
        let bytes: Vec<u8> = (0..CELLS).flat_map(|cell| pressure(at, cell, shift).to_be_bytes()).collect();
        fs::write(&values, bytes).unwrap();
    }
    fs::hard_link(&values, format!("{}.data", stem.display())).unwrap();
    let interval: String = steps.iter().map(|step| format!(" {}.0", 3600 * step)).collect();
    let header = format!(
        " nDims = [ 2 ];\n dimList = [\n {N}, 1, {N},\n {rows}, 1, {rows}\n ];\n dataprec = [ 'float64' ];\n \
         nrecords = [ 1 ];\n timeStepNumber = [ {end} ];\n timeInterval = [{interval} ];\n nFlds = [ 1 ];\n \
         fldList = {{\n '{name:8}'\n }};\n",
        rows = 13 * N
    );
    fs::write(format!("{}.meta", stem.display()), header).unwrap();
}

/// Returns the mean of the records with these numbers, in the compact layout.
fn mean(records: impl ExactSizeIterator<Item = usize>, shift: f64) -> Vec<f64> {
    let (count, mut mean) = (records.len() as f64, vec![0.0; CELLS]);
    let mut known: HashMap<usize, Vec<f64>> = HashMap::new();
    for at in records {
        let record = known.entry(at).or_insert_with(|| (0..CELLS).map(|cell| pressure(at, cell, shift)).collect());
        mean.iter_mut().zip(record).for_each(|(sum, value)| *sum += *value);
    }
    mean.iter_mut().for_each(|sum| *sum /= count);
    mean
}

/// The variables that the model writes, with what makes them differ.
const WRITTEN: [(&str, f64); 3] = [("OBP", 0.0), ("OBPGMAP", 0.3), ("PHIBOT", 0.6)];

/// The anomalies, each with the difference of the variable that it is made of.
const ANOMALIES: [(&str, f64); 2] = [("OBPAnoma", 0.0), ("OBPGMAPA", 0.3)];

/// Inputs of Release 6 in a directory, with values of double precision in granules.
struct Release(tempfile::TempDir);

impl Release {
    fn new() -> Release {
        let data = std::env::var_os("EDP_REAL_DATA").expect("EDP_REAL_DATA names the folder of the real data");
        let (data, release) = (PathBuf::from(data), Release(tempfile::tempdir().unwrap()));
        let path = |name: &str| release.path(name);
        for variable in WRITTEN {
            for (month, days) in months().windows(2).enumerate() {
                let steps = [step(days[0]), step(days[1])];
                write(&path("results/V4r6"), "mon_mean", variable, month, &steps);
            }
        }
        fs::create_dir(path("grid")).unwrap();
        for entry in fs::read_dir(data.join("V4r4/grid_ECCOV4r4")).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "available_diagnostics.log" {
                symlink(entry.path(), path("grid").join(entry.file_name())).unwrap();
            }
        }
        symlink(data.join("V4r6/available_diagnostics.log"), path("grid/available_diagnostics.log")).unwrap();
        symlink(data.join("V4r4/mapping_factors"), path("factors")).unwrap();
        symlink(data.join("metadata/V4r6"), path("metadata")).unwrap();
        let configuration = fs::read_to_string(data.join("config/product_generation_config_V4r6.yaml")).unwrap();
        let precise = configuration.replace("'float32'", "'float64'");
        assert_ne!(precise, configuration);
        fs::write(path("config.yaml"), precise).unwrap();
        release
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn plan(&self, frequency: &str, more: &[&str]) -> Command {
        let mut command = coordinator();
        command.current_dir(self.0.path()).args(["plan", "--dataset", "OCEAN_BOTTOM_PRESSURE"]);
        command.args(["--frequency", frequency]);
        command.args(["--source", "results", "--destination", "granules", "--grid", "grid", "--metadata", "metadata"]);
        command
            .args(["--mapping-factors", "factors", "--config", "config.yaml", "--tasks-out", "tasks.json"])
            .args(more);
        command
    }

    fn recipes(&self) -> Vec<Recipe> {
        recipe::parse_list("tasks.json", &fs::read(self.path("tasks.json")).unwrap()).unwrap()
    }

    fn values(&self, recipe: &Recipe, name: &str) -> Vec<f64> {
        netcdf::open(self.path(&recipe.granule)).unwrap().variable(name).unwrap().get_values(..).unwrap()
    }
}

/// Returns the anomaly of a record in the order of tiles.
fn anomaly(at: usize, shift: f64, mean: &[f64]) -> Vec<f64> {
    let compact: Vec<f64> = mean.iter().enumerate().map(|(cell, mean)| pressure(at, cell, shift) - mean).collect();
    let mut tiles = vec![0.0; CELLS];
    compact::to_tiles(N, &compact, &mut tiles);
    tiles
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_of_release_6_has_its_anomalies() {
    let release = Release::new();
    expect(&mut release.plan("month", &[]), 0);
    let all = release.recipes();
    assert_eq!(all.len(), 2 * MONTHS);
    assert!(all.iter().all(|recipe| recipe.plan().unwrap().missing.is_empty()), "nothing is held");
    let mut run = coordinator();
    let report = json(&expect(run.current_dir(release.0.path()).args(["run", "tasks.json", "--output", "json"]), 0));
    assert_eq!(count(&report, "made"), 2 * MONTHS);

    let native: Vec<&Recipe> = all.iter().filter(|recipe| recipe.granule.contains("/native/")).collect();
    assert_eq!(native.len(), MONTHS);
    for (name, shift) in ANOMALIES {
        let mean = mean(0..MONTHS, shift);
        let (mut sums, mut wet) = (vec![0.0; CELLS], 0);
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for (month, recipe) in native.iter().enumerate() {
            let wanted = anomaly(month, shift, &mean);
            let found = release.values(recipe, name);
            wet = 0;
            for (at, value) in found.iter().enumerate().filter(|(_, value)| **value < 1e30) {
                assert_eq!(*value, wanted[at], "{name}, month {month}, cell {at}");
                sums[at] += value;
                (least, most) = (least.min(*value), most.max(*value));
                wet += 1;
            }
        }
        let largest = sums.iter().map(|sum| (sum / MONTHS as f64).abs()).fold(0.0, f64::max);
        println!("{name}: {wet} wet cells; its mean is at most {largest:e}, its range {}", most - least);
        assert!(wet > 50_000 && largest < 1e-12 * (most - least), "{largest} of {}", most - least);
    }
    // On the other grid the mean vanishes as well, since regridding is linear.
    let latlon: Vec<&Recipe> = all.iter().filter(|recipe| recipe.granule.contains("/latlon/")).collect();
    let mut sums: Vec<f64> = Vec::new();
    for recipe in &latlon {
        let found = release.values(recipe, "OBPAnoma");
        sums.resize(found.len(), 0.0);
        sums.iter_mut().zip(found).filter(|(_, value)| *value < 1e30).for_each(|(sum, value)| *sum += value);
    }
    assert!(sums.iter().all(|sum| (sum / MONTHS as f64).abs() < 1e-12));

    // Without one month of the period there is no mean.
    for end in ["data", "meta"] {
        let name = format!("results/V4r6/diags/OBP_mon_mean/OBP_mon_mean.{:010}.{end}", step(date(2007, 4, 1)));
        fs::remove_file(release.path(&name)).unwrap();
    }
    let said = text(&expect(&mut release.plan("month", &[]), 2));
    assert!(said.contains("OBPAnoma is OBP minus its mean from 2005-01-01 to 2010-12-31"), "{said}");
    assert!(said.contains("1 month (2007-03)"), "{said}");
}

/// EDP leaves out what its model does not write, and so do its modes.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_of_release_6_derives_nothing_in_the_modes_of_edp() {
    let release = Release::new();
    expect(&mut release.plan("month", &["--compatibility", "edp-2026"]), 0);
    for recipe in release.recipes() {
        let plan = recipe.plan().unwrap();
        assert!(plan.derived.is_empty() && plan.missing == ["OBPAnoma", "OBPGMAPA"], "{:?}", plan.missing);
    }
}

/// Each frequency has a mean of its own.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_of_release_6_has_anomalies_of_days_and_snapshots() {
    /// Number of days of the period, and of different records among them.
    const DAYS: usize = 2191;
    const DIFFERENT: usize = 13;
    let release = Release::new();
    let results = release.path("results/V4r6");
    for variable in WRITTEN {
        let mut from = step(months()[0]);
        for day in 0..DAYS {
            write(&results, "day_mean", variable, day % DIFFERENT, &[from, from + 24]);
            from += 24;
        }
        assert_eq!(from, step(months()[MONTHS]));
        for (month, day) in months()[..MONTHS].iter().enumerate() {
            write(&results, "mon_snap", variable, month, &[step(*day)]);
        }
    }
    let last = ["--from", "2010-12-01", "--to", "2010-12-01"];
    for (frequency, at) in [("day", (DAYS - 31) % DIFFERENT), ("snap", MONTHS - 1)] {
        expect(&mut release.plan(frequency, &last), 0);
        let all = release.recipes();
        let names: Vec<&String> = all.iter().map(|recipe| &recipe.granule).collect();
        assert_eq!(all.len(), 2, "{frequency}: {names:#?}");
        assert!(all.iter().all(|recipe| recipe.plan().unwrap().missing.is_empty()), "nothing is held");
        expect(coordinator().current_dir(release.0.path()).args(["run", "tasks.json"]), 0);
        let verify = ["verify", "tasks.json", "--depth", "values"];
        let said = text(&expect(coordinator().current_dir(release.0.path()).args(verify), 0));
        assert!(said.contains("verified: 2 good, 0 missing"), "{said}");
        let native = all.iter().find(|recipe| recipe.granule.contains("/native/")).unwrap();
        for (name, shift) in ANOMALIES {
            let mean = match frequency {
                "day" => mean((0..DAYS).map(|day| day % DIFFERENT), shift),
                _ => mean(0..MONTHS, shift),
            };
            let wanted = anomaly(at, shift, &mean);
            let found = release.values(native, name);
            let wet = found.iter().zip(&wanted).filter(|(found, _)| **found < 1e30);
            assert!(wet.clone().count() > 50_000 && wet.clone().all(|(found, wanted)| found == wanted), "{name}");
        }
    }
}
