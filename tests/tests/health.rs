//! `edp-worker health`, as a container or a supervisor calls it: what it says of a worker that is well, of one without
//! its broker or its files, of one that hangs, of one that has died, and of none.

use edp_queue::{Link, QueueOptions};
use edp_tests::broker::Broker;
use edp_tests::{Started, expect, json, program, signal, text, until};
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory with the socket and the root of a worker.
struct Place {
    directory: tempfile::TempDir,
    url: String,
}

impl Place {
    fn new(url: String) -> Place {
        let place = Place { directory: tempfile::tempdir().unwrap(), url };
        fs::create_dir(place.root()).unwrap();
        place
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("worker.sock")
    }

    fn serve(&self) -> Command {
        let mut command = program("edp-worker");
        command.args(["serve", "--slots", "3", "--production", "health", "--root"]).arg(self.root());
        command.arg("--status").arg(self.socket()).env("EDP_QUEUE__URL", &self.url).env("EDP_SERVE__NOTICES", "off");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn health(&self, more: &[&str]) -> Output {
        health(&self.socket(), more)
    }

    /// Waits until the answer has this exit status and contains a text.
    fn becomes(&self, status: i32, part: &str) {
        until(&format!("health ends with {status} and says '{part}'"), || {
            let output = self.health(&[]);
            output.status.code() == Some(status) && text(&output).contains(part)
        });
    }
}

fn health(socket: &Path, more: &[&str]) -> Output {
    program("edp-worker").arg("health").args(more).env("EDP_SERVE__STATUS", socket).output().unwrap()
}

#[test]
fn health_tells_how_a_worker_is_on_a_broker() {
    let broker = Broker::start();
    let place = Place::new(broker.url("guest", "guest"));
    place.becomes(4, "no worker answers");
    let mut worker = Started(place.serve().spawn().unwrap());
    place.becomes(0, "waiting for the queues of the production");

    let options = QueueOptions::new(place.url.parse().unwrap(), "health".parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let link = Link::amqp(options).unwrap();
        link.declare().await.unwrap();
        link.close().await;
    });
    place.becomes(0, "serving, 0 of 3 slots busy");
    let status = json(&place.health(&["--output", "json"]));
    assert_eq!((&status["phase"], &status["slots"], &status["busy"]), (&"serving".into(), &3.into(), &0.into()));
    assert_eq!(status["problems"], serde_json::json!([]));
    let shown = status.to_string();
    assert!(shown.contains("amqp://guest@127.0.0.1") && !shown.contains("guest:guest"), "{shown}");

    let second = expect(place.serve().stderr(Stdio::piped()), 2);
    assert!(text(&second).contains("another worker answers there"), "{}", text(&second));

    let moved = place.directory.path().join("moved");
    fs::rename(place.root(), &moved).unwrap();
    place.becomes(4, &format!("root {}", place.root().display()));
    fs::rename(&moved, place.root()).unwrap();
    place.becomes(0, "serving");

    broker.kill();
    place.becomes(4, "no connection to amqp://guest@127.0.0.1");
    broker.run();
    place.becomes(0, "serving");

    signal(worker.id(), "STOP");
    let hangs = place.health(&["--deadline", "1"]);
    assert_eq!(hangs.status.code(), Some(4), "{}", text(&hangs));
    assert!(text(&hangs).contains("does not answer within 1 s"), "{}", text(&hangs));
    signal(worker.id(), "CONT");
    place.becomes(0, "serving");

    worker.kill().unwrap();
    worker.wait().unwrap();
    assert!(place.socket().exists(), "it had no time to remove it");
    place.becomes(4, "no worker answers");
    let mut next = Started(place.serve().spawn().unwrap());
    place.becomes(0, "serving");
    signal(next.id(), "TERM");
    assert_eq!(next.wait().unwrap().code(), Some(143));
    assert!(!place.socket().exists(), "the socket of a worker that ended in order is removed");
}

#[test]
fn health_believes_no_stranger() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let answers: [Vec<u8>; 3] = [Vec::new(), b"{\"worker\": \"\x1b[2J\"}".to_vec(), vec![b'['; 1 << 20]];
    let server = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(&answer); // the client may have seen enough
        }
    });
    for part in ["not that of a worker", "not that of a worker", "longer than 65536 bytes"] {
        let output = health(&socket, &[]);
        assert_eq!(output.status.code(), Some(4), "{}", text(&output));
        assert!(text(&output).contains(part) && !text(&output).contains('\x1b'), "{}", text(&output));
    }
    server.join().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(health(&file, &[]).status.code(), Some(4));
    let none = expect(program("edp-worker").arg("health"), 2);
    assert!(text(&none).contains("serve.status"), "{}", text(&none));

    let place = Place::new("amqp://guest:guest@127.0.0.1:1/".into());
    fs::write(place.socket(), "mine").unwrap();
    let refused = expect(place.serve().stderr(Stdio::piped()), 2);
    assert!(text(&refused).contains("something else has this name"), "{}", text(&refused));
    assert_eq!(fs::read_to_string(place.socket()).unwrap(), "mine");
    fs::remove_file(place.socket()).unwrap();
    let _worker = Started(place.serve().spawn().unwrap());
    place.becomes(4, "no connection to amqp://guest@127.0.0.1:1/");
}
