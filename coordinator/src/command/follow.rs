//! Options of `run --follow`.

use super::plan::PlanSourceOptions;
use super::usage;
use clap::Args;
use edp_coordinator::follow::Follower;
use edp_program::settings::Settings;
use edp_store::Stores;
use edp_worker::console::{duration, note};
use std::time::Duration;

/// Options of productions that follow a model run.
#[derive(Debug, Args)]
pub(crate) struct FollowOptions {
    /// Keep looking for results while the model runs, and make what is complete; ends on SIGTERM or Ctrl-C
    #[arg(long, conflicts_with_all = ["tasks", "tasklist", "tasks_out", "dry_run", "allow_partial", "strict"])]
    follow: bool,
    /// With --follow: end when nothing new has appeared and nothing was left to make for this time: 30 (seconds), 10m,
    /// 1h
    #[arg(long, value_name = "DURATION", requires = "follow", value_parser = duration)]
    exit_when_idle: Option<Duration>,
}

impl FollowOptions {
    /// Returns the follower of the results that the options of a plan name, if a model run is to be followed.
    pub(crate) fn follower(
        &self,
        sources: &PlanSourceOptions,
        settings: &Settings,
        stores: &Stores,
    ) -> anyhow::Result<Option<Follower>> {
        if !self.follow {
            return Ok(None);
        }
        let prepared = sources.prepare(settings, stores)?;
        let interval = Duration::from_secs(settings.plan.follow_interval.max(1).into());
        Follower::new(prepared, interval, self.exit_when_idle, note).map(Some).map_err(usage)
    }
}
