//! The command line: its options, the commands, and their exit statuses.

mod cluster;
mod demo;
mod follow;
mod init;
mod lint;
mod plan;
mod ranges;
mod retry;
mod run;
mod status;
mod tasks;
mod verify;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use edp_program::settings::Settings;
use edp_program::telemetry::{self, Program};
use edp_s3::check_profile;
use edp_worker::console::{Ending, PagesOptions, named};
use edp_worker::service::new_name;
use std::path::PathBuf;

/// Turns MITgcm output of ECCO ocean state estimates into self-describing NetCDF granules.
#[derive(Debug, Parser)]
#[command(name = "edp-coordinator", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct CoordinatorCli {
    #[command(flatten)]
    global: GlobalOptions,
    #[command(subcommand)]
    command: CoordinatorCommand,
}

/// Options of every command.
#[derive(Debug, Args)]
struct GlobalOptions {
    /// Level of the log on standard error: error, warn, info, debug, trace (also RUST_LOG)
    #[arg(long, short = 'l', global = true, value_name = "LEVEL")]
    log: Option<String>,
    /// Form of the log: human or json
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// A settings file instead of edp.toml in the current directory
    #[arg(long, global = true, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// A profile of the AWS configuration files, for s3:// locations
    #[arg(long, alias = "profile", global = true, value_name = "NAME")]
    aws_profile: Option<String>,
}

#[derive(Debug, Subcommand)]
enum CoordinatorCommand {
    /// Demonstrates a production without any data: makes up a small grid and model output, plans, produces and verifies
    #[command(after_help = "Example: edp-coordinator demo --out demo --size 30")]
    Demo(demo::DemoOptions),
    /// Scans model results and writes the task list: one recipe for each granule
    #[command(after_help = "Example: edp-coordinator plan --jobs jobs.txt --config config.yaml --source results \\
    --destination out --grid grid --mapping-factors factors --metadata metadata --tasks-out tasks.json")]
    Plan(Box<plan::PlanOptions>),
    /// Makes all granules of a task list, or of a plan made from the same options as for `plan`
    #[command(after_help = "Example: edp-coordinator run tasks.json")]
    Run(Box<run::RunOptions>),
    /// Checks configuration, metadata and the archive's table, before anything is planned from them
    #[command(after_help = "Examples: edp-coordinator lint --config config.yaml --metadata metadata
          edp-coordinator lint --metadata metadata --against metadata-of-the-last-release --check releases
          edp-coordinator lint --show-settings\n
Exit status: 0 without errors; 2 with errors, with --strict also with warnings.")]
    Lint(lint::LintOptions),
    /// Makes everything that a production needs from the directory of an own MITgcm run
    #[command(after_help = "Example: edp-coordinator init runs/my-llc270 --out production\n
The directory gets configuration, metadata, geometry, mapping factors and settings. What is not known from the run is guessed,
which is said on standard error and in the files.")]
    Init(init::InitOptions),
    /// Computes the ranges of whole collections, without making granules: a table for `plan --valid-range`
    #[command(after_help = "Example: edp-coordinator ranges tasks.json --ranges-out ranges.json")]
    Ranges(Box<ranges::RangesOptions>),
    /// Shows the state of a production, or of one granule, also while a coordinator is running
    #[command(after_help = "Examples: edp-coordinator status --watch
          edp-coordinator status SEA_SURFACE_HEIGHT_mon_mean_1992-01_ECCO_V4r4_latlon_0p50deg.nc --output json\n
Looking succeeds whatever is seen: exit status 0. 2: there is no such ledger or granule. With --watch: 3 if the
production ended, or was given up, with granules that are not done.")]
    Status(status::StatusOptions),
    /// Sends the failed recipes of a ledger out again
    #[command(after_help = "Examples: edp-coordinator retry
          edp-coordinator retry --state conflict --dry-run\n
A coordinator that is at work on the ledger sends them at once; otherwise the next `run` does.")]
    Retry(retry::RetryOptions),
    /// Splits and subsets task lists, and writes job files from groupings
    Tasks(tasks::TasksOptions),
    /// Compares a task list with the granules at the destination
    #[command(after_help = "Example: edp-coordinator verify tasks.json --depth structure --redo again.json")]
    Verify(verify::VerifyOptions),
    /// Writes shell completions and man pages
    #[command(hide = true)]
    Pages(PagesOptions),
}

/// Makes an error one that the user can correct, unless a store does not answer.
fn usage(error: impl std::error::Error + 'static) -> anyhow::Error {
    named(&error)
}

/// Runs the command that the user has asked for.
pub(crate) fn execute(cli: CoordinatorCli) -> anyhow::Result<Ending> {
    let mut settings = Settings::load(cli.global.settings.as_deref()).map_err(usage)?;
    settings.store.s3.profile = cli.global.aws_profile.or(settings.store.s3.profile);
    settings.log = cli.global.log.or(settings.log);
    settings.log_format = cli.global.log_format.or(settings.log_format);
    let (level, format) = (settings.log.as_deref(), settings.log_format.as_deref());
    let program = Program { name: "edp-coordinator", instance: &new_name() };
    let telemetry = telemetry::start(program, level, format, settings.telemetry.traces).map_err(usage)?;
    check_profile(&settings.store.s3).map_err(usage)?;
    settings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    match cli.command {
        CoordinatorCommand::Demo(options) => demo::execute(&options, &settings),
        CoordinatorCommand::Init(options) => init::execute(&options),
        CoordinatorCommand::Lint(options) => lint::execute(&options, &settings),
        CoordinatorCommand::Plan(options) => plan::execute(&options, &settings),
        CoordinatorCommand::Ranges(options) => ranges::execute(&options, &settings),
        CoordinatorCommand::Retry(options) => retry::execute(&options),
        CoordinatorCommand::Status(options) => status::execute(&options, &settings),
        CoordinatorCommand::Run(options) => {
            settings.store.s3.allow_unconditional(options.worker.unconditional);
            run::execute(*options, &settings, &telemetry)
        }
        CoordinatorCommand::Tasks(options) => tasks::execute(&options, &settings),
        CoordinatorCommand::Verify(options) => verify::execute(&options, &settings),
        CoordinatorCommand::Pages(options) => options.execute(CoordinatorCli::command()),
    }
}
