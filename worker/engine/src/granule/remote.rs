//! Input data on S3, which are in memory as long as they are needed.

use super::cancellable_reader::CancellableReader;
use super::error::MakeError;
use super::stages::{Stage, Stages};
use crate::shared_objects::{ObjectContent, wanted_tag};
use edp_files::ReadAt;
use edp_protocol::recipe::Version;
use edp_protocol::{Digest, Location};
use edp_store::Stores;
use std::io;
use std::sync::PoisonError;

/// One object, whose size and version are known before it is fetched. Clones share the bytes, since several outputs may
/// be made of one object.
#[derive(Clone)]
pub(super) struct Remote {
    path: String,
    location: Location,
    etag: Option<String>,
    size: u64,
    content: ObjectContent,
}

impl Remote {
    /// Makes the access to an object. `content` is that of a clone, or is still to be fetched.
    pub(super) fn new(path: &str, location: Location, version: &Version, content: ObjectContent) -> Remote {
        let (size, etag) = (version.size, wanted_tag(version).map(str::to_owned));
        Remote { path: path.to_owned(), location, etag, size, content }
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
        self.content.digest.get()
    }

    /// Notes that another variable is going to fetch and to release it.
    pub(super) fn expect(&self) {
        self.content.expect();
    }

    pub(super) fn fetch(&self, stores: &Stores, stages: &Stages) -> Result<(), MakeError> {
        // A thread that asks for an object that is being fetched waits here.
        let mut fetched = self.content.object.write().unwrap_or_else(PoisonError::into_inner);
        if fetched.is_some() {
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
        // It may be fetched again after it was released, and without a tag nothing else shows that it was replaced.
        let first = self.content.digest.get_or_init(|| digest.clone());
        if *first != digest {
            let difference = format!("has the SHA-256 {digest}, but had {first} a moment ago");
            return Err(MakeError::InputChanged { path: self.path.clone(), difference });
        }
        *fetched = Some(object);
        Ok(())
    }

    pub(super) fn release(&self) {
        self.content.release();
    }
}

impl ReadAt for Remote {
    fn length(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match &*self.content.object.read().unwrap_or_else(PoisonError::into_inner) {
            Some(object) => object.read_exact_at(buffer, offset),
            None => Err(io::Error::other("read before it was fetched; please report this")),
        }
    }
}
