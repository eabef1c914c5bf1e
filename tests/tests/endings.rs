//! The ends of the programs: the signals that end them, and no handlers of libraries.

use edp_tests::{Fixture, Started, expect, program, signal, text, until};
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// A worker that waits for a broker at an address where there is none.
struct Waiting {
    child: Started,
    log: std::path::PathBuf,
}

impl Waiting {
    /// Starts it by a shell that first changes the handling of signals.
    fn start(directory: &Path, first: &str) -> Waiting {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let worker = program("edp-worker");
        let log = directory.join("log");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{first}; exec \"$@\""), "sh"]).arg(worker.get_program());
        command.args(["serve", "--queue", &format!("amqp://u@127.0.0.1:{port}/"), "--root"]).arg(directory);
        for (name, value) in worker.get_envs() {
            assert!(value.is_none());
            command.env_remove(name);
        }
        let file = File::create(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let waiting = Waiting { child: Started(child), log };
        until("the worker is ready for signals", || waiting.log().contains("production default"));
        waiting
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Returns true if it ignores a signal, given by its number, and true if it has a handler for it.
    fn disposition(&self, signal: u32) -> (bool, bool) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let has = |name: &str| {
            let mask = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal - 1) & 1 == 1
        };
        (has("SigIgn:"), has("SigCgt:"))
    }

    fn ends(&mut self) -> ExitStatus {
        let mut found = None;
        until("the worker ends", || {
            found = self.child.try_wait().unwrap();
            found.is_some()
        });
        found.unwrap()
    }
}

const HANGUP: u32 = 1;
const INTERRUPT: u32 = 2;
const TERMINATE: u32 = 15;

/// Programs are started in this way by `nohup`, and by scripts as background jobs.
#[test]
fn signals_that_were_ignored_at_the_start_stay_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let mut worker = Waiting::start(directory.path(), "trap '' HUP INT");
    for signal in [HANGUP, INTERRUPT] {
        assert_eq!(worker.disposition(signal), (true, false), "{signal}");
    }
    assert_eq!(worker.disposition(TERMINATE), (false, true));
    worker.signal("HUP");
    worker.signal("INT");
    worker.signal("TERM");
    assert_eq!(worker.ends().code(), Some(143), "{}", worker.log());
    let log = worker.log();
    assert!(log.contains("terminated: ") && !log.contains("terminal is gone") && !log.contains("interrupted"), "{log}");
    for (name, status) in [("HUP", 129), ("INT", 130)] {
        let mut worker = Waiting::start(directory.path(), "true");
        worker.signal(name);
        assert_eq!(worker.ends().code(), Some(status), "{}", worker.log());
    }
}

#[test]
fn a_worker_that_is_told_to_end_never_dies_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..40 {
        let mut worker = Waiting::start(directory.path(), "true");
        worker.signal("TERM");
        if number % 2 == 1 {
            worker.signal("TERM"); // immediately
        }
        let status = worker.ends();
        assert_eq!((status.code(), status.signal()), (Some(143), None), "the {number}th: {}", worker.log());
    }
}

/// Handlers that libraries register for the end of a process may meet threads that are still ending; the handler of one
/// library crashed one of 130 workers. So no handler is run, which is tested with a library that is loaded into the
/// programs.
#[test]
fn handlers_of_libraries_are_not_run_at_the_end() {
    let fixture = Fixture::new(6);
    let source = fixture.path("handler.c");
    let library = fixture.path("handler.so");
    fs::write(
        &source,
        r#"
        #include <stdlib.h>
        #include <unistd.h>
        static void say(const char *text, int length) { if (write(2, text, length) < 0) _exit(99); }
        static void last(void) { say("handler run\n", 12); }
        __attribute__((constructor)) static void first(void) { say("handler there\n", 14); atexit(last); }
        "#,
    )
    .unwrap();
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    expect(Command::new(compiler).args(["-shared", "-fPIC", "-o"]).args([&library, &source]), 0);
    let said = |command: &mut Command, status| {
        let output = expect(command.env("LD_PRELOAD", &library), status);
        assert!(text(&output).contains("handler there"), "{}", text(&output));
        text(&output)
    };
    assert!(said(&mut Command::new("true"), 0).contains("handler run"), "it is run where a process ends as usual");
    let list = fixture.plan(&fixture.path("out"), "tasks.json", &[]);
    let make = |list: &Path, status| said(program("edp-worker").arg("make").arg(list), status);
    let (good, bad) = (make(&list, 0), make(&fixture.path("none.json"), 2));
    let verify = said(edp_tests::coordinator().arg("verify").arg(&list), 0);
    for text in [good, bad, verify] {
        assert!(!text.contains("handler run"), "{text}");
    }
}
