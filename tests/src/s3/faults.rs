//! Faults that a test injects: which requests they hit, and what happens to these.

use std::time::Duration;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum S3Call {
    Get,
    Head,
    Put,
    Delete,
    List,
    BeginUpload,
    PutPart,
    CompleteUpload,
    AbortUpload,
    ListUploads,
    Other,
}

/// What happens to a request instead of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultEffect {
    /// It is answered with this status and error code, and has no effect.
    Answer(u16, &'static str),
    /// It is taken, has no effect and is never answered.
    Swallow,
    /// It has its effect; its connection is closed without an answer.
    LoseReply,
    /// Its connection is closed after this many bytes of its body, and it has no effect.
    CutUpload(usize),
    /// The body of its answer is cut after this many bytes.
    CutDownload(usize),
    /// The body of its answer stops after this many bytes, and the connection stays open.
    StallDownload(usize),
    /// It is handled this much later.
    Delay(Duration),
    /// Each piece of the answer's body (64 KiB) comes this much later.
    Slow(Duration),
}

/// An effect on the requests that it fits.
#[derive(Debug, Clone)]
pub struct S3Fault {
    /// What must be asked for; anything if none.
    pub call: Option<S3Call>,
    /// What the key must contain.
    pub key: String,
    /// How many such requests go unharmed before.
    pub after: usize,
    /// How many are hit.
    pub times: usize,
    /// What happens to them.
    pub effect: FaultEffect,
}

impl S3Fault {
    /// An effect on the next `times` requests of a kind, whatever their keys.
    pub fn new(call: S3Call, times: usize, effect: FaultEffect) -> S3Fault {
        S3Fault { call: Some(call), key: String::new(), after: 0, times, effect }
    }

    /// Only on keys that contain this.
    #[must_use]
    pub fn on(mut self, key: &str) -> S3Fault {
        self.key = key.into();
        self
    }

    /// Only after so many requests that it fits.
    #[must_use]
    pub fn after(mut self, requests: usize) -> S3Fault {
        self.after = requests;
        self
    }
}
