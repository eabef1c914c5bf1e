//! A plan with everything that it needs except the results, which may grow between one plan and the next.

use super::archive::{ArchiveCheck, ArchiveError};
use super::asked;
use super::digests::{InputDigestError, InputDigests};
use super::headers::HeaderCache;
use super::inventory::Inventory;
use super::jobfile::Job;
use super::scan::InventoryError;
use super::selection::{Selection, Window};
use super::{DateSource, Note, PlanError, Planned, Request, Severity, learn, plan};
use crate::ranges::table::{RangeTable, RangeTableError};
use edp_engine::resources::SharedInputs;
use edp_protocol::location::LocationError;
use edp_protocol::name::{GEOMETRY, PROJECT};
use edp_protocol::recipe::{Recipe, RecipeError, Roots};
use edp_protocol::{ChunkShapes, FieldEncoder, Frequency, GridKind, Mode};
use edp_store::Stores;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Number of recipes that are completed at once.
const BATCH: usize = 256;

/// The choices that decide a plan, in addition to what is asked for.
#[derive(Debug, Clone, Default)]
pub struct PlanRules {
    /// The toolset whose granules are made.
    pub mode: Mode,
    /// Source of the granules' times.
    pub dates: DateSource,
    /// Date of the production, `YYYY-MM-DDThh:mm:ssZ`.
    pub production_date: String,
    /// True if jobs, steps and results that cannot be used are left out with a note.
    pub keep_going: bool,
    /// True if variables and listed steps without any file are errors.
    pub strict: bool,
    /// True if granules are made without variables that have no input.
    pub allow_partial: bool,
    /// True if a request may have no results at all.
    pub allow_empty: bool,
    /// True if what an archive would refuse is an error.
    pub archive: bool,
    /// True if latlon variables at upper cell faces get the depths of these, and not those of the centres.
    pub depths_of_faces: bool,
    /// True if eastward and northward components of latlon granules are computed at the cells of the target.
    pub vectors_at_target: bool,
    /// The encoder of fields; `None` for that of the mode.
    pub encoder: Option<FieldEncoder>,
    /// The shapes of the chunks of fields.
    pub chunks: ChunkShapes,
}

/// What is asked for: the jobs, and the words by which the user has asked for them.
#[derive(Debug, Clone, Default)]
pub struct RequestedJobs {
    /// Name of the job file in messages; empty if there is none.
    pub job_file: String,
    /// The selection, if there is no job file.
    pub selection: Selection,
    /// Datasets to make, with their steps.
    pub jobs: Vec<Job>,
    /// Steps whose time is outside this window are ignored.
    pub window: Window,
}

/// The reason why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PreparedPlanError {
    /// The root of the results is not a location.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The results cannot be listed.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// Some of the results cannot be listed.
    #[error("{0}: not all of it could be read; --keep-going plans without what is there")]
    Unread(String),
    /// There are no results.
    #[error("{0}: there is nothing in it; give the root of the model results")]
    Empty(String),
    /// What is asked for cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// An archive would refuse the granules.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// An option cannot become part of a recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The table of ranges does not suit the recipes.
    #[error(transparent)]
    Ranges(#[from] RangeTableError),
    /// The digest of an input cannot be determined.
    #[error(transparent)]
    Digests(#[from] InputDigestError),
}

/// What is known at the end of a plan, beside the recipes that were passed on.
#[derive(Debug, Default)]
pub struct PlanEnd {
    /// Number of the recipes.
    pub recipes: usize,
    /// Requests that have no input at any step, in the words of the user; empty if that is permitted.
    pub unanswered: Vec<String>,
}

/// Everything that a plan needs except the results.
#[derive(Debug)]
pub struct PreparedPlan {
    rules: PlanRules,
    requested: RequestedJobs,
    roots: Roots,
    shared: SharedInputs,
    /// The table of ranges, with its name in messages.
    ranges: Option<(String, RangeTable)>,
    stores: Stores,
    headers: HeaderCache,
    /// Digests of inputs, if they are asked for. They are computed once for all plans of a growing run.
    digests: Option<Mutex<InputDigests>>,
    /// True if the results are still to come.
    growing: bool,
}

impl PreparedPlan {
    /// Prepares a plan. Source and destination in `roots` are as the user wrote them.
    pub fn new(
        rules: PlanRules,
        requested: RequestedJobs,
        roots: Roots,
        shared: SharedInputs,
        stores: &Stores,
    ) -> PreparedPlan {
        let (headers, stores) = (HeaderCache::new(stores), stores.clone());
        PreparedPlan { rules, requested, roots, shared, ranges: None, stores, headers, digests: None, growing: false }
    }

    /// Returns the same with a table whose ranges are written into the recipes. `name` is its name in messages.
    #[must_use]
    pub fn with_ranges(self, name: String, table: RangeTable) -> PreparedPlan {
        PreparedPlan { ranges: Some((name, table)), ..self }
    }

    /// Returns the same with the SHA-256 of every input in the recipes.
    #[must_use]
    pub fn with_digests(self) -> PreparedPlan {
        PreparedPlan { digests: Some(Mutex::new(InputDigests::new(&self.stores))), ..self }
    }

    /// Returns the same for results that are still to come: then it is no error if there are none yet.
    #[must_use]
    pub fn growing(self) -> PreparedPlan {
        PreparedPlan { growing: true, ..self }
    }

    /// Root of the results, as the user wrote it.
    pub fn source(&self) -> &str {
        &self.roots.source
    }

    /// Root of the granules, as the user wrote it.
    pub fn destination(&self) -> &str {
        &self.roots.destination
    }

    /// Returns the files in the grid directory if geometry is asked for, which is often nowhere else.
    fn grid_files(&self) -> Result<Option<Inventory>, PreparedPlanError> {
        let groupings = &self.shared.metadata.groupings;
        let is_geometry = |job: &Job| {
            let grouping = groupings.get(&job.grid).and_then(|all| all.get(job.grouping));
            job.frequency == Frequency::TimeInvariant && grouping.is_some_and(|found| found.filename.contains(GEOMETRY))
        };
        if !self.requested.jobs.iter().any(is_geometry) {
            return Ok(None);
        }
        let (files, _) = Inventory::of(&self.shared.locations.grid.parse()?, "", self.rules.mode, &self.stores)?;
        Ok(Some(files))
    }

    /// Plans with the present results, except those that `sift` removes. `say` is called with each note, also with
    /// those of a plan that fails. The recipes are passed to `take`, job by job and step by step.
    ///
    /// # Errors
    /// Returns an error if the results cannot be listed or do not give what is asked for, or the error of `take`. The
    /// recipes that were passed on until then are void.
    pub fn plan<E: From<PreparedPlanError>>(
        &self,
        sift: impl FnOnce(&mut Inventory),
        say: impl Fn(&Note),
        take: impl FnMut(Recipe) -> Result<(), E>,
    ) -> Result<PlanEnd, E> {
        let mut finisher = Finisher::new(self, take);
        let unanswered = self.plan_into(sift, &say, &mut finisher)?;
        match finisher.failed {
            Some(error) => Err(error),
            None => Ok(PlanEnd { recipes: finisher.taken, unanswered }),
        }
    }

    /// Plans as [`PreparedPlan::plan`] does, and returns all recipes.
    ///
    /// # Errors
    /// Returns the errors of [`PreparedPlan::plan`].
    pub fn plan_all(
        &self,
        sift: impl FnOnce(&mut Inventory),
        say: impl Fn(&Note),
    ) -> Result<(Vec<Recipe>, PlanEnd), PreparedPlanError> {
        let mut recipes = Vec::new();
        let ended = self.plan(sift, say, |recipe| {
            recipes.push(recipe);
            Ok::<_, PreparedPlanError>(())
        })?;
        Ok((recipes, ended))
    }

    /// Plans, passes the recipes to `finisher`, and returns the requests that have no results at all.
    fn plan_into<E: From<PreparedPlanError>>(
        &self,
        sift: impl FnOnce(&mut Inventory),
        say: &dyn Fn(&Note),
        finisher: &mut Finisher<'_, E, impl FnMut(Recipe) -> Result<(), E>>,
    ) -> Result<Vec<String>, PreparedPlanError> {
        let PreparedPlan { rules, requested, shared, .. } = self;
        let (mode, source) = (rules.mode, &self.roots.source);
        let configuration = &shared.configuration;
        let version = configuration.results_version.as_ref().unwrap_or(&configuration.ecco_version);
        let (mut inventory, notes) = Inventory::of(&source.parse()?, version, mode, &self.stores)?;
        notes.iter().for_each(say);
        if notes.iter().any(|note| note.severity == Severity::Error) && !rules.keep_going {
            return Err(PreparedPlanError::Unread(source.clone()));
        }
        if inventory.seen() == 0 && !self.growing && !rules.allow_empty {
            return Err(PreparedPlanError::Empty(source.clone()));
        }
        sift(&mut inventory);
        let (jobs, groupings) = (&requested.jobs, &shared.metadata.groupings);
        learn(&mut inventory, jobs, groupings, mode, &self.headers).iter().for_each(say);
        let locations = shared.locations.clone();
        let grid_files = self.grid_files()?;
        let request = Request {
            job_file: &requested.job_file,
            jobs: jobs.clone(),
            window: requested.window,
            configuration: &shared.configuration,
            groupings,
            inventory: &inventory,
            grid_files: grid_files.as_ref(),
            roots: self.roots.clone(),
            configuration_location: locations.configuration,
            grid_location: locations.grid,
            factors_location: locations.factors,
            metadata_location: locations.metadata,
            digests: shared.digests.clone(),
            options: project_option(&shared.configuration.project),
            mode,
            edp_time_units: shared.edp_time_units(),
            headers: &self.headers,
            dates: rules.dates,
            production_date: rules.production_date.clone(),
            keep_going: rules.keep_going,
            strict: rules.strict,
            growing: self.growing,
            allow_partial: rules.allow_partial,
        };
        let planned = plan(&request, &mut |recipe| finisher.add(recipe));
        let Planned { notes, without_input } = planned.inspect_err(|error| error.notes.iter().for_each(say))?;
        notes.iter().for_each(say);
        finisher.end(say)?;
        Ok(match rules.allow_empty {
            true => Vec::new(),
            false => asked::unanswered(jobs, &without_input, &requested.job_file, &requested.selection, groupings),
        })
    }

    /// Writes options into the recipes whose granules they change, so that all others keep their ids.
    fn set_options(&self, recipes: &mut [Recipe]) -> Result<(), RecipeError> {
        if self.rules.depths_of_faces {
            for recipe in recipes.iter_mut().filter(|recipe| has_depths_of_latlon(recipe)) {
                recipe.set_option("vertical", "faces".into())?;
            }
        }
        if self.rules.vectors_at_target {
            for recipe in recipes.iter_mut().filter(|recipe| has_rotated_vectors(recipe)) {
                recipe.set_option("vectors", "target".into())?;
            }
        }
        let encoder = self.rules.encoder.filter(|encoder| *encoder != FieldEncoder::of_mode(self.rules.mode));
        let chunks = self.rules.chunks;
        for recipe in recipes.iter_mut().filter(|recipe| has_fields(recipe)) {
            if let Some(encoder) = encoder {
                recipe.set_option("encoder", encoder.as_str().into())?;
            }
            // Without levels, columns are what EDP has.
            if chunks == ChunkShapes::Maps || chunks == ChunkShapes::Columns && has_levels(recipe) {
                recipe.set_option("chunks", chunks.as_str().into())?;
            }
        }
        Ok(())
    }
}

/// Completes the recipes of a plan by what holds for all of them, a few at a time, and passes them on.
struct Finisher<'a, E, T> {
    prepared: &'a PreparedPlan,
    archive: Option<ArchiveCheck<'a>>,
    digests: Option<MutexGuard<'a, InputDigests>>,
    /// Recipes that are not complete yet.
    batch: Vec<Recipe>,
    take: T,
    /// Number of recipes that were passed on.
    taken: usize,
    /// The error that has ended it, if any.
    failed: Option<E>,
}

impl<'a, E: From<PreparedPlanError>, T: FnMut(Recipe) -> Result<(), E>> Finisher<'a, E, T> {
    fn new(prepared: &'a PreparedPlan, take: T) -> Finisher<'a, E, T> {
        let SharedInputs { configuration, metadata, podaac, .. } = &prepared.shared;
        let mut digests =
            prepared.digests.as_ref().map(|digests| digests.lock().unwrap_or_else(PoisonError::into_inner));
        // An earlier plan may have ended before it has told what it could not read.
        if let Some(digests) = &mut digests {
            digests.forget_failures();
        }
        Finisher {
            prepared,
            archive: Some(ArchiveCheck::new(configuration, metadata, podaac, prepared.rules.archive)),
            digests,
            batch: Vec::new(),
            take,
            taken: 0,
            failed: None,
        }
    }

    fn add(&mut self, recipe: Recipe) -> ControlFlow<()> {
        if let Some(archive) = &mut self.archive {
            archive.see(&recipe);
        }
        self.batch.push(recipe);
        if self.batch.len() < BATCH { ControlFlow::Continue(()) } else { self.flush() }
    }

    /// Passes on the recipes of the batch.
    fn flush(&mut self) -> ControlFlow<()> {
        let mut batch = std::mem::take(&mut self.batch);
        let mut passed = self.complete(&mut batch).map_err(E::from);
        for recipe in batch {
            if passed.is_ok() {
                passed = (self.take)(recipe);
                self.taken += 1;
            }
        }
        self.failed = passed.err();
        if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn complete(&mut self, recipes: &mut Vec<Recipe>) -> Result<(), PreparedPlanError> {
        self.prepared.set_options(recipes)?;
        if let Some((name, table)) = &self.prepared.ranges {
            table.apply(name, self.prepared.shared.configuration.precision, recipes)?;
        }
        if let Some(digests) = &mut self.digests {
            digests.record(recipes)?;
        }
        Ok(())
    }

    /// Passes on what is left, and tells what concerns all recipes.
    fn end(&mut self, say: &dyn Fn(&Note)) -> Result<(), PreparedPlanError> {
        if let Some(archive) = self.archive.take() {
            archive.end()?.iter().for_each(say);
        }
        if self.failed.is_none()
            && self.flush().is_continue()
            && let Some(digests) = &mut self.digests
        {
            digests.end(self.prepared.rules.keep_going)?.iter().for_each(say);
        }
        Ok(())
    }
}

/// Returns the option `project` where names have other words for the project than ECCO's.
fn project_option(project: &str) -> BTreeMap<String, Value> {
    let own = Some(project).filter(|project| *project != PROJECT);
    own.into_iter().map(|project| ("project".to_owned(), project.into())).collect()
}

/// Returns true if [`PlanRules::vectors_at_target`] can make a difference for a granule.
fn has_rotated_vectors(recipe: &Recipe) -> bool {
    recipe.dynamic_metadata.field_components.as_ref().is_some_and(|components| !components.is_empty())
}

/// Returns true if [`PlanRules::depths_of_faces`] can make a difference for a granule.
fn has_depths_of_latlon(recipe: &Recipe) -> bool {
    has_levels(recipe) && recipe.name().is_ok_and(|name| name.grid == GridKind::Latlon)
}

/// Returns true if the granule has variables with levels.
fn has_levels(recipe: &Recipe) -> bool {
    recipe.dynamic_metadata.dimension == "3D"
}

/// Returns true if the granule has variables on a grid that are made from the model's output, so that
/// [`PlanRules::encoder`] and [`PlanRules::chunks`] make a difference.
fn has_fields(recipe: &Recipe) -> bool {
    recipe.input_netcdf.is_none()
        && !recipe.variables.is_empty()
        && recipe.name().is_ok_and(|name| name.grid != GridKind::Series)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::demo_plan::DemoPlan;
    use std::cell::RefCell;

    fn recipes(prepared: &PreparedPlan) -> Vec<Recipe> {
        prepared.plan_all(|_| {}, |_| {}).unwrap().0
    }

    #[test]
    fn options_change_the_recipes_whose_granules_they_change_and_no_others() {
        let demo = DemoPlan::new();
        let plain = recipes(&demo.prepared(PlanRules::default()));
        let options = [
            (PlanRules { depths_of_faces: true, ..PlanRules::default() }, has_depths_of_latlon as fn(&Recipe) -> bool),
            (PlanRules { vectors_at_target: true, ..PlanRules::default() }, has_rotated_vectors),
            (PlanRules { encoder: Some(FieldEncoder::Libdeflate), ..PlanRules::default() }, has_fields),
            (PlanRules { chunks: ChunkShapes::Maps, ..PlanRules::default() }, has_fields),
            (PlanRules { chunks: ChunkShapes::Columns, ..PlanRules::default() }, has_levels),
        ];
        for (rules, concerns) in options {
            let with = recipes(&demo.prepared(rules));
            assert_eq!(with.len(), plain.len());
            assert!(plain.iter().any(concerns));
            for (with, without) in with.iter().zip(&plain) {
                let same = with.plan().unwrap().id == without.plan().unwrap().id;
                assert_eq!(same, !concerns(without), "{}", without.granule);
            }
        }
    }

    #[test]
    fn a_source_without_results_is_an_error_unless_they_may_come_or_may_lack() {
        let mut demo = DemoPlan::new();
        let empty = tempfile::tempdir().unwrap();
        demo.source = empty.path().to_owned();
        let plan =
            |prepared: PreparedPlan| prepared.plan_all(|_| {}, |_| {}).map(|(recipes, end)| (recipes.len(), end));
        let error = plan(demo.prepared(PlanRules::default())).unwrap_err();
        assert!(matches!(&error, PreparedPlanError::Empty(source) if *source == demo.source.display().to_string()));
        let growing = plan(demo.prepared(PlanRules::default()).growing()).unwrap();
        assert!(growing.0 == 0 && growing.1.recipes == 0 && !growing.1.unanswered.is_empty());
        let permitted = plan(demo.prepared(PlanRules { allow_empty: true, ..PlanRules::default() })).unwrap();
        assert!(permitted.0 == 0 && permitted.1.unanswered.is_empty());
        demo.source = empty.path().join("none");
        assert!(matches!(plan(demo.prepared(PlanRules::default())), Err(PreparedPlanError::Inventory(_))));
    }

    #[test]
    fn requests_without_any_results_are_named_by_their_lines() {
        let demo = DemoPlan::new();
        let said = RefCell::new(0);
        let count = |_: &Note| *said.borrow_mut() += 1;
        let whole = demo.prepared(PlanRules::default()).plan_all(|_| {}, count).unwrap().1;
        let usual = said.take();
        assert!(whole.unanswered.is_empty(), "{:?}", whole.unanswered);
        let none =
            demo.prepared(PlanRules::default()).plan_all(|inventory| inventory.retain(|_| false), count).unwrap().1;
        assert!(none.recipes == 0 && said.take() > usual);
        let lines = demo.requested().jobs.iter().map(|job| format!("jobs.txt line {}", job.line)).collect::<Vec<_>>();
        assert_eq!(none.unanswered, lines);
    }
}
