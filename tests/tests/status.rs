//! Productions with a ledger: their status, the recipes that are sent again, and what survives.

use edp_protocol::recipe::{self, Recipe};
use edp_tests::broker::Broker;
use edp_tests::strace;
use edp_tests::{Fixture, Started, coordinator, count, expect, files, json, keeping_age, program, text, until};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Number of cells along the side of a tile. It is small, since the messages matter here.
const SIZE: usize = 6;

/// A plan, its destination and its ledger.
struct Case {
    fixture: Fixture,
    list: PathBuf,
    ledger: PathBuf,
    out: PathBuf,
}

impl Case {
    fn new() -> Case {
        let fixture = Fixture::new(SIZE);
        let out = fixture.path("out");
        let list = fixture.plan(&out, "tasks.json", &[]);
        Case { list, ledger: fixture.path("p.ledger"), out, fixture }
    }

    fn recipes(&self) -> Vec<Recipe> {
        recipe::parse_list("list", &fs::read(&self.list).unwrap()).unwrap()
    }

    /// Returns a command with the ledger as an option.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = coordinator();
        command.current_dir(self.fixture.path("")).args(words).arg("--ledger").arg(&self.ledger);
        command
    }

    /// Returns the command of a production in one process.
    fn run(&self) -> Command {
        let mut command = self.command(&["run", "--output", "json"]);
        command.arg(&self.list);
        command
    }

    fn status(&self) -> Value {
        json(&expect(&mut self.command(&["status", "--output", "json"]), 0))
    }

    /// Returns all granules as one undisturbed process without a ledger makes them.
    fn reference(&self) -> std::collections::BTreeMap<String, edp_protocol::Digest> {
        let out = self.fixture.path("reference");
        let list = self.fixture.plan(&out, "reference.json", &[]);
        expect(coordinator().arg("run").arg(list), 0);
        files(&out)
    }
}

#[test]
fn a_production_in_one_process_is_written_down_if_asked() {
    let case = Case::new();
    let all = case.recipes().len();
    assert_eq!(count(&json(&expect(&mut case.run(), 0)), "made"), all);
    assert_eq!(files(&case.out), case.reference());
    let status = case.status();
    assert_eq!((status["recipes"].as_u64(), status["states"]["done"].as_u64()), (Some(all as u64), Some(all as u64)));
    assert_eq!(status["workers"][0]["done"].as_u64(), Some(all as u64));
    assert_eq!(status["workers"][0]["at_work"].as_u64(), Some(0));
    let of_datasets = status["datasets"].as_array().unwrap().iter().map(|one| one["states"]["done"].as_u64().unwrap());
    assert_eq!(of_datasets.sum::<u64>(), all as u64);
    assert_eq!(status["production"], "default");
    assert!(!case.fixture.path("default.ledger").exists());
    assert_eq!(count(&json(&expect(&mut case.run(), 0)), "present"), all);
}

#[test]
fn the_status_for_people_has_counts_and_datasets() {
    let case = Case::new();
    let all = case.recipes().len();
    expect(&mut case.run(), 0);
    let table = text(&expect(&mut case.command(&["status"]), 0));
    assert!(table.contains(&format!("{all} of {all} settled")), "{table}");
    assert!(table.contains("SEA_SURFACE_HEIGHT_mon_mean latlon"), "{table}");
    // The production is over, so there is nothing to wait for.
    let line = text(&expect(&mut case.command(&["status", "--watch"]), 0));
    assert!(line.starts_with(&format!("{all} of {all} settled")), "{line}");
}

#[test]
fn one_granule_is_found_by_its_name_its_path_or_the_beginning_of_its_id() {
    let case = Case::new();
    expect(&mut case.run(), 0);
    let recipe = &case.recipes()[0];
    let id = &recipe.recipe.as_ref().unwrap().id;
    let name = recipe.granule.rsplit('/').next().unwrap();
    for text in [name, &recipe.granule, &id[..16]] {
        let one = json(&expect(&mut case.command(&["status", text, "--output", "json"]), 0));
        assert_eq!((one["id"].as_str(), one["state"].as_str()), (Some(id.as_str()), Some("done")));
        assert_eq!(one["attempts"][0]["outcome"], "done");
        assert_eq!(one["location"].as_str(), Some(recipe.granule.as_str()));
        assert_eq!(one["inputs"].as_array().unwrap().len(), recipe.recipe.as_ref().unwrap().inputs.len());
        assert!(!one["stages"].as_array().unwrap().is_empty());
        let bytes = fs::read(&recipe.granule).unwrap();
        assert_eq!(one["sha256"].as_str(), Some(edp_protocol::Digest::of(&bytes).as_str()));
        assert_eq!(one["recipe"]["granule"].as_str(), Some(recipe.granule.as_str()));
    }
    let described = text(&expect(&mut case.command(&["status", name]), 0));
    assert!(described.contains("attempt 1 by ") && described.contains(id.as_str()), "{described}");
}

#[test]
fn texts_that_fit_no_granule_or_several_are_errors() {
    let case = Case::new();
    expect(&mut case.run(), 0);
    let recipe = &case.recipes()[0];
    let name = recipe.granule.rsplit('/').next().unwrap();
    let wrong = text(&expect(&mut case.command(&["status", &name.replace("1992", "1892")]), 2));
    assert!(wrong.contains("no granule or recipe of this ledger; names like it: ") && wrong.contains(name), "{wrong}");
    let several = text(&expect(&mut case.command(&["status", "SEA_SURFACE_HEIGHT"]), 2));
    assert!(several.contains("granules have it in their names"), "{several}");
    let none = expect(coordinator().args(["status", "--ledger"]).arg(case.fixture.path("none")), 2);
    assert!(text(&none).contains("there is none"), "{}", text(&none));
}

#[test]
fn copies_of_a_ledger_are_ledgers() {
    let case = Case::new();
    expect(&mut case.run(), 0);
    let status = case.status();
    // The copy at the destination does not count as a foreign file there.
    let copy = case.out.join(".edp/default.ledger");
    let of_copy = json(&expect(coordinator().args(["status", "--output", "json", "--ledger"]).arg(copy), 0));
    assert_eq!(of_copy["states"], status["states"]);
    let verified = json(&expect(coordinator().args(["verify", "--output", "json"]).arg(&case.list), 0));
    assert_eq!(verified["extra"], serde_json::json!([]));
    // The file is complete without the files that SQLite keeps beside it.
    let alone = case.fixture.path("alone.ledger");
    fs::copy(&case.ledger, &alone).unwrap();
    let of_alone = json(&expect(coordinator().args(["status", "--output", "json", "--ledger"]).arg(alone), 0));
    assert_eq!(of_alone["states"], status["states"]);
}

/// A production of which some recipes have failed, since one of their inputs was cut short.
struct Failed {
    case: Case,
    /// The input, which is cut short.
    data: PathBuf,
    /// Its content before that.
    whole: Vec<u8>,
    count: u64,
    /// Path of a granule that was not made.
    granule: String,
}

impl Failed {
    fn new() -> Failed {
        let case = Case::new();
        let data = PathBuf::from(&case.recipes()[0].variables[0][0][0]);
        let whole = fs::read(&data).unwrap();
        keeping_age(&data, |path| fs::write(path, &whole[..whole.len() - 4])).unwrap();
        let count = count(&json(&expect(&mut case.run(), 3)), "failed") as u64;
        assert!(count > 0);
        let granule = case.status()["problems"][0]["granule"].as_str().unwrap().to_owned();
        Failed { case, data, whole, count, granule }
    }

    fn mend(&self) {
        keeping_age(&self.data, |path| fs::write(path, &self.whole)).unwrap();
    }
}

#[test]
fn what_failed_is_seen_with_its_reason() {
    let Failed { case, data, count: failed, granule, .. } = Failed::new();
    let status = case.status();
    assert_eq!(status["states"]["failed"].as_u64(), Some(failed));
    let problem = &status["problems"][0];
    assert!(problem["reason"].as_str().unwrap().contains(data.file_name().unwrap().to_str().unwrap()), "{problem}");
    let one = json(&expect(&mut case.command(&["status", "--output", "json", &granule]), 0));
    assert_eq!(
        (one["state"].as_str(), one["attempts"][0]["outcome"].as_str()),
        (Some("failed"), Some("permanent failure"))
    );
    expect(&mut case.command(&["status", "--watch"]), 3);
}

/// The input is repaired, but no retry is requested: failed recipes stay failed, and the program states how they are
/// sent again.
#[test]
fn what_failed_stays_so_until_a_retry_is_requested() {
    let production = Failed::new();
    production.mend();
    let Failed { case, count: failed, .. } = &production;
    let again = expect(&mut case.run(), 3);
    assert!(text(&again).contains("edp-coordinator retry"), "{}", text(&again));
    let dry = json(&expect(&mut case.command(&["retry", "--dry-run", "--output", "json"]), 0));
    assert_eq!(dry["retried"].as_array().unwrap().len() as u64, *failed);
    assert_eq!(case.status()["states"]["failed"].as_u64(), Some(*failed));
}

#[test]
fn one_failed_granule_is_sent_out_again_by_its_name() {
    let Failed { case, granule, .. } = Failed::new();
    // A granule that is done is not made again.
    let other = case.recipes().into_iter().find(|recipe| Path::new(&recipe.granule).exists()).unwrap();
    let refused = text(&expect(&mut case.command(&["retry", &other.granule]), 2));
    assert!(refused.contains("is done"), "{refused}");
    let first = text(&expect(&mut case.command(&["retry", &granule]), 0));
    assert!(first.contains("1 recipes go out again with the next"), "{first}");
    assert_eq!(case.status()["states"]["waiting"].as_u64(), Some(1));
}

#[test]
fn all_that_failed_is_sent_out_again_and_made() {
    let production = Failed::new();
    production.mend();
    let case = &production.case;
    expect(&mut case.command(&["retry"]), 0);
    expect(&mut case.run(), 0);
    assert_eq!(files(&case.out), case.reference());
    let nothing = text(&expect(&mut case.command(&["retry"]), 0));
    assert!(nothing.contains("nothing to be sent out again"), "{nothing}");
}

/// A production that is complete, and whose ledger is gone.
struct Forgotten {
    case: Case,
    all: usize,
    whole: std::collections::BTreeMap<String, edp_protocol::Digest>,
}

impl Forgotten {
    fn new() -> Forgotten {
        let case = Case::new();
        let all = case.recipes().len();
        expect(&mut case.run(), 0);
        let whole = files(&case.out);
        for end in ["", ".lock", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{end}", case.ledger.display()));
        }
        Forgotten { case, all, whole }
    }

    /// Returns the times at which the granules were written.
    fn times(&self) -> Vec<std::time::SystemTime> {
        self.whole.keys().map(|name| fs::metadata(self.case.out.join(name)).unwrap().modified().unwrap()).collect()
    }
}

#[test]
fn a_ledger_that_is_gone_is_restored_from_its_copy() {
    let production = Forgotten::new();
    let (Forgotten { case, all, .. }, before) = (&production, production.times());
    let run = expect(&mut case.run(), 0);
    assert!(text(&run).contains("going on from its copy"), "{}", text(&run));
    assert_eq!(case.status()["workers"][0]["done"].as_u64(), Some(*all as u64), "what happened is known");
    assert_eq!(production.times(), before);
}

#[test]
fn a_ledger_that_is_gone_with_its_copy_is_restored_from_the_granules() {
    let production = Forgotten::new();
    let (Forgotten { case, all, .. }, before) = (&production, production.times());
    fs::remove_dir_all(case.out.join(".edp")).unwrap();
    assert_eq!(count(&json(&expect(&mut case.run(), 0)), "present"), *all);
    assert_eq!(case.status()["workers"], serde_json::json!([]), "nobody had to look");
    assert_eq!(production.times(), before);
}

#[test]
fn a_copy_of_a_ledger_that_is_newer_than_the_destination_does_no_harm() {
    let Forgotten { case, whole, .. } = Forgotten::new();
    let victim = whole.keys().next().unwrap();
    fs::remove_file(case.out.join(victim)).unwrap();
    expect(&mut case.run(), 0);
    assert_eq!(files(&case.out), whole);
}

#[test]
fn the_ledger_of_another_production_is_refused() {
    let case = Case::new();
    expect(&mut case.run(), 0);
    let other = expect(case.run().args(["--production", "other"]), 2);
    assert!(text(&other).contains("belongs to production 'default'"), "{}", text(&other));
}

#[test]
fn too_many_failures_end_a_production_early() {
    let case = Case::new();
    for recipe in case.recipes() {
        for input in recipe.variables.values().flatten() {
            keeping_age(Path::new(&input[0]), |path| fs::write(path, b"no data")).unwrap();
        }
    }
    let run = expect(case.run().args(["--max-failure-share", "10", "--failure-sample", "2"]), 3);
    assert!(text(&run).contains("given up: ") && text(&run).contains("more than the 10 % allowed"), "{}", text(&run));
    let status = case.status();
    assert!(status["given_up"].as_str().unwrap().contains("10 %"), "{status}");
    let watched = text(&expect(&mut case.command(&["status", "--watch", "--output", "json"]), 3));
    assert!(watched.contains("given_up"), "{watched}");
    let settings = case.run().env("EDP_RUN__MAX_FAILURE_SHARE", "101").output().unwrap();
    assert_eq!(settings.status.code(), Some(2), "{}", text(&settings));
}

fn start(mut command: Command, log: &Path) -> Running {
    let file = fs::File::create(log).unwrap();
    let child = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    Running(Started(child), log.to_owned())
}

/// A process that is killed when this is dropped, with its log.
struct Running(Started, PathBuf);

impl Running {
    fn said(&self, text: &str) -> bool {
        fs::read_to_string(&self.1).unwrap().contains(text)
    }

    fn ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    fn ends(&mut self, status: i32) {
        let mut code = None;
        until("it ends", || {
            code = self.0.try_wait().unwrap();
            code.is_some()
        });
        assert_eq!(code.unwrap().code(), Some(status), "{}", fs::read_to_string(&self.1).unwrap());
    }
}

/// Stopped and killed again and again, a production in one process continues where it was, and blames no recipe.
#[test]
fn a_production_in_one_process_goes_on_after_signals() {
    let case = Case::new();
    let all = case.recipes().len();
    for (round, signal) in ["TERM", "TERM", "KILL", "TERM", "TERM", "TERM"].into_iter().enumerate() {
        let mut command = case.run();
        command.args(["--slots", "1"]);
        let mut run = start(command, &case.fixture.path(&format!("run-{round}.log")));
        until("granules are made", || files(&case.out).len() >= (round + 1).min(all) || run.ended());
        if run.ended() {
            break;
        }
        edp_tests::signal(run.0.id(), signal);
        until("it ends", || run.ended());
        // At any moment the ledger can be read.
        assert_eq!(case.status()["recipes"].as_u64(), Some(all as u64));
        assert_eq!(case.status()["states"]["failed"].as_u64(), Some(0));
    }
    expect(&mut case.run(), 0);
    assert_eq!(files(&case.out), case.reference());
    assert_eq!(case.status()["states"]["done"].as_u64(), Some(all as u64));
}

/// A production over a broker, whose coordinators may have ledgers of their own, as if they were on several machines.
struct Queued {
    case: Case,
    broker: Broker,
}

impl Queued {
    fn new() -> Queued {
        Queued { case: Case::new(), broker: Broker::start() }
    }

    fn over(&self, mut command: Command) -> Command {
        command.env("EDP_QUEUE__URL", self.broker.url("guest", "guest")).env("EDP_QUEUE__HEARTBEAT", "2");
        command
    }

    fn run(&self, ledger: &Path, log: &str) -> Running {
        let mut command = coordinator();
        command.current_dir(self.case.fixture.path("")).arg("run").arg(&self.case.list).arg("--queue");
        command.arg("--ledger").arg(ledger);
        start(self.over(command), &self.case.fixture.path(log))
    }

    fn status(&self, ledger: &Path) -> Option<Value> {
        let mut command = coordinator();
        command.args(["status", "--queue", "--output", "json", "--ledger"]).arg(ledger);
        let output = self.over(command).output().unwrap();
        (output.status.code() == Some(0)).then(|| json(&output))
    }

    fn worker(&self, log: &str) -> Running {
        let mut command = program("edp-worker");
        command.args(["serve", "--slots", "1", "--root"]).arg(self.case.fixture.path(""));
        start(self.over(command), &self.case.fixture.path(log))
    }

    /// Starts the first coordinator, and waits until all of its recipes are in the queue.
    fn begin(&self) -> Running {
        let all = self.case.recipes().len() as u64;
        let first = self.run(&self.case.ledger, "first.log");
        let queued = |status: Option<Value>| {
            status.is_some_and(|status| {
                status["states"]["under_way"].as_u64() == Some(all) && status["queues"]["recipes"]["messages"] == all
            })
        };
        until("all recipes are in the queue", || queued(self.status(&self.case.ledger)));
        first
    }
}

/// On one machine, the lock of the ledger shows at once that another coordinator has it.
#[test]
fn a_second_coordinator_on_the_same_ledger_stands_by() {
    let production = Queued::new();
    let _first = production.begin();
    let same = production.run(&production.case.ledger, "same.log");
    until("it stands by", || same.said("standing by"));
}

/// An input is broken, repaired, and its recipes are sent again while the coordinator is running.
#[test]
fn what_failed_over_a_queue_is_sent_out_again_while_the_coordinator_runs() {
    let production = Queued::new();
    let case = &production.case;
    let data = PathBuf::from(&case.recipes()[0].variables[0][0][0]);
    let whole = fs::read(&data).unwrap();
    let status = || production.status(&case.ledger);
    let mut first = production.begin();
    keeping_age(&data, |path| fs::write(path, &whole[..whole.len() - 4])).unwrap();
    let mut making = production.worker("worker-1.log");
    until("something fails", || status().is_some_and(|status| status["states"]["failed"] != 0));
    making.0.kill().unwrap();
    making.0.wait().unwrap();
    keeping_age(&data, |path| fs::write(path, &whole)).unwrap();
    let retried = expect(&mut case.command(&["retry"]), 0);
    assert!(text(&retried).contains("the coordinator at work on the ledger sends them"), "{}", text(&retried));
    until("they are sent", || status().is_some_and(|status| status["states"]["waiting"] == 0));
    let _making = production.worker("worker-2.log");
    first.ends(0);
    assert_eq!(files(&case.out), case.reference());
}

/// A second coordinator with a ledger of its own waits for the first one's place at the broker. It takes over when the
/// first has gone, and finds the granules that are done.
#[test]
fn a_second_coordinator_on_another_machine_takes_over() {
    let production = Queued::new();
    let case = &production.case;
    let all = case.recipes().len() as u64;
    let mut first = production.begin();
    let other = case.fixture.path("other.ledger");
    let status = || production.status(&other);
    let mut second = production.run(&other, "second.log");
    until("the second has its ledger", || status().is_some_and(|status| status["recipes"] == all));
    let mut making = production.worker("worker-1.log");
    let done = |status: Option<Value>| status.is_some_and(|status| status["states"]["done"] != 0);
    until("something is made", || done(production.status(&case.ledger)));
    making.0.kill().unwrap();
    making.0.wait().unwrap();
    let waits = status().unwrap();
    assert_eq!((waits["states"]["waiting"].as_u64(), waits["states"]["under_way"].as_u64()), (Some(all), Some(0)));
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let _making = production.worker("worker-2.log");
    second.ends(0);
    assert_eq!(files(&case.out), case.reference());
    assert_eq!(status().unwrap()["states"]["done"].as_u64(), Some(all));
}

#[test]
fn a_ledger_on_a_file_system_without_locks_is_refused() {
    if !strace::is_there() {
        return edp_tests::not_run(strace::NONE);
    }
    let case = Case::new();
    for error in ["ENOSYS", "EOPNOTSUPP", "ENOLCK"] {
        let words = strace::words("flock", &format!("error={error}"), None, &case.fixture.path("trace"));
        let refused = expect(&mut strace::beneath(&words, &case.run()), 2);
        let text = text(&refused);
        assert!(text.contains("p.ledger: its file system has no locks") && text.contains("--ledger"), "{text}");
    }
    assert!(!case.ledger.exists() && files(&case.out).is_empty());
}
