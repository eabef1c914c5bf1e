//! `run`: makes granules until every recipe is settled.

use super::cluster::{self, Cluster};
use super::follow::{self, Follower, Growing};
use super::plan::{Sources, write_list};
use super::{Output, usage, verify};
use anyhow::Context as _;
use clap::Args;
use edp_production::verify::{Depth, Finding, Verified};
use edp_protocol::recipe::{self, Plan, Recipe};
use edp_protocol::settings::Settings;
use edp_protocol::store::Stores;
use edp_protocol::{Location, Mode};
use edp_worker::batch::Report;
use edp_worker::console::{self, Ending, Progress, Signal, Usage, note, out, summary};
use edp_worker::service::Worker;
use edp_worker::tasks::{Places, Tasks};

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Task list; without it, the options of `plan` say what to make
    #[arg(value_name = "TASKS.json")]
    tasks: Option<Location>,
    /// The same, in EDP's spelling
    #[arg(long, hide = true, value_name = "FILE", conflicts_with = "tasks")]
    tasklist: Option<Location>,
    #[command(flatten)]
    sources: Sources,
    /// Also writes the task list
    #[arg(long, alias = "outfile", value_name = "FILE")]
    tasks_out: Option<Location>,
    /// Granules made at once [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
    /// Overwrite granules of other recipes, and damaged ones
    #[arg(long)]
    replace: bool,
    /// Write to a store that ignores conditions; two workers may then write the same granule
    #[arg(long)]
    pub(crate) unconditional: bool,
    #[command(flatten)]
    cluster: Cluster,
    #[command(flatten)]
    growing: Growing,
    /// Say what would be made, and make nothing
    #[arg(long)]
    dry_run: bool,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub(crate) fn execute(options: Options, settings: &Settings) -> anyhow::Result<Ending> {
    let stores = Stores::new(&settings.store);
    let follower = match options.growing.follow {
        true => Some(Follower::new(&options.growing, options.sources.prepare(settings, &stores)?, settings)?),
        false => None,
    };
    let (recipes, refused) = match &follower {
        Some(_) => Default::default(), // they come
        None => recipes(&options, settings, &stores).map(|tasks| (tasks.recipes, tasks.refused))?,
    };
    if let Some(path) = &options.tasks_out {
        write_list(path, &recipe::format_list(&recipes)?, &stores)?;
    }
    if options.dry_run {
        return dry_run(&recipes, &options, &stores);
    }
    let progress = Progress::new(recipes.len());
    let worker = console::worker(options.slots, options.replace, settings, &stores);
    let (mut report, verified, signal) = if options.cluster.is_asked() {
        match cluster::produce(recipes, follower, &options.cluster, worker, settings, &progress)? {
            Ok(outcome) => outcome,
            Err(ending) => return Ok(ending),
        }
    } else {
        match follower {
            Some(follower) => follow::produce(follower, worker, &progress)?,
            None => produce(recipes, worker, |entry| progress.ended(entry))?,
        }
    };
    progress.finish();
    report.refuse(refused, |entry| progress.ended(entry));
    match options.output {
        Output::Json => out(&(json(&report, &verified)? + "\n"))?,
        Output::Human => out(&format!("{}\n{}\n", summary(&report), verify::describe(&verified)))?,
    }
    Ok(ending(&report, &verified, signal))
}

/// Says what would be made, and what stands in the way.
fn dry_run(recipes: &[Recipe], options: &Options, stores: &Stores) -> anyhow::Result<Ending> {
    let verified = edp_production::verify::verify(recipes, Depth::Present, stores);
    if options.output == Output::Json {
        out(&(serde_json::to_string_pretty(&verified)? + "\n"))?;
        return Ok(Ending::Done);
    }
    let (mut missing, mut taken) = (0, 0);
    for (granule, finding) in &verified.problems {
        if *finding == Finding::Missing || options.replace {
            missing += 1;
            out(&format!("{granule}\n"))?;
        } else {
            taken += 1;
            note(&format!("conflict: {granule}: something else is there; --replace overwrites it"));
        }
    }
    note(&format!("{missing} granules to be made, {} are there, {taken} in conflict", verified.good));
    Ok(Ending::Done)
}

/// The report of a production as one JSON object.
fn json(report: &Report, verified: &Verified) -> anyhow::Result<String> {
    let mut value = serde_json::to_value(report)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("verified".into(), serde_json::to_value(verified)?);
    }
    serde_json::to_string_pretty(&value).context("writing the report")
}

/// How a production ended: complete only if `verify` agrees with the outcomes.
pub(crate) fn ending(report: &Report, verified: &Verified, signal: Option<Signal>) -> Ending {
    match signal {
        Some(signal) if !report.is_complete() => Ending::Stopped(signal),
        _ if report.is_complete() && verified.is_complete() => Ending::Done,
        _ => Ending::Incomplete,
    }
}

/// Makes granules in this process, and verifies them.
pub(crate) fn produce(
    recipes: Vec<Recipe>,
    worker: Worker,
    progress: impl FnMut(&edp_worker::batch::Entry),
) -> anyhow::Result<(Report, Verified, Option<Signal>)> {
    let stores = worker.cache.stores().clone();
    let (report, signal) = console::produce(recipes.clone(), worker, progress).context("starting the runtime")?;
    Ok((report, edp_production::verify::verify(&recipes, Depth::Present, &stores), signal))
}

/// The recipes to make: a list as it is, an EDP list completed, or a new plan.
fn recipes(options: &Options, settings: &Settings, stores: &Stores) -> anyhow::Result<Tasks> {
    let Some(path) = options.tasks.as_ref().or(options.tasklist.as_ref()) else {
        return Ok(Tasks {
            recipes: options.sources.plan(settings, stores)?,
            refused: Vec::new(),
            warnings: Vec::new(),
        });
    };
    options.sources.refuse_beside_list(path)?;
    let recipes = console::read_list(path, stores)?;
    let asked = options.sources.mode(settings)?;
    let list_mode = |recipe: &Recipe| recipe.recipe.as_ref().map_or(Mode::Edp2024, |plan| plan.mode);
    if let Some((mode, recipe)) = asked.and_then(|mode| Some((mode, recipes.iter().find(|r| list_mode(r) != mode)?))) {
        let found = list_mode(recipe);
        return Err(Usage(format!(
            "{}: was planned for {found}, --compatibility asks for {mode}: leave the option out, or plan again",
            path
        ))
        .into());
    }
    let held = |recipe: &Recipe| recipe.recipe.as_ref().is_some_and(Plan::is_held);
    if let Some(recipe) = options.sources.allow_partial.then(|| recipes.iter().find(|r| held(r))).flatten() {
        let (list, granule) = (path, &recipe.granule);
        let text = "is to be held by this list, and its recipe would be another; plan again with --allow-partial";
        return Err(Usage(format!("{list}: {granule}: {text}")).into());
    }
    let (sources, plan) = (&options.sources, &settings.plan);
    let either = |option: &Option<String>, setting: &Option<String>| option.clone().or_else(|| setting.clone());
    let places = Places {
        configuration: either(&sources.config, &plan.config),
        grid: either(&sources.grid, &plan.grid),
        metadata: either(&sources.metadata, &plan.metadata),
        factors: either(&sources.mapping_factors, &plan.mapping_factors),
    };
    let tasks = Tasks::ready(recipes, &places, sources.date()?.as_deref(), stores).map_err(usage)?;
    tasks.warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    Ok(tasks)
}
