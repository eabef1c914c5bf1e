//! The share of traces that are sent. Whatever it is, spans that have failed are sent, without those around and below
//! them.
//!
//! The decision is made when a span ends, by the id of its trace. All programs decide alike, so that a trace is whole; a
//! sampler decides at the beginning, when no failure is known.

use opentelemetry::trace::{Status, TraceId};
use opentelemetry_sdk::trace::SpanData;

/// The share of traces that are sent, in percent.
#[derive(Debug, Clone, Copy)]
pub(super) struct TraceShare(pub(super) u8);

impl TraceShare {
    /// Returns true if a span is sent.
    pub(super) fn takes(self, span: &SpanData) -> bool {
        matches!(span.status, Status::Error { .. }) || self.has(span.span_context.trace_id())
    }

    /// Returns true if a trace is in the share. Ids of traces are spread evenly, so their last part decides.
    fn has(self, trace: TraceId) -> bool {
        let [.., a, b, c, d] = trace.to_bytes();
        let part = u64::from(u32::from_be_bytes([a, b, c, d]));
        part * 100 < u64::from(self.0) << 32
    }
}

#[cfg(test)]
mod tests {
    use super::super::trace::recipe_trace;
    use super::*;

    #[test]
    fn a_share_of_the_traces_is_taken_and_always_the_same() {
        let traces: Vec<TraceId> = (0..20_000).map(|number| recipe_trace("p", &number.to_string())).collect();
        let taken = |share: u8| traces.iter().filter(|trace| TraceShare(share).has(**trace)).count();
        assert_eq!((taken(0), taken(100)), (0, traces.len()));
        let (few, half) = (taken(1), taken(50));
        assert!((140..260).contains(&few) && (9_700..10_300).contains(&half), "{few} {half}");
        assert!(traces.iter().all(|trace| !TraceShare(1).has(*trace) || TraceShare(50).has(*trace)));
        assert!(
            TraceShare(100).has(TraceId::from_bytes([255; 16])) && !TraceShare(99).has(TraceId::from_bytes([255; 16]))
        );
    }
}
