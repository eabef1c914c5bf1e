//! Somebody who may publish sends meaningless and false messages between the good ones.

use crate::fleet::Fleet;
use crate::scenario::{Dice, ScenarioEnd};
use edp_protocol::Digest;
use edp_protocol::message::FailureKind;
use edp_protocol::recipe::{self, Recipe};
use edp_protocol::wire::{self, CONTENT_TYPE, Done, Failed, JSON, Outcome, TaskEvent, TaskMessage};
use edp_tests::broker::Broker;
use edp_tests::{task_naming, until};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, PublisherConfirm};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

type Ran = Result<ScenarioEnd, &'static str>;

/// Numbers of messages in `make test` and in `make chaos`.
const FEW: usize = 200;
const MANY: usize = 10_000;

/// Memory in KiB that a process may take in addition to its use when a fifth of the granules was made. One message of
/// the largest size has 4 MiB.
const GROWTH: u64 = 64 << 10;

/// Number of bytes of a false digest, which is as large as a body permits.
const DIGEST: usize = 3_900_000;

pub(crate) fn few(fleet: &mut Fleet<'_>, broker: &mut Broker, dice: &mut Dice) -> Ran {
    hostile(fleet, broker, dice, FEW)
}

pub(crate) fn many(fleet: &mut Fleet<'_>, broker: &mut Broker, dice: &mut Dice) -> Ran {
    hostile(fleet, broker, dice, MANY)
}

/// Number of messages whose confirmations are awaited together.
const AT_ONCE: usize = 100;

/// Half of the messages are there before the workers start; the others come while granules are made. Nothing fails,
/// every granule is made, and no process takes more memory.
fn hostile(fleet: &mut Fleet<'_>, broker: &Broker, dice: &mut Dice, count: usize) -> Ran {
    let mut coordinator = fleet.coordinator();
    until("the queues are there", || fleet.depth(broker) > 0);
    let granules = fleet.model.granules();
    let forger = Forger::new(fleet);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut sent, mut memory) = (0, Memory::default());
    runtime.block_on(async {
        let connection =
            Connection::connect(&format!("{}%2f", fleet.url), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        while coordinator.ended().is_none() {
            let made = fleet.made();
            let due = (count / 2 + count * (made + 8) / granules / 2).min(count);
            while sent < due {
                let mut confirms = Vec::new();
                while confirms.len() < AT_ONCE && sent < due {
                    confirms.push(forger.message(sent, dice).publish(&channel).await);
                    sent += 1;
                }
                for confirm in confirms {
                    confirm.await.unwrap();
                }
            }
            fleet.refill();
            if made >= granules / 5 {
                let workers = fleet.workers.iter().map(|worker| worker.id());
                memory.look(workers.chain([coordinator.id()]));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        connection.close(200, ShortString::from("done")).await.unwrap();
    });
    println!("     {sent} hostile messages; KiB of memory, at a fifth and at most: {:?}", memory.0);
    assert!(sent >= count * 9 / 10, "{sent} of {count} messages");
    for (first, most) in memory.0.values() {
        assert!(most <= &(first + GROWTH), "memory: {:?}", memory.0);
    }
    // A worker that has not made a granule yet may take such task messages for its own fault, and ends in an orderly
    // way.
    assert!(fleet.gone.iter().all(|status| status.code() == Some(4)), "{:?}: {}", fleet.gone, fleet.logs());
    let log = coordinator.log();
    for why in ["does not have", "was not published", "is not there", "neither an outcome nor a task message"] {
        assert!(log.contains(why), "{why}: {log}");
    }
    // Each kind of message is counted, and few are logged.
    assert!(log.lines().count() < 200, "{log}");
    ScenarioEnd::good(coordinator, sent)
}

/// The resident memory of processes in KiB by their ids: the first value and the largest.
#[derive(Default)]
struct Memory(BTreeMap<u32, (u64, u64)>);

impl Memory {
    fn look(&mut self, processes: impl Iterator<Item = u32>) {
        for process in processes {
            let Ok(status) = fs::read_to_string(format!("/proc/{process}/status")) else { continue };
            let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmRSS:")) else { continue };
            let resident = line.trim().trim_end_matches(" kB").parse().unwrap();
            let (_, most) = self.0.entry(process).or_insert((resident, resident));
            *most = resident.max(*most);
        }
    }
}

/// A message to an exchange of the production.
struct Forged {
    exchange: String,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Forged {
    async fn publish(self, channel: &Channel) -> PublisherConfirm {
        let mut headers = FieldTable::default();
        for (name, value) in self.headers {
            headers.insert(ShortString::from(name), AMQPValue::LongString(LongString::from(value.as_str())));
        }
        let properties = BasicProperties::default()
            .with_content_type(ShortString::from(self.content_type))
            .with_delivery_mode(2)
            .with_headers(headers);
        let (exchange, key) = (ShortString::from(self.exchange.as_str()), ShortString::from(""));
        let options = BasicPublishOptions::default();
        channel.basic_publish(exchange, key, options, &self.body, properties).await.unwrap()
    }
}

/// A maker of messages from what everybody can see of a production.
struct Forger {
    /// Exchanges of task messages, of outcomes, and of dead messages.
    exchanges: [String; 3],
    recipes: Vec<Recipe>,
    directory: std::path::PathBuf,
}

impl Forger {
    fn new(fleet: &Fleet<'_>) -> Forger {
        Forger {
            exchanges: ["recipes", "results", "dead"].map(|queue| fleet.queue(queue)),
            recipes: recipe::parse_list("list", &fs::read(&fleet.list).unwrap()).unwrap(),
            directory: fleet.path("hostile"),
        }
    }

    fn message(&self, number: usize, dice: &mut Dice) -> Forged {
        let good = &self.recipes[dice.below(self.recipes.len())];
        let [tasks, results, dead] = &self.exchanges;
        let to = |exchange: &String, content_type, body| Forged {
            exchange: exchange.clone(),
            content_type,
            headers: Vec::new(),
            body,
        };
        let task = |task: TaskMessage| to(tasks, CONTENT_TYPE, task.encode().unwrap());
        let outcome = |outcome: Outcome| to(results, CONTENT_TYPE, outcome.encode().unwrap());
        match number % 20 {
            0 => to(tasks, "text/plain", b"nonsense".to_vec()),
            1 => to(results, CONTENT_TYPE, (0..200).map(|_| dice.below(256) as u8).collect()),
            2 => {
                let mut body = task_naming(good, &good.plan().unwrap().id).encode().unwrap();
                body[4] = 1;
                to(if number.is_multiple_of(40) { tasks } else { results }, CONTENT_TYPE, body)
            }
            // Task messages that name no recipe, or another one than they contain.
            3 => task(task_naming(good, "")),
            4 => task(task_naming(
                good,
                &self.recipes[dice.below(self.recipes.len())].plan().unwrap().id.replace('a', "b"),
            )),
            5 => {
                let mut edited = good.clone();
                edited.dynamic_metadata.summary = format!("of message {number}");
                task(task_naming(&edited, &good.plan().unwrap().id))
            }
            // Task messages that nobody has planned: outside of the roots, within them, and of another build.
            6 | 7 => task(own(&other(good, number, Path::new("/nowhere")))),
            8 => {
                let task = task(own(&other(good, number, &self.directory)));
                Forged { headers: vec![(wire::BUILD_HEADER, "another".into())], ..task }
            }
            9 if number.is_multiple_of(200) => {
                let mut spelled = other(good, number, &self.directory.join(number.to_string()));
                let slashes = "/".repeat(2 + number / 200);
                for place in [&mut spelled.ecco_grid_loc, &mut spelled.ecco_metadata_loc] {
                    *place = place.as_deref().map(|place| place.replacen("/model/", &format!("/model{slashes}"), 1));
                }
                task(own(&spelled))
            }
            // Digests that are as large as a body permits. There are few, since the broker needs time for them.
            10 if number % 400 == 10 => to(tasks, JSON, with_digest(good)),
            11 if number % 400 == 11 => to(results, CONTENT_TYPE, large_report(good)),
            // Outcomes of recipes that do not exist, of attempts that were never sent, and of granules that are not
            // there.
            12 => outcome(said(&format!("{:064x}", number), 1, number, TaskEvent::Started)),
            13 => outcome(said(&format!("{:064x}", number), 1, number, done(7))),
            14 => outcome(said(&good.plan().unwrap().id, 1000 + number as u32, number, failed())),
            15 => outcome(said(&good.plan().unwrap().id, 900, number, done(7))),
            16 => outcome(said(&good.plan().unwrap().id, 1, 0, done(7))),
            // A true outcome, sent again by somebody else.
            17 => outcome(match fs::read(&good.granule) {
                Ok(bytes) => {
                    let sha256 = Digest::of(&bytes).as_str().to_owned();
                    let (location, size) = (good.granule.clone(), bytes.len() as u64);
                    let done = Done { already: true, location, size, sha256, ..Done::default() };
                    said(&good.plan().unwrap().id, 1, 0, TaskEvent::Done(done))
                }
                Err(_) => said("", 1, number, TaskEvent::Started),
            }),
            18 => to(dead, CONTENT_TYPE, task_naming(good, &"0".repeat(64)).encode().unwrap()),
            _ => to(dead, JSON, serde_json::to_vec(&other(good, number, Path::new("/nowhere"))).unwrap()),
        }
    }
}

fn own(recipe: &Recipe) -> TaskMessage {
    task_naming(recipe, &recipe.plan().unwrap().id)
}

/// Returns a good recipe for another destination.
fn other(good: &Recipe, number: usize, root: &Path) -> Recipe {
    let mut other = good.clone();
    let below = good.granule_below_root().unwrap().to_owned();
    other.granule = root.join(below).display().to_string();
    other.dynamic_metadata.summary = format!("of message {number}");
    other.change(|plan| plan.roots.destination = root.display().to_string()).unwrap();
    other
}

fn said(recipe_id: &str, attempt: u32, worker: usize, event: TaskEvent) -> Outcome {
    let build = edp_engine::libraries::fingerprint().to_string();
    Outcome { recipe_id: recipe_id.into(), attempt, worker: format!("forger-{worker}"), build, event }
}

fn done(size: u64) -> TaskEvent {
    TaskEvent::Done(Done { size, sha256: "0a".repeat(32), ..Done::default() })
}

fn failed() -> TaskEvent {
    TaskEvent::Failed(Failed::because(FailureKind::Permanent, "forged"))
}

/// Returns a recipe with a false digest.
fn with_digest(good: &Recipe) -> Vec<u8> {
    let mut json = serde_json::to_value(good).unwrap();
    json["recipe"]["digests"]["grid"] = "a".repeat(DIGEST).into();
    serde_json::to_vec(&json).unwrap()
}

/// Returns an outcome of a granule with a false SHA-256. It is encoded by hand, since the program does not write such.
fn large_report(good: &Recipe) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = vec![0xfc];
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    };
    let [id, worker, build] = [good.plan().unwrap().id.as_str(), "forger", "b"].map(text);
    let digest = "a".repeat(DIGEST);
    let (place, sha256) = (text("place"), text(&digest));
    // Attempt 1; the event `done`, the granule was not there before and replaces no earlier version; 7 bytes; no lists.
    [&b"EDPW\x02\x02"[..], &id, &[1], &worker, &build, &[1, 0, 0], &place, &[7], &sha256, &[0; 4]].concat()
}
