//! Notices that the time of a process will be over soon: a time limit that the user has given, the end of its Slurm job,
//! or an EC2 instance that is interrupted or scaled in.
//!
//! The worker does not tell an autoscaling group that it has drained (by completing its lifecycle action): that is for
//! what has started it, such as `deploy/aws/end-instance`.

mod ec2;
mod end;

use edp_program::settings::{NoticeSources, ServeSettings};
use jiff::Timestamp;
use std::fmt;
use std::future;
use std::time::{Duration, SystemTime};

/// Time before the end of the machine in which nothing is computed any more: cancelled granules are returned,
/// connections are closed, and telemetry is sent.
pub(crate) const MARGIN: Duration = Duration::from_secs(20);

/// The notice that the time of this process will be over soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminationNotice {
    /// The reason in words.
    pub reason: String,
    /// Time of the end, if it is known.
    pub end: Option<SystemTime>,
}

impl fmt::Display for TerminationNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        match self.end.map(Timestamp::try_from) {
            Some(Ok(end)) => write!(f, " at {:.0}", end),
            _ => Ok(()),
        }
    }
}

impl TerminationNotice {
    /// Returns the time that granules under way have to end: the grace period, unless the end comes before that.
    pub fn grace(&self, grace: Duration) -> Duration {
        let left = self.end.map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
        left.map_or(grace, |left| grace.min(left.saturating_sub(MARGIN)))
    }
}

/// The sources of notices that are asked.
#[derive(Debug, Clone, Default)]
pub struct Notices {
    settings: ServeSettings,
    end: Option<SystemTime>,
}

impl Notices {
    /// Returns the sources by the settings, with the time limit that the user has given. A given time limit takes the
    /// place of the end of the Slurm job.
    pub fn new(settings: &ServeSettings, end: Option<SystemTime>) -> Notices {
        Notices { settings: settings.clone(), end }
    }

    /// Returns the time that granules under way have to end after a shutdown request.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.settings.grace.into())
    }

    /// Returns true if a time limit is given that is shorter than draining, so that nothing would be made.
    pub(crate) fn is_too_short(&self) -> bool {
        self.end.is_some_and(|end| end::wait(end, self.grace(), SystemTime::now()).is_zero())
    }

    /// Waits for the first notice, and for ever if there is no source of notices. A source that gives an error does no
    /// harm: the error is logged, and the source is asked again.
    pub async fn first(self) -> TerminationNotice {
        let (sources, imds) = (self.settings.notices, self.settings.imds.as_deref());
        let is_on = sources != NoticeSources::Off;
        let asks_ec2 = is_on && (sources == NoticeSources::Ec2 || imds.is_some() || ec2::is_here());
        let ec2 = async { if asks_ec2 { ec2::watch(imds).await } else { future::pending().await } };
        let end = self.end.map(end::given).or_else(|| end::of_slurm().filter(|_| is_on));
        tokio::select! {
            notice = ec2 => notice,
            notice = end::watch(end, self.grace()) => notice,
        }
    }
}
