//! Time series of single numbers: one granule for all times, from job lines to verified granules.

use edp_tests::broker::Broker;
use edp_tests::timeless::{self, HOURS, SERIES};
use edp_tests::{Fixture, Started, coordinator, expect, files, global, program, text};
use netcdf::types::{FloatType, IntType, NcVariableType};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const FILL: f64 = 9.969_209_968_386_869e36;

/// A model run whose metadata have the series of ECCO, and a directory with the files that hold them.
struct Series {
    fixture: Fixture,
}

impl Series {
    fn new() -> Series {
        let series = Series { fixture: Fixture::new(8) };
        timeless::declare_series(&series.fixture.demo.metadata);
        timeless::write_all_series(&series.path("in"));
        series
    }

    fn path(&self, name: &str) -> PathBuf {
        self.fixture.path(name)
    }

    fn write(&self, name: &str, units: &str, times: &[f64], variables: &[(&str, &[f64])]) {
        timeless::write_series(&self.path(name), units, times, variables);
    }

    /// Returns the options of a plan for these jobs, as pairs of option and value.
    fn options(&self, jobs: &[&str], mode: &str) -> Vec<String> {
        let list = self.path("jobs.txt");
        fs::write(&list, jobs.join("\n")).unwrap();
        let demo = &self.fixture.demo;
        let mut all = vec!["--compatibility".to_owned(), mode.to_owned()];
        for (option, path) in [
            ("--jobs", &list),
            ("--config", &demo.configuration),
            ("--source", &self.path("in")),
            ("--destination", &self.path("out")),
            ("--grid", &demo.grid),
            ("--metadata", &demo.metadata),
        ] {
            all.extend([option.to_owned(), path.display().to_string()]);
        }
        all
    }

    fn run(&self, jobs: &[&str], mode: &str, more: &[&str], status: i32) -> String {
        let _ = fs::remove_dir_all(self.path("out"));
        let output = expect(coordinator().arg("run").args(self.options(jobs, mode)).args(more), status);
        text(&output) + &String::from_utf8_lossy(&output.stderr)
    }

    fn granule(&self, path: &str) -> netcdf::File {
        netcdf::open(self.path("out/DEMO/1d").join(path)).unwrap()
    }
}

const PRESSURE: &str = "snap/GLOBAL_MEAN_ATM_SURFACE_PRES/GLOBAL_MEAN_ATM_SURFACE_PRES_snap_ECCO_DEMO_1D.nc";
const MONTHS: &str = "mon_mean/GLOBAL_MEAN_SEA_LEVEL/GLOBAL_MEAN_SEA_LEVEL_mon_mean_ECCO_DEMO_1D.nc";
const DAYS: &str = "day_mean/GLOBAL_MEAN_SEA_LEVEL/GLOBAL_MEAN_SEA_LEVEL_day_mean_ECCO_DEMO_1D.nc";
const CORE: &str = "snap/SBO_CORE_PRODUCTS/SBO_CORE_PRODUCTS_snap_ECCO_DEMO_1D.nc";

fn values(file: &netcdf::File, name: &str) -> Vec<f64> {
    file.variable(name).unwrap().get_values(..).unwrap()
}

#[test]
fn series_of_ecco_are_made_in_all_modes() {
    let series = Series::new();
    for mode in ["corrected", "edp-2026", "edp-2024"] {
        let list = series.path("list.json");
        let said = series.run(&SERIES, mode, &["--tasks-out", list.to_str().unwrap()], 0);
        assert!(said.contains("4 good"), "{mode}: {said}");
        expect(coordinator().arg("verify").arg(&list).args(["--depth", "values"]), 0);
        let pressure = series.granule(PRESSURE);
        let dimensions: Vec<_> = pressure.dimensions().map(|one| (one.name(), one.len())).collect();
        assert_eq!(dimensions, [("time".to_owned(), HOURS)], "{mode}");
        let time = pressure.variable("time").unwrap();
        assert_eq!(time.vartype(), NcVariableType::Int(IntType::I32));
        assert_eq!(values(&pressure, "time")[..3], [0.0, 1.0, 2.0]);
        assert!(time.attribute("bounds").is_none() && pressure.variable("time_bnds").is_none());
        let found = pressure.variable("Pa_global").unwrap();
        assert_eq!(found.vartype(), NcVariableType::Float(FloatType::F64));
        assert_eq!(found.chunking().unwrap(), Some(vec![HOURS]), "one chunk");
        assert_eq!(found.fill_value::<f64>().unwrap(), Some(FILL));
        let ranges = if mode == "corrected" { ["actual_range", "actual_range"] } else { ["valid_min", "valid_max"] };
        assert!(ranges.iter().all(|name| found.attribute(name).is_some()), "{mode}");
        let read = values(&pressure, "Pa_global");
        assert_eq!(read[..3], [FILL, FILL, 101_000.25], "the first two are missing");
        assert_eq!(read[HOURS - 1], 101_000.0 + 99.0 / 8.0);
        assert_eq!(global(&pressure, "time_coverage_duration").as_deref(), Some("P0S"));
        let end = if mode == "corrected" { "1992-01-05T15:00:00Z" } else { "1992-01-05T15:00:00" };
        assert_eq!(global(&pressure, "time_coverage_end").as_deref(), Some(end));
        assert_eq!(global(&pressure, "comment").as_deref(), Some("Series."));
        assert_eq!(global(&pressure, "geospatial_vertical_min"), None);
        let months = series.granule(MONTHS);
        assert_eq!(values(&months, "global_mean_sea_level_anomaly"), [-2.0, -1.0, 3.0], "the mean is removed");
        assert_eq!(values(&months, "time_bnds"), [0.0, 732.0, 732.0, 1428.0, 1428.0, 2172.0]);
        assert!(months.variable("other").is_none());
        assert_eq!(global(&months, "time_coverage_duration").as_deref(), Some("P1M"));
        let days = series.granule(DAYS);
        assert_eq!(values(&days, "global_mean_sea_level_anomaly"), [FILL, -1.0, 1.0]);
        assert_eq!(values(&days, "time_bnds"), [0.0, 12.0, 12.0, 36.0, 36.0, 60.0]);
        let core = series.granule(CORE);
        assert_eq!((values(&core, "mass")[0], values(&core, "xoamc")[0]), (FILL, 0.0));
        assert_eq!(values(&core, "time")[99], 99.0, "days become hours");
        assert_eq!(global(&core, "comment").as_deref(), Some("Series. See the literature."));
        // The same input makes the same bytes, and is not made again.
        let first = files(&series.path("out"));
        expect(coordinator().arg("run").arg(&list), 0);
        assert_eq!(files(&series.path("out")), first);
    }
}

#[test]
fn what_a_series_cannot_be_made_of_says_why() {
    let series = Series::new();
    let months = [&SERIES[1..2]].concat();
    let level = "global_mean_sea_level_anomaly";
    let hours = "hours since 1992-01-01T12:00:00";
    let three = [1.0, 2.0, 3.0];
    for (times, units, variables, reason) in [
        (
            &[366.0, 1080.0, 1800.0][..],
            hours,
            &[("level", &three[..])][..],
            "it has no variable global_mean_sea_level_anomaly",
        ),
        (&[1.0, 2.0, 3.0], hours, &[(level, &three)], "overlap"),
        (&[366.0, 300.0, 1800.0], hours, &[(level, &three)], "do not ascend"),
        (&[732.0, 1080.0, 1800.0], hours, &[(level, &three)], "lies between two periods"),
        (&[366.0, 1080.0, 1800.0], "months since 1992", &[(level, &three)], "the units of its times"),
        (&[366.01, 1080.0, 1800.0], hours, &[(level, &three)], "no whole number of"),
        (&[f64::NAN, 1080.0, 1800.0], hours, &[(level, &three)], "missing or no whole second"),
        (&[366.0, 1080.0, 1800.0], hours, &[(level, &[1.0, f64::INFINITY, 2.0])], "is infinite"),
    ] {
        series.write("in/GMSL.nc", units, times, variables);
        let said = series.run(&months, "corrected", &[], 3);
        assert!(said.contains(reason), "{reason}: {said}");
        assert!(!series.path("out/DEMO/1d").join(MONTHS).exists(), "{reason}");
    }
    fs::write(series.path("in/GMSL.nc"), "no NetCDF").unwrap();
    assert!(series.run(&months, "corrected", &[], 3).contains("cannot be read as NetCDF"));
    fs::remove_file(series.path("in/GMSL.nc")).unwrap();
    let said = series.run(&months, "corrected", &[], 3);
    assert!(said.contains("GLOBAL_MEAN_SEA_LEVEL_mon_mean.nc or GMSL.nc"), "{said}");
    fs::create_dir(series.path("in/again")).unwrap();
    fs::copy(series.path("in/1d/Pa_global.nc"), series.path("in/again/Pa_global.nc")).unwrap();
    let said = series.run(&SERIES[..1], "corrected", &[], 2);
    assert!(said.contains("is there more than once"), "{said}");
}

/// A series that begins later than the model has no first values that the model has not made.
#[test]
fn values_are_unset_at_the_start_of_the_model_only() {
    let series = Series::new();
    let times: Vec<f64> = (0..HOURS).map(|hour| 1000.0 + hour as f64).collect();
    let values_of = vec![5.0; HOURS];
    let units = "hours since 1992-01-01T12:00:00";
    series.write("in/1d/Pa_global.nc", units, &times, &[("Pa_global", &values_of)]);
    let said = series.run(&SERIES[..1], "corrected", &[], 0);
    assert!(said.contains("its first 2 values are kept"), "{said}");
    assert_eq!(values(&series.granule(PRESSURE), "Pa_global"), values_of);
}

#[test]
fn series_are_made_over_a_queue_with_the_same_bytes() {
    let (series, broker) = (Series::new(), Broker::start());
    series.run(&SERIES, "corrected", &["--production-date", "2020-01-01T00:00:00Z"], 0);
    let reference = files(&series.path("out")).into_iter().filter(|(name, _)| name.ends_with(".nc"));
    let reference: BTreeMap<_, _> = reference.collect();
    assert_eq!(reference.len(), 4);
    fs::remove_dir_all(series.path("out")).unwrap();
    let over = |mut command: Command| {
        command.env("EDP_QUEUE__URL", broker.url("guest", "guest")).current_dir(series.path(""));
        command
    };
    let mut worker = program("edp-worker");
    worker.args(["serve", "--slots", "1", "--root"]).arg(series.path("")).stdin(Stdio::null());
    let _worker = Started(over(worker).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let mut run = coordinator();
    run.arg("run").args(series.options(&SERIES, "corrected")).args([
        "--production-date",
        "2020-01-01T00:00:00Z",
        "--queue",
    ]);
    expect(&mut over(run), 0);
    let made = files(&series.path("out")).into_iter().filter(|(name, _)| name.ends_with(".nc"));
    assert_eq!(made.collect::<BTreeMap<_, _>>(), reference);
}
