//! The actor that consumes outcomes: it has them written into the ledger, and only then acknowledges them.

use super::announcements::{AnnouncedSlots, Announcements};
use super::arrivals::{Arrival, ArrivalCheck, Arrivals};
use super::drive_options::{BATCH, BUILD, DriveError};
use super::ledger::{self, Claim, LedgerEvent, Settled};
use super::ledger_handle::{LedgerHandle, LedgerHandleError};
use super::sources::{SourceInspector, SourceState, Witnesses};
use edp_program::telemetry::metrics::metrics;
use edp_program::telemetry::refusals::Refusals;
use edp_program::telemetry::trace;
use edp_protocol::message::{FailureKind, chain};
use edp_protocol::recipe::MEAN_ENDING;
use edp_protocol::text::shortened;
use edp_protocol::wire::{self, Failed, GROUPS_HEADER, Outcome, SLOTS_HEADER, TaskGroup, TaskMessage};
use edp_queue::topology::DELIVERY_LIMIT;
use edp_queue::{Consumer, DeadLetterReason, Delivery, Destination, Message};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::Span;

/// Time for which the first outcome of a batch waits for others.
const GATHER: Duration = Duration::from_millis(20);

/// Size in bytes of the bodies of a batch above which no other message is waited for.
const BATCH_BYTES: usize = 16 << 20;

/// Number of batches whose granules are looked for at the same time, since a store takes some time for each.
pub(super) const BATCHES: usize = 8;

/// Time without an outcome after which none is waited for any more at the end of a production whose queues are in this
/// process: what remained in such a queue would be lost. Outcomes in a broker's queue stay there for the next
/// coordinator.
const LAST: Duration = Duration::from_millis(100);

/// Name of the worker in outcomes of dead-lettered task messages.
const WORKER: &str = "broker";

/// Beginning of the names of facts about means: the SHA-256 of a mean, by its path below the destination root.
const MEAN: &str = "mean";

/// The state of the actor.
pub(super) struct Outcomes {
    pub(super) ledger: LedgerHandle,
    pub(super) results: Consumer,
    /// Consumer of dead letters: task messages and outcomes.
    pub(super) dead: Consumer,
    /// Names of both queues in traces.
    pub(super) from: [Destination; 2],
    pub(super) mixed_builds: bool,
    /// True if the queues are within this process.
    pub(super) local: bool,
    /// The build with which the production was begun, once it is known.
    pub(super) build: Option<String>,
    /// Notified when the window may have room.
    pub(super) room: Arc<Notify>,
    pub(super) settled: mpsc::Sender<Vec<Settled>>,
    /// Policies of the broker that were reported already.
    pub(super) policies: BTreeSet<DeadLetterReason>,
    pub(super) sources: SourceInspector,
    pub(super) witnesses: Witnesses,
    /// Checks granules that are reported as done; `None` if workers are believed.
    pub(super) arrivals: Option<Arrivals>,
    /// Counts of the messages that do not count.
    pub(super) refusals: Refusals,
    /// Workers that should end; task messages name them.
    pub(super) unfit: watch::Sender<Vec<String>>,
    /// The workers that take part.
    pub(super) announcements: Announcements,
}

impl Outcomes {
    /// Consumes outcomes in batches until `halt` is cancelled, or the queue is gone. Outcomes that were received by then
    /// are still written.
    pub(super) async fn run(mut self, halt: CancellationToken) -> Result<(), DriveError> {
        self.build = self.ledger.ask(|ledger| ledger.fact(BUILD)).await?;
        // The batches whose granules are looked for, in the order in which they are written, and their size in bytes.
        let (mut looking, mut held) = (VecDeque::<Batch>::new(), 0);
        loop {
            let (mut deliveries, mut bytes) = (Vec::new(), 0);
            let mut gathered = None;
            let mut over = None;
            while over.is_none() && deliveries.len() < BATCH && held + bytes < BATCH_BYTES {
                let [results, dead] = &self.from;
                let local = self.local;
                let ending = async {
                    halt.cancelled().await;
                    if local {
                        sleep(LAST).await;
                    }
                };
                let (from, next) = tokio::select! {
                    biased;
                    () = ending => (results, Ok(None)),
                    () = looked(&mut looking), if !looking.is_empty() => {
                        held -= self.write_first(&mut looking).await?;
                        continue;
                    }
                    next = self.results.next() => (results, next),
                    next = self.dead.next() => (dead, next),
                    () = sleep_until(gathered.unwrap_or_else(Instant::now)), if gathered.is_some() => break,
                };
                match next {
                    Ok(Some(delivery)) => {
                        // The span ends when the outcome is written and acknowledged.
                        let span = trace::consume("settle", from, &delivery.message, delivery.redelivered);
                        bytes += delivery.message.body.len();
                        deliveries.push((delivery, span));
                        gathered.get_or_insert_with(|| Instant::now() + GATHER);
                    }
                    Ok(None) => over = Some(Ok(())),
                    Err(error) => over = Some(Err(error.into())),
                }
            }
            if !deliveries.is_empty() {
                looking.push_back(self.begin(deliveries, bytes).await?);
                held += bytes;
            }
            while looking.len() >= BATCHES || !looking.is_empty() && (over.is_some() || held >= BATCH_BYTES) {
                held -= self.write_first(&mut looking).await?;
            }
            if let Some(over) = over {
                // Deliveries that were fetched ahead go back to the queue.
                self.results.stop().await;
                self.dead.stop().await;
                self.log_refusals();
                return over;
            }
        }
    }

    /// Begins with a batch: finds out which of its messages count, and begins to look for the granules that are reported
    /// as done.
    async fn begin(&mut self, deliveries: Vec<(Delivery, Span)>, bytes: usize) -> Result<Batch, LedgerHandleError> {
        let mut content = Vec::with_capacity(deliveries.len());
        for (delivery, span) in &deliveries {
            content.extend(self.decode(&delivery.message, span).into_iter().map(|content| (content, span.clone())));
        }
        let counted = self.that_count(content).await?;
        let look = self.arrivals.as_ref().map(|arrivals| arrivals.look(done(&counted)));
        Ok(Batch { deliveries, bytes, counted, look, missing: Vec::new() })
    }

    /// Has the first of the batches written. Returns its size in bytes.
    async fn write_first(&mut self, batches: &mut VecDeque<Batch>) -> Result<usize, LedgerHandleError> {
        looked(batches).await;
        let Some(batch) = batches.pop_front() else { return Ok(0) };
        let bytes = batch.bytes;
        self.write(batch).await?;
        Ok(bytes)
    }

    async fn write(&mut self, batch: Batch) -> Result<(), LedgerHandleError> {
        let Batch { deliveries, mut counted, missing, .. } = batch;
        self.refuse_missing(&mut counted, missing);
        let mut events = Vec::with_capacity(counted.len());
        for one in counted {
            events.push(match one.content {
                MessageContent::Outcome { outcome, announced } => {
                    if let Some(announced) = announced.filter(|_| !one.reported_before) {
                        self.announcements.hear(&outcome, announced);
                    }
                    let outcome = self.examined(outcome, one.reported_before).await?;
                    trace::ended(&one.span, outcome.event.ended());
                    LedgerEvent::Reported(Box::new(outcome))
                }
                MessageContent::Dropped { id, attempt, reason } => {
                    trace::ended(&one.span, Some(Err(&Failed::because(FailureKind::Lost, reason.clone()))));
                    LedgerEvent::Dropped { id, attempt, reason }
                }
            });
        }
        let settled = self.ledger.ask(move |ledger| ledger.write(&events, ledger::now())).await?;
        // Only now: a message that is written into the ledger need not come again.
        deliveries.into_iter().for_each(|(delivery, _)| delivery.ack());
        self.room.notify_one();
        if !settled.is_empty() {
            // The director may have ended; the ledger has the states.
            let _ = self.settled.send(settled).await;
        }
        Ok(())
    }

    /// Decodes the content of a message, if that is possible: an outcome, or what the end of each task message in it
    /// means.
    fn decode(&mut self, message: &Message, span: &Span) -> Vec<MessageContent> {
        let (kind, body) = (&message.content_type, &message.body);
        if let Some((death, _)) = message.death() {
            metrics().dead_letter(death);
        }
        let policy = message.death().and_then(|(death, queue)| self.policy(death, queue));
        let outcome = match Outcome::decode(kind, body) {
            Ok(outcome) => outcome,
            Err(error) => {
                // Task messages that came back. They are about the recipes in them, whatever else they state.
                let is_valid = |group: &TaskGroup| group.tasks.iter().all(|task| task.identified().is_ok());
                let Some(group) = TaskGroup::decode(kind, body).ok().filter(is_valid) else {
                    span.in_scope(|| self.refuse("neither an outcome nor a task message", &chain(&error)));
                    return Vec::new();
                };
                let content = |task: TaskMessage| match policy.clone() {
                    Some(reason) => MessageContent::Dropped { id: task.recipe_id, attempt: task.attempt, reason },
                    None => MessageContent::Outcome { outcome: dead(task), announced: None },
                };
                return group.tasks.into_iter().map(content).collect();
            }
        };
        span.record("edp.attempt", outcome.attempt);
        span.record("edp.worker", &outcome.worker);
        // A worker of an earlier release does not state its slots, and does not make the window larger.
        let slots = message.headers.get(SLOTS_HEADER).and_then(|slots| slots.parse().ok()).unwrap_or(0);
        let takes_groups = message.headers.contains_key(GROUPS_HEADER);
        vec![MessageContent::Outcome { outcome, announced: Some(AnnouncedSlots { slots, takes_groups }) }]
    }

    /// Returns the messages that count: they are about a recipe that the production has, and an attempt that was
    /// published. Others have no effect.
    async fn that_count(
        &mut self,
        content: Vec<(MessageContent, Span)>,
    ) -> Result<Vec<CountedMessage>, LedgerHandleError> {
        let about: Vec<_> = content.iter().map(|(content, _)| content.about()).collect();
        let claims = self.ledger.ask(move |ledger| ledger.claims(&about)).await?;
        let mut counted = Vec::with_capacity(content.len());
        for ((one, span), claim) in content.into_iter().zip(claims) {
            let is_done = matches!(&one, MessageContent::Outcome { outcome, .. } if matches!(outcome.event, wire::TaskEvent::Done(_)));
            let why = match claim {
                // It does not matter which worker reports this: the granule itself is checked.
                Claim::Crowded { granule } if is_done && self.arrivals.is_some() => {
                    counted.push(CountedMessage { content: one, granule, reported_before: false, span });
                    continue;
                }
                Claim::Published { granule, reported_before } => {
                    counted.push(CountedMessage { content: one, granule, reported_before, span });
                    continue;
                }
                Claim::Unknown => "about a recipe that this production does not have",
                Claim::Unpublished => "about an attempt that was not published",
                Claim::Crowded { .. } => "from more workers than one attempt can have",
            };
            let (id, attempt, worker) = one.about();
            self.refuse(why, &format!("recipe {}, attempt {attempt}, worker {worker}", shortened(&id)));
        }
        Ok(counted)
    }

    /// Turns reports of granules that were not found into failures: these granules are made again, perhaps by another
    /// worker, and only a limited number of times. `missing` has the reasons for all that are reported as done.
    fn refuse_missing(&mut self, counted: &mut [CountedMessage], missing: Vec<Option<String>>) {
        for (one, why) in counted.iter_mut().filter(|one| one.done().is_some()).zip(missing) {
            let (Some(why), CountedMessage { content: MessageContent::Outcome { outcome, .. }, granule, .. }) =
                (why, one)
            else {
                continue;
            };
            let reason = format!("{granule}: worker {} says that it is done, but it {why}", outcome.worker);
            outcome.event = wire::TaskEvent::Failed(Failed::because(FailureKind::Transient, reason.clone()));
            self.refuse("about a granule that is not there", &reason);
        }
    }

    /// Counts a message that has no effect.
    fn refuse(&mut self, why: &'static str, what: &str) {
        if let Some(count) = self.refusals.count(why) {
            tracing::warn!(count, why, what, "messages are left out that do not count");
        }
    }

    /// Logs the numbers of messages that did not count, by reason.
    fn log_refusals(&self) {
        let counts: Vec<String> = self.refusals.counts().map(|(why, count)| format!("{count} {why}")).collect();
        if !counts.is_empty() {
            tracing::warn!("messages that were left out, since they do not count: {}", counts.join("; "));
        }
    }

    /// Returns an outcome as it counts. One that was reported before is not examined again, since that costs an
    /// inspection of all inputs.
    async fn examined(&mut self, mut outcome: Outcome, reported_before: bool) -> Result<Outcome, LedgerHandleError> {
        if !reported_before {
            self.examine(&mut outcome).await?;
            self.compare_means(&mut outcome).await?;
        }
        if self.mixed_builds {
            return Ok(outcome);
        }
        if self.build.is_none() && !matches!(outcome.event, wire::TaskEvent::Failed(_)) {
            let own = outcome.build.clone();
            self.build = Some(self.ledger.ask(move |ledger| ledger.fix_fact(BUILD, &own)).await?);
        }
        Ok(checked_build(outcome, self.build.as_deref()))
    }

    /// Turns a report into a conflict if the worker has used another mean than the production. The first report fixes
    /// the digest of each mean. Only means that are named in a recipe count, so that reports cannot fill the ledger with
    /// others.
    async fn compare_means(&mut self, outcome: &mut Outcome) -> Result<(), LedgerHandleError> {
        let wire::TaskEvent::Done(done) = &outcome.event else { return Ok(()) };
        let means: Vec<_> = done.inputs.iter().filter(|input| input.path.ends_with(MEAN_ENDING)).collect();
        if means.is_empty() {
            return Ok(());
        }
        let id = outcome.recipe_id.clone();
        let Some(recipe) = self.ledger.ask(move |ledger| ledger.recipe(&id)).await? else { return Ok(()) };
        for found in means {
            let Some((_, mean)) = recipe.means().find(|(_, mean)| mean.path == found.path) else { continue };
            let (fact, sha256) = (format!("{MEAN} {}", mean.path), found.sha256.clone());
            let fixed = self.ledger.ask(move |ledger| ledger.fix_fact(&fact, &sha256)).await?;
            if fixed != found.sha256 {
                let reason = format!(
                    "{}: was made with the mean {} whose SHA-256 is {}, other granules with one whose SHA-256 is {fixed}: \
                     find out which of them is right, remove the mean and the granules that were made with the other, and \
                     send them again",
                    done.location, mean.path, found.sha256
                );
                outcome.event = wire::TaskEvent::Failed(Failed::because(FailureKind::Conflict, reason));
                return Ok(());
            }
        }
        Ok(())
    }

    /// Examines a report that something is missing or not accessible, which may be due to the worker itself: the
    /// coordinator looks for it too. If it does not find it either, the recipe fails at once. If it does, or if other
    /// workers do, that counts against the worker.
    async fn examine(&mut self, outcome: &mut Outcome) -> Result<(), LedgerHandleError> {
        let unfit = match &mut outcome.event {
            wire::TaskEvent::Done(done) if !done.already => self.witnesses.made(&outcome.worker, &outcome.recipe_id),
            wire::TaskEvent::Failed(failed) if matches!(failed.kind, FailureKind::NotFound | FailureKind::Denied) => {
                if self.local {
                    // This process is the worker, and there is no other.
                    failed.kind = FailureKind::Permanent;
                    return Ok(());
                }
                let id = outcome.recipe_id.clone();
                let Some(recipe) = self.ledger.ask(move |ledger| ledger.recipe(&id)).await? else { return Ok(()) };
                self.witnesses.missed(&outcome.worker, &outcome.recipe_id);
                match self.sources.look(recipe).await {
                    SourceState::There => self.witnesses.found(&outcome.recipe_id),
                    SourceState::Absent(what) => {
                        failed.kind = FailureKind::Permanent;
                        failed.reason.push(format!("{what}: the coordinator does not find it either"));
                        None
                    }
                    SourceState::Unknown => None,
                }
            }
            _ => None,
        };
        if let Some(workers) = unfit {
            tracing::warn!(
                workers = workers.join(", "),
                "workers do not find, or may not touch, what others find (a root or a mount of their machines is wrong); they \
                 are told to end"
            );
            self.unfit.send_replace(workers);
        }
        Ok(())
    }

    /// Returns the reason why a policy of the broker has taken a message out of its queue, if one has. Each policy is
    /// reported once.
    fn policy(&mut self, death: DeadLetterReason, queue: &str) -> Option<String> {
        let (policy, what) = match death {
            DeadLetterReason::DeliveryLimit => return None,
            DeadLetterReason::Expired => ("message-ttl", "for longer than messages may stay there"),
            DeadLetterReason::Length => ("max-length", "when it was longer than it may be"),
        };
        if self.policies.insert(death) {
            tracing::warn!(
                queue,
                "a policy of the broker ({policy}) takes messages out of the queue; they are sent again, and no granule \
                 fails by it, but it costs time: take the queues of EDP out of that policy (rabbitmqctl list_policies)"
            );
        }
        Some(format!("its task message was in the queue {queue} {what}, by a policy of the broker ({policy})"))
    }
}

/// The content of a message, before it is known whether it counts.
#[derive(Debug)]
enum MessageContent {
    /// An outcome from a worker, or one that stands for a task message which the broker has given up.
    Outcome {
        /// The outcome.
        outcome: Outcome,
        /// The job slots of the worker; `None` if the outcome is not from a worker.
        announced: Option<AnnouncedSlots>,
    },
    /// A policy of the broker has dropped a task message.
    Dropped { id: String, attempt: u32, reason: String },
}

impl MessageContent {
    /// Returns recipe and attempt that the message is about, and its sender.
    fn about(&self) -> (String, u32, String) {
        match self {
            MessageContent::Outcome { outcome, .. } => {
                (outcome.recipe_id.clone(), outcome.attempt, outcome.worker.clone())
            }
            MessageContent::Dropped { id, attempt, .. } => (id.clone(), *attempt, WORKER.into()),
        }
    }
}

/// A message about a task message of this production.
#[derive(Debug)]
struct CountedMessage {
    content: MessageContent,
    /// Path or address of the granule.
    granule: String,
    /// True if this worker has reported the end of this attempt before.
    reported_before: bool,
    /// The span that ends when it is written.
    span: Span,
}

impl CountedMessage {
    /// Returns the report that the granule is at its destination, if it is one.
    fn done(&self) -> Option<&wire::Done> {
        match &self.content {
            MessageContent::Outcome { outcome: Outcome { event: wire::TaskEvent::Done(done), .. }, .. } => Some(done),
            _ => None,
        }
    }
}

/// Messages that are written into the ledger together.
struct Batch {
    deliveries: Vec<(Delivery, Span)>,
    /// Size of the bodies in bytes.
    bytes: usize,
    counted: Vec<CountedMessage>,
    /// The search for the granules that are reported as done, until it has ended.
    look: Option<ArrivalCheck>,
    /// The reason for each of these why it is not there as reported.
    missing: Vec<Option<String>>,
}

/// Returns the granules that are reported as done.
fn done(counted: &[CountedMessage]) -> Vec<Arrival> {
    let arrival = |one: &CountedMessage| Some(Arrival { granule: one.granule.clone(), size: one.done()?.size });
    counted.iter().filter_map(arrival).collect()
}

/// Waits until the granules of the first batch were looked for.
async fn looked(batches: &mut VecDeque<Batch>) {
    if let Some(batch) = batches.front_mut()
        && let Some(look) = &mut batch.look
    {
        batch.missing = look.ended().await;
        batch.look = None;
    }
}

/// Returns the outcome for a task message that was delivered as often as the broker permits, and never answered.
fn dead(task: TaskMessage) -> Outcome {
    let reason =
        vec![format!("its task message was delivered {DELIVERY_LIMIT} times and never answered: see what workers log")];
    let event = wire::TaskEvent::Failed(Failed { kind: FailureKind::Transient, reason });
    Outcome { recipe_id: task.recipe_id, attempt: task.attempt, worker: WORKER.into(), build: String::new(), event }
}

/// Returns an outcome as it counts in a production that has a build.
///
/// A granule that a worker of another build has made is not a granule of this production, since its bytes may differ.
/// Such a worker can only have begun before the build was known, since task messages name the build from then on. Its
/// granule is at the place of ours: that is a conflict, which the operator has to resolve. A granule that a worker has
/// only found there counts, whatever the worker's build.
fn checked_build(mut outcome: Outcome, build: Option<&str>) -> Outcome {
    if let (wire::TaskEvent::Done(done), Some(ours)) = (&outcome.event, build)
        && outcome.build != ours
        && !done.already
    {
        let reason = format!(
            "{}: was made by a worker of build '{}', the production is of '{ours}': remove it and send it again, or \
             allow --mixed-builds",
            done.location, outcome.build
        );
        outcome.event = wire::TaskEvent::Failed(Failed { kind: FailureKind::Conflict, reason: vec![reason] });
    }
    outcome
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    fn done(already: bool, build: &str) -> Outcome {
        let event = wire::TaskEvent::Done(wire::Done { already, location: "out/g.nc".into(), ..wire::Done::default() });
        Outcome { recipe_id: "1".into(), attempt: 1, worker: "w".into(), build: build.into(), event }
    }

    #[test]
    fn granules_of_another_build_are_conflicts_unless_they_were_there() {
        let wire::TaskEvent::Failed(failed) = checked_build(done(false, "b"), Some("a")).event else {
            panic!("no conflict")
        };
        assert_eq!(failed.kind, FailureKind::Conflict);
        let reason = failed.reason.join(": ");
        assert!(reason.contains("out/g.nc") && reason.contains("'b'") && reason.contains("--mixed-builds"), "{reason}");
        for (already, build) in [(true, Some("a")), (false, Some("b")), (false, None)] {
            assert_eq!(checked_build(done(already, "b"), build), done(already, "b"));
        }
    }
}
