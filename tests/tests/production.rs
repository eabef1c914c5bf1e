//! A production from plan to verification, as run by a user.

use edp_protocol::recipe::{self, Recipe};
use edp_tests::{Fixture, coordinator, count, expect, files, json, keeping_age, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A small grid, so that a production takes a second, but with all 13 tiles. A field is one chunk at this size; several
/// chunks are covered by the tests of the codec and by those on real data.
const SIZE: usize = 8;

fn run(list: &Path, more: &[&str], status: i32) -> serde_json::Value {
    json(&expect(coordinator().arg("run").arg(list).args(["--output", "json"]).args(more), status))
}

fn recipes(list: &Path) -> Vec<Recipe> {
    recipe::parse_list("list", &fs::read(list).unwrap()).unwrap()
}

fn write(list: &Path, recipes: &[Recipe]) {
    fs::write(list, recipe::format_list(recipes).unwrap()).unwrap();
}

fn temporary(root: &Path) -> Vec<String> {
    files(root).into_keys().filter(|name| !name.ends_with(".nc")).collect()
}

#[test]
fn the_same_list_gives_the_same_bytes_anywhere_in_any_order_on_any_number_of_slots() {
    let fixture = Fixture::new(SIZE);
    // The destination is relative, so that one list works in two directories.
    let list = fixture.plan(Path::new("out"), "tasks.json", &[]);
    let mut backwards = recipes(&list);
    backwards.reverse();
    let other = fixture.path("backwards.json");
    write(&other, &backwards);
    let mut results = Vec::new();
    for (name, list, slots) in [("a", &list, "1"), ("b", &other, "4")] {
        let directory = fixture.path(name);
        fs::create_dir(&directory).unwrap();
        let mut command = coordinator();
        expect(command.current_dir(&directory).arg("run").arg(list).args(["--slots", slots]), 0);
        results.push(files(&directory.join("out")));
    }
    assert_eq!(results[0].len(), backwards.len());
    assert_eq!(results[0], results[1]);
}

#[test]
fn both_modes_give_the_same_values() {
    let fixture = Fixture::new(SIZE);
    let mut values = Vec::new();
    for mode in ["corrected", "edp-2024"] {
        let list = fixture.plan(&fixture.path(mode), "tasks.json", &["--compatibility", mode]);
        run(&list, &[], 0);
        let mut of_mode = Vec::new();
        for recipe in recipes(&list) {
            let file = netcdf::open(&recipe.granule).unwrap();
            for name in recipe.variables.keys() {
                of_mode.push((name.clone(), file.variable(name).unwrap().get_values::<f32, _>(..).unwrap()));
            }
        }
        values.push(of_mode);
    }
    assert!(values[0] == values[1], "values differ between the modes");
}

#[test]
fn a_second_run_makes_nothing() {
    let fixture = Fixture::new(SIZE);
    let out = fixture.path("out");
    let list = fixture.plan(&out, "tasks.json", &[]);
    let all = recipes(&list).len();
    assert_eq!(count(&run(&list, &[], 0), "made"), all);
    let times = |root: &Path| -> Vec<_> {
        files(root).keys().map(|name| fs::metadata(root.join(name)).unwrap().modified().unwrap()).collect()
    };
    let before = times(&out);
    assert_eq!(count(&run(&list, &[], 0), "present"), all);
    assert_eq!(times(&out), before);
    // Planned at another time, and so with another date, it is still the same granule.
    let again = fixture.plan(&out, "again.json", &["--production-date", "2021-01-01T00:00:00Z"]);
    assert_eq!(count(&run(&again, &[], 0), "present"), all);
    let dry = expect(coordinator().arg("run").arg(&list).arg("--dry-run"), 0);
    assert!(dry.stdout.is_empty(), "{}", text(&dry));
}

#[test]
fn only_what_is_missing_is_made() {
    let fixture = Fixture::new(SIZE);
    let out = fixture.path("out");
    let list = fixture.plan(&out, "tasks.json", &[]);
    run(&list, &[], 0);
    let complete = files(&out);
    let victim = PathBuf::from(&recipes(&list)[1].granule);
    fs::remove_file(&victim).unwrap();
    let report = run(&list, &[], 0);
    assert_eq!((count(&report, "made"), count(&report, "present")), (1, complete.len() - 1));
    assert_eq!(files(&out), complete);
}

#[test]
fn a_recipe_that_fails_costs_only_itself() {
    let fixture = Fixture::new(SIZE);
    let out = fixture.path("out");
    let list = fixture.plan(&out, "tasks.json", &[]);
    let all = recipes(&list);
    let data = PathBuf::from(&all[0].variables[0][0][0]);
    let whole = fs::read(&data).unwrap();
    let users = |path: &Path| {
        let path = path.display().to_string();
        all.iter().filter(|r| r.variables.values().flatten().flatten().any(|input| *input == path)).count()
    };
    let bad = users(&data);
    keeping_age(&data, |path| fs::write(path, &whole[..whole.len() - 4])).unwrap();
    let report = run(&list, &[], 3);
    assert_eq!((count(&report, "failed"), count(&report, "made")), (bad, all.len() - bad));
    for entry in report["entries"].as_array().unwrap().iter().filter(|e| e["state"] == "failed") {
        let reason = entry["reason"].as_str().unwrap();
        assert!(reason.contains(&data.display().to_string()), "{reason}");
    }
    assert!(temporary(&out).is_empty());
    // After the repair the rest is made, and nothing else.
    keeping_age(&data, |path| fs::write(path, &whole)).unwrap();
    let report = run(&list, &[], 0);
    assert_eq!((count(&report, "made"), count(&report, "present")), (bad, all.len() - bad));
}

#[test]
fn a_wet_cell_without_a_number_never_gets_into_a_granule() {
    let fixture = Fixture::new(SIZE);
    let out = fixture.path("out");
    let list = fixture.plan(&out, "tasks.json", &[]);
    let data = PathBuf::from(&recipes(&list)[0].variables[0][0][0]);
    let bytes: Vec<u8> = fs::read(&data).unwrap().chunks(4).flat_map(|_| f32::NAN.to_be_bytes()).collect();
    keeping_age(&data, |path| fs::write(path, bytes)).unwrap();
    let report = run(&list, &[], 3);
    let failed: Vec<_> = report["entries"].as_array().unwrap().iter().filter(|e| e["state"] == "failed").collect();
    assert!(!failed.is_empty());
    assert!(failed.iter().all(|e| e["reason"].as_str().unwrap().contains("not finite")), "{failed:?}");
}

#[test]
fn what_stands_at_the_destination_is_never_lost_unasked() {
    let fixture = Fixture::new(SIZE);
    let out = fixture.path("out");
    let list = fixture.plan(&out, "tasks.json", &[]);
    run(&list, &[], 0);
    let before = files(&out);
    // Another configuration gives other recipes for the same names.
    let configuration = fs::read_to_string(&fixture.demo.configuration).unwrap();
    fs::write(&fixture.demo.configuration, configuration + "\n# changed\n").unwrap();
    let other = fixture.plan(&out, "other.json", &[]);
    let report = run(&other, &[], 3);
    assert_eq!(count(&report, "conflict"), before.len());
    let reason = report["entries"][0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("recipe_id") && reason.contains("--replace"), "{reason}");
    assert_eq!(files(&out), before);
    // The old list was planned with a configuration that no longer exists.
    fs::remove_file(&recipes(&list)[0].granule).unwrap();
    let report = run(&list, &[], 3);
    assert!(report.to_string().contains("changed since the recipe was planned"), "{report}");
    let report = run(&other, &["--replace"], 0);
    assert_eq!(count(&report, "made"), before.len());
}

#[test]
fn verify_finds_what_is_missing_damaged_foreign_or_extra() {
    let fixture = Fixture::new(SIZE);
    let out = fixture.path("out");
    let list = fixture.plan(&out, "tasks.json", &[]);
    run(&list, &[], 0);
    let good = files(&out);
    let all = recipes(&list);
    let path = |i: usize| PathBuf::from(&all[i].granule);
    fs::remove_file(path(0)).unwrap();
    let bytes = fs::read(path(1)).unwrap();
    fs::write(path(1), &bytes[..bytes.len() - 100]).unwrap();
    fs::copy(path(3), path(2)).unwrap();
    fs::write(path(3).with_file_name("notes.txt"), "x").unwrap();
    let again = fixture.path("again.json");
    let mut command = coordinator();
    let output = expect(command.arg("verify").arg(&list).args(["--output", "json", "--redo"]).arg(&again), 3);
    let found = json(&output);
    assert_eq!(found["good"], all.len() - 3);
    let problems: Vec<_> = (0..3)
        .map(|i| (found["problems"][i][0].as_str().unwrap(), found["problems"][i][1]["finding"].as_str().unwrap()))
        .collect();
    let wanted = [(0, "missing"), (1, "damaged"), (2, "foreign")].map(|(i, what)| (all[i].granule.as_str(), what));
    assert_eq!(problems, wanted);
    assert_eq!(found["extra"][0].as_str().unwrap(), path(3).with_file_name("notes.txt").display().to_string());
    fs::remove_file(path(3).with_file_name("notes.txt")).unwrap();
    assert_eq!(recipes(&again), all[..3]);
    run(&again, &["--replace"], 0);
    expect(coordinator().arg("verify").arg(&list), 0);
    assert_eq!(files(&out), good);
}

#[test]
fn an_interrupted_production_leaves_nothing_behind_and_goes_on_later() {
    let fixture = Fixture::new(SIZE);
    let undisturbed = fixture.path("undisturbed");
    run(&fixture.plan(&undisturbed, "undisturbed.json", &[]), &[], 0);
    let out = fixture.path("out");
    let list = fixture.plan(&out, "tasks.json", &[]);
    let all = recipes(&list).len();
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        let _ = fs::remove_dir_all(&out);
        let mut command = coordinator();
        let mut child = command.arg("run").arg(&list).args(["--slots", "1"]).spawn().unwrap();
        // As soon as there is a granule, the production is running.
        let deadline = Instant::now() + Duration::from_secs(60);
        while files(&out).keys().filter(|name| name.ends_with(".nc")).count() == 0 {
            assert!(Instant::now() < deadline, "no granule after a minute");
            assert!(child.try_wait().unwrap().is_none(), "ended before the signal");
            std::thread::yield_now();
        }
        edp_tests::signal(child.id(), signal);
        let ended = child.wait().unwrap().code().unwrap();
        let made = files(&out).len();
        // The last granule may be finished before the signal is noticed; then the production is complete.
        assert_eq!(ended, if made == all { 0 } else { status });
        assert!(temporary(&out).is_empty());
        run(&list, &[], 0);
        assert_eq!(files(&out), files(&undisturbed));
    }
}

#[test]
fn lists_that_edp_wrote_are_made_as_they_are() {
    let fixture = Fixture::new(SIZE);
    let out = fixture.path("out");
    let list = fixture.plan(&out, "tasks.json", &["--compatibility", "edp-2024"]);
    let mut as_edp = recipes(&list);
    for recipe in &mut as_edp {
        recipe.recipe = None;
        recipe.ecco_cfg_loc = None;
    }
    let theirs = fixture.path("theirs.json");
    write(&theirs, &as_edp);
    let without = expect(coordinator().arg("run").arg(&theirs), 2);
    assert!(text(&without).contains("--config"), "{}", text(&without));
    let config = fixture.demo.configuration.display().to_string();
    let report = run(&theirs, &["--config", &config], 0);
    assert_eq!(count(&report, "made"), as_edp.len());
    let wrong = expect(coordinator().arg("run").arg(&list).args(["--compatibility", "corrected"]), 2);
    assert!(text(&wrong).contains("planned for edp-2024"), "{}", text(&wrong));
}

#[test]
fn what_the_user_gets_wrong_is_named_with_status_2() {
    let fixture = Fixture::new(SIZE);
    let options = fixture.options(&fixture.path("out"));
    let plan = |change: &dyn Fn(&mut Vec<String>)| {
        let mut options = options.clone();
        change(&mut options);
        text(&expect(coordinator().arg("plan").args(options), 2))
    };
    let with = |option: &str, value: String| {
        let option = option.to_owned();
        move |options: &mut Vec<String>| {
            let at = options.iter().position(|o| *o == option).unwrap();
            options[at + 1].clone_from(&value);
        }
    };
    let jobs = fixture.path("jobs.txt");
    fs::write(&jobs, "# fine\n[0,'native','AVG_MON','all']\n[0,'native','AVG_MOON','all']\n").unwrap();
    let said = plan(&with("--jobs", jobs.display().to_string()));
    assert!(said.contains("jobs.txt") && said.contains('3') && said.contains("AVG_MOON"), "{said}");
    fs::write(&jobs, "[99,'native','AVG_MON','all']\n").unwrap();
    assert!(plan(&with("--jobs", jobs.display().to_string())).contains("99"));
    let nowhere = fixture.path("nowhere").display().to_string();
    for option in ["--source", "--grid", "--metadata", "--config", "--mapping-factors"] {
        let said = plan(&with(option, nowhere.clone()));
        assert!(said.contains(&nowhere), "{option}: {said}");
    }
    assert!(plan(&|options| drop(options.drain(0..2))).contains("--jobs"));
    let list = fixture.path("list.json");
    fs::write(&list, "{\"granule\": 1}").unwrap();
    assert!(text(&expect(coordinator().arg("run").arg(&list), 2)).contains("list.json"));
}

#[test]
fn recipes_that_make_no_sense_cost_only_themselves() {
    let fixture = Fixture::new(SIZE);
    let list = fixture.plan(&fixture.path("out"), "tasks.json", &["--compatibility", "edp-2024"]);
    let mut edited = recipes(&list);
    edited[0].dynamic_metadata.summary = "Something else".into();
    edited[1].recipe = None;
    edited[1].dynamic_metadata.time_coverage_end = Some("never".into());
    write(&list, &edited);
    let config = fixture.demo.configuration.display().to_string();
    for made in [edited.len() - 2, 0] {
        let report = run(&list, &["--config", &config], 3);
        assert_eq!((count(&report, "failed"), count(&report, "made")), (2, made));
        let reasons = report["entries"].to_string();
        assert!(reasons.contains("edited after planning") && reasons.contains("never"), "{reasons}");
    }
}

#[test]
fn an_input_whose_header_contradicts_its_name_is_refused() {
    let fixture = Fixture::new(SIZE);
    let list = fixture.plan(&fixture.path("out"), "tasks.json", &[]);
    let all = recipes(&list);
    let of = |i: usize| all[i].variables[0][0].clone();
    // Files of another month, and of another variable of the same shape, under the same names.
    for (from, to) in of(0).iter().zip(of(1)) {
        keeping_age(Path::new(&to), |to| fs::copy(from, to)).unwrap();
    }
    for (from, to) in all[5].variables[0][0].iter().zip(of(2)) {
        keeping_age(Path::new(&to), |to| fs::copy(from, to)).unwrap();
    }
    let report = run(&list, &[], 3);
    let failed: Vec<_> = report["entries"].as_array().unwrap().iter().filter(|e| e["state"] == "failed").collect();
    assert_eq!(failed.len(), 4, "two months, on both grids: {failed:?}");
    for entry in failed {
        assert!(entry["reason"].as_str().unwrap().contains("its header "), "{entry}");
    }
}

#[test]
fn an_unwritable_destination_is_named_and_ends_with_status_4() {
    let fixture = Fixture::new(SIZE);
    let out = fixture.path("out");
    let list = fixture.plan(&out, "tasks.json", &[]);
    fs::write(&out, "a file where a directory should be").unwrap();
    let report = run(&list, &[], 4);
    assert_eq!(count(&report, "left"), recipes(&list).len());
    assert!(report["entries"][0]["reason"].as_str().unwrap().contains("could not make its directory"), "{report}");
}
