//! `init`: everything that a production needs, from the directory of a model run.

use super::usage;
use clap::Args;
use edp_coordinator::init::{CreatedProduction, GivenParameters, InitError, NewProduction};
use edp_protocol::message::chain;
use edp_protocol::text::line;
use edp_worker::console::{Ending, Unreachable, note, out};
use jiff::civil::DateTime;
use std::path::PathBuf;

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct InitOptions {
    /// Directory in which MITgcm has run: parameter files, results, grid files
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
    /// Directory of what is made, which must be new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Directory with the grid files (XC, hFacC, DRF ... or tile001.mitgrid to tile005.mitgrid) [default: RUN_DIR]
    #[arg(long, value_name = "DIR")]
    grid: Option<PathBuf>,
    /// Name of the run in the names of granules, of letters, digits and hyphens [default: that of RUN_DIR]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Date of step 0, YYYY-MM-DDThh:mm:ss [default: that of data.cal]
    #[arg(long, value_name = "DATE")]
    start: Option<DateTime>,
    /// Length of a step in seconds [default: deltaT of data]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(1..=1_000_000_000))]
    step_seconds: Option<i64>,
    /// Side of a latlon cell in degrees
    #[arg(long, value_name = "DEGREES", default_value_t = 0.5)]
    resolution: f64,
}

/// Runs the command `init`.
pub(crate) fn execute(options: &InitOptions) -> anyhow::Result<Ending> {
    let new = NewProduction {
        run: &options.run,
        directory: &options.out,
        grid: options.grid.as_deref(),
        name: options.name.as_deref(),
        given: GivenParameters { start: options.start, step_seconds: options.step_seconds },
        resolution: options.resolution,
    };
    let created = new.create().map_err(classify)?;
    let CreatedProduction { directory, datasets, variables, n, levels, start, end, guesses, uncovered } = created;
    guesses.iter().for_each(|guess| note(&format!("guess: {}", line(guess))));
    if uncovered > 0 {
        note(&format!(
            "warning: {uncovered} wet cells of the latlon grid, over all levels, have no wet source near them"
        ));
    }
    out(&format!(
        "{}: {datasets} datasets of {variables} variables, llc{n} with {levels} levels, {start} to {end}\nLook at config.yaml and metadata, then: cd {} && edp-coordinator run --dataset all --tasks-out tasks.json\n",
        line(&directory.display().to_string()),
        line(&options.out.display().to_string()),
    ))?;
    Ok(Ending::Done)
}

/// Tells what the machine refuses from what the user can correct.
fn classify(error: InitError) -> anyhow::Error {
    if error.is_of_machine() { Unreachable(chain(&error)).into() } else { usage(error) }
}
