//! `look`: a quick-look picture.

use clap::Args;
use edp_protocol::text::line;
use edp_worker::console::{Ending, out};
use edp_worker::look;
use std::path::PathBuf;

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct LookOptions {
    /// The granule to be drawn
    #[arg(value_name = "GRANULE.nc")]
    granule: PathBuf,
    /// The variable to be drawn [default: the first data variable]
    #[arg(long, value_name = "NAME")]
    variable: Option<String>,
    /// The level of a 3-D variable, counted from 0 at the surface
    #[arg(long, value_name = "K", default_value_t = 0)]
    level: usize,
    /// File for the picture [default: the granule's name with .png]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command `look`: draws a field of a granule.
pub(crate) fn execute(options: &LookOptions) -> anyhow::Result<Ending> {
    let picture = options.out.clone().unwrap_or_else(|| options.granule.with_extension("png"));
    look::render(&options.granule, options.variable.as_deref(), options.level, &picture)?;
    out(&format!("{}\n", line(&picture.display().to_string())))?;
    Ok(Ending::Done)
}
