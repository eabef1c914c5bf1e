//! `run --follow`: a production that grows while the model runs.

use super::plan::Prepared;
use clap::Args;
use edp_coordinator::plan::growth::Growth;
use edp_coordinator::plan::{Note, Severity};
use edp_production::director::DriveError;
use edp_production::ledger::RecipeState;
use edp_production::report::GranuleEntry;
use edp_production::session::Feed;
use edp_program::settings::Settings;
use edp_protocol::recipe::Recipe;
use edp_worker::console::{Progress, Usage, note};
use std::cell::RefCell;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Options of productions that follow a model run.
#[derive(Debug, Args)]
pub(crate) struct FollowOptions {
    /// Keep looking for results while the model runs, and make what is complete; ends on SIGTERM or Ctrl-C
    #[arg(long, conflicts_with_all = ["tasks", "tasklist", "tasks_out", "dry_run", "allow_partial", "strict"])]
    pub(crate) follow: bool,
    /// With --follow: end when nothing new has appeared and nothing was left to make for this many seconds
    #[arg(long, value_name = "SECONDS", requires = "follow")]
    exit_when_idle: Option<f64>,
}

/// Finds recipes that can be made, in one scan after the other.
pub(crate) struct Follower {
    prepared: Prepared,
    growth: Growth,
    /// Ids of recipes whose inputs were found to be complete.
    known: HashSet<String>,
    /// Messages that were reported already.
    said: RefCell<HashSet<String>>,
    interval: Duration,
    idle: Option<Duration>,
}

/// The result of a scan.
pub(crate) struct ScanResult {
    /// Recipes that can be made now, and could not be made before.
    pub(crate) recipes: Vec<Recipe>,
    /// True if the model has written anything since the last scan.
    changed: bool,
}

impl Follower {
    /// Makes a follower of the results that `prepared` plans with.
    pub(crate) fn new(options: &FollowOptions, prepared: Prepared, settings: &Settings) -> anyhow::Result<Follower> {
        let idle = options.exit_when_idle.map(Duration::try_from_secs_f64).transpose();
        let idle = idle.map_err(|e| Usage(format!("--exit-when-idle: {e}")))?;
        let seconds = settings.plan.follow_interval.max(1);
        let (growth, interval) = (Growth::default(), Duration::from_secs(seconds.into()));
        let prepared = prepared.growing();
        let follower = Follower { prepared, growth, known: HashSet::new(), said: RefCell::default(), interval, idle };
        // Mistakes in the options show now, and not at every scan.
        follower.held()?;
        Ok(follower)
    }

    /// Root of the granules.
    pub(crate) fn destination(&self) -> &str {
        self.prepared.destination()
    }

    /// Scans the results once. Recipes with missing inputs are left out: they get other ids once these inputs exist.
    fn scan(&mut self) -> anyhow::Result<ScanResult> {
        let Follower { prepared, growth, said, .. } = self;
        let mut changed = false;
        let planned = prepared.plan(|inventory| changed = growth.sift(inventory), |note| say(said, note))?;
        let mut recipes = planned.recipes;
        recipes.retain(|recipe| is_whole(recipe) && id(recipe).is_some_and(|id| self.known.insert(id.to_owned())));
        Ok(ScanResult { changed: changed || !recipes.is_empty(), recipes })
    }

    /// Returns entries for the granules whose inputs exist in part but were never complete. They are held.
    fn held(&self) -> anyhow::Result<Vec<GranuleEntry>> {
        let mut recipes = self.prepared.plan(|_| {}, |note| say(&self.said, note))?.recipes;
        recipes.retain(|recipe| id(recipe).is_some_and(|id| !self.known.contains(id)));
        Ok(recipes.iter().map(held).collect())
    }

    /// Reports once what keeps a scan from succeeding; the next one may succeed.
    fn complain(&self, error: &anyhow::Error) {
        let text = format!("error: {error:#}; trying again");
        if self.said.borrow_mut().insert(text.clone()) {
            note(&text);
        }
    }
}

/// Reports errors, each once. Missing results are normal while a model runs, and are only logged.
fn say(said: &RefCell<HashSet<String>>, one: &Note) {
    if one.severity < Severity::Error {
        tracing::debug!("{one}");
    } else if said.borrow_mut().insert(one.text.clone()) {
        note(&one.to_string());
    }
}

fn id(recipe: &Recipe) -> Option<&str> {
    recipe.recipe.as_ref().map(|plan| plan.id.as_str())
}

fn is_whole(recipe: &Recipe) -> bool {
    recipe.recipe.as_ref().is_some_and(|plan| plan.missing.is_empty())
}

fn held(recipe: &Recipe) -> GranuleEntry {
    let missing = recipe.recipe.as_ref().map(|plan| plan.missing.join(", ")).unwrap_or_default();
    let reason = match &*missing {
        "" => "an input was not whole, or came too late; run it again".to_owned(),
        missing => format!("no input for {missing}"),
    };
    let (granule, id) = (recipe.granule.clone(), id(recipe).unwrap_or_default().to_owned());
    GranuleEntry::unlisted(granule, id, RecipeState::Held, reason)
}

/// Scans repeatedly, on a thread other than those of the actors, and ends after a long enough time without news.
struct Rounds {
    /// Is `None` during a scan.
    follower: Option<Follower>,
    quiet: Instant,
}

impl Rounds {
    fn new(follower: Follower) -> Rounds {
        Rounds { follower: Some(follower), quiet: Instant::now() }
    }

    /// Runs the next scan. Returns `None` if it has failed, which was reported.
    async fn scan(&mut self) -> Result<Option<ScanResult>, tokio::task::JoinError> {
        let Some(mut follower) = self.follower.take() else { return Ok(None) };
        let scanning = tokio::task::spawn_blocking(move || {
            let found = follower.scan();
            (follower, found)
        });
        let (follower, found) = scanning.await?;
        let found = found.inspect_err(|error| follower.complain(error)).ok();
        if found.as_ref().is_some_and(|found| found.changed) {
            self.quiet = Instant::now();
        }
        self.follower = Some(follower);
        Ok(found)
    }

    /// Records that something is still to be made.
    fn busy(&mut self) {
        self.quiet = Instant::now();
    }

    fn is_over(&self) -> bool {
        let idle = self.follower.as_ref().and_then(|follower| follower.idle);
        idle.is_some_and(|idle| self.quiet.elapsed() >= idle)
    }

    async fn pause(&self) {
        sleep(self.follower.as_ref().map_or(Duration::ZERO, |follower| follower.interval)).await;
    }
}

/// Adds recipes to a session as the model run grows, and ends after a long enough time without news. Returns entries
/// for the granules that never became complete.
pub(crate) async fn grow(follower: Follower, feed: Feed, progress: &Progress) -> Result<Vec<GranuleEntry>, DriveError> {
    let mut rounds = Rounds::new(follower);
    loop {
        let found = rounds.scan().await.map_err(DriveError::Actor)?;
        let recipes = found.map(|found| found.recipes).unwrap_or_default();
        if !recipes.is_empty() {
            progress.more(recipes.len());
            feed.add(recipes).await?;
        }
        if feed.is_busy().await? {
            rounds.busy();
        }
        if rounds.is_over() {
            return held_at_the_end(rounds).await.map_err(DriveError::Actor);
        }
        rounds.pause().await;
    }
}

/// Returns entries for the granules that never became complete, or an entry with the error if that cannot be found out.
async fn held_at_the_end(rounds: Rounds) -> Result<Vec<GranuleEntry>, tokio::task::JoinError> {
    let Some(follower) = rounds.follower else { return Ok(Vec::new()) };
    let looking = tokio::task::spawn_blocking(move || {
        follower.held().unwrap_or_else(|error| {
            let source = follower.prepared.source().to_owned();
            vec![GranuleEntry::unlisted(source, String::new(), RecipeState::Failed, format!("{error:#}"))]
        })
    });
    looking.await
}
