//! Input data on S3, which are in memory as long as they are needed.

use super::cancellable_reader::CancellableReader;
use super::error::MakeError;
use super::stages::{Stage, Stages};
use edp_files::ReadAt;
use edp_protocol::recipe::Version;
use edp_protocol::{Digest, Location};
use edp_store::Stores;
use std::io;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// Returns the entity tag that an object must have; `None` if the SHA-256 of its content is recorded, which then
/// decides.
pub(super) fn wanted_tag(planned: &Version) -> Option<&str> {
    planned.etag.as_deref().filter(|_| planned.sha256.is_none())
}

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

    /// Its size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// SHA-256 of its bytes, once it was fetched.
    pub(super) fn digest(&self) -> Option<&Digest> {
        self.digest.get()
    }

    pub(super) fn fetch(&self, stores: &Stores, stages: &Stages) -> Result<(), MakeError> {
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

    pub(super) fn release(&self) {
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
