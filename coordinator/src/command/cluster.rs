//! Options of productions that use a queue or a ledger file.

use anyhow::Context as _;
use clap::Args;
use edp_production::director::{self, Budget};
use edp_production::ledger::retries::Policy;
use edp_production::monitor::ProductionMonitor;
use edp_production::session::{self, LedgerPlace};
use edp_production::verify::InspectionDepth;
use edp_program::settings::{RunSettings, Settings, TaskGrouping};
use edp_protocol::message::chain;
use edp_queue::topology::ProductionName;
use edp_queue::{Address, AddressError, QueueOptions};
use edp_worker::console::{Usage, note};
use edp_worker::drive::Workers;
use edp_worker::service::Worker;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Options of productions with a ledger.
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    /// The broker: amqp://user@host/vhost or amqps://... (give passwords by EDP_QUEUE__URL); workers make the granules
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    pub(crate) queue: Option<String>,
    /// Name of the production: its queues and its ledger
    #[arg(long, value_name = "NAME", default_value = "default")]
    production: ProductionName,
    /// The ledger of the production [default: ./NAME.ledger with --queue, otherwise none]
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Let workers of different builds take part
    #[arg(long)]
    mixed_builds: bool,
    /// Send recipes that read the same inputs to one worker together: if the model output is on S3, always, or never
    /// [default: s3]
    #[arg(long, value_name = "WHICH")]
    group: Option<TaskGrouping>,
    /// End the production early when more recipes than this have failed
    #[arg(long, value_name = "N")]
    max_failures: Option<u64>,
    /// End it early when more than this percentage of the settled recipes have failed [default: 50]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    max_failure_share: Option<u8>,
    /// Number of recipes that must be settled before that percentage counts [default: 100]
    #[arg(long, value_name = "N")]
    failure_sample: Option<u64>,
}

impl Cluster {
    /// Returns the options of the session, and what makes its granules: this process, unless there is a queue.
    pub(crate) fn session(
        &self,
        settings: &Settings,
        worker: Worker,
        destination: Option<String>,
    ) -> anyhow::Result<(session::SessionOptions, Workers)> {
        let queue = self.broker(settings)?;
        let budget = self.budget(settings);
        if queue.is_none() && self.ledger.is_none() {
            let mut options = session::SessionOptions { destination, ..session::SessionOptions::in_memory(budget) };
            options.plan.group = self.group.unwrap_or(settings.run.group);
            return Ok((options, Workers::Here(Box::new(worker))));
        }
        let deadline = if queue.is_some() { settings.serve.deadline() } else { settings.serve.own_deadline() };
        let options = session::SessionOptions {
            plan: director::DriveOptions {
                production: self.production.to_string(),
                window: settings.queue.window.max(1) as usize,
                deadline,
                mixed_builds: self.mixed_builds,
                group: self.group.unwrap_or(settings.run.group),
                local: queue.is_none(),
                budget,
                content: true,
                look: queue.is_some(),
                monitor: ProductionMonitor::default(),
            },
            policy: Policy::with_deadline(deadline),
            ledger: LedgerPlace::File(ledger_path(self.ledger.as_deref(), &self.production)),
            destination,
            snapshot: Duration::from_secs(settings.run.snapshot.into()),
            base: Some(std::env::current_dir().context("finding the current directory")?),
            replace: worker.replace,
            verify: InspectionDepth::Content,
            records: Arc::default(),
            stages: false,
        };
        Ok((options, queue.map_or_else(|| Workers::Here(Box::new(worker)), |queue| Workers::Queue(Box::new(queue)))))
    }

    /// Returns the limits on failures: those of the options, else those of the settings.
    fn budget(&self, settings: &Settings) -> Budget {
        let run = &settings.run;
        Budget::from(&RunSettings {
            max_failures: self.max_failures.or(run.max_failures),
            max_failure_share: self.max_failure_share.unwrap_or(run.max_failure_share),
            failure_sample: self.failure_sample.unwrap_or(run.failure_sample),
            ..run.clone()
        })
    }

    /// Returns the options of the broker, if one is used.
    fn broker(&self, settings: &Settings) -> anyhow::Result<Option<QueueOptions>> {
        broker(self.queue.as_deref(), &self.production, settings)
    }
}

/// Returns the options of the broker that an option names; if it is empty, of the one in the settings.
pub(crate) fn broker(
    queue: Option<&str>,
    production: &ProductionName,
    settings: &Settings,
) -> anyhow::Result<Option<QueueOptions>> {
    let Some(url) = queue else { return Ok(None) };
    let usage = |error: &dyn std::error::Error| Usage(chain(error));
    let mut at = settings.queue.clone();
    if !url.is_empty() {
        let url: Address = url.parse().map_err(|e: AddressError| usage(&e))?;
        if url.has_password() {
            note("warning: everybody on this machine sees the password in --queue: give it by EDP_QUEUE__URL");
        }
        at.name(Some(url));
    }
    Ok(Some(QueueOptions::from_settings(&at, production.clone()).map_err(|e| usage(&e))?))
}

/// Returns the path of a production's ledger, which has a default.
pub(crate) fn ledger_path(named: Option<&Path>, production: &ProductionName) -> PathBuf {
    named.map_or_else(|| format!("{production}.ledger").into(), Path::to_owned)
}
