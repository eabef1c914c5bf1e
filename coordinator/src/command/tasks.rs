//! `tasks`: EDP's utilities on task lists and groupings.

use super::usage;
use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use edp_coordinator::tasks::jobs::{grid_of, job_files};
use edp_coordinator::tasks::subset::Subset;
use edp_coordinator::tasks::{TaskEntries, format, parse, part_name, split};
use edp_engine::metadata::{MAX_FILE_BYTES, groupings};
use edp_program::settings::Settings;
use edp_protocol::Location;
use edp_store::Stores;
use edp_worker::console::{Ending, Usage, note};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(crate) struct TasksOptions {
    #[command(subcommand)]
    command: TasksCommand,
}

#[derive(Debug, Subcommand)]
enum TasksCommand {
    /// Splits a task list into parts of the same size: LIST_001.json, LIST_002.json ...
    #[command(after_help = "Example: edp-coordinator tasks split tasks.json --parts 8 --output-dir parts")]
    Split(SplitOptions),
    /// Writes a subset of a task list, or of each list in a directory, under the same name
    #[command(
        after_help = "Example: edp-coordinator tasks subset tasks.json --mode spread --count 12 --output-dir some"
    )]
    Subset(SubsetOptions),
    /// Writes a job file for each dataset and frequency of a groupings file
    #[command(
        after_help = "Example: edp-coordinator tasks jobs metadata/groupings_for_native_datasets.json --output-dir jobs"
    )]
    Jobs(JobsOptions),
}

#[derive(Debug, Args)]
struct SplitOptions {
    /// Task list
    #[arg(value_name = "TASKS.json")]
    list: PathBuf,
    /// Number of parts
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    parts: u16,
    /// Directory of the parts, which is made where there is none
    #[arg(long, alias = "output_dir", value_name = "DIR", default_value = ".")]
    output_dir: PathBuf,
}

#[derive(Debug, Args)]
struct SubsetOptions {
    /// Task list, or a directory of them
    #[arg(value_name = "INPUT")]
    input: PathBuf,
    /// Directory of the subsets, which is made where there is none
    #[arg(long, alias = "output_dir", value_name = "DIR")]
    output_dir: PathBuf,
    /// Rule by which entries are chosen
    #[arg(long, value_enum)]
    mode: SubsetMode,
    /// Number of entries of first, last, random, spread, and of each end of bookends
    #[arg(long, short = 'n', value_name = "N", default_value_t = 12)]
    count: usize,
    /// Step of every-nth
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    step: u32,
    /// Entries of indices, counted from 0
    #[arg(long, value_name = "N", value_delimiter = ',', num_args = 1..)]
    indices: Vec<usize>,
    /// Share of percentage, from 0 to 100
    #[arg(long, value_name = "P", value_parser = percent)]
    percent: Option<f64>,
    /// Names of the lists in a directory: a text with at most one *
    #[arg(long, value_name = "PATTERN", default_value = "*.json")]
    pattern: String,
    /// Seed of random, by which the same entries are chosen again
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SubsetMode {
    First,
    Last,
    FirstMiddleLast,
    Random,
    EveryNth,
    Spread,
    Bookends,
    Indices,
    Percentage,
    Alternating,
}

#[derive(Debug, Args)]
struct JobsOptions {
    /// Groupings file, whose name says the grid: native, latlon or 1d
    #[arg(value_name = "GROUPINGS.json", required_unless_present = "groupings_file")]
    groupings: Option<PathBuf>,
    /// The same, as EDP spells it
    #[arg(long = "groupings-file", alias = "groupings_file", value_name = "FILE", hide = true)]
    groupings_file: Option<PathBuf>,
    /// Directory of the job files, which is made where there is none
    #[arg(long, alias = "output_dir", value_name = "DIR", default_value = ".")]
    output_dir: PathBuf,
}

fn percent(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    if (0.0..=100.0).contains(&share) { Ok(share) } else { Err("it is not between 0 and 100".into()) }
}

/// Runs the command `tasks`.
pub(crate) fn execute(options: &TasksOptions, settings: &Settings) -> anyhow::Result<Ending> {
    let stores = edp_s3::stores(&settings.store);
    let limit = u64::from(settings.run.list_size) << 20;
    match &options.command {
        TasksCommand::Split(options) => split_list(options, &stores, limit),
        TasksCommand::Subset(options) => subsets(options, &stores, limit),
        TasksCommand::Jobs(options) => jobs(options, &stores),
    }
}

fn read(path: &Path, stores: &Stores, limit: u64) -> anyhow::Result<Vec<u8>> {
    stores.read(&Location::Local(path.to_owned()), limit).map_err(usage)
}

/// Writes a file of a directory, which is made where there is none.
fn write(directory: &Path, name: &str, text: &str, stores: &Stores) -> anyhow::Result<()> {
    let path = directory.join(name);
    let unwritten = || format!("{}: cannot be written", path.display());
    std::fs::create_dir_all(directory).with_context(unwritten)?;
    stores.write(&Location::Local(path.clone()), text.as_bytes()).with_context(unwritten)
}

fn name_of(path: &Path) -> anyhow::Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str());
    Ok(name.ok_or_else(|| Usage(format!("{}: it has no file name of characters", path.display())))?)
}

fn split_list(options: &SplitOptions, stores: &Stores, limit: u64) -> anyhow::Result<Ending> {
    let list = &options.list;
    let entries = parse(&list.display().to_string(), &read(list, stores, limit)?).map_err(usage)?;
    for (index, part) in split(&entries, options.parts.into()).into_iter().enumerate() {
        write(&options.output_dir, &part_name(name_of(list)?, index + 1), &format(part)?, stores)?;
    }
    note(&format!("{} recipes in {} parts in {}", entries.len(), options.parts, options.output_dir.display()));
    Ok(Ending::Done)
}

fn subsets(options: &SubsetOptions, stores: &Stores, limit: u64) -> anyhow::Result<Ending> {
    let subset = rule(options)?;
    let lists = lists(options)?;
    let same = std::fs::canonicalize(&options.output_dir).ok();
    let mut skipped = 0;
    for list in &lists {
        let text = read(list, stores, limit)?;
        let entries: TaskEntries = match parse(&list.display().to_string(), &text) {
            Ok(entries) => entries,
            Err(error) => {
                note(&format!("skipped: {error}"));
                skipped += 1;
                continue;
            }
        };
        if let Subset::Indices(indices) = &subset {
            for index in indices.iter().filter(|index| **index >= entries.len()) {
                note(&format!("warning: {}: it has no entry {index}, but {}", list.display(), entries.len()));
            }
        }
        let chosen: TaskEntries = subset.of(entries.len()).into_iter().map(|index| entries[index].clone()).collect();
        if same.is_some() && list.parent().and_then(|parent| std::fs::canonicalize(parent).ok()) == same {
            return Err(Usage(format!(
                "{}: the subset would replace its list: give another --output-dir",
                list.display()
            ))
            .into());
        }
        write(&options.output_dir, name_of(list)?, &format(&chosen)?, stores)?;
        note(&format!("{}: {} of {} recipes", list.display(), chosen.len(), entries.len()));
    }
    Ok(if skipped == 0 { Ending::Done } else { Ending::Incomplete })
}

/// Returns the list that is named, or those of the directory.
fn lists(options: &SubsetOptions) -> anyhow::Result<Vec<PathBuf>> {
    let input = &options.input;
    if !input.is_dir() {
        return Ok(vec![input.clone()]);
    }
    let (start, end) = options.pattern.split_once('*').unwrap_or((&options.pattern, ""));
    let fits = |name: &str| match options.pattern.contains('*') {
        true => name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end),
        false => name == start,
    };
    let unread = || format!("{}: cannot be read", input.display());
    let mut lists = Vec::new();
    for entry in std::fs::read_dir(input).with_context(unread)? {
        let path = entry.with_context(unread)?.path();
        if path.is_file() && name_of(&path).is_ok_and(fits) {
            lists.push(path);
        }
    }
    lists.sort();
    match lists.is_empty() {
        true => Err(Usage(format!("{}: it has no files {}", input.display(), options.pattern)).into()),
        false => Ok(lists),
    }
}

fn rule(options: &SubsetOptions) -> anyhow::Result<Subset> {
    let count = options.count;
    Ok(match options.mode {
        SubsetMode::First => Subset::First(count),
        SubsetMode::Last => Subset::Last(count),
        SubsetMode::FirstMiddleLast => Subset::FirstMiddleLast,
        SubsetMode::EveryNth => Subset::EveryNth(options.step as usize),
        SubsetMode::Spread => Subset::Spread(count),
        SubsetMode::Bookends => Subset::Bookends(count),
        SubsetMode::Alternating => Subset::Alternating,
        SubsetMode::Random => {
            let seed = options.seed.unwrap_or_else(|| u64::from(std::process::id()));
            note(&format!("--seed {seed} chooses the same entries again"));
            Subset::Random { count, seed }
        }
        SubsetMode::Indices if options.indices.is_empty() => return Err(Usage("--indices is needed".into()).into()),
        SubsetMode::Indices => Subset::Indices(options.indices.clone()),
        SubsetMode::Percentage => {
            Subset::Percentage(options.percent.ok_or_else(|| Usage("--percent is needed".into()))?)
        }
    })
}

fn jobs(options: &JobsOptions, stores: &Stores) -> anyhow::Result<Ending> {
    let given = options.groupings.as_ref().or(options.groupings_file.as_ref());
    let path = given.ok_or_else(|| Usage("a groupings file is needed".into()))?;
    let grid = grid_of(name_of(path)?).ok_or_else(|| {
        Usage(format!("{}: its name says no grid: it must contain native, latlon or 1d", path.display()))
    })?;
    let text = read(path, stores, MAX_FILE_BYTES as u64)?;
    let (groupings, warnings) = groupings::parse(&path.display().to_string(), &text).map_err(usage)?;
    warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    let (files, without) = job_files(grid, &groupings);
    for name in without {
        note(&format!("warning: {}: '{name}' offers no frequency: no job file", path.display()));
    }
    for file in &files {
        write(&options.output_dir, &file.name, &file.text, stores)?;
    }
    note(&format!("{} job files in {}", files.len(), options.output_dir.display()));
    Ok(Ending::Done)
}
