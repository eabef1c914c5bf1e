//! A worker that serves for a long time: it handles thousands of granules of many sets of resources, with as many
//! hostile task messages between them, and it does not grow.

use edp_engine::resources;
use edp_protocol::Location;
use edp_protocol::message::FailureKind;
use edp_protocol::recipe::{self, Recipe};
use edp_protocol::wire::{self, Failed, Outcome, TaskEvent};
use edp_queue::{Link, Message, Publisher, Queue};
use edp_store::Stores;
use edp_tests::Fixture;
use edp_worker::service::Worker;
use edp_worker::service::allowed_roots::AllowedRoots;
use edp_worker::service::serve::{Service, WorkerEnd, serve};
use edp_worker::service::status::SlotMonitor;
use futures_util::FutureExt as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest time that a granule may take on a busy machine before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(300);

/// Number of task messages in the queue and with the worker at one time.
const WINDOW: usize = 16;

/// Resources of the system that this process uses.
#[derive(Debug, Clone, Copy)]
struct Taken {
    /// Resident memory in KiB.
    memory: u64,
    descriptors: usize,
    threads: usize,
}

impl Taken {
    fn now() -> Taken {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let entries = |directory: &str| fs::read_dir(directory).unwrap().count();
        Taken {
            memory: memory.trim().trim_end_matches(" kB").parse().unwrap(),
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
        }
    }
}

/// A configuration, metadata, a grid and mapping factors whose content differs from that of all other sets.
struct Set {
    locations: [String; 4],
    digests: recipe::Digests,
}

/// Links the files of a directory into a new one, except one file, which gets other content.
fn variant(from: &Path, to: &Path, other: &Path, content: &[u8]) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            variant(&from, &to, Path::new(""), b"");
        } else {
            fs::hard_link(&from, &to).unwrap();
        }
    }
    if !other.as_os_str().is_empty() {
        let path = to.join(other);
        if path.exists() {
            fs::remove_file(&path).unwrap();
        }
        fs::write(path, content).unwrap();
    }
}

impl Set {
    fn new(fixture: &Fixture, number: usize) -> Set {
        let (demo, stores) = (&fixture.demo, Stores::default());
        let place = |name: &str| fixture.path(&format!("sets/{number}/{name}"));
        let more = |path: &Path, text: String| [fs::read(path).unwrap(), text.into_bytes()].concat();
        fs::create_dir_all(place("")).unwrap();
        let configuration = place("config.yaml");
        fs::write(&configuration, more(&demo.configuration, format!("\n# set {number}\n"))).unwrap();
        let json = fs::read_dir(&demo.metadata).unwrap().map(|entry| entry.unwrap().path());
        let json = json.filter(|path| path.extension().is_some_and(|end| end == "json")).min().unwrap();
        let spaces = format!("\n{}\n", " ".repeat(number));
        variant(&demo.metadata, &place("metadata"), Path::new(json.file_name().unwrap()), &more(&json, spaces));
        let list = "available_diagnostics.log";
        let listed = more(&demo.grid.join(list), format!("set {number}\n"));
        variant(&demo.grid, &place("grid"), Path::new(list), &listed);
        // A level beyond all levels of the grid, which is not read.
        let level = format!("land_mask/ecco_latlon_land_mask_{}.xz", 1000 + number);
        variant(&demo.factors, &place("factors"), Path::new(&level), b"");
        let text = |path: PathBuf| path.display().to_string();
        let locations = [configuration, place("metadata"), place("grid"), place("factors")].map(text);
        let [configuration, metadata, grid, factors] = &locations;
        let digests = recipe::Digests {
            configuration: resources::configuration_digest(configuration, &stores).unwrap(),
            metadata: resources::metadata_digest(metadata, &stores).unwrap(),
            grid: resources::grid_digest(grid, &stores).unwrap(),
            factors: Some(resources::factors_digest(factors, &stores).unwrap()),
        };
        Set { locations, digests }
    }

    /// Returns a recipe with the resources of this set, for a granule of this number.
    fn recipe(&self, of: &Recipe, number: usize) -> Recipe {
        let mut recipe = of.clone();
        let below = recipe.granule_below_root().unwrap().to_owned();
        let [configuration, metadata, grid, factors] = self.locations.clone();
        recipe.ecco_cfg_loc = Some(configuration);
        recipe.ecco_metadata_loc = Some(metadata);
        recipe.ecco_grid_loc = Some(grid);
        recipe.ecco_mapping_factors_loc = recipe.ecco_mapping_factors_loc.map(|_| factors);
        let plan = recipe.recipe.as_mut().unwrap();
        recipe.granule = format!("{}/{number}/{below}", plan.roots.destination);
        let factors = plan.digests.factors.as_ref().and(self.digests.factors.clone());
        plan.digests = recipe::Digests { factors, ..self.digests.clone() };
        let id = recipe.computed_id().unwrap();
        recipe.recipe.as_mut().unwrap().id = id;
        recipe
    }
}

/// Sends the task message of a recipe, and before it a hostile one, such as no coordinator sends.
async fn send(task_messages: &Publisher, recipe: &Recipe, number: usize) {
    task_messages.publish(hostile(recipe, number)).await.unwrap();
    task_messages.publish(edp_tests::task(recipe)).await.unwrap();
}

/// Returns a message that somebody might publish who has seen a good recipe.
fn hostile(good: &Recipe, number: usize) -> Message {
    let task = |recipe: &Recipe, id: &str| {
        Message::new(edp_tests::task_naming(recipe, id).encode().unwrap(), wire::CONTENT_TYPE, "")
    };
    let mut outside = good.clone();
    outside.granule = "/nowhere/granule.nc".into();
    outside.dynamic_metadata.summary = format!("hostile {number}");
    outside.change(|plan| plan.roots.destination = "/nowhere".into()).unwrap();
    match number % 7 {
        0 => Message::new(vec![b'x'; number % 5000], "text/plain", ""),
        1 => task(good, ""),
        2 => task(good, &format!("{number:064x}")),
        3 => {
            let mut json = serde_json::to_value(good).unwrap();
            // Only now and then, since it is as large as a message may be.
            json["recipe"]["digests"]["grid"] = "a".repeat(if number % 700 == 3 { 3_900_000 } else { 3900 }).into();
            Message::new(serde_json::to_vec(&json).unwrap(), wire::JSON, "")
        }
        4 => {
            let good = edp_tests::task(good);
            Message::new(good.body[..good.body.len() - 1].to_vec(), wire::CONTENT_TYPE, "")
        }
        5 => {
            let mut message = edp_tests::task(&outside);
            message.headers.insert(wire::BUILD_HEADER.into(), format!("of {number}"));
            message
        }
        _ => edp_tests::task(&outside),
    }
}

/// Lets one worker make granules. Returns the use of resources by this process after the first `warm` of them, and then
/// after every hundred.
async fn soak(recipes: impl Iterator<Item = Recipe>, root: &Path, slots: usize, warm: usize) -> Vec<Taken> {
    let service = Service {
        worker: Arc::new(Worker::new(slots, false)),
        roots: Some(AllowedRoots::open([&Location::Local(root.to_owned())]).unwrap()),
        deadline: PATIENCE,
        grace: PATIENCE,
        idle: None,
        patience: PATIENCE,
        monitor: SlotMonitor::default(),
    };
    let link = Link::embedded().unwrap();
    link.declare().await.unwrap();
    let task_messages = link.publisher(Queue::Recipes, WINDOW);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = tokio::spawn({
        let link = link.clone();
        async move { serve(service, &link, stopped.map(|_| PATIENCE)).await }
    });
    let mut results = link.consumer(Queue::Results, 10).await.unwrap();
    let mut recipes = recipes;
    // The first one shows the worker that it can make granules here.
    let first = recipes.next().unwrap();
    task_messages.publish(edp_tests::task(&first)).await.unwrap();
    let (mut sent, mut refused) = (1, 0);
    for recipe in recipes.by_ref().take(WINDOW) {
        send(&task_messages, &recipe, sent).await;
        sent += 1;
    }
    let mut under_way = sent;
    let (mut made, mut taken) = (0, Vec::new());
    while under_way > 0 {
        let delivery = results.next().await.unwrap().unwrap();
        let outcome = Outcome::decode(&delivery.message.content_type, &delivery.message.body).unwrap();
        delivery.ack();
        let done = match outcome.event {
            TaskEvent::Started => continue,
            TaskEvent::Done(done) => done,
            // Recipes outside of its roots, and of another build: the worker reports them, and continues.
            TaskEvent::Failed(Failed { kind: FailureKind::Denied | FailureKind::Returned, .. }) => {
                refused += 1;
                continue;
            }
            TaskEvent::Failed(failed) => panic!("{}", failed.reason()),
        };
        assert!(!done.already);
        fs::remove_file(&done.location).unwrap();
        (made, under_way) = (made + 1, under_way - 1);
        if made >= warm && made % 100 == 0 {
            taken.push(Taken::now());
        }
        if let Some(recipe) = recipes.next() {
            send(&task_messages, &recipe, sent).await;
            (sent, under_way) = (sent + 1, under_way + 1);
        }
    }
    assert!(refused >= sent / 7, "{refused} of {sent} hostile task messages were answered");
    drop(stop);
    assert_eq!(worker.await.unwrap().unwrap(), WorkerEnd::Stopped);
    taken
}

/// Makes granules from sets of resources, three of which are in use at any time. After the first fifth, all caches of
/// the worker are full and have dropped values; from then on nothing grows.
fn stays_flat(granules: usize, sets: usize) {
    // These tests would measure each other, if the test runner does not give each a process of its own.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let fixture = Fixture::new(6);
    let list = fixture.plan(&fixture.path("out"), "tasks.json", &[]);
    let mut planned = recipe::parse_list("list", &fs::read(list).unwrap()).unwrap();
    // Only the small ones are made, since the number of granules matters.
    planned.retain(|recipe| recipe.dynamic_metadata.dimension == "2D");
    let latlon = planned.iter().filter(|recipe| recipe.plan().unwrap().digests.factors.is_some()).count();
    assert!(latlon > 0 && latlon < planned.len(), "{latlon} of {}", planned.len());
    let sets: Vec<Set> = (0..sets).map(|number| Set::new(&fixture, number)).collect();
    let each = granules / sets.len();
    let recipes = (0..granules).map(|number| {
        let set = &sets[(number / each + number % 3) % sets.len()];
        set.recipe(&planned[number % planned.len()], number)
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let taken = runtime.block_on(soak(recipes, &fixture.path(""), 2, granules / 5));
    let (first, last) = (taken[0], taken[taken.len() - 1]);
    println!("after {} granules {first:?}, after {granules} {last:?}", granules / 5);
    // An open grid file for each set would give hundreds of descriptors; granules in progress have a few.
    let most = taken.iter().map(|taken| taken.descriptors).max().unwrap();
    assert!(most <= first.descriptors + 24, "descriptors: {taken:?}");
    // Blocking threads are ended when they were idle for ten seconds, and are started when they are needed: two for
    // each slot.
    let most = taken.iter().map(|taken| taken.threads).max().unwrap();
    assert!(most <= first.threads + 8, "threads: {taken:?}");
    // Freed memory stays with the process to some degree. One of these sets takes about 300 KiB: if all were kept, they
    // would take more than this limit.
    let limit = first.memory + 16 * 1024;
    assert!(last.memory <= limit, "memory: {taken:?}");
    runtime.shutdown_background();
}

#[test]
fn a_worker_does_not_grow_with_the_sets_of_resources() {
    stays_flat(600, 40);
}

#[test]
#[ignore = "takes minutes: make check-all"]
fn a_worker_does_not_grow_over_ten_thousand_granules() {
    stays_flat(10_000, 200);
}
