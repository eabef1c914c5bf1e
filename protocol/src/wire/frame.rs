//! The encoding of task messages and outcomes as frames, and the checks that precede any allocation for what is read.

use super::{
    Done, ExistingCheck, MAX_BODY, MAX_BUILD, MAX_ENTRIES, MAX_GROUP, MAX_NAME, MAX_OUTCOME, MAX_PLACE, MAX_RECIPE,
    MAX_STAGES, MAX_WORKER, NOT_KEPT, Outcome, TaskEvent, TaskGroup, TaskMessage, VERSION, WireError,
};
use crate::digest::Digest;
use crate::text::shortened;
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::marker::PhantomData;

pub(super) const MAGIC: [u8; 4] = *b"EDPW";
const HEADER: usize = MAGIC.len() + 2;

/// A message that is sent as a frame.
pub(super) trait Frame: Serialize + DeserializeOwned {
    const KIND: u8;
    const NAME: &'static str;
    /// Largest size of such a frame in bytes.
    const LARGEST: usize;
    /// Refuses values that the types allow but the format does not.
    fn check(&self) -> Result<(), WireError>;
}

impl Frame for TaskMessage {
    const KIND: u8 = 1;
    const NAME: &'static str = "task message";
    const LARGEST: usize = MAX_BODY;

    fn check(&self) -> Result<(), WireError> {
        if self.recipe.len() > MAX_RECIPE {
            return Err(WireError::RecipeSize { size: self.recipe.len() });
        }
        if self.attempt == 0 {
            return Err(content::<Self>("attempts count from 1"));
        }
        if let ExistingCheck::Bytes(digest) = &self.look
            && Digest::from_hex(digest).is_none()
        {
            return Err(content::<Self>("what the granule had is no SHA-256"));
        }
        names::<Self>([&self.production, &self.recipe_id])
    }
}

impl Frame for TaskGroup {
    const KIND: u8 = 3;
    const NAME: &'static str = "task group";
    const LARGEST: usize = MAX_BODY;

    fn check(&self) -> Result<(), WireError> {
        if !(1..=MAX_GROUP).contains(&self.tasks.len()) {
            let why = format!("{} task messages: a group has 1 to {MAX_GROUP}", self.tasks.len());
            return Err(content::<Self>(why));
        }
        self.tasks.iter().try_for_each(Frame::check)
    }
}

impl Frame for Outcome {
    const KIND: u8 = 2;
    const NAME: &'static str = "outcome";
    const LARGEST: usize = MAX_OUTCOME;

    fn check(&self) -> Result<(), WireError> {
        // Names get into headers of task messages, into the ledger and into files.
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !(1..=MAX_WORKER).contains(&self.worker.len()) || !is_plain(&self.worker) {
            let why = format!("the name of the worker has not 1 to {MAX_WORKER} letters, digits, '-', '_' or '.'");
            return Err(content::<Self>(why));
        }
        if self.build.len() > MAX_BUILD || self.build.chars().any(char::is_control) {
            return Err(content::<Self>(format!("the build has more than {MAX_BUILD} bytes, or control characters")));
        }
        if let TaskEvent::Done(done) = &self.event {
            check_done(done).map_err(content::<Self>)?;
        }
        names::<Self>([&self.recipe_id])
    }
}

/// Refuses an outcome that no worker would report of a granule.
fn check_done(done: &Done) -> Result<(), String> {
    let is_digest = |text: &String| text.is_empty() || Digest::from_hex(text).is_some();
    if !is_digest(&done.sha256) || !done.inputs.iter().all(|input| is_digest(&input.sha256)) {
        return Err("a SHA-256 is none".into());
    }
    let places = done.inputs.iter().map(|input| &input.path).chain([&done.location]);
    if let Some(place) = places.into_iter().find(|place| place.len() > MAX_PLACE) {
        return Err(format!("a path of {} bytes, the longest has {MAX_PLACE}", place.len()));
    }
    let is_odd = |seconds: f64| !seconds.is_finite() || seconds < 0.0;
    if done.stages.len() > MAX_STAGES || done.stages.iter().any(|stage| is_odd(stage.seconds)) {
        return Err(format!("more than {MAX_STAGES} stages, or the seconds of a stage are not a duration"));
    }
    let names = done.stages.iter().map(|stage| &stage.name).chain(done.chunks.iter().map(|of| &of.variable));
    match names.into_iter().find(|name| name.len() > MAX_NAME) {
        Some(name) => Err(too_long(name)),
        None => Ok(()),
    }
}

fn too_long(name: &str) -> String {
    format!("a name of {} bytes, the longest has {MAX_NAME}", name.len())
}

/// Returns the kind that the header of a frame states, whatever the rest of it is; `None` if there is no such header.
pub(super) fn kind(body: &[u8]) -> Option<u8> {
    body.get(..HEADER).filter(|header| header.starts_with(&MAGIC)).and_then(|header| header.last()).copied()
}

pub(super) fn content<T: Frame>(reason: impl fmt::Display) -> WireError {
    WireError::Content { what: T::NAME, reason: reason.to_string() }
}

fn names<'a, T: Frame>(names: impl IntoIterator<Item = &'a String>) -> Result<(), WireError> {
    match names.into_iter().find(|name| name.len() > MAX_NAME) {
        Some(name) => Err(content::<T>(too_long(name))),
        None => Ok(()),
    }
}

pub(super) fn encode<T: Frame>(value: &T) -> Result<Vec<u8>, WireError> {
    value.check()?;
    let mut body = Vec::with_capacity(4096);
    body.extend_from_slice(&MAGIC);
    body.extend_from_slice(&[VERSION, T::KIND]);
    bincode::serde::encode_into_std_write(value, &mut body, bincode::config::standard()).map_err(content::<T>)?;
    if body.len() > T::LARGEST {
        return Err(WireError::BodySize { size: body.len(), limit: T::LARGEST });
    }
    Ok(body)
}

pub(super) fn decode<T: Frame>(content_type: &str, body: &[u8]) -> Result<T, WireError> {
    // A body that was too large when it arrived is here as its size only.
    let not_kept = content_type.strip_prefix(NOT_KEPT).and_then(|size| size.parse().ok());
    let size = not_kept.unwrap_or(body.len());
    if size > T::LARGEST {
        return Err(WireError::BodySize { size, limit: T::LARGEST });
    }
    let Some((header, frame)) = body.split_at_checked(HEADER).filter(|(header, _)| header.starts_with(&MAGIC)) else {
        return Err(WireError::Foreign { content_type: shortened(content_type) });
    };
    let (version, kind) = (header[MAGIC.len()], header[MAGIC.len() + 1]);
    if version != VERSION {
        return Err(WireError::Version { found: version });
    }
    if kind != T::KIND {
        return Err(WireError::Kind { found: kind, expected: T::KIND });
    }
    let limits = bincode::config::standard().with_limit::<MAX_BODY>();
    let (value, read): (T, usize) = bincode::serde::decode_from_slice(frame, limits).map_err(content::<T>)?;
    if read != frame.len() {
        return Err(content::<T>(format!("{} bytes too many", frame.len() - read)));
    }
    value.check()?;
    Ok(value)
}

/// Reads a list of at most [`MAX_ENTRIES`] entries. An entry takes far more memory than the byte that may announce it.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct ListVisitor<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX_ENTRIES} entries")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
            let mut read = Vec::new();
            while let Some(entry) = entries.next_element()? {
                if read.len() == MAX_ENTRIES {
                    return Err(A::Error::custom(format!("a list of more than {MAX_ENTRIES} entries")));
                }
                read.push(entry);
            }
            Ok(read)
        }
    }
    deserializer.deserialize_seq(ListVisitor(PhantomData))
}
