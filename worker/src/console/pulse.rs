//! Lines that report the progress of a production from time to time, where no bar can be drawn.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time before the first line. It doubles with each line, so that a short production reports little and a long one not
/// much.
const FIRST: Duration = Duration::from_secs(15);

/// Longest time between two lines.
const LONGEST: Duration = Duration::from_secs(600);

/// A thread that reports the progress of a production. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct ProgressThread {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ProgressThread {
    /// Starts to report the number of settled granules and that of all granules. Returns `None` if no thread can be
    /// started.
    pub(super) fn start(
        count: impl Fn() -> (u64, u64) + Send + 'static,
        tell: impl Fn(String) + Send + 'static,
    ) -> Option<ProgressThread> {
        ProgressThread::every(FIRST, count, tell)
    }

    fn every(
        first: Duration,
        count: impl Fn() -> (u64, u64) + Send + 'static,
        tell: impl Fn(String) + Send + 'static,
    ) -> Option<ProgressThread> {
        let (end, ended) = mpsc::channel();
        let begun = Instant::now();
        let work = move || {
            let mut pause = first;
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let (done, all) = count();
                tell(format!("progress: {done} of {all} granules after {:.0} s", begun.elapsed().as_secs_f64()));
                pause = (2 * pause).min(LONGEST);
            }
        };
        let thread = std::thread::Builder::new().name("edp-progress".into()).spawn(work).ok()?;
        Some(ProgressThread { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for ProgressThread {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it has no result
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_tells_until_it_is_dropped() {
        let (tell, told) = mpsc::channel();
        let pulse =
            ProgressThread::every(Duration::from_millis(1), || (3, 24), move |line| drop(tell.send(line))).unwrap();
        for _ in 0..3 {
            let line = told.recv_timeout(Duration::from_secs(30)).unwrap();
            assert!(line.starts_with("progress: 3 of 24 granules after "), "{line}");
        }
        drop(pulse);
        while told.try_recv().is_ok() {}
        assert_eq!(told.recv(), Err(mpsc::RecvError));
    }
}
