//! The virtual host of a production, and the user of its workers, on a broker with the management interface that Amazon MQ has.

use super::template::directory;
use edp_queue::topology::ProductionName;
use edp_tests::broker::Broker;
use edp_tests::{Fixture, Started, coordinator, expect, files, program, text};
use std::fs;
use std::process::{Command, Stdio};

#[test]
fn a_production_on_a_broker_has_a_virtual_host_of_its_own_and_its_workers_have_few_rights() {
    let broker = Broker::with("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {tls_port}");
    let fixture = Fixture::new(6);
    let list = fixture.plan(&fixture.path("out"), "tasks.json", &[]);
    let port = broker.socket().port();
    let url = |user: &str| format!("amqp://{user}@127.0.0.1:{port}/v4r4");
    let password = |name: &str, secret: &str| {
        let path = fixture.path(name);
        fs::write(&path, format!("{secret}\n")).unwrap();
        path
    };
    let (own, workers) = (password("own", "guest"), password("workers", "s3cret"));
    // Twice, since the coordinator's instance may be replaced.
    for _ in 0..2 {
        let mut prepare = Command::new(directory().join("prepare-broker"));
        prepare.arg(url("guest")).arg("v4r4").arg(&own).arg(&workers).env("NO_PROXY", "127.0.0.1");
        expect(prepare.env("EDP_MANAGEMENT", format!("http://127.0.0.1:{}", broker.tls_port())), 0);
    }
    let listed = broker.control(["list_permissions", "--vhost", "v4r4", "--silent", "--no-table-headers"]);
    let (_, worker) = Broker::patterns(&"v4r4".parse::<ProductionName>().unwrap());
    let rights = format!("edp-worker\t{}", worker.join("\t"));
    assert!(listed.lines().any(|line| line == rights), "{listed}\nhas no {rights}");

    let mut serve = program("edp-worker");
    serve.args(["serve", "--production", "v4r4", "--exit-when-idle", "60s", "--root"]).arg(fixture.path(""));
    serve
        .env("EDP_QUEUE__URL", url("edp-worker"))
        .env("EDP_QUEUE__PASSWORD_FILE", &workers)
        .env("EDP_SERVE__NOTICES", "off");
    let _worker = Started(serve.stdin(Stdio::null()).spawn().unwrap());
    let mut run = coordinator();
    run.arg("run").arg(&list).args(["--queue", "--production", "v4r4", "--ledger"]).arg(fixture.path("ledger"));
    expect(run.env("EDP_QUEUE__URL", url("guest")).env("EDP_QUEUE__PASSWORD_FILE", &own), 0);
    assert!(files(&fixture.path("out")).len() >= 24);

    for (words, says) in [
        (["amqp://guest:guest@host/v", "v4r4", "own", "workers"], "without a password"),
        (["amqp://guest@127.0.0.1/v", "a b", "own", "workers"], "a name has"),
        (["amqp://guest@127.0.0.1/v", "v4r4", "own", "/dev/null"], "no password in it"),
    ] {
        let mut prepare = Command::new(directory().join("prepare-broker"));
        let output = expect(prepare.args(words).current_dir(fixture.path("")), 1);
        assert!(text(&output).contains(says), "{}", text(&output));
    }
}
