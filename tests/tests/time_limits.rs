//! Productions whose time is limited, by options or by the end of a Slurm job: they end in order, and the same command
//! continues them to the same bytes.

use edp_tests::{Fixture, Site, coordinator, count, expect, files, json, program, text};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time before the end at which draining begins, with the grace period of these tests. The programs keep 20 s for
/// everything that follows the grace period.
const LEAD: Duration = Duration::from_secs(GRACE + 20);
const GRACE: u64 = 2;

/// By this much a production gets more time in each round.
const STEP: Duration = Duration::from_millis(100);

/// Number of rounds after which a production that is not complete counts as hanging.
const ROUNDS: u32 = 600;

/// Returns a command that makes the granules of a list, outside of any job.
fn limited(mut command: Command, name: &str, list: &Path) -> Command {
    command.env("EDP_SERVE__GRACE", GRACE.to_string());
    command.arg(name).arg(list).args(["--output", "json"]);
    command
}

/// Runs a production with a little more time in each round, until it is complete.
fn continued(site: &Site, out: &Path, command: impl Fn() -> Command) {
    let (mut rounds, mut partial) = (0, false);
    loop {
        let limit = LEAD + STEP * rounds;
        let output =
            command().args(["--slots", "1", "--time-limit", &limit.as_secs_f64().to_string()]).output().unwrap();
        let (report, made) = (json(&output), files(out));
        assert!(made.iter().all(|(name, digest)| site.reference.get(name) == Some(digest)), "{made:?}");
        let left = count(&report, "left");
        // Without a ledger, granules of earlier rounds are known only once they were looked at.
        let seen = count(&report, "made") + count(&report, "present");
        assert_eq!(left + seen, site.reference.len(), "{}", text(&output));
        assert!(seen <= made.len(), "{}", text(&output));
        if output.status.code() == Some(0) {
            break;
        }
        assert_eq!(output.status.code(), Some(3), "{}", text(&output));
        let said = text(&output);
        assert!(said.contains("draining: the time limit is reached at 2"), "{said}");
        assert!(said.contains(&format!(": {left} granules remain, and the same command continues")), "{said}");
        assert!(report["stopped"].as_str().unwrap().starts_with("the time limit is reached at 2"), "{said}");
        // What was made in this round is verified, and nothing else is reported.
        assert_eq!(report["verified"]["problems"], serde_json::json!([]), "{said}");
        assert_eq!(report["verified"]["extra"], serde_json::json!([]), "{said}");
        partial |= !made.is_empty() && made.len() < site.reference.len();
        rounds += 1;
        assert!(rounds < ROUNDS, "not complete after {rounds} rounds: {said}");
    }
    assert!(rounds > 0 && partial, "it was never stopped on the way");
    site.assert_whole(out);
}

#[test]
fn a_production_that_a_time_limit_stops_is_continued_to_the_same_bytes() {
    let site = Site::new(40);
    let (list, out) = site.plan("make");
    continued(&site, &out, || limited(program("edp-worker"), "make", &list));
    let (list, out) = site.plan("run");
    continued(&site, &out, || {
        let mut command = limited(coordinator(), "run", &list);
        command.arg("--ledger").arg(site.fixture.path("ledger"));
        command
    });
}

#[test]
fn the_end_of_the_slurm_job_is_the_time_limit_unless_another_is_given() {
    let site = Site::new(6);
    let (list, out) = site.plan("out");
    let ends = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(5);
    let job = |program: Command, name| {
        let mut command = limited(program, name, &list);
        command.env("SLURM_JOB_END_TIME", ends.as_secs().to_string());
        command
    };
    for (program, name) in [(program("edp-worker"), "make"), (coordinator(), "run")] {
        let output = expect(&mut job(program, name), 3);
        assert!(text(&output).contains("stopped, since the Slurm job ends at 2"), "{}", text(&output));
    }
    assert!(files(&out).len() < site.reference.len());
    expect(job(program("edp-worker"), "make").args(["--until", "2100-01-01T00:00:00Z"]), 0);
    site.assert_whole(&out);
    let output = expect(job(coordinator(), "run").env("EDP_SERVE__NOTICES", "off"), 0);
    assert!(!text(&output).contains("draining"), "{}", text(&output));
}

#[test]
fn limits_without_any_time_are_refused_and_short_ones_are_warned_of() {
    let fixture = Fixture::new(6);
    let (list, out) = (fixture.plan(&fixture.path("out"), "tasks.json", &[]), fixture.path("out"));
    let serve = || {
        let mut command = program("edp-worker");
        command.args(["serve", "--queue", "amqp://127.0.0.1:1/", "--root"]).arg(fixture.path(""));
        command
    };
    let make = || limited(program("edp-worker"), "make", &list);
    let run = || limited(coordinator(), "run", &list);
    let commands: [&dyn Fn() -> Command; 3] = [&make, &run, &serve];
    for command in commands {
        for (options, words) in [
            (&["--until", "2020-01-01T00:00Z"][..], "2020-01-01T00:00:00Z has passed"),
            (&["--until", "1577836800"], "2020-01-01T00:00:00Z has passed"),
            (&["--time-limit", "0"], "no time is left"),
            (&["--until", "2100-01-01T00:00Z", "--time-limit", "1h"], "cannot be used with"),
            (&["--until", "soon"], "--until"),
            (&["--time-limit", "soon"], "--time-limit"),
        ] {
            let output = expect(command().args(options), 2);
            assert!(text(&output).contains(words), "{}", text(&output));
        }
    }
    assert!(files(&out).is_empty());
    let output = expect(make().args(["--time-limit", "21"]), 3);
    assert!(
        text(&output).contains("too short for anything to be made: draining takes up to 22 s"),
        "{}",
        text(&output)
    );
}
