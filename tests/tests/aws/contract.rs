//! What AWS Batch asks of the container: the list is in the environment, and so is the share of an array job.

use edp_tests::s3::S3Server;
use edp_tests::{Fixture, coordinator, expect, files, program, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const GRANULES: usize = 24;

/// Returns the command of a container whose environment names this list.
fn container(list: &str) -> Command {
    let mut command = program("edp-worker");
    for variable in ["AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE", "SLURM_ARRAY_TASK_ID"] {
        command.env_remove(variable);
    }
    command.arg("make").env("TASKLIST", list).env("EDP_SERVE__NOTICES", "off");
    command
}

/// Returns a fixture with a plan of all its granules, the list and the destination.
fn planned() -> (Fixture, PathBuf, PathBuf) {
    let fixture = Fixture::new(6);
    let out = fixture.path("out");
    let list = fixture.plan(&out, "tasks.json", &[]);
    (fixture, list, out)
}

/// Returns the number of granules below a destination.
fn made(out: &Path) -> usize {
    files(out).keys().filter(|name| name.ends_with(".nc")).count()
}

#[test]
fn a_container_makes_the_list_of_its_environment() {
    let (_fixture, list, out) = planned();
    let list = list.to_str().unwrap();
    expect(&mut container(list), 0);
    assert_eq!(made(&out), GRANULES);
    // A second attempt of the job finds everything there.
    let again = expect(container(list).args(["--output", "json"]), 0);
    assert_eq!(edp_tests::count(&edp_tests::json(&again), "present"), GRANULES);
    // A list of the command line stands above it.
    let output = expect(container("elsewhere.json").arg(list), 0);
    assert!(!text(&output).contains("elsewhere"), "{}", text(&output));
}

#[test]
fn an_array_job_divides_its_list() {
    let (_fixture, list, out) = planned();
    let list = list.to_str().unwrap();
    for (index, there) in [("2", 8), ("0", 16), ("1", 24)] {
        let array = [("AWS_BATCH_JOB_ARRAY_INDEX", index), ("AWS_BATCH_JOB_ARRAY_SIZE", "3")];
        expect(container(list).envs(array), 0);
        assert_eq!(made(&out), there, "{index}");
    }
}

#[test]
fn a_granule_that_is_not_made_fails_the_job() {
    let (fixture, list, out) = planned();
    let input = files(&fixture.demo.results).into_keys().find(|name| name.ends_with(".data")).unwrap();
    fs::remove_file(fixture.demo.results.join(input)).unwrap();
    expect(&mut container(list.to_str().unwrap()), 3);
    assert!((1..GRANULES).contains(&made(&out)), "the others are made");
}

#[test]
fn without_a_list_nothing_is_made() {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut unset = container("");
    unset.env_remove("TASKLIST");
    for (mut command, why) in [
        (unset, "in TASKLIST, which is not set"),
        (container(""), "in TASKLIST, which is empty"),
        (container("s3://"), "TASKLIST: "),
        (container("gs://bucket/tasks.json"), "TASKLIST: "),
        (container("missing.json"), "missing.json"),
    ] {
        let output = expect(command.current_dir(elsewhere.path()), 2);
        assert!(text(&output).contains(why), "{}", text(&output));
    }
    assert!(files(elsewhere.path()).is_empty());
}

#[test]
fn the_list_and_everything_in_it_may_be_on_s3() {
    let (fixture, server) = (Fixture::new(6), S3Server::start(&["results", "product"]));
    server.put_files("results", "run", &fixture.demo.results);
    let mut plan = coordinator();
    let options = fixture.options(Path::new("s3://product/granules"));
    let options = options.iter().map(|option| match Path::new(option) == fixture.demo.results {
        true => "s3://results/run",
        false => option,
    });
    plan.arg("plan").args(options).args(["--tasks-out", "s3://results/lists/tasks.json"]);
    expect(plan.envs(server.environment()).env("SOURCE_DATE_EPOCH", "1577836800"), 0);
    let granules = || server.files("product", "granules").into_keys().filter(|name| name.ends_with(".nc")).count();
    for (index, there) in [("0", GRANULES / 2), ("1", GRANULES)] {
        let array = [("AWS_BATCH_JOB_ARRAY_INDEX", index), ("AWS_BATCH_JOB_ARRAY_SIZE", "2")];
        let mut job = container("s3://results/lists/tasks.json");
        expect(job.envs(server.environment()).env("EDP_STORE__SCRATCH", fixture.path("")).envs(array), 0);
        assert_eq!(granules(), there, "{index}");
    }
    let none = expect(container("s3://results/lists/none.json").envs(server.environment()), 2);
    assert!(text(&none).contains("s3://results/lists/none.json"), "{}", text(&none));
}
