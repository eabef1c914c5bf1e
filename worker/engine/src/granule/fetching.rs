//! Fetching of input data from S3. They are fetched shortly before their variable is made, while earlier ones are being
//! made, and released after it: however many variables a granule has, only the data of few are in memory.

use super::error::MakeError;
use super::inputs::Output;
use super::remote::Remote;
use super::stages::Stages;
use edp_store::Stores;
use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, Scope};

impl Output<'_> {
    /// Fetches the inputs on S3, all objects at once.
    pub(super) fn fetch(&self, stores: &Stores, stages: &Stages) -> Result<(), MakeError> {
        if let [only] = &self.remotes[..] {
            return only.fetch(stores, stages);
        }
        thread::scope(|scope| {
            let fetching: Vec<_> =
                self.remotes.iter().map(|remote| scope.spawn(move || remote.fetch(stores, stages))).collect();
            let ended =
                fetching.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            ended.collect()
        })
    }

    /// Releases what was fetched.
    pub(super) fn release(&self) {
        self.remotes.iter().for_each(Remote::release);
    }
}

/// Returns the largest number of bytes of fetched objects in memory at once, with this many slabs in flight while those
/// of the next one are fetched.
pub(super) fn held_at_once(outputs: &[Output<'_>], in_flight: usize) -> u64 {
    let sum = |outputs: &[Output<'_>]| {
        let objects = outputs.iter().flat_map(|output| &output.remotes);
        let sizes: BTreeMap<&str, u64> = objects.map(|remote| (remote.path(), remote.size())).collect();
        sizes.into_values().fold(0, u64::saturating_add)
    };
    outputs.windows((in_flight + 1).min(outputs.len()).max(1)).map(sum).max().unwrap_or(0)
}

/// Fetches the inputs of outputs one after the other, in their order, on a thread of its own.
pub(super) struct Fetching(Option<Receiver<Result<(), MakeError>>>);

impl Fetching {
    /// Begins, if there is anything to fetch.
    pub(super) fn begin<'scope>(
        scope: &'scope Scope<'scope, '_>,
        outputs: &'scope [Output<'_>],
        stores: &'scope Stores,
        stages: &'scope Stages,
    ) -> Fetching {
        if outputs.iter().all(|output| output.remotes.is_empty()) {
            return Fetching(None);
        }
        // A channel without buffer: the thread waits with what it has fetched until that is asked for.
        let (give, take) = mpsc::sync_channel(0);
        scope.spawn(move || {
            for output in outputs {
                let fetched = output.fetch(stores, stages);
                let failed = fetched.is_err();
                if give.send(fetched).is_err() || failed {
                    return;
                }
            }
        });
        Fetching(Some(take))
    }

    /// Waits for the inputs of the next output. Those of the one after it are fetched from now on.
    pub(super) fn next(&self) -> Result<(), MakeError> {
        // The thread ends early only after an error that was returned here.
        self.0.as_ref().map_or(Ok(()), |take| take.recv().unwrap_or(Ok(())))
    }
}
