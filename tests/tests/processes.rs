//! Granules that are made in several processes: their bytes are those of one process, whatever happens to the processes.

use edp_program::telemetry::trace::recipe_trace;
use edp_protocol::Digest;
use edp_tests::broker::Broker;
use edp_tests::collector::{Collector, Span};
use edp_tests::{Site, Started, coordinator, count, expect, files, json, program, signal, text, until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Returns a command that makes a list in two processes.
fn make(list: &Path) -> Command {
    let mut command = program("edp-worker");
    command.arg("make").arg(list).args(["--slots", "2", "--processes", "2", "--output", "json"]);
    command
}

/// A production that is running, and the making processes that it had so far.
struct Production {
    main: Started,
    makers: BTreeSet<u32>,
}

impl Production {
    fn start(command: &mut Command) -> Production {
        let main = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Production { main: Started(main), makers: BTreeSet::new() }
    }

    /// Returns the making processes that there are now.
    fn makers(&mut self) -> Vec<u32> {
        let parent = format!("PPid:\t{}\n", self.main.id());
        let running = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let path = entry.ok()?.path();
            let id = path.file_name()?.to_str()?.parse().ok()?;
            let is_own = fs::read_to_string(path.join("status")).ok()?.contains(&parent);
            let arguments = fs::read(path.join("cmdline")).ok()?;
            (is_own && arguments.ends_with(b"\0granule-maker\0")).then_some(id)
        });
        let running: Vec<u32> = running.collect();
        self.makers.extend(&running);
        running
    }

    fn has_ended(&mut self) -> bool {
        self.main.try_wait().unwrap().is_some()
    }

    /// Waits until there are several making processes.
    fn is_shared(&mut self) {
        until("two processes make granules", || self.makers().len() > 1 || self.has_ended());
        assert!(self.makers.len() > 1, "it had only {:?}", self.makers);
    }

    /// Freezes the making processes while one of them writes a granule.
    fn catch(&mut self, out: &Path) -> Vec<u32> {
        let mut caught = Vec::new();
        until("a process is caught writing", || {
            if parts(out).is_empty() {
                return false;
            }
            let makers = self.makers();
            for maker in &makers {
                signal(*maker, "STOP");
                let stat = format!("/proc/{maker}/stat");
                until("it is frozen", || {
                    fs::read_to_string(&stat).unwrap().rsplit(") ").next().unwrap().starts_with('T')
                });
            }
            // Another process, which started just now, may be the one that writes.
            if !parts(out).iter().any(|name| makers.iter().any(|maker| is_written_by(name, *maker))) {
                makers.iter().for_each(|maker| signal(*maker, "CONT"));
                return false;
            }
            caught = makers;
            true
        });
        caught
    }

    /// Waits for the end of the production and of all processes that it had.
    fn ends(mut self, status: i32) -> Output {
        until("the production ends", || self.has_ended());
        self.are_gone();
        let mut output = Output { status: self.main.wait().unwrap(), stdout: Vec::new(), stderr: Vec::new() };
        std::io::copy(&mut self.main.stdout.take().unwrap(), &mut output.stdout).unwrap();
        std::io::copy(&mut self.main.stderr.take().unwrap(), &mut output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", text(&output));
        output
    }

    fn are_gone(&self) {
        until("the making processes end", || {
            self.makers.iter().all(|maker| {
                let name = fs::read(format!("/proc/{maker}/cmdline")).unwrap_or_default();
                !name.ends_with(b"\0granule-maker\0")
            })
        });
    }
}

fn parts(out: &Path) -> Vec<String> {
    files(out).into_keys().filter(|name| name.ends_with(".part")).collect()
}

/// Returns true if the name of a partial file is that of a process: it ends with `-PROCESS-UNIQUE.part`.
fn is_written_by(name: &str, process: u32) -> bool {
    name.rsplit('-').nth(1) == Some(&format!("{process:x}"))
}

#[test]
fn several_processes_make_what_one_makes() {
    let site = Site::new(24);
    let (list, out) = site.plan("make");
    let mut production = Production::start(&mut make(&list));
    production.is_shared();
    let report = json(&production.ends(0));
    assert_eq!(count(&report, "made"), site.reference.len());
    // Outcomes are complete: stages and digests are in the report.
    for entry in report["entries"].as_array().unwrap() {
        let digest = Digest::of(&fs::read(entry["granule"].as_str().unwrap()).unwrap());
        assert_eq!((entry["sha256"].as_str(), &entry["stages"][0]["name"]), (Some(digest.as_str()), &"make".into()));
    }
    site.assert_whole(&out);
    assert_eq!(count(&json(&expect(&mut make(&list), 0)), "present"), site.reference.len());
    let (list, out) = site.plan("run");
    let mut command = coordinator();
    command.arg("run").arg(&list).arg("--ledger").arg(site.fixture.path("ledger"));
    expect(command.env("EDP_RUN__PROCESSES", "3").env("EDP_RUN__SLOTS", "3"), 0);
    site.assert_whole(&out);
}

#[test]
fn a_making_process_that_dies_costs_an_attempt_and_nothing_else() {
    let site = Site::new(24);
    let (list, out) = site.plan("out");
    let mut production = Production::start(&mut make(&list));
    let caught = production.catch(&out);
    caught.iter().for_each(|maker| signal(*maker, "KILL"));
    until("others take their place", || {
        production.makers().iter().any(|maker| !caught.contains(maker)) || production.has_ended()
    });
    let report = json(&production.ends(0));
    let again = report["entries"].as_array().unwrap().iter().filter(|entry| entry["attempts"].as_u64() > Some(1));
    assert!(again.count() > 0, "{report:#}");
    site.assert_whole(&out);
}

/// The scheduler, or a terminal that is closed, signals all processes of a job at once.
#[test]
fn signals_to_all_processes_end_the_production_in_order() {
    let site = Site::new(24);
    for (name, status) in [("TERM", 143), ("HUP", 129)] {
        let (list, out) = site.plan(name);
        let mut production = Production::start(&mut make(&list));
        production.is_shared();
        until("a granule is made", || files(&out).keys().any(|name| name.ends_with(".nc")));
        production.makers().iter().for_each(|maker| signal(*maker, name));
        signal(production.main.id(), name);
        let report = json(&production.ends(status));
        // None of them died of it.
        let reasons = report["entries"].as_array().unwrap().iter().filter_map(|entry| entry["reason"].as_str());
        assert!(reasons.clone().all(|reason| reason == "the production was stopped before"), "{report:#}");
        assert_eq!(parts(&out), [""; 0]);
        expect(&mut make(&list), 0);
        site.assert_whole(&out);
    }
}

#[test]
fn making_processes_end_with_a_worker_that_is_killed() {
    let site = Site::new(24);
    let (list, out) = site.plan("out");
    let mut production = Production::start(&mut make(&list));
    production.is_shared();
    until("a granule is made", || files(&out).keys().any(|name| name.ends_with(".nc")));
    production.main.kill().unwrap();
    production.main.wait().unwrap();
    production.are_gone();
    expect(&mut make(&list), 0);
    site.assert_whole(&out);
}

#[test]
fn the_spans_of_making_processes_belong_to_the_traces_of_their_recipes() {
    let site = Site::new(6);
    let (list, _) = site.plan("out");
    let collector = Collector::start();
    expect(make(&list).env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()), 0);
    let recipes: Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
    let spans = collector.spans();
    for recipe in recipes.as_array().unwrap() {
        let trace = recipe_trace("default", recipe["recipe"]["id"].as_str().unwrap()).to_string();
        let of_trace: Vec<&Span> = spans.iter().filter(|span| span.trace == trace).collect();
        let named = |name: &str| of_trace.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}"));
        let (process, making, commit) = (named("process recipes"), named("making process"), named("commit"));
        assert_eq!((&making.parent, &commit.parent), (&process.id, &making.id));
        let instance = |span: &Span| span.resource["service.instance.id"].clone();
        assert_ne!(instance(process), instance(making));
    }
}

/// A worker with several processes drains, and reads and writes below its roots only.
#[test]
fn a_worker_on_a_broker_makes_granules_in_several_processes() {
    let site = Site::new(24);
    let broker = Broker::start();
    let url = broker.url("guest", "guest");
    let (list, out) = site.plan("out");
    let mut command = coordinator();
    command.current_dir(site.fixture.path("")).env("EDP_QUEUE__URL", &url);
    let coordinator = Production::start(command.arg("run").arg(&list).args(["--queue", "--output", "json"]));
    let serve = || {
        let mut command = program("edp-worker");
        command.env("EDP_QUEUE__URL", &url).args(["serve", "--slots", "4", "--processes", "2", "--root"]);
        Production::start(command.arg(site.fixture.path("")))
    };
    let mut first = serve();
    first.is_shared();
    first.makers().iter().for_each(|maker| signal(*maker, "TERM"));
    signal(first.main.id(), "TERM");
    first.ends(143);
    let mut second = serve();
    let report = json(&coordinator.ends(0));
    assert_eq!(count(&report, "made"), site.reference.len());
    second.makers();
    signal(second.main.id(), "TERM");
    second.ends(143);
    site.assert_whole(&out);
}

#[test]
fn a_making_process_is_started_by_the_program_only() {
    for mut command in [program("edp-worker"), coordinator()] {
        let output = expect(command.arg("granule-maker").stdin(Stdio::null()), 2);
        assert!(text(&output).contains("is started by this program itself"), "{}", text(&output));
    }
}
