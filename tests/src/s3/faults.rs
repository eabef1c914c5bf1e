//! Faults that a test injects: the requests that they affect, and their effects.

use std::time::Duration;

/// The kinds of requests.
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

/// The effect of a fault on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultEffect {
    /// The request is answered with this status and error code, and is not carried out.
    Answer(u16, &'static str),
    /// The request is received, not carried out, and never answered.
    Swallow,
    /// The request is carried out, and its connection is closed without an answer.
    LoseReply,
    /// The connection is closed after this many bytes of the request's body, and the request is not carried out.
    CutUpload(usize),
    /// The body of the answer is cut after this many bytes.
    CutDownload(usize),
    /// The body of the answer stops after this many bytes, and the connection stays open.
    StallDownload(usize),
    /// The request is handled after this delay.
    Delay(Duration),
    /// Each piece of the answer's body (64 KiB) is sent after this delay.
    Slow(Duration),
}

/// A fault: an effect, and the requests to which it applies.
#[derive(Debug, Clone)]
pub struct S3Fault {
    /// The kind of the requests; `None` for any kind.
    pub call: Option<S3Call>,
    /// A text that the key must contain.
    pub key: String,
    /// Number of such requests that pass unharmed before.
    pub after: usize,
    /// Number of requests that are affected.
    pub times: usize,
    /// The effect on them.
    pub effect: FaultEffect,
}

impl S3Fault {
    /// Makes a fault that affects the next `times` requests of a kind, whatever their keys.
    pub fn new(call: S3Call, times: usize, effect: FaultEffect) -> S3Fault {
        S3Fault { call: Some(call), key: String::new(), after: 0, times, effect }
    }

    /// Limits the fault to keys that contain a text.
    #[must_use]
    pub fn on(mut self, key: &str) -> S3Fault {
        self.key = key.into();
        self
    }

    /// Lets the first `requests` of the requests to which the fault applies pass unharmed.
    #[must_use]
    pub fn after(mut self, requests: usize) -> S3Fault {
        self.after = requests;
        self
    }
}
