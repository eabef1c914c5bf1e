//! Derived variables: sums, differences, and anomalies with a mean that is made once.

use edp_engine::granule::error::MakeError;
use edp_engine::granule::make::{self, MakeContext};
use edp_engine::granule::stages::Stages;
use edp_engine::resources::Cache;
use edp_protocol::Digest;
use edp_protocol::recipe::{self, Recipe};
use edp_tests::broker::Broker;
use edp_tests::derived::{MONTHS, declare, find, means, record};
use edp_tests::{
    Fixture, Started, coordinator, count, expect, files, json, keeping_age, layouts, program, strace, text,
};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

const SIZE: usize = 8;
const GRANULES: usize = 24;

/// Number of means that the demo's granules need.
const MEANS: usize = 2;

/// Number of bytes before the values of a mean.
const HEADER: usize = 4096;

fn fixture() -> Fixture {
    let fixture = Fixture::new(SIZE);
    declare(&fixture.demo.metadata);
    fixture
}

fn recipes(list: &Path) -> Vec<Recipe> {
    recipe::parse_list("list", &fs::read(list).unwrap()).unwrap()
}

fn worker(list: &Path) -> Command {
    let mut command = program("edp-worker");
    command.arg("make").arg(list).args(["--output", "json"]);
    command
}

fn values(granule: &str, name: &str) -> Vec<f32> {
    netcdf::open(granule).unwrap().variable(name).unwrap().get_values(..).unwrap()
}

fn comment(granule: &str, name: &str) -> String {
    let file = netcdf::open(granule).unwrap();
    match file.variable(name).unwrap().attribute_value("comment").unwrap().unwrap() {
        netcdf::AttributeValue::Str(text) => text,
        other => panic!("{other:?}"),
    }
}

fn of<'r>(recipes: &'r [Recipe], part: &str) -> Vec<&'r Recipe> {
    recipes.iter().filter(|recipe| recipe.granule.contains(part)).collect()
}

/// Compares values with those that a formula gives for each cell, where they are not fill. Returns the number of cells
/// that were compared.
fn compare(found: &[f32], wanted: impl Fn(usize) -> f32) -> usize {
    let fill = f32::from_bits(0x7cf0_0000);
    let mut compared = 0;
    for (at, value) in found.iter().enumerate().filter(|(_, value)| **value != fill) {
        assert_eq!(value.to_bits(), wanted(at).to_bits(), "cell {at}: {value}, not {}", wanted(at));
        compared += 1;
    }
    compared
}

#[test]
fn derived_variables_have_the_values_that_their_rules_give() {
    let fixture = fixture();
    let (out, n) = (fixture.path("out"), SIZE);
    let list = fixture.plan(&out, "tasks.json", &[]);
    let all = recipes(&list);
    assert!(all.iter().all(|recipe| recipe.plan().unwrap().missing.is_empty()));
    let report = json(&expect(&mut worker(&list), 0));
    assert_eq!(count(&report, "made"), GRANULES, "{report:#}");
    assert_eq!(means(&out).len(), MEANS, "{:?}", means(&out));
    let series = |name: &str| -> Vec<Vec<f32>> {
        let path = |step| find(&fixture.demo.results, &format!("{name}_mon_mean.{step:010}.data"));
        [732, 1428, 2172].into_iter().map(|step| record(&path(step), n)).collect()
    };
    let [ssh, ibc, noibc, theta] = ["SSH", "SSHIBC", "SSHNOIBC", "THETA"].map(series);
    // February and March, in this order.
    let mean = |of: &[Vec<f32>], at: usize| (f64::from(of[1][at]) + f64::from(of[2][at])) / MONTHS as f64;
    let mut compared = 0;
    for (month, recipe) in of(&all, "/native/mon_mean/SEA_SURFACE_HEIGHT/").into_iter().enumerate() {
        let of_granule = |name| values(&recipe.granule, name);
        compared += compare(&of_granule("SUM"), |at| (f64::from(ssh[month][at]) + f64::from(ibc[month][at])) as f32);
        compared += compare(&of_granule("LESS"), |at| (f64::from(noibc[month][at]) - f64::from(ssh[month][at])) as f32);
        compared += compare(&of_granule("SSHAnoma"), |at| (f64::from(ssh[month][at]) - mean(&ssh, at)) as f32);
        assert!(comment(&recipe.granule, "SUM").ends_with("The sum of SSH and SSHIBC."));
        assert!(comment(&recipe.granule, "LESS").ends_with("SSHNOIBC minus SSH."));
        let wanted = "SSH minus the mean of its 2 records from 1992-02-01 to 1992-03-31 at each cell.";
        assert!(comment(&recipe.granule, "SSHAnoma").ends_with(wanted));
    }
    for (month, recipe) in of(&all, "/native/mon_mean/OCEAN_TEMPERATURE_SALINITY/").into_iter().enumerate() {
        let found = values(&recipe.granule, "THETAAnoma");
        assert_eq!(found.len(), theta[month].len());
        compared += compare(&found, |at| (f64::from(theta[month][at]) - mean(&theta, at)) as f32);
    }
    // Three months of three variables, with more than 200 cells each.
    assert!(compared > 3 * 3 * 200, "{compared} cells");
    // On the other grid, the same rules hold for what was regridded, but for rounding.
    for recipe in of(&all, "/latlon/mon_mean/SEA_SURFACE_HEIGHT/") {
        let [sum, ssh, ibc] = ["SUM", "SSH", "SSHIBC"].map(|name| values(&recipe.granule, name));
        let wet = sum.iter().zip(ssh.iter().zip(&ibc)).filter(|(sum, _)| **sum < 1e30);
        assert!(wet.clone().count() > 100 && wet.clone().all(|(sum, (a, b))| (sum - (a + b)).abs() < 1e-5));
    }
    let period = of(&all, "/latlon/mon_mean/OCEAN_TEMPERATURE_SALINITY/");
    let [february, march] = [1, 2].map(|at| values(&period[at].granule, "THETAAnoma"));
    let wet = february.iter().zip(&march).filter(|(a, _)| **a < 1e30);
    assert!(wet.clone().count() > 100 && wet.clone().all(|(a, b)| (a + b).abs() < 1e-4));
    expect(coordinator().arg("verify").arg(&list).args(["--depth", "values"]), 0);
    // Everything is there: nothing is made again.
    assert_eq!(count(&json(&expect(&mut worker(&list), 0)), "present"), GRANULES);
}

#[test]
fn a_mean_is_the_same_bytes_however_it_is_made() {
    let fixture = fixture();
    let mut results = Vec::new();
    for (name, slots, memory, threads) in [("one", "1", "4096", "1"), ("many", "4", "64", "2")] {
        let out = fixture.path(name);
        let list = fixture.plan(&out, &format!("{name}.json"), &[]);
        let mut command = coordinator();
        command.arg("run").arg(&list).args(["--slots", slots]);
        expect(command.env("EDP_RUN__MEMORY", memory).env("RAYON_NUM_THREADS", threads), 0);
        results.push(files(&out));
    }
    assert_eq!(results[0].len(), GRANULES + MEANS);
    assert!(results[0] == results[1]);
    // Level by level, if the memory of a slot has room for one level only.
    let out = fixture.path("slabs");
    let list = fixture.plan(&out, "slabs.json", &[]);
    let all = recipes(&list);
    let recipe = of(&all, "/native/mon_mean/OCEAN_TEMPERATURE_SALINITY/")[0];
    let (cache, cancel, stages) = (Cache::default(), AtomicBool::new(false), Stages::begin());
    let made = |memory: u64| {
        let path = fixture.path("granule.nc");
        File::create(&path).unwrap();
        let context =
            MakeContext { cache: &cache, memory, paranoid: false, worker: "test", cancel: &cancel, stages: &stages };
        match make::make(recipe, context, &path).unwrap_err() {
            MakeError::Memory { needed, .. } => needed,
            error => panic!("{error}"),
        }
    };
    let least = made(0);
    assert!(made(least - 1) == least && means(&out).is_empty(), "{:?}", means(&out));
    // Enough for the mean, and not for the granule.
    assert!(made(least) > least);
    let [mean] = &means(&out)[..] else { panic!("{:?}", means(&out)) };
    let name = mean.file_name().unwrap();
    assert_eq!(fs::read(mean).unwrap(), fs::read(fixture.path("one/DEMO/means").join(name)).unwrap());
}

#[test]
fn a_mean_that_was_damaged_or_is_another_one_is_never_used() {
    let fixture = fixture();
    let out = fixture.path("out");
    let list = fixture.plan(&out, "tasks.json", &[]);
    expect(&mut worker(&list), 0);
    let whole = files(&out);
    let all = means(&out);
    let users = |mean: &Path| {
        let name = mean.file_name().unwrap().to_str().unwrap().to_owned();
        let uses = |recipe: &&Recipe| recipe.mean_places().iter().any(|place| place.ends_with(&name));
        recipes(&list).iter().filter(uses).map(|recipe| recipe.granule.clone()).collect::<Vec<_>>()
    };
    let good = all.iter().map(|mean| fs::read(mean).unwrap()).collect::<Vec<_>>();
    let mut flipped = good[0].clone();
    flipped[HEADER + 100] ^= 1;
    let damages: [(&str, Vec<u8>); 4] = [
        ("it is damaged: its values have", flipped),
        ("it is another mean", good[1].clone()),
        ("it is damaged: it has 0 bytes", Vec::new()),
        ("it is no mean", b"something else\n".repeat(1000)),
    ];
    for (why, bytes) in damages {
        for granule in users(&all[0]) {
            fs::remove_file(granule).unwrap();
        }
        fs::write(&all[0], &bytes).unwrap();
        let report = json(&expect(&mut worker(&list), 3));
        assert_eq!(count(&report, "failed"), users(&all[0]).len(), "{report:#}");
        for entry in report["entries"].as_array().unwrap().iter().filter(|entry| entry["state"] == "failed") {
            let reason = entry["reason"].as_str().unwrap();
            assert!(reason.contains(why) && reason.contains("remove it"), "{reason}");
        }
        // Once it is removed, it is made again, with the same bytes.
        fs::remove_file(&all[0]).unwrap();
        expect(&mut worker(&list), 0);
        assert_eq!(files(&out), whole);
    }
}

#[test]
fn records_that_have_changed_since_planning_make_no_mean() {
    let fixture = fixture();
    for (name, options, why) in [
        ("times", &[][..], "times of modification differ"),
        ("contents", &["--digests"][..], "names, sizes or contents differ"),
    ] {
        let out = fixture.path(name);
        let list = fixture.plan(&out, &format!("{name}.json"), options);
        let all = recipes(&list);
        let january = of(&all, "/native/mon_mean/SEA_SURFACE_HEIGHT/")[0].clone();
        let short = fixture.path(&format!("{name}-short.json"));
        fs::write(&short, recipe::format_list(&[january]).unwrap()).unwrap();
        let march = find(&fixture.demo.results, "SSH_mon_mean.0000002172.data");
        let before = fs::read(&march).unwrap();
        let modified = fs::metadata(&march).unwrap().modified().unwrap();
        let mut other = before.clone();
        other.rotate_left(4); // the values of other cells
        match options {
            [] => {
                fs::write(&march, &before).unwrap();
                let later = modified + std::time::Duration::from_secs(10);
                File::options().write(true).open(&march).unwrap().set_modified(later).unwrap();
            }
            _ => keeping_age(&march, |path| fs::write(path, &other)).unwrap(),
        }
        let report = json(&expect(&mut worker(&short), 3));
        let reason = report["entries"][0]["reason"].as_str().unwrap();
        assert!(reason.contains(why) && reason.contains("plan again"), "{reason}");
        assert!(means(&out).is_empty(), "{:?}", means(&out));
        fs::write(&march, &before).unwrap();
        File::options().write(true).open(&march).unwrap().set_modified(modified).unwrap();
        expect(&mut worker(&list), 0);
        assert_eq!(means(&out).len(), MEANS);
        // A record that is not there any more is named.
        fs::remove_dir_all(&out).unwrap();
        fs::rename(&march, fixture.path("march")).unwrap();
        let report = json(&expect(&mut worker(&short), 3));
        let reason = report["entries"][0]["reason"].as_str().unwrap();
        assert!(reason.contains("SSH_mon_mean.0000002172.data: cannot be opened"), "{reason}");
        fs::rename(fixture.path("march"), &march).unwrap();
    }
}

#[test]
fn grouped_and_tiled_records_have_the_same_mean() {
    let fixture = fixture();
    let single = fixture.path("single");
    expect(&mut worker(&fixture.plan(&single, "single.json", &[])), 0);
    let (groups, tiles) = (fixture.path("groups"), fixture.path("tiles"));
    layouts::grouped(&fixture.demo.results, &groups, true);
    layouts::tiled(&fixture.demo.results, &tiles, SIZE / 2, |_, _| true);
    for (name, results) in [("grouped", groups), ("tiled", tiles)] {
        let (out, list) = (fixture.path(name), fixture.path(&format!("{name}.json")));
        let mut options = fixture.options(&out);
        let at = options.iter().position(|option| option == "--source").unwrap();
        options[at + 1] = results.display().to_string();
        let mut command = coordinator();
        command.env("SOURCE_DATE_EPOCH", "1577836800").arg("run").args(options).arg("--tasks-out").arg(&list);
        expect(&mut command, 0);
        let values_of = |out: &Path| -> Vec<Vec<u8>> {
            means(out).iter().map(|mean| fs::read(mean).unwrap()[HEADER..].to_vec()).collect()
        };
        assert_eq!(values_of(&out), values_of(&single), "{name}");
        let all = recipes(&list);
        for recipe in of(&all, "SEA_SURFACE_HEIGHT") {
            let same = recipe.granule.replace(out.to_str().unwrap(), single.to_str().unwrap());
            for variable in ["SUM", "LESS", "SSHAnoma"] {
                assert!(values(&recipe.granule, variable) == values(&same, variable), "{variable}: {}", recipe.granule);
            }
        }
    }
}

#[test]
fn a_worker_that_is_killed_leaves_no_half_mean() {
    if !strace::is_there() {
        edp_tests::not_run(strace::NONE);
        return;
    }
    let fixture = fixture();
    let whole = fixture.path("whole");
    expect(&mut worker(&fixture.plan(&whole, "whole.json", &[])), 0);
    let (out, list) = (fixture.path("out"), fixture.path("tasks.json"));
    fixture.plan(&out, "tasks.json", &[]);
    let march = find(&fixture.demo.results, "SSH_mon_mean.0000002172.data");
    // Granules without a mean may be finished before the worker is killed.
    let all = recipes(&list);
    let with_a_mean: Vec<Recipe> = of(&all, "/SEA_SURFACE_HEIGHT/").into_iter().cloned().collect();
    let short = fixture.path("short.json");
    fs::write(&short, recipe::format_list(&with_a_mean).unwrap()).unwrap();
    // While a record is read, and at the commit, which follows the trial of a commit.
    for (calls, what, file) in
        [("pread64", "signal=KILL", Some(march.as_path())), ("linkat", "signal=KILL:when=2", None)]
    {
        let words = strace::words(calls, what, file, Path::new("/dev/null"));
        let mut command = worker(&short);
        let output = strace::beneath(&words, command.args(["--slots", "1"])).output().unwrap();
        assert_eq!(output.status.code(), None, "{}", text(&output));
        assert!(!means(&out).is_empty(), "the worker had begun");
        // What has its name is whole.
        let is_part = |name: &str| name.ends_with(".part");
        let finished: Vec<_> = files(&out).into_iter().filter(|(name, _)| !is_part(name)).collect();
        assert!(finished.iter().all(|(name, digest)| files(&whole).get(name) == Some(digest)), "{finished:?}");
        assert!(file.is_none() || finished.is_empty(), "{finished:?}");
    }
    expect(coordinator().arg("run").arg(&list), 0);
    assert_eq!(files(&out), files(&whole), "nothing temporary is left");
}

#[test]
fn granules_that_were_made_with_another_mean_are_conflicts() {
    let fixture = fixture();
    let out = fixture.path("out");
    let list = fixture.plan(&out, "tasks.json", &[]);
    let all = recipes(&list);
    let part: Vec<Recipe> = of(&all, "/native/mon_mean/SEA_SURFACE_HEIGHT/").into_iter().take(1).cloned().collect();
    let first = fixture.path("first.json");
    fs::write(&first, recipe::format_list(&part).unwrap()).unwrap();
    let ledger = fixture.path("ledger");
    let run = |list: &Path, status| {
        let mut command = coordinator();
        command.arg("run").arg(list).arg("--ledger").arg(&ledger).args(["--output", "json"]);
        json(&expect(&mut command, status))
    };
    run(&first, 0);
    let [mean] = &means(&out)[..] else { panic!("{:?}", means(&out)) };
    // Another mean that is consistent in itself.
    let mut bytes = fs::read(mean).unwrap();
    let before = Digest::of(&bytes[HEADER..]);
    bytes[HEADER + 100] ^= 1;
    let after = Digest::of(&bytes[HEADER..]);
    let at = bytes.windows(64).position(|window| window == before.as_str().as_bytes()).unwrap();
    bytes[at..at + 64].copy_from_slice(after.as_str().as_bytes());
    fs::write(mean, bytes).unwrap();
    let report = run(&list, 3);
    let users = all.iter().filter(|recipe| recipe.mean_places().iter().any(|place| Path::new(place) == mean)).count();
    assert_eq!(count(&report, "conflict"), users - 1, "{report:#}");
    let conflict = report["entries"].as_array().unwrap().iter().find(|entry| entry["state"] == "conflict").unwrap();
    assert!(conflict["reason"].as_str().unwrap().contains("other granules with one whose SHA-256"), "{conflict:#}");
}

#[test]
fn two_workers_on_a_broker_make_one_mean() {
    let (fixture, broker) = (fixture(), Broker::start());
    let alone = fixture.path("alone");
    expect(&mut worker(&fixture.plan(&alone, "alone.json", &[])), 0);
    let queue = broker.url("guest", "guest");
    let out = fixture.path("out");
    let list = fixture.plan(&out, "tasks.json", &[]);
    let serve = |name: &str, roots: &[&Path]| {
        let log = File::create(fixture.path(name)).unwrap();
        let mut command = program("edp-worker");
        command.args(["serve", "--slots", "2"]).args(roots.iter().flat_map(|root| [Path::new("--root"), root]));
        command.env("EDP_QUEUE__URL", &queue).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Started(command.spawn().unwrap())
    };
    let model = fixture.path("model");
    fs::create_dir_all(&out).unwrap();
    let workers = ["one.log", "two.log"].map(|name| serve(name, &[&model, &out]));
    let mut command = coordinator();
    command.arg("run").arg(&list).args(["--queue", "--output", "json", "--ledger"]).arg(fixture.path("ledger"));
    let report = json(&expect(command.env("EDP_QUEUE__URL", &queue), 0));
    assert_eq!(count(&report, "made"), GRANULES, "{report:#}");
    assert_eq!(files(&out), files(&alone));
    drop(workers);
    // The outcome names the mean with its digest.
    let all = recipes(&list);
    let granule = &of(&all, "/latlon/mon_mean/SEA_SURFACE_HEIGHT/")[0].granule;
    let mut command = coordinator();
    command.arg("status").arg(granule).args(["--output", "json", "--ledger"]).arg(fixture.path("ledger"));
    let said = text(&expect(&mut command, 0));
    let mean: &PathBuf = &means(&out).into_iter().find(|mean| mean.to_str().unwrap().contains("/SSH_")).unwrap();
    assert!(said.contains(Digest::of(&fs::read(mean).unwrap()).as_str()), "{said}");
}

#[test]
fn a_missing_month_is_an_error_unless_the_variable_may_be_left_out() {
    let fixture = fixture();
    for end in ["data", "meta"] {
        let name = format!("SSH_mon_mean.0000001428.{end}");
        fs::remove_file(find(&fixture.demo.results, &name)).unwrap();
    }
    let (out, list) = (fixture.path("out"), fixture.path("tasks.json"));
    let plan = |more: &[&str], status| {
        let mut command = coordinator();
        command.arg("plan").args(fixture.options(&out)).args(more).arg("--tasks-out").arg(&list);
        text(&expect(&mut command, status))
    };
    let said = plan(&[], 2);
    assert!(said.contains("1 month (1992-02)") && said.contains("SSHAnoma is SSH minus its mean"), "{said}");
    plan(&["--keep-going"], 0);
    let is_without = |recipe: &&Recipe| recipe.plan().unwrap().missing.contains(&"SSHAnoma".to_owned());
    assert_eq!(recipes(&list).iter().filter(is_without).count(), 6);
    let report = json(&expect(coordinator().arg("run").arg(&list).args(["--output", "json"]), 3));
    assert_eq!(count(&report, "held"), 6, "{report:#}");
    plan(&["--allow-partial"], 0);
    expect(coordinator().arg("run").arg(&list), 0);
}
