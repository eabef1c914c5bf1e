//! Traces and metrics for a collector, by OTLP over gRPC or HTTP.
//!
//! These environment variables apply, as OpenTelemetry specifies them:
//!
//! | variable | meaning |
//! |---|---|
//! | `OTEL_EXPORTER_OTLP_ENDPOINT`, `..._TRACES_ENDPOINT`, `..._METRICS_ENDPOINT` | the collector; without any, nothing is sent |
//! | `OTEL_SDK_DISABLED=true` | nothing is sent, and nothing measured |
//! | `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER` | `none`: this signal is not sent; `otlp`: it is sent even without an address, to `localhost:4317` |
//! | `OTEL_EXPORTER_OTLP_PROTOCOL` and by signal | `grpc` or `http/protobuf`; without it, HTTP if the address has port 4318 or a path, else gRPC |
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | attributes of the program; they take precedence over our own |
//!
//! The libraries themselves read `OTEL_EXPORTER_OTLP_HEADERS`, `_TIMEOUT` and `_INSECURE` (and by signal),
//! `OTEL_TRACES_SAMPLER` and `_ARG`, `OTEL_BSP_*`, `OTEL_SPAN_*_LIMIT` and `OTEL_METRIC_EXPORT_INTERVAL`. For
//! `https://` the authorities of the system are trusted.
//!
//! `telemetry.traces` (in percent) reduces the traces further, but leaves what has failed (`sampling.rs`).
//!
//! Spans wait in a queue of 2048 (`OTEL_BSP_MAX_QUEUE_SIZE`) for a thread that sends them; when it is full, they are
//! dropped. Measurements are sums in memory, so that none is lost if sending fails.

use super::http::Client;
use super::prometheus::MetricsReader;
use super::sampling::TraceShare;
use super::{Program, trace};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, MetricExporter, SpanExporter};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Longest time that sending the remaining data takes at the end of a program.
pub(crate) const FLUSH: Duration = Duration::from_secs(3);

/// Time that one request may take, unless the environment states another.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Name of the protocol OTLP over HTTP.
const HTTP: &str = "http/protobuf";

/// Looks up an environment variable by its name.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The exporters of traces and metrics.
#[derive(Debug)]
pub(super) struct Export {
    /// A runtime for the connections alone, since the caller's threads may be busy.
    runtime: Option<Runtime>,
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    reader: MetricsReader,
    losses: Arc<Losses>,
}

impl Export {
    /// Starts what the environment asks for. Also returns what cannot be done of it, which has no other consequence.
    pub(super) fn start(program: Program<'_>, share: TraceShare, variables: Variables<'_>) -> (Export, Vec<String>) {
        let mut export = Export {
            runtime: None,
            traces: None,
            metrics: None,
            reader: MetricsReader::default(),
            losses: Arc::default(),
        };
        let mut problems = Vec::new();
        let wanted = ["TRACES", "METRICS"].map(|signal| {
            wanted(signal, variables).unwrap_or_else(|problem| {
                problems.push(problem);
                false
            })
        });
        let resource = resource(program, variables);
        let measuring = SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(export.reader.clone());
        if is_disabled(variables) {
            return (export, problems);
        }
        if wanted == [false, false] {
            export.measure(measuring.build());
            return (export, problems);
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("otlp").enable_all().build();
        let Ok(runtime) = runtime else {
            problems.push("there is no telemetry: its thread cannot be started".into());
            export.measure(measuring.build());
            return (export, problems);
        };
        // The address is not repeated, since it may contain a password.
        let unusable = |signal: &str| {
            format!(
                "there are no {signal}: the address of the collector cannot be used; write \
                 OTEL_EXPORTER_OTLP_ENDPOINT=http://host:4317"
            )
        };
        let in_runtime = runtime.enter();
        if wanted[0] {
            match spans(variables, &runtime) {
                Ok(exporter) => {
                    let losses = export.losses.clone();
                    let sender =
                        BatchSpanProcessor::builder(WatchedExporter { exporter, losses: losses.clone() }).build();
                    let provider = tracing_provider(&resource)
                        .with_span_processor(CountingProcessor { sender, share, losses })
                        .build();
                    opentelemetry::global::set_tracer_provider(provider.clone());
                    export.traces = Some(provider);
                }
                Err(_) => problems.push(unusable("traces")),
            }
        }
        let sender = wanted[1].then(|| measurements(variables, &runtime));
        export.measure(match sender {
            Some(Ok(exporter)) => {
                let losses = export.losses.clone();
                measuring.with_reader(PeriodicReader::builder(WatchedExporter { exporter, losses }).build()).build()
            }
            Some(Err(_)) => {
                problems.push(unusable("metrics"));
                measuring.build()
            }
            None => measuring.build(),
        });
        drop(in_runtime);
        export.runtime = Some(runtime);
        (export, problems)
    }

    /// Installs the provider as that of all instruments of this process.
    fn measure(&mut self, provider: SdkMeterProvider) {
        opentelemetry::global::set_meter_provider(provider.clone());
        self.metrics = Some(provider);
    }

    /// Returns the reader of metrics, which is asked when they are wanted.
    pub(super) fn reader(&self) -> MetricsReader {
        self.reader.clone()
    }

    /// Returns the tracer that makes spans, if these are sent.
    pub(super) fn tracer(&self) -> Option<SdkTracer> {
        self.traces.as_ref().map(|provider| provider.tracer("edp"))
    }

    /// Returns the tracer, or one that gives spans ids and then forgets them.
    pub(super) fn tracer_or_ids(&self) -> SdkTracer {
        self.tracer().unwrap_or_else(|| {
            let provider = tracing_provider(&Resource::builder_empty().build()).build();
            provider.tracer("edp")
        })
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        // Each on a thread of its own, since the library waits for some of this without a limit.
        let (done, all) = mpsc::channel::<()>();
        if let Some(traces) = self.traces.take() {
            let done = done.clone();
            std::thread::spawn(move || {
                let _ = traces.shutdown_with_timeout(FLUSH);
                drop(done);
            });
        }
        if let Some(metrics) = self.metrics.take() {
            let done = done.clone();
            std::thread::spawn(move || {
                let _ = metrics.shutdown_with_timeout(FLUSH);
                drop(done);
            });
        }
        drop(done);
        // Nothing is ever sent on this channel: the call returns when both have ended, or the time is over.
        let _ = all.recv_timeout(FLUSH);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        self.losses.report();
    }
}

/// Makes the exporter of spans.
fn spans(variables: Variables<'_>, runtime: &Runtime) -> Result<SpanExporter, ExporterBuildError> {
    let [http, grpc] = [(); 2].map(|()| SpanExporter::builder());
    exporter("TRACES", variables, runtime, (http.with_http(), |it| it.build()), (grpc.with_tonic(), |it| it.build()))
}

/// Makes the exporter of measurements.
fn measurements(variables: Variables<'_>, runtime: &Runtime) -> Result<MetricExporter, ExporterBuildError> {
    let [http, grpc] = [(); 2].map(|()| MetricExporter::builder());
    exporter("METRICS", variables, runtime, (http.with_http(), |it| it.build()), (grpc.with_tonic(), |it| it.build()))
}

/// A builder of an exporter with the function that ends it, for which the library has no trait.
type Building<B, E> = (B, fn(B) -> Result<E, ExporterBuildError>);

/// Makes the exporter of a signal, over HTTP or gRPC as the environment says.
fn exporter<E, H: WithExportConfig + WithHttpConfig, G: WithExportConfig + WithTonicConfig>(
    signal: &str,
    variables: Variables<'_>,
    runtime: &Runtime,
    (over_http, build_http): Building<H, E>,
    (over_grpc, build_grpc): Building<G, E>,
) -> Result<E, ExporterBuildError> {
    if is_http(signal, variables) {
        let client = client(signal, variables, runtime)?;
        return build_http(over_http.with_protocol(Protocol::HttpBinary).with_http_client(client));
    }
    let over_grpc = over_grpc.with_protocol(Protocol::Grpc);
    build_grpc(match is_tls(signal, variables) {
        true => over_grpc.with_tls_config(ClientTlsConfig::new().with_enabled_roots()),
        false => over_grpc,
    })
}

/// Makes an HTTP client with the deadline of the environment.
fn client(signal: &str, variables: Variables<'_>, runtime: &Runtime) -> Result<Client, ExporterBuildError> {
    let names = [format!("OTEL_EXPORTER_OTLP_{signal}_TIMEOUT"), "OTEL_EXPORTER_OTLP_TIMEOUT".to_owned()];
    let set = names.iter().find_map(|name| variables(name)?.trim().parse().ok());
    let timeout = set.map_or(TIMEOUT, Duration::from_millis);
    Client::new(runtime.handle().clone(), timeout)
        .map_err(|error| ExporterBuildError::InternalFailure(error.to_string()))
}

/// Returns true if a signal is sent over HTTP: by the protocol that is set, else by the form of the address.
fn is_http(signal: &str, variables: Variables<'_>) -> bool {
    match protocol(signal, variables) {
        Some((_, protocol)) => protocol == HTTP,
        None => endpoint(signal, variables).is_some_and(|endpoint| {
            let rest = endpoint.trim().split_once("://").map_or("", |(_, rest)| rest);
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            authority.ends_with(":4318") || !path.is_empty()
        }),
    }
}

/// Returns the protocol that is set, with the variable that sets it.
fn protocol(signal: &str, variables: Variables<'_>) -> Option<(String, String)> {
    let names = [format!("OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"), "OTEL_EXPORTER_OTLP_PROTOCOL".to_owned()];
    names.into_iter().find_map(|name| {
        let value = variables(&name)?.trim().to_owned();
        (!value.is_empty()).then_some((name, value))
    })
}

/// Returns true if all of OpenTelemetry is switched off.
fn is_disabled(variables: Variables<'_>) -> bool {
    variables("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
}

/// Returns true if a signal is to be sent.
fn wanted(signal: &str, variables: Variables<'_>) -> Result<bool, String> {
    // In all of these variables, an empty value counts as unset.
    let get = |name: &str| variables(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    if is_disabled(variables) {
        return Ok(false);
    }
    let name = format!("OTEL_{signal}_EXPORTER");
    let asked = match get(&name).as_deref() {
        None => false,
        Some("otlp") => true,
        Some("none") => return Ok(false),
        Some(other) => {
            return Err(format!("{name} is '{}': nothing is sent; use otlp or none", other.escape_debug()));
        }
    };
    if !asked && endpoint(signal, variables).is_none() {
        return Ok(false);
    }
    match protocol(signal, variables) {
        Some((name, other)) if other != "grpc" && other != HTTP => {
            Err(format!("{name} is '{}': nothing is sent; use grpc or {HTTP}", other.escape_debug()))
        }
        _ => Ok(true),
    }
}

fn endpoint(signal: &str, variables: Variables<'_>) -> Option<String> {
    let names = [format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"), "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned()];
    names.iter().find_map(|name| variables(name).filter(|value| !value.trim().is_empty()))
}

fn is_tls(signal: &str, variables: Variables<'_>) -> bool {
    endpoint(signal, variables).is_some_and(|endpoint| !endpoint.trim().starts_with("http://"))
}

/// Returns the attributes of this program. Those of the environment come last, and take precedence.
fn resource(program: Program<'_>, variables: Variables<'_>) -> Resource {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let ours = [
        KeyValue::new("service.name", program.name),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", program.instance.to_owned()),
        KeyValue::new("host.name", host),
    ];
    let named = variables("OTEL_SERVICE_NAME").filter(|name| !name.is_empty());
    Resource::builder_empty()
        .with_attributes(ours)
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(attributes(&variables("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default()))
        .with_attributes(named.map(|name| KeyValue::new("service.name", name)))
        .build()
}

/// Parses attributes as `OTEL_RESOURCE_ATTRIBUTES` has them: pairs that are separated by commas, percent-encoded.
/// Anything but a pair is left out.
fn attributes(text: &str) -> Vec<KeyValue> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let decoded = pairs.map(|(key, value)| (decode(key.trim()), decode(value.trim())));
    decoded.filter(|(key, _)| !key.is_empty()).map(|(key, value)| KeyValue::new(key, value)).collect()
}

/// Decodes percent-encoded text. A percent sign that begins no encoded byte stays.
fn decode(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|digits| *byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let value = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        plain.push(value.unwrap_or(*byte));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn tracing_provider(resource: &Resource) -> opentelemetry_sdk::trace::TracerProviderBuilder {
    SdkTracerProvider::builder().with_resource(resource.clone()).with_id_generator(trace::Ids)
}

/// Counts of the spans that were to be sent and of those that were.
#[derive(Debug, Default)]
struct Losses {
    ended: AtomicU64,
    sent: AtomicU64,
    said: AtomicBool,
}

impl Losses {
    /// Records that an export has failed. The first failure is logged, so that its cause can be removed; further
    /// messages would be noise.
    fn failed(&self, result: &OTelSdkResult) {
        if let Err(error) = result
            && !self.said.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("telemetry does not reach its collector ({error}); going on, what it does not take is lost");
        }
    }

    /// Logs the number of lost spans, at the end.
    fn report(&self) {
        let lost = self.ended.load(Ordering::Relaxed).saturating_sub(self.sent.load(Ordering::Relaxed));
        // A request that is cut off at the end fails too, and is not reported.
        match (lost, self.said.swap(true, Ordering::Relaxed)) {
            (0, _) => {}
            (lost, false) => tracing::warn!("{lost} spans did not reach the collector"),
            (lost, true) => tracing::info!("{lost} spans did not reach the collector"),
        }
    }
}

/// Selects the spans that are sent, and counts them on their way into the queue.
#[derive(Debug)]
struct CountingProcessor {
    sender: BatchSpanProcessor,
    share: TraceShare,
    losses: Arc<Losses>,
}

impl SpanProcessor for CountingProcessor {
    fn on_start(&self, span: &mut Span, context: &opentelemetry::Context) {
        self.sender.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.share.takes(&span) {
            self.losses.ended.fetch_add(1, Ordering::Relaxed);
            self.sender.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.sender.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.sender.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.sender.set_resource(resource);
    }
}

/// An exporter that counts and reports its failures.
#[derive(Debug)]
struct WatchedExporter<E> {
    exporter: E,
    losses: Arc<Losses>,
}

impl opentelemetry_sdk::trace::SpanExporter for WatchedExporter<SpanExporter> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        self.losses.failed(&result);
        if result.is_ok() {
            self.losses.sent.fetch_add(count, Ordering::Relaxed);
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl PushMetricExporter for WatchedExporter<MetricExporter> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.exporter.export(metrics).await;
        self.losses.failed(&result);
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn asked(signal: &str, variables: &[(&str, &str)]) -> Result<bool, String> {
        wanted(signal, &|name| variables.iter().find(|one| one.0 == name).map(|one| one.1.to_owned()))
    }

    #[test]
    fn the_environment_decides() {
        const ALL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4317");
        let only_traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://h:4317");
        for (variables, traces, metrics) in [
            (&[][..], false, false),
            (&[ALL], true, true),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")], false, false),
            (&[only_traces], true, false),
            (&[ALL, ("OTEL_SDK_DISABLED", "TRUE")], false, false),
            (&[ALL, ("OTEL_SDK_DISABLED", "false")], true, true),
            (&[ALL, ("OTEL_TRACES_EXPORTER", "none")], false, true),
            (&[("OTEL_METRICS_EXPORTER", "otlp")], false, true),
            (&[ALL, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], true, true),
        ] {
            assert_eq!(asked("TRACES", variables), Ok(traces), "{variables:?}");
            assert_eq!(asked("METRICS", variables), Ok(metrics), "{variables:?}");
        }
        let http =
            [ALL, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")];
        assert_eq!(asked("TRACES", &http), Ok(true));
        assert_eq!(asked("METRICS", &http), Ok(true));
        let json = [ALL, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")];
        assert!(asked("METRICS", &json).unwrap_err().contains("use grpc or http/protobuf"));
        assert!(asked("TRACES", &[("OTEL_TRACES_EXPORTER", "console")]).unwrap_err().contains("OTEL_TRACES_EXPORTER"));
    }

    #[test]
    fn the_protocol_is_as_asked_for_or_as_the_address_looks() {
        let of = |signal, pairs: &[(&str, &str)]| {
            is_http(signal, &|name| pairs.iter().find(|one| one.0 == name).map(|one| one.1.to_owned()))
        };
        const AT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        for (address, http) in [
            ("http://h:4317", false),
            ("http://h:4317/", false),
            ("https://h", false),
            ("http://h:4318", true),
            ("http://h:4318/", true),
            ("https://h/otlp", true),
            ("http://[::1]:4318", true),
        ] {
            assert_eq!(of("TRACES", &[(AT, address)]), http, "{address}");
            assert!(!of("TRACES", &[(AT, address), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]), "{address}");
            assert!(of("METRICS", &[(AT, address), ("OTEL_EXPORTER_OTLP_PROTOCOL", " http/protobuf")]), "{address}");
        }
        let both = [("OTEL_EXPORTER_OTLP_PROTOCOL", HTTP), ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")];
        assert_eq!((of("TRACES", &both), of("METRICS", &both)), (false, true));
    }

    #[test]
    fn attributes_are_decoded() {
        let found = attributes("team=ocean, place=a%2Cb%3D%C3%BC ,x=100%,=y,z,%6B=%zz,k2=a=b");
        let texts: Vec<_> = found.iter().map(|one| format!("{}:{}", one.key, one.value)).collect();
        assert_eq!(texts, ["team:ocean", "place:a,b=\u{fc}", "x:100%", "k:%zz", "k2:a=b"]);
    }
}
