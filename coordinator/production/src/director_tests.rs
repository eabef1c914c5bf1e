//! Tests of the director and its actors, over queues of this process.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::director::{Budget, DriveError, DriveOptions, ProductionEnd, drive};
use super::ledger::retries::Policy;
use super::ledger::{Ledger, LedgerError, RecipeState, Settled};
use super::ledger_handle::LedgerHandle;
use super::monitor::ProductionMonitor;
use crate::fixture;
use edp_program::settings::TaskGrouping;
use edp_protocol::GridKind;
use edp_protocol::message::FailureKind;
use edp_protocol::recipe::Recipe;
use edp_protocol::wire::{CONTENT_TYPE, Done, Failed, Outcome, SLOTS_HEADER, TaskEvent, TaskMessage, UNFIT_HEADER};
use edp_queue::QueueSettings;
use edp_queue::{Delivery, Link, Message, Queue, QueueOptions};
use edp_store::Stores;
use std::future::{Future, pending, ready};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Time after which anything counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);

fn recipes() -> Vec<Recipe> {
    fixture::recipes(&[GridKind::Native, GridKind::Latlon])
}

fn id(recipe: &Recipe) -> &str {
    &recipe.plan().unwrap().id
}

fn plan() -> DriveOptions {
    let budget = Budget { failures: Some(0), ..Budget::default() };
    DriveOptions {
        production: "p".into(),
        window: 10,
        deadline: 900,
        mixed_builds: false,
        group: TaskGrouping::default(),
        local: true,
        budget,
        content: true,
        look: false,
        monitor: ProductionMonitor::default(),
    }
}

fn ledger(recipes: &[Recipe]) -> LedgerHandle {
    let policy = Policy { first_wait: Duration::ZERO, longest_wait: Duration::ZERO, attempts: 2, ..Policy::default() };
    let mut ledger = Ledger::in_memory("p", policy).unwrap();
    ledger.list(recipes).unwrap();
    LedgerHandle::open(ledger).unwrap()
}

async fn standing(ledger: &LedgerHandle) -> Vec<Settled> {
    let all = ledger.ask(|ledger| {
        let mut all = Vec::new();
        ledger.each::<LedgerError>(&RecipeState::ALL, |one| {
            all.push(one);
            Ok(())
        })?;
        Ok(all)
    });
    all.await.unwrap()
}

async fn say(link: &Link, queue: Queue, task: &TaskMessage, build: &str, event: TaskEvent) {
    let (recipe_id, attempt) = (task.recipe_id.clone(), task.attempt);
    let outcome = Outcome { recipe_id, attempt, worker: "w".into(), build: build.into(), event };
    let message = Message::new(outcome.encode().unwrap(), CONTENT_TYPE, "");
    link.publisher(queue, 1).publish(message).await.unwrap();
}

/// Answers every task message by what `answer` makes of it, until it is dropped.
async fn serve(link: Link, build: &'static str, answer: impl Fn(&TaskMessage) -> Option<TaskEvent>) {
    let mut task_messages = link.consumer(Queue::Recipes, 10).await.unwrap();
    while let Some(delivery) = task_messages.next().await.unwrap() {
        let task = TaskMessage::decode(CONTENT_TYPE, &delivery.message.body).unwrap();
        say(&link, Queue::Results, &task, build, TaskEvent::Started).await;
        if let Some(event) = answer(&task) {
            say(&link, Queue::Results, &task, build, event).await;
        }
        Delivery::ack(delivery);
    }
}

fn done() -> TaskEvent {
    TaskEvent::Done(Done { size: 7, ..Done::default() })
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.unwrap() })
}

#[test]
fn a_stop_writes_down_and_acknowledges_what_was_heard() {
    run(async {
        let all = recipes();
        let (ledger, link) = (ledger(&all), Link::embedded().unwrap());
        let (last, others) = all.split_last().unwrap();
        let last = id(last).to_owned();
        tokio::spawn(serve(link.clone(), "b", move |task| (task.recipe_id != last).then(done)));
        let (stop, stopped) = oneshot::channel::<()>();
        let (mut stop, mut heard) = (Some(stop), 0);
        let stopping = async {
            let _ = stopped.await;
        };
        let progress = |_: &Settled| {
            heard += 1;
            if heard == others.len() {
                let _ = stop.take().unwrap().send(());
            }
        };
        let left = drive(&plan(), &ledger, &link, &Stores::default(), progress, ready(Ok(())), stopping).await.unwrap();
        assert_eq!((left, heard), (ProductionEnd::Stopped, others.len()));
        let states: Vec<RecipeState> = standing(&ledger).await.into_iter().map(|one| one.state).collect();
        assert_eq!(states, [RecipeState::Done, RecipeState::Done, RecipeState::Done, RecipeState::UnderWay]);
        // A consumer that begins now would receive what was not acknowledged.
        let mut left_over = link.consumer(Queue::Results, 10).await.unwrap();
        let next = tokio::time::timeout(Duration::from_millis(200), left_over.next()).await;
        assert!(next.is_err(), "{next:?}");
    });
}

#[test]
fn giving_up_leaves_the_rest_for_the_next_time() {
    run(async {
        let (all, link) = (recipes(), Link::embedded().unwrap());
        let ledger = ledger(&all);
        let bad = id(&all[0]).to_owned();
        let failed = TaskEvent::Failed(Failed { kind: FailureKind::Permanent, reason: vec!["why".into()] });
        tokio::spawn(serve(link.clone(), "b", move |task| (task.recipe_id == bad).then(|| failed.clone())));
        let left = drive(&plan(), &ledger, &link, &Stores::default(), |_| {}, ready(Ok(())), pending()).await.unwrap();
        assert!(matches!(left, ProductionEnd::GivenUp(reason) if reason.contains("1 recipes failed")));
        let standing = standing(&ledger).await;
        assert_eq!(standing[0].reason.as_deref(), Some("why"));
        assert!(standing[1..].iter().all(|one| !one.state.is_settled()));
    });
}

#[test]
fn the_list_is_not_settled_while_it_may_grow() {
    run(async {
        let (all, link) = (recipes(), Link::embedded().unwrap());
        let ledger = ledger(&all[..1]);
        tokio::spawn(serve(link.clone(), "b", |_| Some(done())));
        let growth = async {
            while ledger.ask(|ledger| ledger.next()).await?.is_some() {
                tokio::task::yield_now().await;
            }
            let more = all.clone();
            ledger.ask(move |ledger| ledger.add(&more)).await?;
            Ok::<_, DriveError>(())
        };
        let mut settled = 0;
        let left =
            drive(&plan(), &ledger, &link, &Stores::default(), |_| settled += 1, growth, pending()).await.unwrap();
        assert_eq!((left, settled), (ProductionEnd::Settled, all.len()));
    });
}

#[test]
fn granules_of_a_second_build_are_conflicts() {
    run(async {
        let (all, link) = (recipes(), Link::embedded().unwrap());
        let ledger = ledger(&all);
        ledger.ask(|ledger| ledger.fix_fact("build", "a")).await.unwrap();
        tokio::spawn(serve(link.clone(), "b", |_| Some(done())));
        drive(&plan(), &ledger, &link, &Stores::default(), |_| {}, ready(Ok(())), pending()).await.unwrap();
        for one in standing(&ledger).await {
            assert!(one.state == RecipeState::Conflict && one.reason.clone().unwrap().contains("'a'"), "{one:?}");
        }
    });
}

#[test]
fn dead_letters_are_collected() {
    run(async {
        let (all, link) = (recipes(), Link::embedded().unwrap());
        let ledger = ledger(&all[..2]);
        let [dead, late] = [0, 1].map(|i| id(&all[i]).to_owned());
        // All task messages of the one recipe are dead letters; of the other, the outcome that says that it is done.
        let (answer, letters) = (link.clone(), link.clone());
        tokio::spawn(async move {
            let mut task_messages = answer.consumer(Queue::Recipes, 10).await.unwrap();
            while let Some(delivery) = task_messages.next().await.unwrap() {
                let task = TaskMessage::decode(CONTENT_TYPE, &delivery.message.body).unwrap();
                if task.recipe_id == late {
                    say(&letters, Queue::Dead, &task, "b", done()).await;
                } else {
                    letters.publisher(Queue::Dead, 1).publish(delivery.message.clone()).await.unwrap();
                }
                delivery.ack();
            }
        });
        letters_of_nobody(&link).await;
        let budget = Budget { failures: None, ..Budget::default() };
        drive(&DriveOptions { budget, ..plan() }, &ledger, &link, &Stores::default(), |_| {}, ready(Ok(())), pending())
            .await
            .unwrap();
        for one in standing(&ledger).await {
            let expected = if one.id == dead { RecipeState::Failed } else { RecipeState::Done };
            assert_eq!(one.state, expected, "{one:?}");
            assert!(expected == RecipeState::Done || one.reason.unwrap().contains("delivered 50 times"));
        }
    });
}

/// Task messages and outcomes that a policy of the broker has taken out of their queues are not failures.
#[test]
fn what_a_policy_drops_is_no_failure() {
    run(async {
        let (all, link) = (recipes(), Link::embedded().unwrap());
        let ledger = ledger(&all[..2]);
        let (answer, letters) = (link.clone(), link.clone());
        tokio::spawn(async move {
            let mut task_messages = answer.consumer(Queue::Recipes, 10).await.unwrap();
            while let Some(delivery) = task_messages.next().await.unwrap() {
                let task = TaskMessage::decode(CONTENT_TYPE, &delivery.message.body).unwrap();
                if task.attempt < 9 {
                    let mut message = delivery.message.clone();
                    let reason = if task.attempt.is_multiple_of(2) { "maxlen" } else { "expired" };
                    for (name, text) in [("x-first-death-reason", reason), ("x-first-death-queue", "edp.p.recipes")] {
                        message.headers.insert(name.into(), text.into());
                    }
                    letters.publisher(Queue::Dead, 1).publish(message).await.unwrap();
                } else {
                    say(&letters, Queue::Dead, &task, "b", done()).await;
                }
                delivery.ack();
            }
        });
        let left = drive(&plan(), &ledger, &link, &Stores::default(), |_| {}, ready(Ok(())), pending()).await.unwrap();
        assert_eq!(left, ProductionEnd::Settled);
        for one in standing(&ledger).await {
            assert_eq!((one.state, one.attempts, one.reason), (RecipeState::Done, 9, None));
        }
    });
}

/// A worker that repeatedly does not find what others find is named in task messages, so that it ends. No granule
/// fails.
#[test]
fn who_does_not_find_what_others_find_is_told_to_end() {
    run(async {
        let (all, link) = (recipes(), Link::embedded().unwrap());
        let ledger = ledger(&all);
        let (answer, (heard, mut named)) = (link.clone(), mpsc::unbounded_channel());
        tokio::spawn(async move {
            let mut task_messages = answer.consumer(Queue::Recipes, 1).await.unwrap();
            while let Some(delivery) = task_messages.next().await.unwrap() {
                let task = TaskMessage::decode(CONTENT_TYPE, &delivery.message.body).unwrap();
                heard.send(delivery.message.headers.get(UNFIT_HEADER).cloned()).unwrap();
                // For each recipe, one worker reports that something is missing; then another one makes the granule.
                let kinds = [FailureKind::NotFound, FailureKind::Denied];
                let (worker, event) = match task.attempt {
                    1 => ("astray", TaskEvent::Failed(Failed::because(kinds[task.recipe_id.len() % 2], "not there"))),
                    _ => ("w", done()),
                };
                let (recipe_id, attempt) = (task.recipe_id.clone(), task.attempt);
                let outcome = Outcome { recipe_id, attempt, worker: worker.into(), build: "b".into(), event };
                let message = Message::new(outcome.encode().unwrap(), CONTENT_TYPE, "");
                answer.publisher(Queue::Results, 1).publish(message).await.unwrap();
                delivery.ack();
            }
        });
        // The window is one task message, so that what is learnt from the first three is known to the last.
        let plan = DriveOptions { window: 1, local: false, ..plan() };
        let left = drive(&plan, &ledger, &link, &Stores::default(), |_| {}, ready(Ok(())), pending()).await.unwrap();
        assert_eq!(left, ProductionEnd::Settled);
        assert!(standing(&ledger).await.iter().all(|one| one.state == RecipeState::Done && one.attempts == 2));
        let mut task_messages = Vec::new();
        while let Ok(unfit) = named.try_recv() {
            task_messages.push(unfit);
        }
        let (last, others) = task_messages.split_last().unwrap();
        assert_eq!((last.as_deref(), others.len()), (Some("astray"), 2 * all.len() - 1));
        assert!(others.iter().all(Option::is_none), "{others:?}");
    });
}

/// A recipe fails at once if the coordinator does not find the missing input either, or if there is only one process.
#[test]
fn what_nobody_finds_fails_at_once() {
    for local in [true, false] {
        run(async {
            let directory = tempfile::tempdir().unwrap();
            let (mut all, link) = (recipes(), Link::embedded().unwrap());
            all.truncate(1);
            all[0].make_absolute(directory.path());
            let files = all[0].variables.values().flatten().flatten();
            for file in files.map(std::path::Path::new) {
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file.with_extension("neighbour"), "x").unwrap();
            }
            let ledger = ledger(&all);
            let failed = TaskEvent::Failed(Failed::because(FailureKind::NotFound, "not there"));
            tokio::spawn(serve(link.clone(), "b", move |_| Some(failed.clone())));
            let plan = DriveOptions { local, budget: Budget::NONE, ..plan() };
            let left =
                drive(&plan, &ledger, &link, &Stores::default(), |_| {}, ready(Ok(())), pending()).await.unwrap();
            assert_eq!(left, ProductionEnd::Settled);
            let one = standing(&ledger).await.remove(0);
            assert_eq!((one.state, one.attempts), (RecipeState::Failed, 1));
            assert_eq!(one.reason.unwrap().contains("the coordinator does not find it either"), !local);
        });
    }
}

/// A message of no known kind, and an outcome of a recipe that the production does not have.
async fn letters_of_nobody(link: &Link) {
    link.publisher(Queue::Dead, 1).publish(Message::new("nonsense", "text/plain", "")).await.unwrap();
    let task = TaskMessage {
        production: "q".into(),
        recipe_id: "of another list".into(),
        attempt: 1,
        alone: false,
        deadline: 0,
        look: edp_protocol::wire::ExistingCheck::default(),
        recipe: Vec::new(),
    };
    say(link, Queue::Results, &task, "b", done()).await;
}

#[test]
fn a_recipe_too_large_to_send_costs_only_itself() {
    run(async {
        let (mut all, link) = (recipes(), Link::embedded().unwrap());
        all[0].dynamic_metadata.summary = "x".repeat(edp_protocol::wire::MAX_RECIPE);
        let ledger = ledger(&all);
        tokio::spawn(serve(link.clone(), "b", |_| Some(done())));
        let plan = DriveOptions { budget: Budget::default(), ..plan() };
        let left = drive(&plan, &ledger, &link, &Stores::default(), |_| {}, ready(Ok(())), pending()).await.unwrap();
        assert_eq!(left, ProductionEnd::Settled);
        let standing = standing(&ledger).await;
        assert!(
            standing[0].state == RecipeState::Failed && standing[0].reason.clone().unwrap().contains("cannot be sent")
        );
        assert!(standing[1..].iter().all(|one| one.state == RecipeState::Done));
    });
}

#[test]
fn a_stop_is_heard_while_the_broker_is_away() {
    // A port at which nothing listens any more.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    run(async {
        let url = Some(format!("amqp://guest@{address}/").parse().unwrap());
        let settings = QueueSettings { url, ..QueueSettings::default() };
        let link = Link::amqp(QueueOptions::from_settings(&settings, "p".parse().unwrap()).unwrap()).unwrap();
        let ledger = ledger(&recipes());
        let stop = tokio::time::sleep(Duration::from_millis(100));
        let left = drive(&plan(), &ledger, &link, &Stores::default(), |_| {}, ready(Ok(())), stop).await.unwrap();
        assert_eq!(left, ProductionEnd::Stopped);
    });
}

/// Nothing follows from messages that are not about task messages of this production.
#[test]
fn only_what_is_about_task_messages_of_this_production_counts() {
    run(async {
        let (all, link) = (recipes(), Link::embedded().unwrap());
        let ledger = ledger(&all);
        let results = link.publisher(Queue::Results, 1);
        let say = |recipe_id: &str, attempt: u32, event: TaskEvent| {
            let outcome = Outcome {
                recipe_id: recipe_id.into(),
                attempt,
                worker: "forger".into(),
                build: "of the forger".into(),
                event,
            };
            results.publish(Message::new(outcome.encode().unwrap(), CONTENT_TYPE, ""))
        };
        let failed = || TaskEvent::Failed(Failed::because(FailureKind::Permanent, "forged"));
        let missed = || TaskEvent::Failed(Failed::because(FailureKind::NotFound, "forged"));
        for event in [TaskEvent::Started, done(), failed(), missed()] {
            say(&"0".repeat(64), 1, event.clone()).await.unwrap();
            say("", 1, event.clone()).await.unwrap();
            for (recipe, attempt) in all.iter().zip([0, 2, 7, u32::MAX]) {
                say(id(recipe), attempt, event.clone()).await.unwrap();
            }
        }
        // The only task message in the window is answered last.
        tokio::spawn(serve(link.clone(), "b", |_| Some(done())));
        let plan = DriveOptions { window: 1, local: false, ..plan() };
        let left = drive(&plan, &ledger, &link, &Stores::default(), |_| {}, ready(Ok(())), pending()).await.unwrap();
        assert_eq!(left, ProductionEnd::Settled);
        assert!(standing(&ledger).await.iter().all(|one| one.state == RecipeState::Done && one.attempts == 1));
        assert_eq!(ledger.ask(|ledger| ledger.fact("build")).await.unwrap().as_deref(), Some("b"));
    });
}

/// A worker that announces job slots gets as many task messages as it needs to keep them busy, whatever the window is.
#[test]
fn the_window_grows_when_a_worker_announces_its_slots() {
    run(async {
        let (all, link) = (recipes(), Link::embedded().unwrap());
        let ledger = ledger(&all);
        let (answer, recipes) = (link.clone(), all.len());
        assert_eq!(recipes, 4, "four for each slot");
        tokio::spawn(async move {
            let mut task_messages = answer.consumer(Queue::Recipes, 10).await.unwrap();
            let mut begun = Vec::new();
            // None has ended when the last of them comes.
            while begun.len() < recipes {
                let delivery = task_messages.next().await.unwrap().unwrap();
                let task = TaskMessage::decode(CONTENT_TYPE, &delivery.message.body).unwrap();
                let (recipe_id, attempt, worker) = (task.recipe_id.clone(), task.attempt, "w".to_owned());
                let outcome = Outcome { recipe_id, attempt, worker, build: "b".into(), event: TaskEvent::Started };
                let mut message = Message::new(outcome.encode().unwrap(), CONTENT_TYPE, "");
                message.headers.insert(SLOTS_HEADER.into(), "1".into());
                answer.publisher(Queue::Results, 1).publish(message).await.unwrap();
                begun.push((delivery, task));
            }
            for (delivery, task) in begun {
                say(&answer, Queue::Results, &task, "b", done()).await;
                delivery.ack();
            }
        });
        let plan = DriveOptions { window: 1, ..plan() };
        let left = drive(&plan, &ledger, &link, &Stores::default(), |_| {}, ready(Ok(())), pending()).await.unwrap();
        assert_eq!(left, ProductionEnd::Settled);
        assert_eq!(plan.monitor.status().remaining, 0);
    });
}

/// A report that a granule is done is believed if the granule exists.
#[test]
fn what_is_not_there_is_not_done() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let (mut all, link) = (recipes(), Link::embedded().unwrap());
        all.iter_mut().for_each(|recipe| recipe.make_absolute(directory.path()));
        let ledger = ledger(&all);
        let places: Vec<(String, String)> = all.iter().map(|one| (id(one).into(), one.granule.clone())).collect();
        let never = places[0].clone();
        let (answer, of) = (link.clone(), places.clone());
        tokio::spawn(async move {
            let mut task_messages = answer.consumer(Queue::Recipes, 1).await.unwrap();
            while let Some(delivery) = task_messages.next().await.unwrap() {
                let task = TaskMessage::decode(CONTENT_TYPE, &delivery.message.body).unwrap();
                let place = &of.iter().find(|(id, _)| *id == task.recipe_id).unwrap().1;
                // The first worker lies; the reports of the second one are true, except for one granule.
                let build = if task.attempt == 1 { "of the liar" } else { "b" };
                if task.attempt > 1 && *place != never.1 {
                    std::fs::create_dir_all(std::path::Path::new(place).parent().unwrap()).unwrap();
                    std::fs::write(place, "seven b").unwrap();
                }
                say(&answer, Queue::Results, &task, build, done()).await;
                delivery.ack();
            }
        });
        let plan = DriveOptions { look: true, local: false, budget: Budget::NONE, ..plan() };
        let left = drive(&plan, &ledger, &link, &Stores::default(), |_| {}, ready(Ok(())), pending()).await.unwrap();
        assert_eq!(left, ProductionEnd::Settled);
        for one in standing(&ledger).await {
            let expected = if one.id == places[0].0 { RecipeState::Failed } else { RecipeState::Done };
            assert_eq!((one.state, one.attempts), (expected, 2), "{one:?}");
            assert!(
                expected == RecipeState::Done
                    || one.reason.unwrap().contains("says that it is done, but it is not there")
            );
        }
        assert_eq!(ledger.ask(|ledger| ledger.fact("build")).await.unwrap().as_deref(), Some("b"));
    });
}
