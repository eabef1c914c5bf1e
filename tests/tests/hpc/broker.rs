//! The RabbitMQ node of one user.

use super::{Case, of_brokers, script};
use edp_tests::broker::Broker;
use edp_tests::{Started, coordinator, expect, files, json, program, text, until};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A node's directory. The node is stopped when this is dropped.
struct Node(PathBuf);

impl Node {
    fn call(&self, word: &str) -> Command {
        let mut command = script("broker");
        command.arg(word).arg("--directory").arg(&self.0).env("TMPDIR", self.0.parent().unwrap());
        // Environments are larger than a pipe is at sites with many modules.
        command.env("MODULES", "module:".repeat(10_000));
        command
    }

    /// Starts the node for this machine, and returns the path of its URL file.
    fn start(&self) -> PathBuf {
        let output = expect(self.call("start").args(["--host", "127.0.0.1"]), 0);
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
    }

    fn recorded(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.call("stop").output();
    }
}

/// Returns the permissions of a file.
fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_users_own_broker_serves_a_production_and_leaves_nothing_running() {
    let case = Case::new();
    let node = Node(case.fixture.path("broker"));
    expect(&mut node.call("status"), 3);
    expect(&mut node.call("stop"), 0);
    let url = node.start();
    assert_eq!((mode(&url), mode(&node.0), mode(&node.0.join("password"))), (0o600, 0o700, 0o600));
    expect(&mut node.call("status"), 0);
    // A second start is no second node.
    let before = (node.recorded("pid"), node.recorded("url"));
    assert_eq!(node.start(), url);
    assert_eq!((node.recorded("pid"), node.recorded("url")), before);

    let mut serve = program("edp-worker");
    serve.arg("serve").arg("--root").arg(case.fixture.path("")).env("EDP_QUEUE__URL_FILE", &url);
    let worker = Started(serve.spawn().unwrap());
    let mut run = coordinator();
    run.arg("run").arg(&case.list).arg("--queue").env("EDP_QUEUE__URL_FILE", &url);
    expect(run.arg("--ledger").arg(case.fixture.path("p.ledger")), 0);
    drop(worker);
    assert_eq!(files(&case.out), case.reference());

    // The password is not in the list of processes.
    let password = node.recorded("password");
    let processes = of_brokers(&node.0);
    assert!(!processes.is_empty() && !processes.iter().any(|line| line.contains(&password)), "{processes:?}");
    expect(&mut node.call("stop"), 0);
    expect(&mut node.call("status"), 3);
    assert_eq!((of_brokers(&node.0), url.exists()), (Vec::new(), false));

    // It ends with the process that it was started for.
    let mut owner = Started(Command::new("sleep").arg("1000").spawn().unwrap());
    expect(node.call("start").args(["--host", "127.0.0.1", "--while"]).arg(owner.id().to_string()), 0);
    assert!(of_brokers(&node.0).len() > processes.len());
    owner.kill().unwrap();
    owner.wait().unwrap();
    until("the end of a broker without its owner", || of_brokers(&node.0).is_empty());
    assert!(!url.exists());

    // A node that was killed is started again, with its data and its password.
    node.start();
    let pid = node.recorded("node-pid");
    expect(Command::new("kill").args(["-KILL", pid.trim()]), 0);
    until("the end of a node that was killed", || node.call("status").output().unwrap().status.code() == Some(3));
    assert_eq!(node.start(), url);
    assert!(node.recorded("url").contains(&password) && node.recorded("node-pid") != pid);
    expect(&mut node.call("stop"), 0);
    assert_eq!(of_brokers(&node.0), Vec::<String>::new());
}

#[test]
fn the_brokers_files_come_from_where_they_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node(directory.path().join("broker"));
    let from = directory.path().join("from");
    fs::create_dir(&from).unwrap();
    let refused = expect(node.call("start").arg("--from").arg(&from), 4);
    assert!(text(&refused).contains("rabbitmq-server-generic-unix"), "{}", text(&refused));
    let refused = expect(node.call("start").env("RABBITMQ_HOME", &from), 4);
    assert!(text(&refused).contains("RABBITMQ_HOME"), "{}", text(&refused));
    let refused = expect(node.call("start").env("ERLANG_HOME", "/nowhere"), 4);
    assert!(text(&refused).contains("ERLANG_HOME"), "{}", text(&refused));

    // An archive as RabbitMQ's project publishes it: one directory with its version in the name.
    let lib = Path::new("/usr/lib/rabbitmq/lib");
    let installed = fs::read_dir(lib).into_iter().flatten().flatten().map(|entry| entry.file_name()).next();
    let Some(installed) = installed else {
        return edp_tests::not_run("there is no RabbitMQ below /usr/lib/rabbitmq to make an archive of");
    };
    let archive = from.join("rabbitmq-server-generic-unix-3.10.tar.gz");
    expect(Command::new("tar").arg("-C").arg(lib).arg("-czf").arg(&archive).arg(&installed), 0);
    for _ in 0..2 {
        expect(node.call("start").args(["--host", "127.0.0.1", "--from"]).arg(&from), 0);
        let command = fs::read_to_string(Path::new("/proc").join(node.recorded("pid")).join("cmdline")).unwrap();
        assert!(command.contains(&*node.0.join("server").to_string_lossy()), "{command}");
        expect(&mut node.call("stop"), 0);
    }
}

#[test]
fn a_directory_of_another_user_is_no_place_for_a_broker() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node(directory.path().join("broker"));
    std::os::unix::fs::symlink(directory.path(), &node.0).unwrap();
    let refused = expect(&mut node.call("start"), 4);
    assert!(text(&refused).contains("belongs to another user"), "{}", text(&refused));
    fs::remove_file(&node.0).unwrap();
    fs::create_dir(&node.0).unwrap();
    fs::write(node.0.join("host"), "another-node").unwrap();
    for word in ["start", "status", "stop"] {
        let refused = expect(&mut node.call(word), 4);
        assert!(text(&refused).contains("another-node"), "{}", text(&refused));
    }
    expect(script("broker").arg("restart"), 2);
    expect(node.call("start").args(["--host", "a;b"]), 2);
}

#[test]
fn what_was_under_way_with_a_lost_broker_is_sent_again_by_the_next_one() {
    let case = Case::new();
    case.hang("edp-worker", "serve");
    let ledger = case.fixture.path("p.ledger");
    let run = |broker: &Broker| {
        let mut run = coordinator();
        run.arg("run").arg(&case.list).arg("--queue").env("EDP_QUEUE__URL", broker.url("guest", "guest"));
        run.arg("--ledger").arg(&ledger);
        run
    };
    let serve = |program: &Path, broker: &Broker| {
        let mut serve = Command::new(program);
        serve.args(["serve", "--slots", "4", "--root"]).arg(case.fixture.path(""));
        Started(serve.env("EDP_QUEUE__URL", broker.url("guest", "guest")).process_group(0).spawn().unwrap())
    };
    {
        let broker = Broker::start();
        let coordinator = Started(run(&broker).spawn().unwrap());
        let worker = serve(&case.fixture.path("bin/edp-worker"), &broker);
        until("a worker that hangs", || case.fixture.path("edp-worker.hangs/stopped").exists());
        // Leases of half an hour keep these recipes for the worker.
        until("granules that are begun", || at_work(&ledger) > 0);
        drop(coordinator);
        let group = format!("-{}", worker.id());
        expect(Command::new("kill").args(["-KILL", "--", &group]), 0);
    }
    assert!(at_work(&ledger) > 0);
    let broker = Broker::start();
    let _worker = serve(Path::new(program("edp-worker").get_program()), &broker);
    expect(&mut run(&broker), 0);
    assert_eq!(files(&case.out), case.reference());
}

/// Returns the number of attempts in a ledger that have begun and not ended.
fn at_work(ledger: &Path) -> u64 {
    let status = json(&expect(coordinator().args(["status", "--output", "json", "--ledger"]).arg(ledger), 0));
    status["workers"].as_array().unwrap().iter().map(|worker| worker["at_work"].as_u64().unwrap()).sum()
}
