//! Options that all commands that make granules have.

use super::{MAX_SLOTS, Usage, note};
use crate::notice::{MARGIN, Notices};
use crate::service::processes::{ProcessPool, ProcessSetup};
use crate::service::{self, Worker};
use clap::Args;
use edp_engine::resources::Cache;
use edp_program::http_service::HttpService;
use edp_program::settings::Settings;
use edp_program::telemetry::Telemetry;
use edp_protocol::Location;
use edp_store::Stores;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use std::time::{Duration, SystemTime};

/// Options of workers, and of commands that have one in their own process.
#[derive(Debug, Clone, Default, Args)]
pub struct WorkerOptions {
    /// Number of granules that are made at the same time [default: number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    slots: Option<u16>,
    /// Number of processes in which they are made; more than one pay where many cores make small granules [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    processes: Option<u16>,
    /// Overwrite granules of other recipes, and damaged ones
    #[arg(long)]
    pub replace: bool,
    /// Make granules again that an earlier output version made
    #[arg(long)]
    pub replace_older: bool,
    /// Decompress each chunk of a field again before it is written, to find what a damaged machine does to it
    #[arg(long)]
    pub paranoid: bool,
    /// Write to a store that ignores conditions; two workers may then write the same granule
    #[arg(long)]
    pub unconditional: bool,
    /// End in order before this time: 2026-05-01T18:00 (local), 2026-05-01T16:00Z, or seconds since 1970 [default: end
    /// of the Slurm job]
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "time_limit")]
    until: Option<SystemTime>,
    /// End in order before this much time has passed: 3600 (seconds), 90m, 12h, 12:00:00
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    time_limit: Option<Duration>,
}

impl WorkerOptions {
    /// Makes a worker by these options and the settings that reads and writes in these stores, below these roots if
    /// there are any.
    pub fn worker<'a>(
        &self,
        settings: &Settings,
        stores: &Stores,
        roots: impl IntoIterator<Item = &'a Location>,
    ) -> Worker {
        service::object::sweep_scratch(&stores.scratch());
        let memory = u64::from(settings.run.memory) << 20;
        let paranoid = self.paranoid || settings.run.paranoid;
        let slots = slots(self.slots, settings);
        let processes = usize::from(self.processes.unwrap_or(settings.run.processes)).min(slots);
        let setup = || ProcessSetup {
            store: settings.store.clone(),
            roots: Some(roots.into_iter().map(Location::to_string).collect())
                .filter(|roots: &Vec<_>| !roots.is_empty()),
            memory,
            paranoid,
            replace: self.replace,
            replace_older: self.replace_older,
            log: [settings.log.clone(), settings.log_format.clone()],
            traces: settings.telemetry.traces,
        };
        Worker {
            replace_older: self.replace_older,
            memory,
            paranoid,
            cache: Cache::with_memory(stores.clone(), memory),
            processes: (processes > 1).then(|| ProcessPool::new(processes, setup())),
            ..Worker::new(slots, self.replace)
        }
    }

    /// Returns the sources of notices that the time of this process will be over. The time limit counts from now. If it
    /// is too short for anything to be made, the user is warned.
    ///
    /// # Errors
    /// Returns an error if the end has passed.
    pub fn notices(&self, settings: &Settings) -> Result<Notices, Usage> {
        let now = SystemTime::now();
        let end = match (self.until, self.time_limit) {
            (Some(end), _) if end <= now => {
                let end = Timestamp::try_from(end).map(|end| end.to_string()).unwrap_or_default();
                return Err(Usage(format!("--until: {end} has passed: give a later time, or none")));
            }
            (Some(end), _) => Some(end),
            (None, Some(Duration::ZERO)) => {
                return Err(Usage("--time-limit: no time is left: give a longer time, or none".into()));
            }
            // No end is known that is beyond the range of times.
            (None, limit) => limit.and_then(|limit| now.checked_add(limit)),
        };
        let notices = Notices::new(&settings.serve, end);
        if notices.is_too_short() {
            note(&format!(
                "warning: the time limit is too short for anything to be made: draining takes up to {} s before it \
                 (serve.grace and {} s)",
                (notices.grace() + MARGIN).as_secs(),
                MARGIN.as_secs()
            ));
        }
        Ok(notices)
    }
}

/// Listens for those who ask for health and metrics, if there is an address, and tells the user where.
///
/// # Errors
/// Returns an error if the address cannot be used.
pub fn listen(address: Option<&str>, telemetry: &Telemetry) -> Result<Option<HttpService>, Usage> {
    let Some(address) = address else { return Ok(None) };
    let service = HttpService::bind(address, telemetry.metrics_reader()).map_err(|e| Usage::from_error(&e))?;
    note(&format!("health and metrics at http://{}/healthz and /metrics", service.address()));
    Ok(Some(service))
}

/// Returns the number of job slots: that of the option, else of the setting, else one for each core; at most
/// [`MAX_SLOTS`].
pub fn slots(option: Option<u16>, settings: &Settings) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    option.or(settings.run.slots).map_or_else(cores, usize::from).min(MAX_SLOTS.into())
}

/// Parses a duration as people and schedulers write it. A bare number is in seconds.
///
/// # Errors
/// Returns an error if it is not a duration, or is negative.
pub fn duration(text: &str) -> Result<Duration, String> {
    let seconds =
        text.parse::<f64>().ok().map(|seconds| Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string()));
    seconds.unwrap_or_else(|| {
        let duration = text.parse::<SignedDuration>().map_err(|e| format!("{e}; write 30, 30s, 10m or 1h"))?;
        Duration::try_from(duration).map_err(|_| "a time before now: write 30, 30s, 10m or 1h".into())
    })
}

/// Parses a time: with an offset, a zone, or in local time. A bare number is in seconds since 1970.
fn time(text: &str) -> Result<SystemTime, String> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Timestamp::from_second(seconds).map(SystemTime::from).map_err(|e| e.to_string());
    }
    let zoned = text.parse::<Timestamp>().or_else(|_| text.parse::<Zoned>().map(|zoned| zoned.timestamp()));
    let local = |_| text.parse::<DateTime>()?.to_zoned(TimeZone::system()).map(|zoned| zoned.timestamp());
    let time = zoned.or_else(local);
    time.map(SystemTime::from).map_err(|e: jiff::Error| format!("{e}; write 2026-05-01T18:00, or ...T16:00Z"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn durations_as_people_write_them() {
        for (text, seconds) in [
            ("30", 30.0),
            ("0.5", 0.5),
            ("30s", 30.0),
            ("10m", 600.0),
            ("1h", 3600.0),
            ("1h 30m", 5400.0),
            ("12:00:00", 43_200.0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "soon", "-1", "-10m", "nan", "inf", "1e300", "1y", "10 parsecs"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_as_people_and_schedulers_write_them() {
        let at = UNIX_EPOCH + Duration::from_secs(1_777_651_200); // 2026-05-01, 16 o'clock UTC
        for text in [
            "1777651200",
            " 1777651200\n",
            "2026-05-01T16:00:00Z",
            "2026-05-01T16:00Z",
            "2026-05-01 18:00:00+02:00",
            "2026-05-01T18:00[Europe/Berlin]",
        ] {
            assert_eq!(time(text), Ok(at), "{text}");
        }
        let local = |text: &str| {
            let end: DateTime = text.parse().unwrap();
            SystemTime::from(end.to_zoned(TimeZone::system()).unwrap().timestamp())
        };
        for text in ["2026-05-01T18:00", "2026-05-01 18:00:30", "2026-05-01"] {
            assert_eq!(time(text), Ok(local(text)), "{text}");
        }
        for text in ["", "soon", "18:00", "2026-13-01T00:00Z", "999999999999999", "1h"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_that_has_passed_is_no_limit() {
        let settings = Settings::default();
        let of = |until, time_limit| WorkerOptions { until, time_limit, ..WorkerOptions::default() }.notices(&settings);
        let hour = Duration::from_secs(3600);
        let now = SystemTime::now();
        assert!(!of(Some(now + hour), None).unwrap().is_too_short());
        assert!(!of(None, Some(hour)).unwrap().is_too_short());
        assert!(of(None, Some(Duration::from_secs(79))).unwrap().is_too_short(), "grace and margin are 80 s");
        assert!(!of(None, Some(Duration::MAX)).unwrap().is_too_short() && !of(None, None).unwrap().is_too_short());
        assert!(of(Some(now - hour), None).unwrap_err().to_string().contains("--until: "));
        assert!(of(None, Some(Duration::ZERO)).unwrap_err().to_string().contains("--time-limit: "));
    }
}
