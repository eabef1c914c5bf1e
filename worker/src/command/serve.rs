//! `serve`: a long-lived worker.

use anyhow::Context as _;
use clap::Args;
use edp_protocol::message::chain;
use edp_protocol::queue::topology::Production;
use edp_protocol::queue::{Address, Link, Options as QueueOptions, QueueError};
use edp_protocol::settings::Settings;
use edp_protocol::store::Stores;
use edp_worker::console::{self, Ending, Stop, Usage, note};
use edp_worker::service::reach::Reach;
use edp_worker::service::serve::{Ended, Service, serve};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The broker: amqp://user@host/vhost or amqps://... (give passwords by EDP_QUEUE__URL, not here)
    #[arg(long, value_name = "URL")]
    queue: Option<Address>,
    /// Name of the production
    #[arg(long, value_name = "NAME", default_value = "default")]
    production: Production,
    /// Directory, or s3://bucket/prefix, beneath which recipes may read and write (repeatable)
    #[arg(long, value_name = "LOCATION")]
    root: Vec<PathBuf>,
    /// Granules made at once [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
    /// Overwrite granules of other recipes, and damaged ones
    #[arg(long)]
    replace: bool,
    /// Write to a store that ignores conditions; two workers may then write the same granule
    #[arg(long)]
    pub(crate) unconditional: bool,
    /// End when there was nothing to do for so many seconds
    #[arg(long, value_name = "SECONDS")]
    exit_when_idle: Option<f64>,
}

/// Time that a granule may take, and that granules have to end when the worker is told to stop, unless set.
const DEADLINE: u32 = 900;
const GRACE: u32 = 60;

/// Takes a list in the form of PATH apart, in which the colon of `s3://` is none between two roots.
fn split_roots(text: &str) -> Vec<PathBuf> {
    let mut roots: Vec<String> = Vec::new();
    for part in text.split(':').filter(|part| !part.is_empty()) {
        match roots.last_mut() {
            Some(last) if last == "s3" && part.starts_with("//") => *last = format!("s3:{part}"),
            _ => roots.push(part.to_owned()),
        }
    }
    roots.into_iter().map(PathBuf::from).collect()
}

/// Runs the command.
pub(crate) fn execute(options: &Options, settings: &Settings) -> anyhow::Result<Ending> {
    let usage = |error: &dyn std::error::Error| Usage(chain(error));
    let mut at = settings.queue.clone();
    at.url = options.queue.clone().or(at.url);
    let queue = QueueOptions::from_settings(&at, options.production.clone()).map_err(|e| usage(&e))?;
    let set = settings.serve.roots.iter().flat_map(|roots| split_roots(roots));
    let roots: Vec<PathBuf> = options.root.iter().cloned().chain(set).collect();
    let reach = Reach::beneath(roots.iter().map(PathBuf::as_path)).map_err(|e| usage(&e))?;
    let idle = match options.exit_when_idle.map(Duration::try_from_secs_f64) {
        None => None,
        Some(idle) => Some(idle.map_err(|e| Usage(format!("--exit-when-idle: {e}")))?),
    };
    let seconds = |setting: Option<u32>, default: u32| Duration::from_secs(setting.unwrap_or(default).into());
    let service = Service {
        worker: Arc::new(console::worker(options.slots, options.replace, settings, &Stores::new(&settings.store))),
        reach,
        deadline: seconds(settings.serve.deadline, DEADLINE),
        grace: seconds(settings.serve.grace, GRACE),
        idle,
        patience: queue.patience,
    };
    note(&format!(
        "worker {}: {} slots, {}, production {}",
        service.worker.id, service.worker.slots, queue.address, options.production
    ));
    let runtime = console::runtime().context("starting the runtime")?;
    let stop = Stop::default();
    let asked = stop.asked("finishing what is under way");
    let ended = runtime.block_on(async {
        let link = Link::amqp(queue).context("starting the link to the queue")?;
        let ended = serve(service, &link, asked).await;
        link.close().await;
        anyhow::Ok(ended)
    })?;
    // A computation that does not end would keep us waiting.
    runtime.shutdown_background();
    Ok(match ended {
        Ok(Ended::Idle) => Ending::Done,
        Ok(Ended::Stopped) => stop.signal().map_or(Ending::Done, Ending::Stopped),
        Ok(Ended::Unfit(reason)) => {
            note(&format!("stopped, since nothing can be made here: {reason}"));
            Ending::ProgramFailed
        }
        Err(error @ QueueError::Unreachable { .. }) => {
            note(&format!("error: {}", chain(&error)));
            Ending::Unreachable
        }
        Err(error) => return Err(anyhow::Error::new(error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_separated_by_colons_but_for_those_of_s3() {
        let split = |text| split_roots(text).iter().map(|root| root.display().to_string()).collect::<Vec<_>>();
        assert_eq!(split("/a:s3://b/c:/d"), ["/a", "s3://b/c", "/d"]);
        assert_eq!(split("s3://b:s3://c/d:s3"), ["s3://b", "s3://c/d", "s3"]);
        assert_eq!(split("/a"), ["/a"]);
        assert!(split("").is_empty());
    }
}
