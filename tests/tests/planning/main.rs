//! Planning for a model run with missing, duplicate or misnamed files, and the granules that are then made or held.

mod options;

use edp_protocol::name::base_name;
use edp_protocol::recipe::{self, Recipe};
use edp_tests::{Fixture, coordinator, count, expect, files, header_of_step, json, text};
use std::fs;
use std::path::{Path, PathBuf};

/// A small grid, so that a production takes a second.
const SIZE: usize = 8;
/// Steps of the three months of the demo.
const MONTHS: [u64; 3] = [732, 1428, 2172];

/// A model run whose files a test may change.
struct Run {
    fixture: Fixture,
}

/// A task list, and the messages printed by its planning.
struct Planned {
    list: PathBuf,
    recipes: Vec<Recipe>,
    said: String,
}

impl Planned {
    fn names(&self) -> Vec<&str> {
        self.recipes.iter().map(|recipe| base_name(&recipe.granule)).collect()
    }
}

impl Run {
    fn new() -> Run {
        Run { fixture: Fixture::new(SIZE) }
    }

    /// Returns the path of a pair without its ending, as the model writes it.
    fn stem(&self, variable: &str, word: &str, step: u64) -> PathBuf {
        let directory = match word {
            "day_mean" => "diags_daily",
            "mon_mean" => "diags_monthly",
            _ => "diags_inst",
        };
        let results = self.fixture.demo.results.join("DEMO").join(directory);
        results.join(format!("{variable}_{word}")).join(format!("{variable}_{word}.{step:010}"))
    }

    fn file(&self, variable: &str, step: u64, ending: &str) -> PathBuf {
        with(&self.stem(variable, "mon_mean", step), ending)
    }

    fn remove(&self, variable: &str, step: u64) {
        for ending in ["data", "meta"] {
            fs::remove_file(self.file(variable, step, ending)).unwrap();
        }
    }

    /// Copies January's results to another step and period word.
    fn copy(&self, variable: &str, word: &str, step: u64) {
        let to = self.stem(variable, word, step);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(self.file(variable, MONTHS[0], "data"), with(&to, "data")).unwrap();
        let header = fs::read_to_string(self.file(variable, MONTHS[0], "meta")).unwrap();
        fs::write(with(&to, "meta"), header_of_step(&header, step)).unwrap();
    }

    /// Returns the options of `plan`, without the demo's job file.
    fn options(&self) -> Vec<String> {
        self.fixture.options(&self.fixture.path("out")).split_off(2)
    }

    fn try_plan(&self, more: &[&str], status: i32) -> (PathBuf, String) {
        let list = self.fixture.path("tasks.json");
        let mut command = coordinator();
        command.arg("plan").args(self.options()).args(["--production-date", "2020-01-01T00:00:00Z"]);
        let output = expect(command.args(more).arg("--tasks-out").arg(&list), status);
        (list, text(&output))
    }

    fn plan(&self, more: &[&str]) -> Planned {
        let (list, said) = self.try_plan(more, 0);
        let recipes = recipe::parse_list("list", &fs::read(&list).unwrap()).unwrap();
        Planned { list, recipes, said }
    }

    /// Returns the messages of a plan that cannot be made.
    fn refused(&self, more: &[&str]) -> String {
        let _ = fs::remove_file(self.fixture.path("tasks.json"));
        let (list, said) = self.try_plan(more, 2);
        assert!(!list.exists());
        said
    }

    fn jobs(&self, lines: &str) -> String {
        let path = self.fixture.path("jobs.txt");
        fs::write(&path, lines).unwrap();
        path.display().to_string()
    }

    /// Changes a file of the demo's metadata.
    fn edit(&self, file: &str, change: impl FnOnce(String) -> String) {
        let path = self.fixture.demo.metadata.join(file);
        let changed = change(fs::read_to_string(&path).unwrap());
        fs::write(&path, changed).unwrap();
    }
}

fn produce(planned: &Planned, status: i32) -> serde_json::Value {
    json(&expect(coordinator().arg("run").arg(&planned.list).args(["--output", "json"]), status))
}

fn with(stem: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}.{ending}", stem.display()))
}

fn attribute(file: &netcdf::File, name: &str) -> Option<String> {
    match file.attribute(name)?.value().unwrap() {
        netcdf::AttributeValue::Str(text) => Some(text),
        other => panic!("{name}: {other:?}"),
    }
}

/// Returns the number of times that a text occurs.
fn times(said: &str, part: &str) -> usize {
    said.matches(part).count()
}

const SSH: [&str; 6] = ["--dataset", "SEA_SURFACE_HEIGHT", "--on", "native", "--frequency", "month"];
const VELOCITY: [&str; 6] = ["--dataset", "OCEAN_VELOCITY", "--on", "latlon", "--frequency", "month"];

/// Returns the options and more options.
fn and<'a>(options: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [options, more].concat()
}

// ---- the options of the command line

#[test]
fn datasets_are_selected_by_name_grid_frequency_and_time() {
    let run = Run::new();
    let planned = run.plan(&["--dataset", "sea_surface_height", "--on", "latlon,native", "--frequency", "month"]);
    assert_eq!(planned.recipes.len(), 6);
    assert!(planned.names()[0].contains("_latlon_") && planned.names()[5].contains("_native_"));
    let two =
        ["--dataset", "OCEAN_VELOCITY", "--dataset", "SEA_SURFACE_HEIGHT", "--on", "native", "--frequency", "month"];
    assert_eq!(run.plan(&two).recipes.len(), 6);
    let all = run.plan(&["--dataset", "all", "--frequency", "AVG_MON"]);
    let by_jobs = run.plan(&["--jobs", &run.fixture.demo.jobs.display().to_string()]);
    assert_eq!(all.recipes, by_jobs.recipes);
    // The centre of the mean of February is the 15th.
    let window = |from, to| run.plan(&and(&SSH, &["--from", from, "--to", to])).names().len();
    assert_eq!(window("1992-01-16", "1992-03-16"), 3);
    assert_eq!(window("1992-01-17", "1992-03-15"), 1);
    assert_eq!(window("1992-02-15", "1992-02-15"), 1);
    let none = run.plan(&and(&SSH, &["--from", "1993-01-01"]));
    assert!(none.recipes.is_empty());
    assert!(none.said.contains("AVG_MON of native SEA_SURFACE_HEIGHT: no results from 1993-01-01 on"), "{}", none.said);
    // `run` has the same options.
    let options = run.options();
    let made =
        expect(coordinator().arg("run").args(options).args(SSH).args(["--to", "1992-02-01", "--output", "json"]), 0);
    assert_eq!(count(&json(&made), "made"), 1);
}

#[test]
fn a_selection_that_makes_no_sense_is_refused() {
    let run = Run::new();
    let jobs = run.fixture.demo.jobs.display().to_string();
    for (options, parts) in [
        (
            &["--dataset", "SSH"][..],
            &["no dataset 'SSH'", "SEA_SURFACE_HEIGHT, SEA_ICE_CONC_THICKNESS, OCEAN_TEMPERATURE"][..],
        ),
        (&["--dataset", "all", "--frequency", "snap"], &["none of the datasets", "SNAP"]),
        (&["--dataset", "all", "--jobs", &jobs], &["--jobs and --dataset"]),
        (&["--jobs", &jobs, "--from", "1992-01-01"], &["--jobs and --from"]),
        (&["--from", "1992-01-01"], &["--from goes with --dataset"]),
        (&[], &["--jobs", "--dataset"]),
        (&["--dataset", "all", "--from", "1992-03-01", "--to", "1992-02-01"], &["ends before it begins"]),
        (&["--dataset", "all", "--from", "March"], &["--from", "YYYY-MM-DD"]),
        (&["--dataset", "all", "--on", "polar"], &["polar", "native, latlon"]),
        (&["--dataset", "all", "--frequency", "hourly"], &["hourly"]),
    ] {
        let said = run.refused(options);
        assert!(parts.iter().all(|part| said.contains(part)), "{options:?}: {said}");
    }
    let planned = run.plan(&SSH);
    for option in [
        &["--dataset", "all"][..],
        &["--destination", "other"],
        &["--archive"],
        &["--vertical", "faces"],
        &["--jobs", "j"],
    ] {
        let said = text(&expect(coordinator().arg("run").arg(&planned.list).args(option), 2));
        assert!(said.contains(option[0]) && said.contains("tasks.json"), "{said}");
    }
}

#[test]
fn a_list_with_relative_paths_says_where_they_hold() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    expect(coordinator().current_dir(here).args(["demo", "--out", "demo"]), 0);
    let list = here.join("demo/tasks.json");
    let verify =
        |directory: &Path, status| text(&expect(coordinator().current_dir(directory).arg("verify").arg(&list), status));
    const HINT: &str = "its paths hold in the directory where it was planned";
    assert!(!verify(here, 0).contains(HINT));
    let said = verify(&here.join("demo"), 3);
    assert!(said.contains(HINT) && said.contains("'demo/results'") && said.contains("'demo/granules'"), "{said}");
}

// ---- the table of errors, row by row

#[test]
fn roots_are_needed_and_must_be_there() {
    let run = Run::new();
    for option in ["--source", "--destination"] {
        let mut options = run.options();
        let at = options.iter().position(|o| o == option).unwrap();
        options.drain(at..at + 2);
        let said = text(&expect(coordinator().arg("plan").args(options).args(SSH), 2));
        assert!(said.contains(&format!("{option} is needed")), "{said}");
    }
    let mut options = run.options();
    let at = options.iter().position(|o| o == "--source").unwrap();
    options[at + 1] = run.fixture.path("nowhere").display().to_string();
    let said = text(&expect(coordinator().arg("plan").args(options).args(SSH), 2));
    assert!(said.contains("nowhere") && said.contains("root directory of the model results"), "{said}");
}

#[test]
fn lines_of_a_job_file_are_right_or_named() {
    let run = Run::new();
    let good = "[0, 'native', 'AVG_MON', 'all']\n";
    for (bad, part) in [
        ("[0, 'native', 'AVG_MON', 'all'\n", "line 3"),
        ("0,latlon,AVG_MON,all\n", "line 3"),
        ("[0, 'native', 'AVG_YEAR', 'all']\n", "AVG_YEAR"),
        ("[0, 'cubed', 'AVG_MON', 'all']\n", "cubed"),
        ("[4, 'native', 'AVG_MON', 'all']\n", "0 to 3"),
        ("[-1, 'native', 'AVG_MON', 'all']\n", "-1"),
    ] {
        let jobs = run.jobs(&format!("# comment\n\n{bad}{good}"));
        let said = run.refused(&["--jobs", &jobs]);
        assert!(said.contains("line 3") && said.contains(part), "{said}");
        let planned = run.plan(&["--jobs", &jobs, "--keep-going"]);
        assert!(planned.said.contains("line 3"), "{}", planned.said);
        assert_eq!(planned.recipes.len(), 3);
    }
    let planned = run.plan(&["--jobs", &run.jobs("[0, 'native', 'AVG_MON', []]\n")]);
    assert!(planned.recipes.is_empty());
    assert!(planned.said.contains("line 1: the list of time steps is empty"), "{}", planned.said);
}

#[test]
fn a_frequency_that_is_not_offered_is_a_warning() {
    let run = Run::new();
    for variable in ["SSH", "SSHIBC", "SSHNOIBC", "ETAN"] {
        run.copy(variable, "snap", 732);
    }
    let planned = run.plan(&["--dataset", "SEA_SURFACE_HEIGHT", "--on", "native", "--frequency", "snap"]);
    let want = "warning: SNAP of native SEA_SURFACE_HEIGHT: the grouping 'sea surface height' is not offered as SNAP";
    assert!(planned.said.contains(want), "{}", planned.said);
    assert_eq!(planned.recipes.len(), 1);
}

#[test]
fn a_variable_without_any_file_holds_its_granules() {
    let run = Run::new();
    MONTHS.iter().for_each(|step| run.remove("ETAN", *step));
    let held = run.plan(&SSH);
    let want = "AVG_MON of native SEA_SURFACE_HEIGHT: ETAN has no file at any step";
    assert_eq!(times(&held.said, want), 1, "{}", held.said);
    assert!(held.said.contains("these granules are held"));
    assert!(run.refused(&and(&SSH, &["--strict"])).contains(want));
    let held = run.plan(&SSH);
    let report = produce(&held, 3);
    assert_eq!(count(&report, "held"), 3);
    let reason = report["entries"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("no input for ETAN") && reason.contains("--allow-partial"), "{reason}");
    assert!(files(&run.fixture.path("out")).is_empty());
    // A list that holds them continues to hold them.
    let said = text(&expect(coordinator().arg("run").arg(&held.list).arg("--allow-partial"), 2));
    assert!(said.contains("plan again with --allow-partial"), "{said}");
    let partial = run.plan(&and(&SSH, &["--allow-partial"]));
    assert!(partial.said.contains("made without it"), "{}", partial.said);
    assert_eq!(count(&produce(&partial, 0), "made"), 3);
    let file = netcdf::open(&partial.recipes[0].granule).unwrap();
    assert!(file.variable("SSH").is_some() && file.variable("ETAN").is_none());
    expect(coordinator().arg("verify").arg(&partial.list), 0);
}

#[test]
fn a_component_missing_at_a_step_holds_that_granule_alone() {
    let run = Run::new();
    run.remove("VVEL", MONTHS[1]);
    let held = run.plan(&VELOCITY);
    let want = "AVG_MON of latlon OCEAN_VELOCITY: VVEL (for EVEL, NVEL) has no input at 1 steps: 1428; these granules are held";
    assert!(held.said.contains(want), "{}", held.said);
    assert_eq!(held.recipes[1].plan().unwrap().missing, ["EVEL", "NVEL"]);
    let report = produce(&held, 3);
    assert_eq!((count(&report, "made"), count(&report, "held")), (2, 1));
    // Granules that were made remain; only the one that was held is made.
    let partial = run.plan(&and(&VELOCITY, &["--allow-partial"]));
    let report = produce(&partial, 0);
    assert_eq!((count(&report, "present"), count(&report, "made")), (2, 1));
    let file = netcdf::open(&partial.recipes[1].granule).unwrap();
    assert!(file.variable("WVEL").is_some() && file.variable("EVEL").is_none());
    // EDP makes granules from the inputs that it finds.
    fs::remove_dir_all(run.fixture.path("out")).unwrap();
    let edp = run.plan(&and(&VELOCITY, &["--compatibility", "edp-2024"]));
    assert!(edp.said.contains("made without it"), "{}", edp.said);
    assert_eq!(count(&produce(&edp, 0), "made"), 3);
}

#[test]
fn steps_with_nothing_but_one_component_are_reported() {
    let run = Run::new();
    run.remove("VVEL", MONTHS[1]);
    run.remove("WVELMASS", MONTHS[1]);
    let planned = run.plan(&VELOCITY);
    assert!(planned.said.contains("only single components of vectors at steps 1428"), "{}", planned.said);
    assert_eq!(planned.recipes.len(), 2);
}

#[test]
fn gaps_are_reported() {
    let run = Run::new();
    for variable in ["SSH", "SSHIBC", "SSHNOIBC", "ETAN"] {
        run.remove(variable, MONTHS[1]);
    }
    let planned = run.plan(&SSH);
    assert!(planned.said.contains("no results for 1 months in between: 1992-02"), "{}", planned.said);
    assert_eq!(planned.recipes.len(), 2);
}

#[test]
fn half_a_pair_is_reported_and_taken_for_nothing() {
    let run = Run::new();
    fs::remove_file(run.file("SSH", MONTHS[0], "meta")).unwrap();
    fs::remove_file(run.file("SSH", MONTHS[1], "data")).unwrap();
    let planned = run.plan(&SSH);
    assert!(planned.said.contains(".data without .meta: SSH_mon_mean.0000000732"), "{}", planned.said);
    assert!(planned.said.contains(".meta without .data: SSH_mon_mean.0000001428"), "{}", planned.said);
    let report = produce(&planned, 3);
    assert_eq!((count(&report, "held"), count(&report, "made")), (2, 1));
}

#[test]
fn results_that_are_there_twice_are_an_error_naming_both() {
    let run = Run::new();
    let again = run.fixture.demo.results.join("DEMO/again");
    fs::create_dir(&again).unwrap();
    for ending in ["data", "meta"] {
        let file = run.file("SSH", MONTHS[1], ending);
        fs::copy(&file, again.join(file.file_name().unwrap())).unwrap();
    }
    let said = run.refused(&SSH);
    let file = run.file("SSH", MONTHS[1], "data");
    let copy = again.join(file.file_name().unwrap());
    assert!(said.contains("SSH at step 1428 is there more than once"), "{said}");
    assert!([&file, &copy].iter().all(|path| said.contains(&path.display().to_string())), "{said}");
    assert_eq!(run.plan(&and(&SSH, &["--keep-going"])).recipes.len(), 2);
    // Outside of the time window a duplicate does not matter.
    assert_eq!(run.plan(&and(&SSH, &["--from", "1992-03-01"])).recipes.len(), 1);
}

#[test]
fn steps_that_are_listed_but_not_there_are_a_warning_and_an_error_if_strict() {
    let run = Run::new();
    let jobs = run.jobs("[0, 'native', 'AVG_MON', [1428, 5000]]\n");
    let planned = run.plan(&["--jobs", &jobs]);
    assert!(planned.said.contains("line 1: no results at steps that are asked for: 5000"), "{}", planned.said);
    assert_eq!(planned.recipes.len(), 1);
    assert!(run.refused(&["--jobs", &jobs, "--strict"]).contains("5000"));
}

#[test]
fn two_recipes_for_one_granule_are_an_error() {
    let run = Run::new();
    let jobs = run.jobs("[0, 'native', 'AVG_MON', 'all']\n[0, 'native', 'AVG_MON', [1428]]\n");
    let said = run.refused(&["--jobs", &jobs]);
    assert!(said.contains("line 1 at step 1428") && said.contains("line 2 at step 1428"), "{said}");
}

#[test]
fn impossible_times_are_an_error() {
    let run = Run::new();
    for variable in ["SSH", "SSHIBC", "SSHNOIBC", "ETAN"] {
        run.copy(variable, "day_mean", 0);
        run.copy(variable, "day_mean", 12);
    }
    let days = ["--dataset", "SEA_SURFACE_HEIGHT", "--on", "native", "--frequency", "day"];
    assert!(run.refused(&days).contains("step 0 is the AVG_DAY mean of nothing"));
    let planned = run.plan(&and(&days, &["--keep-going"]));
    assert_eq!(planned.names(), ["SEA_SURFACE_HEIGHT_day_mean_1992-01-01_ECCO_DEMO_native_llc0008.nc"]);
    assert_eq!(run.plan(&and(&days, &["--compatibility", "edp-2024"])).recipes.len(), 2);
}

// ---- days and snapshots, from files to granules

#[test]
fn daily_means_are_named_by_their_day_or_as_edp_does() {
    let run = Run::new();
    for variable in ["SSH", "SSHIBC", "SSHNOIBC", "ETAN"] {
        for step in [12, 36, 1428] {
            run.copy(variable, "day_mean", step);
        }
    }
    let days = ["--dataset", "SEA_SURFACE_HEIGHT", "--frequency", "day"];
    for (mode, dates) in [
        ("corrected", ["1992-01-01", "1992-01-02", "1992-02-29"]),
        ("edp-2024", ["1992-01-02", "1992-01-03", "1992-03-01"]),
    ] {
        let planned = run.plan(&and(&days, &["--compatibility", mode]));
        let mut want = Vec::new();
        for grid in ["native_llc0008", "latlon_"] {
            want.extend(dates.map(|date| format!("SEA_SURFACE_HEIGHT_day_mean_{date}_ECCO_DEMO_{grid}")));
        }
        assert_eq!(planned.names().len(), 6);
        assert!(planned.names().iter().zip(&want).all(|(name, want)| name.starts_with(want)), "{:?}", planned.names());
        assert!(planned.recipes[0].granule.contains("/DEMO/native/day_mean/SEA_SURFACE_HEIGHT/"));
        assert!(planned.said.contains("57 days in between"), "{}", planned.said);
        assert_eq!(count(&produce(&planned, 0), "made"), 6);
        for (recipe, [start, center, end]) in
            planned.recipes.iter().zip([[0, 6, 12], [12, 24, 36], [1404, 1416, 1428]].repeat(2))
        {
            let file = netcdf::open(&recipe.granule).unwrap();
            let values = |name: &str| file.variable(name).unwrap().get_values::<i32, _>(..).unwrap();
            assert_eq!((values("time"), values("time_bnds")), (vec![center], vec![start, end]));
            assert_eq!(attribute(&file, "time_coverage_duration").as_deref(), Some("P1D"));
            let z = if mode == "corrected" { "Z" } else { "" };
            let start = recipe.dynamic_metadata.time_coverage_start.as_ref().map(|start| format!("{start}{z}"));
            assert_eq!(attribute(&file, "time_coverage_start"), start);
        }
        expect(coordinator().arg("verify").arg(&planned.list), 0);
        fs::remove_dir_all(run.fixture.path("out")).unwrap();
    }
}

#[test]
fn snapshots_are_found_under_three_names() {
    let run = Run::new();
    for variable in ["SSH", "SSHIBC", "SSHNOIBC", "ETAN"] {
        run.copy(variable, "day_snap", 12);
        run.copy(variable, "snap", 13);
        run.copy(variable, "mon_snap", 732);
    }
    let snapshots = ["--dataset", "SEA_SURFACE_HEIGHT", "--on", "native", "--frequency", "snap"];
    for (mode, names, steps) in [
        (
            "corrected",
            &["snap_1992-01-02T000000", "snap_1992-01-02T010000", "snap_1992-02-01T000000"][..],
            &[12, 13, 732][..],
        ),
        ("edp-2024", &["day_snap_1992-01-02"], &[12]),
    ] {
        let planned = run.plan(&and(&snapshots, &["--compatibility", mode]));
        let want: Vec<_> =
            names.iter().map(|name| format!("SEA_SURFACE_HEIGHT_{name}_ECCO_DEMO_native_llc0008.nc")).collect();
        assert_eq!(planned.names(), want);
        assert_eq!(count(&produce(&planned, 0), "made"), steps.len());
        for (recipe, step) in planned.recipes.iter().zip(steps) {
            let file = netcdf::open(&recipe.granule).unwrap();
            let values = |name: &str| file.variable(name).unwrap().get_values::<i32, _>(..).unwrap();
            assert_eq!((values("time"), values("time_bnds")), (vec![*step], vec![*step, *step]));
            assert_eq!(attribute(&file, "time_coverage_duration").as_deref(), Some("PT0S"));
            let coverage = match mode {
                "corrected" => recipe.dynamic_metadata.time_coverage_center.as_ref().map(|time| format!("{time}Z")),
                _ => Some("TBD_DATASET".to_owned()),
            };
            assert_eq!(attribute(&file, "time_coverage_start"), coverage);
            assert_eq!(attribute(&file, "time_coverage_end"), coverage);
        }
        expect(coordinator().arg("verify").arg(&planned.list), 0);
    }
}

#[test]
fn one_snapshot_under_two_names_is_an_error_naming_both() {
    let run = Run::new();
    for variable in ["SSH", "SSHIBC", "SSHNOIBC", "ETAN"] {
        run.copy(variable, "day_snap", 732);
        run.copy(variable, "mon_snap", 732);
    }
    let snapshots = ["--dataset", "SEA_SURFACE_HEIGHT", "--on", "native", "--frequency", "snap"];
    let said = run.refused(&snapshots);
    for word in ["day_snap", "mon_snap"] {
        let path = with(&run.stem("SSH", word, 732), "data").display().to_string();
        assert!(said.contains(&path), "{said}");
    }
    // EDP knows only one of the names.
    assert_eq!(run.plan(&and(&snapshots, &["--compatibility", "edp-2024"])).recipes.len(), 1);
}

// ---- the requirements of an archive

const TABLE: &str = "PODAAC_demo_datasets.csv";

#[test]
fn a_dataset_without_a_row_is_a_warning_and_an_error_for_the_archive() {
    let run = Run::new();
    let all = ["--dataset", "all", "--on", "native", "--frequency", "month"];
    run.plan(&and(&all, &["--archive"]));
    let velocity = "OCEAN_VELOCITY_mon_mean_1992-01_ECCO_DEMO_native";
    run.edit(TABLE, |table| {
        table.lines().filter(|line| !line.contains(velocity)).map(|line| format!("{line}\n")).collect()
    });
    let planned = run.plan(&all);
    assert_eq!(planned.recipes.len(), 12);
    assert_eq!(times(&planned.said, "warning: AVG_MON of native OCEAN_VELOCITY: no row of"), 1, "{}", planned.said);
    let said = run.refused(&and(&all, &["--archive"]));
    assert!(said.contains("AVG_MON of native OCEAN_VELOCITY") && said.contains("metadata_link"), "{said}");
    assert_eq!(times(&said, "error"), 1, "{said}");
    assert!(!said.contains("SEA_SURFACE_HEIGHT"), "{said}");
    // Two rows for one dataset are always wrong.
    run.edit(TABLE, |table| {
        table.clone()
            + &table
                .lines()
                .filter(|l| l.contains("SEA_SURFACE_HEIGHT_mon_mean"))
                .map(|line| format!("{line}\n"))
                .collect::<String>()
    });
    let said = run.refused(&SSH);
    assert!(said.contains("2 rows fit") && said.contains("SEA_SURFACE_HEIGHT"), "{said}");
}

#[test]
fn placeholders_that_stay_are_an_error_for_the_archive() {
    let run = Run::new();
    run.edit("global_metadata_for_all_datasets.json", |text| text.replace("\"Demonstration\"", "\"TBD_WHO\""));
    let planned = run.plan(&SSH);
    assert!(!planned.said.contains("TBD") && !planned.said.contains("placeholder"), "{}", planned.said);
    let said = run.refused(&and(&SSH, &["--archive"]));
    assert!(said.contains("AVG_MON of native SEA_SURFACE_HEIGHT") && said.contains("creator_name"), "{said}");
    produce(&run.plan(&SSH), 0);
}

#[test]
fn a_variable_without_an_entry_is_a_warning_once() {
    let run = Run::new();
    run.edit("variable_metadata.json", |text| text.replace("\"ETAN\"", "\"ETAX\""));
    let planned = run.plan(&SSH);
    assert_eq!(times(&planned.said, "ETAN has no entry in the variable metadata"), 1, "{}", planned.said);
}
