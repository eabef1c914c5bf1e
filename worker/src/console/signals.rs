//! Shutdown requests by signals.

use super::{Ending, Signal, ending, note};
use crate::notice::TerminationNotice;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A shutdown request: a signal, or a notice that the time of this process will be over.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    seen: Arc<Mutex<Option<Signal>>>,
    noticed: Arc<OnceLock<TerminationNotice>>,
}

impl Shutdown {
    /// Completes when the process is told to stop by a signal, and reports what it is `doing` about it, or with a
    /// `notice`, and reports that. A second signal ends the process at once: a user who asks twice does not want to
    /// wait, and the next run removes what is left. A notice is not a signal: the first signal after it finds the
    /// process ending in order, and only the second one ends it at once. Signals are caught from this call on, which
    /// must be made within a runtime.
    pub fn asked<N: Future<Output = TerminationNotice>>(
        &self,
        doing: &'static str,
        notice: N,
    ) -> impl Future<Output = ()> + use<N> {
        self.clone().hear(Signals::new(), doing, notice)
    }

    async fn hear(self, mut signals: Signals, doing: &'static str, notice: impl Future<Output = TerminationNotice>) {
        let mut signaled = false;
        tokio::select! {
            signal = signals.next() => {
                self.heard(signal, doing);
                signaled = true;
            }
            notice = notice => {
                note(&format!("draining: {notice}"));
                let _ = self.noticed.set(notice); // this is called once
            }
        }
        let stop = self;
        tokio::spawn(async move {
            loop {
                let signal = signals.next().await;
                if signaled {
                    ending::leave_at_once(Ending::Stopped(signal));
                }
                stop.heard(signal, doing);
                signaled = true;
            }
        });
    }

    fn heard(&self, signal: Signal, doing: &str) {
        let what = match signal {
            Signal::Interrupt => "interrupted",
            Signal::Terminate => "terminated",
            Signal::Hangup => "the terminal is gone",
        };
        note(&format!("{what}: {doing}"));
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(signal);
    }

    /// Returns the notice, if the shutdown was requested by one.
    pub fn notice(&self) -> Option<&TerminationNotice> {
        self.noticed.get()
    }

    /// Returns the signal, if there was one.
    pub fn signal(&self) -> Option<Signal> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signals that tell the process to stop. They are caught from now on until the process ends. Signals that it was
/// started to ignore remain ignored.
struct Signals([Option<tokio::signal::unix::Signal>; 3]);

impl Signals {
    fn new() -> Signals {
        use tokio::signal::unix::{SignalKind, signal};
        let ignored = ignored();
        // Without a handler the signal ends the process as usual, or remains ignored.
        let catch = |kind: SignalKind| match is_ignored(ignored, kind.as_raw_value()) {
            true => None,
            false => signal(kind).ok(),
        };
        Signals([SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(catch))
    }

    async fn next(&mut self) -> Signal {
        async fn one(signal: &mut Option<tokio::signal::unix::Signal>) {
            match signal {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        }
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            () = one(interrupt) => Signal::Interrupt,
            () = one(terminate) => Signal::Terminate,
            () = one(hangup) => Signal::Hangup,
        }
    }
}

/// Returns the signals that this process ignores, one bit for each, the lowest bit for signal 1. A process inherits
/// what its parent ignores: `nohup` ignores the hangup, and shells ignore Ctrl-C for background jobs of scripts. Only
/// Linux tells this without changing it; on other systems no signal counts as ignored.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    of_status(&status).unwrap_or_default()
}

fn of_status(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

fn is_ignored(ignored: u64, signal: i32) -> bool {
    let bit = u32::try_from(signal).ok().and_then(|signal| signal.checked_sub(1));
    bit.and_then(|bit| ignored.checked_shr(bit)).is_some_and(|rest| rest & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status_of_the_process() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001003\nSigCgt:\t0000000000004000\n";
        let ignored = of_status(status);
        assert_eq!(ignored, Some(0x1003));
        let ignored = ignored.unwrap_or_default();
        assert_eq!(
            [1, 2, 13, 15, 0, 65, -1].map(|signal| is_ignored(ignored, signal)),
            [true, true, true, false, false, false, false]
        );
        assert_eq!(of_status("SigCgt:\t0000000000000001\n"), None);
        // The Rust runtime ignores SIGPIPE (13) in every program.
        assert!(!cfg!(target_os = "linux") || is_ignored(super::ignored(), 13));
    }
}
