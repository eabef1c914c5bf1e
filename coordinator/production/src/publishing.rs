//! The actor that publishes: it takes what is due from the ledger, as much as the window has room for, and reports to
//! the ledger what the broker has confirmed.

use super::announcements::Announcements;
use super::drive_options::{BATCH, BUILD, DriveError, DriveOptions, ROUND};
use super::ledger::{self, Due, LedgerEvent, Settled};
use super::ledger_handle::LedgerHandle;
use super::task_groups::{OutgoingGroup, arrange, grouping, travels};
use edp_program::settings::TaskGrouping;
use edp_program::telemetry::metrics::metrics;
use edp_program::telemetry::trace;
use edp_protocol::message::{FailureKind, chain};
use edp_protocol::wire::{self, BUILD_HEADER, Failed, Outcome, TaskGroup, UNFIT_HEADER};
use edp_queue::{Destination, Message, PublishError, Publisher};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

/// Time for which confirmations are waited for at the end of a production. Messages that are not confirmed by then are
/// sent again at the next start, although they may be in the queue: duplicates are harmless.
const LAST: Duration = Duration::from_secs(5);

/// First and longest pause after the queue was full.
const FULL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Name of the worker in outcomes of recipes that cannot be sent.
const WORKER: &str = "coordinator";

/// The state of the actor.
pub(super) struct Publishing {
    pub(super) plan: DriveOptions,
    pub(super) ledger: LedgerHandle,
    pub(super) tasks: Publisher,
    /// Name of the queue of task messages in traces.
    pub(super) to: Destination,
    /// Notified when the window may have room.
    pub(super) room: Arc<Notify>,
    pub(super) settled: mpsc::Sender<Vec<Settled>>,
    /// Names of workers that should end.
    pub(super) unfit: watch::Receiver<Vec<String>>,
    /// The workers that take part, whose job slots make the window larger.
    pub(super) announcements: Announcements,
}

impl Publishing {
    /// Publishes in batches until `halt` is cancelled. While a batch is confirmed and recorded, workers have the rest of
    /// the window to go on with.
    pub(super) async fn run(self, halt: CancellationToken) -> Result<(), DriveError> {
        // A queue whose length a policy limits gets as much at once as it accepted the last time, and more as long as
        // it accepts that.
        let (mut most, mut pause, mut said) = (BATCH, FULL.0, false);
        while !halt.is_cancelled() {
            let window = self.plan.window(self.announcements.present().slots);
            let take = move |ledger: &mut ledger::Ledger| {
                let room = window.saturating_sub(ledger.under_way()?).min(most);
                Ok((ledger.take(ledger::now(), room)?, ledger.fact(BUILD)?))
            };
            let (mut due, build) = self.ledger.ask(take).await?;
            let grouping = grouping(&self.plan, self.announcements.all_take_groups());
            let travel: Vec<i64> = due.iter().filter(|due| travels(grouping, due)).map(|due| due.number).collect();
            if !travel.is_empty() {
                let mates = move |ledger: &mut ledger::Ledger| ledger.take_mates(&travel, ledger::now());
                due.extend(self.ledger.ask(mates).await?);
            }
            if due.is_empty() {
                tokio::select! {
                    () = halt.cancelled() => {}
                    () = self.room.notified() => {}
                    () = sleep(ROUND) => {}
                }
                continue;
            }
            let offered = due.len();
            let (events, failure) = self.send(grouping, due, build.as_deref(), &halt).await;
            let accepted = events.len();
            let settled = self.ledger.ask(move |ledger| ledger.write(&events, ledger::now())).await?;
            if !settled.is_empty() {
                let _ = self.settled.send(settled).await;
            }
            match failure {
                Some(error @ PublishError::Full { .. }) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!("{error}; task messages are sent as it accepts them");
                    }
                    most = accepted.clamp(1, offered);
                    tokio::select! {
                        () = halt.cancelled() => {}
                        () = self.room.notified() => {}
                        () = sleep(pause) => {}
                    }
                    pause = (pause * 2).min(FULL.1);
                }
                Some(failure) => return Err(failure.into()),
                None => (most, pause) = (most.saturating_mul(2).min(BATCH), FULL.0),
            }
        }
        Ok(())
    }

    /// Publishes task messages. Returns an event for each whose result is known, and the error that keeps the others
    /// from being sent.
    async fn send(
        &self,
        grouping: TaskGrouping,
        due: Vec<Due>,
        build: Option<&str>,
        halt: &CancellationToken,
    ) -> (Vec<LedgerEvent>, Option<PublishError>) {
        let mut events = Vec::with_capacity(due.len());
        let mut failure = None;
        let mut sending = JoinSet::new();
        let (groups, refused) = arrange(&self.plan, grouping, due);
        events.extend(refused.into_iter().map(|(due, error)| unsendable(due, &error)));
        for OutgoingGroup { members, .. } in groups {
            let (group, tasks): (Vec<Due>, Vec<_>) = members.into_iter().unzip();
            let body = match (TaskGroup { tasks }).encode() {
                Ok(body) => body,
                Err(error) => {
                    events.extend(group.into_iter().map(|due| unsendable(due, &error)));
                    continue;
                }
            };
            let (message, span) = self.message(&group, body, build);
            let tasks = self.tasks.clone();
            sending.spawn(async move { (tasks.offer(message).await, group) }.instrument(span));
        }
        {
            let confirmed = async {
                while let Some(sent) = sending.join_next().await {
                    match sent {
                        Ok((Ok(()), group)) => {
                            let sent = |due: Due| LedgerEvent::Sent { number: due.number, attempt: due.attempt };
                            events.extend(group.into_iter().map(sent));
                        }
                        Ok((Err(error @ PublishError::Size { .. }), group)) => {
                            events.extend(group.into_iter().map(|due| unsendable(due, &error)));
                        }
                        // Others may have been accepted.
                        Ok((Err(error @ PublishError::Full { .. }), _)) => failure = Some(error),
                        // All others would give the same error.
                        Ok((Err(error), _)) => {
                            failure = Some(error);
                            break;
                        }
                        // A task cannot panic here; in any case the recipe is still due.
                        Err(_) => {}
                    }
                }
            };
            tokio::pin!(confirmed);
            let all = tokio::select! {
                biased;
                () = &mut confirmed => true,
                () = halt.cancelled() => false,
            };
            if !all {
                let _ = timeout(LAST, confirmed).await;
            }
        }
        (events, failure)
    }

    /// Returns the message of a group with its headers, and the span of its publication. Each member begins an attempt
    /// in the trace of its own recipe.
    fn message(&self, group: &[Due], body: Vec<u8>, build: Option<&str>) -> (Message, Span) {
        let first = group.first().map(|due| due.id.as_str()).unwrap_or_default();
        let mut message = Message::new(body, wire::CONTENT_TYPE, first);
        // Workers of any build may take part if builds may be mixed.
        if let Some(build) = build.filter(|_| !self.plan.mixed_builds) {
            message.headers.insert(BUILD_HEADER.into(), build.into());
        }
        let unfit = self.unfit.borrow().join(",");
        if !unfit.is_empty() {
            message.headers.insert(UNFIT_HEADER.into(), unfit);
        }
        let production = &self.plan.production;
        let mut span = Span::none();
        for (member, due) in group.iter().enumerate() {
            if due.attempt > 1 {
                metrics().retried();
            }
            let own = trace::publish_task(&self.to, production, member, (&due.id, due.attempt), &mut message);
            if member == 0 {
                span = own;
            }
        }
        (message, span)
    }
}

/// Returns the event for a recipe that is too large for a message. It fails, and does not affect others.
fn unsendable(due: Due, error: &dyn std::error::Error) -> LedgerEvent {
    let reason = vec![format!("its task message cannot be sent: {}", chain(error))];
    let event = wire::TaskEvent::Failed(Failed { kind: FailureKind::Permanent, reason });
    let (recipe_id, attempt, worker) = (due.id, due.attempt, WORKER.to_owned());
    LedgerEvent::Reported(Box::new(Outcome { recipe_id, attempt, worker, build: String::new(), event }))
}
