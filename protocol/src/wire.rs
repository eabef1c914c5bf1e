//! What travels between coordinator and workers, and how it is written.
//!
//! A body is a frame: four magic bytes, a version, a kind, and the bincode of one [`TaskMessage`] or [`Outcome`]. These
//! types are the format: changing a field here means raising [`VERSION`]. A recipe travels inside a task message as
//! JSON, keys in its own order. A task message may also be a bare recipe in JSON, published by hand.
//!
//! Bodies come from the network and may hold anything: sizes are checked before memory is taken, and nothing here
//! panics on any input.

mod frame;

use crate::message::{FailureKind, causes};
use crate::recipe::{Recipe, RecipeError};
use crate::text::shortened;
use frame::{Frame as _, decode, encode, list};
use serde::{Deserialize, Serialize};

/// Content type of frames.
pub const CONTENT_TYPE: &str = "application/vnd.edp.work";

/// Header of a task message: the build that the production was begun with.
pub const BUILD_HEADER: &str = "edp-build";

/// Header of a task message: names of workers, separated by commas, that have said of inputs that they are not there,
/// which others have found. A worker that finds itself there is to end.
pub const UNFIT_HEADER: &str = "edp-unfit";

/// Content type of a bare recipe.
pub const JSON: &str = "application/json";

/// Version of the frames that this build writes, and the only one it reads.
pub const VERSION: u8 = 2;

/// Largest recipe in bytes of its JSON.
pub const MAX_RECIPE: usize = 4 << 20;

/// Largest body in bytes: a task message with the largest recipe.
pub const MAX_BODY: usize = MAX_RECIPE + (64 << 10);

/// Largest outcome in bytes. One with the places of all chunks of an LLC4320 granule has a fifth of it. The coordinator
/// holds some hundred of them at once.
pub const MAX_OUTCOME: usize = 1 << 20;

/// Most entries in a list of an outcome.
pub const MAX_ENTRIES: usize = 1 << 16;

/// Most bytes of an id, the name of a production, or the name of a variable.
pub const MAX_NAME: usize = 1024;

/// Most bytes of the name of a worker: task messages name up to twenty workers in a header.
pub const MAX_WORKER: usize = 128;

/// Most bytes of the name of a build, which task messages carry in a header.
pub const MAX_BUILD: usize = 512;

/// Most bytes of a path or an address.
pub const MAX_PLACE: usize = 8192;

/// Most stages of a granule. There are a dozen.
pub const MAX_STAGES: usize = 64;

/// The content type that stands for the body of a message that was too large to be kept; its size comes after it.
const NOT_KEPT: &str = "application/vnd.edp.not-kept; size=";

/// A granule to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskMessage {
    /// Name of the production; empty in a recipe published by hand.
    pub production: String,
    /// Id of the recipe; empty in a recipe published by hand that no plan has completed.
    pub recipe_id: String,
    /// Counts from 1.
    pub attempt: u32,
    /// Whether it is to be made with nothing else in the process.
    pub alone: bool,
    /// Seconds that making it may take; 0 leaves it to the worker.
    pub deadline: u32,
    /// How closely an existing granule is inspected.
    pub look: ExistingCheck,
    /// The recipe: JSON, keys in the recipe's order.
    pub recipe: Vec<u8>,
}

/// How closely a worker inspects a granule that exists at its destination already, before it reports it as done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExistingCheck {
    /// Whose it is.
    Identity,
    /// Its content too: every chunk is inflated.
    #[default]
    Content,
    /// Its bytes, which had this SHA-256 (hexadecimal) when it was made or read last.
    Bytes(String),
}

/// A worker's message about an attempt: that it has begun, or how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Id of the recipe.
    pub recipe_id: String,
    /// The task message's attempt.
    pub attempt: u32,
    /// Id of the worker, new with each start.
    pub worker: String,
    /// What decides the bytes of a granule besides its recipe: our version, and those of netCDF, HDF5 and libdeflate.
    pub build: String,
    /// The event.
    pub event: TaskEvent,
}

/// Beginning or end of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum TaskEvent {
    /// The worker begins to make it.
    Started,
    /// The granule stands at its destination.
    Done(Done),
    /// It does not.
    Failed(Failed),
}

impl TaskEvent {
    /// The end of the attempt, if it has ended.
    pub fn ended(&self) -> Option<Result<&Done, &Failed>> {
        match self {
            TaskEvent::Started => None,
            TaskEvent::Done(done) => Some(Ok(done)),
            TaskEvent::Failed(failed) => Some(Err(failed)),
        }
    }
}

/// A granule stands at its destination.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Whether it stood there before.
    pub already: bool,
    /// The output version that made what stands there, if that is an earlier one than the recipe's; else 0.
    pub older: u32,
    /// Path or `s3://` address.
    pub location: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of its bytes, hexadecimal; empty if it was not read.
    pub sha256: String,
    /// Time of each stage; the first entry is the total, by the wall clock.
    #[serde(deserialize_with = "list")]
    pub stages: Vec<StageTotal>,
    /// The input files that were read.
    #[serde(deserialize_with = "list")]
    pub inputs: Vec<InputRead>,
    /// Where the chunks of each variable are in the file.
    #[serde(deserialize_with = "list")]
    pub chunks: Vec<ChunkPlaces>,
    /// Warnings about the granule.
    #[serde(deserialize_with = "list")]
    pub warnings: Vec<String>,
}

/// One stage of making a granule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageTotal {
    /// Its name, such as `read` or `compress`.
    pub name: String,
    /// Seconds that it took; finite and not negative.
    pub seconds: f64,
    /// Bytes that went through it.
    pub bytes: u64,
}

/// One input file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRead {
    /// Path below the source root.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of its bytes, hexadecimal; empty if it was not read whole.
    pub sha256: String,
}

/// Where the chunks of one variable are in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkPlaces {
    /// Name of the variable.
    pub variable: String,
    /// Offset and size in bytes, in the order of the chunks' indices.
    #[serde(deserialize_with = "list")]
    pub places: Vec<(u64, u64)>,
}

/// A granule does not stand at its destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The kind of failure.
    pub kind: FailureKind,
    /// The error, then its causes.
    #[serde(deserialize_with = "list")]
    pub reason: Vec<String>,
}

impl Failed {
    /// A failure by an error and its causes.
    pub fn by(kind: FailureKind, error: &dyn std::error::Error) -> Failed {
        Failed { kind, reason: causes(error) }
    }

    /// A failure for a reason in words.
    pub fn because(kind: FailureKind, reason: impl Into<String>) -> Failed {
        Failed { kind, reason: vec![reason.into()] }
    }

    /// The reason in one line.
    pub fn reason(&self) -> String {
        self.reason.join(": ")
    }
}

/// The reason why a body cannot be written or understood.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The body is larger than any of ours.
    #[error("a body of {size} bytes: such a message has {limit} at most")]
    BodySize {
        /// Its size.
        size: usize,
        /// The largest size of a message of its kind.
        limit: usize,
    },
    /// The recipe is larger than any of ours.
    #[error("a recipe of {size} bytes: the largest has {MAX_RECIPE}")]
    RecipeSize {
        /// Its size.
        size: usize,
    },
    /// The body is neither a frame nor JSON.
    #[error("a body of content type '{content_type}' that is neither a frame of ours nor a recipe in JSON")]
    Foreign {
        /// What the sender called it, shortened.
        content_type: String,
    },
    /// The sender's version is another.
    #[error("a frame of version {found}, this program reads version {VERSION}: use the same release on both sides")]
    Version {
        /// The version of the frame.
        found: u8,
    },
    /// A frame of the wrong kind for its queue.
    #[error("a frame of kind {found} where kind {expected} is expected (1: task message, 2: outcome)")]
    Kind {
        /// Kind of the frame.
        found: u8,
        /// Kind that belongs here.
        expected: u8,
    },
    /// The content of the frame is damaged, or cannot be written.
    #[error("a frame with a content that is not a valid {what}: {reason}")]
    Content {
        /// The expected kind of message.
        what: &'static str,
        /// The decoder's message.
        reason: String,
    },
    /// The recipe is not a recipe.
    #[error("the recipe of a task message: {0}")]
    Recipe(#[source] serde_json::Error),
    /// The task message says of which recipe it is, and has another one in it, or does not say it.
    #[error("a task message of the recipe '{claimed}' with the recipe '{found}' in it: it comes from no coordinator")]
    OtherRecipe {
        /// The id that the task message names, shortened.
        claimed: String,
        /// The id that the recipe in it has, shortened.
        found: String,
    },
    /// The recipe is not the one that its id is of, or has none.
    #[error(transparent)]
    Identity(RecipeError),
}

/// What a message of this content type is kept as, if its body of `size` bytes is too large to be kept.
pub fn not_kept(size: usize) -> String {
    format!("{NOT_KEPT}{size}")
}

impl TaskMessage {
    /// The task message as a frame.
    ///
    /// # Errors
    /// The recipe is larger than [`MAX_RECIPE`], an id is too long, or the attempt is 0.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        encode(self)
    }

    /// Reads a frame, or a bare recipe: a body of content type [`JSON`] or one that begins with `{`. A bare recipe
    /// becomes attempt 1, with the id that its plan recorded.
    ///
    /// # Errors
    /// The body is not a task message, or larger than the limits.
    pub fn decode(content_type: &str, body: &[u8]) -> Result<TaskMessage, WireError> {
        if content_type != JSON && body.first() != Some(&b'{') {
            return decode(content_type, body);
        }
        if body.len() > MAX_RECIPE {
            return Err(WireError::RecipeSize { size: body.len() });
        }
        let recipe: Recipe = serde_json::from_slice(body).map_err(WireError::Recipe)?;
        let task = TaskMessage {
            production: String::new(),
            recipe_id: recipe.plan().map(|plan| plan.id.clone()).unwrap_or_default(),
            attempt: 1,
            alone: false,
            deadline: 0,
            look: ExistingCheck::default(),
            recipe: json(&recipe)?,
        };
        task.check()?;
        Ok(task)
    }

    /// The recipe.
    ///
    /// # Errors
    /// [`WireError::Recipe`] if it is none.
    pub fn recipe(&self) -> Result<Recipe, WireError> {
        serde_json::from_slice(&self.recipe).map_err(WireError::Recipe)
    }

    /// The recipe, if it is the one that the task message says that it is of: by the id that it carries, and by the id
    /// of what it holds. So the outcome of a task message is always about its own recipe, whatever its sender.
    ///
    /// # Errors
    /// There is no recipe in it, or another one, or one without id or with another content than its id is of.
    pub fn identified(&self) -> Result<Recipe, WireError> {
        let recipe = self.recipe()?;
        let carried = &recipe.plan().map_err(WireError::Identity)?.id;
        if self.recipe_id.is_empty() || *carried != self.recipe_id {
            let (claimed, found) = (shortened(&self.recipe_id), shortened(carried));
            return Err(WireError::OtherRecipe { claimed, found });
        }
        recipe.check_id().map_err(WireError::Identity)?;
        Ok(recipe)
    }
}

impl Outcome {
    /// The outcome as a frame.
    ///
    /// # Errors
    /// It is larger than [`MAX_OUTCOME`], a name is too long, a digest is none, or the seconds of a stage are no
    /// duration.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        encode(self)
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// The body is not an outcome, or larger than the limits.
    pub fn decode(content_type: &str, body: &[u8]) -> Result<Outcome, WireError> {
        decode(content_type, body)
    }
}

/// A recipe as it travels: JSON with the keys in the recipe's own order, which is that of the variables in the file.
/// (Canonical JSON would sort them, and another order gives another file.)
///
/// # Errors
/// None that a recipe can cause; serde's own.
pub fn json(recipe: &Recipe) -> Result<Vec<u8>, WireError> {
    serde_json::to_vec(recipe).map_err(WireError::Recipe)
}

#[cfg(test)]
mod tests;
