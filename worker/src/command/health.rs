//! `health`: asks the worker of this machine for its status.

use clap::Args;
use edp_program::settings::Settings;
use edp_worker::console::{self, Ending, ReportForm, Unreachable, Usage};
use edp_worker::service::status;
use std::path::PathBuf;
use std::time::Duration;

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct HealthOptions {
    /// Socket at which the worker tells its status: that of its `serve --status` [default: serve.status]
    #[arg(long, value_name = "SOCKET")]
    status: Option<PathBuf>,
    /// Seconds in which the worker must answer
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=600))]
    deadline: u16,
    /// Form of the answer
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    output: ReportForm,
}

/// Runs the command.
pub(crate) fn execute(options: &HealthOptions, settings: &Settings) -> anyhow::Result<Ending> {
    let path = options.status.as_deref().or(settings.serve.status.as_deref()).ok_or_else(|| {
        Usage("no status socket: give the path that the worker has, by --status or serve.status in the settings".into())
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(status::ask(path, Duration::from_secs(options.deadline.into())));
    let status = asked.map_err(|error| Unreachable(error.to_string()))?;
    match options.output {
        ReportForm::Human => console::out(&status.to_string())?,
        ReportForm::Json => console::out_json(&serde_json::to_string_pretty(&status)?)?,
    }
    match status.is_healthy() {
        true => Ok(Ending::Done),
        false => Err(Unreachable(format!("worker {}: {}", status.worker, status.problems.join("; "))).into()),
    }
}
