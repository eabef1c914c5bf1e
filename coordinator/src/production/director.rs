//! The director: sends what is due, hears what became of it, and has it written down before anything is acknowledged.

use super::desk::{Desk, DeskError};
use super::ledger::{self, Due, Event, Settled, State};
use edp_protocol::message::chain;
use edp_protocol::queue::{Delivery, Link, Message, PublishError, Queue, QueueError};
use edp_protocol::wire::{self, Order, Report};
use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Header of an order: the build that the production was begun with; see `edp_worker::service::serve`.
const BUILD_HEADER: &str = edp_worker::service::serve::BUILD_HEADER;

/// Fact of the ledger: the build that all granules are of.
const BUILD: &str = "build";

/// Reports that are written down together at most, and how long the first waits for others.
const BATCH: usize = 256;
const GATHER: Duration = Duration::from_millis(20);

/// How often leases are looked at, and counts told.
const ROUND: Duration = Duration::from_millis(500);

/// How a production is driven.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name.
    pub production: String,
    /// Orders in the queue and with workers at once: enough to keep workers busy, few enough for broker and memory.
    pub window: usize,
    /// Seconds that a granule may take.
    pub deadline: u32,
    /// Whether workers of several builds may take part.
    pub mixed_builds: bool,
    /// When to give the production up.
    pub budget: Budget,
}

/// Failures after which going on makes no sense.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// So many failed recipes; none: any number.
    pub failures: Option<u64>,
    /// Or such a share of those that are settled, from 0 to 1 ...
    pub share: f64,
    /// ... once so many are.
    pub sample: u64,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { failures: None, share: 0.5, sample: 100 }
    }
}

impl Budget {
    /// Why the production is given up, if it is.
    fn exceeded(&self, failed: u64, settled: u64) -> Option<String> {
        if let Some(most) = self.failures.filter(|most| failed > *most) {
            return Some(format!("{failed} recipes failed, more than the {most} allowed"));
        }
        if settled >= self.sample && failed as f64 > self.share * settled as f64 {
            let share = self.share * 100.0;
            return Some(format!("{failed} of {settled} recipes failed, more than the {share:.0} % allowed"));
        }
        None
    }
}

/// Why driving a production ended early.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A message cannot be sent.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// An order cannot be written.
    #[error("recipe {id}: {source}")]
    Order {
        /// The recipe's id.
        id: String,
        /// What is wrong.
        source: wire::WireError,
    },
    /// The ledger.
    #[error(transparent)]
    Desk(#[from] DeskError),
}

/// How a production was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// Every recipe of the list is settled.
    Settled,
    /// It was told to stop.
    Stopped,
    /// Too much failed.
    GivenUp(String),
}

/// Drives the present list of a ledger until all is settled. Whoever is second at the queue of results waits here
/// until the first has gone.
///
/// # Errors
/// The queue cannot be reached for longer than its patience, or the ledger cannot be written: what was not written
/// down is not acknowledged, and comes again.
pub async fn drive(
    plan: &Plan,
    desk: &Desk,
    link: &Link,
    mut progress: impl FnMut(&Settled),
    stop: impl Future<Output = ()>,
) -> Result<Left, DriveError> {
    link.declare().await?;
    let mut reports = link.consumer(Queue::Results, 2 * BATCH as u16).await?;
    let publisher = std::sync::Arc::new(link.publisher(Queue::Recipes, plan.window.min(BATCH)));
    let mut build = desk.ask(|ledger| ledger.fact(BUILD)).await?;
    let mut sending: JoinSet<(Due, Result<(), PublishError>)> = JoinSet::new();
    let mut sent: HashSet<i64> = HashSet::new();
    let mut events: Vec<Event> = Vec::new();
    let mut heard: Vec<Delivery> = Vec::new();
    let mut gather: Option<Instant> = None;
    let mut round = Instant::now();
    let counts = desk.ask(|ledger| ledger.counts()).await?;
    let (mut failed, mut settled) = (0, 0);
    let mut under_way = usize::try_from(counts.of(State::UnderWay)).unwrap_or(usize::MAX);
    tokio::pin!(stop);
    loop {
        // What is due, up to the window.
        let room = plan.window.saturating_sub(under_way + sending.len());
        if room > 0 && (round <= Instant::now() || sending.is_empty()) || room >= plan.window / 2 {
            let limit = room + sent.len();
            let due = desk.ask(move |ledger| ledger.due(ledger::now(), limit)).await?;
            for due in due.into_iter().filter(|due| !sent.contains(&due.number)).take(room).collect::<Vec<_>>() {
                sent.insert(due.number);
                let message = message(plan, &due, build.as_deref())?;
                let publisher = publisher.clone();
                sending.spawn(async move {
                    let result = publisher.publish(message).await;
                    (due, result)
                });
            }
        }
        if round <= Instant::now() {
            round = Instant::now() + ROUND;
            let queued = link.depth(Queue::Recipes).await.is_ok_and(|depth| depth.messages > 0);
            for one in desk.ask(move |ledger| ledger.expire(ledger::now(), queued)).await? {
                (failed, settled) = count(&one, failed, settled);
                progress(&one);
            }
            if let Some(reason) = plan.budget.exceeded(failed, settled) {
                return Ok(Left::GivenUp(reason));
            }
            under_way = in_flight(desk).await?;
            if sending.is_empty() && events.is_empty() && desk.ask(|ledger| ledger.next()).await?.is_none() {
                return Ok(Left::Settled);
            }
        }
        tokio::select! {
            biased;
            () = &mut stop => {
                reports.stop().await;
                return Ok(Left::Stopped);
            }
            Some(one) = sending.join_next(), if !sending.is_empty() => {
                let Ok((due, result)) = one else { continue };
                result?;
                events.push(Event::Sent { number: due.number, attempt: due.attempt });
                gather.get_or_insert_with(|| Instant::now() + GATHER);
            }
            delivery = reports.next(), if heard.len() < BATCH => {
                let Some(delivery) = delivery? else { return Ok(Left::Stopped) };
                match Report::decode(&delivery.message.content_type, &delivery.message.body) {
                    Ok(report) => {
                        if build.is_none() && !plan.mixed_builds {
                            let own = report.build.clone();
                            build = Some(desk.ask(move |ledger| ledger.fix_fact(BUILD, &own)).await?);
                        }
                        events.push(Event::Reported(Box::new(report)));
                    }
                    Err(error) => tracing::error!(error = %chain(&error), "no report"),
                }
                heard.push(delivery);
                gather.get_or_insert_with(|| Instant::now() + GATHER);
            }
            () = sleep_until(gather.unwrap_or(round)) => {}
        }
        if events.len().max(heard.len()) < BATCH && gather.is_none_or(|end| Instant::now() < end) {
            continue;
        }
        gather = None;
        let batch = std::mem::take(&mut events);
        // Until the ledger knows that they were sent they are due there, and would be sent twice.
        let written = batch.iter().filter_map(|event| match event {
            Event::Sent { number, .. } => Some(*number),
            Event::Reported(_) => None,
        });
        let written: Vec<i64> = written.collect();
        for one in desk.ask(move |ledger| ledger.write(&batch, ledger::now())).await? {
            (failed, settled) = count(&one, failed, settled);
            progress(&one);
        }
        written.iter().for_each(|number| _ = sent.remove(number));
        // Only now: what is written down need not come again.
        heard.drain(..).for_each(Delivery::ack);
        under_way = in_flight(desk).await?;
        if under_way == 0 && sending.is_empty() {
            round = Instant::now();
        }
    }
}

async fn in_flight(desk: &Desk) -> Result<usize, DeskError> {
    desk.ask(|ledger| ledger.under_way()).await
}

fn count(one: &Settled, failed: u64, settled: u64) -> (u64, u64) {
    (failed + u64::from(one.state == State::Failed), settled + 1)
}

/// The order of a recipe.
fn message(plan: &Plan, due: &Due, build: Option<&str>) -> Result<Message, DriveError> {
    let order = Order {
        production: plan.production.clone(),
        recipe_id: due.id.clone(),
        attempt: due.attempt,
        alone: due.alone,
        deadline: plan.deadline,
        recipe: due.recipe.clone(),
    };
    let body = order.encode().map_err(|source| DriveError::Order { id: due.id.clone(), source })?;
    let mut message = Message::new(body, wire::CONTENT_TYPE, &due.id);
    if let Some(build) = build.filter(|_| !plan.mixed_builds) {
        message.headers.insert(BUILD_HEADER.into(), build.into());
    }
    Ok(message)
}

/// Puts recipes back whose granules are not where they should be.
///
/// # Errors
/// The ledger cannot be written.
pub async fn reopen(desk: &Desk, ids: Vec<String>) -> Result<(), DeskError> {
    desk.ask(move |ledger| ids.iter().try_for_each(|id| ledger.reopen(id))).await
}
