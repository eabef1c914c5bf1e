//! Notices that the machine of a worker will end soon: an EC2 instance that is interrupted or scaled in, or a Slurm job
//! whose time is over.
//!
//! The worker does not tell an autoscaling group that it has drained (by completing its lifecycle action): the group
//! waits for its own timeout, or for the end of the instance.

mod ec2;
mod slurm;

use edp_program::settings::{NoticeSources, ServeSettings};
use jiff::Timestamp;
use std::fmt;
use std::time::{Duration, SystemTime};

/// Time before the end of the machine in which nothing is computed any more: cancelled granules are returned,
/// connections are closed, and telemetry is sent.
pub(crate) const MARGIN: Duration = Duration::from_secs(20);

/// The notice that the machine will end soon.
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

/// Waits for the first notice, and for ever if there is no source of notices. A source that gives an error does no
/// harm: the error is logged, and the source is asked again.
pub async fn first(settings: &ServeSettings, grace: Duration) -> TerminationNotice {
    let sources = settings.notices;
    if sources == NoticeSources::Off {
        return std::future::pending().await;
    }
    let asked = sources == NoticeSources::Ec2 || settings.imds.is_some();
    tokio::select! {
        notice = ec2::watch(settings.imds.as_deref()), if asked || ec2::is_here() => notice,
        notice = slurm::watch(grace) => notice,
    }
}
