//! `make`: makes granules in this process, without a queue.

use clap::Args;
use edp_production::director::Budget;
use edp_production::session;
use edp_program::settings::Settings;
use edp_protocol::Location;
use edp_protocol::message::chain;
use edp_protocol::recipe::check_versions;
use edp_worker::console::{self, Ending, Progress, ReportForm, Usage, Verify, WorkerOptions, note, out, out_json};
use edp_worker::drive::{Drive, TaskList, Workers};
use edp_worker::tasks::{GivenLocations, Share, Tasks, production_date};
use std::env::VarError;

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct MakeOptions {
    /// Task list, ours or EDP's [default: the variable TASKLIST]
    #[arg(value_name = "TASKS.json")]
    tasks: Option<Location>,
    /// The same, in EDP's spelling
    #[arg(long, hide = true, value_name = "FILE", conflicts_with = "tasks")]
    tasklist: Option<Location>,
    /// Make one of N shares of the list only [default: by the variables of an array job of Slurm, PBS or AWS Batch]
    #[arg(long, value_name = "I/N", conflicts_with = "parts")]
    part: Option<Share>,
    /// Number of shares, if the array job states only the number of this one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    parts: Option<u32>,
    #[command(flatten)]
    pub(crate) worker: WorkerOptions,
    /// Depth of the check of granules that exist already
    #[arg(long, value_enum, default_value_t)]
    verify: Verify,
    /// For lists that do not name it: configuration (YAML)
    #[arg(long, aliases = ["ecco_cfg_loc", "cfgfile"], value_name = "FILE")]
    config: Option<String>,
    /// For lists that do not name it: grid directory
    #[arg(long, alias = "ecco_grid_loc", value_name = "LOCATION")]
    grid: Option<String>,
    /// For lists that do not name them: mapping factors
    #[arg(long, alias = "ecco_mapping_factors_loc", value_name = "LOCATION")]
    mapping_factors: Option<String>,
    /// For lists that do not name it: metadata directory
    #[arg(long, alias = "ecco_metadata_loc", value_name = "LOCATION")]
    metadata: Option<String>,
    /// For lists without dates: written into every granule, YYYY-MM-DDThh:mm:ssZ [default: SOURCE_DATE_EPOCH, else the
    /// newest of its inputs]
    #[arg(long, value_name = "DATE")]
    production_date: Option<String>,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    output: ReportForm,
}

/// Variable with the location of the task list, by which a batch system tells a container what to make.
const TASKLIST: &str = "TASKLIST";

/// Returns the location of the task list: the one that is given, else that of the variable.
fn location(options: &MakeOptions) -> Result<Location, Usage> {
    if let Some(given) = options.tasks.as_ref().or(options.tasklist.as_ref()) {
        return Ok(given.clone());
    }
    let says = |why: &str| {
        Usage(format!("which task list? Give TASKS.json, or its path or s3:// URI in {TASKLIST}, which {why}"))
    };
    match std::env::var(TASKLIST) {
        Ok(text) if text.is_empty() => Err(says("is empty")),
        Ok(text) => text.parse().map_err(|e| Usage(format!("{TASKLIST}: {}", chain(&e)))),
        Err(VarError::NotPresent) => Err(says("is not set")),
        Err(VarError::NotUnicode(_)) => Err(says("is not UTF-8")),
    }
}

/// Runs the command `make`: makes the granules of a list without a queue.
pub(crate) fn execute(options: &MakeOptions, settings: &Settings) -> anyhow::Result<Ending> {
    let path = location(options)?;
    let notices = options.worker.notices(settings)?;
    let share = match options.part {
        Some(share) => Some(share),
        None => Share::of_array(options.parts.map(|parts| parts as usize), |name| std::env::var(name).ok())
            .map_err(|e| Usage::from_error(&e))?,
    };
    if let (None, Some(parts)) = (share, options.parts) {
        let text = format!("--parts {parts}, but nothing says which part this is: give --part I/{parts}");
        return Err(Usage(text).into());
    }
    let stores = edp_s3::stores(&settings.store);
    let mut list = console::read_list(&path, &stores, settings)?;
    check_versions(&path.to_string(), &list).map_err(|e| Usage::from_error(&e))?;
    if let Some(share) = share {
        list = share.keep(list);
    }
    let given = GivenLocations {
        configuration: options.config.clone(),
        grid: options.grid.clone(),
        metadata: options.metadata.clone(),
        factors: options.mapping_factors.clone(),
    };
    let places = given.or(&settings.plan);
    let date = production_date(options.production_date.as_deref()).map_err(|e| Usage::from_error(&e))?;
    let tasks = Tasks::ready(list, &places, date.as_deref(), None, &stores).map_err(|e| console::named(&e))?;
    tasks.warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    let progress = Progress::new(tasks.recipes.len());
    let worker = options.worker.worker(settings, &stores, []);
    let json = options.output == ReportForm::Json;
    let drive = Drive {
        http: None,
        // A share of a list ends when its last recipe does, however many recipes fail.
        options: session::SessionOptions {
            stages: json,
            replace: options.worker.replace,
            verify: options.verify.into(),
            ..session::SessionOptions::in_memory(Budget::NONE)
        },
        recipes: tasks.recipes,
        stores,
        workers: Workers::Here(Box::new(worker)),
        notices,
        list: Some(TaskList { at: path, part: share.map(Share::numbers) }),
    };
    let mut driven = match drive.run(async |_| Ok(Vec::new()), &progress)? {
        Ok(driven) => driven,
        Err(ending) => return Ok(ending),
    };
    progress.finish();
    driven.refuse(tasks.refused, &progress);
    match options.output {
        ReportForm::Json => out_json(&driven.json()?)?,
        ReportForm::Human => out(&format!("{}\n{}\n", driven.report, driven.verified))?,
    }
    Ok(driven.ending())
}
