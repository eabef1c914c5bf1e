//! The end of the time that this process has: that of an option, else that of its Slurm job.

use super::{MARGIN, TerminationNotice};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Variable with the end of the job, in seconds since 1970. Slurm sets it since version 22.05.
const SLURM: &str = "SLURM_JOB_END_TIME";

/// Interval at which the clock is read, since timers may be late after a machine was suspended.
const PERIOD: Duration = Duration::from_secs(5);

/// Returns the notice of an end that the user has given.
pub(super) fn given(end: SystemTime) -> TerminationNotice {
    TerminationNotice { reason: "the time limit is reached".into(), end: Some(end) }
}

/// Returns the notice of the end of the Slurm job; `None` outside jobs that state their end.
pub(super) fn of_slurm() -> Option<TerminationNotice> {
    let text = std::env::var(SLURM).ok()?;
    let seconds = text.trim().parse().ok().map(Duration::from_secs);
    let end = seconds.and_then(|since| UNIX_EPOCH.checked_add(since))?;
    Some(TerminationNotice { reason: "the Slurm job ends".into(), end: Some(end) })
}

/// Completes when the remaining time is what draining takes; never if the end is not known.
pub(super) async fn watch(notice: Option<TerminationNotice>, grace: Duration) -> TerminationNotice {
    let Some((notice, end)) = notice.and_then(|notice| Some((notice.clone(), notice.end?))) else {
        return std::future::pending().await;
    };
    loop {
        let wait = wait(end, grace, SystemTime::now());
        if wait.is_zero() {
            return notice;
        }
        tokio::time::sleep(wait.min(PERIOD)).await;
    }
}

/// Returns the time until draining must begin: the whole grace period, and what follows it, lie before the end.
pub(super) fn wait(end: SystemTime, grace: Duration, now: SystemTime) -> Duration {
    end.duration_since(now).unwrap_or_default().saturating_sub(grace.saturating_add(MARGIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draining_begins_before_the_end() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let grace = Duration::from_secs(60);
        assert_eq!(wait(at(1000), grace, at(800)), Duration::from_secs(200) - grace - MARGIN);
        for (now, grace) in [(940, 60), (1000, 60), (2000, 60), (0, u64::MAX)] {
            assert_eq!(wait(at(1000), Duration::from_secs(grace), at(now)), Duration::ZERO, "{now}");
        }
    }
}
