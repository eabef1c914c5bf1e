//! What `deploy/hpc/submit` would submit, and what it refuses.

use super::Case;
use edp_tests::{expect, text};
use std::fs;

/// Returns the lines that a dry run prints.
fn dry_run(case: &Case, scheduler: &str, words: &[&str]) -> Vec<String> {
    let output = expect(case.submit(scheduler).arg("--dry-run").args(words), 0);
    assert!(!case.fixture.path("edp-default").exists(), "a dry run leaves nothing behind");
    let printed = String::from_utf8(output.stdout).unwrap().replace('\\', "");
    printed.lines().map(str::to_owned).collect()
}

/// Checks that each line has these words.
fn check(lines: &[String], wanted: &[&[&str]]) {
    assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
    for (line, words) in lines.iter().zip(wanted) {
        for word in *words {
            assert!(line.contains(word), "'{word}' is not in: {line}");
        }
    }
}

#[test]
fn jobs_of_a_broker_are_submitted_in_the_schedulers_words() {
    let case = Case::new();
    let slurm = dry_run(&case, "slurm", &["--nodes", "3", "--time", "2:00:00", "--memory", "8G", "--", "-A", "ocean"]);
    let common = ["sbatch --parsable --no-requeue", "--signal=B:TERM@90", "--time=2:00:00", " -A ocean "];
    check(
        &slurm,
        &[
            &[&common[..], &["--cpus-per-task=2", "/edp-default/coordinator.sh"]].concat(),
            &[&common[..], &["--cpus-per-task=1", "--array=1-3", "--mem=8G", "--dependency=after:JOB1 "]].concat(),
            &[&common[..], &["--dependency=afterany:JOB1 ", "/edp-default/next.sh"]].concat(),
        ],
    );
    assert!(!slurm[0].contains("--mem") && !slurm[2].contains("--array"));
    let pbs = dry_run(&case, "pbs", &["--nodes", "3", "--memory", "8gb", "--", "-q", "long"]);
    check(
        &pbs,
        &[
            &["qsub -S /bin/bash -N edp-coordinator", "-l select=1:ncpus=2 ", "-r n", "walltime=1:00:00", "-q long"],
            &["-l select=1:ncpus=1:mem=8gb", "-J 1-3", "-W depend=after:JOB1 ", "/edp-default/worker.sh"],
            &["-W depend=afterany:JOB1 ", "/edp-default/next.sh"],
        ],
    );
    // PBS refuses an array that it may not start again.
    assert!(!pbs[1].contains("-r n"));
    let torque = dry_run(&case, "torque", &["--nodes", "3", "--memory", "8gb", "--once"]);
    check(&torque, &[&["-l nodes=1:ppn=2"], &["-l nodes=1:ppn=1 -l mem=8gb", "-t 1-3"]]);
}

#[test]
fn arrays_keep_to_the_limit_of_the_site() {
    let case = Case::new();
    let words = ["--array", "--nodes", "1", "--parts", "5", "--max-array", "2"];
    let slurm = dry_run(&case, "slurm", &words);
    let first = |first: &str| format!("EDP_HPC_FIRST={first} ");
    let [a, b, c] = ["0", "2", "4"].map(first);
    check(
        &slurm,
        &[
            &["--array=1-2%1", &a, "/edp-default/share.sh"],
            &["--array=1-2%1", &b],
            &["--array=1-1%1", &c],
            &["--dependency=afterany:JOB1:JOB2:JOB3 "],
        ],
    );
    // An array of one task is an ordinary job of PBS.
    let pbs = dry_run(&case, "pbs", &words);
    let end = "depend=afterany:JOB1[]:JOB2[]:JOB3 ";
    check(&pbs, &[&["-J 1-2%1", &a], &["-J 1-2%1", &b], &["-r n", &c], &[end]]);
    assert!(!pbs[2].contains("-J"));
    let torque = dry_run(&case, "torque", &words);
    let end = "depend=afteranyarray:JOB1[],afteranyarray:JOB2[],afterany:JOB3 ";
    check(&torque, &[&["-t 1-2%1", &a], &["-t 1-2%1", &b], &[&c], &[end]]);
    let whole = dry_run(&case, "slurm", &["--array", "--nodes", "4"]);
    check(&whole, &[&["--array=1-4 "], &[]]);
}

#[test]
fn what_cannot_be_submitted_is_refused_by_name() {
    let case = Case::new();
    let path = case.fixture.path("");
    let list = case.list.to_str().unwrap();
    let root = path.to_str().unwrap();
    let good = ["--scheduler", "slurm", "--tasks", list, "--nodes", "2", "--cpus", "1", "--root", root];
    let without = |option: &str| -> Vec<&str> {
        let at = good.iter().position(|word| *word == option).unwrap();
        [&good[..at], &good[at + 2..]].concat()
    };
    for option in ["--scheduler", "--tasks", "--nodes", "--cpus", "--root"] {
        let output = expect(case.script("submit").args(without(option)).arg("--dry-run"), 2);
        assert!(text(&output).contains(option), "{option}: {}", text(&output));
    }
    let wrong: [&[&str]; 12] = [
        &["--scheduler", "lsf"],
        &["--tasks", "none.json"],
        &["--nodes", "0"],
        &["--cpus", "many"],
        &["--max-array", "12345678901"],
        &["--time", "1:00"],
        &["--drain", "1801"],
        &["--production", "a b"],
        &["--run", "a,b"],
        &["--url-file", "none"],
        &["--continue", "none"],
        &["--cpus"],
    ];
    for words in wrong {
        let output = expect(case.script("submit").args(good).arg("--dry-run").args(words), 2);
        assert!(text(&output).contains(words[0]), "{words:?}: {}", text(&output));
    }
    fs::create_dir(case.fixture.path("edp-default")).unwrap();
    fs::write(case.fixture.path("edp-default/settings"), "").unwrap();
    fs::write(case.fixture.path("bin/sbatch"), "#!/bin/sh\nexit 1\n").unwrap();
    expect(std::process::Command::new("chmod").arg("755").arg(case.fixture.path("bin/sbatch")), 0);
    let output = expect(case.script("submit").args(good), 2);
    assert!(text(&output).contains("--continue"), "{}", text(&output));
    // A scheduler that refuses
    fs::remove_dir_all(case.fixture.path("edp-default")).unwrap();
    let output = expect(case.script("submit").args(good), 4);
    assert!(text(&output).contains("sbatch"), "{}", text(&output));
}
