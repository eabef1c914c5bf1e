//! Workers on a queue, with all files on S3.

use super::cloud::{Cloud, recipes};
use edp_tests::broker::Broker;
use edp_tests::s3::S3Call;
use edp_tests::{Started, count, expect, json, text, until};
use std::fs::{self, File};
use std::process::{Command, Stdio};

/// Starts a command whose output goes to a file of the fixture.
fn start(cloud: &Cloud, command: &mut Command, log: &str) -> Started {
    let log = File::create(cloud.path(log)).unwrap();
    let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    Started(child)
}

#[test]
fn workers_with_other_settings_make_the_same_bytes_on_a_broker() {
    let (cloud, broker) = (Cloud::new(), Broker::start());
    let alone = cloud.plan("s3://out/alone", "alone.json");
    cloud.run(alone.to_str().unwrap(), &["--slots", "2"], 0);
    let queue = broker.url("guest", "guest");
    let serve = |name: &str, roots: &[&str], production: &str, settings: &[(&str, &str)]| {
        let scratch = cloud.path(name);
        fs::create_dir_all(&scratch).unwrap();
        let mut command = cloud.worker(&["serve", "--production", production]);
        command.args(roots.iter().flat_map(|root| ["--root", root])).env("EDP_QUEUE__URL", &queue);
        command.env("EDP_STORE__SCRATCH", scratch).envs(settings.iter().copied());
        start(&cloud, &mut command, &format!("{name}.log"))
    };
    let run = |list: &str, production: &str, status| {
        let ledger = cloud.path(&format!("{production}.ledger"));
        let mut command = cloud.coordinator(&["run", list, "--production", production, "--queue", "--output", "json"]);
        json(&expect(command.env("EDP_QUEUE__URL", &queue).arg("--ledger").arg(ledger), status))
    };

    // The latter uploads every granule in parts, however small.
    let all = ["s3://model/run", "s3://shared", "s3://out/together"];
    let one = [("EDP_RUN__SLOTS", "1"), ("EDP_RUN__MEMORY", "64"), ("RAYON_NUM_THREADS", "1")];
    let three = [("EDP_RUN__SLOTS", "3"), ("EDP_RUN__MEMORY", "512"), ("EDP_STORE__S3__MULTIPART", "0")];
    let workers = [serve("one", &all, "both", &one), serve("three", &all, "both", &three)];
    let list = cloud.plan("s3://out/together", "together.json");
    let granules = recipes(&list).len();
    let report = run(list.to_str().unwrap(), "both", 0);
    assert_eq!(count(&report, "made"), granules, "{report:#}");
    assert_eq!(cloud.server.files("out", "together"), cloud.server.files("out", "alone"));
    drop(workers);

    // Granules that were done and have vanished are made again.
    let victim = recipes(&list)[0].granule.clone();
    let (bucket, key) = super::parts(&victim);
    cloud.server.remove(bucket, key).unwrap();
    let completed = cloud.server.count(S3Call::CompleteUpload);
    let workers = [serve("again", &all, "both", &three)];
    run(list.to_str().unwrap(), "both", 0);
    assert_eq!(cloud.server.files("out", "together"), cloud.server.files("out", "alone"));
    assert_eq!(cloud.server.count(S3Call::CompleteUpload), completed + 1);
    assert!(cloud.server.uploads().is_empty(), "{:?}", cloud.server.uploads());
    drop(workers);

    // A worker that may not access a bucket reports it and ends. No recipe is to blame: another worker makes them all.
    let list = cloud.plan("s3://out/elsewhere", "elsewhere.json");
    let report = std::thread::scope(|scope| {
        let production = scope.spawn(|| run(list.to_str().unwrap(), "narrow", 0));
        let mut narrow = serve("narrow", &["s3://model/run", "s3://shared", "s3://out/else"], "narrow", &three);
        until("the narrow worker ends", || narrow.0.try_wait().unwrap().is_some());
        assert_eq!(narrow.0.wait().unwrap().code(), Some(4));
        let wide = serve("wide", &["s3://model/run", "s3://shared", "s3://out/elsewhere"], "narrow", &three);
        let report = production.join().unwrap();
        drop(wide);
        report
    });
    assert_eq!(count(&report, "made"), granules, "{report:#}");
    assert!(fs::read_to_string(cloud.path("narrow.log")).unwrap().contains("--root"));
    let said = text(&expect(cloud.worker(&["serve"]).env("EDP_QUEUE__URL", &queue), 2));
    assert!(said.contains("no root"), "{said}");
}
