//! Messages between the coordinator and its workers, and their encoding.
//!
//! A body is a frame: four magic bytes, a version, a kind, and the bincode of one [`TaskMessage`], [`TaskGroup`] or
//! [`Outcome`]. These types are the format: changing one of their fields means raising [`VERSION`]. A recipe travels
//! inside a task message as JSON with its keys in their own order. A task message may also be a bare recipe in JSON that
//! somebody publishes by hand.
//!
//! Bodies come from the network and may contain anything. Sizes are checked before memory is allocated, and no input
//! makes this code panic.

mod frame;

use crate::message::{FailureKind, causes};
use crate::recipe::{Recipe, RecipeError};
use crate::text::shortened;
use frame::{Frame as _, decode, encode, list};
use serde::{Deserialize, Serialize};

/// Content type of frames.
pub const CONTENT_TYPE: &str = "application/vnd.edp.work";

/// Header of a task message: the build with which the production was begun.
pub const BUILD_HEADER: &str = "edp-build";

/// Header of a task message: names of workers, separated by commas, that have reported inputs as missing which others
/// have found. A worker that finds its own name there ends.
pub const UNFIT_HEADER: &str = "edp-unfit";

/// Header of an outcome: the number of job slots of its worker.
pub const SLOTS_HEADER: &str = "edp-slots";

/// Header of an outcome: the largest number of task messages in a group that its worker takes. Workers of earlier
/// releases do not state it, and refuse groups.
pub const GROUPS_HEADER: &str = "edp-groups";

/// Content type of a bare recipe.
pub const JSON: &str = "application/json";

/// Version of the frames that this build writes, and the only one that it reads.
pub const VERSION: u8 = 2;

/// Largest size of a recipe's JSON, in bytes.
pub const MAX_RECIPE: usize = 4 << 20;

/// Largest size of a body in bytes: a task message with the largest recipe.
pub const MAX_BODY: usize = MAX_RECIPE + (64 << 10);

/// Largest number of task messages in a group.
pub const MAX_GROUP: usize = 16;

/// Largest size of an outcome in bytes. One with the places of all chunks of an LLC4320 granule has a fifth of it. The
/// coordinator keeps some hundred outcomes in memory at once.
pub const MAX_OUTCOME: usize = 1 << 20;

/// Largest number of entries in a list of an outcome.
pub(crate) const MAX_ENTRIES: usize = 1 << 16;

/// Largest length in bytes of an id, of the name of a production, and of the name of a variable.
pub(crate) const MAX_NAME: usize = 1024;

/// Largest length in bytes of the name of a worker. Task messages name up to twenty workers in a header.
pub const MAX_WORKER: usize = 128;

/// Largest length in bytes of the name of a build, which task messages carry in a header.
pub(crate) const MAX_BUILD: usize = 512;

/// Largest length in bytes of a path or an address.
pub(crate) const MAX_PLACE: usize = 8192;

/// Largest number of stages of a granule. There are about a dozen.
pub(crate) const MAX_STAGES: usize = 64;

/// The content type that replaces the body of a message that was too large to be kept. The size follows it.
const NOT_KEPT: &str = "application/vnd.edp.not-kept; size=";

/// A message that asks a worker to make a granule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskMessage {
    /// Name of the production. It is empty in a recipe published by hand.
    pub production: String,
    /// Id of the recipe. It is empty in a recipe published by hand that no plan has completed.
    pub recipe_id: String,
    /// Number of the attempt, counted from 1.
    pub attempt: u32,
    /// True if the granule is made with nothing else in the process.
    pub alone: bool,
    /// Time in seconds that making the granule may take; 0 leaves it to the worker.
    pub deadline: u32,
    /// The inspection of a granule that exists already.
    pub look: ExistingCheck,
    /// The recipe as JSON, with its keys in their own order.
    pub recipe: Vec<u8>,
}

/// Task messages that travel as one, to one worker, since their recipes read the same inputs. Each has an outcome of its
/// own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskGroup {
    /// The task messages, in the order in which they are processed: 1 to [`MAX_GROUP`].
    #[serde(deserialize_with = "list")]
    pub tasks: Vec<TaskMessage>,
}

/// The inspection of a granule that already exists at its destination, before the worker reports it as done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExistingCheck {
    /// Its identity is checked: whose granule it is.
    Identity,
    /// Its content is checked as well: every chunk is inflated.
    #[default]
    Content,
    /// Its bytes are checked, which had this SHA-256 (hexadecimal) when it was made or last read.
    Bytes(String),
}

/// A worker's message about an attempt: that it has begun, or how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Id of the recipe.
    pub recipe_id: String,
    /// Number of the attempt, from the task message.
    pub attempt: u32,
    /// Name of the worker process, which is new with each start.
    pub worker: String,
    /// The versions of this project, netCDF, HDF5 and libdeflate, which determine the bytes of a granule together with
    /// its recipe.
    pub build: String,
    /// The event that is reported about the attempt.
    pub event: TaskEvent,
}

/// The beginning or the end of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum TaskEvent {
    /// The worker begins to make the granule.
    Started,
    /// The granule is at its destination.
    Done(Done),
    /// The granule could not be made.
    Failed(Failed),
}

impl TaskEvent {
    /// Returns the result of the attempt, or `None` if it has only begun.
    pub fn ended(&self) -> Option<Result<&Done, &Failed>> {
        match self {
            TaskEvent::Started => None,
            TaskEvent::Done(done) => Some(Ok(done)),
            TaskEvent::Failed(failed) => Some(Err(failed)),
        }
    }
}

/// The report of a granule that is at its destination.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// True if it was there before the attempt.
    pub already: bool,
    /// The output version of the granule that is there, if it is earlier than that of the recipe; else 0.
    pub older: u32,
    /// Path or `s3://` address of the granule.
    pub location: String,
    /// Size of the granule in bytes.
    pub size: u64,
    /// SHA-256 of the granule's bytes, hexadecimal; empty if it was not read.
    pub sha256: String,
    /// Durations of the stages. The first entry is the total by the wall clock.
    #[serde(deserialize_with = "list")]
    pub stages: Vec<StageTotal>,
    /// The input files that were read.
    #[serde(deserialize_with = "list")]
    pub inputs: Vec<InputRead>,
    /// Places of the chunks of each variable in the file.
    #[serde(deserialize_with = "list")]
    pub chunks: Vec<ChunkPlaces>,
    /// Warnings about the granule, for people.
    #[serde(deserialize_with = "list")]
    pub warnings: Vec<String>,
}

/// Time and bytes of one stage of making a granule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageTotal {
    /// Name of the stage, such as `read` or `compress`.
    pub name: String,
    /// Duration in seconds; finite and not negative.
    pub seconds: f64,
    /// Number of bytes that went through the stage.
    pub bytes: u64,
}

/// An input file that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRead {
    /// Path of the file below the source root.
    pub path: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// SHA-256 of the file's bytes, hexadecimal; empty if it was not read as a whole.
    pub sha256: String,
}

/// Places of the chunks of one variable in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkPlaces {
    /// Name of the variable.
    pub variable: String,
    /// Offset and size of each chunk in bytes, in the order of the chunks' indices.
    #[serde(deserialize_with = "list")]
    pub places: Vec<(u64, u64)>,
}

/// The report of a granule that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The kind of failure, which decides what follows.
    pub kind: FailureKind,
    /// The text of the error, then those of its causes.
    #[serde(deserialize_with = "list")]
    pub reason: Vec<String>,
}

impl Failed {
    /// Returns a failure with the texts of an error and its causes.
    pub fn by(kind: FailureKind, error: &dyn std::error::Error) -> Failed {
        Failed { kind, reason: causes(error) }
    }

    /// Returns a failure with a reason in words.
    pub fn because(kind: FailureKind, reason: impl Into<String>) -> Failed {
        Failed { kind, reason: vec![reason.into()] }
    }

    /// Returns the reason in one line.
    pub fn reason(&self) -> String {
        self.reason.join(": ")
    }
}

/// The reason why a body cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The body is larger than such messages may be.
    #[error("a body of {size} bytes: such a message has {limit} at most")]
    BodySize {
        /// Size of the body in bytes.
        size: usize,
        /// Largest size in bytes of a message of its kind.
        limit: usize,
    },
    /// The recipe is larger than recipes may be.
    #[error("a recipe of {size} bytes: the largest has {MAX_RECIPE}")]
    RecipeSize {
        /// Size of the recipe in bytes.
        size: usize,
    },
    /// The body is neither a frame nor JSON.
    #[error("a body of content type '{content_type}' that is neither a frame of ours nor a recipe in JSON")]
    Foreign {
        /// Content type that the sender gave, shortened.
        content_type: String,
    },
    /// The frame has another version than this program reads.
    #[error("a frame of version {found}, this program reads version {VERSION}: use the same release on both sides")]
    Version {
        /// Version of the frame.
        found: u8,
    },
    /// The frame has the wrong kind for its queue.
    #[error("a frame of kind {found} where kind {expected} is expected (1: task message, 2: outcome, 3: task group)")]
    Kind {
        /// Kind that the frame has.
        found: u8,
        /// Kind that belongs into the queue.
        expected: u8,
    },
    /// The content of the frame is damaged, or cannot be encoded.
    #[error("a frame with a content that is not a valid {what}: {reason}")]
    Content {
        /// The expected kind of message.
        what: &'static str,
        /// The message of the decoder or encoder.
        reason: String,
    },
    /// The JSON of the task message is not a recipe.
    #[error("the recipe of a task message: {0}")]
    Recipe(#[source] serde_json::Error),
    /// The recipe in the task message is not the one whose id the message states, or the message states none.
    #[error("a task message of the recipe '{claimed}' with the recipe '{found}' in it: it comes from no coordinator")]
    OtherRecipe {
        /// The id that the task message states, shortened.
        claimed: String,
        /// The id of the recipe in it, shortened.
        found: String,
    },
    /// The content of the recipe does not have the id that it states, or it states none.
    #[error(transparent)]
    Identity(RecipeError),
}

/// Returns the content type of a message whose body of `size` bytes is too large to be kept.
pub fn not_kept(size: usize) -> String {
    format!("{NOT_KEPT}{size}")
}

impl TaskMessage {
    /// Encodes the task message as a frame.
    ///
    /// # Errors
    /// Returns an error if the recipe is larger than [`MAX_RECIPE`], an id is too long, or the attempt is 0.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        encode(self)
    }

    /// Decodes a frame, or a bare recipe: a body of content type [`JSON`], or one that begins with `{`. A bare recipe
    /// becomes attempt 1, with the id that its plan recorded.
    ///
    /// # Errors
    /// Returns an error if the body is not a task message, or larger than the limits.
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

    /// Parses the recipe.
    ///
    /// # Errors
    /// Returns [`WireError::Recipe`] if the JSON is not a recipe.
    pub fn recipe(&self) -> Result<Recipe, WireError> {
        serde_json::from_slice(&self.recipe).map_err(WireError::Recipe)
    }

    /// Parses the recipe, and checks that it is the one whose id the task message states: by the id that the recipe
    /// states, and by the id of its content. Thus the outcome of a task message is always about its own recipe, whoever
    /// has sent it.
    ///
    /// # Errors
    /// Returns an error if there is no recipe, if it is another one, or if it states no id or one that is not that of
    /// its content.
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

impl TaskGroup {
    /// Encodes the group as a frame. A single task message becomes the frame of that message.
    ///
    /// # Errors
    /// Returns an error if there is no task message or more than [`MAX_GROUP`], if one of them cannot be encoded, or if
    /// together they are larger than [`MAX_BODY`].
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        match &self.tasks[..] {
            [only] => only.encode(),
            _ => encode(self),
        }
    }

    /// Decodes the frame of a group, or anything that [`TaskMessage::decode`] accepts as a group of one.
    ///
    /// # Errors
    /// Returns an error if the body is neither, or larger than the limits.
    pub fn decode(content_type: &str, body: &[u8]) -> Result<TaskGroup, WireError> {
        if frame::kind(body) == Some(<TaskGroup as frame::Frame>::KIND) {
            return decode(content_type, body);
        }
        Ok(TaskGroup { tasks: vec![TaskMessage::decode(content_type, body)?] })
    }
}

impl Outcome {
    /// Encodes the outcome as a frame.
    ///
    /// # Errors
    /// Returns an error if it is larger than [`MAX_OUTCOME`], a name is too long, a digest is malformed, or the
    /// duration of a stage is negative or not finite.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        encode(self)
    }

    /// Decodes a frame.
    ///
    /// # Errors
    /// Returns an error if the body is not an outcome, or larger than the limits.
    pub fn decode(content_type: &str, body: &[u8]) -> Result<Outcome, WireError> {
        decode(content_type, body)
    }
}

/// Writes a recipe as it travels: JSON with the keys in the recipe's own order, which is that of the variables in the
/// file. Canonical JSON would sort them, and another order gives another file.
///
/// # Errors
/// Returns errors of serde, which no recipe can cause.
pub fn json(recipe: &Recipe) -> Result<Vec<u8>, WireError> {
    serde_json::to_vec(recipe).map_err(WireError::Recipe)
}

#[cfg(test)]
mod tests;
