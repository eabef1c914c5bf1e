//! The messages of programs on standard error: in the requested form, and at the requested level.

use edp_tests::broker::Broker;
use edp_tests::{Fixture, coordinator, expect, program, text};
use serde_json::Value;
use std::process::{Command, Output, Stdio};

/// Returns every line on standard error as an object.
fn objects(output: &Output) -> Vec<Value> {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

/// Returns the messages of a level.
fn messages(objects: &[Value], level: &str) -> String {
    let of_level = objects.iter().filter(|object| object["level"] == level);
    of_level.map(|object| object["message"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Returns true if a line comes from this project and not from a library.
fn is_ours(line: &Value) -> bool {
    line["target"].as_str().is_some_and(|target| target.starts_with("edp"))
}

#[test]
fn every_line_is_json_if_that_is_asked_for() {
    let fixture = Fixture::new(6);
    let list = fixture.plan(&fixture.path("out"), "tasks.json", &[]);
    let settings = fixture.path("broken.toml");
    std::fs::write(&settings, "log = ").unwrap();
    let good = expect(coordinator().arg("run").arg(&list).args(["--log-format", "json", "--log", "info"]), 0);
    assert!(!objects(&good).is_empty());
    let broken = settings.to_str().unwrap();
    let errors: [(&[&str], &str); 6] = [
        (&["run", "nothing.json"], "nothing.json"),
        (&["run", "nothing.json", "--colour"], "--colour"),
        (&["run", "nothing.json", "--settings", broken], "broken.toml, line 1"),
        (&["verify", "nothing.json", "--log", "loud"], "log level: 'loud'"),
        (&["run"], "--"),
        (&["status", "--ledger", "nothing.ledger"], "nothing.ledger"),
    ];
    for (words, part) in errors {
        for by_option in [true, false] {
            let mut command = coordinator();
            match by_option {
                true => command.args(words).arg("--log-format=json"),
                false => command.args(words).env("EDP_LOG_FORMAT", "json"),
            };
            let output = expect(&mut command, 2);
            let said = messages(&objects(&output), "ERROR");
            assert!(said.contains(part), "{words:?}: {said}");
        }
    }
    // The help is not an error.
    let help = expect(coordinator().args(["run", "--help", "--log-format", "json"]), 0);
    assert!(text(&help).contains("Usage:") && help.stderr.is_empty());
}

#[test]
fn what_cannot_be_a_level_or_a_profile_is_refused() {
    let fixture = Fixture::new(6);
    let list = fixture.plan(&fixture.path("out"), "tasks.json", &[]);
    let config = fixture.path("aws");
    std::fs::write(&config, "[profile known]\nregion = eu-west-1\n").unwrap();
    let run = |words: &[&str], variables: &[(&str, &str)], status| {
        let mut command = coordinator();
        command.arg("verify").arg(&list).args(words).envs(variables.iter().copied()).env("AWS_CONFIG_FILE", &config);
        command
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_ACCESS_KEY_ID", "k")
            .env("AWS_SECRET_ACCESS_KEY", "s");
        text(&expect(&mut command, status))
    };
    assert!(run(&["--log", "loud"], &[], 2).contains("'loud' is not understood"));
    assert!(run(&[], &[("EDP_LOG", "loud")], 2).contains("'loud' is not understood"));
    assert!(run(&[], &[("RUST_LOG", "loud")], 2).contains("RUST_LOG: 'loud'"));
    assert!(run(&["--log", "debug"], &[("RUST_LOG", "loud")], 3).contains("missing"));
    assert!(run(&["--aws-profile", "nosuch"], &[], 2).contains("there is no profile 'nosuch'"));
    assert!(run(&["--profile", "nosuch"], &[], 2).contains("there is no profile 'nosuch'"));
    assert!(run(&[], &[("EDP_STORE__S3__PROFILE", "nosuch")], 2).contains("store.s3.profile"));
    assert!(run(&["--aws-profile", "known"], &[], 3).contains("missing"));
    let worker = expect(program("edp-worker").args(["make", "x.json", "--aws-profile", "nosuch"]), 2);
    assert!(text(&worker).contains("there is no profile 'nosuch'"));
}

/// While a worker waits for its coordinator nothing is wrong, and nothing is logged as an error; only the end of its
/// patience is.
#[test]
fn waiting_is_no_error_in_the_log_on_a_broker() {
    let broker = Broker::start();
    let root = tempfile::tempdir().unwrap();
    let serve = |url: &str, words: &[&str]| -> Command {
        let mut command = program("edp-worker");
        command.arg("serve").arg("--root").arg(root.path()).args(words).env("EDP_QUEUE__URL", url);
        command.env("EDP_QUEUE__PATIENCE", "4").stdin(Stdio::null());
        command
    };
    let good = broker.url("guest", "guest");
    let output = serve(&good, &["--log", "info", "--log-format", "json"]).output().unwrap();
    let said = objects(&output);
    assert_eq!(output.status.code(), Some(4), "{said:?}");
    assert!(said.iter().all(is_ours), "{said:?}");
    assert!(!messages(&said, "WARN").contains("lost"), "{said:?}");
    // The requested messages appear.
    let output = serve(&good, &["--log", "warn,lapin=debug"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("lapin"), "{output:?}");
    // A refusal is reported by us, and not by the library.
    let output = serve(&broker.url("guest", "wrong"), &["--log", "info", "--log-format", "json"]).output().unwrap();
    let said = objects(&output);
    assert!(said.iter().all(is_ours), "{said:?}");
    assert!(messages(&said, "ERROR").contains("password"), "{said:?}");
}
