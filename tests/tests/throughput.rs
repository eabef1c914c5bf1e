//! Messages and ledger without granules: many workers, many tiny recipes, a real broker, a ledger on disk, and a
//! coordinator that is killed in the middle.

use edp_production::ledger::retries::Policy;
use edp_production::ledger::{self, Ledger, RecipeState, View};
use edp_queue::QueueSettings;
use edp_queue::{Link, QueueOptions};
use edp_tests::broker::Broker;
use edp_tests::null::{self, TimesMade};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;
use tokio::sync::watch;

/// Number of job slots of a worker. Workers are tasks of this process with connections of their own.
const SLOTS: u16 = 16;

/// Memory in KiB by which a coordinator may grow after a tenth of the recipes was made: in the longer test, this is a
/// fraction of the memory that the recipes take, 2 KiB each.
const GROWTH: u64 = 8 << 10;

/// The output of one coordinator process.
struct Life {
    /// Recipes settled, seconds since its start, present and largest memory in KiB.
    rows: Vec<(usize, f64, u64, u64)>,
    /// Number of recipes that were done when it began.
    before: usize,
    /// Seconds until everything was listed, and until the first outcome.
    seconds: [f64; 2],
}

impl Life {
    /// Reads the output of a coordinator until it ends, or has settled `until` recipes.
    fn follow(output: &mut BufReader<ChildStdout>, until: usize) -> Life {
        let mut life = Life { rows: Vec::new(), before: 0, seconds: [0.0; 2] };
        for line in output.lines().map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["listed", before, .., seconds, "s"] => {
                    (life.before, life.seconds[0]) = (before.parse().unwrap(), seconds.parse().unwrap());
                }
                ["first", .., seconds, "s"] => life.seconds[1] = seconds.parse().unwrap(),
                ["settled", settled, seconds, resident, highest] => {
                    let settled = settled.parse().unwrap();
                    let [resident, highest] = [resident, highest].map(|text| text.parse().unwrap());
                    life.rows.push((settled, seconds.parse().unwrap(), resident, highest));
                    if settled >= until {
                        break;
                    }
                }
                _ => panic!("{line}"),
            }
        }
        life
    }

    /// Returns the number of recipes per second from the first outcome on.
    fn rate(&self) -> f64 {
        self.rows.last().map_or(0.0, |row| (row.0 - self.before) as f64 / (row.1 - self.seconds[1]))
    }

    fn show(&self, title: &str) {
        println!(
            "{title}: {} done before; listed after {:.2} s, first outcome after {:.2} s, then {:.0} recipes/s",
            self.before,
            self.seconds[0],
            self.seconds[1],
            self.rate()
        );
        println!("{:>10} {:>8} {:>9} {:>9}", "settled", "s", "RSS KiB", "HWM KiB");
        for (settled, seconds, resident, highest) in &self.rows {
            println!("{settled:>10} {seconds:>8.2} {resident:>9} {highest:>9}");
        }
    }

    /// Checks that memory does not depend on the number of recipes.
    fn check_memory(&self, recipes: usize) {
        let after = self.rows.iter().filter(|row| row.0 - self.before >= recipes / 10);
        let resident: Vec<u64> = after.map(|row| row.2).collect();
        let grown = resident.iter().max().unwrap() - resident[0];
        assert!(grown < GROWTH, "memory has grown by {grown} KiB: {resident:?}");
    }
}

/// Prints how long `status` takes.
fn ask(ledger: &Path, recipes: usize) {
    let begun = Instant::now();
    let overview = View::open(ledger).unwrap().overview(ledger::now(), 10).unwrap();
    assert_eq!(overview.count(|_| true), recipes as u64);
    let settled = overview.count(RecipeState::is_settled);
    println!("status, with {settled} settled: {:.3} s", begun.elapsed().as_secs_f64());
}

/// Prints the sizes of the ledger and of a copy, and how long copying takes.
fn weigh(ledger: &Path) {
    let bytes = |path: &Path| std::fs::metadata(path).unwrap().len() as f64 / 1e6;
    let copy = ledger.with_extension("copy");
    let begun = Instant::now();
    View::open(ledger).unwrap().copy(&copy).unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    println!("ledger {:.1} MB; its copy {:.1} MB, made in {seconds:.2} s", bytes(ledger), bytes(&copy));
}

/// Has recipes made by as many workers, by two coordinators one after the other.
fn produce(recipes: usize, workers: usize) {
    let broker = Broker::start();
    let directory = tempfile::tempdir().unwrap();
    let ledger = directory.path().join("ledger");
    let url = broker.url("guest", "guest");
    let start = || -> (Child, BufReader<ChildStdout>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_null_coordinator"));
        command.args([&url, "null", ledger.to_str().unwrap(), &recipes.to_string()]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        (child, output)
    };
    let tally: &'static TimesMade = Box::leak(Box::default());
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut child, mut output) = start();
    let count = workers;
    let workers: Vec<_> = (0..workers)
        .map(|i| {
            let settings = QueueSettings { url: Some(url.parse().unwrap()), ..QueueSettings::default() };
            let link = Link::amqp(QueueOptions::from_settings(&settings, "null".parse().unwrap()).unwrap()).unwrap();
            runtime.spawn(null::work(link, format!("null-{i}"), SLOTS, tally, stopped.clone()))
        })
        .collect();
    let first = Life::follow(&mut output, recipes * 6 / 10);
    ask(&ledger, recipes);
    child.kill().unwrap();
    child.wait().unwrap();
    first.show("first coordinator, killed");
    let (mut child, mut output) = start();
    let second = Life::follow(&mut output, usize::MAX);
    second.show("second coordinator");
    assert!(child.wait().unwrap().success(), "the second coordinator");
    stop.send_replace(true);
    runtime.block_on(async {
        for worker in workers {
            worker.await.unwrap().unwrap();
        }
    });
    let (distinct, task_messages) = tally.counts();
    println!("{count} workers of {SLOTS} slots: {task_messages} task messages for {distinct} recipes");
    // No recipe is lost, and at most those in transit when the coordinator was killed are made twice.
    assert_eq!(distinct, recipes);
    assert!(task_messages <= recipes as u64 + 256, "{task_messages} task messages");
    assert!(second.before >= recipes / 2 && second.before < recipes);
    ask(&ledger, recipes);
    weigh(&ledger);
    let done = Ledger::open(&ledger, "null", Policy::default()).unwrap().counts().unwrap();
    assert_eq!((done.of(RecipeState::Done), done.all()), (recipes as u64, recipes as u64));
    first.check_memory(recipes);
    second.check_memory(recipes);
}

#[test]
fn thousands_of_recipes_on_a_broker() {
    produce(5000, 10);
}

#[test]
#[ignore = "minutes; part of `make check-all`"]
fn a_hundred_thousand_recipes_on_a_broker() {
    produce(100_000, 10);
}

/// As many as Release 6 has, and 400 job slots.
#[test]
#[ignore = "many minutes; part of `make check-all`"]
fn half_a_million_recipes_without_granules() {
    produce(540_000, 25);
}
