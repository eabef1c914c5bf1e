//! A long-lived worker: it takes task messages from the queue, one for each slot, until it is told to stop. Several task
//! messages may come as one, as a group: a slot then makes their granules one after the other, from the same inputs.
//!
//! The order of events keeps data right. A granule is begun after that was reported to the coordinator, it is committed
//! before its outcome is published, and a delivery is acknowledged only after the broker has confirmed the outcome.
//! Whatever is interrupted in between comes again.
//!
//! Each slot takes its granule through all stages by itself: fetching, making, and committing or putting it. The stages
//! of different granules overlap, since several slots are at work: while one waits for a store, another computes. The
//! slots are threads that block. Heavy computing is spread over one pool with as many threads as there are cores, which
//! all slots share, so that more slots than cores do not make more threads compute. With local files, one slot for each
//! core keeps that pool busy. If inputs and granules are transferred, a slot waits during a fraction of its time, and
//! 1/(1 - fraction) times as many slots are needed to keep the cores busy; each takes the memory of one granule. The
//! prefetch of the queue is the number of slots, so that no task message waits in a worker whose slots are all busy.
//!
//! A worker ends by a shutdown request or the end of its machine (it drains), after a long time without task messages,
//! or in an environment in which nothing can be made: then it returns what it has, reports why, and ends, and whatever
//! runs workers starts another one, here or elsewhere. A computation that does not end is ended by the end of the
//! process.

use super::allowed_roots::AllowedRoots;
use super::fitness::Fitness;
use super::status::SlotMonitor;
use super::{Worker, log_end};
use edp_program::telemetry::metrics::metrics;
use edp_program::telemetry::refusals::Refusals;
use edp_program::telemetry::trace;
use edp_protocol::message::{FailureKind, chain};
use edp_protocol::recipe::Recipe;
use edp_protocol::wire::{
    self, BUILD_HEADER, Done, Failed, GROUPS_HEADER, MAX_GROUP, Outcome, SLOTS_HEADER, TaskEvent, TaskGroup,
    TaskMessage, UNFIT_HEADER,
};
use edp_queue::{Consumer, Delivery, Destination, Link, Message, PublishError, Publisher, Queue, QueueError};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

/// Options of a worker that serves a queue.
#[derive(Debug, Clone)]
pub struct Service {
    /// The worker whose slots are used.
    pub worker: Arc<Worker>,
    /// Roots beneath which recipes may read and write; `None` if they are the user's own, which need no limits.
    pub roots: Option<AllowedRoots>,
    /// Time that making a granule may take, unless its task message states less.
    pub deadline: Duration,
    /// Time that granules under way have to end when the worker ends by itself; then they are returned.
    pub grace: Duration,
    /// Time without task messages after which the worker ends.
    pub idle: Option<Duration>,
    /// Time to wait for the coordinator to declare the queues.
    pub patience: Duration,
    /// What the slots do, for the status of the worker.
    pub monitor: SlotMonitor,
}

/// The reason why a worker has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEnd {
    /// It was told to stop.
    Stopped,
    /// There was nothing to do.
    Idle,
    /// It cannot make granules as things are here, while others may; the reason.
    Unfit(String),
}

/// The end of a slot's work on one task message.
enum SlotEnd {
    /// The delivery is settled.
    Settled,
    /// Nothing can be made here; the reason.
    Unfit(String),
    /// The computation does not end, and only the end of the process ends it.
    Stuck(String),
    /// The queue has failed.
    Cut(PublishError),
}

/// The state that a job slot needs.
#[derive(Clone)]
struct SlotContext {
    service: Service,
    results: Publisher,
    /// Names of the queues of task messages and of outcomes in traces.
    names: Arc<[Destination; 2]>,
    build: Arc<str>,
    /// Cancelled when the worker begins to drain.
    draining: CancellationToken,
    /// Cancelled when the grace period is over.
    cancel: CancellationToken,
    fitness: Arc<Fitness>,
}

/// Consumes task messages until `stop` completes, no more arrive, or nothing can be made here. The result of `stop` is
/// the time that granules under way then have to end.
///
/// # Errors
/// Returns an error if the queue cannot be reached for longer than its patience, or refuses us.
pub async fn serve(
    service: Service,
    link: &Link,
    stop: impl Future<Output = Duration>,
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
        draining: CancellationToken::new(),
        cancel: CancellationToken::new(),
        fitness: Arc::default(),
        service,
    };
    let mut busy: JoinSet<SlotEnd> = JoinSet::new();
    // A task message that is to be processed with nothing else in the process; it is waiting for that, or being
    // processed.
    let mut alone: Option<(Delivery, Vec<IdentifiedTask>)> = None;
    let mut refusals = Refusals::default();
    let mut solitary = false;
    let mut since = Instant::now();
    let mut ended = None;
    let mut grace = slot.service.grace;
    loop {
        if busy.is_empty() {
            solitary = false;
            if let Some((delivery, tasks)) = alone.take() {
                solitary = true;
                busy.spawn(process_all(slot.clone(), delivery, tasks));
            }
        }
        metrics().slots(busy.len(), slots);
        slot.service.monitor.serving(busy.len());
        let free = alone.is_none() && !solitary && busy.len() < slots;
        let idle_end = slot.service.idle.filter(|_| busy.is_empty()).and_then(|idle| since.checked_add(idle));
        tokio::select! {
            biased;
            given = &mut stop => {
                grace = given;
                ended = Some(WorkerEnd::Stopped);
            }
            Some(end) = busy.join_next(), if !busy.is_empty() => {
                since = Instant::now();
                match end {
                    Ok(SlotEnd::Settled) => {}
                    Ok(SlotEnd::Unfit(reason) | SlotEnd::Stuck(reason)) => ended = Some(WorkerEnd::Unfit(reason)),
                    Ok(SlotEnd::Cut(PublishError::Queue(error))) => return Err(error),
                    Ok(SlotEnd::Cut(error @ (PublishError::Size { .. } | PublishError::Full { .. }))) => ended = Some(WorkerEnd::Unfit(chain(&error))),
                    // Slots turn panics of the computation into outcomes, and do not panic themselves.
                    Err(error) => ended = Some(WorkerEnd::Unfit(error.to_string())),
                }
            }
            next = tasks.next(), if free => match next? {
                None => ended = Some(WorkerEnd::Stopped),
                Some(delivery) => match read(&delivery) {
                    Ok(tasks) => {
                        let is_alone = tasks.iter().any(|identified| identified.task.alone);
                        if is_alone && !busy.is_empty() {
                            alone = Some((delivery, tasks));
                        } else {
                            solitary = is_alone;
                            busy.spawn(process_all(slot.clone(), delivery, tasks));
                        }
                    }
                    Err(error) => {
                        // It cannot be answered, since it names no recipe.
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
            slot.service.monitor.draining(match &ended {
                WorkerEnd::Unfit(reason) => Some(reason),
                WorkerEnd::Stopped | WorkerEnd::Idle => None,
            });
            if let Some((delivery, tasks)) = alone {
                busy.spawn(return_all(slot.clone(), delivery, tasks));
            }
            drain(&slot, &mut tasks, busy, grace).await;
            return Ok(ended);
        }
    }
}

/// A task message, with the recipe in it.
struct IdentifiedTask {
    task: TaskMessage,
    recipe: Recipe,
}

/// Decodes a task message, or a group of them. Outcomes are reported by the ids of their recipes, so a message that
/// states another id is refused.
fn read(delivery: &Delivery) -> Result<Vec<IdentifiedTask>, wire::WireError> {
    let group = TaskGroup::decode(&delivery.message.content_type, &delivery.message.body)?;
    let identified = |task: TaskMessage| Ok(IdentifiedTask { recipe: task.identified()?, task });
    group.tasks.into_iter().map(identified).collect()
}

/// Processes the task messages of a delivery one after the other, and acknowledges it after the last outcome. Inputs on
/// S3 that several of them read are fetched once, unless further processes make the granules. Once nothing can be made
/// here, or the worker drains, the others are returned.
async fn process_all(slot: SlotContext, delivery: Delivery, tasks: Vec<IdentifiedTask>) -> SlotEnd {
    let mut objects = {
        let worker = &slot.service.worker;
        let recipes: Vec<&Recipe> = tasks.iter().map(|identified| &identified.recipe).collect();
        worker.cache.shared_objects().announce(&recipes, worker.memory / SHARED)
    };
    let mut end = SlotEnd::Settled;
    for (member, identified) in tasks.into_iter().enumerate() {
        objects.begin_next();
        let (from, id) = (&slot.names[0], &identified.task.recipe_id);
        let span = trace::process_task(from, &delivery.message, delivery.redelivered, member, id);
        span.record("edp.attempt", identified.task.attempt);
        end = match end {
            SlotEnd::Settled if member == 0 || !slot.draining.is_cancelled() => {
                process(&slot, &delivery, identified).instrument(span).await
            }
            ended => match return_task(&slot, &identified.task).instrument(span).await {
                Ok(()) => ended,
                Err(error) => SlotEnd::Cut(error),
            },
        };
        if matches!(end, SlotEnd::Cut(_)) {
            return end;
        }
    }
    delivery.ack();
    end
}

/// Part of a slot's memory that the inputs which a group shares may take in addition.
const SHARED: u64 = 4;

/// Takes no more task messages, and waits for those under way. What does not end within the grace period is returned.
async fn drain(slot: &SlotContext, tasks: &mut Consumer, mut busy: JoinSet<SlotEnd>, grace: Duration) {
    slot.draining.cancel();
    tasks.stop().await;
    let ends = async {
        while busy.join_next().await.is_some() {
            slot.service.monitor.busy(busy.len());
            metrics().slots(busy.len(), slot.service.worker.slots);
        }
    };
    tokio::pin!(ends);
    if timeout(grace, &mut ends).await.is_err() {
        slot.cancel.cancel();
        // A slot that does not react to this is stuck. Its delivery goes back when the connection ends.
        let _ = timeout(STUCK, ends).await;
    }
}

/// Time that a cancelled computation has to notice, and that file systems have to answer.
const STUCK: Duration = Duration::from_secs(30);

/// Makes one granule, and reports the outcome to the coordinator. The delivery is acknowledged later.
async fn process(slot: &SlotContext, delivery: &Delivery, IdentifiedTask { task, recipe }: IdentifiedTask) -> SlotEnd {
    let outcome = |event| outcome(slot, &task, event);
    let is_named = |names: &String| names.split(',').any(|name| name == slot.service.worker.id);
    if delivery.message.headers.get(UNFIT_HEADER).is_some_and(is_named) {
        let reason = "others find inputs that this worker did not find or may not touch: check its roots (--root, \
                      serve.roots), mounts and permissions"
            .to_owned();
        return match settle(slot, outcome(failed(FailureKind::Returned, reason.clone()))).await {
            Ok(()) => SlotEnd::Unfit(reason),
            Err(error) => SlotEnd::Cut(error),
        };
    }
    let wanted = delivery.message.headers.get(BUILD_HEADER).filter(|wanted| ***wanted != *slot.build);
    if let Some(wanted) = wanted {
        let reason = format!("this worker is of build '{}', the production of '{wanted}'", slot.build);
        let event = failed(FailureKind::Returned, reason.clone());
        let is_unfit = slot.fitness.other_build(&task.recipe_id);
        return match settle(slot, outcome(event)).await {
            Ok(()) if is_unfit => SlotEnd::Unfit(reason),
            settled => done(settled),
        };
    }
    if delivery.redelivered {
        // Whatever it is that brings workers down, one message brings down only one.
        let reason = "it was delivered before, to a worker that did not say how it ended".to_owned();
        return done(settle(slot, outcome(failed(FailureKind::Lost, reason))).await);
    }
    let admitted = look(slot, move |roots| match roots {
        Some(roots) => roots.admit(recipe),
        None => Ok(recipe),
    })
    .await;
    let recipe = match admitted {
        Ok(Ok(recipe)) => recipe,
        Ok(Err(reason)) => {
            // Other workers may have other roots. A worker that may access nothing of what is asked for is of no use.
            let is_unfit = slot.fitness.outside(&task.recipe_id);
            let kind = if is_unfit { FailureKind::Returned } else { FailureKind::Denied };
            return match settle(slot, outcome(failed(kind, reason.clone()))).await {
                Ok(()) if is_unfit => SlotEnd::Unfit(reason),
                settled => done(settled),
            };
        }
        Err(reason) => {
            return match settle(slot, outcome(failed(FailureKind::Returned, reason.clone()))).await {
                Ok(()) => SlotEnd::Stuck(reason),
                Err(error) => SlotEnd::Cut(error),
            };
        }
    };
    slot.fitness.is_of_use();
    Span::current().record("edp.granule", &recipe.granule);
    if let Err(error) = publish(slot, &outcome(TaskEvent::Started)).await {
        return SlotEnd::Cut(error);
    }
    let deadline = match task.deadline {
        0 => slot.service.deadline,
        seconds => Duration::from_secs(seconds.into()).min(slot.service.deadline),
    };
    let granule = recipe.granule.clone();
    let (mut result, stuck) = make(slot, recipe, task.look.clone(), deadline).await;
    use FailureKind::{Denied, NotFound, Permanent, Transient};
    if let TaskEvent::Failed(Failed { kind: Permanent | Transient | NotFound | Denied, .. }) = &result
        && let Err(reason) = look(slot, |_| ()).await
    {
        // The missing files may well exist.
        result = failed(FailureKind::Returned, reason);
    }
    if let Some(result) = result.ended() {
        log_end(&granule, result);
        metrics().failures(slot.fitness.ended(result.err().map(|failed| failed.kind)));
    }
    let unfit = match &result {
        TaskEvent::Failed(failed @ Failed { kind: FailureKind::Returned, .. }) if !slot.cancel.is_cancelled() => {
            Some(failed.reason())
        }
        _ => None,
    };
    match settle(slot, outcome(result)).await {
        Err(error) => SlotEnd::Cut(error),
        Ok(()) => match (stuck, unfit) {
            (Some(reason), _) => SlotEnd::Stuck(reason),
            (None, Some(reason)) => SlotEnd::Unfit(reason),
            (None, None) => SlotEnd::Settled,
        },
    }
}

/// Runs a check of the file systems beneath the roots, if these have not changed. If they have, or if they do not
/// answer, the error says that nothing can be made here.
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

/// Returns a task message that was never begun. The broker would deliver it to the next worker as one that may have
/// brought this worker down.
async fn return_task(slot: &SlotContext, task: &TaskMessage) -> Result<(), PublishError> {
    let reason = "the worker was stopped before it was made".to_owned();
    settle(slot, outcome(slot, task, failed(FailureKind::Returned, reason))).await
}

/// Returns the task messages of a delivery.
async fn return_all(slot: SlotContext, delivery: Delivery, tasks: Vec<IdentifiedTask>) -> SlotEnd {
    for IdentifiedTask { task, .. } in &tasks {
        if let Err(error) = return_task(&slot, task).await {
            return SlotEnd::Cut(error);
        }
    }
    delivery.ack();
    SlotEnd::Settled
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

/// Publishes how an attempt has ended.
async fn settle(slot: &SlotContext, outcome: Outcome) -> Result<(), PublishError> {
    trace::ended(&Span::current(), outcome.event.ended());
    publish(slot, &outcome).await
}

async fn publish(slot: &SlotContext, outcome: &Outcome) -> Result<(), PublishError> {
    let body = match outcome.encode() {
        Ok(body) => body,
        Err(error) => {
            // It is too large to be sent, so it is sent without its details.
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
    message.headers.insert(SLOTS_HEADER.into(), slot.service.worker.slots.to_string());
    message.headers.insert(GROUPS_HEADER.into(), MAX_GROUP.to_string());
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

/// Makes the granule on a thread for computing. Also returns a reason if that thread does not end.
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
    // The computation is synchronous, and looks at a flag before each level.
    let cancelling = async {
        slot.cancel.cancelled().await;
        cancel.store(true, Ordering::Relaxed);
        std::future::pending().await
    };
    let result = tokio::select! {
        made = &mut making => Some(made),
        () = sleep_until(end) => None,
        never = cancelling => never,
    };
    match result {
        Some(made) => (event(&recipe, made), None),
        None => {
            cancel.store(true, Ordering::Relaxed);
            let reason = format!("{}: took longer than {} s", recipe.granule, deadline.as_secs_f64());
            match timeout(STUCK, making).await {
                // It was being committed at that moment, and exists.
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
            // A library may have failed for a reason that passes, and its wrapper may have panicked because of that.
            failed(FailureKind::Transient, text)
        }
        Ok(Err(failed)) => TaskEvent::Failed(failed),
        Ok(Ok(done)) => TaskEvent::Done(done),
    }
}
