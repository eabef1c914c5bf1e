//! `run`: makes granules until every recipe is settled.

use super::plan::{Locations, Shared, Sources, write_list};
use super::terminal::{Progress, note, out, summary};
use super::{Ending, Output, Signal, Usage, verify};
use anyhow::Context as _;
use clap::Args;
use edp_coordinator::plan::complete::{self, Completion};
use edp_coordinator::production::{self, Report, Retries};
use edp_coordinator::verify::{Depth, Finding, Verified};
use edp_protocol::recipe::{self, Plan, Recipe};
use edp_protocol::settings::Settings;
use edp_protocol::store::commit;
use edp_protocol::{Location, Mode};
use edp_worker::service::{self, Worker};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Task list; without it, the options of `plan` say what to make
    #[arg(value_name = "TASKS.json")]
    tasks: Option<PathBuf>,
    /// The same, in EDP's spelling
    #[arg(long, hide = true, value_name = "FILE", conflicts_with = "tasks")]
    tasklist: Option<PathBuf>,
    #[command(flatten)]
    sources: Sources,
    /// Also writes the task list
    #[arg(long, alias = "outfile", value_name = "FILE")]
    tasks_out: Option<PathBuf>,
    /// Granules made at once [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
    /// Overwrite granules of other recipes, and damaged ones
    #[arg(long)]
    replace: bool,
    /// Say what would be made, and make nothing
    #[arg(long)]
    dry_run: bool,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub(crate) fn execute(options: Options, settings: &Settings) -> anyhow::Result<Ending> {
    let List { recipes, refused } = recipes(&options, settings)?;
    if let Some(path) = &options.tasks_out {
        write_list(path, &recipe::format_list(&recipes)?)?;
    }
    if options.dry_run {
        return dry_run(&recipes, &options);
    }
    let slots = slots(options.slots, settings);
    let progress = Progress::new(recipes.len());
    let (mut report, verified, signal) = produce(recipes, slots, options.replace, |entry| progress.ended(entry))?;
    progress.finish();
    report.refuse(refused, |entry| progress.ended(entry));
    match options.output {
        Output::Json => out(&(json(&report, &verified)? + "\n"))?,
        Output::Human => out(&format!("{}\n{}\n", summary(&report), verify::describe(&verified)))?,
    }
    Ok(ending(&report, &verified, signal))
}

/// Says what would be made, and what stands in the way.
fn dry_run(recipes: &[Recipe], options: &Options) -> anyhow::Result<Ending> {
    let verified = edp_coordinator::verify::verify(recipes, Depth::Present);
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

/// Granules at once: option, else setting, else one for each core.
pub(crate) fn slots(option: Option<u16>, settings: &Settings) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    option.or(settings.run.slots).map_or_else(cores, usize::from)
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

/// Makes granules in this process, stops in order on a signal, sweeps and verifies.
pub(crate) fn produce(
    recipes: Vec<Recipe>,
    slots: usize,
    replace: bool,
    progress: impl FnMut(&production::Entry),
) -> anyhow::Result<(Report, Verified, Option<Signal>)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("edp")
        .on_thread_start(edp_worker::granule::chunks::silence_hdf5)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let worker = Arc::new(Worker::new(slots, replace));
    let signal = Arc::new(Mutex::new(None));
    let seen = signal.clone();
    let list = recipes.clone();
    let report = runtime.block_on(async move {
        let stop = async move {
            let signal = stop_signal().await;
            note(match signal {
                Signal::Interrupt => "interrupted: giving up what is under way",
                Signal::Terminate => "terminated: giving up what is under way",
                Signal::Hangup => "the terminal is gone: giving up what is under way",
            });
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(signal);
            // Whoever asks twice does not want to wait; the next run sweeps what is left.
            tokio::spawn(async {
                let again = stop_signal().await;
                std::process::exit(i32::from(Ending::Stopped(again).code()));
            });
        };
        production::run(list, worker, Retries::default(), progress, stop).await
    });
    if let Some(reason) = &report.stopped {
        note(&format!("stopped, since nothing can be written: {reason}; make room or mend it, and run it again"));
    }
    let paths = recipes.iter().filter_map(|recipe| {
        let location: Location = recipe.granule.parse().ok()?;
        location.local().ok().map(ToOwned::to_owned)
    });
    let paths: Vec<PathBuf> = paths.collect();
    if let Err(error) = commit::sweep(paths.iter().map(PathBuf::as_path), service::may_be_at_work) {
        note(&format!("warning: {}", edp_protocol::message::chain(&error)));
    }
    let verified = edp_coordinator::verify::verify(&recipes, Depth::Present);
    let signal = *signal.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((report, verified, signal))
}

/// Ready when the process is asked to stop.
async fn stop_signal() -> Signal {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut stream) => drop(stream.recv().await),
            // Without a handler the signal ends the process as it always does.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => Signal::Interrupt,
        () = wait(SignalKind::terminate()) => Signal::Terminate,
        () = wait(SignalKind::hangup()) => Signal::Hangup,
    }
}

/// The recipes to make: a list as it is, an EDP list completed, or a new plan.
fn recipes(options: &Options, settings: &Settings) -> anyhow::Result<List> {
    let Some(path) = options.tasks.as_ref().or(options.tasklist.as_ref()) else {
        return Ok(List { recipes: options.sources.plan(settings)?, refused: Vec::new() });
    };
    options.sources.refuse_beside_list(path)?;
    let mut recipes = verify::read_list(path)?;
    let asked = options.sources.mode(settings)?;
    let list_mode = |recipe: &Recipe| recipe.recipe.as_ref().map_or(Mode::Edp2024, |plan| plan.mode);
    if let Some((mode, recipe)) = asked.and_then(|mode| Some((mode, recipes.iter().find(|r| list_mode(r) != mode)?))) {
        let found = list_mode(recipe);
        return Err(Usage(format!(
            "{}: was planned for {found}, --compatibility asks for {mode}: leave the option out, or plan again",
            path.display()
        ))
        .into());
    }
    let held = |recipe: &Recipe| recipe.recipe.as_ref().is_some_and(Plan::is_held);
    if let Some(recipe) = options.sources.allow_partial.then(|| recipes.iter().find(|r| held(r))).flatten() {
        let (list, granule) = (path.display(), &recipe.granule);
        let text = "is to be held by this list, and its recipe would be another; plan again with --allow-partial";
        return Err(Usage(format!("{list}: {granule}: {text}")).into());
    }
    let refused = complete_list(&mut recipes, options, settings)?;
    recipes.retain(|recipe| recipe.recipe.is_some());
    Ok(List { recipes, refused })
}

/// What a list comes to.
struct List {
    /// Recipes to make.
    recipes: Vec<Recipe>,
    /// Granules of recipes that cannot be made sense of, and why; they keep nobody else from being made.
    refused: Vec<(String, String)>,
}

/// Gives the recipes of a list that EDP wrote what they lack. The recipes say where things are; an option says it
/// where they do not (EDP of 2024 has no configuration in its lists).
/// Those that lack more than can be given stay incomplete; returned with the reason.
fn complete_list(
    recipes: &mut [Recipe],
    options: &Options,
    settings: &Settings,
) -> anyhow::Result<Vec<(String, String)>> {
    let mut refused = Vec::new();
    let (sources, plan) = (&options.sources, &settings.plan);
    let date = sources.date()?;
    let mut loaded: HashMap<Locations, Shared> = HashMap::new();
    let content = BTreeMap::new();
    for recipe in recipes.iter_mut().filter(|recipe| recipe.recipe.is_none()) {
        let granule = recipe.granule.clone();
        let from = |own: &Option<String>, option: &Option<String>, setting: &Option<String>| {
            own.clone().or_else(|| option.clone()).or_else(|| setting.clone())
        };
        let needed = |location: Option<String>, name: &str| {
            location.ok_or_else(|| Usage(format!("{granule}: the list does not say where it is: give --{name}")))
        };
        let grid = needed(from(&recipe.ecco_grid_loc, &sources.grid, &plan.grid), "grid")?;
        let metadata = needed(from(&recipe.ecco_metadata_loc, &sources.metadata, &plan.metadata), "metadata")?;
        let configuration = needed(from(&recipe.ecco_cfg_loc, &sources.config, &plan.config), "config")?;
        let factors = from(&recipe.ecco_mapping_factors_loc, &sources.mapping_factors, &plan.mapping_factors);
        recipe.ecco_grid_loc = Some(grid.clone());
        recipe.ecco_metadata_loc = Some(metadata.clone());
        recipe.ecco_mapping_factors_loc.clone_from(&factors);
        let locations = Locations { configuration, grid, metadata, factors };
        let shared = match loaded.entry(locations) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let shared = Shared::load(entry.key().clone())?;
                entry.insert(shared)
            }
        };
        let units = shared
            .edp_time_units()
            .ok_or_else(|| Usage(format!("{}: no units of 'time' there", shared.locations.metadata)))?;
        let with = Completion {
            configuration_location: Some(&shared.locations.configuration),
            digests: &shared.digests,
            options: &content,
            edp_time_units: units,
            production_date: date.as_deref(),
        };
        if let Err(error) = complete::complete(recipe, &with) {
            refused.push((granule, edp_protocol::message::chain(&error)));
        }
    }
    Ok(refused)
}
