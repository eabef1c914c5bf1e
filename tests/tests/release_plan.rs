//! Planning a whole release: its memory does not hold the recipes, and its time is that of its data.

use edp_tests::{Fixture, coordinator};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Number of datasets, each of which is made on both grids.
const DATASETS: usize = 21;

/// Days and months of Release 6, from 1992 to 2025.
const DAYS: usize = 12_419;
const MONTHS: usize = 408;

/// Largest growth in bytes of a plan's memory for each recipe: three pairs of files in the inventory and some hashes. A
/// recipe in memory takes some 20 KiB.
const GROWTH: u64 = 3 << 10;

/// A model run that has empty `.data` files, with the names of real ones.
struct Run {
    fixture: Fixture,
    configuration: PathBuf,
    metadata: PathBuf,
    results: PathBuf,
}

/// The size and the costs of a plan.
struct Cost {
    recipes: usize,
    seconds: f64,
    /// Largest resident memory in bytes.
    peak: u64,
}

impl Run {
    /// Makes a run with this many variables, days and months. All variables are in one of [`DATASETS`] datasets.
    fn new(variables: usize, days: usize, months: usize) -> Run {
        let fixture = Fixture::new(6);
        let [metadata, results] = ["release-metadata", "release"].map(|name| fixture.path(name));
        fs::create_dir(&metadata).unwrap();
        for entry in fs::read_dir(&fixture.demo.metadata).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, metadata.join(path.file_name().unwrap())).unwrap();
        }
        let configuration = fixture.path("release.yaml");
        let text = fs::read_to_string(&fixture.demo.configuration).unwrap();
        fs::write(&configuration, text.replace("1992-12-31", "2025-12-31")).unwrap();
        let names: Vec<String> = (0..variables).map(|number| format!("VARIABLE{number:03}")).collect();
        for grid in ["native", "latlon"] {
            let grouping = |dataset: usize| {
                let fields: Vec<&str> = names.iter().skip(dataset).step_by(DATASETS).map(String::as_str).collect();
                serde_json::json!({
                    "name": format!("made-up dataset {dataset}"), "fields": fields.join(", "), "product": grid,
                    "comment": "A sentence about the dataset, as real ones have. ".repeat(6), "dimension": "3D",
                    "filename": format!("MADE_UP_DATASET_{dataset:02}"), "frequency": "AVG_DAY, AVG_MON",
                })
            };
            let groupings: Vec<_> = (0..DATASETS).map(grouping).collect();
            let file = metadata.join(format!("groupings_for_{grid}_datasets.json"));
            fs::write(file, serde_json::to_string(&groupings).unwrap()).unwrap();
        }
        let month = |number: usize| {
            let start = jiff::civil::date(1992, 1, 1);
            let next = start.checked_add(jiff::Span::new().months(i64::try_from(number).unwrap() + 1)).unwrap();
            usize::try_from(start.until(next).unwrap().get_days()).unwrap() * 24 - 12
        };
        let steps = [
            ("diags_daily", "day_mean", (0..days).map(|day| 24 * day + 12).collect::<Vec<_>>()),
            ("diags_monthly", "mon_mean", (0..months).map(month).collect()),
        ];
        let header =
            " nDims = [ 2 ];\n dimList = [ 6, 1, 6, 78, 1, 78 ];\n dataprec = [ 'float32' ];\n nrecords = [ 1 ];\n";
        let once = fixture.path("header");
        fs::write(&once, header).unwrap();
        for name in &names {
            for (above, word, steps) in &steps {
                let directory = results.join("DEMO").join(above).join(format!("{name}_{word}"));
                fs::create_dir_all(&directory).unwrap();
                for step in steps {
                    let stem = directory.join(format!("{name}_{word}.{step:010}"));
                    File::create(stem.with_extension(format!("{step:010}.data"))).unwrap();
                    // Links to one file: headers take no inodes.
                    link(&once, &stem.with_extension(format!("{step:010}.meta")));
                }
            }
        }
        Run { fixture, configuration, metadata, results }
    }

    /// Plans everything, in lines of a compressed list.
    fn plan(&self) -> Cost {
        let list = self.fixture.path("tasks.jsonl.gz");
        let mut command = coordinator();
        command.args(["plan", "--dataset", "all"]);
        let text = |path: &Path| path.display().to_string();
        let demo = &self.fixture.demo;
        for (option, value) in [
            ("--config", text(&self.configuration)),
            ("--source", text(&self.results)),
            ("--destination", "/granules".into()),
            ("--grid", text(&demo.grid)),
            ("--mapping-factors", text(&demo.factors)),
            ("--metadata", text(&self.metadata)),
            ("--tasks-out", text(&list)),
        ] {
            command.args([option, &value]);
        }
        let begun = Instant::now();
        let log = self.fixture.path("log");
        command.stderr(File::create(&log).unwrap()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut peak = 0;
        let status = loop {
            // Once the program has ended, it has no memory.
            peak = memory(child.id()).unwrap_or(peak);
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(2)); // until the next look
        };
        let said = fs::read_to_string(log).unwrap();
        assert!(status.success(), "{said}");
        let recipes =
            said.lines().rev().find_map(|line| line.strip_suffix(" recipes")?.rsplit(' ').next()?.parse().ok());
        Cost { recipes: recipes.unwrap(), seconds: begun.elapsed().as_secs_f64(), peak }
    }
}

/// Makes another name of a file, or a copy where it has too many names already.
fn link(file: &Path, name: &Path) {
    if fs::hard_link(file, name).is_err() {
        fs::copy(file, name).unwrap();
        fs::rename(name, file).unwrap();
        fs::hard_link(file, name).unwrap();
    }
}

/// Returns the largest resident memory of a process in bytes.
fn memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[test]
fn memory_grows_with_the_files_and_not_with_the_recipes() {
    let [one, two] = [200, 400].map(|days| Run::new(2 * DATASETS, days, 0).plan());
    assert_eq!([one.recipes, two.recipes], [2 * DATASETS * 200, 2 * DATASETS * 400]);
    let (grown, recipes) = (two.peak.saturating_sub(one.peak), (two.recipes - one.recipes) as u64);
    assert!(grown < recipes * GROWTH, "{grown} bytes for {recipes} more recipes");
}

#[test]
#[ignore = "minutes, and 1.6 million inodes in the temporary directory; part of `make check-all`"]
fn release_6_is_planned_in_less_than_a_gibibyte() {
    let cost = Run::new(132, DAYS, MONTHS).plan();
    let files = 2 * 132 * (DAYS + MONTHS);
    println!("{files} files, {} recipes: {:.1} s, peak memory {} MiB", cost.recipes, cost.seconds, cost.peak >> 20);
    assert_eq!(cost.recipes, 2 * DATASETS * (DAYS + MONTHS));
    assert!(cost.peak < 1 << 30, "{} bytes", cost.peak);
}
