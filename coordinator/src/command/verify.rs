//! `verify`: compares a task list with the granules at its destination.

use super::plan::write_recipes;
use super::usage;
use clap::{Args, ValueEnum};
use edp_coordinator::values;
use edp_production::ledger::{LedgerError, RecipeState, View};
use edp_production::records::{self, GranuleRecord, Records};
use edp_production::verify::{self, Check, Finding, InspectionDepth, Verified, Verifier};
use edp_program::settings::Settings;
use edp_protocol::Location;
use edp_protocol::recipe::Recipe;
use edp_store::Stores;
use edp_worker::console::{self, Counter, Ending, ReportForm, note, out, out_json, read_each};
use std::collections::HashSet;
use std::path::PathBuf;

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct VerifyOptions {
    /// Task list with recipe ids, as `plan` writes it
    #[arg(value_name = "TASKS.json")]
    tasks: Location,
    /// Depth of the check
    #[arg(long, value_enum, default_value_t = DepthOption::Content)]
    depth: DepthOption,
    /// Also download granules from S3 if the store keeps no checksum that can be compared
    #[arg(long)]
    read: bool,
    /// Number of granules that are made at the same time by `--depth values` [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
    /// Also use the records of granules in a ledger, in addition to the manifests next to the list
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Write the task list of the granules that must be made again
    #[arg(long, value_name = "FILE")]
    redo: Option<Location>,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    output: ReportForm,
}

/// [`InspectionDepth`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DepthOption {
    /// The granules exist, are readable and belong to the right recipes
    Present,
    /// They are also complete: variables, chunks, fill values, time
    Structure,
    /// Their data are also read: compared with recorded digests, or inflated where none is recorded
    Content,
    /// Each granule is also made again in a local file: all of its values and attributes are compared with what its
    /// inputs give
    Values,
}

/// Runs the command `verify`: compares the granules at a destination with their list.
pub(crate) fn execute(options: &VerifyOptions, settings: &Settings) -> anyhow::Result<Ending> {
    let stores = edp_s3::stores(&settings.store);
    let depth = match options.depth {
        DepthOption::Present => InspectionDepth::Present,
        DepthOption::Structure => InspectionDepth::Structure,
        DepthOption::Content | DepthOption::Values => InspectionDepth::Content,
    };
    let records = match depth {
        InspectionDepth::Content => recorded(options, &stores)?,
        InspectionDepth::Present | InspectionDepth::Structure => Records::default(),
    };
    let check = Check { depth, records: &records, read: options.read, known: &HashSet::new() };
    let counter = (options.depth == DepthOption::Values).then(|| Counter::new(0));
    let verified = match &options.redo {
        Some(path) => write_recipes(path, &stores, |list| {
            compare(options, settings, check, counter.as_ref(), &stores, |recipe| Ok(list.add(recipe)?))
        })?,
        None => compare(options, settings, check, counter.as_ref(), &stores, |_| Ok(()))?,
    };
    if let Some(counter) = counter {
        counter.finish();
    }
    match options.output {
        ReportForm::Json => out_json(&serde_json::to_string_pretty(&verified)?)?,
        ReportForm::Human => {
            problems(&verified).iter().for_each(|problem| note(problem));
            verified.extra.iter().for_each(|extra| note(&format!("extra: {extra}")));
            verified.unread.iter().for_each(|granule| note(&format!("not read: {granule}")));
            if !verified.unread.is_empty() {
                note(
                    "the store keeps no checksum of these granules, or none is recorded: --read downloads and reads them",
                );
            }
            verified.unlisted.iter().for_each(|directory| note(&format!("not searched: {directory}")));
            out(&format!("{}, {} extra\n", verified, verified.extra.len()))?;
        }
    }
    Ok(match verified.has_unknown() {
        true => Ending::Unreachable,
        false if verified.is_complete() => Ending::Done,
        false => Ending::Incomplete,
    })
}

/// Compares the granules of the list with their recipes, some at a time, and passes the recipes of those that must be made
/// again to `again`.
fn compare(
    options: &VerifyOptions,
    settings: &Settings,
    check: Check<'_>,
    counter: Option<&Counter>,
    stores: &Stores,
    mut again: impl FnMut(&Recipe) -> anyhow::Result<()>,
) -> anyhow::Result<Verified> {
    let (mut verifier, mut verified) = (Verifier::new(stores), Verified::default());
    let resources = (console::slots(options.slots, settings), u64::from(settings.run.memory) << 20);
    let mut see = |recipes: &mut Vec<Recipe>| {
        let mut part = verifier.see(recipes, check);
        if let Some(counter) = counter {
            counter.more(recipes.len() - part.problems.len());
            values::check(recipes, &mut part, resources, stores, || counter.advance());
        }
        let wrong = part.wrong();
        for recipe in recipes.drain(..).filter(|recipe| wrong.contains(recipe.granule.as_str())) {
            again(&recipe)?;
        }
        verified.add(part);
        Ok::<_, anyhow::Error>(())
    };
    let mut batch = Vec::new();
    read_each(&options.tasks, stores, settings, |recipe| {
        recipe.plan().map_err(usage)?;
        batch.push(recipe);
        if batch.len() < verify::BATCH { Ok(()) } else { see(&mut batch) }
    })?;
    see(&mut batch)?;
    verifier.end(&mut verified);
    Ok(verified)
}

/// Returns the records of a list's granules, from its manifests and from a ledger.
fn recorded(options: &VerifyOptions, stores: &Stores) -> anyhow::Result<Records> {
    let mut records = records::beside(&options.tasks, stores).map_err(usage)?;
    if let Some(path) = &options.ledger {
        let entered = View::open(path).and_then(|ledger| {
            ledger.each::<LedgerError>(RecipeState::Done, |one| {
                if let Some(record) = GranuleRecord::of(&one) {
                    records.enter(record);
                }
                Ok(())
            })
        });
        entered.map_err(usage)?;
    }
    Ok(records)
}

/// Returns one line for each granule that is not as it should be.
fn problems(verified: &Verified) -> Vec<String> {
    let line = |(granule, finding): &(String, Finding)| match finding {
        Finding::Good | Finding::Unread => None,
        Finding::Missing => Some(format!("missing: {granule}")),
        Finding::Damaged(problems) => Some(format!("damaged: {granule}: {}", problems.join("; "))),
        Finding::Foreign(differs) => Some(format!("foreign: {granule}: {}", differs.join("; "))),
        Finding::Older(version) => Some(format!("older: {granule}: made by output version {version}")),
        Finding::Unknown(why) => Some(format!("unknown: {granule}: {}", why.join("; "))),
    };
    verified.problems.iter().filter_map(line).collect()
}
