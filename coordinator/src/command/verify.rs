//! `verify`: a task list against the destination.

use super::plan::write_list;
use super::{Output, usage};
use clap::{Args, ValueEnum};
use edp_production::verify::{self, Depth, Finding, Verified};
use edp_protocol::Location;
use edp_protocol::recipe::{self, Recipe};
use edp_protocol::settings::Settings;
use edp_protocol::store::Stores;
use edp_worker::console::{Ending, note, out, read_list};
use std::collections::HashSet;

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Task list with recipe ids, as `plan` writes it
    #[arg(value_name = "TASKS.json")]
    tasks: Location,
    /// How closely to look
    #[arg(long, value_enum, default_value_t = DepthOption::Structure)]
    depth: DepthOption,
    /// Writes the task list of what must be made again
    #[arg(long, value_name = "FILE")]
    redo: Option<Location>,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// [`Depth`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DepthOption {
    /// There, readable, of the right recipe
    Present,
    /// Also whole: variables, chunks, fill values, time
    Structure,
}

/// Runs the command.
pub(crate) fn execute(options: &Options, settings: &Settings) -> anyhow::Result<Ending> {
    let stores = Stores::new(&settings.store);
    let recipes = read_list(&options.tasks, &stores)?;
    for recipe in &recipes {
        recipe.plan().map_err(usage)?;
    }
    let depth = match options.depth {
        DepthOption::Present => Depth::Present,
        DepthOption::Structure => Depth::Structure,
    };
    let verified = verify::verify(&recipes, depth, &stores);
    if let Some(path) = &options.redo {
        // What was not seen may be as it should be, and what is older was not asked to be made again.
        let is_seen = |finding: &Finding| !matches!(finding, Finding::Unknown(_) | Finding::Older(_));
        let wrong = verified.problems.iter().filter(|(_, finding)| is_seen(finding));
        let wrong: HashSet<&str> = wrong.map(|(granule, _)| granule.as_str()).collect();
        let again: Vec<Recipe> =
            recipes.iter().filter(|recipe| wrong.contains(recipe.granule.as_str())).cloned().collect();
        write_list(path, &recipe::format_list(&again)?, &stores)?;
    }
    match options.output {
        Output::Json => out(&(serde_json::to_string_pretty(&verified)? + "\n"))?,
        Output::Human => {
            problems(&verified).iter().for_each(|problem| note(problem));
            verified.extra.iter().for_each(|extra| note(&format!("extra: {extra}")));
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

/// What is wrong, a line a granule.
fn problems(verified: &Verified) -> Vec<String> {
    let line = |(granule, finding): &(String, Finding)| match finding {
        Finding::Good => None,
        Finding::Missing => Some(format!("missing: {granule}")),
        Finding::Damaged(problems) => Some(format!("damaged: {granule}: {}", problems.join("; "))),
        Finding::Foreign(differs) => Some(format!("foreign: {granule}: {}", differs.join("; "))),
        Finding::Older(version) => Some(format!("older: {granule}: made by output version {version}")),
        Finding::Unknown(why) => Some(format!("unknown: {granule}: {}", why.join("; "))),
    };
    verified.problems.iter().filter_map(line).collect()
}
