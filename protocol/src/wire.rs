//! What travels between coordinator and workers, and how it is written.
//!
//! A body is a frame: four magic bytes, a version, a kind, and the bincode of one [`Order`] or [`Report`]. These types
//! are the format: changing a field here means raising [`VERSION`]. A recipe travels inside an order as JSON,
//! keys in its own order. An order may also be a bare recipe in JSON, published by hand.
//!
//! Bodies come from the network and may hold anything: sizes are checked before memory is taken, and nothing here
//! panics on any input.

use crate::digest::Digest;
use crate::message::{FailureKind, causes};
use crate::recipe::Recipe;
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::marker::PhantomData;

/// Content type of frames.
pub const CONTENT_TYPE: &str = "application/vnd.edp.work";

/// Header of an order: the build that the production was begun with.
pub const BUILD_HEADER: &str = "edp-build";

/// Header of an order: names of workers, separated by commas, that have said of inputs that they are not there, which
/// others have found. A worker that finds itself there is to end.
pub const UNFIT_HEADER: &str = "edp-unfit";

/// Content type of a bare recipe.
pub const JSON: &str = "application/json";

/// Version of the frames that this build writes, and the only one it reads.
pub const VERSION: u8 = 2;

/// Largest body in bytes.
pub const MAX_BODY: usize = 16 << 20;

/// Largest recipe in bytes of its JSON.
pub const MAX_RECIPE: usize = 4 << 20;

/// Most entries in a list of a report.
pub const MAX_ENTRIES: usize = 1 << 16;

/// Most characters of an id, a name of a production, a worker or a build, in bytes.
pub const MAX_NAME: usize = 1024;

const MAGIC: [u8; 4] = *b"EDPW";
const HEADER: usize = MAGIC.len() + 2;

/// A granule to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
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
    /// What is looked at of a granule that stands there already.
    pub look: Look,
    /// The recipe: JSON, keys in the recipe's order.
    pub recipe: Vec<u8>,
}

/// What a worker looks at of a granule that stands at its destination already, before it says that it does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Look {
    /// Whose it is.
    Identity,
    /// Its content too: every chunk is inflated.
    #[default]
    Content,
    /// Its bytes, which had this SHA-256 (hexadecimal) when it was made or read last.
    Bytes(String),
}

/// What a worker says about an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Id of the recipe.
    pub recipe_id: String,
    /// The order's attempt.
    pub attempt: u32,
    /// Id of the worker, new with each start.
    pub worker: String,
    /// What decides the bytes of a granule besides its recipe: our version, and those of netCDF, HDF5 and libdeflate.
    pub build: String,
    /// What happened.
    pub event: Event,
}

/// What happened to an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The worker begins to make it.
    Started,
    /// The granule stands at its destination.
    Done(Done),
    /// It does not.
    Failed(Failed),
}

impl Event {
    /// How it ended, if it has.
    pub fn ended(&self) -> Option<Result<&Done, &Failed>> {
        match self {
            Event::Started => None,
            Event::Done(done) => Some(Ok(done)),
            Event::Failed(failed) => Some(Err(failed)),
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
    /// What each stage took; first the whole, by the clock on the wall.
    #[serde(deserialize_with = "list")]
    pub stages: Vec<Stage>,
    /// What was read.
    #[serde(deserialize_with = "list")]
    pub inputs: Vec<Input>,
    /// Where the chunks of each variable are in the file.
    #[serde(deserialize_with = "list")]
    pub chunks: Vec<Chunks>,
    /// What is odd about the granule.
    #[serde(deserialize_with = "list")]
    pub warnings: Vec<String>,
}

/// One stage of making a granule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name, such as `read` or `compress`.
    pub name: String,
    /// Seconds that it took; finite and not negative.
    pub seconds: f64,
    /// Bytes that went through it.
    pub bytes: u64,
}

/// One input file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Path below the source root.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of its bytes, hexadecimal; empty if it was not read whole.
    pub sha256: String,
}

/// Where the chunks of one variable are in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunks {
    /// Name of the variable.
    pub variable: String,
    /// Offset and size in bytes, in the order of the chunks' indices.
    #[serde(deserialize_with = "list")]
    pub places: Vec<(u64, u64)>,
}

/// A granule does not stand at its destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// What kind of failure it is.
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

/// Why a body cannot be written or understood.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The body is larger than any of ours.
    #[error("a body of {size} bytes: the largest has {MAX_BODY}")]
    BodySize {
        /// Its size.
        size: usize,
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
    #[error("a frame of kind {found} where kind {expected} is expected (1: order, 2: report)")]
    Kind {
        /// Kind of the frame.
        found: u8,
        /// Kind that belongs here.
        expected: u8,
    },
    /// The content of the frame is damaged, or cannot be written.
    #[error("a frame with a content that is no {what}: {reason}")]
    Content {
        /// What should be there.
        what: &'static str,
        /// What the decoder says.
        reason: String,
    },
    /// The recipe is no recipe.
    #[error("the recipe of an order: {0}")]
    Recipe(#[source] serde_json::Error),
}

/// A kind of frame.
trait Frame: Serialize + DeserializeOwned {
    const KIND: u8;
    const NAME: &'static str;
    /// Refuses values that the types allow and the format does not.
    fn check(&self) -> Result<(), WireError>;
}

impl Frame for Order {
    const KIND: u8 = 1;
    const NAME: &'static str = "order";

    fn check(&self) -> Result<(), WireError> {
        if self.recipe.len() > MAX_RECIPE {
            return Err(WireError::RecipeSize { size: self.recipe.len() });
        }
        if self.attempt == 0 {
            return Err(content::<Self>("attempts count from 1"));
        }
        if let Look::Bytes(digest) = &self.look
            && Digest::from_hex(digest).is_none()
        {
            return Err(content::<Self>("what the granule had is no SHA-256"));
        }
        names::<Self>([&self.production, &self.recipe_id])
    }
}

impl Frame for Report {
    const KIND: u8 = 2;
    const NAME: &'static str = "report";

    fn check(&self) -> Result<(), WireError> {
        if let Event::Done(done) = &self.event
            && done.stages.iter().any(|stage| !stage.seconds.is_finite() || stage.seconds < 0.0)
        {
            return Err(content::<Self>("the seconds of a stage are no duration"));
        }
        names::<Self>([&self.recipe_id, &self.worker, &self.build])
    }
}

fn content<T: Frame>(reason: impl fmt::Display) -> WireError {
    WireError::Content { what: T::NAME, reason: reason.to_string() }
}

fn names<'a, T: Frame>(names: impl IntoIterator<Item = &'a String>) -> Result<(), WireError> {
    match names.into_iter().find(|name| name.len() > MAX_NAME) {
        Some(name) => Err(content::<T>(format!("a name of {} bytes, the longest has {MAX_NAME}", name.len()))),
        None => Ok(()),
    }
}

impl Order {
    /// The order as a frame.
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
    /// The body is no order, or larger than the limits.
    pub fn decode(content_type: &str, body: &[u8]) -> Result<Order, WireError> {
        if content_type != JSON && body.first() != Some(&b'{') {
            return decode(content_type, body);
        }
        if body.len() > MAX_RECIPE {
            return Err(WireError::RecipeSize { size: body.len() });
        }
        let recipe: Recipe = serde_json::from_slice(body).map_err(WireError::Recipe)?;
        let order = Order {
            production: String::new(),
            recipe_id: recipe.plan().map(|plan| plan.id.clone()).unwrap_or_default(),
            attempt: 1,
            alone: false,
            deadline: 0,
            look: Look::default(),
            recipe: json(&recipe)?,
        };
        order.check()?;
        Ok(order)
    }

    /// The recipe.
    ///
    /// # Errors
    /// [`WireError::Recipe`] if it is none.
    pub fn recipe(&self) -> Result<Recipe, WireError> {
        serde_json::from_slice(&self.recipe).map_err(WireError::Recipe)
    }
}

impl Report {
    /// The report as a frame.
    ///
    /// # Errors
    /// It is larger than [`MAX_BODY`], an id is too long, or the seconds of a stage are no duration.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        encode(self)
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// The body is no report, or larger than the limits.
    pub fn decode(content_type: &str, body: &[u8]) -> Result<Report, WireError> {
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

fn encode<T: Frame>(value: &T) -> Result<Vec<u8>, WireError> {
    value.check()?;
    let mut body = Vec::with_capacity(4096);
    body.extend_from_slice(&MAGIC);
    body.extend_from_slice(&[VERSION, T::KIND]);
    bincode::serde::encode_into_std_write(value, &mut body, bincode::config::standard()).map_err(content::<T>)?;
    if body.len() > MAX_BODY {
        return Err(WireError::BodySize { size: body.len() });
    }
    Ok(body)
}

fn decode<T: Frame>(content_type: &str, body: &[u8]) -> Result<T, WireError> {
    if body.len() > MAX_BODY {
        return Err(WireError::BodySize { size: body.len() });
    }
    let Some((header, frame)) = body.split_at_checked(HEADER).filter(|(header, _)| header.starts_with(&MAGIC)) else {
        return Err(WireError::Foreign { content_type: content_type.chars().take(80).collect() });
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

/// Reads a list of at most [`MAX_ENTRIES`]: an entry takes far more memory than the byte that may announce it.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Entries<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
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
    deserializer.deserialize_seq(Entries(PhantomData))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn order() -> Order {
        Order {
            production: "default".into(),
            recipe_id: "00ff".into(),
            attempt: 2,
            alone: true,
            deadline: 900,
            look: Look::Bytes("0a".repeat(32)),
            recipe: b"{}".to_vec(),
        }
    }

    fn orders() -> impl Strategy<Value = Order> {
        let look = proptest::sample::select(vec![Look::Identity, Look::Content, Look::Bytes("0a".repeat(32))]);
        ("[a-z]{0,9}", ".{0,70}", 1..u32::MAX, any::<bool>(), any::<u32>(), look, vec(any::<u8>(), 0..200)).prop_map(
            |(production, recipe_id, attempt, alone, deadline, look, recipe)| Order {
                production,
                recipe_id,
                attempt,
                alone,
                deadline,
                look,
                recipe,
            },
        )
    }

    fn events() -> impl Strategy<Value = Event> {
        let stage =
            (".{0,9}", 0.0..1e9, any::<u64>()).prop_map(|(name, seconds, bytes)| Stage { name, seconds, bytes });
        let input = (".{0,9}", any::<u64>(), ".{0,64}").prop_map(|(path, size, sha256)| Input { path, size, sha256 });
        let chunks =
            (".{0,9}", vec(any::<(u64, u64)>(), 0..9)).prop_map(|(variable, places)| Chunks { variable, places });
        let done = (any::<bool>(), ".{0,9}", vec(stage, 0..4), vec(input, 0..4), vec(chunks, 0..4), vec(".*", 0..3))
            .prop_map(|(already, location, stages, inputs, chunks, warnings)| {
                Event::Done(Done {
                    already,
                    older: 1,
                    location,
                    size: 7,
                    sha256: "ab".into(),
                    stages,
                    inputs,
                    chunks,
                    warnings,
                })
            });
        let kinds = [
            FailureKind::Permanent,
            FailureKind::Transient,
            FailureKind::Held,
            FailureKind::Conflict,
            FailureKind::Returned,
            FailureKind::Lost,
            FailureKind::NotFound,
            FailureKind::Denied,
        ];
        let failed = (proptest::sample::select(kinds.to_vec()), vec(".*", 0..4))
            .prop_map(|(kind, reason)| Event::Failed(Failed { kind, reason }));
        prop_oneof![Just(Event::Started), done, failed]
    }

    proptest! {
        #[test]
        fn orders_come_back(order in orders()) {
            prop_assert_eq!(Order::decode(CONTENT_TYPE, &order.encode().unwrap()).unwrap(), order);
        }

        #[test]
        fn reports_come_back(event in events(), recipe_id in ".{0,64}", attempt: u32, worker in ".{0,64}") {
            let report = Report { recipe_id, attempt, worker, build: "edp 0.1".into(), event };
            prop_assert_eq!(Report::decode(CONTENT_TYPE, &report.encode().unwrap()).unwrap(), report);
        }

        #[test]
        fn no_body_makes_it_panic(body in vec(any::<u8>(), 0..400), kind in 1_u8..3, content_type in ".{0,200}") {
            let _ = Order::decode(&content_type, &body);
            let _ = Order::decode(JSON, &body);
            let framed: Vec<u8> = [&MAGIC[..], &[VERSION, kind], &body].concat();
            let _ = Order::decode(CONTENT_TYPE, &framed);
            let _ = Report::decode(CONTENT_TYPE, &framed);
        }

        #[test]
        fn damage_is_found_or_harmless(event in events(), place: prop::sample::Index, byte: u8) {
            let report =
                Report { recipe_id: "1".into(), attempt: 1, worker: "w".into(), build: "b".into(), event };
            let mut body = report.encode().unwrap();
            let place = place.index(body.len());
            body[place] = byte;
            let _ = Report::decode(CONTENT_TYPE, &body);
            prop_assert!(Report::decode(CONTENT_TYPE, &body[..place]).is_err());
        }
    }

    #[test]
    fn a_recipe_in_json_is_an_order() {
        let recipe = r#"{"granule": "out/a.nc", "variables": {"B": [["res/B.data", "res/B.meta"]]},
            "ecco_cfg_loc": "c", "ecco_grid_loc": "g", "ecco_mapping_factors_loc": "f", "ecco_metadata_loc": "m",
            "dynamic_metadata": {"name": "a", "dimension": "2D", "summary": "s"}}"#;
        for content_type in [JSON, "", "text/plain"] {
            let order = Order::decode(content_type, recipe.as_bytes()).unwrap();
            assert_eq!((order.attempt, order.recipe_id.as_str()), (1, ""));
            assert!(order.recipe.starts_with(b"{\"granule\":"));
            assert_eq!(order.recipe().unwrap().granule, "out/a.nc");
            assert_eq!(Order::decode(CONTENT_TYPE, &order.encode().unwrap()).unwrap(), order);
        }
    }

    #[test]
    fn frames_keep_their_bytes() {
        let frame = order().encode().unwrap();
        assert_eq!(
            frame,
            [b"EDPW\x02\x01\x07default\x0400ff\x02\x01\xfb\x84\x03\x02\x40", "0a".repeat(32).as_bytes(), b"\x02{}"]
                .concat()
        );
    }

    /// What earlier releases wrote is understood by this one.
    #[test]
    fn kinds_of_failure_keep_their_numbers() {
        for (kind, number) in [
            (FailureKind::Permanent, 0),
            (FailureKind::Transient, 1),
            (FailureKind::Held, 2),
            (FailureKind::Conflict, 3),
            (FailureKind::Returned, 4),
            (FailureKind::Lost, 5),
            (FailureKind::NotFound, 6),
            (FailureKind::Denied, 7),
        ] {
            let event = Event::Failed(Failed { kind, reason: Vec::new() });
            let report = Report { recipe_id: "1".into(), attempt: 1, worker: "w".into(), build: "b".into(), event };
            let body = [b"EDPW\x02\x02\x011\x01\x01w\x01b\x02".as_slice(), &[number, 0]].concat();
            assert_eq!(report.encode().unwrap(), body);
            assert_eq!(Report::decode(CONTENT_TYPE, &body).unwrap(), report);
        }
    }

    #[test]
    fn lengths_that_lie_cost_nothing() {
        // a string of 2^63 bytes, a list of 2^32 entries
        for lie in [&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0x80][..], &[0, 1, 0, 0, 2, 0, 0xfd, 0, 0, 0, 0, 1, 0, 0, 0]] {
            for kind in [1, 2] {
                let body = [&MAGIC[..], &[VERSION, kind], lie].concat();
                assert!(Order::decode(CONTENT_TYPE, &body).is_err() && Report::decode(CONTENT_TYPE, &body).is_err());
            }
        }
        let event =
            Event::Failed(Failed { kind: FailureKind::Permanent, reason: vec![String::new(); MAX_ENTRIES + 1] });
        let report = Report { recipe_id: "1".into(), attempt: 1, worker: "w".into(), build: "b".into(), event };
        let error = Report::decode(CONTENT_TYPE, &report.encode().unwrap()).unwrap_err().to_string();
        assert!(error.contains("65536"), "{error}");
    }

    #[test]
    fn what_is_not_ours_is_named() {
        let mut frame = order().encode().unwrap();
        assert!(matches!(Report::decode(CONTENT_TYPE, &frame), Err(WireError::Kind { found: 1, expected: 2 })));
        frame.push(0);
        assert!(Order::decode(CONTENT_TYPE, &frame).unwrap_err().to_string().contains("1 bytes too many"));
        frame[4] = 9;
        assert!(matches!(Order::decode(CONTENT_TYPE, &frame), Err(WireError::Version { found: 9 })));
        assert!(matches!(Order::decode("text/plain", b"hello world"), Err(WireError::Foreign { .. })));
        assert!(matches!(Order::decode("", &vec![0; MAX_BODY + 1]), Err(WireError::BodySize { .. })));
        let large = Order { recipe: vec![b' '; MAX_RECIPE + 1], ..order() };
        assert!(matches!(large.encode(), Err(WireError::RecipeSize { .. })));
        assert!(matches!(Order::decode(JSON, &large.recipe), Err(WireError::RecipeSize { .. })));
        assert!(Order { attempt: 0, ..order() }.encode().is_err());
        assert!(Order { recipe_id: "x".repeat(MAX_NAME + 1), ..order() }.encode().is_err());
        assert!(matches!(Order::decode("", b"{\"granule\": 1}"), Err(WireError::Recipe(_))));
    }
}
