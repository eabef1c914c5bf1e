//! The plan itself: it makes recipes of jobs and an inventory.

mod invariant;
mod maker;
mod report;
mod series;

use super::Note;
use super::dataset::Dataset;
use super::dates::{DateRules, DateSource};
use super::headers::HeaderCache;
use super::inventory::Inventory;
use super::jobfile::{Job, Steps};
use super::problem::{PlanError, Problem};
use super::selection::Window;
use super::survey::Survey;
use edp_engine::metadata::configuration::Configuration;
use edp_engine::metadata::groupings::Grouping;
use edp_files::at_once;
use edp_protocol::calendar::{self, Period};
use edp_protocol::name::{self, GranuleName};
use edp_protocol::recipe::{Digests, DynamicMetadata, Recipe, Roots};
use edp_protocol::text_hash::TextHasher;
use edp_protocol::{Frequency, GridKind, Mode, wire};
use maker::{RecipeMaker, TimedStep};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::thread;

/// Number of recipes of a job that are made at once, by as many threads as there are cores.
const AT_ONCE: usize = 1024;

/// Everything that decides a plan.
#[derive(Debug)]
pub struct Request<'a> {
    /// Name of the job file in messages.
    pub job_file: &'a str,
    /// Datasets to make, with their steps.
    pub jobs: Vec<Job>,
    /// Steps whose time is outside this window are ignored.
    pub window: Window,
    /// The configuration of the model run and its products.
    pub configuration: &'a Configuration,
    /// Groupings by grid kind, in the order in which jobs count them.
    pub groupings: &'a BTreeMap<GridKind, Vec<Grouping>>,
    /// The results below the source root.
    pub inventory: &'a Inventory,
    /// The files in the grid directory, if geometry is asked for.
    pub grid_files: Option<&'a Inventory>,
    /// Source and destination root as the user wrote them. The source is the root of the inventory.
    pub roots: Roots,
    /// Location of the configuration as the user wrote it.
    pub configuration_location: String,
    /// Location of the grid directory.
    pub grid_location: String,
    /// Location of the mapping factors, which granules on the longitude-latitude grid need.
    pub factors_location: Option<String>,
    /// Location of the metadata directory.
    pub metadata_location: String,
    /// Digests of all of these. That of the factors goes into recipes on the longitude-latitude grid only.
    pub digests: Digests,
    /// Options that change content, by name, which become part of each recipe.
    pub options: BTreeMap<String, serde_json::Value>,
    /// The toolset whose granules are made.
    pub mode: Mode,
    /// Units of `time` in the metadata of the time coordinate. Only the modes of EDP use them.
    pub edp_time_units: Option<&'a str>,
    /// Headers of the results, which are read as needed.
    pub headers: &'a HeaderCache,
    /// Source of the granules' times. The modes of EDP use the steps.
    pub dates: DateSource,
    /// Date of the production, `YYYY-MM-DDThh:mm:ssZ`.
    pub production_date: String,
    /// True if jobs and steps that cannot be planned are left out with a warning.
    pub keep_going: bool,
    /// True if variables and listed steps without any file are errors.
    pub strict: bool,
    /// True if the model is still running: then it is no error if the period of a mean is not complete yet.
    pub growing: bool,
    /// True if granules are made without variables that have no input. It becomes an option of the recipes that lack
    /// variables, and of no others: the granules of these are the same with and without it.
    pub allow_partial: bool,
}

/// What a plan tells beside its recipes.
#[derive(Debug, Default)]
pub struct Planned {
    /// Notes about the plan.
    pub notes: Vec<Note>,
    /// Positions, in the list of jobs, of those that have no input at any step.
    pub without_input: BTreeSet<usize>,
}

/// Makes one recipe for each job and step that has results, and passes them to `take`, job by job and step by step. A
/// plan of a whole release has more recipes than fit into memory: only what is found for one job is kept at a time, and
/// some 30 bytes for each recipe, by which a granule that comes twice is noticed.
///
/// A job that cannot be planned may come after recipes that were passed on already. The caller therefore
/// keeps recipes where they do not count yet until the plan has ended well: in a file that has no name yet, or in a
/// transaction. Planning twice, once for errors and once for recipes, would take twice as long. If `take` breaks off,
/// the plan ends early, and only `take` knows why.
///
/// # Errors
/// Returns an error for every job that cannot be planned; then the recipes that were passed on are void.
pub fn plan(request: &Request<'_>, take: &mut dyn FnMut(Recipe) -> ControlFlow<()>) -> Result<Planned, PlanError> {
    if request.mode.is_edp() && request.edp_time_units.is_none() {
        return Err(PlanError { problems: vec![Problem::TimeUnits], notes: Vec::new() });
    }
    // In EDP the later of two granules of one name overwrites the earlier. Which ones are overwritten is known only at
    // the end, so that such a plan, and no other, is made twice.
    let overwritten = match request.mode.is_edp() && request.keep_going {
        true => Planner::new(request, HashSet::new(), &mut |_| ControlFlow::Continue(())).plan()?.1,
        false => HashSet::new(),
    };
    Planner::new(request, overwritten, take).plan().map(|(planned, _)| planned)
}

/// Finds the files of variables that have none of their own name; see [`Inventory::learn`].
pub(super) fn learn(
    inventory: &mut Inventory,
    jobs: &[Job],
    groupings: &BTreeMap<GridKind, Vec<Grouping>>,
    mode: Mode,
    headers: &HeaderCache,
) -> Vec<Note> {
    let mut notes = Vec::new();
    // Data without time, and time series, are found by the names of their files.
    let is_of_steps = |job: &&Job| job.frequency != Frequency::TimeInvariant && job.grid != GridKind::Series;
    for job in jobs.iter().filter(is_of_steps) {
        let grouping = groupings.get(&job.grid).and_then(|groupings| groupings.get(job.grouping));
        // Errors of a job are reported when it is planned.
        let Some(Ok(dataset)) = grouping.map(|grouping| Dataset::new(grouping, job.grid)) else { continue };
        let sources = match mode {
            Mode::Corrected => dataset.possible_sources(),
            Mode::Edp2024 | Mode::Edp2026 => dataset.sources().into_iter().map(str::to_owned).collect(),
        };
        let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
        notes.extend(inventory.learn(&sources, name::input_periods(job.frequency, mode), headers));
    }
    notes
}

/// The job and the step of a recipe that was made, and its position among all that were made.
#[derive(Clone, Copy)]
struct MadeAt {
    /// Position of the job's name in [`Planner::places`].
    place: u32,
    position: u32,
    step: u64,
}

pub(super) struct Planner<'a> {
    pub(super) request: &'a Request<'a>,
    maker: RecipeMaker<'a>,
    take: &'a mut dyn FnMut(Recipe) -> ControlFlow<()>,
    /// True if nothing more is taken.
    is_over: bool,
    /// Number of recipes that were made.
    made: u32,
    /// Names of the jobs up to the present one.
    places: Vec<String>,
    /// The recipes that were made, by a hash of their granules' paths.
    by_granule: HashMap<u128, MadeAt>,
    hashes: TextHasher,
    /// Positions of recipes that are known to be overwritten by later ones: they are not passed on.
    overwritten: HashSet<u32>,
    /// Positions of recipes for which that was found.
    found_overwritten: HashSet<u32>,
    notes: Vec<Note>,
    problems: Vec<Problem>,
}

/// Properties that all recipes of a job share.
struct Context<'a> {
    job: &'a Job,
    place: String,
    dataset: &'a Dataset<'a>,
    label: &'a str,
    summary: String,
    digests: Digests,
    time_units: String,
}

impl Context<'_> {
    /// Returns the metadata of a granule that do not depend on its time.
    fn dynamic_metadata(&self) -> DynamicMetadata {
        let grouping = self.dataset.grouping;
        DynamicMetadata {
            name: grouping.name.clone(),
            dimension: grouping.dimension.clone(),
            comment: grouping.comment.clone(),
            summary: self.summary.clone(),
            ..DynamicMetadata::default()
        }
    }
}

/// Steps of a job with unusual times.
#[derive(Default)]
struct Oddities {
    before_start: Vec<u64>,
    after_end: Vec<u64>,
    finer_units: Vec<u64>,
}

impl<'a> Planner<'a> {
    fn new(
        request: &'a Request<'a>,
        overwritten: HashSet<u32>,
        take: &'a mut dyn FnMut(Recipe) -> ControlFlow<()>,
    ) -> Planner<'a> {
        Planner {
            request,
            maker: RecipeMaker { request },
            take,
            is_over: false,
            made: 0,
            places: Vec::new(),
            by_granule: HashMap::new(),
            hashes: TextHasher::default(),
            overwritten,
            found_overwritten: HashSet::new(),
            notes: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Plans all jobs. Also returns the positions of recipes that later ones overwrite.
    fn plan(mut self) -> Result<(Planned, HashSet<u32>), PlanError> {
        let mut without_input = BTreeSet::new();
        for (at, job) in self.request.jobs.iter().enumerate() {
            if !self.job(job) {
                without_input.insert(at);
            }
            if self.is_over {
                break;
            }
        }
        let Planner { notes, problems, found_overwritten, .. } = self;
        match problems.is_empty() {
            true => Ok((Planned { notes, without_input }, found_overwritten)),
            false => Err(PlanError { problems, notes }),
        }
    }

    pub(super) fn warn(&mut self, text: String) {
        self.notes.push(Note::warning(text));
    }

    /// Handles a problem that makes a job or step impossible: it ends the plan, or with `keep_going` becomes a warning.
    pub(super) fn leave_out(&mut self, problem: Problem) {
        if self.request.keep_going {
            self.warn(format!("{problem}; left out"));
        } else {
            self.problems.push(problem);
        }
    }

    /// Handles a problem that is an error only in a strict plan.
    fn complain(&mut self, problem: Problem, consequence: &str) {
        if self.request.strict {
            self.problems.push(problem);
        } else {
            self.warn(format!("{problem}; {consequence}"));
        }
    }

    /// Plans a job. Returns true if there is any input for it, as far as it could be planned.
    fn job(&mut self, job: &Job) -> bool {
        let request = self.request;
        let place = match job.line {
            0 => {
                let grouping = request.groupings.get(&job.grid).and_then(|groupings| groupings.get(job.grouping));
                let name = grouping.map_or_else(|| job.grouping.to_string(), |grouping| grouping.filename.clone());
                format!("{} of {} {name}", job.frequency, job.grid)
            }
            line => format!("{} line {line}", request.job_file),
        };
        self.places.push(place.clone());
        if matches!(&job.steps, Steps::Listed(steps) if steps.is_empty()) {
            self.warn(format!("{place}: the list of time steps is empty; nothing is made"));
            return true;
        }
        let groupings = request.groupings.get(&job.grid).map_or(&[][..], Vec::as_slice);
        let Some(grouping) = groupings.get(job.grouping) else {
            let (grid, index, count) = (job.grid, job.grouping, groupings.len());
            self.leave_out(Problem::Grouping { place, grid, index, count });
            return true;
        };
        let mut dataset = match Dataset::new(grouping, job.grid) {
            Ok(dataset) => dataset,
            Err(source) => {
                self.leave_out(Problem::Dataset { place, source });
                return true;
            }
        };
        if !grouping.offers(job.frequency) {
            let text = format!("the grouping '{}' is not offered as {}", grouping.name, job.frequency);
            self.warn(format!("{place}: {text}; made all the same"));
        }
        self.derive(job, &place, &mut dataset);
        let context = match self.context(job, place, &dataset) {
            Ok(context) => context,
            Err(problem) => {
                self.leave_out(problem);
                return true;
            }
        };
        match (job.grid, job.frequency) {
            (GridKind::Series, _) => return self.series(&context),
            (_, Frequency::TimeInvariant) => return self.invariant(&context),
            _ => {}
        }
        let words = name::input_periods(job.frequency, request.mode);
        let within = |step| self.within(job.frequency, step);
        let survey = Survey::new(&dataset, request.inventory, words, &job.steps, within);
        self.report(&context, &survey);
        let has_input = survey.never.len() < dataset.sources().len();
        self.recipes(&context, survey);
        has_input
    }

    /// Returns true if a step is in the window: by the centre of its period, else by its own time. A step without any
    /// time is always in the window, so that it is reported.
    fn within(&self, frequency: Frequency, step: u64) -> bool {
        let Request { window, configuration, mode, .. } = self.request;
        let (start, end, seconds) = (configuration.model_start, configuration.model_end, configuration.step_seconds);
        let period = |frequency| calendar::period(*mode, frequency, start, end, seconds, step);
        let found = period(frequency).or_else(|_| period(Frequency::Snapshot));
        // Times of headers are known only when these are read.
        let known = self.request.dates == DateSource::Steps;
        window.is_open() || !known || found.map_or(true, |period| window.contains(period.center))
    }

    fn context<'b>(&self, job: &'b Job, place: String, dataset: &'b Dataset<'b>) -> Result<Context<'b>, Problem>
    where
        'a: 'b,
    {
        let request = self.request;
        let configuration = request.configuration;
        let of_series = (job.grid == GridKind::Series).then_some("");
        let Some(label) = configuration.grid_labels.get(&job.grid).map(String::as_str).or(of_series) else {
            return Err(Problem::Label { place, grid: job.grid });
        };
        let mut digests = request.digests.clone();
        match job.grid {
            GridKind::Native | GridKind::Series => digests.factors = None,
            GridKind::Latlon if digests.factors.is_none() || request.factors_location.is_none() => {
                return Err(Problem::Factors { place });
            }
            GridKind::Latlon => {}
        }
        let time_units = match (request.mode, request.edp_time_units) {
            (mode, Some(units)) if mode.is_edp() && job.grid != GridKind::Series => units.to_owned(),
            _ => calendar::time_units(
                job.frequency,
                configuration.model_start,
                configuration.model_end,
                configuration.step_seconds,
            ),
        };
        let summary = dataset.summary(configuration, job.grid, job.frequency);
        let context = Context { job, place, dataset, label, summary, digests, time_units };
        let has_date = job.frequency != Frequency::TimeInvariant && job.grid != GridKind::Series;
        let date = if has_date { "1992-01" } else { "" };
        let name = self.maker.name(&context, date.into());
        if GranuleName::parse_of(&name.project, &name.to_string()).ok().as_ref() != Some(&name)
            || name.to_string().contains('/')
        {
            return Err(Problem::Name { place: context.place, name: name.to_string() });
        }
        Ok(context)
    }

    fn recipes(&mut self, context: &Context<'_>, survey: Survey<'_>) {
        let configuration = self.request.configuration;
        let (frequency, mode, window) = (context.job.frequency, self.request.mode, self.request.window);
        let (start, end) = (configuration.model_start, configuration.model_end);
        let (headers, source) = (self.request.headers, self.request.dates);
        let rules = DateRules { mode, frequency, configuration, headers, source, place: &context.place };
        let dates = match rules.dates(&survey.records) {
            Ok((dates, warnings)) => {
                warnings.into_iter().for_each(|text| self.warn(text));
                dates
            }
            Err(problem) => {
                self.leave_out(problem);
                return;
            }
        };
        let (mut impossible, mut too_large) = (Vec::new(), None);
        let mut oddities = Oddities::default();
        let mut ends = Vec::new();
        let mut words: Vec<&str> = Vec::new();
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let mut records = survey.records.into_iter();
        while !self.is_over && records.len() > 0 {
            let mut steps = Vec::new();
            for record in records.by_ref().take(AT_ONCE) {
                let step = record.step;
                let timed = dates.period(&rules, step).and_then(|period| Ok((period, self.units(context, &period)?)));
                let (period, units) = match timed {
                    Ok(timed) => timed,
                    Err(error) => {
                        impossible.push(error);
                        continue;
                    }
                };
                if source == DateSource::Header && !window.is_open() && !window.contains(period.center) {
                    continue;
                }
                if period.start < start {
                    oddities.before_start.push(step);
                }
                if period.end > end {
                    oddities.after_end.push(step);
                }
                if mode == Mode::Corrected && units != context.time_units {
                    oddities.finer_units.push(step);
                }
                ends.push(period.end);
                for found in record.inputs.iter().flatten().flatten() {
                    if !words.contains(&found.word) {
                        words.push(found.word);
                    }
                }
                steps.push(TimedStep { record, period, units, by_header: dates.differs(&rules, step) });
            }
            let maker = self.maker;
            let recipes = at_once::map(&steps, threads, |step| {
                maker.recipe(context, step).map(|recipe| (excessive_size(&recipe), recipe))
            });
            for (step, made) in steps.iter().zip(recipes) {
                match made {
                    Ok((None, recipe)) => self.add(recipe, step.record.step),
                    Ok((Some(size), recipe)) => {
                        let files = recipe.recipe.as_ref().map_or(0, |plan| plan.inputs.len());
                        let granule = name::base_name(&recipe.granule).to_owned();
                        let (_, more) = too_large.get_or_insert(((granule, files, size), 0));
                        *more += 1;
                    }
                    Err(source) => {
                        // the same for all steps: roots that do not suit the inventory
                        self.problems.push(Problem::Recipe { place: context.place.clone(), source });
                        return;
                    }
                }
            }
        }
        if context.job.steps == Steps::All {
            self.report_gaps(context, &ends, &words);
        }
        self.report_oddities(context, &oddities);
        if let Some(((granule, files, size), count)) = too_large {
            let place = context.place.clone();
            self.leave_out(Problem::TooLarge { place, granule, files, size, more: count - 1 });
        }
        let more = impossible.len().saturating_sub(1);
        if let Some(source) = impossible.into_iter().next() {
            self.leave_out(Problem::Time { place: context.place.clone(), source, more });
        }
    }

    fn units(&self, context: &Context<'_>, period: &Period) -> Result<String, calendar::CalendarError> {
        match self.request.mode {
            Mode::Corrected => calendar::exact_units(&context.time_units, period, self.request.configuration.model_end),
            Mode::Edp2024 | Mode::Edp2026 => calendar::edp_time_units(&context.time_units, period),
        }
    }

    /// Passes on a recipe of the present job, unless another one makes the same granule. In EDP the later one overwrites
    /// the earlier.
    fn add(&mut self, recipe: Recipe, step: u64) {
        let place = u32::try_from(self.places.len()).unwrap_or(u32::MAX).saturating_sub(1);
        let made = MadeAt { place, position: self.made, step };
        self.made = self.made.saturating_add(1);
        let key = self.hashes.hash(&recipe.granule);
        if let Some(first) = self.by_granule.get(&key).copied() {
            let of = |made: MadeAt| (self.places.get(made.place as usize).cloned().unwrap_or_default(), made.step);
            let granule = recipe.granule.clone();
            let problem = Problem::SameGranule { granule, first: of(first), second: of(made) };
            if self.request.keep_going && self.request.mode.is_edp() {
                self.warn(format!("{problem}; the later one is kept"));
                self.found_overwritten.insert(first.position);
            } else {
                self.problems.push(problem);
                return;
            }
        }
        self.by_granule.insert(key, made);
        if self.problems.is_empty() && !self.is_over && !self.overwritten.contains(&made.position) {
            self.is_over = (self.take)(recipe).is_break();
        }
    }
}

/// Returns the size in bytes of a recipe that is too large for a task message. Only those with very many inputs can be.
fn excessive_size(recipe: &Recipe) -> Option<usize> {
    const FEW: usize = 256;
    recipe.recipe.as_ref().filter(|plan| plan.inputs.len() > FEW)?;
    let size = wire::json(recipe).ok()?.len();
    (size > wire::MAX_RECIPE).then_some(size)
}
