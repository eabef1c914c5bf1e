//! A long-lived worker: task messages from the queue, one in each slot, until it is told to stop.
//!
//! The order of things is what keeps data right: a granule is begun after the coordinator has been told, it is
//! committed before its outcome is published, and a delivery is acknowledged only when the broker has confirmed the
//! outcome. Whatever is cut short in between comes again.
//!
//! Each slot takes its granule through all stages by itself: fetching, making, putting it to its place. The stages of
//! different granules overlap because several slots are at work: while one waits for a store, another computes. The
//! slots are threads that block; heavy computing is spread over one pool of as many threads as there are cores, which
//! all slots share, so more slots than cores do not make more threads compute. With files at hand one slot for each
//! core keeps that pool busy. Where inputs and granules travel, a slot waits for a part of its time, and it takes
//! 1/(1 - that part) as many slots to keep the cores busy; each costs the memory of one granule. The prefetch of the
//! queue is the number of slots, so that no task message waits in a worker whose slots are full.
//!
//! What ends a worker: a shutdown request or the end of its machine (it drains), nothing to do for long, an
//! environment in which nothing can be made (it gives back what it has, says why, and ends: whatever runs workers
//! starts another, here or elsewhere), a computation that does not end (only the end of the process ends it).

use super::allowed_roots::AllowedRoots;
use super::fitness::Fitness;
use super::{Worker, log_end};
use crate::notice::MARGIN;
use edp_program::telemetry::metrics::metrics;
use edp_program::telemetry::refusals::Refusals;
use edp_program::telemetry::trace;
use edp_protocol::message::{FailureKind, chain};
use edp_protocol::recipe::Recipe;
use edp_protocol::wire::{self, BUILD_HEADER, Done, Failed, Outcome, TaskEvent, TaskMessage, UNFIT_HEADER};
use edp_queue::{Consumer, Delivery, Destination, Link, Message, PublishError, Publisher, Queue, QueueError};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Instrument as _, Span};

/// Limits and roots of a worker that serves a queue.
#[derive(Debug, Clone)]
pub struct Service {
    /// The worker.
    pub worker: Arc<Worker>,
    /// What recipes may read and write; none if they are the user's own, which need no limits.
    pub roots: Option<AllowedRoots>,
    /// Time that a granule may take, unless its task message says less.
    pub deadline: Duration,
    /// Time that granules under way have to end once the worker is told to stop; then they are returned. Shorter where
    /// the machine ends before that.
    pub grace: Duration,
    /// Ends when there was nothing to do for this long.
    pub idle: Option<Duration>,
    /// Time to wait for the coordinator to declare the queues.
    pub patience: Duration,
}

/// The reason why a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEnd {
    /// It was told to.
    Stopped,
    /// There was nothing to do.
    Idle,
    /// It cannot make granules as things are here; others may. With the reason.
    Unfit(String),
}

/// The end of a slot's work on one task message.
enum SlotEnd {
    /// The delivery is settled.
    Settled,
    /// Nothing can be made here.
    Unfit(String),
    /// The computation does not end; only the end of the process ends it.
    Stuck(String),
    /// The queue is gone.
    Cut(PublishError),
}

/// State that a job slot needs.
#[derive(Clone)]
struct SlotContext {
    service: Service,
    results: Publisher,
    /// Names of the queues of task messages and of outcomes in traces.
    names: Arc<[Destination; 2]>,
    build: Arc<str>,
    /// Set when the grace is over.
    cancel: Arc<AtomicBool>,
    fitness: Arc<Fitness>,
}

/// Consumes task messages until `stop` is ready, nothing comes any more, or nothing can be made here. What `stop` gives
/// is the end of the machine, if that is why.
///
/// # Errors
/// The queue cannot be reached for longer than its patience, or refuses us.
pub async fn serve(
    service: Service,
    link: &Link,
    stop: impl Future<Output = Option<SystemTime>>,
) -> Result<WorkerEnd, QueueError> {
    tokio::pin!(stop);
    tokio::select! {
        biased;
        _ = &mut stop => return Ok(WorkerEnd::Stopped),
        declared = link.await_declared(service.patience) => declared?,
    }
    let slots = service.worker.slots;
    let mut tasks = link.consumer(Queue::Recipes, u16::try_from(slots).unwrap_or(u16::MAX)).await?;
    let slot = SlotContext {
        results: link.publisher(Queue::Results, 4 * slots),
        names: Arc::new([Queue::Recipes, Queue::Results].map(|queue| link.destination(queue))),
        build: edp_engine::libraries::fingerprint().into(),
        cancel: Arc::new(AtomicBool::new(false)),
        fitness: Arc::default(),
        service,
    };
    let mut busy: JoinSet<SlotEnd> = JoinSet::new();
    // A task message that is to run with nothing else in the process, waiting for that, or running.
    let mut alone: Option<(Delivery, IdentifiedTask)> = None;
    let mut refusals = Refusals::default();
    let mut solitary = false;
    let mut since = Instant::now();
    let mut ended = None;
    let mut grace = slot.service.grace;
    loop {
        if busy.is_empty() {
            solitary = false;
            if let Some((delivery, identified)) = alone.take() {
                solitary = true;
                busy.spawn(traced(slot.clone(), delivery, identified));
            }
        }
        metrics().slots(busy.len(), slots);
        let free = alone.is_none() && !solitary && busy.len() < slots;
        let idle_end = slot.service.idle.filter(|_| busy.is_empty()).and_then(|idle| since.checked_add(idle));
        tokio::select! {
            biased;
            end = &mut stop => {
                if let Some(end) = end {
                    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
                    grace = grace.min(left.saturating_sub(MARGIN));
                }
                ended = Some(WorkerEnd::Stopped);
            }
            Some(end) = busy.join_next(), if !busy.is_empty() => {
                since = Instant::now();
                match end {
                    Ok(SlotEnd::Settled) => {}
                    Ok(SlotEnd::Unfit(reason) | SlotEnd::Stuck(reason)) => ended = Some(WorkerEnd::Unfit(reason)),
                    Ok(SlotEnd::Cut(PublishError::Queue(error))) => return Err(error),
                    Ok(SlotEnd::Cut(error @ (PublishError::Size { .. } | PublishError::Full { .. }))) => ended = Some(WorkerEnd::Unfit(chain(&error))),
                    // Slots turn panics of the computation into outcomes; they do not panic themselves.
                    Err(error) => ended = Some(WorkerEnd::Unfit(error.to_string())),
                }
            }
            next = tasks.next(), if free => match next? {
                None => ended = Some(WorkerEnd::Stopped),
                Some(delivery) => match read(&delivery) {
                    Ok(identified) if identified.task.alone && !busy.is_empty() => alone = Some((delivery, identified)),
                    Ok(identified) => {
                        solitary = identified.task.alone;
                        busy.spawn(traced(slot.clone(), delivery, identified));
                    }
                    Err(error) => {
                        // It cannot be answered: it names no recipe.
                        if let Some(count) = refusals.count("no task message") {
                            let message_id = &delivery.message.message_id;
                            tracing::error!(count, message_id, error = %chain(&error), "messages are refused that are not task messages");
                        }
                        delivery.ack();
                    }
                },
            },
            () = sleep_until(idle_end.unwrap_or_else(Instant::now)), if idle_end.is_some() => ended = Some(WorkerEnd::Idle),
        }
        if let Some(ended) = ended {
            if let Some((delivery, identified)) = alone {
                busy.spawn(return_task(slot.clone(), delivery, identified.task));
            }
            drain(&slot, &mut tasks, busy, grace).await;
            return Ok(ended);
        }
    }
}

/// A task message, and the recipe that it is of.
struct IdentifiedTask {
    task: TaskMessage,
    recipe: Recipe,
}

/// Reads a task message. What becomes of it is told by the id of its recipe, so a task message that names another one
/// is none.
fn read(delivery: &Delivery) -> Result<IdentifiedTask, wire::WireError> {
    let task = TaskMessage::decode(&delivery.message.content_type, &delivery.message.body)?;
    let recipe = task.identified()?;
    Ok(IdentifiedTask { task, recipe })
}

/// Attends to a task message within a span that follows that of its sending.
async fn traced(slot: SlotContext, delivery: Delivery, identified: IdentifiedTask) -> SlotEnd {
    let span = trace::consume("process", &slot.names[0], &delivery.message, delivery.redelivered);
    span.record("edp.attempt", identified.task.attempt);
    process(slot, delivery, identified).instrument(span).await
}

/// Takes no more, and waits for what is under way; what does not end within the grace is returned.
async fn drain(slot: &SlotContext, tasks: &mut Consumer, mut busy: JoinSet<SlotEnd>, grace: Duration) {
    tasks.stop().await;
    let ends = async { while busy.join_next().await.is_some() {} };
    tokio::pin!(ends);
    if timeout(grace, &mut ends).await.is_err() {
        slot.cancel.store(true, Ordering::Relaxed);
        // A slot that does not react to this is stuck; its delivery goes back when the connection ends.
        let _ = timeout(STUCK, ends).await;
    }
}

/// Time that a cancelled computation has to notice, and that file systems have to answer.
const STUCK: Duration = Duration::from_secs(30);

/// Makes one granule, and tells the coordinator.
async fn process(slot: SlotContext, delivery: Delivery, IdentifiedTask { task, recipe }: IdentifiedTask) -> SlotEnd {
    let outcome = |event| outcome(&slot, &task, event);
    let is_named = |names: &String| names.split(',').any(|name| name == slot.service.worker.id);
    if delivery.message.headers.get(UNFIT_HEADER).is_some_and(is_named) {
        let reason = "others find inputs that this worker did not find or may not touch: check its roots (--root, \
                      serve.roots), mounts and permissions"
            .to_owned();
        return match settle(&slot, delivery, outcome(failed(FailureKind::Returned, reason.clone()))).await {
            Ok(()) => SlotEnd::Unfit(reason),
            Err(error) => SlotEnd::Cut(error),
        };
    }
    let wanted = delivery.message.headers.get(BUILD_HEADER).filter(|wanted| ***wanted != *slot.build);
    if let Some(wanted) = wanted {
        let reason = format!("this worker is of build '{}', the production of '{wanted}'", slot.build);
        let event = failed(FailureKind::Returned, reason.clone());
        let is_unfit = slot.fitness.other_build(&task.recipe_id);
        return match settle(&slot, delivery, outcome(event)).await {
            Ok(()) if is_unfit => SlotEnd::Unfit(reason),
            settled => done(settled),
        };
    }
    if delivery.redelivered {
        // Whatever it is that brings workers down, one message brings down one.
        let reason = "it was delivered before, to a worker that did not say how it ended".to_owned();
        return done(settle(&slot, delivery, outcome(failed(FailureKind::Lost, reason))).await);
    }
    let admitted = look(&slot, move |roots| match roots {
        Some(roots) => roots.admit(recipe),
        None => Ok(recipe),
    })
    .await;
    let recipe = match admitted {
        Ok(Ok(recipe)) => recipe,
        Ok(Err(reason)) => {
            // Other workers may have other roots. One that may touch nothing of what is asked for is of no use.
            let is_unfit = slot.fitness.outside(&task.recipe_id);
            let kind = if is_unfit { FailureKind::Returned } else { FailureKind::Denied };
            return match settle(&slot, delivery, outcome(failed(kind, reason.clone()))).await {
                Ok(()) if is_unfit => SlotEnd::Unfit(reason),
                settled => done(settled),
            };
        }
        Err(reason) => {
            return match settle(&slot, delivery, outcome(failed(FailureKind::Returned, reason.clone()))).await {
                Ok(()) => SlotEnd::Stuck(reason),
                Err(error) => SlotEnd::Cut(error),
            };
        }
    };
    slot.fitness.is_of_use();
    Span::current().record("edp.granule", &recipe.granule);
    if let Err(error) = publish(&slot, &outcome(TaskEvent::Started)).await {
        return SlotEnd::Cut(error);
    }
    let deadline = match task.deadline {
        0 => slot.service.deadline,
        seconds => Duration::from_secs(seconds.into()).min(slot.service.deadline),
    };
    let granule = recipe.granule.clone();
    let (mut result, stuck) = make(&slot, recipe, task.look.clone(), deadline).await;
    use FailureKind::{Denied, NotFound, Permanent, Transient};
    if let TaskEvent::Failed(Failed { kind: Permanent | Transient | NotFound | Denied, .. }) = &result
        && let Err(reason) = look(&slot, |_| ()).await
    {
        // What was not found may well be where it ought to be.
        result = failed(FailureKind::Returned, reason);
    }
    if let Some(result) = result.ended() {
        log_end(&granule, result);
    }
    let unfit = match &result {
        TaskEvent::Failed(failed @ Failed { kind: FailureKind::Returned, .. })
            if !slot.cancel.load(Ordering::Relaxed) =>
        {
            Some(failed.reason())
        }
        _ => None,
    };
    match settle(&slot, delivery, outcome(result)).await {
        Err(error) => SlotEnd::Cut(error),
        Ok(()) => match (stuck, unfit) {
            (Some(reason), _) => SlotEnd::Stuck(reason),
            (None, Some(reason)) => SlotEnd::Unfit(reason),
            (None, None) => SlotEnd::Settled,
        },
    }
}

/// Looks at the file systems of the roots, where they are still what they were. If not, or if they do not answer, the
/// error says that nothing can be made here.
async fn look<T: Send + 'static>(
    slot: &SlotContext,
    what: impl FnOnce(Option<&AllowedRoots>) -> T + Send + 'static,
) -> Result<T, String> {
    let roots = slot.service.roots.clone();
    let looking = tokio::task::spawn_blocking(move || {
        if let Some(roots) = &roots {
            roots.is_there().map_err(|error| format!("root {error}"))?;
        }
        Ok(what(roots.as_ref()))
    });
    match timeout(STUCK, looking).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => Err(format!("the program failed while looking at the roots ({error}); please report this")),
        Err(_) => Err(format!("the file systems of the roots do not answer for {} s", STUCK.as_secs())),
    }
}

/// Returns a task message that was never begun. Left to the broker it would come to the next worker as one that may
/// have brought this one down.
async fn return_task(slot: SlotContext, delivery: Delivery, task: TaskMessage) -> SlotEnd {
    let reason = "the worker was stopped before it was made".to_owned();
    let outcome = outcome(&slot, &task, failed(FailureKind::Returned, reason));
    done(settle(&slot, delivery, outcome).await)
}

fn outcome(slot: &SlotContext, task: &TaskMessage, event: TaskEvent) -> Outcome {
    Outcome {
        recipe_id: task.recipe_id.clone(),
        attempt: task.attempt,
        worker: slot.service.worker.id.clone(),
        build: slot.build.to_string(),
        event,
    }
}

fn failed(kind: FailureKind, reason: String) -> TaskEvent {
    TaskEvent::Failed(Failed::because(kind, reason))
}

fn done(settled: Result<(), PublishError>) -> SlotEnd {
    settled.map_or_else(SlotEnd::Cut, |()| SlotEnd::Settled)
}

/// Publishes the outcome, and only then acknowledges the delivery.
async fn settle(slot: &SlotContext, delivery: Delivery, outcome: Outcome) -> Result<(), PublishError> {
    trace::ended(&Span::current(), outcome.event.ended());
    publish(slot, &outcome).await?;
    delivery.ack();
    Ok(())
}

async fn publish(slot: &SlotContext, outcome: &Outcome) -> Result<(), PublishError> {
    let body = match outcome.encode() {
        Ok(body) => body,
        Err(error) => {
            // Too large to travel: what matters does, without its details.
            let reason = vec![format!("its outcome cannot be sent: {}", chain(&error))];
            let event = match &outcome.event {
                TaskEvent::Done(done) => TaskEvent::Done(wire::Done { warnings: reason, ..brief(done) }),
                TaskEvent::Failed(failed) => TaskEvent::Failed(Failed { kind: failed.kind, reason }),
                TaskEvent::Started => TaskEvent::Started,
            };
            Outcome { event, ..outcome.clone() }.encode().unwrap_or_default()
        }
    };
    let mut message = Message::new(body, wire::CONTENT_TYPE, &outcome.recipe_id);
    let span = trace::publish_outcome(&slot.names[1], &outcome.event, &mut message);
    slot.results.publish(message).instrument(span).await
}

fn brief(done: &wire::Done) -> wire::Done {
    wire::Done {
        already: done.already,
        older: done.older,
        location: done.location.clone(),
        size: done.size,
        sha256: done.sha256.clone(),
        ..wire::Done::default()
    }
}

/// Makes the granule on a thread for computing. Also says whether that thread does not end.
async fn make(
    slot: &SlotContext,
    recipe: Recipe,
    look_at: wire::ExistingCheck,
    deadline: Duration,
) -> (TaskEvent, Option<String>) {
    let started = Instant::now();
    let cancel = Arc::new(AtomicBool::new(false));
    let (worker, own, recipe) = (slot.service.worker.clone(), cancel.clone(), Arc::new(recipe));
    let its = recipe.clone();
    let span = Span::current();
    let mut making = tokio::task::spawn_blocking(move || span.in_scope(|| worker.produce(&its, &look_at, &own)));
    let end = started + deadline;
    let mut look = tokio::time::interval(Duration::from_millis(200));
    let result = loop {
        tokio::select! {
            made = &mut making => break Some(made),
            () = sleep_until(end) => break None,
            _ = look.tick() => cancel.fetch_or(slot.cancel.load(Ordering::Relaxed), Ordering::Relaxed),
        };
    };
    match result {
        Some(made) => (event(&recipe, made), None),
        None => {
            cancel.store(true, Ordering::Relaxed);
            let reason = format!("{}: took longer than {} s", recipe.granule, deadline.as_secs_f64());
            match timeout(STUCK, making).await {
                // It was being committed at that moment, and is there.
                Ok(made @ Ok(Ok(_))) => (event(&recipe, made), None),
                Ok(_) => (failed(FailureKind::Transient, reason), None),
                Err(_) => (failed(FailureKind::Transient, reason.clone()), Some(reason)),
            }
        }
    }
}

fn event(recipe: &Recipe, made: Result<Result<Done, Failed>, tokio::task::JoinError>) -> TaskEvent {
    match made {
        Err(error) => {
            let text = format!("{}: the program failed while making it ({error}); please report this", recipe.granule);
            // A library may have failed for a reason that passes, and its wrapper not have borne it.
            failed(FailureKind::Transient, text)
        }
        Ok(Err(failed)) => TaskEvent::Failed(failed),
        Ok(Ok(done)) => TaskEvent::Done(done),
    }
}
