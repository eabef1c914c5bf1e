//! The coordinator's own check of granules that workers report as done.
//!
//! It costs one system call or one HEAD request for each granule. The final verification is more thorough, but comes
//! later:
//! until then nothing may follow from a granule that does not exist.

use edp_files::at_once;
use edp_protocol::Location;
use edp_store::Stores;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A granule that is reported as done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Path or address of the granule, from the recipe.
    pub(super) granule: String,
    /// Size in bytes that the worker has reported.
    pub(super) size: u64,
}

/// Number of simultaneous requests to S3, each of which waits for an answer. The store's client makes no more.
const AT_ONCE: usize = 64;

/// Number of granules that one thread checks. On most file systems each takes microseconds; on NFS it waits for the
/// server.
const IN_A_ROW: usize = 32;

/// Time that the check of a whole batch may take.
const LOOK: Duration = Duration::from_secs(30);

/// Time for which workers are believed after a check that took too long, since a store that does not answer occupies
/// threads. The final verification checks these granules too.
const BLIND: Duration = Duration::from_secs(60);

/// Checks that granules exist at their destination.
#[derive(Debug, Clone)]
pub(super) struct Arrivals {
    stores: Stores,
    blind_until: Arc<Mutex<Option<Instant>>>,
}

impl Arrivals {
    pub(super) fn new(stores: Stores) -> Arrivals {
        Arrivals { stores, blind_until: Arc::default() }
    }

    /// Begins to look for granules.
    pub(super) fn look(&self, arrivals: Vec<Arrival>) -> ArrivalCheck {
        let count = arrivals.len();
        let is_blind = self.blind().is_some_and(|until| Instant::now() < until);
        let looking = (count > 0 && !is_blind).then(|| {
            let stores = self.stores.clone();
            tokio::task::spawn_blocking(move || look_at_all(&arrivals, &stores))
        });
        ArrivalCheck { arrivals: self.clone(), count, looking, until: tokio::time::Instant::now() + LOOK }
    }

    /// The time is valid whatever happened to the thread that set it.
    fn blind(&self) -> MutexGuard<'_, Option<Instant>> {
        self.blind_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A search for granules.
pub(super) struct ArrivalCheck {
    arrivals: Arrivals,
    count: usize,
    /// `None` if workers are believed at present.
    looking: Option<JoinHandle<Vec<Option<String>>>>,
    until: tokio::time::Instant,
}

impl ArrivalCheck {
    /// Waits for the end. Returns for each granule the reason why it is not at its destination as reported, or `None` if
    /// it is. A granule that cannot be inspected is believed to exist. If this is cancelled, it can be called again.
    pub(super) async fn ended(&mut self) -> Vec<Option<String>> {
        let believed = vec![None; self.count];
        let Some(looking) = &mut self.looking else { return believed };
        match tokio::time::timeout_at(self.until, looking).await {
            Ok(looked) => looked.unwrap_or(believed),
            Err(_) => {
                *self.arrivals.blind() = Some(Instant::now() + BLIND);
                believed
            }
        }
    }
}

/// Checks granules, several at once.
fn look_at_all(arrivals: &[Arrival], stores: &Stores) -> Vec<Option<String>> {
    let is_far = arrivals.iter().any(|arrival| arrival.granule.parse().is_ok_and(|at: Location| at.is_remote()));
    let threads = if is_far { AT_ONCE.min(arrivals.len()) } else { arrivals.len().div_ceil(IN_A_ROW) };
    at_once::map(arrivals, threads, |arrival| missing(arrival, stores))
}

/// Returns the reason why a granule is not at its destination as reported.
fn missing(arrival: &Arrival, stores: &Stores) -> Option<String> {
    let at = arrival.granule.parse::<Location>().ok()?;
    let first = seen(&at, arrival, stores)?;
    let Location::Local(path) = &at else { return Some(first) };
    // The client of a network file system may answer from its cache. Opening the directory or the file makes it ask the
    // server for the present state.
    let _ = path.parent().map(fs::read_dir);
    let _ = open(path, stores);
    seen(&at, arrival, stores)
}

fn open(path: &Path, stores: &Stores) -> Option<u64> {
    stores.open(&Location::Local(path.to_owned()), None, u64::MAX).ok()?.length().ok()
}

fn seen(at: &Location, arrival: &Arrival, stores: &Stores) -> Option<String> {
    match stores.head(at) {
        Ok(None) => Some("is not there".into()),
        Ok(Some(head)) if head.size != arrival.size => {
            Some(format!("has {} bytes, not the {} that it is said to have", head.size, arrival.size))
        }
        Ok(Some(_)) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_stands_there_as_it_is_said_to_is_believed() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name).display().to_string();
        fs::write(place("a.nc"), "seven b").unwrap();
        let arrival = |name: &str, size| Arrival { granule: place(name), size };
        let stores = Stores::default();
        let look = |arrivals: &[Arrival]| look_at_all(arrivals, &stores);
        assert_eq!(look(&[arrival("a.nc", 7)]), [None]);
        assert_eq!(look(&[arrival("b.nc", 7), arrival("none/c.nc", 7)]), vec![Some("is not there".to_owned()); 2]);
        assert_eq!(look(&[arrival("a.nc", 8)]), [Some("has 7 bytes, not the 8 that it is said to have".into())]);
        // Many at once, each of which gets its own answer.
        let many: Vec<Arrival> =
            (0..500).map(|n| if n % 7 == 0 { arrival("b.nc", 7) } else { arrival("a.nc", 7) }).collect();
        let answers = look(&many);
        assert!(answers.iter().enumerate().all(|(n, why)| why.is_some() == (n % 7 == 0)));
    }
}
