//! The rate of messages and ledger without granules, by the number of workers and of their job slots.
//!
//! The workers make nothing, so the time is that of the queue, the ledger and the coordinator. What a real worker needs
//! for a granule comes on top in each slot, and at the same time in all others.

use edp_queue::{Link, QueueOptions, QueueSettings};
use edp_tests::broker::Broker;
use edp_tests::null::{self, TimesMade};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use tokio::sync::watch;

/// Number of recipes of each production.
const RECIPES: usize = 4000;

fn main() {
    let broker = Broker::start();
    println!("| workers | slots of each | recipes a second |\n|---|---|---|");
    for (workers, slots) in [(1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (4, 1), (4, 4), (16, 1), (16, 16)] {
        println!("| {workers} | {slots} | {:.0} |", rate(&broker, workers, slots));
    }
}

/// Returns the number of recipes that are settled in a second, from the first one on.
fn rate(broker: &Broker, workers: usize, slots: u16) -> f64 {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let production = format!("null-{workers}-{slots}");
    let url = broker.url("guest", "guest");
    let mut coordinator = Command::new(env!("CARGO_BIN_EXE_null_coordinator"))
        .args([&url, &production])
        .arg(directory.path().join("ledger"))
        .arg(RECIPES.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the coordinator");
    let output = BufReader::new(coordinator.stdout.take().expect("its output"));
    let tally: &'static TimesMade = Box::leak(Box::default());
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let serving: Vec<_> = (0..workers)
        .map(|number| {
            let settings = QueueSettings { url: Some(url.parse().expect("a URL")), ..QueueSettings::default() };
            let options = QueueOptions::from_settings(&settings, production.parse().expect("a name")).expect("options");
            let link = Link::amqp(options).expect("a link");
            runtime.spawn(null::work(link, format!("null-{number}"), slots, tally, stopped.clone()))
        })
        .collect();
    // Seconds since the coordinator's start until the first recipe was settled, and the last.
    let (mut first, mut last) = (0.0, 0.0);
    for line in output.lines().map_while(Result::ok) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["first", .., seconds, "s"] => first = seconds.parse::<f64>().expect("seconds"),
            ["settled", _, seconds, ..] => last = seconds.parse::<f64>().expect("seconds"),
            _ => {}
        }
    }
    assert!(coordinator.wait().expect("the coordinator").success(), "the coordinator failed");
    stop.send_replace(true);
    runtime.block_on(async {
        for worker in serving {
            worker.await.expect("a worker that does not panic").expect("a worker");
        }
    });
    assert_eq!(tally.counts().0, RECIPES);
    RECIPES as f64 / (last - first)
}
