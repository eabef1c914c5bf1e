//! `edp-worker`: makes granules and looks at them.

use clap::{Parser, Subcommand};
use edp_protocol::message::chain;
use edp_protocol::settings::Settings;
use std::path::PathBuf;
use std::process::ExitCode;

/// Makes granules of ECCO ocean state estimates and looks at them.
#[derive(Debug, Parser)]
#[command(name = "edp-worker", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    /// What is logged to standard error: error, warn, info, debug, trace (also RUST_LOG)
    #[arg(long, short = 'l', global = true, value_name = "LEVEL")]
    log: Option<String>,
    /// A settings file instead of edp.toml in the current directory
    #[arg(long, global = true, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Draws a quick-look picture (PNG) of one variable of a granule
    #[command(after_help = "Example: edp-worker look granule.nc --variable THETA --level 10 --out theta.png")]
    Look {
        /// The granule
        #[arg(value_name = "GRANULE.nc")]
        granule: PathBuf,
        /// The variable [default: the first data variable]
        #[arg(long, value_name = "NAME")]
        variable: Option<String>,
        /// The level of a 3-D variable, counted from 0 at the surface
        #[arg(long, value_name = "K", default_value_t = 0)]
        level: usize,
        /// Where the picture goes [default: the granule's name with .png]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    edp_worker::granule::chunks::silence_hdf5();
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err((error, code)) => {
            eprintln!("error: {}", chain(&*error));
            ExitCode::from(code)
        }
    }
}

/// Exit status of a program that failed, and of one that was used wrongly.
const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn execute(cli: Cli) -> Result<(), (anyhow::Error, u8)> {
    let settings = Settings::load(cli.settings.as_deref()).map_err(|e| (e.into(), USAGE))?;
    edp_protocol::telemetry::start(cli.log.as_deref().or(settings.log.as_deref())).map_err(|e| (e.into(), USAGE))?;
    match cli.command {
        Command::Look { granule, variable, level, out } => {
            let out = out.unwrap_or_else(|| granule.with_extension("png"));
            let picture = edp_worker::look::render(&granule, variable.as_deref(), level, &out);
            picture.map_err(|e| (e.into(), FAILED))?;
            println!("{}", out.display());
            Ok(())
        }
    }
}
