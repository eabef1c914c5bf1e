//! Productions on the stores that people use.

use super::cloud::{Cloud, recipes};
use edp_tests::broker::Broker;
use edp_tests::s3::{Manner, S3Call};
use edp_tests::{Started, count, expect, json, text};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

/// A store that is named to AWS programs only, by a host name, has no host name for each bucket.
#[test]
fn endpoints_of_aws_programs_are_used() {
    let cloud = Cloud::new();
    let list = cloud.plan("s3://out/g", "tasks.json");
    let endpoint = cloud.server.endpoint().replace("127.0.0.1", "localhost");
    let config = cloud.path("aws-config");
    for (variable, file) in [("AWS_ENDPOINT_URL", ""), ("AWS_ENDPOINT_URL_S3", ""), ("", "[default]\n")] {
        let mut command = cloud.coordinator(&["verify"]);
        command.arg(&list).env_remove("EDP_STORE__S3__ENDPOINT").env("NO_PROXY", "localhost,127.0.0.1");
        if variable.is_empty() {
            let text = format!("{file}services = here\n[services here]\ns3 =\n  endpoint_url = {endpoint}\n");
            std::fs::write(&config, text).unwrap();
            command.env("AWS_CONFIG_FILE", &config);
        } else {
            command.env(variable, &endpoint);
        }
        let before = cloud.server.count(S3Call::List);
        let said = text(&expect(&mut command, 3));
        assert!(said.contains("missing") && cloud.server.count(S3Call::List) > before, "{variable}: {said}");
    }
    let mut wrong = cloud.coordinator(&["run"]);
    wrong.arg(&list).env_remove("EDP_STORE__S3__ENDPOINT").env("AWS_ENDPOINT_URL", "localhost:9000");
    let said = text(&expect(&mut wrong, 2));
    assert!(said.contains("AWS_ENDPOINT_URL") && said.contains("https://host:port"), "{said}");
}

/// As on the nodes of a cluster, where no user can log in.
#[test]
fn a_program_gives_the_credentials_and_renews_them_before_they_expire() {
    let cloud = Cloud::new();
    let list = cloud.plan("s3://out/g", "tasks.json");
    let of = |name: &str| cloud.server.environment().into_iter().find(|(key, _)| *key == name).unwrap().1;
    let (config, program, calls) = (cloud.path("aws-config"), cloud.path("credentials"), cloud.path("calls"));
    // They are valid for a moment, so each of the requests asks for new ones.
    let text = format!(
        "#!/bin/sh\necho >>'{}'\nprintf '{{\"Version\": 1, \"AccessKeyId\": \"{}\", \"SecretAccessKey\": \"{}\", \
         \"Expiration\": \"%s\"}}' \"$(date -u -d '+5 seconds' +%Y-%m-%dT%H:%M:%SZ)\"\n",
        calls.display(),
        of("AWS_ACCESS_KEY_ID"),
        of("AWS_SECRET_ACCESS_KEY"),
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&config, format!("[profile granules]\ncredential_process = {}\n", program.display())).unwrap();
    let mut make = cloud.worker(&["make"]);
    make.arg(&list).env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    expect(make.env("AWS_CONFIG_FILE", &config).env("EDP_STORE__S3__PROFILE", "granules"), 0);
    assert!(std::fs::read_to_string(&calls).unwrap().lines().count() > 1);
}

/// The contract on exit statuses: a store that refuses a request does not count as a granule that failed.
#[test]
fn a_store_that_refuses_is_named_with_its_setting() {
    let cloud = Cloud::new();
    let list = cloud.plan("s3://out/g", "tasks.json");
    let list = list.to_str().unwrap();
    let cases: [(&[Manner], &[&str]); 3] = [
        (&[Manner::NoList], &["s3:ListBucket"]),
        (&[Manner::Requires("x-amz-server-side-encryption", "AES256")], &["encryption", "store.s3.sse"]),
        (&[Manner::NoConditions(501)], &["If-None-Match", "store.s3.unconditional"]),
    ];
    for (manners, parts) in cases {
        manners.iter().for_each(|manner| cloud.server.adopt(manner.clone()));
        let said = text(&expect(&mut cloud.coordinator(&["run", list]), 4));
        for part in parts {
            assert!(said.contains(part), "{manners:?}: {said}");
        }
        assert!(!said.contains(" failed: "), "{said}");
        cloud.server.heal();
    }
    assert!(cloud.server.files("out", "g").is_empty());
    cloud.server.adopt(Manner::Requires("x-amz-server-side-encryption", "AES256"));
    cloud.server.adopt(Manner::NoChecksumHeaders(400));
    cloud.server.adopt(Manner::NoDelete);
    let mut run = cloud.coordinator(&["run", list, "--output", "json"]);
    let report = json(&expect(run.env("EDP_STORE__S3__SSE", "AES256"), 0));
    assert_eq!(count(&report, "made"), recipes(std::path::Path::new(list)).len());
    let said = text(&expect(cloud.coordinator(&["run", list]).env("EDP_STORE__S3__SSE", "aes"), 2));
    assert!(said.contains("store.s3.sse"), "{said}");
}

/// Workers get, list and put; the coordinator makes the trial of the store, once, at a place of its own.
#[test]
fn the_coordinator_tries_conditions_and_workers_do_not_on_a_broker() {
    let (cloud, broker) = (Cloud::new(), Broker::start());
    let queue = broker.url("guest", "guest");
    let list = cloud.plan("s3://out/g", "tasks.json");
    let roots = ["--root", "s3://model/run", "--root", "s3://shared", "--root", "s3://out/g"];
    let mut serve = cloud.worker(&["serve"]);
    serve.args(roots).env("EDP_QUEUE__URL", &queue).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _workers = [Started(serve.spawn().unwrap()), Started(serve.spawn().unwrap())];
    let run = || {
        let mut run = cloud.coordinator(&["run", list.to_str().unwrap(), "--queue", "--output", "json"]);
        run.env("EDP_QUEUE__URL", &queue).env("EDP_RUN__SNAPSHOT", "0").arg("--ledger").arg(cloud.path("l"));
        json(&expect(&mut run, 0))
    };
    let granules = recipes(&list).len();
    assert_eq!(count(&run(), "made"), granules);
    // Two puts of the trial, and one of each granule.
    assert_eq!(cloud.server.count(S3Call::Put), granules + 2);
    assert!(cloud.server.get("out", "g/.edp/conditions").is_some());
    assert_eq!(cloud.server.count(S3Call::Delete), 0);
    // Nothing needs to be written, so no trial is made.
    run();
    assert_eq!(cloud.server.count(S3Call::Put), granules + 2);
}
