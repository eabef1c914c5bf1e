//! `run`: makes granules until every recipe is settled.

use super::cluster::Cluster;
use super::follow::FollowOptions;
use super::plan::{PlanSourceOptions, write_recipes};
use super::usage;
use clap::Args;
use edp_coordinator::tasks::options::check_options;
use edp_production::monitor::ProductionMonitor;
use edp_production::session::{self, Feed};
use edp_production::verify::{Check, Forecast, InspectionDepth};
use edp_program::settings::Settings;
use edp_program::telemetry::Telemetry;
use edp_protocol::Location;
use edp_protocol::recipe::{self, Recipe};
use edp_protocol::text::line;
use edp_store::Stores;
use edp_worker::console::{self, Ending, Progress, ReportForm, Verify, WorkerOptions, note, out, out_json};
use edp_worker::drive::{Drive, TaskList};
use edp_worker::tasks::{GivenLocations, Tasks};

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Task list; without it, the options of `plan` select the granules
    #[arg(value_name = "TASKS.json")]
    tasks: Option<Location>,
    /// The same, in EDP's spelling
    #[arg(long, hide = true, value_name = "FILE", conflicts_with = "tasks")]
    tasklist: Option<Location>,
    #[command(flatten)]
    sources: PlanSourceOptions,
    /// Also write the task list
    #[arg(long, alias = "outfile", value_name = "FILE")]
    tasks_out: Option<Location>,
    #[command(flatten)]
    pub(crate) worker: WorkerOptions,
    /// Depth of the check of granules that exist already
    #[arg(long, value_enum, default_value_t)]
    verify: Verify,
    #[command(flatten)]
    cluster: Cluster,
    /// Address at which this coordinator answers /healthz and /metrics over HTTP, to everybody who reaches it
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    #[command(flatten)]
    growing: FollowOptions,
    /// List what would be made, and make nothing
    #[arg(long)]
    dry_run: bool,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    output: ReportForm,
}

/// Runs the command `run`: makes the granules of a list.
pub(crate) fn execute(options: RunOptions, settings: &Settings, telemetry: &Telemetry) -> anyhow::Result<Ending> {
    let notices = options.worker.notices(settings)?;
    let stores = edp_s3::stores(&settings.store);
    let follower = options.growing.follower(&options.sources, settings, &stores)?;
    let (Tasks { recipes, refused, .. }, unanswered) = match &follower {
        Some(_) => Default::default(), // they come while the model runs
        None => recipes(&options, settings, &stores)?,
    };
    if let Some(path) = &options.tasks_out {
        write_recipes(path, &stores, |list| Ok(recipes.iter().try_for_each(|recipe| list.add(recipe))?))?;
    }
    if options.dry_run {
        let ending = dry_run(&recipes, &options, &stores)?;
        return Ok(if unanswered.is_empty() { ending } else { Ending::Incomplete });
    }
    let progress = Progress::new(recipes.len());
    let worker = options.worker.worker(settings, &stores, []);
    let destination = match &follower {
        Some(follower) => Some(follower.destination().to_owned()),
        None => recipes.iter().find_map(|recipe| Some(recipe.recipe.as_ref()?.roots.destination.clone())),
    };
    let (mut session, workers) = options.cluster.session(settings, worker, destination)?;
    session.plan.monitor = ProductionMonitor::writing(settings.telemetry.embedded_metrics());
    let json = options.output == ReportForm::Json;
    let session = session::SessionOptions { stages: json, verify: options.verify.into(), ..session };
    let list = options.tasks_out.as_ref().or(options.tasks.as_ref()).or(options.tasklist.as_ref());
    let list = list.filter(|_| follower.is_none()).map(|at| TaskList { at: at.clone(), part: None });
    let http = console::listen(settings.telemetry.listen(options.listen.as_deref()), telemetry)?;
    let drive = Drive { options: session, recipes, stores, workers, notices, list, http };
    let growth = async |feed: Feed<'_>| match follower {
        Some(follower) => follower.grow(feed).await,
        None => Ok(Vec::new()),
    };
    let mut driven = match drive.run(growth, &progress)? {
        Ok(driven) => driven,
        Err(ending) => return Ok(ending),
    };
    progress.finish();
    driven.refuse(refused, &progress);
    match options.output {
        ReportForm::Json => out_json(&driven.json()?)?,
        ReportForm::Human => out(&format!("{}\n{}\n", driven.report, driven.verified))?,
    }
    Ok(match driven.ending() {
        Ending::Done if !unanswered.is_empty() => Ending::Incomplete,
        ending => ending,
    })
}

/// Reports the granules that would be made, and the obstacles.
fn dry_run(recipes: &[Recipe], options: &RunOptions, stores: &Stores) -> anyhow::Result<Ending> {
    let (records, known) = Default::default();
    let check = Check { depth: InspectionDepth::Present, records: &records, read: false, known: &known };
    let verified = edp_production::verify::verify(recipes, check, stores);
    if options.output == ReportForm::Json {
        out_json(&serde_json::to_string_pretty(&verified)?)?;
        return Ok(Ending::Done);
    }
    let Forecast { made, conflicts } = verified.forecast(options.worker.replace, options.worker.replace_older);
    for granule in &made {
        out(&format!("{}\n", line(granule)))?;
    }
    for granule in &conflicts {
        note(&format!("conflict: {granule}: something else is there; --replace overwrites it"));
    }
    let [made, conflicts] = [made.len(), conflicts.len()];
    note(&format!("{made} granules to be made, {} are there, {conflicts} in conflict", verified.good));
    Ok(Ending::Done)
}

/// Returns the recipes to make: those of a list, of an EDP list that is completed, or of a new plan. Also returns the
/// requests of a plan that have no results at all.
fn recipes(options: &RunOptions, settings: &Settings, stores: &Stores) -> anyhow::Result<(Tasks, Vec<String>)> {
    let Some(path) = options.tasks.as_ref().or(options.tasklist.as_ref()) else {
        let (recipes, ended) = options.sources.plan_all(settings, stores)?;
        return Ok((Tasks { recipes, refused: Vec::new(), warnings: Vec::new() }, ended.unanswered));
    };
    options.sources.refuse_beside_list(path)?;
    let recipes = console::read_list(path, stores, settings)?;
    recipe::check_versions(&path.to_string(), &recipes).map_err(usage)?;
    let asked = options.sources.mode(settings)?;
    check_options(&path.to_string(), &recipes, asked, options.sources.allow_partial).map_err(usage)?;
    let sources = &options.sources;
    let given = GivenLocations {
        configuration: sources.config.clone(),
        grid: sources.grid.clone(),
        metadata: sources.metadata.clone(),
        factors: sources.mapping_factors.clone(),
    };
    let places = given.or(&settings.plan);
    let tasks = Tasks::ready(recipes, &places, sources.date()?.as_deref(), asked, stores).map_err(usage)?;
    tasks.warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    Ok((tasks, Vec::new()))
}
