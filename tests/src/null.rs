//! A production without granules: tiny recipes, workers that report at once, and a coordinator that does nothing else.
//! Its time is the time taken by messages and ledger.

use edp_protocol::Digest;
use edp_protocol::Mode;
use edp_protocol::recipe::{Digests, DynamicMetadata, Plan, Recipe, Roots};
use edp_protocol::wire::{CONTENT_TYPE, Done, Outcome, TaskEvent, TaskMessage};
use edp_queue::{Delivery, Link, Message, Publisher, Queue, QueueError};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The build that all workers report.
const BUILD: &str = "null";

/// Time that workers wait for the queues, which their coordinator declares once it has listed everything.
const DECLARED: Duration = Duration::from_secs(1800);

/// Returns a recipe as large as a small real one, which nobody can make.
pub fn recipe(number: usize) -> Recipe {
    let digest = Digest::of(b"nothing");
    let mut recipe = Recipe {
        granule: format!("/nowhere/granule-{number:07}.nc"),
        variables: indexmap::IndexMap::new(),
        ecco_cfg_loc: None,
        ecco_grid_loc: None,
        ecco_mapping_factors_loc: None,
        ecco_metadata_loc: None,
        dynamic_metadata: DynamicMetadata {
            name: "nothing".into(),
            dimension: "2D".into(),
            time_coverage_start: None,
            time_coverage_end: None,
            time_coverage_center: None,
            comment: None,
            time_long_name: None,
            time_coverage_duration: None,
            time_coverage_resolution: None,
            field_components: None,
            field_orientations: None,
            summary: "Nothing is in it. ".repeat(80),
        },
        input_netcdf: None,
        strip_attributes: None,
        recipe: Some(Plan::new(
            Mode::Corrected,
            "hours since 1992-01-01T12:00:00".into(),
            Digests { configuration: digest.clone(), metadata: digest.clone(), grid: digest.clone(), factors: None },
            Roots { source: "/nowhere".into(), destination: "/nowhere".into() },
            "2020-01-01T00:00:00Z".into(),
        )),
    };
    recipe.change(|_| ()).expect("a recipe with an id");
    recipe
}

/// The number of times that each recipe was made, by id.
#[derive(Default)]
pub struct TimesMade(Mutex<HashMap<String, u32>>);

impl TimesMade {
    /// Returns the number of recipes that were made, and the total number of times that they were made.
    pub fn counts(&self) -> (usize, u64) {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (made.len(), made.values().copied().map(u64::from).sum())
    }

    fn made(&self, id: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_owned()).or_default() += 1;
    }
}

/// Runs a worker with connections of its own. For each task message it reports the start and then the end, in the same
/// order as a real worker, until it is told to stop.
///
/// # Errors
/// Returns an error if the queue cannot be used.
pub async fn work(
    link: Link,
    name: String,
    slots: u16,
    tally: &'static TimesMade,
    mut stop: watch::Receiver<bool>,
) -> Result<(), QueueError> {
    link.await_declared(DECLARED).await?;
    let mut task_messages = link.consumer(Queue::Recipes, slots).await?;
    let results = link.publisher(Queue::Results, 2 * usize::from(slots));
    let mut busy = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            next = task_messages.next() => match next? {
                Some(delivery) => drop(busy.spawn(attend(delivery, results.clone(), name.clone(), tally))),
                None => break,
            },
            Some(ended) = busy.join_next() => ended.expect("a slot that does not panic"),
        }
    }
    task_messages.stop().await;
    while let Some(ended) = busy.join_next().await {
        ended.expect("a slot that does not panic");
    }
    link.close().await;
    Ok(())
}

async fn attend(delivery: Delivery, results: Publisher, worker: String, tally: &TimesMade) {
    let task = TaskMessage::decode(&delivery.message.content_type, &delivery.message.body).expect("a task message");
    for event in [TaskEvent::Started, TaskEvent::Done(Done { size: 1, ..Done::default() })] {
        if event != TaskEvent::Started {
            tally.made(&task.recipe_id);
        }
        let (recipe_id, attempt) = (task.recipe_id.clone(), task.attempt);
        let outcome = Outcome { recipe_id, attempt, worker: worker.clone(), build: BUILD.into(), event };
        let body = outcome.encode().expect("an outcome");
        results.publish(Message::new(body, CONTENT_TYPE, &task.recipe_id)).await.expect("the queue of results");
    }
    delivery.ack();
}
