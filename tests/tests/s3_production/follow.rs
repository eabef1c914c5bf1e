//! Productions that follow a model run which writes to a bucket.

use super::cloud::{Cloud, recipes};
use edp_tests::{Started, count, expect, until};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Command, Stdio};

#[test]
fn granules_follow_a_model_run_in_a_bucket() {
    let cloud = Cloud::new();
    // The granules that one production makes from the complete results.
    let list = cloud.plan("s3://out/whole", "whole.json");
    let all = recipes(&list).len();
    cloud.run(list.to_str().unwrap(), &[], 0);
    let whole = cloud.server.files("out", "whole");
    let results: BTreeMap<String, Vec<u8>> = cloud
        .server
        .files("model", "run")
        .into_keys()
        .map(|path| (path.clone(), cloud.server.remove("model", &format!("run/{path}")).unwrap().bytes.to_vec()))
        .collect();
    let put = |path: &str, bytes: &[u8]| cloud.server.put("model", &format!("run/{path}"), bytes.to_vec());
    let is_of = |path: &str, step: u64| path.contains(&format!(".{step:010}."));

    // The model begins, and one result has no header yet. (Objects appear only when they are complete.)
    let first = results.iter().filter(|(path, _)| is_of(path, 732));
    let late = first.clone().rfind(|(path, _)| path.ends_with(".meta")).unwrap().0;
    for (path, bytes) in first.filter(|(path, _)| *path != late) {
        put(path, bytes);
    }
    let mut command = cloud.coordinator(&["run", "--follow", "--output", "json", "--slots", "2"]);
    command.args(Cloud::options("s3://out/grown")).env("EDP_PLAN__FOLLOW_INTERVAL", "1").stdin(Stdio::null());
    let log = |name: &str| File::create(cloud.path(name)).unwrap();
    let child = command.stdout(log("report")).stderr(log("log")).spawn().unwrap();
    let mut following = Started(child);
    let said = || fs::read_to_string(cloud.path("log")).unwrap();
    let made = || cloud.server.files("out", "grown").into_keys().filter(|name| name.ends_with(".nc")).count();
    let reaches = |following: &mut Started, what: &str, count: usize| {
        until(what, || {
            assert!(following.try_wait().unwrap().is_none(), "{what}: {}", said());
            made() >= count
        });
    };
    reaches(&mut following, "granules of whole results", 1);
    assert!(made() < all / 3, "nothing is made of a result without header");
    put(late, &results[late]);
    reaches(&mut following, "the first month", all / 3);
    assert_eq!(made(), all / 3, "nothing is there of the other months");
    for (path, bytes) in results.iter().filter(|(path, _)| !is_of(path, 732)) {
        put(path, bytes);
    }
    reaches(&mut following, "all months", all);
    expect(Command::new("kill").arg(following.id().to_string()), 0);
    let mut status = None;
    until("the end", || {
        status = following.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0), "all that was found is done: {}", said());
    let report: serde_json::Value = serde_json::from_slice(&fs::read(cloud.path("report")).unwrap()).unwrap();
    assert_eq!((count(&report, "made"), count(&report, "held")), (all, 0), "{report:#}");
    assert_eq!(cloud.server.files("out", "grown"), whole);
    cloud.is_clean();
}
