//! The actor that publishes: takes what is due from the ledger, as much as the window has room for, and has the ledger
//! know what the broker has confirmed.

use super::director::{BATCH, BUILD, DriveError, DriveOptions, ROUND, halt};
use super::ledger::{self, Due, LedgerEvent, Settled};
use super::ledger_handle::LedgerHandle;
use edp_program::telemetry::metrics::metrics;
use edp_program::telemetry::trace;
use edp_protocol::message::{FailureKind, chain};
use edp_protocol::wire::{self, BUILD_HEADER, ExistingCheck, Failed, Outcome, TaskMessage, UNFIT_HEADER, WireError};
use edp_queue::{Destination, Message, PublishError, Publisher};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::Instrument as _;

/// How long confirmations are waited for once the production ends. What is not confirmed by then is sent again by the
/// next start, though it may be in the queue: twice is harmless.
const LAST: Duration = Duration::from_secs(5);

/// First and longest pause after the queue was full.
const FULL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Name of the worker in outcomes of recipes that cannot be sent.
const WORKER: &str = "coordinator";

/// The actor.
pub(super) struct Publishing {
    pub(super) plan: DriveOptions,
    pub(super) ledger: LedgerHandle,
    pub(super) tasks: Publisher,
    /// Name of their queue in traces.
    pub(super) to: Destination,
    /// Told when the window may have room.
    pub(super) room: Arc<Notify>,
    pub(super) settled: mpsc::Sender<Vec<Settled>>,
    /// Workers that are not to go on.
    pub(super) unfit: watch::Receiver<Vec<String>>,
}

impl Publishing {
    /// Publishes batch by batch until it is told to end. Workers have the rest of the window to go on with while a
    /// batch is confirmed and written down.
    pub(super) async fn run(self, mut halted: watch::Receiver<bool>) -> Result<(), DriveError> {
        // A queue whose length a policy limits gets as much at once as it took the last time, and more while it takes
        // it.
        let (mut most, mut pause, mut said) = (BATCH, FULL.0, false);
        while !*halted.borrow() {
            let window = self.plan.window;
            let take = move |ledger: &mut ledger::Ledger| {
                let room = window.saturating_sub(ledger.under_way()?).min(most);
                Ok((ledger.take(ledger::now(), room)?, ledger.fact(BUILD)?))
            };
            let (due, build) = self.ledger.ask(take).await?;
            if due.is_empty() {
                tokio::select! {
                    () = halt(&mut halted) => {}
                    () = self.room.notified() => {}
                    () = sleep(ROUND) => {}
                }
                continue;
            }
            let offered = due.len();
            let (events, failure) = self.send(due, build.as_deref(), &mut halted).await;
            let accepted = events.len();
            let settled = self.ledger.ask(move |ledger| ledger.write(&events, ledger::now())).await?;
            if !settled.is_empty() {
                let _ = self.settled.send(settled).await;
            }
            match failure {
                Some(PublishError::Full { queue }) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!(
                            queue,
                            "a policy of the broker (max-length) limits the length of the queue; task messages are sent as it \
                             empties"
                        );
                    }
                    most = accepted.clamp(1, offered);
                    tokio::select! {
                        () = halt(&mut halted) => {}
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

    /// Publishes task messages; says what has become of each whose end is known, and what keeps the others from being
    /// sent.
    async fn send(
        &self,
        due: Vec<Due>,
        build: Option<&str>,
        halted: &mut watch::Receiver<bool>,
    ) -> (Vec<LedgerEvent>, Option<PublishError>) {
        let mut events = Vec::with_capacity(due.len());
        let mut failure = None;
        let mut sending = JoinSet::new();
        for due in due {
            match message(&self.plan, &due, build) {
                Ok(mut message) => {
                    let unfit = self.unfit.borrow().join(",");
                    if !unfit.is_empty() {
                        message.headers.insert(UNFIT_HEADER.into(), unfit);
                    }
                    if due.attempt > 1 {
                        metrics().retried();
                    }
                    let span = trace::publish_task(&self.to, &self.plan.production, due.attempt, &mut message);
                    let tasks = self.tasks.clone();
                    sending.spawn(async move { (tasks.offer(message).await, due) }.instrument(span));
                }
                Err(error) => events.push(unsendable(due, &error)),
            }
        }
        {
            let confirmed = async {
                while let Some(sent) = sending.join_next().await {
                    match sent {
                        Ok((Ok(()), due)) => {
                            events.push(LedgerEvent::Sent { number: due.number, attempt: due.attempt })
                        }
                        Ok((Err(error @ PublishError::Size { .. }), due)) => events.push(unsendable(due, &error)),
                        // Others may have been taken.
                        Ok((Err(error @ PublishError::Full { .. }), _)) => failure = Some(error),
                        // All of them will say the same.
                        Ok((Err(error), _)) => {
                            failure = Some(error);
                            break;
                        }
                        // It cannot panic; the recipe is still due.
                        Err(_) => {}
                    }
                }
            };
            tokio::pin!(confirmed);
            let all = tokio::select! {
                biased;
                () = &mut confirmed => true,
                () = halt(halted) => false,
            };
            if !all {
                let _ = timeout(LAST, confirmed).await;
            }
        }
        (events, failure)
    }
}

/// A recipe that is too large for a message fails, and does not affect others.
fn unsendable(due: Due, error: &dyn std::error::Error) -> LedgerEvent {
    let reason = vec![format!("its task message cannot be sent: {}", chain(error))];
    let event = wire::TaskEvent::Failed(Failed { kind: FailureKind::Permanent, reason });
    let (recipe_id, attempt, worker) = (due.id, due.attempt, WORKER.to_owned());
    LedgerEvent::Reported(Box::new(Outcome { recipe_id, attempt, worker, build: String::new(), event }))
}

/// The task message of a recipe.
fn message(plan: &DriveOptions, due: &Due, build: Option<&str>) -> Result<Message, WireError> {
    let task = TaskMessage {
        production: plan.production.clone(),
        recipe_id: due.id.clone(),
        attempt: due.attempt,
        alone: due.alone,
        deadline: plan.deadline,
        look: match (plan.content, due.sha256.is_empty()) {
            (false, _) => ExistingCheck::Identity,
            (true, true) => ExistingCheck::Content,
            (true, false) => ExistingCheck::Bytes(due.sha256.clone()),
        },
        recipe: due.recipe.clone(),
    };
    let mut message = Message::new(task.encode()?, wire::CONTENT_TYPE, &due.id);
    // Workers refuse any other without an outcome.
    task.identified()?;
    if let Some(build) = build.filter(|_| !plan.mixed_builds) {
        message.headers.insert(BUILD_HEADER.into(), build.into());
    }
    Ok(message)
}
