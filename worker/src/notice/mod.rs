//! What tells a worker that the machine under it will end soon: an EC2 instance that is taken back or scaled in, a
//! Slurm job whose time is over.
//!
//! Telling an autoscaling group that a worker has drained (completing its lifecycle action) is not done here: the
//! group waits for its own timeout, or for the end of the instance.

mod ec2;
mod slurm;

use edp_program::settings::{NoticeSources, ServeSettings};
use jiff::Timestamp;
use std::fmt;
use std::time::{Duration, SystemTime};

/// Time before the end of the machine in which nothing is computed any more: granules that were cancelled are given
/// back, connections closed, telemetry sent.
pub const MARGIN: Duration = Duration::from_secs(20);

/// The end of the machine is near.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminationNotice {
    /// Why.
    pub reason: String,
    /// When, if that is known.
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

/// Ready with the first notice; waits for ever where there is no source of notices. What cannot be asked hurts nothing:
/// it is logged, and asked again.
pub async fn first(settings: &ServeSettings, grace: Duration) -> TerminationNotice {
    let sources = settings.notices.unwrap_or_default();
    if sources == NoticeSources::Off {
        return std::future::pending().await;
    }
    let asked = sources == NoticeSources::Ec2 || settings.imds.is_some();
    tokio::select! {
        notice = ec2::watch(settings.imds.as_deref()), if asked || ec2::is_here() => notice,
        notice = slurm::watch(grace) => notice,
    }
}
