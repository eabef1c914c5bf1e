//! `retry`: sends recipes of a ledger again.

use super::cluster::ledger_path;
use super::{status, usage};
use clap::{Args, ValueEnum};
use edp_production::ledger::{Ledger, LedgerError, RecipeState, Settled, View};
use edp_protocol::text::line;
use edp_queue::topology::ProductionName;
use edp_worker::console::{Ending, ReportForm, Usage, note, out, out_json};
use std::path::PathBuf;

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct RetryOptions {
    /// Granules: names, paths, recipe ids, or unique parts of them
    #[arg(value_name = "GRANULE", conflicts_with = "state")]
    granules: Vec<String>,
    /// All recipes in this state [default: failed]
    #[arg(long, value_enum)]
    state: Option<StateOption>,
    /// Name of the production
    #[arg(long, value_name = "NAME", default_value = "default")]
    production: ProductionName,
    /// Its ledger [default: ./NAME.ledger]
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// List the recipes, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    output: ReportForm,
}

/// The states from which recipes can be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum StateOption {
    /// The granule could not be made
    #[default]
    Failed,
    /// Something else has the name of the granule
    Conflict,
    /// Some outputs have no input yet
    Held,
}

impl StateOption {
    fn state(self) -> RecipeState {
        match self {
            StateOption::Failed => RecipeState::Failed,
            StateOption::Conflict => RecipeState::Conflict,
            StateOption::Held => RecipeState::Held,
        }
    }
}

/// Runs the command `retry`: sends recipes of a ledger again.
pub(crate) fn execute(options: &RetryOptions) -> anyhow::Result<Ending> {
    let path = ledger_path(options.ledger.as_deref(), &options.production);
    let view = View::open(&path).map_err(usage)?;
    status::same_production(&view, &path, &options.production)?;
    let chosen = chosen(&view, options)?;
    let production = view.fact("production")?.unwrap_or_default();
    drop(view);
    let mut at_work = false;
    if !options.dry_run && !chosen.is_empty() {
        let (mut ledger, busy) = Ledger::beside(&path).map_err(usage)?;
        at_work = busy;
        ledger.reopen(&chosen.iter().map(|one| one.id.clone()).collect::<Vec<_>>())?;
    }
    match options.output {
        ReportForm::Json => {
            let granules: Vec<_> = chosen.iter().map(|one| &one.granule).collect();
            let report = serde_json::json!({
                "retried": granules, "dry_run": options.dry_run, "coordinator_at_work": at_work,
            });
            out_json(&serde_json::to_string_pretty(&report)?)?;
        }
        ReportForm::Human => {
            for one in &chosen {
                out(&format!("{}\n", line(&one.granule)))?;
            }
        }
    }
    let count = chosen.len();
    note(&match (options.dry_run, at_work) {
        _ if count == 0 => "nothing to be sent out again".to_owned(),
        (true, _) => format!("{count} recipes would go out again"),
        (false, true) => format!("{count} recipes go out again: the coordinator at work on the ledger sends them"),
        (false, false) => format!(
            "{count} recipes go out again with the next `edp-coordinator run TASKS.json --production {} --ledger {}` \
             (and `--queue`, if it has one)",
            production,
            path.display()
        ),
    });
    Ok(Ending::Done)
}

/// Returns the recipes that the options select.
fn chosen(view: &View, options: &RetryOptions) -> anyhow::Result<Vec<Settled>> {
    if options.granules.is_empty() {
        let state = options.state.unwrap_or_default().state();
        let mut all = Vec::new();
        view.each::<LedgerError>(state, |one| {
            all.push(one);
            Ok(())
        })?;
        return Ok(all);
    }
    let mut chosen: Vec<Settled> = Vec::new();
    for text in &options.granules {
        let one = view.granule(status::find(view, text)?)?.settled;
        if !matches!(one.state, RecipeState::Failed | RecipeState::Conflict | RecipeState::Held) {
            let text = format!(
                "{}: is {}: only what failed, is held or in conflict goes out again",
                one.granule,
                one.state.as_str()
            );
            return Err(Usage(text).into());
        }
        if !chosen.contains(&one) {
            chosen.push(one);
        }
    }
    Ok(chosen)
}
