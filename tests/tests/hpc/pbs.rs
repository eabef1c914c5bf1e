//! Productions by a PBS on one machine, which is a script beside this file: there is no package of PBS.

use super::{Case, of_brokers};
use edp_protocol::recipe;
use edp_tests::{expect, files, until};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A production whose jobs are ended when this is dropped.
struct Site(Case);

impl Site {
    fn new() -> Site {
        let case = Case::new();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hpc/pbs.sh");
        for name in ["qsub", "qdel"] {
            symlink(&script, case.fixture.path("bin").join(name)).unwrap();
        }
        fs::create_dir(case.fixture.path("pbs")).unwrap();
        fs::create_dir(case.fixture.path("tmp")).unwrap();
        Site(case)
    }

    /// Adds the environment of this site to a command.
    fn here<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let path = |name| self.0.fixture.path(name);
        command.env("MOCK_PBS", path("pbs")).env("HOME", path("")).env("TMPDIR", path("tmp"))
    }

    /// Waits until the last line of the progress begins with one of these words, and all jobs have ended.
    fn end(&self) -> String {
        let progress = || self.0.of_run("progress");
        let is_over =
            || progress().lines().last().is_some_and(|line| line == "complete" || line.starts_with("given up"));
        until("the production's end", || is_over() && self.jobs().iter().all(|(_, state)| state == "F"));
        progress()
    }

    /// Returns the names of all jobs, with their states.
    fn jobs(&self) -> Vec<(String, String)> {
        let jobs = fs::read_dir(self.0.fixture.path("pbs")).unwrap().flatten().filter(|job| job.path().is_dir());
        let state = |job: &fs::DirEntry| fs::read_to_string(job.path().join("state")).unwrap_or_default();
        jobs.map(|job| (job.file_name().to_string_lossy().into_owned(), state(&job).trim().to_owned())).collect()
    }

    /// Returns the tasks that were ended at their wall time.
    fn killed(&self) -> String {
        fs::read_to_string(self.0.fixture.path("pbs/killed")).unwrap_or_default()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = fs::read_to_string(self.0.fixture.path("pbs/output")).unwrap_or_default();
            eprintln!("{:?}\n{}\n{output}", self.jobs(), self.0.logs());
        }
        let left = || self.jobs().into_iter().filter(|(_, state)| state != "F").map(|(job, _)| job);
        for job in left() {
            let mut delete = Command::new(self.0.fixture.path("bin/qdel"));
            let _ = self.here(delete.arg(job)).status();
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while left().next().is_some() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn jobs_of_pbs_make_a_production_over_a_broker_of_their_own() {
    let site = Site::new();
    let mut submit = site.0.submit("pbs");
    expect(site.here(submit.args(["--nodes", "2", "--time", "0:02:00", "--drain", "20"])), 0);
    let progress = site.end();
    assert_eq!(progress, "round 1: verified: 24 good, 0 missing, 0 damaged, 0 foreign, 0 extra\ncomplete\n");
    assert_eq!(files(&site.0.out), site.0.reference());
    // The address with the password is gone with the broker, and so are its files and processes.
    assert!(!site.0.fixture.path("edp-default/url").exists());
    assert_eq!(fs::read_dir(site.0.fixture.path("tmp")).unwrap().count(), 0);
    assert_eq!(of_brokers(&site.0.fixture.path("tmp")), Vec::<String>::new());
    // The same production is not begun again by mistake.
    let mut submit = site.0.submit("pbs");
    expect(site.here(submit.args(["--nodes", "2"])), 2);
}

#[test]
fn a_share_that_was_killed_at_its_wall_time_is_made_in_the_next_round() {
    let site = Site::new();
    site.0.hang("edp-worker", "make");
    let mut submit = site.0.submit("torque");
    submit.env("MOCK_TORQUE", "yes");
    expect(
        site.here(submit.args(["--array", "--nodes", "3", "--max-array", "2", "--time", "0:00:30", "--drain", "2"])),
        0,
    );
    let progress = site.end();
    let lines: Vec<&str> = progress.lines().collect();
    assert_eq!(lines.len(), 3, "{progress}");
    assert!(lines[0].starts_with("round 1: ") && !lines[0].contains(" 0 missing"), "{progress}");
    assert!(lines[1].starts_with("round 2: verified: 24 good, 0 missing"), "{progress}");
    assert_eq!(site.killed().lines().count(), 1, "{}", site.killed());
    assert_eq!(files(&site.0.out), site.0.reference());
}

#[test]
fn rounds_end_where_there_is_no_progress() {
    let site = Site::new();
    let recipes = recipe::parse_list("list", &fs::read(&site.0.list).unwrap()).unwrap();
    fs::remove_file(&recipes[0].variables[0][0][0]).unwrap();
    let mut submit = site.0.submit("pbs");
    expect(site.here(submit.args(["--array", "--nodes", "1", "--parts", "2"])), 0);
    let progress = site.end();
    let lines: Vec<&str> = progress.lines().collect();
    assert_eq!(lines.len(), 3, "{progress}");
    assert_eq!(lines[0].strip_prefix("round 1"), lines[1].strip_prefix("round 2"));
    assert!(lines[2].starts_with("given up: round 2 has made no granule"), "{progress}");
}
