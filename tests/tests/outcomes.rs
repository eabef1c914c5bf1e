//! The content of outcomes agrees with the files.

use edp_protocol::recipe::{self, Recipe};
use edp_protocol::wire::{self, ChunkPlaces, Done, Failed, Outcome, TaskEvent};
use edp_protocol::{Digest, GridKind, Location, name};
use edp_queue::{Link, Message, Queue};
use edp_tests::{Fixture, files};
use edp_worker::service::Worker;
use edp_worker::service::allowed_roots::AllowedRoots;
use edp_worker::service::serve::{Service, WorkerEnd, serve};
use edp_worker::service::status::SlotMonitor;
use futures_util::FutureExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const SIZE: usize = 8;

/// Longest time that anything may take on a busy machine before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(300);

fn planned(fixture: &Fixture, out: &str) -> Vec<Recipe> {
    let list = fixture.plan(&fixture.path(out), "tasks.json", &[]);
    recipe::parse_list("list", &fs::read(list).unwrap()).unwrap()
}

/// Lets a serving worker make granules. Returns the outcome of each recipe, by its id.
fn served(
    fixture: &Fixture,
    recipes: &[Recipe],
    slots: usize,
    deadline: Duration,
) -> BTreeMap<String, Result<Done, Failed>> {
    let messages = recipes.iter().map(edp_tests::task).collect();
    served_with(fixture, messages, recipes.len(), slots, deadline)
}

/// Sends these messages to a serving worker. Returns `count` outcomes by the ids of their recipes.
fn served_with(
    fixture: &Fixture,
    messages: Vec<Message>,
    wanted: usize,
    slots: usize,
    deadline: Duration,
) -> BTreeMap<String, Result<Done, Failed>> {
    let service = Service {
        worker: Arc::new(Worker::new(slots, false)),
        roots: Some(AllowedRoots::open([&Location::Local(fixture.path(""))]).unwrap()),
        deadline,
        grace: PATIENCE,
        idle: None,
        patience: PATIENCE,
        monitor: SlotMonitor::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let all = runtime.block_on(async {
        let link = Link::embedded().unwrap();
        link.declare().await.unwrap();
        let task_messages = link.publisher(Queue::Recipes, 100);
        for message in messages {
            task_messages.publish(message).await.unwrap();
        }
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let worker = tokio::spawn({
            let link = link.clone();
            async move { serve(service, &link, stopped.map(|_| PATIENCE)).await }
        });
        let mut results = link.consumer(Queue::Results, 10).await.unwrap();
        let mut all = BTreeMap::new();
        while all.len() < wanted {
            let delivery = results.next().await.unwrap().unwrap();
            let message = Outcome::decode(&delivery.message.content_type, &delivery.message.body).unwrap();
            delivery.ack();
            let outcome = match message.event {
                TaskEvent::Started => continue,
                TaskEvent::Done(done) => Ok(done),
                TaskEvent::Failed(failed) => Err(failed),
            };
            assert_eq!(all.insert(message.recipe_id, outcome), None, "one outcome for each");
        }
        drop(stop);
        assert_eq!(worker.await.unwrap().unwrap(), WorkerEnd::Stopped);
        all
    });
    runtime.shutdown_background();
    all
}

fn done(outcomes: BTreeMap<String, Result<Done, Failed>>) -> BTreeMap<String, Done> {
    outcomes.into_iter().map(|(id, outcome)| (id, outcome.expect("a granule"))).collect()
}

fn id(recipe: &Recipe) -> &str {
    &recipe.recipe.as_ref().unwrap().id
}

fn length(path: &str) -> u64 {
    fs::metadata(path).unwrap().len()
}

fn stage<'a>(done: &'a Done, name: &str) -> &'a wire::StageTotal {
    done.stages.iter().find(|stage| stage.name == name).unwrap()
}

/// All granules of a model run, made by one worker, with its outcomes.
struct Served {
    fixture: Fixture,
    recipes: Vec<Recipe>,
    outcomes: BTreeMap<String, Done>,
}

impl Served {
    fn new() -> Served {
        let fixture = Fixture::new(SIZE);
        let recipes = planned(&fixture, "out");
        let outcomes = done(served(&fixture, &recipes, 2, PATIENCE));
        assert_eq!(outcomes.len(), recipes.len());
        Served { fixture, recipes, outcomes }
    }

    /// Returns each recipe with its outcome.
    fn pairs(&self) -> impl Iterator<Item = (&Recipe, &Done)> {
        self.recipes.iter().map(|recipe| (recipe, &self.outcomes[id(recipe)]))
    }
}

fn grid(recipe: &Recipe) -> GridKind {
    name::GranuleName::parse(name::base_name(&recipe.granule)).unwrap().grid
}

#[test]
fn outcomes_tell_what_was_made() {
    let made = Served::new();
    let found = files(&made.fixture.path("out"));
    assert_eq!(found.len(), made.recipes.len());
    for (recipe, done) in made.pairs() {
        assert_eq!((done.already, &done.location), (false, &recipe.granule));
        assert_eq!(done.size, length(&recipe.granule));
        let below = recipe.granule_below_root().unwrap();
        assert_eq!(done.sha256, found[below].as_str());
        assert_eq!(done.warnings, [""; 0]);
    }
}

#[test]
fn outcomes_tell_of_each_input_once_as_it_is_on_the_disk() {
    let made = Served::new();
    for (recipe, done) in made.pairs() {
        let plan = recipe.recipe.as_ref().unwrap();
        assert_eq!(
            done.inputs.iter().map(|input| &input.path).collect::<Vec<_>>(),
            plan.inputs.keys().collect::<Vec<_>>()
        );
        for input in &done.inputs {
            let bytes = fs::read(made.fixture.demo.results.join(&input.path)).unwrap();
            assert_eq!((input.size, input.sha256.as_str()), (bytes.len() as u64, Digest::of(&bytes).as_str()));
        }
    }
}

#[test]
fn outcomes_tell_what_the_stages_of_each_kind_of_granule_took() {
    let made = Served::new();
    let mut kinds = BTreeSet::new();
    for (recipe, done) in made.pairs() {
        let grid = grid(recipe);
        let rotated = recipe.variables.values().any(|inputs| inputs.len() == 2);
        kinds.insert((grid == GridKind::Native, rotated));
        let route = if grid == GridKind::Native { "mask" } else { "regrid" };
        let names =
            ["make", "resources", "fetch", "read", "rotate", route, "compress", "write", "hash", "gate", "commit"];
        let wanted: Vec<_> = names.into_iter().filter(|name| *name != "rotate" || rotated).collect();
        assert_eq!(done.stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(), wanted);
        assert!(done.stages.iter().all(|stage| stage.seconds > 0.0), "{:?}", done.stages);
        assert!(done.stages[0].seconds >= stage(done, "gate").seconds + stage(done, "commit").seconds);
        let opened: Vec<&String> = recipe.variables.values().flatten().flatten().collect();
        let data = || opened.iter().filter(|path| path.ends_with(".data"));
        let bytes = |name| stage(done, name).bytes;
        assert_eq!(bytes("fetch"), opened.iter().map(|path| length(path)).sum::<u64>());
        assert_eq!(bytes("read"), data().map(|path| length(path)).sum::<u64>());
        let distinct: BTreeSet<_> = data().collect();
        assert_eq!(bytes("hash"), distinct.iter().map(|path| length(path)).sum::<u64>() + done.size);
        assert_eq!(bytes("write"), done.chunks.iter().flat_map(|of| &of.places).map(|(_, size)| size).sum::<u64>());
        assert_eq!([bytes("make"), bytes("gate"), bytes("commit")], [done.size; 3]);
        let values = values(&recipe.granule, recipe);
        assert_eq!(bytes(route), values.values().map(|values| 4 * values.len() as u64).sum::<u64>());
        assert_eq!(bytes("compress"), bytes(route), "a field is one chunk at this size");
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [(false, false), (false, true), (true, false)]);
}

#[test]
fn chunks_are_at_the_places_that_outcomes_state() {
    for (recipe, done) in Served::new().pairs() {
        let values = values(&recipe.granule, recipe);
        for (name, values) in &values {
            let of = done.chunks.iter().find(|of| of.variable == *name).unwrap();
            assert_eq!(&unpacked(&recipe.granule, of, values.len()), values, "{name}");
        }
        let is_latlon = grid(recipe) == GridKind::Latlon;
        assert!(done.chunks.len() > values.len() || is_latlon, "coordinates are in chunks, too");
    }
}

#[test]
fn an_existing_granule_is_described_as_it_is() {
    let made = Served::new();
    for (id, done) in done_again(&made.fixture, &made.recipes) {
        let before = &made.outcomes[&id];
        assert!(done.already && done.inputs.is_empty());
        assert_eq!(
            (done.size, done.sha256, done.location),
            (before.size, before.sha256.clone(), before.location.clone())
        );
        assert_eq!(done.chunks, before.chunks);
        assert_eq!(done.stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(), ["make", "hash"]);
    }
}

fn done_again(fixture: &Fixture, recipes: &[Recipe]) -> BTreeMap<String, Done> {
    done(served(fixture, recipes, 1, PATIENCE))
}

/// Returns the values of the data variables, as read by the netCDF library.
fn values(granule: &str, recipe: &Recipe) -> BTreeMap<String, Vec<f32>> {
    let file = netcdf::open(granule).unwrap();
    let read = |name: &String| (name.clone(), file.variable(name).unwrap().get_values::<f32, _>(..).unwrap());
    recipe.variables.keys().map(read).collect()
}

/// Returns the values of a variable of one chunk, decoded from the bytes of the file alone.
fn unpacked(granule: &str, of: &ChunkPlaces, count: usize) -> Vec<f32> {
    let [(offset, size)] = of.places[..] else { panic!("{of:?}") };
    let file = fs::read(granule).unwrap();
    let packed = &file[offset as usize..][..size as usize];
    let mut bytes = vec![0; 4 * count];
    let unpacked = libdeflater::Decompressor::new().zlib_decompress(packed, &mut bytes).unwrap();
    assert_eq!(unpacked, bytes.len());
    (0..count).map(|i| f32::from_le_bytes([0, 1, 2, 3].map(|byte| bytes[byte * count + i]))).collect()
}

#[test]
fn digests_are_the_same_on_any_number_of_slots() {
    let fixture = Fixture::new(SIZE);
    let digests = |out: &str, slots: usize| -> BTreeMap<String, String> {
        let recipes = planned(&fixture, out);
        let outcomes = done(served(&fixture, &recipes, slots, PATIENCE));
        outcomes.into_iter().map(|(id, done)| (id, done.sha256)).collect()
    };
    assert_eq!(digests("one", 1), digests("four", 4));
}

/// Only half of a file with two records is read, so no digest is reported for it.
#[test]
fn inputs_of_several_records_have_no_digest() {
    let fixture = Fixture::new(SIZE);
    let stem = "DEMO/diags_monthly/SSH_mon_mean/SSH_mon_mean.0000000732";
    let [data, meta] = ["data", "meta"].map(|end| fixture.demo.results.join(format!("{stem}.{end}")));
    let one = fs::read(&data).unwrap();
    fs::write(&data, [one.clone(), one].concat()).unwrap();
    let text = fs::read_to_string(&meta).unwrap();
    let (start, end) = (text.find(" nFlds").unwrap(), text.len());
    let text = text[..start].replace("nrecords = [     1 ]", "nrecords = [     2 ]")
        + &text[start..end]
            .replace("'SSH     '", "'SSH     ' 'OTHER   '")
            .replace("nFlds = [    1 ]", "nFlds = [    2 ]");
    fs::write(&meta, text).unwrap();
    let mut recipes = planned(&fixture, "out");
    recipes.retain(|recipe| recipe.variables.values().flatten().flatten().any(|path| Path::new(path) == data));
    assert_eq!(recipes.len(), 2, "native and latlon");
    for done in done(served(&fixture, &recipes, 1, PATIENCE)).values() {
        for input in &done.inputs {
            let path = fixture.demo.results.join(&input.path);
            let digest = Digest::of(&fs::read(&path).unwrap());
            assert_eq!(input.sha256, if path == data { "" } else { digest.as_str() }, "{}", input.path);
        }
        assert!(done.inputs.iter().any(|input| input.path == format!("{stem}.data")));
    }
}

#[test]
fn failures_tell_their_causes() {
    let fixture = Fixture::new(SIZE);
    let recipes = planned(&fixture, "out");
    // A file that looks like the granule but cannot be read to its end is at its place, and an input of another granule
    // is missing.
    fs::create_dir_all(Path::new(&recipes[0].granule).parent().unwrap()).unwrap();
    fs::write(&recipes[0].granule, "no granule").unwrap();
    let gone = &recipes[1].variables[0][0][0];
    fs::remove_file(gone).unwrap();
    let outcomes = served(&fixture, &recipes[..2], 1, PATIENCE);
    let [conflict, missing] = [0, 1].map(|n| outcomes[id(&recipes[n])].as_ref().unwrap_err());
    assert_eq!(conflict.kind, edp_protocol::message::FailureKind::Conflict);
    assert!(conflict.reason[0].contains("something else is there"), "{conflict:?}");
    assert_eq!(missing.kind, edp_protocol::message::FailureKind::NotFound);
    assert!(missing.reason[0].contains(gone.as_str()), "{missing:?}");
}

/// A task message is about the recipe in it. If its other fields name another recipe, it is refused: nothing is loaded
/// for it, and no outcome is reported about the recipe that it names.
#[test]
fn task_messages_that_name_another_recipe_are_refused() {
    let fixture = Fixture::new(SIZE);
    let recipes = planned(&fixture, "out");
    let [good, named, inside] = [0, 1, 2].map(|n| &recipes[n]);
    let message = |recipe: &Recipe, id: &str| {
        Message::new(edp_tests::task_naming(recipe, id).encode().unwrap(), wire::CONTENT_TYPE, "")
    };
    let mut edited = inside.clone();
    edited.dynamic_metadata.summary = "another".into();
    let mut bare = inside.clone();
    bare.recipe = None;
    let hostile = vec![
        Message::new("nonsense", "text/plain", ""),
        message(inside, ""),
        message(inside, id(named)),
        message(inside, &id(inside).to_uppercase()),
        message(&edited, id(inside)),
        message(&bare, ""),
        message(&bare, id(named)),
        Message::new(serde_json::to_vec(&bare).unwrap(), wire::JSON, ""),
        Message::new(serde_json::to_vec(&edited).unwrap(), wire::JSON, ""),
    ];
    // The worker has one slot: when the good task is done, the others have been handled.
    let messages = hostile.into_iter().chain([edp_tests::task(good)]).collect();
    let outcomes = done(served_with(&fixture, messages, 1, 1, PATIENCE));
    assert_eq!(outcomes.keys().collect::<Vec<_>>(), [id(good)]);
    assert_eq!(files(&fixture.path("out")).len(), 1);
}

/// Whenever the deadline passes: a granule is reported as made exactly if it is there.
#[test]
fn what_is_late_is_there_or_is_not_said_to_be() {
    let fixture = Fixture::new(SIZE);
    let mut ends = [0, 0];
    for (round, milliseconds) in [0, 1, 2, 4, 8, 16, 32, 64, 128, 300_000].into_iter().enumerate() {
        let recipes = planned(&fixture, &format!("out-{round}"));
        let outcomes = served(&fixture, &recipes, 2, Duration::from_millis(milliseconds));
        for recipe in &recipes {
            let there = Path::new(&recipe.granule).exists();
            match &outcomes[id(recipe)] {
                Ok(done) => assert!(there && !done.already, "{milliseconds} ms: {done:?}"),
                Err(failed) => {
                    assert!(!there && failed.reason().contains("took longer"), "{milliseconds} ms: {failed:?}")
                }
            }
            ends[usize::from(there)] += 1;
        }
        let left = files(&fixture.path(&format!("out-{round}")));
        assert!(left.keys().all(|name| name.ends_with(".nc")), "{left:?}");
    }
    assert!(ends.iter().all(|count| *count > 0), "{ends:?}");
}
