//! Input data on S3. They are fetched shortly before their variable is made, while earlier ones are being made, and
//! released after it: however many variables a granule has, only the data of few are in memory.

use super::error::MakeError;
use super::inputs::{CancellableReader, Output, wanted_tag};
use super::stages::{Stage, Stages};
use edp_files::ReadAt;
use edp_protocol::recipe::Version;
use edp_protocol::{Digest, Location};
use edp_store::Stores;
use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::thread::{self, Scope};

/// One object, whose size and version are known before it is fetched. Clones share the bytes, since several outputs may
/// be made of one object.
#[derive(Clone)]
pub(super) struct Remote {
    path: String,
    location: Location,
    etag: Option<String>,
    size: u64,
    held: Arc<RwLock<FetchedObject>>,
    digest: Arc<OnceLock<Digest>>,
}

/// An object that is in memory as long as it is needed.
#[derive(Default)]
struct FetchedObject {
    object: Option<Box<dyn ReadAt>>,
    /// Number of times that it was requested and not yet released.
    users: usize,
}

impl Remote {
    pub(super) fn new(path: &str, location: Location, version: &Version) -> Remote {
        let (size, etag) = (version.size, wanted_tag(version).map(str::to_owned));
        Remote { path: path.to_owned(), location, etag, size, held: Arc::default(), digest: Arc::default() }
    }

    /// The path in the recipe.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// SHA-256 of its bytes, once it was fetched.
    pub(super) fn digest(&self) -> Option<&Digest> {
        self.digest.get()
    }

    fn fetch(&self, stores: &Stores, stages: &Stages) -> Result<(), MakeError> {
        // A thread that asks for an object that is being fetched waits here.
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if held.object.is_some() {
            held.users += 1;
            return Ok(());
        }
        let fail = |source| MakeError::Input { path: self.path.clone(), source };
        let open = || stores.open(&self.location, self.etag.as_deref(), self.size);
        let object = stages.time(Stage::Fetch, self.size, open)?;
        let (found, planned) = (object.length().map_err(fail)?, self.size);
        if found != planned {
            let difference = format!("has {found} bytes, but had {planned} when the recipe was planned");
            return Err(MakeError::InputChanged { path: self.path.clone(), difference });
        }
        let pass = CancellableReader { file: &*object, at: 0, size: self.size, stop: &[] };
        let (digest, _) = stages.time(Stage::Hash, self.size, || Digest::of_reader(pass)).map_err(fail)?;
        let _ = self.digest.set(digest); // when fetched again, it is the same version
        *held = FetchedObject { object: Some(object), users: 1 };
        Ok(())
    }

    fn release(&self) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.users = held.users.saturating_sub(1);
        if held.users == 0 {
            held.object = None;
        }
    }
}

impl ReadAt for Remote {
    fn length(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.held.read().unwrap_or_else(PoisonError::into_inner).object {
            Some(object) => object.read_exact_at(buffer, offset),
            None => Err(io::Error::other("read before it was fetched; please report this")),
        }
    }
}

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
        let sizes: BTreeMap<&str, u64> = objects.map(|remote| (remote.path(), remote.size)).collect();
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
