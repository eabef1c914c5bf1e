//! `demo`: a whole production with made-up input.

use super::plan::{PlanSourceOptions, write_recipes};
use super::usage;
use anyhow::Context as _;
use clap::Args;
use edp_demo::{self as demo, Demo};
use edp_production::director::Budget;
use edp_production::ledger::RecipeState;
use edp_production::report::Report;
use edp_production::session;
use edp_production::verify::{Check, InspectionDepth, Verified, verify};
use edp_program::settings::Settings;
use edp_protocol::Location;
use edp_protocol::name::{GranuleName, base_name};
use edp_protocol::text::line;
use edp_worker::console::{Ending, Progress, ReportForm, Usage, WorkerOptions, note, out, out_json, table};
use edp_worker::drive::{Drive, DriveResult, TaskList, Workers};
use edp_worker::look;
use edp_worker::notice::Notices;
use edp_worker::tasks::date_text;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// Directory for everything the demo makes
    #[arg(long, value_name = "DIR", default_value = "edp-demo")]
    out: PathBuf,
    /// Cells along the side of a tile, N
    #[arg(long, value_name = "N", default_value_t = demo::DEFAULT_SIZE)]
    size: usize,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    output: ReportForm,
}

/// Runs the command `demo`: makes the files of a small model run.
pub(crate) fn execute(options: &DemoOptions, settings: &Settings) -> anyhow::Result<Ending> {
    std::fs::create_dir_all(&options.out).map_err(|e| Usage(format!("{}: {e}", options.out.display())))?;
    note(&format!("making a grid of 13 tiles of {0} x {0} cells and three months of model output", options.size));
    let made = demo::generate(&options.out, options.size).map_err(usage)?;
    let granules = options.out.join("granules");
    let sources = sources(&made, &granules);
    let stores = edp_s3::stores(&settings.store);
    let (recipes, _) = sources.plan_all(settings, &stores)?;
    let tasks = options.out.join("tasks.json");
    write_recipes(&Location::Local(tasks.clone()), &stores, |list| {
        Ok(recipes.iter().try_for_each(|recipe| list.add(recipe))?)
    })?;
    note(&format!("planned {} granules: {}", recipes.len(), tasks.display()));
    let progress = Progress::new(recipes.len());
    let drive = Drive {
        http: None,
        options: session::SessionOptions {
            stages: options.output == ReportForm::Json,
            ..session::SessionOptions::in_memory(Budget::NONE)
        },
        recipes: recipes.clone(),
        stores: stores.clone(),
        workers: Workers::Here(Box::new(WorkerOptions::default().worker(settings, &stores, []))),
        notices: Notices::new(&settings.serve, None),
        list: Some(TaskList { at: Location::Local(tasks.clone()), part: None }),
    };
    let mut driven = match drive.run(async |_| Ok(Vec::new()), &progress)? {
        Ok(driven) => driven,
        Err(ending) => return Ok(ending),
    };
    progress.finish();
    let (records, known) = Default::default();
    let check = Check { depth: InspectionDepth::Structure, records: &records, read: false, known: &known };
    driven.verified = verify(&recipes, check, &stores);
    let ending = driven.ending();
    let DriveResult { report, verified, .. } = driven;
    let pictures = if ending == Ending::Done { pictures(&report, &options.out.join("pictures"))? } else { Vec::new() };
    match options.output {
        ReportForm::Human => out(&describe(&report, &verified, &pictures, &tasks))?,
        ReportForm::Json => {
            let value = serde_json::json!({ "production": report, "verified": verified, "pictures": pictures });
            out_json(&serde_json::to_string_pretty(&value)?)?;
        }
    }
    Ok(ending)
}

fn sources(made: &Demo, granules: &Path) -> PlanSourceOptions {
    let text = |path: &Path| Some(path.display().to_string());
    PlanSourceOptions {
        jobs: text(&made.jobs),
        config: text(&made.configuration),
        source: text(&made.results),
        destination: text(granules),
        grid: text(&made.grid),
        mapping_factors: text(&made.factors),
        metadata: text(&made.metadata),
        // One date for all runs, so that repeated demos give identical bytes.
        production_date: Some(date_text(jiff::Timestamp::UNIX_EPOCH)),
        ..PlanSourceOptions::default()
    }
}

/// Draws the first variable of the first granule of each dataset and grid.
fn pictures(report: &Report, directory: &Path) -> anyhow::Result<Vec<String>> {
    std::fs::create_dir_all(directory).with_context(|| format!("{}", directory.display()))?;
    let mut firsts: BTreeMap<(String, &str), &str> = BTreeMap::new();
    let there = report.entries.iter().filter(|entry| entry.standing.state == RecipeState::Done);
    let mut paths: Vec<&str> = there.map(|entry| entry.granule.as_str()).collect();
    paths.sort_unstable();
    for path in paths {
        if let Ok(name) = GranuleName::parse(base_name(path)) {
            firsts.entry((name.dataset, name.grid.as_str())).or_insert(path);
        }
    }
    let mut pictures = Vec::new();
    for ((dataset, grid), granule) in firsts {
        let picture = directory.join(format!("{dataset}_{grid}.png"));
        look::render(Path::new(granule), None, 0, &picture)?;
        pictures.push(picture.display().to_string());
    }
    Ok(pictures)
}

fn describe(report: &Report, verified: &Verified, pictures: &[String], tasks: &Path) -> String {
    let mut lines = vec![table(report) + &report.to_string(), verified.to_string()];
    lines.extend(pictures.iter().map(|picture| format!("picture: {}", line(picture))));
    lines.push(format!("again: {} run {}", own_name(), line(&tasks.display().to_string())));
    lines.join("\n") + "\n"
}

/// Returns the command by which this program can be called again: its name if that is found in PATH, else its path.
fn own_name() -> String {
    let name = "edp-coordinator";
    let own = std::env::current_exe().ok();
    let found = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|directory| directory.join(name)).find(|candidate| candidate.is_file())
    });
    let same = |one: &Path, other: &Path| one.canonicalize().ok() == other.canonicalize().ok();
    match own {
        Some(own) if !found.as_deref().is_some_and(|found| same(found, &own)) => {
            let here = std::env::current_dir().ok();
            let short = here.and_then(|here| own.strip_prefix(here).ok().map(Path::to_owned));
            short.unwrap_or(own).display().to_string()
        }
        _ => name.to_owned(),
    }
}
