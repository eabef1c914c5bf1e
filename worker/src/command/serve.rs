//! `serve`: a long-lived worker.

use anyhow::Context as _;
use clap::Args;
use edp_program::http_service::Health;
use edp_program::settings::Settings;
use edp_program::telemetry::Telemetry;
use edp_program::telemetry::metrics::metrics;
use edp_protocol::Location;
use edp_protocol::message::chain;
use edp_queue::topology::ProductionName;
use edp_queue::{Address, AddressError, Link, QueueOptions};
use edp_worker::console::{self, Ending, Shutdown, Unreachable, Usage, WorkerOptions, duration, listen, note};
use edp_worker::service::Worker;
use edp_worker::service::allowed_roots::{AllowedRoots, AllowedRootsError};
use edp_worker::service::serve::{Service, WorkerEnd, serve};
use edp_worker::service::status::{SlotMonitor, StatusSocket, StatusSource};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

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
    #[command(flatten)]
    pub(crate) worker: WorkerOptions,
    /// End after this time without anything to do: 30 (seconds), 30s, 10m, 1h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    exit_when_idle: Option<Duration>,
    /// Socket at which this worker tells its status to `edp-worker health` [default: serve.status, or none]
    #[arg(long, value_name = "SOCKET")]
    status: Option<PathBuf>,
    /// Address at which this worker answers /healthz and /metrics over HTTP, to everybody who reaches it
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
}

/// Runs the command, as the worker of this name.
pub(crate) fn execute(
    options: &ServeOptions,
    settings: &Settings,
    name: &str,
    telemetry: &Telemetry,
) -> anyhow::Result<Ending> {
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
    let notices = options.worker.notices(settings)?;
    let service = Service {
        worker: Arc::new(Worker {
            id: name.to_owned(),
            ..options.worker.worker(settings, &stores, options.root.iter().chain(&set))
        }),
        roots: Some(roots),
        deadline: Duration::from_secs(settings.serve.deadline().into()),
        grace: notices.grace(),
        idle: options.exit_when_idle,
        patience: queue.patience,
        monitor: SlotMonitor::default(),
    };
    let source = StatusSource::new(
        &service.worker,
        options.production.to_string(),
        service.monitor.clone(),
        service.roots.clone(),
    );
    let runtime = console::runtime().context("starting the runtime")?;
    let status = options.status.as_deref().or(settings.serve.status.as_deref());
    let status = {
        let _within = runtime.enter();
        status.map(StatusSocket::bind).transpose().map_err(|e| usage(&e))?
    };
    let http = listen(settings.telemetry.listen(options.listen.as_deref()), telemetry)?;
    let stop = Shutdown::default();
    let asked = {
        let _within = runtime.enter();
        stop.asked("finishing what is under way", notices.first())
    };
    // From now on, signals end the worker in order.
    note(&format!(
        "worker {}: {} slots, {}, production {}",
        service.worker.id, service.worker.slots, queue.address, options.production
    ));
    let ended = runtime.block_on(async {
        let link = Link::amqp(queue).context("starting the link to the queue")?;
        metrics().broker(&link);
        let grace = service.grace;
        let asked = async {
            asked.await;
            stop.notice().map_or(grace, |notice| notice.grace(grace))
        };
        let source = Arc::new(Mutex::new(source));
        if let Some(http) = http {
            let (source, link) = (source.clone(), link.clone());
            tokio::spawn(http.answer(move || health(source.clone(), link.clone())));
        }
        let answering = async {
            match &status {
                Some(socket) => socket.answer(&source, &link).await,
                None => std::future::pending().await,
            }
        };
        let serving = serve(service, &link, asked);
        let ended = tokio::select! {
            ended = serving => ended,
            never = answering => match never {},
        };
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

/// Returns the health of this worker, which is what its status socket tells.
async fn health(source: Arc<Mutex<StatusSource>>, link: Link) -> Health {
    let status = source.lock().await.status(&link).await;
    Health::of(status.is_healthy(), &status)
}
