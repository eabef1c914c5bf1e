//! `serve`: a long-lived worker.

use anyhow::Context as _;
use clap::Args;
use edp_program::settings::Settings;
use edp_protocol::Location;
use edp_protocol::message::chain;
use edp_queue::topology::ProductionName;
use edp_queue::{Address, AddressError, Link, QueueOptions};
use edp_worker::console::{self, Ending, Shutdown, Unreachable, Usage, note};
use edp_worker::notice;
use edp_worker::service::Worker;
use edp_worker::service::allowed_roots::{AllowedRoots, AllowedRootsError};
use edp_worker::service::serve::{Service, WorkerEnd, serve};
use std::sync::Arc;
use std::time::Duration;

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// The broker: amqp://user@host/vhost or amqps://... (give passwords by EDP_QUEUE__URL, not here)
    #[arg(long, value_name = "URL")]
    queue: Option<String>,
    /// Name of the production
    #[arg(long, value_name = "NAME", default_value = "default")]
    production: ProductionName,
    /// Directory or s3://bucket/prefix below which recipes may read and write (repeatable)
    #[arg(long, value_name = "LOCATION")]
    root: Vec<Location>,
    /// Number of granules that are made at the same time [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
    /// Overwrite granules of other recipes, and damaged ones
    #[arg(long)]
    replace: bool,
    /// Make granules again that an earlier output version made
    #[arg(long)]
    replace_older: bool,
    /// Write to a store that ignores conditions; two workers may then write the same granule
    #[arg(long)]
    pub(crate) unconditional: bool,
    /// End after this time without anything to do: 30 (seconds), 30s, 10m, 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    exit_when_idle: Option<Duration>,
}

/// Parses a duration as people write it. A bare number is in seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds =
        text.parse::<f64>().ok().map(|seconds| Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string()));
    seconds.unwrap_or_else(|| {
        let duration = text.parse::<jiff::SignedDuration>().map_err(|e| format!("{e}; write 30, 30s, 10m or 1h"))?;
        Duration::try_from(duration).map_err(|_| "a time before now: write 30, 30s, 10m or 1h".into())
    })
}

/// Runs the command, as the worker of this name.
pub(crate) fn execute(options: &ServeOptions, settings: &Settings, name: &str) -> anyhow::Result<Ending> {
    let usage = |error: &dyn std::error::Error| Usage(chain(error));
    let mut at = settings.queue.clone();
    // It is parsed here, since the parser of the command line would repeat a refused value with the password in it.
    let queue: Option<Address> =
        options.queue.as_deref().map(str::parse).transpose().map_err(|e: AddressError| usage(&e))?;
    if queue.as_ref().is_some_and(Address::has_password) {
        note(
            "warning: everybody on this machine sees the password in --queue: give it by EDP_QUEUE__URL or the settings",
        );
    }
    at.name(queue);
    let queue = QueueOptions::from_settings(&at, options.production.clone()).map_err(|e| usage(&e))?;
    let set = AllowedRoots::split(settings.serve.roots.as_deref().unwrap_or_default());
    let set = set.map_err(|e| Usage(format!("serve.roots: {}", chain(&e))))?;
    let roots = AllowedRoots::open(options.root.iter().chain(&set)).map_err(|error| match error {
        // Another node may have it.
        AllowedRootsError::Root(_) => anyhow::Error::new(Unreachable(chain(&error))),
        AllowedRootsError::None | AllowedRootsError::Location(_) => usage(&error).into(),
    })?;
    let stores = edp_s3::stores(&settings.store).confined(roots.files());
    let service = Service {
        worker: Arc::new(Worker {
            id: name.to_owned(),
            replace_older: options.replace_older,
            ..console::worker(options.slots, options.replace, settings, &stores)
        }),
        roots: Some(roots),
        deadline: Duration::from_secs(settings.serve.deadline().into()),
        grace: Duration::from_secs(settings.serve.grace.into()),
        idle: options.exit_when_idle,
        patience: queue.patience,
    };
    let runtime = console::runtime().context("starting the runtime")?;
    let stop = Shutdown::default();
    let notice = notice::first(&settings.serve, service.grace);
    let asked = {
        let _within = runtime.enter();
        stop.asked_or("finishing what is under way", notice)
    };
    // From now on, signals end the worker in order.
    note(&format!(
        "worker {}: {} slots, {}, production {}",
        service.worker.id, service.worker.slots, queue.address, options.production
    ));
    let ended = runtime.block_on(async {
        let link = Link::amqp(queue).context("starting the link to the queue")?;
        let ended = serve(service, &link, async { asked.await.and_then(|notice| notice.end) }).await;
        link.close().await;
        anyhow::Ok(ended)
    })?;
    console::shut_down(runtime);
    Ok(match ended {
        Ok(WorkerEnd::Idle) => Ending::Done,
        Ok(WorkerEnd::Stopped) => stop.signal().map_or(Ending::Done, Ending::Stopped),
        Ok(WorkerEnd::Unfit(reason)) => {
            note(&format!("stopped, since nothing can be made here: {reason}"));
            Ending::Unreachable
        }
        Err(error) => return Err(console::of_queue(&error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        for (text, seconds) in
            [("30", 30.0), ("0.5", 0.5), ("30s", 30.0), ("10m", 600.0), ("1h", 3600.0), ("1h 30m", 5400.0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "soon", "-1", "-10m", "nan", "inf", "1e300", "1y", "10 parsecs"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
