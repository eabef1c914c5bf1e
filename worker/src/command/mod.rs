//! The command line: its options, the commands, and their exit statuses.

mod annotate;
mod factors;
mod geometry;
mod health;
mod look;
mod make;
mod serve;

use clap::{CommandFactory as _, Parser, Subcommand};
use edp_program::settings::Settings;
use edp_program::telemetry::{self, Program};
use edp_protocol::Location;
use edp_s3::check_profile;
use edp_store::Stores;
use edp_worker::console::{self, Ending, Usage};
use edp_worker::service::new_name;
use std::path::PathBuf;

/// Makes granules of ECCO ocean state estimates and draws them.
#[derive(Debug, Parser)]
#[command(name = "edp-worker", version, propagate_version = true, max_term_width = 110)]
pub(crate) struct WorkerCli {
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
    #[command(subcommand)]
    command: WorkerCommand,
}

#[derive(Debug, Subcommand)]
enum WorkerCommand {
    /// Makes the granules of a task list, or one share of them, without a queue: for single machines and array jobs
    #[command(after_help = "Examples: edp-worker make tasks.json
          edp-worker make tasks.json --part 2/8
          sbatch --array=1-8 --wrap 'edp-worker make tasks.json'
          qsub -J 1-8 -- edp-worker make tasks.json --parts 8 --time-limit 11h")]
    Make(make::MakeOptions),
    /// Makes granules of recipes from a queue until told to stop
    #[command(after_help = "Example: EDP_QUEUE__URL=amqp://user:password@broker/edp edp-worker serve --root /data")]
    Serve(serve::ServeOptions),
    /// Tells whether the worker of this machine is alive and can make granules: status 0 if so, 4 if not
    #[command(after_help = "Example: edp-worker health --status /run/edp/worker.sock")]
    Health(health::HealthOptions),
    /// Makes mapping factors from a native grid onto a regular grid of latitudes and longitudes
    #[command(after_help = "Examples: edp-worker factors --grid grid --config config.yaml --out factors
          edp-worker factors --grid grid --out factors --resolution 0.25 --extent=-80,0,-10,65 --format nc")]
    Factors(factors::FactorsOptions),
    /// Makes the geometry files of the native and the latlon grid from the grid files of a model run
    #[command(after_help = "Example: edp-worker geometry --grid run --mapping-factors factors --out grid")]
    Geometry(geometry::GeometryOptions),
    /// Writes the metadata of a release onto a NetCDF file that exists
    #[command(
        after_help = "Example: edp-worker annotate -i mine.nc -o GRID_GEOMETRY_ECCO_V4r6_native_llc0090.nc -m metadata -c config.yaml"
    )]
    Annotate(annotate::AnnotateOptions),
    /// Draws a quick-look picture (PNG) of one variable of a granule
    #[command(after_help = "Example: edp-worker look granule.nc --variable THETA --level 10 --out theta.png")]
    Look(look::LookOptions),
    /// Writes shell completions and man pages
    #[command(hide = true)]
    Pages(console::PagesOptions),
}

/// Returns a local directory with what a location holds.
fn fetched(location: &str, stores: &Stores) -> anyhow::Result<PathBuf> {
    let at: Location = location.parse().map_err(|e| console::named(&e))?;
    stores.mirror(&at).map_err(|e| console::named(&e))
}

/// Runs the command that the user has asked for.
pub(crate) fn execute(cli: WorkerCli) -> anyhow::Result<Ending> {
    let mut settings = Settings::load(cli.settings.as_deref()).map_err(|e| Usage::from_error(&e))?;
    settings.store.s3.profile = cli.aws_profile.or(settings.store.s3.profile);
    settings.log = cli.log.or(settings.log);
    settings.log_format = cli.log_format.or(settings.log_format);
    let (level, format) = (settings.log.as_deref(), settings.log_format.as_deref());
    let name = new_name();
    let program = Program { name: "edp-worker", instance: &name };
    let telemetry =
        telemetry::start(program, level, format, settings.telemetry.traces).map_err(|e| Usage::from_error(&e))?;
    check_profile(&settings.store.s3).map_err(|e| Usage::from_error(&e))?;
    settings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    match cli.command {
        WorkerCommand::Make(options) => {
            settings.store.s3.allow_unconditional(options.worker.unconditional);
            make::execute(&options, &settings)
        }
        WorkerCommand::Serve(options) => {
            settings.store.s3.allow_unconditional(options.worker.unconditional);
            serve::execute(&options, &settings, &name, &telemetry)
        }
        WorkerCommand::Health(options) => health::execute(&options, &settings),
        WorkerCommand::Annotate(options) => annotate::execute(&options, &settings),
        WorkerCommand::Factors(options) => factors::execute(&options, &settings),
        WorkerCommand::Geometry(options) => geometry::execute(&options, &settings),
        WorkerCommand::Look(options) => look::execute(&options),
        WorkerCommand::Pages(options) => options.execute(WorkerCli::command()),
    }
}
