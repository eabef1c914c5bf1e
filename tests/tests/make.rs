//! `edp-worker make`: granules without a queue, whole lists and shares of them.

use edp_protocol::Digest;
use edp_tests::{Fixture, coordinator, count, expect, files, json, program, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SIZE: usize = 8;
const GRANULES: usize = 24;

fn make(list: &Path) -> Command {
    let mut command = program("edp-worker");
    for variable in ["AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE", "SLURM_ARRAY_TASK_ID"] {
        command.env_remove(variable);
    }
    command.arg("make").arg(list).args(["--output", "json"]);
    command
}

/// Planned twice, and made once by `run`.
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
        let report = json(&expect(make(&list).args(["--part", part]), 0));
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
    let report = json(&expect(&mut make(&list), 0));
    assert_eq!(count(&report, "present"), GRANULES);
    // what is there is not read again
    let entries = report["entries"].as_array().unwrap();
    assert!(entries.iter().all(|entry| entry["sha256"].is_null()), "{report:#}");
    expect(coordinator().arg("verify").arg(&list), 0);
}

#[test]
fn array_jobs_know_their_share() {
    let (fixture, list, out) = planned();
    for index in ["0", "1"] {
        expect(make(&list).env("AWS_BATCH_JOB_ARRAY_INDEX", index).args(["--parts", "4"]), 0);
    }
    assert_eq!(files(&out).len(), GRANULES / 2);
    for id in ["5", "7"] {
        let slurm = [("SLURM_ARRAY_TASK_ID", id), ("SLURM_ARRAY_TASK_COUNT", "4"), ("SLURM_ARRAY_TASK_MIN", "1")];
        expect(make(&list).envs(slurm).env("SLURM_ARRAY_TASK_STEP", "2"), 0);
    }
    assert_eq!(files(&out), files(&fixture.path("reference")));
    let output = expect(make(&list).env("AWS_BATCH_JOB_ARRAY_INDEX", "4").args(["--parts", "4"]), 2);
    assert!(text(&output).contains("part 5 of 4"), "{}", text(&output));
    let output = expect(make(&list).args(["--parts", "4"]), 2);
    assert!(text(&output).contains("--part I/4"), "{}", text(&output));
    expect(make(&list).args(["--part", "5/4"]), 2);
}

/// What EDP would have written: our key and the location of the configuration taken away.
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
    let output = expect(&mut make(&list), 2);
    assert!(text(&output).contains("give --config"), "{}", text(&output));
    let dated = |command: &mut Command| -> Vec<u8> {
        let _ = fs::remove_dir_all(&out);
        let report = expect(command.env("SOURCE_DATE_EPOCH", "1577836800"), 0);
        serde_json::to_vec(&files(&out).values().map(ToString::to_string).collect::<Vec<_>>()).unwrap_or(report.stdout)
    };
    let configuration = &fixture.demo.configuration;
    let by_make = dated(make(&list).arg("--config").arg(configuration));
    let by_run = dated(coordinator().arg("run").arg(&list).arg("--config").arg(configuration));
    assert_eq!(by_make, by_run);
    assert_eq!(files(&out).len(), GRANULES);
    let broken = fixture.path("broken.yaml");
    fs::write(&broken, "model_timestep: [\n").unwrap();
    let output = expect(make(&list).arg("--config").arg(&broken), 2);
    assert!(text(&output).contains("broken.yaml"), "{}", text(&output));
}

#[test]
fn granules_that_need_too_much_memory_are_refused_before_they_take_it() {
    let (_fixture, list, out) = planned();
    let output = expect(make(&list).env("EDP_RUN__MEMORY", "1"), 3);
    let report = json(&output);
    assert_eq!(count(&report, "failed"), GRANULES);
    for entry in report["entries"].as_array().unwrap() {
        let reason = entry["reason"].as_str().unwrap();
        assert!(reason.contains("a slot may have 1 MiB: raise run.memory"), "{reason}");
    }
    assert!(files(&out).is_empty());
}
