//! The scripts with the names of EDP's commands do what EDP's commands do.

use edp_tests::{Fixture, coordinator, count, expect, files, json, program, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns a command with one of EDP's names, which finds the programs as a user's shell does.
fn edp(name: &str) -> Command {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/edp");
    let mut command = program(scripts.join(name).to_str().unwrap());
    let programs = coordinator();
    let programs = Path::new(programs.get_program()).parent().unwrap();
    let path = std::env::join_paths([programs.to_owned(), PathBuf::from("/usr/bin"), PathBuf::from("/bin")]).unwrap();
    command.env("PATH", path);
    command
}

/// Adds EDP's options of a plan.
fn plan(command: &mut Command, fixture: &Fixture, jobs: &Path, configuration: &str) {
    let demo = &fixture.demo;
    command.arg("--jobfile").arg(jobs).arg(configuration).arg(&demo.configuration);
    command.arg("--ecco_source_root").arg(&demo.results).arg("--ecco_destination_root").arg(fixture.path("out"));
    command.arg("--ecco_grid_loc").arg(&demo.grid).arg("--ecco_mapping_factors_loc").arg(&demo.factors);
    command.arg("--ecco_metadata_loc").arg(&demo.metadata).env("SOURCE_DATE_EPOCH", "1577836800");
}

#[test]
fn a_production_goes_from_groupings_to_granules() {
    let fixture = Fixture::new(8);
    let groupings = fixture.demo.metadata.join("groupings_for_native_datasets.json");
    let jobs = fixture.path("jobs");
    expect(edp("edp_create_job_files").arg("--groupings_file").arg(groupings).arg("--output_dir").arg(&jobs), 0);
    let job = jobs.join("SEA_SURFACE_HEIGHT_native_AVG_MON_jobs.txt");
    let list = fixture.path("tasks.json");
    let mut create = edp("edp_create_job_task_list");
    plan(&mut create, &fixture, &job, "--ecco_cfg_loc");
    expect(create.arg("--outfile").arg(&list).args(["-l", "WARNING"]), 0);
    let tasks: serde_json::Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
    assert_eq!(tasks.as_array().map(Vec::len), Some(3));
    assert_eq!(tasks[0]["recipe"]["mode"], "edp-2026");

    let subset = fixture.path("subset");
    let mut subsets = edp("edp_subset_tasklists");
    expect(subsets.arg(&list).arg("--output_dir").arg(&subset).args(["--mode", "first", "-n", "2"]), 0);
    let few = subset.join("tasks.json");
    expect(edp("split_task_json").arg(&few).arg("2").arg(fixture.path("part")), 0);
    let parts = [fixture.path("part_001.json"), fixture.path("part_002.json")];
    for part in &parts {
        expect(edp("edp_generate_datasets").arg("--tasklist").arg(part).args(["-l", "ERROR"]), 0);
    }
    let made = files(&fixture.path("out")).into_keys().filter(|name| name.ends_with(".nc")).count();
    assert_eq!(made, 2, "{:?}", files(&fixture.path("out")).keys());
    let again = expect(edp("edp_generate_datasets").arg("--tasklist").arg(&few).args(["--output", "json"]), 0);
    assert_eq!(count(&json(&again), "present"), 2, "{}", text(&again));
}

#[test]
fn lists_are_those_of_the_edp_that_has_the_option() {
    let fixture = Fixture::new(8);
    for (configuration, asked, mode) in [
        ("--cfgfile", None, "edp-2024"),
        ("--ecco_cfg_loc", None, "edp-2026"),
        ("--cfgfile", Some("corrected"), "corrected"),
    ] {
        let list = fixture.path("tasks.json");
        let mut create = edp("edp_create_job_task_list");
        plan(&mut create, &fixture, &fixture.demo.jobs, configuration);
        create.args(asked.map(|mode| format!("--compatibility={mode}")));
        expect(create.arg("--outfile").arg(&list), 0);
        let tasks: serde_json::Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
        assert_eq!(tasks[0]["recipe"]["mode"], mode, "{configuration}");
    }
}

#[test]
fn factors_are_made_where_the_configuration_says() {
    let fixture = Fixture::new(8);
    let out = fixture.path("made");
    let configuration = fixture.path("config.yaml");
    let text = fs::read_to_string(&fixture.demo.configuration).unwrap();
    // The demo's geometry file is the only one in its directory, under the name of its release.
    let without_name: String = text
        .lines()
        .filter(|line| !line.starts_with("ecco_native_grid_filename"))
        .map(|line| format!("{line}\n"))
        .collect();
    let places =
        format!("ecco_grid_dir: '{}'\nmapping_factors_dir: '{}'\n", fixture.demo.grid.display(), out.display());
    fs::write(&configuration, without_name + &places).unwrap();
    expect(edp("edp_create_factors").arg("--ecco_cfg_loc").arg(&configuration).args(["2", "3"]), 0);
    let made = files(&out);
    assert!(made.keys().any(|name| name.ends_with("ecco_latlon_grid_mappings_2D.xz")), "{:?}", made.keys());
    expect(edp("edp_create_factors").arg("--cfgfile").arg(&configuration).args(["--dims", "2"]), 2);
    expect(edp("edp_create_factors").arg("--cfgfile").arg(&configuration).args(["--force", "--dims", "2"]), 0);
}

#[test]
fn configuration_and_dois_are_checked() {
    let fixture = Fixture::new(8);
    let table = fixture.demo.metadata.join("PODAAC_demo_datasets.csv");
    expect(edp("edp_validate_config").arg(&fixture.demo.configuration).arg("--show-config"), 0);
    expect(edp("edp_verify_doi_coverage").arg("-m").arg(&fixture.demo.metadata).arg("-c").arg(&table).arg("-q"), 0);
    let rows = fs::read_to_string(&table).unwrap().replacen("PODAAC-ECG5D-SSH00", "PODAAC-ECG5M-SSH00", 1);
    fs::write(&table, rows).unwrap();
    let mut verify = edp("edp_verify_doi_coverage");
    let output = expect(verify.arg("-m").arg(&fixture.demo.metadata).arg("-c").arg(&table), 2);
    assert!(text(&output).contains("2 rows have the DATASET.PERSISTENT_ID"), "{}", text(&output));
    fs::write(fixture.path("config.yaml"), "ecco_version: V4r4\n").unwrap();
    expect(edp("edp_validate_config").arg(fixture.path("config.yaml")), 2);
}

#[test]
fn wrong_use_is_explained() {
    for (name, arguments) in [
        ("edp_validate_config", &[][..]),
        ("edp_verify_doi_coverage", &["-m", "metadata"]),
        ("edp_verify_doi_coverage", &["--what"]),
        ("edp_aws_s3_sync", &["--src", "here"]),
        ("split_task_json", &["list.json"]),
    ] {
        let output = expect(edp(name).args(arguments), 2);
        assert!(text(&output).contains("usage: "), "{name}: {}", text(&output));
    }
}
