//! Spans that lead through the queues, and their context in the headers of messages.
//!
//! Each recipe of a production has one trace, whichever program handles it and however often: its id is the first half
//! of the SHA-256 of the production's name and the recipe's id. Thus attempts after a failure, a lost worker or a
//! restart of the coordinator are found together, and no program has to remember anything:
//!
//! ```text
//! publish edp.default.recipes       coordinator: the broker has confirmed the task message
//!   process edp.default.recipes     worker: from delivery to acknowledgement
//!     fetch, read, ... commit       its stages
//!     publish edp.default.results   worker: it has begun, or how it ended
//!       settle edp.default.results  coordinator: written into the ledger and acknowledged
//! publish edp.default.recipes       the next attempt
//! ```
//!
//! The context is sent as W3C `traceparent` and `tracestate`. The spans of consumers are children of the producer's
//! span and linked to it. A message without context begins a trace of its own.

use edp_protocol::message::FailureKind;
use edp_protocol::wire::{Done, Failed, TaskEvent};
use edp_queue::{Destination, Message};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{TraceContextExt as _, TraceId};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use sha2::{Digest as _, Sha256};
use std::cell::Cell;
use std::collections::BTreeMap;
use tracing::field::Empty;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Target of the spans of this module.
pub(super) const TARGET: &str = module_path!();

/// Longest header of a trace context that is accepted and passed on, in bytes, as W3C asks for `tracestate`. Longer
/// ones are left out, since anyone may send them and every further message would carry them.
const MAX_STATE: usize = 512;

/// Makes the span of publishing a task message, which begins an attempt of a recipe, and adds its context to the
/// message. `member` is the position of the task message in its group, `id` and `attempt` are those of the recipe.
pub fn publish_task(
    to: &Destination,
    production: &str,
    member: usize,
    (id, attempt): (&str, u32),
    message: &mut Message,
) -> Span {
    let none = Context::new().attach();
    let mut own = Message { message_id: id.into(), body: message.body.clone(), ..Message::default() };
    let span = producer(to, &own);
    if !span.is_disabled() {
        span.record("edp.attempt", attempt);
        NEXT.set(Some(recipe_trace(production, id)));
        inject(&span, &mut own);
        NEXT.set(None);
        message.headers.extend(own.headers.into_iter().map(|(name, value)| (of_member(&name, member), value)));
    }
    drop(none);
    span
}

/// Returns the name of a header of one member of a group. The first member has the headers themselves.
fn of_member(name: &str, member: usize) -> String {
    if member == 0 { name.to_owned() } else { format!("{name}-{member}") }
}

/// Makes the span of processing a task message, which is called `process`, for the recipe with this id at this position
/// of its group.
pub fn process_task(from: &Destination, message: &Message, redelivered: bool, member: usize, id: &str) -> Span {
    if member == 0 {
        return consume("process", from, message, redelivered);
    }
    let header = |name: &str| Some((name.to_owned(), message.headers.get(&of_member(name, member))?.clone()));
    let headers = ["traceparent", "tracestate"].into_iter().filter_map(header).collect();
    let own = Message { message_id: id.into(), body: message.body.clone(), headers, ..Message::default() };
    consume("process", from, &own, redelivered)
}

/// Makes the span of publishing an outcome, below the current span, and adds its context to the message.
pub fn publish_outcome(to: &Destination, event: &TaskEvent, message: &mut Message) -> Span {
    let span = producer(to, message);
    if !span.is_disabled() {
        span.record("edp.outcome", outcome(event.ended()));
        inject(&span, message);
    }
    span
}

fn producer(to: &Destination, message: &Message) -> Span {
    info_span!(
        "publish",
        otel.name = format!("publish {}", to.name),
        otel.kind = "producer",
        messaging.system = to.system,
        messaging.operation.name = "publish",
        messaging.operation.type = "send",
        messaging.destination.name = to.name,
        messaging.message.id = message.message_id,
        messaging.message.body.size = message.body.len(),
        edp.attempt = Empty,
        edp.outcome = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
        error.type = Empty,
    )
}

/// Makes the span of handling a delivery, called `process` or `settle`. It is a child of the span that published the
/// message, and linked to it.
pub fn consume(operation: &'static str, from: &Destination, message: &Message, redelivered: bool) -> Span {
    let none = Context::new().attach();
    let span = info_span!(
        "consume",
        otel.name = format!("{operation} {}", from.name),
        otel.kind = "consumer",
        messaging.system = from.system,
        messaging.operation.name = operation,
        messaging.operation.type = "process",
        messaging.destination.name = from.name,
        messaging.message.id = message.message_id,
        messaging.message.body.size = message.body.len(),
        edp.redelivered = redelivered,
        edp.granule = Empty,
        edp.attempt = Empty,
        edp.worker = Empty,
        edp.outcome = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
        error.type = Empty,
    );
    if !span.is_disabled() {
        let context = TraceContextPropagator::new().extract(&Headers(&message.headers));
        let producer = context.span().span_context().clone();
        if producer.is_valid() {
            // This fails if traces are switched off.
            let _ = span.set_parent(context);
            span.add_link(producer);
        }
    }
    drop(none);
    span
}

/// Returns the context of the current span for another process that goes on with its work, in the form of headers.
pub fn carried() -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut HeadersMut(&mut headers));
    headers
}

/// Makes the span of work that another process goes on with, as a child of the span whose context this is.
pub fn carried_on(headers: &BTreeMap<String, String>) -> Span {
    let none = Context::new().attach();
    let span = info_span!("making process", otel.kind = "internal");
    if !span.is_disabled() {
        // This fails if traces are switched off.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(headers)));
    }
    drop(none);
    span
}

/// Records in a span how a task message ended, if it has.
pub fn ended(span: &Span, ended: Option<Result<&Done, &Failed>>) {
    if span.is_disabled() {
        return;
    }
    let outcome = outcome(ended);
    span.record("edp.outcome", outcome);
    if let Some(Err(failed)) = ended {
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", failed.reason());
        span.record("error.type", outcome);
    }
}

/// Returns the word for the end of a task message.
fn outcome(ended: Option<Result<&Done, &Failed>>) -> &'static str {
    match ended {
        None => "started",
        Some(Ok(done)) if done.already => "present",
        Some(Ok(_)) => "made",
        Some(Err(failed)) => match failed.kind {
            FailureKind::Permanent => "permanent",
            FailureKind::Transient => "transient",
            FailureKind::Held => "held",
            FailureKind::Conflict => "conflict",
            FailureKind::Returned => "returned",
            FailureKind::Lost => "lost",
            FailureKind::NotFound => "not found",
            FailureKind::Denied => "denied",
        },
    }
}

/// Adds the context of a span to a message.
fn inject(span: &Span, message: &mut Message) {
    TraceContextPropagator::new().inject_context(&span.context(), &mut HeadersMut(&mut message.headers));
}

struct Headers<'a>(&'a BTreeMap<String, String>);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| value.len() <= MAX_STATE)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut BTreeMap<String, String>);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            self.0.insert(key.to_owned(), value);
        }
    }
}

thread_local! {
    /// The trace that the next span without a parent begins on this thread.
    static NEXT: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// Ids of spans and traces. They are random, except for traces that [`publish_task`] begins.
#[derive(Debug)]
pub(super) struct Ids;

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.take().unwrap_or_else(|| RandomIdGenerator::default().new_trace_id())
    }

    fn new_span_id(&self) -> opentelemetry::trace::SpanId {
        RandomIdGenerator::default().new_span_id()
    }
}

/// Returns the trace of a recipe in a production.
pub fn recipe_trace(production: &str, recipe_id: &str) -> TraceId {
    // Names of productions have no line breaks, so two different pairs never give one text.
    let digest = Sha256::new().chain_update(production).chain_update("\n").chain_update(recipe_id).finalize();
    let mut half = [0; 16];
    half.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    TraceId::from_bytes(half)
}
