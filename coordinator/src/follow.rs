//! A production that grows while the model runs.
//!
//! ```text
//!  results ── scan ──▶ complete pairs ──▶ plan ── recipes that are new and complete ──▶ Feed of the session
//!     ▲                                                                                  │
//!     └───────────────── pause, until nothing is new or left to make ◀───────────────────┘
//! ```

use crate::plan::growth::Growth;
use crate::plan::preparation::{PreparedPlan, PreparedPlanError};
use crate::plan::{Note, Severity};
use edp_production::director::DriveError;
use edp_production::ledger::RecipeState;
use edp_production::report::GranuleEntry;
use edp_production::session::Feed;
use edp_protocol::message::chain;
use edp_protocol::recipe::Recipe;
use std::cell::RefCell;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Finds recipes that can be made, in one scan after the other.
pub struct Follower {
    prepared: PreparedPlan,
    growth: Growth,
    /// Ids of recipes whose inputs were found to be complete.
    known: HashSet<String>,
    reported: ReportedTexts,
    interval: Duration,
    idle: Option<Duration>,
}

/// The result of a scan.
#[derive(Debug)]
struct ScanResult {
    /// Recipes that can be made now, and could not be made before.
    recipes: Vec<Recipe>,
    /// True if the model has written anything since the last scan.
    changed: bool,
}

/// Reports each text once.
struct ReportedTexts {
    texts: RefCell<HashSet<String>>,
    report: fn(&str),
}

impl ReportedTexts {
    fn report(&self, text: String) {
        if self.texts.borrow_mut().insert(text.clone()) {
            (self.report)(&text);
        }
    }

    /// Reports errors. Missing results are normal while a model runs, and are only logged.
    fn note(&self, note: &Note) {
        match note.severity {
            Severity::Error => self.report(note.to_string()),
            Severity::Warning | Severity::Info => tracing::debug!("{note}"),
        }
    }
}

impl Follower {
    /// Makes a follower of the results that `prepared` plans with. It scans them after each `interval`, and ends if
    /// nothing is new and nothing is left to make for the time `idle`. Each problem is given to `report` once.
    ///
    /// # Errors
    /// Returns an error if nothing can be planned, so that mistakes in the options show now and not at every scan.
    pub fn new(
        prepared: PreparedPlan,
        interval: Duration,
        idle: Option<Duration>,
        report: fn(&str),
    ) -> Result<Follower, PreparedPlanError> {
        let (prepared, growth) = (prepared.growing(), Growth::default());
        let reported = ReportedTexts { texts: RefCell::default(), report };
        let follower = Follower { prepared, growth, known: HashSet::new(), reported, interval, idle };
        follower.held()?;
        Ok(follower)
    }

    /// Root of the granules.
    pub fn destination(&self) -> &str {
        self.prepared.destination()
    }

    /// Adds recipes to a session as the model run grows, and ends after a long enough time without news. Returns
    /// entries for the granules that never became complete. Scans run on threads other than those of the actors.
    ///
    /// # Errors
    /// Returns an error if the ledger of the session cannot be used, or a thread ended unexpectedly.
    pub async fn grow(self, feed: Feed<'_>) -> Result<Vec<GranuleEntry>, DriveError> {
        let (interval, idle) = (self.interval, self.idle);
        let (mut follower, mut quiet) = (self, Instant::now());
        loop {
            let scanned;
            (follower, scanned) = blocking(follower, Follower::scan).await?;
            match scanned {
                Ok(ScanResult { recipes, changed }) => {
                    if changed {
                        quiet = Instant::now();
                    }
                    if !recipes.is_empty() {
                        feed.add(recipes).await?;
                    }
                }
                // The next scan may succeed.
                Err(error) => follower.reported.report(format!("error: {}; trying again", chain(&error))),
            }
            if feed.is_busy().await? {
                quiet = Instant::now();
            }
            if idle.is_some_and(|idle| quiet.elapsed() >= idle) {
                let (_, held) = blocking(follower, |follower| follower.held_at_the_end()).await?;
                return Ok(held);
            }
            sleep(interval).await;
        }
    }

    /// Scans the results once. Recipes with missing inputs are left out: they get other ids once these inputs exist.
    fn scan(&mut self) -> Result<ScanResult, PreparedPlanError> {
        let Follower { prepared, growth, reported, .. } = self;
        let mut changed = false;
        let (mut recipes, _) =
            prepared.plan_all(|inventory| changed = growth.sift(inventory), |note| reported.note(note))?;
        recipes.retain(|recipe| is_whole(recipe) && id(recipe).is_some_and(|id| self.known.insert(id.to_owned())));
        Ok(ScanResult { changed: changed || !recipes.is_empty(), recipes })
    }

    /// Returns entries for the granules whose inputs exist in part but were never complete. They are held.
    fn held(&self) -> Result<Vec<GranuleEntry>, PreparedPlanError> {
        let (mut recipes, _) = self.prepared.plan_all(|_| {}, |note| self.reported.note(note))?;
        recipes.retain(|recipe| id(recipe).is_some_and(|id| !self.known.contains(id)));
        Ok(recipes.iter().map(held).collect())
    }

    /// Returns the entries of [`Follower::held`], or an entry with the error if they cannot be determined.
    fn held_at_the_end(&self) -> Vec<GranuleEntry> {
        self.held().unwrap_or_else(|error| {
            let source = self.prepared.source().to_owned();
            vec![GranuleEntry::unlisted(source, String::new(), RecipeState::Failed, chain(&error))]
        })
    }
}

/// Runs blocking work with a follower on a thread for that, and returns both.
async fn blocking<T: Send + 'static>(
    mut follower: Follower,
    work: impl FnOnce(&mut Follower) -> T + Send + 'static,
) -> Result<(Follower, T), DriveError> {
    let working = tokio::task::spawn_blocking(move || {
        let result = work(&mut follower);
        (follower, result)
    });
    working.await.map_err(DriveError::Actor)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::demo_plan::DemoPlan;
    use crate::plan::preparation::PlanRules;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Returns all files below a directory, with their paths relative to it.
    fn files(root: &Path) -> BTreeSet<PathBuf> {
        let (mut files, mut next) = (BTreeSet::new(), vec![root.to_owned()]);
        while let Some(directory) = next.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => next.push(path),
                    false => drop(files.insert(path.strip_prefix(root).unwrap().to_owned())),
                }
            }
        }
        files
    }

    #[test]
    fn recipes_come_once_when_their_inputs_have_come_to_rest() {
        let mut demo = DemoPlan::new();
        let growing = tempfile::tempdir().unwrap();
        let (whole, _) = demo.prepared(PlanRules::default()).plan_all(|_| {}, |_| {}).unwrap();
        let (results, all) = (demo.source.clone(), files(&demo.source));
        demo.source = growing.path().to_owned();
        let second = Duration::from_secs(1);
        let mut follower = Follower::new(demo.prepared(PlanRules::default()), second, None, |_| {}).unwrap();
        let first = follower.scan().unwrap();
        assert!(first.recipes.is_empty() && !first.changed);

        // The results of the first step appear, all but one.
        let (early, late): (Vec<_>, Vec<_>) =
            all.iter().partition(|path| path.to_str().unwrap().contains(".0000000732."));
        let (last, early) = early.split_last().unwrap();
        let write = |path: &Path| {
            let target = growing.path().join(path);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(results.join(path), target).unwrap();
        };
        early.iter().for_each(|path| write(path));
        let seen = follower.scan().unwrap();
        assert!(seen.recipes.is_empty() && seen.changed, "not seen twice");
        let some = follower.scan().unwrap().recipes;
        assert!(!some.is_empty() && some.len() < whole.len());
        assert!(follower.scan().unwrap().recipes.is_empty(), "they are known");
        let held = follower.held().unwrap();
        assert!(held.iter().all(|entry| entry.standing.state == RecipeState::Held));

        write(last);
        late.iter().for_each(|path| write(path));
        follower.scan().unwrap();
        let rest = follower.scan().unwrap().recipes;
        let granules = |recipes: &[Recipe]| recipes.iter().map(|one| one.granule.clone()).collect::<BTreeSet<_>>();
        assert_eq!(&granules(&some) | &granules(&rest), granules(&whole));
        assert!(granules(&some).is_disjoint(&granules(&rest)));
        assert!(follower.held_at_the_end().is_empty());
    }
}
