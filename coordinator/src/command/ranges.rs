//! `ranges`: the table of ranges of whole collections, for `plan --valid-range`.

use super::plan::{PlanSourceOptions, write_text};
use super::usage;
use anyhow::Context as _;
use clap::Args;
use edp_coordinator::ranges::{self, RangesPass};
use edp_program::settings::Settings;
use edp_protocol::Location;
use edp_protocol::recipe::Recipe;
use edp_store::Stores;
use edp_worker::console::{self, Counter, Ending, Usage, note, out_data};

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct RangesOptions {
    /// Task list; without it, the options of `plan` select the data
    #[arg(value_name = "TASKS.json")]
    tasks: Option<Location>,
    #[command(flatten)]
    sources: PlanSourceOptions,
    /// File for the table; standard output if absent
    #[arg(long, value_name = "FILE")]
    ranges_out: Option<Location>,
    /// Number of granules that are read at the same time [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
}

/// Runs the command `ranges`: reads all results and writes a table of value ranges.
pub(crate) fn execute(options: &RangesOptions, settings: &Settings) -> anyhow::Result<Ending> {
    if options.sources.valid_range.is_some() {
        return Err(Usage("--valid-range is what `ranges` makes: leave the option out".into()).into());
    }
    let stores = edp_s3::stores(&settings.store);
    let mut recipes = recipes(options, settings, &stores)?;
    // What has no time, or all times, is a collection by itself.
    recipes.retain(|recipe| !recipe.name().is_ok_and(|name| name.is_whole_dataset()));
    let of_edp = |recipe: &Recipe| recipe.recipe.as_ref().map(|plan| plan.mode).filter(|mode| mode.is_edp());
    if let Some((recipe, mode)) = recipes.iter().find_map(|recipe| Some((recipe, of_edp(recipe)?))) {
        let text = format!("granules of {mode} have ranges of their own, and other values: plan as corrected");
        return Err(Usage(format!("{}: {text}", recipe.granule)).into());
    }
    let counter = Counter::new(recipes.len());
    let RangesPass { table, failures, warnings } =
        ranges::compute(&recipes, console::slots(options.slots, settings), &stores, || counter.advance());
    counter.finish();
    warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    failures.iter().for_each(|(granule, reason)| note(&format!("failed: {granule}: {reason}")));
    if !failures.is_empty() && !options.sources.keep_going {
        let count = failures.len();
        note(&format!(
            "no table is written: {count} of {} granules failed; --keep-going leaves them out",
            recipes.len()
        ));
        return Ok(Ending::Incomplete);
    }
    let text = table.format().context("writing the table of ranges")?;
    match &options.ranges_out {
        Some(path) => write_text(path, &text, &stores)?,
        None => out_data(&text)?,
    }
    note(&format!("{} collections, {} granules", table.collections.len(), recipes.len() - failures.len()));
    Ok(if failures.is_empty() { Ending::Done } else { Ending::Incomplete })
}

fn recipes(options: &RangesOptions, settings: &Settings, stores: &Stores) -> anyhow::Result<Vec<Recipe>> {
    let Some(path) = &options.tasks else { return Ok(options.sources.plan_all(settings, stores)?.0) };
    options.sources.refuse_beside_list(path)?;
    let recipes = console::read_list(path, stores, settings)?;
    for recipe in &recipes {
        recipe.check_identity().map_err(usage)?;
    }
    Ok(recipes)
}
