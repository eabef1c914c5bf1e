//! `edp-worker make`: granules without a queue, from complete lists and from shares of them.

use edp_engine::granule::error::MakeError;
use edp_engine::granule::make::{self, MakeContext};
use edp_engine::granule::stages::Stages;
use edp_engine::resources::Cache;
use edp_protocol::recipe::{self, Recipe};
use edp_protocol::{Digest, GridKind};
use edp_tests::{Fixture, coordinator, count, expect, files, json, program, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const SIZE: usize = 8;
const GRANULES: usize = 24;

fn worker(list: &Path) -> Command {
    let mut command = program("edp-worker");
    let aws = ["AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"];
    for variable in aws.into_iter().chain(["SLURM_ARRAY_TASK_ID", "PBS_ARRAY_INDEX", "PBS_ARRAYID"]) {
        command.env_remove(variable);
    }
    command.arg("make").arg(list).args(["--output", "json"]);
    command
}

/// Returns a fixture with two plans, of which the first one was made by `run`.
fn planned() -> (Fixture, PathBuf, PathBuf) {
    let fixture = Fixture::new(SIZE);
    let (reference, out) = (fixture.path("reference"), fixture.path("out"));
    let list = fixture.plan(&reference, "reference.json", &[]);
    expect(coordinator().arg("run").arg(&list), 0);
    let list = fixture.plan(&out, "tasks.json", &[]);
    (fixture, list, out)
}

#[test]
fn shares_make_what_one_run_makes() {
    let (fixture, list, out) = planned();
    let mut made = 0;
    for part in ["1/3", "3/3", "2/3"] {
        let report = json(&expect(worker(&list).args(["--part", part]), 0));
        made += count(&report, "made");
        assert_eq!(files(&out).len(), made, "{part}");
        for entry in report["entries"].as_array().unwrap() {
            let digest = Digest::of(&fs::read(entry["granule"].as_str().unwrap()).unwrap());
            assert_eq!(entry["sha256"], digest.as_str());
            assert_eq!(entry["stages"][0]["name"], "make");
        }
    }
    assert_eq!(made, GRANULES);
    assert_eq!(files(&out), files(&fixture.path("reference")));
    let report = json(&expect(&mut worker(&list), 0));
    assert_eq!(count(&report, "present"), GRANULES);
    // Existing granules are read for their digests, unless that would take too long.
    let digests = |report: &serde_json::Value| {
        report["entries"].as_array().unwrap().iter().filter(|entry| !entry["sha256"].is_null()).count()
    };
    assert_eq!(digests(&report), GRANULES, "{report:#}");
    let report = json(&expect(worker(&list).args(["--verify", "present"]), 0));
    assert_eq!((count(&report, "present"), digests(&report)), (GRANULES, 0), "{report:#}");
    expect(coordinator().arg("verify").arg(&list), 0);
}

#[test]
fn array_jobs_know_their_share() {
    let (fixture, list, out) = planned();
    for index in ["0", "1"] {
        expect(worker(&list).env("AWS_BATCH_JOB_ARRAY_INDEX", index).args(["--parts", "4"]), 0);
    }
    assert_eq!(files(&out).len(), GRANULES / 2);
    let slurm = [("SLURM_ARRAY_TASK_ID", "5"), ("SLURM_ARRAY_TASK_COUNT", "4"), ("SLURM_ARRAY_TASK_MIN", "1")];
    expect(worker(&list).envs(slurm).env("SLURM_ARRAY_TASK_STEP", "2"), 0);
    assert_eq!(files(&out).len(), GRANULES * 3 / 4);
    for (variable, id, of, made) in [("PBS_ARRAY_INDEX", "4", "8", 21), ("PBS_ARRAYID", "4", "4", 24)] {
        let output = expect(worker(&list).env(variable, id), 2);
        assert!(text(&output).contains("--parts N"), "{}", text(&output));
        expect(worker(&list).env(variable, id).args(["--parts", of]), 0);
        assert_eq!(files(&out).len(), made, "{variable}");
    }
    assert_eq!(files(&out), files(&fixture.path("reference")));
    let output = expect(worker(&list).env("AWS_BATCH_JOB_ARRAY_INDEX", "4").args(["--parts", "4"]), 2);
    assert!(text(&output).contains("part 5 of 4"), "{}", text(&output));
    let output = expect(worker(&list).args(["--parts", "4"]), 2);
    assert!(text(&output).contains("--part I/4"), "{}", text(&output));
    expect(worker(&list).args(["--part", "5/4"]), 2);
}

/// A list as EDP would have written it: without our key and without the location of the configuration.
#[test]
fn lists_of_edp_are_completed() {
    let fixture = Fixture::new(SIZE);
    let out = fixture.path("out");
    let list = fixture.plan(&out, "tasks.json", &["--compatibility", "edp-2024"]);
    let mut tasks: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
    for task in &mut tasks {
        let task = task.as_object_mut().unwrap();
        task.remove("recipe");
        task.remove("ecco_cfg_loc");
    }
    fs::write(&list, serde_json::to_vec(&tasks).unwrap()).unwrap();
    let output = expect(&mut worker(&list), 2);
    assert!(text(&output).contains("give --config"), "{}", text(&output));
    let dated = |command: &mut Command| -> Vec<u8> {
        let _ = fs::remove_dir_all(&out);
        let report = expect(command.env("SOURCE_DATE_EPOCH", "1577836800"), 0);
        serde_json::to_vec(&files(&out).values().map(ToString::to_string).collect::<Vec<_>>()).unwrap_or(report.stdout)
    };
    let configuration = &fixture.demo.configuration;
    let by_make = dated(worker(&list).arg("--config").arg(configuration));
    let by_run = dated(coordinator().arg("run").arg(&list).arg("--config").arg(configuration));
    assert_eq!(by_make, by_run);
    assert_eq!(files(&out).len(), GRANULES);
    let broken = fixture.path("broken.yaml");
    fs::write(&broken, "model_timestep: [\n").unwrap();
    let output = expect(worker(&list).arg("--config").arg(&broken), 2);
    assert!(text(&output).contains("broken.yaml"), "{}", text(&output));
    // A recipe with a second destination has one id twice, which is found only when the list is completed.
    let granule = tasks[0]["granule"].as_str().unwrap();
    let below = Path::new(granule).strip_prefix(&out).unwrap();
    let mut second = tasks[0].clone();
    second["granule"] = fixture.path("second").join(below).display().to_string().into();
    fs::write(&list, serde_json::to_vec(&[&tasks[0], &second]).unwrap()).unwrap();
    for mut command in [worker(&list), {
        let mut run = coordinator();
        run.arg("run").arg(&list);
        run
    }] {
        let output = expect(command.arg("--config").arg(configuration), 2);
        assert!(text(&output).contains("two destinations"), "{}", text(&output));
        assert!(!fixture.path("second").exists());
    }
}

#[test]
fn granules_that_need_too_much_memory_are_refused_before_they_take_it() {
    let (_fixture, list, out) = planned();
    let output = expect(worker(&list).env("EDP_RUN__MEMORY", "1"), 3);
    let report = json(&output);
    assert_eq!(count(&report, "failed"), GRANULES);
    for entry in report["entries"].as_array().unwrap() {
        let reason = entry["reason"].as_str().unwrap();
        assert!(reason.contains("a slot may have 1 MiB: raise run.memory"), "{reason}");
    }
    assert!(files(&out).is_empty());
}

/// Recipes may name one directory in any number of ways; its content is loaded and kept once.
#[test]
fn what_is_shared_is_known_by_its_content_whatever_its_names() {
    let fixture = Fixture::new(SIZE);
    let list = fixture.plan(&fixture.path("out"), "tasks.json", &[]);
    let recipes = recipe::parse_list("tasks.json", &fs::read(&list).unwrap()).unwrap();
    let recipe = recipes.iter().find(|recipe| recipe.granule.contains("/latlon/")).unwrap();
    let (cache, cancel) = (Cache::default(), AtomicBool::new(false));
    let load = |recipe: &Recipe| cache.resources(recipe, GridKind::Latlon, &cancel).unwrap();
    let first = load(recipe);
    let open = || fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let before = open();
    for slashes in 2..100 {
        let mut spelled = recipe.clone();
        for place in [
            &mut spelled.ecco_cfg_loc,
            &mut spelled.ecco_grid_loc,
            &mut spelled.ecco_metadata_loc,
            &mut spelled.ecco_mapping_factors_loc,
        ] {
            *place = place.as_deref().map(|place| place.replacen('/', &"/".repeat(slashes), 1));
        }
        let again = load(&spelled);
        assert!(Arc::ptr_eq(&first.grid, &again.grid) && Arc::ptr_eq(&first.texts, &again.texts));
        assert!(Arc::ptr_eq(first.target.as_ref().unwrap(), again.target.as_ref().unwrap()));
    }
    // Other tests of this process may have a few files open.
    assert!(open() < before + 20, "{} open files, {before} before", open());
}

/// With just enough memory for one slab at a time, the bytes are the same as with memory for several; with one byte
/// less, nothing is made.
#[test]
fn memory_changes_how_a_granule_is_made_and_not_what_it_is() {
    let fixture = Fixture::new(SIZE);
    let list = fixture.plan(&fixture.path("out"), "tasks.json", &[]);
    let recipes = recipe::parse_list("tasks.json", &fs::read(&list).unwrap()).unwrap();
    let (cache, cancel) = (Cache::default(), AtomicBool::new(false));
    let digest = |recipe: &Recipe, memory: u64| {
        let path = fixture.path("granule.nc");
        let stages = Stages::begin();
        let context =
            MakeContext { cache: &cache, memory, paranoid: false, worker: "test", cancel: &cancel, stages: &stages };
        fs::File::create(&path).unwrap();
        let made = make::make(recipe, context, &path).map(|made| made.digest).map_err(Box::new);
        let _ = fs::remove_file(&path);
        made
    };
    for kind in ["native/mon_mean/OCEAN_VELOCITY", "latlon/mon_mean/OCEAN_VELOCITY"] {
        let recipe = recipes.iter().find(|recipe| recipe.granule.contains(kind)).unwrap();
        let whole = digest(recipe, u64::MAX).unwrap();
        let needed = |memory| match *digest(recipe, memory).unwrap_err() {
            MakeError::Memory { needed, .. } => needed,
            error => panic!("{error}"),
        };
        let least = needed(0);
        assert_eq!(digest(recipe, least).unwrap(), whole, "{kind}");
        assert_eq!(needed(least - 1), least, "{kind}");
    }
}
